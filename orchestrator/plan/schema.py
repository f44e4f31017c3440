"""The JSON Schema of a config (https://json-schema.org/draft/2020-12), made from the fields that declare its keys.

An editor that reads `# yaml-language-server: $schema=FILE` completes and checks keys by it. It allows what `load`
takes, short forms included; rules over several keys, and names that only this machine knows, are `load`'s alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from eval.protocol import METRICS, PROTOCOLS, VALIDATED
from objectives import DESCRIPTIONS, LOSSES, RECIPES, TARGETS, TIMESTEPS
from objectives.spec import SigmaBranch
from orchestrator.plan.config import SweepConfig
from sr_models import MODELS
from sr_models.files import write_text
from sr_models.hyper.degradation import DEGRADATIONS, SEATS
from sr_models.hyper.process import ProcessParams
from sr_models.params import Params
from sr_models.spec import ModelSpec

FILE = "sr-sweep.schema.json"
"""Beside a config that was written with its schema."""

_REF = "#/$defs/{model}"
_TRAIN = {"$ref": _REF.format(model="TrainConfig")}


def first_line() -> str:
    """The first line of a config, by which editors find its schema beside it."""
    return f"# yaml-language-server: $schema={FILE}\n"


def write_schema(folder: Path) -> None:
    """Leave `FILE` in a folder, as this version has it."""
    text = json.dumps(config_schema(), separators=(",", ":")) + "\n"
    path = folder / FILE
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)


def schema_text() -> str:
    """`config_schema` as JSON."""
    return json.dumps(config_schema(), indent=1)


def config_schema() -> dict[str, Any]:
    """The schema, with networks and objectives as they are known here."""
    models = MODELS.sound()[0]
    made = SweepConfig.model_json_schema(ref_template=_REF)
    keys, parts = made["properties"], made["$defs"]
    parts |= _process(parts)
    keys["scales"] = _or_one(keys["scales"])
    keys["models"] |= _rows({name: _network(row, parts, list(models)) for name, row in models.items()})
    parts["Objective"] = _objective()
    entry = [{"$ref": _REF.format(model="Objective")}, {"type": "null"}]
    keys["objectives"] |= _rows({name: {"anyOf": entry, "description": text} for name, text in DESCRIPTIONS.items()})
    for key in ("models", "objectives"):
        del keys[key]["type"], keys[key]["additionalProperties"], keys[key]["minProperties"]
    keys["process"] = {"$ref": _REF.format(model="ProcessParams"), "description": keys["process"]["description"]}
    short = [{"type": "object", "required": [word], "additionalProperties": True} for word in ("trial", "from")]
    keys["teacher"]["anyOf"] += [{"type": "string", "description": "a file or folder"}, *short]
    keys["resources"] = {"anyOf": [{"$ref": keys["resources"]["$ref"]}, {"const": "auto"}]}
    train = parts["TrainConfig"]["properties"]
    names = [*(name for names in SEATS for name in names.split(", ")), *DEGRADATIONS.added]
    train["degradation"]["anyOf"].append({"type": "string", "examples": names})
    parts["TeacherConfig"]["properties"]["train"] = _TRAIN
    validated = [*VALIDATED, *(f"ema.{name}" for name in VALIDATED)]
    for part, key, known in (
        ("EvaluationConfig", "metrics", list(METRICS.sound()[0])),
        ("ValidationConfig", "metrics", validated),
        ("SearchConfig", "common", ["train.lr"]),
    ):
        parts[part]["properties"][key]["items"]["examples"] = known
        parts[part]["properties"][key] = _or_one(parts[part]["properties"][key])
    parts["SearchConfig"]["properties"]["metric"]["examples"] = validated
    parts["EvaluationConfig"]["properties"]["protocol"]["enum"] = list(PROTOCOLS)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "sr-sweep config"} | _untitled(made)


def _or_one(array: dict[str, Any]) -> dict[str, Any]:
    """A list, or one of its items alone."""
    outer = {key: array[key] for key in ("description", "default") if key in array}
    return outer | {"anyOf": [{k: v for k, v in array.items() if k not in outer}, array["items"]]}


def _rows(entries: dict[str, Any]) -> dict[str, Any]:
    """Labels, in a list or with what each says; a label that is no name of ours says what it stands for."""
    given = {"anyOf": [{"type": "object"}, {"type": "null"}]}
    listed = {"type": "array", "minItems": 1, "items": {"type": "string", "examples": list(entries)}}
    return {
        "anyOf": [
            {"type": "object", "minProperties": 1, "properties": entries, "additionalProperties": given},
            listed,
        ]
    }


def _network(row: ModelSpec, parts: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """What an entry of `models` may hold; an entry of this label may name another network, so nothing is refused."""
    own = row.hyper.model_json_schema(ref_template=_REF)
    parts |= own.pop("$defs", {})
    keys = {key: {"description": field.get("description", "")} for key, field in own.get("properties", {}).items()}
    for key, field in own.get("properties", {}).items():
        keys[key] |= {word: field[word] for word in ("default", "enum", "examples") if word in field}
    keys |= {
        "model": {
            "type": "string",
            "enum": names,
            "description": "the network, if the label is none",
        },
        "train": _TRAIN,
        "process": {"$ref": _REF.format(model="ProcessParams")},
        "init": {"description": "weights to start from, as teacher.weights"},
        "objectives": {"type": "array", "description": "those that it is trained under; all, where it names none"},
    }
    return {"anyOf": [{"type": "object", "properties": keys}, {"type": "null"}], "description": row.paper}


def _objective() -> dict[str, Any]:
    """What an entry of `objectives` may hold, likewise."""
    return {
        "type": "object",
        "properties": {
            "recipe": {"enum": list(RECIPES), "description": "where it starts from, if the label does not say it"},
            "target": {"description": f"one of {', '.join(TARGETS)}"},
            "loss": {"description": f"one of {', '.join(LOSSES.sound()[0])}"},
            "search": {"description": "what is searched: names, or name -> range"},
            "grid": {"type": "object", "description": "name -> values; each point is a row of its own"},
            **_components(),
        },
    }


def _components() -> dict[str, Any]:
    """`target.KEY`, `loss.KEY`, ... -> its meaning."""
    seats: list[tuple[str, type[Params]]] = [("sigma", SigmaBranch)]
    seats += [("target", cls) for cls in TARGETS.values()] + [("loss", cls) for cls in LOSSES.sound()[0].values()]
    seats += [("timesteps", cls) for cls in TIMESTEPS.values()]
    return {
        f"{seat}.{key}": {"description": field.description or ""}
        for seat, cls in seats
        for key, field in cls.model_fields.items()
        if key != "kind"
    }


def _process(parts: dict[str, Any]) -> dict[str, Any]:
    made = ProcessParams.model_json_schema(ref_template=_REF)
    return {**parts, **made.pop("$defs", {}), "ProcessParams": made}


def _untitled(value: Any) -> Any:
    """Without the titles that repeat names."""
    if isinstance(value, dict):
        return {k: _untitled(v) for k, v in value.items() if not (k == "title" and isinstance(v, str))}
    return [_untitled(one) for one in value] if isinstance(value, list) else value
