"""The rules of the house that a machine can hold: who imports whom, what stays late, what no file may contain."""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

MAY_IMPORT = {  # room -> the rooms that its files may import beside their own; "eval/*" stands for all rooms of eval
    "sr_models/ground": "",
    "sr_models/hyper": "sr_models/ground",
    "sr_models/images": "sr_models/ground sr_models/hyper",
    "sr_models/networks": "sr_models/ground sr_models/hyper sr_models/images",
    "sr_models/diffusion": "sr_models/ground sr_models/hyper sr_models/images sr_models/networks",
    "sr_models/inference": "sr_models/ground sr_models/hyper sr_models/images sr_models/networks sr_models/diffusion",
    "sr_models": "sr_models/ground sr_models/hyper sr_models/networks",
    "sr_models/checkpoints": "sr_models sr_models/ground sr_models/hyper sr_models/networks sr_models/diffusion",
    "objectives": "sr_models/*",
    "eval/ground": "sr_models/*",
    "eval/metrics": "sr_models/* eval/ground",
    "eval/score": "sr_models/* eval/ground eval/metrics",
    "eval/pictures": "sr_models/* eval/ground eval/metrics eval/score",
    "eval/probes": "sr_models/* eval/ground eval/metrics",
    "eval": "sr_models/* eval/ground eval/metrics eval/score eval/pictures",
    "cluster": "sr_models/*",
    "orchestrator/plan": "sr_models/* objectives/* eval/* cluster/*",
    "orchestrator/storage": "sr_models/* objectives/* eval/* cluster/*",
    "orchestrator/data": "sr_models/* objectives/* eval/* cluster/* orchestrator/plan orchestrator/storage",
    "orchestrator/run": "sr_models/* objectives/* eval/* cluster/* orchestrator/plan orchestrator/data "
    "orchestrator/storage",
    "orchestrator/training": "sr_models/* objectives/* eval/* cluster/* orchestrator/plan orchestrator/data "
    "orchestrator/run",
    "orchestrator/search": "sr_models/* objectives/* eval/* cluster/* orchestrator/plan orchestrator/run "
    "orchestrator/training",
    "orchestrator/leaderboard": "sr_models/* objectives/* eval/* cluster/* orchestrator/plan orchestrator/run",
    "orchestrator/evaluate": "sr_models/* objectives/* eval/* cluster/* orchestrator/plan orchestrator/data "
    "orchestrator/run orchestrator/training orchestrator/leaderboard",
    "orchestrator/tracking": "sr_models/* objectives/* eval/* cluster/* orchestrator/plan orchestrator/run "
    "orchestrator/leaderboard",
    "orchestrator/probe": "sr_models/* objectives/* eval/* cluster/* orchestrator/plan orchestrator/data "
    "orchestrator/run orchestrator/leaderboard orchestrator/tracking",
    "orchestrator": "sr_models/* objectives/* eval/* cluster/* orchestrator/*",
}
ROOT_FILES = {  # files at the root of a package that its wings stand on: rooms of their own
    "sr_models/ground": ("command", "errors", "files", "hashing", "params", "plugins", "rng", "scales", "text_table",
                         "version", "yaml_text"),
    "eval/ground": ("benchmarks", "protocol", "rows"),
    "eval/score": ("score",),
}  # fmt: skip
ONLY_IN = {  # library -> the files (or folders) that may import it
    "ray": ("cluster/", "orchestrator/search/tune.py", "orchestrator/training/", "orchestrator/evaluate/"),
    "mlflow": ("orchestrator/tracking/address.py", "orchestrator/tracking/mlflow_store.py"),
    "sqlalchemy": ("orchestrator/tracking/address.py", "orchestrator/search/studies.py"),
    "optuna": ("orchestrator/search/", "orchestrator/plan/space.py", "orchestrator/leaderboard/searched.py"),
    "pyarrow": ("orchestrator/", "eval/rows.py"),
    "pandas": ("orchestrator/api.py",),
    "matplotlib": ("eval/pictures/",),
    "timm": ("orchestrator/training/optimisers.py",),
    "huggingface_hub": ("sr_models/checkpoints/parts.py",),
    "transformers": ("sr_models/prompt.py",),
    "diffusers": ("sr_models/diffusion/solvers.py", "sr_models/diffusion/latent.py"),
    "spandrel": ("sr_models/networks/zoo.py",),
    "onnxruntime": ("orchestrator/onnx_graph.py",),
}  # fmt: skip
KEYWORDS = {  # functions below the orchestrator that take **kwargs; each checks every one of them
    ("sr_models/__init__.py", "build"),
    ("sr_models/params.py", "searchable"),
    ("sr_models/command.py", "__init__"),  # argparse's own, which it checks
}
LATE = {"torch", "ray", "mlflow", "optuna", "pyarrow", "matplotlib", "pandas", "timm", "diffusers", "transformers"}
PACKAGES = tuple(room for room in MAY_IMPORT if "/" not in room)
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
LOWER = [path for path in FILES if path.relative_to(ROOT).parts[0] in ("sr_models", "objectives", "eval")]
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(tree: ast.Module) -> Iterator[str]:
    """Full dotted names of everything a file imports, at the top or late."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(path: Path) -> str:
    """The row of `MAY_IMPORT` that a file stands in."""
    package, *between = path.relative_to(ROOT).parent.parts
    if between:
        return f"{package}/{between[0]}"
    return next((room for room, stems in ROOT_FILES.items() if path in files_at(room, stems)), package)


def files_at(room: str, stems: tuple[str, ...]) -> list[Path]:
    return [ROOT / room.split("/")[0] / f"{stem}.py" for stem in stems]


def arrows(trees: Mapping[Path, ast.Module]) -> dict[Path, set[Path]]:
    """File -> the files of ours that it imports, at the top, late or for its types."""
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in trees}

    def file_of(name: str) -> Path | None:
        while name and name not in modules:
            name = name.rpartition(".")[0]
        return modules.get(name)

    found = {path: {file_of(name) for name in imported(tree)} for path, tree in trees.items()}
    return {path: {file for file in files if file is not None and file != path} for path, files in found.items()}


def faults(trees: Mapping[Path, ast.Module]) -> list[str]:
    """A line on each import that the table does not allow, and on a circle of files if there is one."""
    found = []
    graph = arrows(trees)
    for path, files in graph.items():
        own = room_of(path)
        allowed = {own, *MAY_IMPORT[own].split()}
        for file in sorted(files):
            room = room_of(file)
            if room not in allowed and f"{room.split('/')[0]}/*" not in allowed:
                found.append(f"{name_of(path)} ({own}) imports {name_of(file)} ({room})")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append("circle: " + " -> ".join(name_of(path) for path in error.args[1]))
    return found


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def dotted(node: ast.AST) -> str:
    """`a.b.c` of an attribute chain, "" for anything else."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


each_file = pytest.mark.parametrize("path", FILES, ids=name_of)


def test_every_room_is_in_the_table():
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} == set(PACKAGES)
    assert {room_of(path) for path in FILES} == set(MAY_IMPORT)
    assert all(path in FILES for room, stems in ROOT_FILES.items() for path in files_at(room, stems))


def test_imports_go_one_way_and_never_in_a_circle():
    assert faults(TREES) == []


def planted(path: Path, file: Path) -> dict[Path, ast.Module]:
    """The project's trees with one more import in a file: that of another."""
    module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
    return TREES | {path: ast.Module([*TREES[path].body, *ast.parse(f"import {module}").body], [])}


@pytest.mark.parametrize("room", [room for room in MAY_IMPORT if room != "orchestrator"])
def test_an_upward_import_in_any_room_is_found(room):
    """From below the one wing that may import everything, its root."""
    path = next(path for path in FILES if room_of(path) == room)
    new = set(faults(planted(path, ROOT / "orchestrator/sweep.py"))) - set(faults(TREES))
    print("", *new, sep="\n")
    assert f"{name_of(path)} ({room}) imports orchestrator/sweep.py (orchestrator)" in new


def test_a_circle_of_files_is_found():
    below, above = ROOT / "sr_models/networks/base.py", ROOT / "sr_models/networks/edsr.py"
    assert above not in arrows(TREES)[below] and below in arrows(TREES)[above]
    [said] = faults(planted(below, above))
    assert said.startswith("circle: ") and name_of(above) in said and name_of(below) in said


@each_file
def test_heavy_libraries_stay_in_their_files(path):
    used = {name.split(".")[0] for name in imported(TREES[path])}
    for library, places in ONLY_IN.items():
        assert library not in used or name_of(path).startswith(places), library


@each_file
def test_modules_are_named_where_they_are_imported(path):
    """Import machinery only behind `ModelSpec.load` and plug-ins; `find_spec` and `version` load nothing of ours."""
    allowed = {"importlib.util.find_spec", "importlib.metadata.version"}
    if name_of(path) == "sr_models/spec.py":
        allowed = {"importlib"}
    if name_of(path) == "sr_models/plugins.py":  # other packages, by the entry points that they name
        allowed |= {f"importlib.metadata.{name}" for name in ("EntryPoint", "PackageNotFoundError", "entry_points")}
    for name in imported(TREES[path]):
        assert name.split(".")[0] not in ("importlib", "pkgutil") or name in allowed
        assert not name.endswith(".*")
    called = {dotted(node.func) for node in ast.walk(TREES[path]) if isinstance(node, ast.Call)}
    assert not called & {"__import__", "eval", "exec", "globals"}


@each_file
def test_files_say_what_they_are_and_swallow_nothing(path):
    tree = TREES[path]
    assert ast.get_docstring(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            broad = node.type is None or {dotted(n) for n in ast.walk(node.type)} & {"Exception", "BaseException"}
            silent = all(isinstance(line, ast.Pass | ast.Continue) for line in node.body)
            assert not (broad and silent), f"line {node.lineno} swallows everything"


@pytest.mark.parametrize("path", LOWER, ids=name_of)
def test_hyperparameters_are_named_and_randomness_is_passed(path):
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.FunctionDef) and node.args.kwarg:
            assert (name_of(path), node.name) in KEYWORDS, f"{node.name} takes **kwargs"
        if isinstance(node, ast.Attribute):
            name = dotted(node)
            assert name != "torch.manual_seed"
            if name.startswith("np.random."):
                assert name in {"np.random.Generator", "np.random.Philox", "np.random.SeedSequence"}
    assert "random" not in set(imported(TREES[path]))


def test_everything_below_ray_imports_where_neither_ray_nor_mlflow_is_installed():
    modules = [name_of(path)[:-3].replace("/", ".").removesuffix(".__init__") for path in LOWER]
    modules += ["orchestrator.training.loop", "orchestrator.data.store", "orchestrator.run.records"]
    code = "import sys, importlib\nsys.modules.update(dict.fromkeys(['ray', 'mlflow', 'optuna']))\n"
    code += f"for name in {modules!r}: importlib.import_module(name)\nprint(len({modules!r}))"
    assert int(python(code)) == len(modules) > 20


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--help"], "--dry-run"),
        (["--keys"], "train.lr"),
        (["--preset", "quick", "--dry-run"], "10 combinations"),
        (["--preset", "quikc"], ""),
    ],
)
def test_the_command_answers_before_heavy_packages_are_imported(arguments, said):
    code = f"""
import sys
from orchestrator.sweep import main
try:
    main({arguments!r})
except SystemExit:
    pass
print("IMPORTED", sorted({LATE!r} & set(sys.modules)))
"""
    out = python(code)
    assert said in out and out.endswith("IMPORTED []\n")
