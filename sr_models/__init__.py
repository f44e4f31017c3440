"""Networks and image operators. `MODELS` lists every network; nothing here imports torch before `build` is called."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sr_models.errors import InputError
from sr_models.hyper import autoencoder, diffusion, latent
from sr_models.hyper import regression as hyper
from sr_models.hyper.base import NetworkHyper, SigmaHyper
from sr_models.hyper.zoo import ZooHyper
from sr_models.params import nearest
from sr_models.plugins import Table
from sr_models.spec import MOST_SCALE, ModelSpec, build_added, check_added

if TYPE_CHECKING:
    from sr_models.networks.base import Network

_OURS: dict[str, ModelSpec] = {
    "bicubic": ModelSpec(
        name="bicubic", family="regression", hyper=hyper.BicubicHyper,
        module="sr_models.networks.bicubic", cls="Bicubic", any_scale=True, fractions=True,
        scales=(1, 2, 3, 4, 8), trainable=False, counts={1: 0, 2: 0, 3: 0, 4: 0, 8: 0},
        paper="Cubic convolution interpolation for digital image processing, https://doi.org/10.1109/TASSP.1981.1163711",
    ),
    "vdsr": ModelSpec(
        name="vdsr", family="regression", hyper=hyper.VDSRHyper,
        module="sr_models.networks.vdsr", cls="VDSR", any_scale=True,
        scales=(1, 2, 3, 4, 8), counts={1: 664_704, 2: 664_704, 3: 664_704, 4: 664_704, 8: 664_704},
        paper="Accurate image super-resolution using very deep convolutional networks, https://arxiv.org/abs/1511.04587",
    ),
    "idn": ModelSpec(
        name="idn", family="regression", hyper=hyper.IDNHyper,
        module="sr_models.networks.idn", cls="IDN",
        scales=(2, 3, 4), counts={2: 552_769, 3: 552_769, 4: 552_769},
        paper="Fast and accurate single image SR via information distillation network, https://arxiv.org/abs/1803.09454",
    ),
    "carn": ModelSpec(
        name="carn", family="regression", hyper=hyper.CARNHyper,
        module="sr_models.networks.carn", cls="CARN",
        scales=(2, 3, 4, 8), counts={2: 964_163, 3: 1_148_803, 4: 1_111_875, 8: 1_259_587},
        paper="Fast, accurate, and lightweight SR with cascading residual network, https://arxiv.org/abs/1803.08664",
    ),
    "carn_m": ModelSpec(
        name="carn_m", family="regression", hyper=hyper.CARNMHyper,
        module="sr_models.networks.carn", cls="CARN",
        scales=(2, 3, 4), counts={2: 257_027, 3: 303_427, 4: 294_147},
        paper="Fast, accurate, and lightweight SR with cascading residual network, https://arxiv.org/abs/1803.08664",
    ),
    "srresnet": ModelSpec(
        name="srresnet", family="regression", hyper=hyper.MSRResNetHyper,
        module="sr_models.networks.srresnet", cls="MSRResNet",
        scales=(1, 2, 3, 4), counts={1: 1_222_147, 2: 1_369_859, 3: 1_554_499, 4: 1_517_571},
        paper="Photo-realistic single image super-resolution using a GAN, https://arxiv.org/abs/1609.04802",
    ),
    "srresnet_bn": ModelSpec(
        name="srresnet_bn", family="regression", hyper=hyper.SRResNetHyper,
        module="sr_models.networks.srresnet", cls="SRResNet", batch_statistics=True,
        scales=(1, 2, 3, 4, 8), counts={1: 1_254_036, 2: 1_401_749, 3: 1_586_389, 4: 1_549_462, 8: 1_697_175},
        paper="Photo-realistic single image super-resolution using a GAN, https://arxiv.org/abs/1609.04802",
    ),
    "edsr_baseline": ModelSpec(
        name="edsr_baseline", family="regression", hyper=hyper.EDSRBaselineHyper,
        module="sr_models.networks.edsr", cls="EDSR",
        scales=(1, 2, 3, 4, 8), counts={1: 1_222_147, 2: 1_369_859, 3: 1_554_499, 4: 1_517_571, 8: 1_665_283},
        paper="Enhanced deep residual networks for single image super-resolution, https://arxiv.org/abs/1707.02921",
    ),
    "edsr": ModelSpec(
        name="edsr", family="regression", hyper=hyper.EDSRHyper,
        module="sr_models.networks.edsr", cls="EDSR",
        scales=(1, 2, 3, 4, 8), counts={1: 38_369_283, 2: 40_729_603, 3: 43_680_003, 4: 43_089_923, 8: 45_450_243},
        paper="Enhanced deep residual networks for single image super-resolution, https://arxiv.org/abs/1707.02921",
    ),
    "noisy_edsr": ModelSpec(
        name="noisy_edsr", family="regression", hyper=hyper.NoisyEDSRHyper,
        module="sr_models.networks.noisy_edsr", cls="NoisyEDSR",
        scales=(1, 2, 3, 4, 8), counts={1: 1_222_147, 2: 1_369_859, 3: 1_554_499, 4: 1_517_571, 8: 1_665_283},
        paper="EDSR-baseline, https://arxiv.org/abs/1707.02921, with noise on its features (ours)",
    ),
    "rcan": ModelSpec(
        name="rcan", family="regression", hyper=hyper.RCANHyper,
        module="sr_models.networks.rcan", cls="RCAN",
        scales=(1, 2, 3, 4, 8), counts={1: 15_296_931, 2: 15_444_643, 3: 15_629_283, 4: 15_592_355, 8: 15_740_067},
        paper="Image super-resolution using very deep residual channel attention networks, https://arxiv.org/abs/1807.02758",
    ),
    "imdn": ModelSpec(
        name="imdn", family="regression", hyper=hyper.IMDNHyper,
        module="sr_models.networks.imdn", cls="IMDN",
        scales=(1, 2, 3, 4, 8), counts={1: 689_211, 2: 694_404, 3: 703_059, 4: 715_176, 8: 798_264},
        paper="Lightweight image super-resolution with information multi-distillation network, https://arxiv.org/abs/1909.11856",
    ),
    "imdn_as": ModelSpec(
        name="imdn_as", family="regression", hyper=hyper.IMDNASHyper, window=4,
        module="sr_models.networks.imdn", cls="IMDNAS", any_scale=True,
        scales=(1, 2, 3, 4, 8), counts=dict.fromkeys((1, 2, 3, 4, 8), 752_104),
        paper="Lightweight image super-resolution with information multi-distillation network, https://arxiv.org/abs/1909.11856",
    ),
    "rrdb": ModelSpec(
        name="rrdb", family="regression", hyper=hyper.RRDBHyper,
        module="sr_models.networks.rrdb", cls="RRDBNet",
        scales=(2, 3, 4, 8), counts={2: 16_661_059, 3: 16_661_059, 4: 16_697_987, 8: 16_734_915},
        paper="ESRGAN: enhanced super-resolution generative adversarial networks, https://arxiv.org/abs/1809.00219",
    ),
    "swinir_light": ModelSpec(
        name="swinir_light", family="regression", hyper=hyper.SwinIRLightHyper,
        module="sr_models.networks.swinir", cls="SwinIR",
        scales=(2, 3, 4), window=8, counts={2: 910_152, 3: 918_267, 4: 929_628},
        paper="SwinIR: image restoration using Swin Transformer, https://arxiv.org/abs/2108.10257",
    ),
    "swinir": ModelSpec(
        name="swinir", family="regression", hyper=hyper.SwinIRHyper,
        module="sr_models.networks.swinir", cls="SwinIR",
        scales=(2, 3, 4, 8), window=8, counts={2: 11_752_487, 3: 11_937_127, 4: 11_900_199, 8: 12_047_911},
        paper="SwinIR: image restoration using Swin Transformer, https://arxiv.org/abs/2108.10257",
    ),
    "sr3": ModelSpec(
        name="sr3", family="diffusion", hyper=diffusion.SR3Hyper,
        module="sr_models.diffusion.sr3", cls="SR3", any_scale=True,
        scales=(1, 2, 3, 4, 5, 8), counts=dict.fromkeys((1, 2, 3, 4, 5, 8), 97_807_491),
        paper="Image super-resolution via iterative refinement, https://arxiv.org/abs/2104.07636",
    ),
    "idm": ModelSpec(
        name="idm", family="diffusion", hyper=diffusion.IDMHyper,
        module="sr_models.diffusion.idm", cls="IDM",
        scales=(1, 2, 3, 4, 5, 8), any_scale=True, fractions=True,
        counts=dict.fromkeys((1, 2, 3, 4, 5, 8), 99_801_670),
        paper="Implicit diffusion models for continuous super-resolution, https://arxiv.org/abs/2303.16491",
    ),
    "latent_unet": ModelSpec(
        name="latent_unet", family="diffusion", hyper=latent.LatentUNetHyper,
        module="sr_models.diffusion.ccsr", cls="LatentUNet", any_scale=True, sr=False,
        scales=(4,), counts={4: 865_910_724},
        paper="High-resolution image synthesis with latent diffusion models, https://arxiv.org/abs/2112.10752",
    ),
    "ccsr": ModelSpec(
        name="ccsr", family="diffusion", hyper=latent.CCSRHyper,
        module="sr_models.diffusion.ccsr", cls="CCSR", any_scale=True,
        scales=(4,), counts={4: 363_153_280},
        paper="Improving the stability of diffusion models for content consistent SR, https://arxiv.org/abs/2401.00877",
    ),
    "vq_autoencoder": ModelSpec(
        name="vq_autoencoder", family="autoencoder", hyper=autoencoder.VQAutoencoderHyper,
        module="sr_models.diffusion.reconstruction", cls="TrainedVQ", sr=False,
        scales=(1, 2, 3, 4, 8), counts=dict.fromkeys((1, 2, 3, 4, 8), 55_322_782),
        paper="Taming transformers for high-resolution image synthesis, https://arxiv.org/abs/2012.09841",
    ),
    "kl_autoencoder": ModelSpec(
        name="kl_autoencoder", family="autoencoder", hyper=autoencoder.KLAutoencoderHyper,
        module="sr_models.diffusion.reconstruction", cls="TrainedKL", sr=False,
        scales=(1, 2, 3, 4, 8), counts=dict.fromkeys((1, 2, 3, 4, 8), 83_653_863),
        paper="High-resolution image synthesis with latent diffusion models, https://arxiv.org/abs/2112.10752",
    ),
    "resshift": ModelSpec(
        name="resshift", family="diffusion", hyper=latent.ResShiftHyper,
        module="sr_models.diffusion.resshift", cls="ResShift", any_scale=True,
        scales=(1, 2, 3, 4, 8), counts=dict.fromkeys((1, 2, 3, 4, 8), 118_593_583),
        paper="ResShift: efficient diffusion model for image SR by residual shifting, https://arxiv.org/abs/2307.12348",
    ),
}  # fmt: skip

ZOO = ModelSpec(
    name="zoo", family="regression", hyper=ZooHyper,
    module="sr_models.networks.zoo", cls="Zoo", scales=(1, 2, 3, 4, 8, 16),
    paper="spandrel, https://github.com/chaiNNer-org/spandrel",
)  # fmt: skip
"""Networks of other projects, each known by its file: no row of `MODELS`, for there is none without a file."""

MODELS = Table("model", _OURS, check_added, taken=(ZOO.name,))
"""Every network: ours, and those of plug-ins."""


def spec(name: str) -> ModelSpec:
    """The row of `MODELS` called `name`.

    Raises:
        InputError: there is none; the nearest name is suggested.
    """
    if name == ZOO.name:
        return ZOO
    if name not in MODELS:
        raise InputError(f"unknown model {name!r}{nearest(name, list(MODELS))}")
    return MODELS[name]


def check(name: str, scale: float, hyper: Mapping[str, Any]) -> NetworkHyper:
    """The model's complete hyperparameters, if such a network can be built; imports no torch.

    Args:
        scale: a whole one is an int; fractions are for networks of any scale.

    Raises:
        InputError: unknown model, a scale it lacks (in general or with these values), an unknown or illegal
            hyperparameter.
    """
    found = spec(name)
    whole = isinstance(scale, int)
    if scale not in found.scales and not (1 <= scale <= MOST_SCALE and (found.any_scale if whole else found.fractions)):
        other = (
            f"; any other{'' if found.fractions else ' whole one'} from 1 to {MOST_SCALE}" if found.any_scale else ""
        )
        raise InputError(f"model {name!r} has no scale {scale!r} (it has {', '.join(map(str, found.scales))}{other})")
    values = found.hyper.parse(hyper, f"model {name!r}")
    if isinstance(scale, int):
        values.check_scale(scale)
    return values


def called(name: str, hyper: Mapping[str, Any]) -> str:
    """What people are told that a network is: one of another project by its architecture, as `Compact (zoo)`.

    Args:
        hyper: complete, as `check` gives them.
    """
    return f"{hyper['architecture']} ({name})" if name == ZOO.name else name


def tile_exact(name: str, given: Mapping[str, Any]) -> bool:
    """Whether tiles change nothing of what a network computes (`NetworkHyper.tile_exact`); imports no torch."""
    return spec(name).hyper.parse(given, f"model {name!r}").tile_exact


def multiply_adds(name: str, scale: int, given: Mapping[str, Any], *, sigma_width: int | None = None) -> float:
    """Multiply-adds of one pass per LR pixel, with a σ head of that width if there is one; imports no torch.

    A diffusion network makes a pass for each noise level that a picture is sampled at.
    """
    values = check(name, scale, given)
    if not sigma_width:
        return values.multiply_adds(scale)
    to_go = values.scale_to_go(scale)
    head = SigmaHyper(width=sigma_width).multiply_adds(values.feature_channels, to_go)
    return values.multiply_adds(scale) + head * (scale / to_go) ** 2


def part_hashes(name: str, hyper: Mapping[str, Any]) -> dict[str, str]:
    """Part -> sha256 of its file, of those frozen parts of a model whose hashes its hyperparameters hold."""
    return {part: sha for part in spec(name).hyper.parts if (sha := hyper.get(f"{part}_sha256"))}


def build(name: str, scale: float, *, parts: Mapping[str, Path] = MappingProxyType({}), **hyper: Any) -> Network:
    """A freshly initialised network; its weights are drawn from torch's current generator.

    Args:
        name: a key of `MODELS`.
        scale: upscaling factor, as in `check`.
        parts: the files of frozen parts that it stands on, read when they are first used.
        hyper: fields of the model's hyperparameter class; the rest keep the published values.

    Raises:
        InputError: as `check`; of a plug-in's, as `sr_models.spec.build_added`.
    """
    values = check(name, scale, hyper | {part: str(path) for part, path in parts.items()})
    row = spec(name)
    if name in MODELS.added:
        return build_added(row, MODELS.added[name], scale, values)
    return row.load()(scale, **dict(values))
