"""Every command says which release and numerics it is, and the console commands lead to ours."""

import tomllib
from importlib.metadata import EntryPoint, PackageNotFoundError
from pathlib import Path

import pytest

from sr_models import version
from sr_models.command import Parser

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_console_commands_say_their_version(name, capsys):
    main = EntryPoint(name, SCRIPTS[name], "console_scripts").load()
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"{version.version_text()}\n"


def test_the_release_is_the_installed_one_and_numerics_stand_beside(monkeypatch):
    monkeypatch.setattr(version, "version", lambda name: f"1.2.3 of {name}")
    assert version.version_text() == "sr-sweep 1.2.3 of sr-sweep, numerics 1 (σ branch 2, noise in the loss 3)"

    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(version, "version", missing)
    assert version.version_text().startswith("sr-sweep not installed, numerics")


def test_it_stands_beside_a_commands_own_options():
    parser = Parser(prog="x")
    parser.add_argument("--verbose", action="store_true")
    assert parser.parse_args(["--verbose"]).verbose
