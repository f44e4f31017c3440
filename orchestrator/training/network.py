"""The network that a trial trains: built, started, run with other weights, written out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

import sr_models
from orchestrator.plan.config import TrialConfig
from sr_models.checkpoints.folder import save_checkpoint
from sr_models.checkpoints.published import initialise
from sr_models.networks.base import SRNetwork
from sr_models.networks.sigma import SigmaHead, WithSigma, without_head


def build_network(config: TrialConfig) -> SRNetwork | WithSigma:
    """The network that a trial trains, with a sigma head where its objective has one; drawn from torch's generator."""
    net = sr_models.build(config.model, config.scale, **config.hyper)
    if config.objective.sigma is None:
        return net
    return WithSigma(net, SigmaHead(net.feature_channels, net.feature_scale_to_go, width=config.objective.sigma.width))


def prepare(net: SRNetwork | WithSigma, config: TrialConfig, init: Path | None, device: torch.device) -> None:
    """Start `net` from the weights in the file `init`, if any, and move it to its device.

    Raises:
        ValueError: `init` is given, and the config names none; or the other way round.
    """
    if (config.init is None) != (init is None):
        raise ValueError(f"the trial was planned with init {config.init}, and given {init}")
    if init is not None:
        initialise(without_head(net), safetensors.torch.load_file(init))
    net.to(device)
    for parameter in net.parameters():
        if parameter.ndim == 4:  # channels_last: faster convolutions, equal to rounding
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


@contextlib.contextmanager
def other_weights(net: nn.Module, state: dict[str, Tensor]) -> Iterator[None]:
    """Run with other weights, and put the network's own back."""
    own = {k: v.detach().clone() for k, v in net.state_dict().items()}
    net.load_state_dict(state)
    try:
        yield
    finally:
        net.load_state_dict(own)


def export(folder: Path, net: SRNetwork | WithSigma, config: TrialConfig, ema: dict[str, Tensor] | None) -> None:
    """A trial's weights as safetensors + JSON: those of `net` in `model`, their average, if any, in `model_ema`."""
    sigma = config.objective.sigma
    for name, state in {"model": net.state_dict(), "model_ema": ema}.items():
        if state is None:
            continue
        with other_weights(net, state):
            save_checkpoint(
                folder / name,
                net,
                model=config.model,
                scale=config.scale,
                hyper=config.hyper,
                sigma={"width": sigma.width} if sigma else None,
                ema=name == "model_ema",
                fingerprint=config.fingerprint,
            )
