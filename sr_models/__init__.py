"""Networks and image operators. `MODELS` lists every network; nothing here imports torch before `build` is called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sr_models import hyper
from sr_models.errors import InputError
from sr_models.params import Params, nearest
from sr_models.spec import ModelSpec

if TYPE_CHECKING:
    from sr_models.network import SRNetwork

MODELS: dict[str, ModelSpec] = {
    "bicubic": ModelSpec(
        name="bicubic", family="regression", module="sr_models.bicubic", cls="Bicubic", hyper=hyper.Bicubic,
        scales=(2, 3, 4, 8), trainable=False, counts={2: 0, 3: 0, 4: 0, 8: 0},
        paper="Cubic convolution interpolation for digital image processing, https://doi.org/10.1109/TASSP.1981.1163711",
    ),
    "srresnet": ModelSpec(
        name="srresnet", family="regression", module="sr_models.srresnet", cls="MSRResNet", hyper=hyper.MSRResNet,
        scales=(2, 3, 4), counts={2: 1_369_859, 3: 1_554_499, 4: 1_517_571},
        paper="Photo-realistic single image super-resolution using a GAN, https://arxiv.org/abs/1609.04802",
    ),
    "edsr_baseline": ModelSpec(
        name="edsr_baseline", family="regression", module="sr_models.edsr", cls="EDSR", hyper=hyper.EDSRBaseline,
        scales=(2, 3, 4, 8), counts={2: 1_369_859, 3: 1_554_499, 4: 1_517_571, 8: 1_665_283},
        paper="Enhanced deep residual networks for single image super-resolution, https://arxiv.org/abs/1707.02921",
    ),
    "edsr": ModelSpec(
        name="edsr", family="regression", module="sr_models.edsr", cls="EDSR", hyper=hyper.EDSR,
        scales=(2, 3, 4, 8), counts={2: 40_729_603, 3: 43_680_003, 4: 43_089_923, 8: 45_450_243},
        paper="Enhanced deep residual networks for single image super-resolution, https://arxiv.org/abs/1707.02921",
    ),
    "imdn": ModelSpec(
        name="imdn", family="regression", module="sr_models.imdn", cls="IMDN", hyper=hyper.IMDN,
        scales=(2, 3, 4, 8), counts={2: 694_404, 3: 703_059, 4: 715_176, 8: 798_264},
        paper="Lightweight image super-resolution with information multi-distillation network, https://arxiv.org/abs/1909.11856",
    ),
}  # fmt: skip


def spec(name: str) -> ModelSpec:
    """The row of `MODELS` called `name`.

    Raises:
        InputError: there is none; the nearest name is suggested.
    """
    if name not in MODELS:
        raise InputError(f"unknown model {name!r}{nearest(name, list(MODELS))}")
    return MODELS[name]


def check(name: str, scale: int, hyper: Mapping[str, Any]) -> Params:
    """The model's complete hyperparameters, if such a network can be built; imports no torch.

    Raises:
        InputError: unknown model, a scale it lacks, an unknown or illegal hyperparameter.
    """
    found = spec(name)
    if scale not in found.scales:
        raise InputError(f"model {name!r} has no scale {scale!r} (it has {', '.join(map(str, found.scales))})")
    return found.hyper.parse(hyper, f"model {name!r}")


def multiply_adds(name: str, scale: int, given: Mapping[str, Any], *, sigma_width: int | None = None) -> float:
    """Multiply-adds of one forward pass per LR pixel, with a σ head of that width if there is one; imports no torch."""
    values = check(name, scale, given)
    assert isinstance(values, hyper.Network)
    head = hyper.Sigma(width=sigma_width).multiply_adds(values.feature_channels, scale) if sigma_width else 0.0
    return values.multiply_adds(scale) + head


def build(name: str, scale: int, **hyper: Any) -> SRNetwork:
    """A freshly initialised network; its weights are drawn from torch's current generator.

    Args:
        name: a key of `MODELS`.
        scale: upscaling factor.
        hyper: fields of the model's hyperparameter class; the rest keep the published values.

    Raises:
        InputError: as `check`.
    """
    values = check(name, scale, hyper)
    net = spec(name).load()(scale, **values.model_dump())
    net.window = spec(name).window
    return net
