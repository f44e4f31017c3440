"""The σ head: computed sizes, range, and a gradient into the network's features."""

import pytest
import torch

import sr_models
from sr_models.networks.base import parameters
from sr_models.networks.sigma import DETAIL, START, SigmaHead, WithSigma


@pytest.mark.parametrize(("scale", "count"), [(2, 801932), (3, 823547), (4, 853808)])
def test_sizes_on_64_channels(scale: int, count: int) -> None:
    assert parameters(SigmaHead(64, scale)) == count


def test_features_without_upscaling_left_need_no_shuffle() -> None:
    assert SigmaHead(8, 1, width=4, depth=2)(torch.rand(1, 8, 5, 6)).shape == (1, 3, 5, 6)


def test_detail_is_what_differs_from_the_mean_of_the_neighbours_that_there_are() -> None:
    head, feat = SigmaHead(8, 2, width=4, detail_unit=2.0), torch.randn(1, 8, 5, 6)
    plain = SigmaHead(8, 2, width=4)
    plain.load_state_dict(head.state_dict())
    detail = torch.empty_like(feat)
    for i in range(5):
        for j in range(6):
            around = feat[..., max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
            detail[..., i, j] = (feat[..., i, j] - around.mean((2, 3))) / 2
    torch.testing.assert_close(head(feat), plain(detail))
    torch.testing.assert_close(head(feat + 7), head(feat), rtol=0, atol=1e-5)


def test_it_starts_at_a_typical_error_whatever_the_network() -> None:
    torch.manual_seed(0)
    for name in ("edsr_baseline", "imdn", "rcan", "vdsr"):
        net = sr_models.build(name, 2)
        unit = DETAIL * net.feature_range
        head = SigmaHead(net.feature_channels, net.feature_scale_to_go, width=16, detail_unit=unit)
        sigma_hat = WithSigma(net, head)(torch.rand(1, 3, 8, 8))[1]
        assert START / 3 < sigma_hat.min() < sigma_hat.max() < 3 * START, name
        assert sigma_hat.mean().item() == pytest.approx(START, rel=0.3), name


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
