"""What the documents say is true: commands parse, configs are planned, Python compiles, links and messages are there.

A fenced block without a language is for a shell. Those of a page are run in order by one test marked `long`, in a
folder with ten small photographs and with few steps, unless a comment before a block says why not:
`<!-- not run: REASON -->`. A block of YAML is a config, or a part of one.
"""

import argparse
import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml
from PIL import Image

from orchestrator.plan.plan import make_plan
from orchestrator.plan.read import PRESETS, load

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PACKAGES = ("sr_models", "objectives", "eval", "cluster", "orchestrator")
LINKED = [*PAGES, ROOT / "SECURITY.md", ROOT / "CHANGELOG.md"]

NOT_RUN = re.compile(r"<!-- not run: (?P<reason>\S.*) -->")
WHOLE: dict[str, Any] = {
    "name": "part", "scales": [4], "models": ["edsr"], "objectives": ["l1"],
    "data": {"train": [{"hr": "a"}], "validation": [{"hr": "b"}], "test": {"c": {"hr": "c"}}},
}  # fmt: skip
"""What a block that is a part of a config is completed with."""

TINY = ["train.steps=4", "train.validate_every=2", "train.batch_size=2", "train.patch=12", "seeds=1", "search.trials=1"]
PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket", "immunohistochemistry")
"""Photographs that arrive with scikit-image; two cuts of each are a user's ten."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its page and line, language ("" is a shell's), text, and why it is not run ("": it is)."""

    page: Path
    line: int
    language: str
    text: str
    not_run: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


@cache
def blocks(language: str) -> list[Block]:
    return [block for page in PAGES for block in of_page(page) if block.language == language]


def of_page(page: Path) -> Iterator[Block]:
    before, inside, opened, language = "", [], 0, None
    for number, line in enumerate(page.read_text("utf-8").splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("```") and language is None:
            inside, opened, language = [], number, stripped[3:]
        elif stripped == "```":
            found = NOT_RUN.fullmatch(before)
            yield Block(page, opened, language or "", "\n".join(inside), found["reason"] if found else "")
            before, language = "", None
        elif language is not None:
            inside.append(line)
        elif stripped:
            before = stripped


def of(language: str) -> Any:
    return pytest.mark.parametrize("block", blocks(language), ids=str)


# Commands -------------------------------------------------------------------------------------------------------------


class Parsed(BaseException):
    """A command line was understood; nothing of the command itself is run."""


@pytest.fixture
def only_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("parse_args", "parse_intermixed_args"):
        parse = getattr(argparse.ArgumentParser, name)

        def stop(self: Any, argv: Any = None, namespace: Any = None, parse: Any = parse) -> NoReturn:
            parse(self, argv, namespace)
            raise Parsed

        monkeypatch.setattr(argparse.ArgumentParser, name, stop)


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Module and arguments of each `python -m` of ours; the rest of a line is a shell's own."""
    for line in text.replace("\\\n", " ").splitlines():
        if re.search(r"python -m (sr_models|eval|cluster|orchestrator|benchmarks)\b", line):
            lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;()<>")
            lexer.whitespace_split = True
            words = list(lexer)
            while "-m" in words:
                words = words[words.index("-m") + 1 :]
                end = next((i for i, word in enumerate(words) if set(word) <= set("|&;()<>")), len(words))
                yield words[0], words[1:end]


def refusal(module: str, argv: list[str], capsys: Any) -> str:
    """What the module's own parser has against these arguments, "" if nothing."""
    package = (ROOT / module.replace(".", "/")).is_dir()
    command = importlib.import_module(f"{module}.__main__" if package else module)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [module, *argv])
            command.main()
    except Parsed:
        return ""
    except SystemExit as ended:
        if not ended.code:  # --help, --version
            return ""
    return str(capsys.readouterr().err) or "it did not parse its arguments"


@of("")
def test_a_command_parses(block, only_parse, capsys):
    """Every flag, choice and number of arguments is the parser's; a job's line holds a sweep's."""
    for module, argv in commands(block.text):
        assert not (said := refusal(module, argv, capsys)), f"{block}: {module} {argv}: {said}"
        if module == "cluster.submit":
            argv = [word for word in argv if word != "--"]
            assert not (said := refusal("orchestrator.sweep", argv, capsys)), f"{block}: {argv}: {said}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_command_within_a_sentence_names_what_there_is(page, only_parse, capsys):
    """Such a command may leave things out, so only what it has is checked: modules, flags and choices."""
    for span in re.findall(r"`(python\s-m\s[^`]+)`", page.read_text("utf-8")):
        for module, argv in commands(re.sub(r"[\[\]…]|\.\.\.", " ", " ".join(span.split()))):
            said = refusal(module, argv, capsys)
            assert not re.search("unrecognized|invalid choice: '[a-z]|ambiguous", said), f"{page.name}: {span}: {said}"


@of("")
def test_a_target_of_make_is_there(block):
    targets = set(re.findall(r"^(\S+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"^make (\S+)", block.text, re.MULTILINE)) <= targets


# Configs --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where commands are started: with every config that a page prints or has written by `orchestrator.init`."""
    for block in blocks(""):
        for module, argv in commands(block.text):
            if module == "orchestrator.init":
                written = WHOLE | {"teacher": {"model": "edsr"}, "objectives": ["l1", "eco"]}
                (tmp_path / argv[0]).write_text(yaml.safe_dump(written), encoding="utf-8")
    for block in blocks("yaml"):
        if name := re.match(r"# (\S+\.yaml)\n", block.text):
            (tmp_path / name[1]).write_text(block.text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SR_DATA", "elsewhere")
    return tmp_path


@of("yaml")
def test_a_config_is_planned(block, configs):
    """A part of one is completed, and refused like a whole one for an unknown key, value or combination."""
    given = yaml.safe_load(block.text)
    missing = {key: value for key, value in WHOLE.items() if key not in given}
    path = configs / "block.yaml"
    path.write_text(f"{block.text}\n{yaml.safe_dump(missing) if missing else ''}", encoding="utf-8")
    config = load(str(path))
    assert {*given} - {"tiny"} <= {*config.model_dump()}, "each key of it is one of the config's"
    assert make_plan(config).combinations


@of("")
def test_an_override_is_a_key(block, configs, plugin):
    """`key=value` behind a config that a page prints, or behind a preset; names of the example's plug-in are known."""
    if "examples/plugin" in block.text:
        source = (ROOT / "examples" / "plugin" / "sr_sweep_example.py").read_text("utf-8")
        groups = tomllib.loads((ROOT / "examples" / "plugin" / "pyproject.toml").read_text("utf-8"))["project"]
        points = {
            group.partition(".")[2]: {name: found.partition(":")[2] for name, found in rows.items()}
            for group, rows in groups["entry-points"].items()
        }
        plugin(source, points, groups["name"])
    for module, argv in commands(block.text):
        if module in ("orchestrator.sweep", "cluster.submit"):
            overrides = [word for word in argv if re.match(r"[a-z_.0-9]+=", word)]
            preset = argv[argv.index("--preset") + 1] if "--preset" in argv else None
            source = preset or next((word for word in argv if (configs / word).is_file()), None)
            assert source or not overrides, f"{block}: no page prints the config of {argv}"
            if source:
                make_plan(load(source, overrides))


# Python ---------------------------------------------------------------------------------------------------------------


@of("python")
def test_python_compiles_and_imports(block):
    """Names that it imports from us are there; the run of a page runs the block."""
    tree = ast.parse(block.text, str(block))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES:
            module = importlib.import_module(node.module or "")
            for name in node.names:
                assert hasattr(module, name.name), f"{block}: {node.module} has no {name.name}"


# Links ----------------------------------------------------------------------------------------------------------------


@cache
def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    """Relative ones to a file and a heading of it; of external ones only the form is looked at."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            assert re.fullmatch(r"https://[\w.-]+(/\S*)?", target), f"{page.name}: {target}"
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(there), f"{page.name}: {target}"


def test_the_index_names_every_page():
    named = re.findall(r"\]\((\w+\.md)\)", (ROOT / "docs" / "index.md").read_text("utf-8"))
    assert sorted(named) == sorted(page.name for page in PAGES[1:] if page.name != "index.md")


def test_every_preset_and_what_it_reads_stand_in_the_papers_page():
    """A folder of HR and LR files by its own name, whichever of its scales are asked for."""
    names = set(re.findall(r"`([^`\n]+)`", (ROOT / "docs" / "papers.md").read_text("utf-8")))
    presets = sorted(PRESETS.glob("*.yaml"))
    read = {path for preset in presets for path in re.findall(r"\$\{SR_DATA\}/([^\"]+)\"", preset.read_text("utf-8"))}
    assert len(read) > 20
    assert {preset.stem for preset in presets} - names == set()
    assert {re.sub(r"(/X\{scale\})?/(HR|LR)$", "", path) for path in read} - names == set()


# Messages -------------------------------------------------------------------------------------------------------------


@cache
def messages() -> str:
    """Every text in the code, what is filled in as `…`."""
    found = []
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = (str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
                    found.append("".join(parts))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return "\n".join(found)


def test_troubleshooting_is_about_messages_that_are_said():
    text = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    headings = re.findall(r"^### (.+)$", text, re.MULTILINE)
    assert headings
    for heading in headings:
        assert (said := re.fullmatch(r"`(.+)`", heading)), f"a heading is a message: {heading}"
        assert said[1] in messages(), f"the code does not say {said[1]!r}"


# Runs -----------------------------------------------------------------------------------------------------------------


def script(page: Path) -> str:
    """A page's shell and Python blocks in their order, for bash; its sweeps are tiny, run folders are those there."""
    parts = ["set -euo pipefail", f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"]
    parts.append(
        'python() { if [[ "$*" =~ ^"-m orchestrator.sweep ".*yaml ]]; '
        f'then command python "$@" {" ".join(TINY)}; else command python "$@"; fi; }}'
    )
    for block in of_page(page):
        if block.language == "yaml" and (name := re.match(r"# (\S+\.yaml)\n", block.text)):
            parts.append(f"cat > {name[1]} <<'THE_END'\n{block.text}\nTHE_END")
        elif block.language == "" and not block.not_run:
            parts.append(f"echo '=== {block}'\n{re.sub('-1a2b3c4d', '-*', block.text)}")
        elif block.language == "python" and not block.not_run:
            parts.append(f"echo '=== {block}'\ncommand python - <<'THE_END'\n{block.text}\nTHE_END")
    return "\n".join(parts)


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(b.language in ("", "python") and not b.not_run for b in of_page(page))],
    ids=lambda page: page.name,
)
def test_a_page_runs(page, tmp_path):
    """From a folder that holds ten photographs and nothing else, every command of the page in its order ends with 0."""
    import skimage.data

    sets = [*["train"] * 6, *["validation"] * 2, *["test"] * 2]
    for number, among in enumerate(sets):
        picture = Image.fromarray(getattr(skimage.data, PHOTOGRAPHS[number // 2])())
        left = 120 * (number % 2)
        for folder in (tmp_path / "photos", tmp_path / "home" / "photos" / among):
            folder.mkdir(parents=True, exist_ok=True)
            picture.crop((left, 60, left + 96, 156)).save(folder / f"{number}.png")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path / "home")}
    done = subprocess.run(
        ["bash", "-c", script(page)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=880,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
