"""The σ head: computed sizes, range, and a gradient into the network's features."""

import pytest
import torch

import sr_models
from sr_models.networks.base import parameters
from sr_models.networks.sigma import SigmaHead, WithSigma


@pytest.mark.parametrize(("scale", "count"), [(2, 801932), (3, 823547), (4, 853808)])
def test_sizes_on_64_channels(scale: int, count: int) -> None:
    assert parameters(SigmaHead(64, scale)) == count


def test_features_without_upscaling_left_need_no_shuffle() -> None:
    assert SigmaHead(8, 1, width=4, depth=2)(torch.rand(1, 8, 5, 6)).shape == (1, 3, 5, 6)


@pytest.mark.parametrize("name", ["edsr_baseline", "imdn", "srresnet"])
def test_both_outputs_share_the_features(name: str) -> None:
    net = sr_models.build(name, 3, channels=16, blocks=1)
    both = WithSigma(net, SigmaHead(net.feature_channels, net.feature_scale_to_go, width=8))
    lr = torch.rand(2, 3, 5, 4)
    sr, sigma_hat = both(lr)
    assert sr.shape == sigma_hat.shape == (2, 3, 15, 12)
    torch.testing.assert_close(sr, net(lr), rtol=0, atol=0)
    assert 0 < sigma_hat.min() < sigma_hat.max() < 1
    sigma_hat.sum().backward()
    first = next(p for p in net.parameters() if p.requires_grad)
    assert first.grad is not None
    assert first.grad.abs().max() > 0
