"""The network that a trial trains, and how it runs with other weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import Tensor, nn

import sr_models
from orchestrator.plan.config import TrialConfig
from sr_models.networks.base import SRNetwork
from sr_models.networks.sigma import SigmaHead, WithSigma


def build_network(config: TrialConfig) -> SRNetwork | WithSigma:
    """The network that a trial trains, with a sigma head where its objective has one; drawn from torch's generator."""
    net = sr_models.build(config.model, config.scale, **config.hyper)
    if config.objective.sigma is None:
        return net
    return WithSigma(net, SigmaHead(net.feature_channels, net.feature_scale_to_go, width=config.objective.sigma.width))


@contextlib.contextmanager
def other_weights(net: nn.Module, state: dict[str, Tensor]) -> Iterator[None]:
    """Run with other weights, and put the network's own back."""
    own = {k: v.detach().clone() for k, v in net.state_dict().items()}
    net.load_state_dict(state)
    try:
        yield
    finally:
        net.load_state_dict(own)
