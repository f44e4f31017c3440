"""The network that a trial trains: built, started, run with other weights, written out."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import safetensors.torch
import torch
from torch import Tensor, nn

import sr_models
from eval.metrics.backbones import Unavailable, WeightFiles
from eval.metrics.perceptual import Lpips
from objectives.adversarial import DecoderObjective, Perceptual
from objectives.compose import Objective
from objectives.diffusion import DiffusionObjective
from objectives.losses import CCSRDecoder
from objectives.reconstruction import ReconstructionObjective
from objectives.shifting import ShiftObjective
from orchestrator.data.store import PatchStore
from orchestrator.plan.train import TrainConfig
from orchestrator.plan.trial import TrialConfig
from sr_models.checkpoints.folder import save_checkpoint
from sr_models.checkpoints.published import initialise
from sr_models.diffusion.base import Denoiser
from sr_models.errors import InputError
from sr_models.hyper.process import ProcessParams, ShiftParams
from sr_models.inference.super_resolve import super_resolve
from sr_models.networks.base import Network, SRNetwork
from sr_models.networks.sigma import DETAIL, SigmaHead, WithSigma, without_head

MEASURED, BATCH = 64, 16
"""Training patches that the best constant is measured on, and how many at a time."""


def build_network(config: TrialConfig, parts: Mapping[str, Path] = MappingProxyType({})) -> Network | WithSigma:
    """The network that a trial trains, with a sigma head where its objective has one; drawn from torch's generator.

    A diffusion network knows the noise process of its trial.

    Args:
        parts: the files of frozen parts that it stands on, of which the trial's config has the hashes.
    """
    net = sr_models.build(config.model, config.scale, parts=parts, **config.hyper)
    if isinstance(net, Denoiser):
        assert config.process is not None, "check_legal and TrialConfig see to it"
        net.process, net.checkpointing = config.process, config.train.checkpointing
    if config.objective.sigma is None or not isinstance(net, SRNetwork):
        return net
    width = config.objective.sigma.width
    unit = None if config.numerics_version == 1 else DETAIL * net.feature_range
    return WithSigma(net, SigmaHead(net.feature_channels, net.feature_scale_to_go, width=width, detail_unit=unit))


def perceptual_of(config: TrialConfig, device: torch.device, weights_dir: Path | None) -> Perceptual | None:
    """What a trial's objective measures beside pixels, if anything: LPIPS 0.1 on VGG, frozen.

    Its weights and its arithmetic are those of taming transformers' LPIPS, which CCSR trains with.

    Raises:
        InputError: weights that are not to be had.
    """
    if not config.objective.perceives:
        return None
    try:
        return Lpips("vgg", files=WeightFiles(weights_dir), device=device).between
    except Unavailable as error:
        raise InputError(f"loss.perceptual_weight needs lpips_vgg: {error}; or give perceptual_weight: 0") from None


def build_objective(config: TrialConfig, perceptual: Perceptual | None = None) -> Objective:
    """What a trial's network is trained by."""
    if isinstance(config.objective.loss, CCSRDecoder):
        assert isinstance(config.process, ProcessParams), "TrialConfig sees to it"
        return DecoderObjective(config.objective, config.train.lr_noise, config.process, perceptual)
    if config.objective.loss.family == "autoencoder":
        return ReconstructionObjective(config.objective)
    if config.process is None:
        return Objective(config.objective, config.train.lr_noise)
    if isinstance(config.process, ShiftParams):
        return ShiftObjective(config.objective, config.train.lr_noise)
    return DiffusionObjective(config.objective, config.train.lr_noise, config.process)


def prepare(net: Network | WithSigma, config: TrialConfig, init: Path | None, device: torch.device) -> None:
    """Move `net` to its device and start it: from what it begins with, and the weights in the file `init`, if any.

    Raises:
        InputError: the file is not the one that the config names.
        ValueError: `init` is given, and the config names none; or the other way round.
    """
    if (config.init is None) != (init is None):
        raise ValueError(f"the trial was planned with init {config.init}, and given {init}")
    net.to(device)
    without_head(net).begin()
    if init is not None:
        payload = init.read_bytes()
        if hashlib.sha256(payload).hexdigest() != config.init:
            raise InputError(f"{init} is damaged (its sha256 is not {config.init}); delete it and run again")
        initialise(without_head(net), safetensors.torch.load(payload))
    for parameter in net.parameters():
        if parameter.ndim == 4:  # channels_last: faster convolutions, equal to rounding
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def move_average(average: dict[str, Tensor], net: nn.Module, train: TrainConfig, step: int) -> None:
    """Move an average of a network's weights towards what step `step` (0-based) has made of them.

    The warm-up is that of https://www.tensorflow.org/api_docs/python/tf/train/ExponentialMovingAverage (`num_updates`).
    """
    assert train.ema is not None
    decay, state = train.ema, net.state_dict()
    averaged = {name for name, value in state.items() if value.is_floating_point()}
    if train.ema_warmup:
        decay = min(decay, (1 + step) / (10 + step))
        parameters = net.named_parameters(remove_duplicate=False)
        averaged = {name for name, parameter in parameters if parameter.requires_grad}
    for name, value in state.items():
        average[name].lerp_(value, 1 - decay) if name in averaged else average[name].copy_(value)


@contextlib.contextmanager
def other_weights(net: nn.Module, state: dict[str, Tensor]) -> Iterator[None]:
    """Run with other weights, and put the network's own back."""
    own = {k: v.detach().clone() for k, v in net.state_dict().items()}
    net.load_state_dict(state)
    try:
        yield
    finally:
        net.load_state_dict(own)


def export(
    folder: Path,
    net: Network | WithSigma,
    config: TrialConfig,
    ema: dict[str, Tensor] | None,
    store: PatchStore | None,
) -> None:
    """A trial's weights as safetensors + JSON: those of `net` in `model`, their average, if any, in `model_ema`.

    Beside a sigma head stands what it must beat, the `mean_error` on the store's patches; None: not known.
    """
    output = config.objective.target.output
    for name, state in {"model": net.state_dict(), "model_ema": ema}.items():
        if state is None:
            continue
        with other_weights(net, state):
            sigma = None
            if isinstance(net, WithSigma):
                sigma = {
                    "width": net.head.width,
                    "detail_unit": net.head.detail_unit,
                    "constant": mean_error(net, config, store) if store and output == "sr" else None,
                }
            save_checkpoint(
                folder / name,
                net,
                model=config.model,
                scale=config.scale,
                hyper=config.hyper,
                sigma=sigma,
                ema=name == "model_ema",
                fingerprint=config.fingerprint,
                output=output,
                sampling=config.objective.practised,
            )


def mean_error(net: WithSigma, config: TrialConfig, store: PatchStore) -> float:
    """Mean |y - mu| over `MEASURED` training patches that no step has drawn, y being HR, mu clamped.

    Of all constants this one is nearest to |y - mu| in the mean square. It does not depend on the number of workers.
    """
    device = next(net.parameters()).device
    total, train = 0.0, config.train
    for step in range(MEASURED // BATCH):
        batch = store.batch(
            seed=config.seed,
            step=train.steps + step,
            batch_size=BATCH,
            patch=train.patch,
            degradation=train.degradation,
            device=device,
        )
        total += float((batch.hr - super_resolve(net, batch.lr).sr).abs().double().mean())
    return total / (MEASURED // BATCH)
