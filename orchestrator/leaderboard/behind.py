"""What stands behind a board's row, as plain data for its page: curves, schedule, config, weights, pictures.

Curves come from the trials' journals, schedules from their configs. Needs neither Ray, MLflow nor torch.
"""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.pictures.crops import read_crops
from objectives.ramps import alpha
from objectives.spec import RampedTarget
from orchestrator.leaderboard.board import Entry
from orchestrator.plan.trial import TrialConfig
from orchestrator.run import journal
from orchestrator.run.folder import RunDir
from orchestrator.run.records import TRIAL, TrialRecord
from sr_models.errors import InputError

POINTS = (8, 60)
"""The fewest and the most points of a curve."""

ALL_POINTS = 60_000
"""Of all curves of a page together, as long as each has the fewest."""

_ALPHAS = 48
"""Places along a run where α is drawn."""

_PICTURES_BYTES = 30 * 2**20
"""Of all pictures of a page together; what comes later is named and left out."""

_WORTH_BYTES = 60_000
"""A PNG of more is tried as WebP."""


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}; empty mappings vanish."""
    flat: dict[str, Any] = {}
    for name, item in value.items():
        flat |= flatten(item, f"{prefix}{name}.") if isinstance(item, Mapping) else {f"{prefix}{name}": item}
    return flat


def trials(runs: Mapping[str, Path], entries: Iterable[Entry]) -> dict[tuple[str, str, str], dict[str, Any]]:
    """(run's label, combination, trial) -> `curves`, `schedule`, `config` of its trials, as far as they are there.

    A config is what differs from the other rows of its run, whose common part has the key (label, "", "").
    """
    wanted: dict[tuple[str, str, str], list[tuple[int, str]]] = {}
    for entry in entries:
        if entry.trained:
            own = [(seed, name.partition("@")[0]) for seed, name in entry.fingerprints.items() if name]
            wanted.setdefault((entry.run, entry.combination, entry.trial), own)
    many = 2 * sum(map(len, wanted.values()))
    most = min(max(ALL_POINTS // max(many, 1), POINTS[0]), POINTS[1])
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    configs: dict[tuple[str, str, str], dict[str, Any]] = {}
    for key, own in wanted.items():
        run = RunDir(runs[key[0]].absolute())
        there = [(seed, name, run.trial(name)) for seed, name in own if (run.trial(name) / TRIAL).exists()]
        found[key] = {"curves": [curve for seed, _, folder in there if (curve := _curve(seed, folder, most))]}
        if there:
            record = TrialRecord.read(there[0][2] / TRIAL)
            configs[key] = {name: plain(value) for name, value in flatten(record.config).items()}
            found[key]["schedule"] = _schedule(record)
    for label in runs:
        of_run = {key: config for key, config in configs.items() if key[0] == label}
        common = dict(set.intersection(*({*config.items()} for config in of_run.values()))) if of_run else {}
        found[label, "", ""] = {"config": dict(sorted(common.items()))}
        for key, config in of_run.items():
            found[key]["config"] = {name: value for name, value in config.items() if name not in common}
    return found


def plain(value: Any) -> str:
    """A value as a page shows it; numbers with five digits."""
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.5g}"
    return value if isinstance(value, str) else json.dumps(value)


def _curve(seed: int, folder: Path, most: int) -> dict[str, Any] | None:
    """The validations of one trial, at most so many: steps, and metric -> values; None where there are none."""
    entries = journal.steps(journal.read(folder / journal.JOURNAL))
    if not entries:
        return None
    shown = [entries[round(i * (len(entries) - 1) / max(most - 1, 1))] for i in range(most)]
    shown = shown if len(entries) > most else entries
    names = [name for name in entries[-1]["metrics"] if not name.startswith("train.")]
    values = {name: [_short(entry["metrics"].get(name)) for entry in shown] for name in names}
    return {"seed": seed, "x": [entry["step"] for entry in shown], "y": values}


def _short(value: float | None) -> float | None:
    """Five digits of a number that can be drawn."""
    return float(f"{value:.5g}") if value is not None and math.isfinite(value) else None


def _schedule(record: TrialRecord) -> dict[str, Any]:
    """α along the run, and the noise levels that are practised and sampled, as fractions of T; {} where there is none.

    Of a trial whose config this version no longer understands, `unknown` says why.
    """
    try:
        config = record.trial_config()
    except InputError as error:
        return {"unknown": str(error)}
    return {**_ramp(config), **_levels(config)}


def _ramp(config: TrialConfig) -> dict[str, Any]:
    target = config.objective.target
    if not isinstance(target, RampedTarget):
        return {}
    places = {i / _ALPHAS for i in range(_ALPHAS + 1)} | {point[0] for point in target.points or ()}
    return {"alpha": [[round(x, 4), round(alpha(target, x), 4)] for x in sorted(places)], "shape": target.shape}


def _levels(config: TrialConfig) -> dict[str, Any]:
    timesteps, process, sampling = config.objective.timesteps, config.process, config.sampling
    if timesteps is None or process is None or sampling is None:
        return {}
    first, last = timesteps.steps(process.T)
    found: dict[str, Any] = {"T": process.T, "practised": [first, last]}
    if timesteps.terminal is not None:
        found["jump"] = timesteps.jump(process.T)
    low, high = sampling.t_min or 0.0, 1.0 if sampling.t_max is None else sampling.t_max
    sampled = [max(round(process.T * low), 1), round(process.T * high)]
    return found | {"sampler": sampling.sampler, "steps": sampling.steps or process.T, "sampled": sampled}


# ---- pictures


def pictures(run: RunDir, label: str, benchmarks: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Every PNG of RUN/pictures as a data URI, with scale and test set by its name; and the names of what had no room.

    They are embedded, smaller where WebP is: one file can be mailed, and pages from `file://` may read no other.
    """
    found: list[dict[str, Any]] = []
    left_out, total = [], 0
    for path in sorted(run.pictures.glob("*.png")) if run.pictures.is_dir() else []:
        if path.is_symlink():
            continue
        kind, content = _small(path)
        total += len(content)
        if total > _PICTURES_BYTES:
            left_out.append(path.name)
            continue
        scale = re.search(r"_x(\d+(?:\.\d+)?)(?:_|\.png$)", path.name)
        named = [name for name in benchmarks if f"_{name}_x" in path.name]
        found.append(
            {
                "run": label, "name": path.stem, "kind": path.name.partition("_")[0],
                "scale": float(scale[1]) if scale else 0, "set": max(named, key=len, default=""),
                "src": f"data:image/{kind};base64,{base64.b64encode(content).decode()}",
            }
        )  # fmt: skip
    return found, left_out


def crops(run: RunDir, label: str) -> list[dict[str, Any]]:
    """What `RUN/pictures/crops_*.json` hold: the same piece of a test set's first image by every method."""
    paths = sorted(run.pictures.glob("crops_*.json")) if run.pictures.is_dir() else []
    return [{"run": label, **read_crops(path)} for path in paths if not path.is_symlink()]


def _small(path: Path) -> tuple[str, bytes]:
    """A picture's format and bytes: WebP where that is smaller than a large PNG."""
    from PIL import Image

    content = path.read_bytes()
    if len(content) <= _WORTH_BYTES:
        return "png", content
    out = io.BytesIO()
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            image.convert("RGB").save(out, "WEBP", quality=88, method=4)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} is no picture of a run ({error}); delete it and {path.with_name('drawn')}") from None
    return ("webp", out.getvalue()) if len(out.getvalue()) < len(content) else ("png", content)
