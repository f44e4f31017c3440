"""The rules of the house that a machine can hold: who imports whom, what stays late, what no file may contain."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = {  # package -> the packages of ours that it may import beside itself
    "sr_models": set(),
    "objectives": {"sr_models"},
    "eval": {"sr_models"},
    "cluster": {"sr_models"},
    "orchestrator": {"cluster", "eval", "objectives", "sr_models"},
}
RAY_FILES = ("search", "train", "workers", "stages", "scoring", "scorers", "pool")
ONLY_IN = {  # library -> the files (or folders) that may import it
    "ray": ("cluster/", *(f"orchestrator/{name}.py" for name in RAY_FILES)),
    "mlflow": ("orchestrator/mlflow_store.py",),
    "sqlalchemy": ("orchestrator/mlflow_store.py", "orchestrator/studies.py"),
    "optuna": ("orchestrator/search.py", "orchestrator/space.py", "orchestrator/studies.py"),
    "pyarrow": ("orchestrator/", "eval/rows.py"),
    "matplotlib": ("eval/pictures.py", "eval/picture_style.py", "eval/spread_pictures.py"),
}  # fmt: skip
KEYWORDS = {  # functions below the orchestrator that take **kwargs; each checks every one of them
    ("sr_models/__init__.py", "build"),
    ("sr_models/params.py", "searchable"),
}
LATE = {"torch", "ray", "mlflow", "optuna", "pyarrow", "matplotlib"}
FILES = sorted(path for package in ALLOWED for path in (ROOT / package).rglob("*.py"))
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


def dotted(node: ast.AST) -> str:
    """`a.b.c` of an attribute chain, "" for anything else."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


each_file = pytest.mark.parametrize("path", FILES, ids=name_of)


def test_every_package_is_covered():
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} == set(ALLOWED)
    assert len(FILES) > 30


@each_file
def test_imports_go_one_way(path):
    own = path.relative_to(ROOT).parts[0]
    used = {name.split(".")[0] for name in imported(TREES[path])}
    assert used & set(ALLOWED) <= ALLOWED[own] | {own}


@each_file
def test_heavy_libraries_stay_in_their_files(path):
    used = {name.split(".")[0] for name in imported(TREES[path])}
    for library, places in ONLY_IN.items():
        assert library not in used or name_of(path).startswith(places), library


@each_file
def test_modules_are_named_where_they_are_imported(path):
    """Import machinery only behind `ModelSpec.load`; `find_spec` and `version` load nothing of ours."""
    allowed = {"importlib.util.find_spec", "importlib.metadata.version"}
    if name_of(path) == "sr_models/spec.py":
        allowed = {"importlib"}
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
    modules += ["orchestrator.trial", "orchestrator.patches", "orchestrator.records"]
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
