"""A sweep's config from a YAML file or preset, with `key=value` overrides."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from orchestrator.plan.config import SweepConfig, as_mapping
from orchestrator.plan.sources import SKIMAGE
from sr_models.errors import InputError
from sr_models.params import nearest

PRESETS = Path(__file__).parents[1] / "presets"


def load(source: str | Path, overrides: Sequence[str] = ()) -> SweepConfig:
    """A sweep from a YAML file or a preset's name, with `key=value` overrides applied.

    Raises:
        InputError: no such file or preset, YAML that is not a plain mapping, an unknown key or bad value.
    """
    path = Path(source)
    if path.suffix not in (".yaml", ".yml"):
        names = sorted(p.stem for p in PRESETS.glob("*.yaml"))
        if str(source) not in names:
            raise InputError(f"--preset: unknown preset {str(source)!r}{nearest(str(source), names)}")
        path = PRESETS / f"{source}.yaml"
    raw = read_yaml(path)
    for key in ("models", "objectives"):
        if key in raw:
            raw[key] = as_mapping(raw[key])
    for override in overrides:
        _override(raw, override)
    try:
        json.dumps(raw, default=str, skipkeys=True)
    except ValueError:  # a YAML alias inside its own anchor
        raise InputError(f"{path.name}: a value contains itself") from None
    return SweepConfig.parse(raw, path.name)


def expand(path: str, where: str, scale: int | None = None) -> str:
    """A path with `~`, `${VAR}` and `{scale}` filled in.

    Raises:
        InputError: an environment variable that is not set.
    """
    if path == SKIMAGE:
        return path
    full = os.path.expandvars(path if is_uri(path) else str(Path(path).expanduser()))
    if "$" in full:
        raise InputError(f"{where}: {path!r} uses an environment variable that is not set")
    return full.replace("{scale}", str(scale)) if scale is not None else full


def is_uri(path: str) -> bool:
    """Whether a path is one of a storage (s3://...) and not of this machine."""
    return "://" in path


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file's mapping. Raises InputError: it cannot be read, or is not a plain mapping."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8 text") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "malformed"
        raise InputError(f"{path.name}{place}: not plain YAML: {problem}") from None
    if not isinstance(raw, dict):
        raise InputError(f"{path.name}: a sweep is a mapping of keys to values, got {type(raw).__name__}")
    return raw


def _override(raw: dict[str, Any], override: str) -> None:
    """Apply one `dotted.key=value` (value read as YAML) to the raw mapping."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError(f"{override!r}: an override is key=value, for example train.steps=300")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(f"{override!r}: the value is not plain YAML") from None
    *parents, last = key.split(".")
    inner = raw
    for name in parents:
        inner = inner.setdefault(name, {})
        if not isinstance(inner, dict):
            raise InputError(f"{override!r}: {name!r} is not a mapping")
    inner[last] = value
