"""A sweep's config from a YAML file or preset, with `key=value` overrides and its own `tiny:` ones."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.plan.config import SweepConfig, as_mapping
from orchestrator.plan.sources import SKIMAGE
from sr_models import yaml_text
from sr_models.errors import InputError
from sr_models.params import nearest

TINY = "tiny"
SCALE_DOWN = "scale_down"
"""The word that lays a config's `tiny:` over it, `scale_down=tiny`: no key of a config."""

_SHOWN_LETTERS = 80
_SUFFIXES = (".yaml", ".yml", ".json")
_VARIABLE = re.compile(r"\$\$|\$\{(\w+)\}|\$(\w+)")

PRESETS = Path(__file__).parents[1] / "presets"


def load(source: str | Path, overrides: Sequence[str] = ()) -> SweepConfig:
    """A sweep from a preset's name or a file of YAML or JSON, whatever it is called, with overrides applied.

    `scale_down=tiny` among them, wherever it stands, applies the config's `tiny:` before them.

    Raises:
        InputError: no such file or preset, YAML that is not a plain mapping, an unknown key or bad value; a config that
            is to be scaled down and does not say how.
    """
    path, names = Path(source), sorted(p.stem for p in PRESETS.glob("*.yaml"))
    if str(source) in names:
        path = PRESETS / f"{source}.yaml"
    elif path.suffix.lower() not in _SUFFIXES and not path.exists():
        raise InputError(f"--preset: unknown preset {str(source)!r}{nearest(str(source), names)}; no such file either")
    return config_of(read_yaml(path), path.name, overrides)


def config_of(given: Mapping[str, Any], where: str, overrides: Sequence[str] = ()) -> SweepConfig:
    """A sweep from a mapping as a file would hold it, which stays as it is. Raises InputError: as `load`.

    Args:
        where: begins the line of an error.
    """
    raw = copy.deepcopy(dict(given))
    for key in ("models", "objectives"):
        if key in raw:
            raw[key] = as_mapping(raw[key])
    scaled = [word for word in overrides if word.partition("=")[0] == SCALE_DOWN]
    for word in scaled:
        _scale_down(raw, word, where)
    for override in overrides:
        if override not in scaled:
            _override(raw, override)
    return SweepConfig.parse(raw, where)


def expand(path: str, where: str, scale: float | None = None) -> str:
    """A path with `~`, `$VAR`, `${VAR}` and `{scale}` filled in; `$$` stands for `$`.

    A path of this machine that exists as it is written, dollars and all, is taken so.

    Raises:
        InputError: an environment variable that is not set.
    """
    if path == SKIMAGE:
        return path

    def scaled(text: str) -> str:
        return text.replace("{scale}", str(scale)) if scale is not None else text

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name is None:
            return "$"
        if name not in os.environ:
            raise InputError(
                f"{where}: {path!r} uses an environment variable that is not set ({name}); for a dollar write $$"
            )
        return os.environ[name]

    full = path if is_uri(path) else str(Path(path).expanduser())
    if not is_uri(path) and os.path.exists(scaled(full)):  # noqa: PTH110  # a name that no file can have is no error
        return scaled(full)
    return scaled(_VARIABLE.sub(value, full))


def is_uri(path: str) -> bool:
    """Whether a path is one of a storage (s3://...) and not of this machine."""
    return "://" in path


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a file. Raises InputError: as `sr_models.yaml_text.read`, or it holds something else."""
    raw = yaml_text.read(path)
    if not isinstance(raw, dict):
        raise InputError(f"{path.name}: a sweep is a mapping of keys to values, got {type(raw).__name__}")
    return raw


def _scale_down(raw: dict[str, Any], word: str, where: str) -> None:
    """Lay the config's `tiny:` over the raw mapping; what it prints of a paper is then of another size."""
    if word != f"{SCALE_DOWN}={TINY}":
        raise InputError(f"{word!r}: the only size to scale down to is {SCALE_DOWN}={TINY}")
    tiny = raw.get(TINY)
    if not isinstance(tiny, dict) or not tiny:
        raise InputError(f"{where}: {word}: this config has no `{TINY}:`, which maps dotted keys to smaller values")
    for key, value in tiny.items():
        _set(raw, str(key), value, f"{TINY}: {key}")
    if isinstance(raw.get("paper"), dict):
        raw["paper"]["scaled_down"] = True


def _override(raw: dict[str, Any], override: str) -> None:
    """Apply one `dotted.key=value` (value read as YAML) to the raw mapping."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError(f"{override!r}: an override is key=value, for example train.steps=300")
    if key.partition(".")[0] == TINY:
        raise InputError(f"{override!r}: `{TINY}:` is the file's; an override of its own comes after it")
    _set(raw, key, yaml_text.parse(text, f"{key}={text[:_SHOWN_LETTERS]}"), repr(override))


def _set(raw: dict[str, Any], key: str, value: Any, said: str) -> None:
    """Put a value at a dotted key of the raw mapping; `said` begins the line of an error."""
    *parents, last = key.split(".")
    inner = raw
    for name in parents:
        inner = inner.setdefault(name, {})
        if not isinstance(inner, dict):
            raise InputError(f"{said}: {name!r} is not a mapping")
    inner[last] = value
