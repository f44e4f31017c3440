"""The JSON Schema takes what `load` takes, and refuses what is no key; editors find it by a config's first line."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.plan.config import SweepConfig
from orchestrator.plan.read import PRESETS, read_yaml
from orchestrator.plan.schema import FILE, config_schema, first_line, write_schema
from orchestrator.sweep import main

ROOT = Path(__file__).resolve().parents[3]
CONFIGS = sorted([*PRESETS.glob("*.yaml"), *(ROOT / "examples").glob("*.yaml")])
QUICK = read_yaml(PRESETS / "quick.yaml")


@pytest.fixture(scope="module")
def validator() -> Any:
    jsonschema = pytest.importorskip("jsonschema")
    schema = config_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def faults(validator: Any, config: dict[str, Any]) -> list[str]:
    return [error.message for error in validator.iter_errors(json.loads(json.dumps(config)))]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_that_comes_along_fits(validator: Any, path: Path) -> None:
    assert faults(validator, read_yaml(path)) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"resources": "auto"}, {"scales": 2}, {"models": ["edsr", "mine"]}, {"teacher": "file.pth"},
        {"teacher": {"from": "x2/edsr/l1"}}, {"train": {"degradation": "realesrgan"}},
        {"evaluation": {"metrics": "psnr_y"}},
    ],
)  # fmt: skip
def test_short_forms_fit(validator: Any, changes: dict[str, Any]) -> None:
    assert faults(validator, QUICK | changes) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"trian": {}}, {"train": {"step": 3}}, {"train": {"steps": 0}}, {"resources": "none"}, {"scales": []},
        {"search": {"sampler": "grid"}}, {"evaluation": {"protocol": "classic"}}, {"models": {}}, {"process": {"t": 3}},
    ],
)  # fmt: skip
def test_what_is_no_config_does_not(validator: Any, changes: dict[str, Any]) -> None:
    assert faults(validator, QUICK | changes)


def test_every_key_is_in_it_and_it_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--schema"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["properties"].keys() == SweepConfig.model_fields.keys()
    networks = printed["properties"]["models"]["anyOf"][0]["properties"]
    assert "channels" in networks["edsr"]["anyOf"][0]["properties"]


def test_a_first_line_names_it_and_is_no_part_of_the_config(tmp_path: Path) -> None:
    write_schema(tmp_path)
    assert (tmp_path / FILE).is_file() and yaml.safe_load(first_line() + "name: x") == {"name": "x"}
    assert first_line() == "# yaml-language-server: $schema=sr-sweep.schema.json\n"
