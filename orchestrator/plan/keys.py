"""Every config key, read off the fields that declare it: `python -m orchestrator.sweep --keys`."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import annotated_types
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from eval.protocol import METRICS, PROTOCOLS, VALIDATED
from objectives import DESCRIPTIONS, LOSSES, TARGETS, TIMESTEPS
from objectives.spec import SigmaBranch
from objectives.timesteps import Terminal
from orchestrator.plan import config, evaluation, paper, resources, sources, teacher, train
from sr_models import MODELS
from sr_models.hyper.degradation import DEGRADATIONS, SEATS, Round
from sr_models.hyper.process import ProcessParams
from sr_models.hyper.sampling import Sampling
from sr_models.params import Params, search_range
from sr_models.plugins import Table
from sr_models.scales import ScaleRange

SECTIONS: dict[str, type[Params]] = {
    "": config.SweepConfig,
    "data.": config.DataConfig,
    "data.test.NAME.": sources.BenchmarkSource,
    "data.train[].": sources.ImageSource,
    "train.": train.TrainConfig,
    "train.groups.NAME.": train.GroupConfig,
    "train.scales.": ScaleRange,
    "teacher.": teacher.TeacherConfig,
    "search.": config.SearchConfig,
    "process.": ProcessParams,
    "validation.": evaluation.ValidationConfig,
    "evaluation.": evaluation.EvaluationConfig,
    "evaluation.sampling.": Sampling,
    "board.": config.BoardConfig,
    "resources.": resources.ResourceConfig,
    "paper.": paper.PaperConfig,
    "paper.printed_only.NAME.": paper.PrintedRow,
}


def keys_text() -> str:
    """All keys with default, allowed range, searchable range and meaning; then objectives and models."""
    lines: list[str] = []
    for prefix, cls in SECTIONS.items():
        lines += ["", f"{prefix.rstrip('.') or 'top level'}: {_summary(cls)}", *_fields(prefix, cls)]
    lines += ["", "metrics (of evaluation.metrics; *: of validations too)"]
    lines += [
        f"  {name + ' *' * (name in VALIDATED):<28} {metric.description}" for name, metric in METRICS.sound()[0].items()
    ]
    lines += ["", "protocols (of evaluation.protocol)", *(f"  {name}" for name in PROTOCOLS)]
    lines += ["", "objectives (keys of `objectives:`; change parts by target.KEY, loss.KEY, sigma.KEY, timesteps.KEY)"]
    losses, no_losses = LOSSES.sound()
    degradations, no_degradations = DEGRADATIONS.sound()
    models, no_models = MODELS.sound()
    lines += [f"  {name:<28} {text}" for name, text in DESCRIPTIONS.items()]
    lines += [f"  {name:<28} {_summary(losses[name])} ({stamp})" for name, stamp in _added(LOSSES, losses)]
    parts: list[tuple[str, str, type[Params]]] = [("target", name, cls) for name, cls in TARGETS.items()]
    parts += [("loss", name, cls) for name, cls in losses.items()] + [("sigma", "sigma branch", SigmaBranch)]
    parts += [("timesteps", name, steps) for name, steps in TIMESTEPS.items()]
    parts += [("timesteps.terminal", "a mapping or null", Terminal)]
    parts += [("train.degradation", names, cls) for names, cls in SEATS.items()]
    parts += [(f"train.degradation.{name}", "of realesrgan, ccsr", Round) for name in ("first", "second")]
    parts += [("train.degradation", name, degradations[name]) for name, _ in _added(DEGRADATIONS, degradations)]
    for seat, name, cls in parts:
        lines += ["", f"{seat} {name}: {_summary(cls)}", *_fields(f"{seat}.", cls)]
    for row in models.values():
        scales = ", ".join(f"x{scale}" for scale in row.scales)
        lines += [
            "",
            f"model {row.name} ({row.family}; {scales}): {row.paper}",
            *_fields(f"models.{row.name}.", row.hyper),
        ]
    if refused := [*no_models, *no_losses, *no_degradations, *METRICS.sound()[1]]:
        lines += ["", "plug-ins that cannot be used", *(f"  {line}" for line in refused)]
    return "\n".join(lines[1:])


def _added(table: Table[Any], sound: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, distribution and version) of those of a table's rows that are of plug-ins and can be used."""
    return [(name, stamp) for name, stamp in table.added.items() if name in sound]


def _fields(prefix: str, cls: type[Params]) -> Iterator[str]:
    for name, field in cls.model_fields.items():
        if name != "kind":
            yield f"  {prefix + name:<28} {field.description or _summary_of(field)}{_facts(field)}"


def _facts(field: FieldInfo) -> str:
    """` [default 0.01; > 0; searched 0.001..0.1 log]`, ` [default pack; one of pack, spread]`."""
    facts = []
    if field.is_required():
        facts.append("required")
    elif not isinstance(field.default, Params) and field.default is not PydanticUndefined:
        facts.append(f"default {_plain(field.default)}")
    if choices := _choices(field.annotation):
        facts.append(f"one of {', '.join(map(str, choices))}")
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    for rule in field.metadata:
        if isinstance(rule, annotated_types.Gt | annotated_types.Ge | annotated_types.Lt | annotated_types.Le):
            [(name, bound)] = (
                vars(rule).items() if hasattr(rule, "__dict__") else [(k, getattr(rule, k)) for k in rule.__slots__]
            )
            facts.append(f"{signs[name]} {bound}")
    found = search_range(field)
    if found is not None:
        where = (
            ", ".join(map(str, found.choices))
            if found.choices
            else f"{found.low:g}..{found.high:g}{' log' if found.log else ''}"
        )
        facts.append(f"searched over {where}")
    return f" [{'; '.join(facts)}]" if facts else ""


def _choices(annotation: Any) -> list[Any]:
    """The closed list that a value is taken from, where its type names one; numbers beside it are no list."""
    arguments = [one for one in typing.get_args(annotation) if one is not type(None)]
    if typing.get_origin(annotation) is typing.Literal:
        return arguments if len(arguments) > 1 else []
    united = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return _choices(arguments[0]) if united and len(arguments) == 1 else []


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return "null" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _summary(cls: type) -> str:
    return (cls.__doc__ or "").strip().splitlines()[0].rstrip(".")


def _summary_of(field: FieldInfo) -> str:
    return _summary(field.annotation) if isinstance(field.annotation, type) else ""
