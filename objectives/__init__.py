"""How to train a network: named objectives, their parts, and which parts may be combined.

Sources: ECO (https://arxiv.org/abs/2312.17526), He & Cheng (https://arxiv.org/abs/2201.10084). Only tables and
validation live here, without torch; `objectives.compose.Objective` turns a spec into training steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

from objectives.spec import (
    HR,
    L1,
    L2,
    CentroidMixup,
    CentroidTarget,
    Charbonnier,
    ConstantSigma,
    Distillation,
    Expectation,
    ImageMixup,
    LossMixup,
    LossParams,
    Need,
    NoiseRegression,
    NoLoss,
    ObjectiveSpec,
    SampledSigma,
    SigmaBranch,
    TargetParams,
    search_ranges,
    with_values,
)
from sr_models.errors import InputError
from sr_models.params import Params, nearest

__all__ = [
    "DESCRIPTIONS", "LEGAL", "LOSSES", "RECIPES", "TARGETS", "TIMESTEPS", "LegalRow", "ObjectiveSpec",
    "check_legal", "resolve", "search_ranges", "with_values",
]  # fmt: skip

TARGETS: dict[str, type[TargetParams]] = {
    "hr": HR,
    "kd": Distillation,
    "noise_free": CentroidTarget,
    "mixup": CentroidMixup,
    "loss_mixup": LossMixup,
    "image_mixup": ImageMixup,
    "noise_regression": NoiseRegression,
}

LOSSES: dict[str, type[LossParams]] = {
    "l1": L1,
    "l2": L2,
    "charbonnier": Charbonnier,
    "constant_sigma": ConstantSigma,
    "sampled_sigma": SampledSigma,
    "expectation": Expectation,
    "none": NoLoss,
}

TIMESTEPS: dict[str, type[Params]] = {}  # diffusion's seat

RECIPES: dict[str, ObjectiveSpec] = {
    "l1": ObjectiveSpec(target=HR(), loss=L1()),
    "l2": ObjectiveSpec(target=HR(), loss=L2()),
    "charbonnier": ObjectiveSpec(target=HR(), loss=Charbonnier()),
    "kd": ObjectiveSpec(target=Distillation(), loss=L1()),
    "eco_noise_free": ObjectiveSpec(target=CentroidTarget(), loss=L1()),
    "eco": ObjectiveSpec(target=CentroidMixup(), loss=L1()),
    "loss_mixup": ObjectiveSpec(target=LossMixup(), loss=L1()),
    "image_mixup": ObjectiveSpec(target=ImageMixup(), loss=L1()),
    "noise_regression": ObjectiveSpec(target=NoiseRegression(), loss=L1()),
    "constant_sigma": ObjectiveSpec(target=HR(), loss=ConstantSigma()),
    "sampled_sigma": ObjectiveSpec(target=HR(), loss=SampledSigma(), sigma=SigmaBranch()),
    "expectation": ObjectiveSpec(target=HR(), loss=Expectation(), sigma=SigmaBranch()),
    "expectation_only": ObjectiveSpec(target=HR(), loss=Expectation()),
    "l1+aux": ObjectiveSpec(target=HR(), loss=L1(), sigma=SigmaBranch()),
    "aux_only": ObjectiveSpec(target=HR(), loss=NoLoss(), sigma=SigmaBranch()),
    "eco+expectation": ObjectiveSpec(target=CentroidMixup(), loss=Expectation(), sigma=SigmaBranch()),
}

DESCRIPTIONS: dict[str, str] = {
    "l1": "mean absolute error to the HR image",
    "l2": "mean squared error to the HR image",
    "charbonnier": "L1 with a rounded corner, to the HR image",
    "kd": "distillation: L1 to the teacher's SR of the real LR",
    "eco_noise_free": "L1 on the teacher's pair: its SR, and that SR downscaled again (ECO Eq. 11)",
    "eco": "L1 on a mixup that moves from the teacher's pair to the real pair (ECO Eq. 14)",
    "loss_mixup": "L1 on the teacher's pair and on the real one, weighed by ECO's ramp; nothing is mixed (ECO Fig. 5)",
    "image_mixup": "L1 on ordinary mixup: each pair blended with another one of the training images",
    "noise_regression": "L1 of the noise y - mu, guessed from the LR (ECO Fig. 8): no SR, so shown and not scored",
    "constant_sigma": "L1 to the HR image plus constant Gaussian noise (He & Cheng Eq. 7)",
    "sampled_sigma": "L1 of SR with noise of the sigma branch's size, where sigma collapses to 0: to be shown (Eq. 6)",
    "expectation": "expectation loss and a sigma branch that learns the error (He & Cheng Eq. 8 + 10)",
    "expectation_only": "expectation loss without the sigma branch (He & Cheng Eq. 8)",
    "l1+aux": "L1 and the sigma branch (He & Cheng Eq. 10 beside L1)",
    "aux_only": "the sigma branch's auxiliary loss alone, through the network too (He & Cheng Eq. 10)",
    "eco+expectation": "ECO's mixup under the expectation loss with the sigma branch (in neither paper)",
}


class LegalRow(NamedTuple):
    """A combination that may be trained, and what it cannot do without; a sigma branch is otherwise optional."""

    family: str
    target: str
    loss: str
    timesteps: str | None
    needs: frozenset[Need]


LEGAL: tuple[LegalRow, ...] = (
    # Regression: any target under any loss. Without a main loss, only the sigma branch is left to train the network.
    *(LegalRow("regression", t, loss, None, TARGETS[t].needs | LOSSES[loss].needs) for t in TARGETS for loss in LOSSES),
)


def check_legal(spec: ObjectiveSpec, family: str) -> None:
    """Refuse an objective that cannot train networks of `family`.

    Raises:
        InputError: names the rule of `LEGAL` that is broken.
    """
    families = {row.family for row in LEGAL}
    if family not in families:
        raise InputError(f"objective: nothing here trains a {family} network (families: {', '.join(sorted(families))})")
    target, loss = spec.target.kind, spec.loss.kind
    rows = [row for row in LEGAL if row[:4] == (family, target, loss, spec.timesteps)]
    if not rows:
        raise InputError(f"objective: target {target!r} with loss {loss!r} cannot train a {family} network")
    if missing := rows[0].needs - spec.needs:
        raise InputError(
            f"objective: target {target!r} with loss {loss!r} needs {', '.join(sorted(missing))}"
            " (give `sigma: {}`, or a loss other than 'none')"
        )


def resolve(given: str | Mapping[str, Any] | ObjectiveSpec, where: str = "objective") -> ObjectiveSpec:
    """The objective that a configuration names.

    Args:
        given: a recipe's name, or a mapping with `target` and `loss` or with `recipe` plus what it changes. A component
            is its name (`target: mixup`) or a mapping (`target: {kind: mixup, length: 0.5}`); keys may be dotted
            (`target.length: 0.5`). Naming another kind than the recipe's starts from that kind's defaults.
        where: how messages call the place, e.g. "objectives.eco".

    Raises:
        InputError: unknown recipe, component or key (nearest valid one suggested), or a value out of range.
    """
    if isinstance(given, ObjectiveSpec):
        return given
    if isinstance(given, str):
        return _look_up(given, RECIPES, "objective", where)
    if not isinstance(given, Mapping):
        raise InputError(f"{where}: expected a recipe's name or a mapping, got {type(given).__name__} {given!r}")
    changes = dict(given)
    plain = _look_up(changes.pop("recipe"), RECIPES, "objective", where).model_dump() if "recipe" in changes else {}
    for seat, change in _nested(changes, where).items():
        old = plain.get(seat)
        if isinstance(old, Mapping) and isinstance(change, Mapping) and change.get("kind") in (None, old.get("kind")):
            change = {**old, **change}
        if seat in _TABLES:
            if not isinstance(change, Mapping) or "kind" not in change:
                raise InputError(f"{where}.{seat}: name its kind, one of {', '.join(_TABLES[seat])} (got {change!r})")
            _look_up(change["kind"], _TABLES[seat], seat, f"{where}.{seat}")
        plain[seat] = change
    return ObjectiveSpec.parse(plain, where)


T = TypeVar("T")
_TABLES: dict[str, Mapping[str, type[Params]]] = {"target": TARGETS, "loss": LOSSES}


def _look_up(name: Any, table: Mapping[str, T], what: str, where: str) -> T:
    if not isinstance(name, str) or name not in table:
        raise InputError(f"{where}: unknown {what} {name!r}{nearest(name, list(table))}")
    return table[name]


def _nested(changes: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Dotted keys folded into mappings, bare component names into {"kind": name}."""
    folded: dict[str, Any] = {}
    for key, value in changes.items():
        seat, _, name = str(key).partition(".")
        if seat not in ObjectiveSpec.model_fields:
            raise InputError(f"{where}: unknown key {key!r}{nearest(seat, [*ObjectiveSpec.model_fields, 'recipe'])}")
        if name:
            value = {name: value}
        elif seat in _TABLES and isinstance(value, str):
            value = {"kind": value}
        old = folded.get(seat, {})
        if name and not isinstance(old, Mapping):
            raise InputError(f"{where}.{key}: {seat} is already given as {old!r}")
        folded[seat] = {**old, **value} if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return folded
