"""How to train a network: named objectives, their parts, and which parts may be combined.

Sources: ECO (https://arxiv.org/abs/2312.17526), He & Cheng (https://arxiv.org/abs/2201.10084), DREAM
(https://arxiv.org/abs/2312.00210), CCSR (https://arxiv.org/abs/2401.00877), ResShift
(https://arxiv.org/abs/2307.12348). Only tables and validation live here,
without torch; `objectives.compose` turns a spec into training steps, `objectives.diffusion` one that has timesteps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from objectives.losses import (
    DDPM,
    DREAM,
    DRM,
    L1,
    L2,
    CCSRDecoder,
    Charbonnier,
    ConstantSigma,
    Expectation,
    MinSNR,
    Need,
    NoLoss,
    Reconstruction,
    ResidualShift,
    SampledSigma,
)
from objectives.named import DESCRIPTIONS, LOSSES, OwnLoss
from objectives.spec import (
    HR,
    CentroidMixup,
    CentroidTarget,
    Distillation,
    ImageMixup,
    LossMixup,
    NoiseRegression,
    ObjectiveSpec,
    SigmaBranch,
    TargetParams,
    search_ranges,
    with_values,
)
from objectives.timesteps import Range, Terminal, Timesteps, Uniform
from sr_models.errors import InputError
from sr_models.hyper.process import ProcessParams
from sr_models.params import Params, nearest

__all__ = [
    "DESCRIPTIONS", "LEGAL", "LOSSES", "RECIPES", "TARGETS", "TIMESTEPS", "LegalRow", "ObjectiveSpec", "OwnLoss",
    "check_legal", "check_process", "resolve", "search_ranges", "with_values",
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

TIMESTEPS: dict[str, type[Timesteps]] = {"uniform": Uniform, "range": Range}

MAGNIFIED = 1e-3
"""alpha-bar at T below which a terminal loss without weights is refused: x0's miss is over 30 times the noise's."""

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
    "ddpm": ObjectiveSpec(target=HR(), loss=DDPM(), timesteps=Uniform()),
    "drm": ObjectiveSpec(target=HR(), loss=DRM(), timesteps=Uniform()),
    "dream": ObjectiveSpec(target=HR(), loss=DREAM(), timesteps=Uniform()),
    "min_snr": ObjectiveSpec(target=HR(), loss=MinSNR(), timesteps=Uniform()),
    "resshift": ObjectiveSpec(target=HR(), loss=ResidualShift(), timesteps=Uniform()),
    "nutl": ObjectiveSpec(target=HR(), loss=DDPM(), timesteps=Range(terminal=Terminal())),
    "dream+nutl": ObjectiveSpec(target=HR(), loss=DREAM(), timesteps=Range(terminal=Terminal())),
    "reconstruction": ObjectiveSpec(target=HR(), loss=Reconstruction()),
    "ccsr_decoder": ObjectiveSpec(target=HR(), loss=CCSRDecoder(), timesteps=Range()),
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
    *(
        LegalRow("regression", target, loss, None, TARGETS[target].needs | cls.needs)
        for target in TARGETS
        for loss, cls in LOSSES.own.items()
        if cls.family == "regression"
    ),
    # Diffusion: targets that are one pair of pictures, each with or without a terminal loss.
    *(
        LegalRow("diffusion", target, loss, steps, TARGETS[target].needs)
        for target in ("hr", "noise_free", "mixup")
        for loss, cls in LOSSES.own.items()
        for steps in TIMESTEPS
        if cls.family == "diffusion" and not cls.needs and cls is not ResidualShift
    ),
    LegalRow("diffusion", "hr", "resshift", "uniform", TARGETS["hr"].needs),
    LegalRow("diffusion", "hr", "ccsr_decoder", "range", LOSSES["ccsr_decoder"].needs),
    LegalRow("autoencoder", "hr", "reconstruction", None, TARGETS["hr"].needs),
)


def check_legal(spec: ObjectiveSpec, family: str, *, tuned_decoder: bool = False) -> None:
    """Refuse an objective that cannot train networks of `family`.

    Args:
        tuned_decoder: whether the network trains a decoder alone.

    Raises:
        InputError: names the rule of `LEGAL` that is broken.
    """
    families = {row.family for row in LEGAL}
    if family not in families:
        raise InputError(f"objective: nothing here trains a {family} network (families: {', '.join(sorted(families))})")
    target, loss = spec.target.kind, spec.loss.kind
    steps = spec.timesteps.kind if spec.timesteps else None
    rows = [row for row in LEGAL if row[:4] == (family, target, loss, steps)]
    if isinstance(spec.loss, OwnLoss) and family == spec.loss.family:  # under any target, as our losses of regression
        rows = [LegalRow(family, target, loss, None, spec.target.needs | spec.loss.needs)]
    if not rows:
        raise InputError(f"objective: target {target!r} with loss {loss!r} cannot train a {family} network")
    if tuned_decoder != ("tuned_decoder" in rows[0].needs):
        asked = "trains a decoder alone: give its model tuned_decoder: true"
        if tuned_decoder:
            asked = "trains no decoder, and with tuned_decoder that is all there is: name the recipe ccsr_decoder"
        raise InputError(f"objective: loss {loss!r} {asked}")
    if missing := rows[0].needs - spec.needs - {"tuned_decoder"}:
        raise InputError(
            f"objective: target {target!r} with loss {loss!r} needs {', '.join(sorted(missing))}"
            " (give `sigma: {}`, or another loss)"
        )


def check_process(spec: ObjectiveSpec, process: ProcessParams, where: str) -> None:
    """Refuse a noise process that an objective cannot train on; messages start with `where`.

    Raises:
        InputError: a terminal loss without weights under which x0's miss would be noise that is magnified.
    """
    terminal = spec.timesteps.terminal if spec.timesteps else None
    left = float(process.alpha_bar()[-1])
    if terminal and terminal.weight == "none" and process.prediction == "eps" and left < MAGNIFIED:
        raise InputError(
            f"{where}: at T={process.T} alpha-bar is {left:.2g}, so l_T of a guess of noise is its miss times "
            f"{((1 - left) / left) ** 0.5:.0f} (CCSR's: 15 times); give terminal: {{weight: alpha_bar}}, or "
            "prediction x0 or v"
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
        return _recipe(given, where)
    if not isinstance(given, Mapping):
        raise InputError(f"{where}: expected a recipe's name or a mapping, got {type(given).__name__} {given!r}")
    changes = dict(given)
    plain = _recipe(changes.pop("recipe"), where).model_dump() if "recipe" in changes else {}
    for seat, change in _nested(changes, where).items():
        old = plain.get(seat)
        if isinstance(old, Mapping) and isinstance(change, Mapping) and change.get("kind") in (None, old.get("kind")):
            change = {**old, **change}
        if seat in _TABLES and not (seat == "timesteps" and change is None):
            if not isinstance(change, Mapping) or "kind" not in change:
                raise InputError(f"{where}.{seat}: name its kind, one of {', '.join(_TABLES[seat])} (got {change!r})")
            _look_up(change["kind"], _TABLES[seat], seat, f"{where}.{seat}")
        plain[seat] = change
    return ObjectiveSpec.parse(plain, where)


def _recipe(name: Any, where: str) -> ObjectiveSpec:
    """The objective of a recipe's name; that of a plug-in's loss is the loss, to the HR image."""
    if not isinstance(name, str) or name not in LOSSES.added:
        return _look_up(name, RECIPES, "objective", where, [*RECIPES, *LOSSES.added])
    loss = LOSSES[name]()
    branch = SigmaBranch() if "sigma" in loss.needs else None
    return ObjectiveSpec.parse({"target": HR(), "loss": loss, "sigma": branch}, where)


T = TypeVar("T")
_TABLES: dict[str, Mapping[str, type[Params]]] = {"target": TARGETS, "loss": LOSSES, "timesteps": TIMESTEPS}


def _look_up(name: Any, table: Mapping[str, T], what: str, where: str, valid: Iterable[str] = ()) -> T:
    if not isinstance(name, str) or name not in table:
        raise InputError(f"{where}: unknown {what} {name!r}{nearest(name, [*(valid or table)])}")
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
