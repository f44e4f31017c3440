"""super_resolve: window padding that leaves no trace, clamping, and a model returned in the mode it came in."""

import pytest
import torch
from torch import Tensor

import sr_models
from sr_models.inference import Options, eval_mode, pad_to_window, super_resolve
from sr_models.network import SRNetwork
from sr_models.sigma import SigmaHead, WithSigma


class Windowed(SRNetwork):
    """Doubles pixels; refuses sides that are no multiple of 8, as window attention does."""

    scale, feature_channels, feature_scale_to_go, window = 2, 3, 2, 8

    def features(self, lr_BCHW: Tensor) -> Tensor:
        assert lr_BCHW.shape[2] % 8 == lr_BCHW.shape[3] % 8 == 0
        return lr_BCHW

    def reconstruct(self, feat_BCHW: Tensor, lr_BCHW: Tensor) -> Tensor:
        return 3 * feat_BCHW.repeat_interleave(2, 2).repeat_interleave(2, 3) - 1


@pytest.mark.parametrize(("height", "width"), [(8, 16), (9, 7), (1, 3)])
def test_windows_are_padded_cropped_and_clamped(height: int, width: int) -> None:
    lr = torch.rand(2, 3, height, width)
    out = super_resolve(Windowed(), lr)
    expected = (3 * lr.repeat_interleave(2, 2).repeat_interleave(2, 3) - 1).clamp(0, 1)
    torch.testing.assert_close(out.sr, expected, rtol=0, atol=0)
    assert out.sigma is None


def test_padding_mirrors_with_the_edge_repeated() -> None:
    x = torch.arange(5.0).expand(1, 1, 8, 5)
    assert pad_to_window(x, 8)[0, 0, 0].tolist() == [0, 1, 2, 3, 4, 4, 3, 2]
    assert pad_to_window(x[..., :2], 8)[0, 0, 0].tolist() == [0, 1, 1, 0, 0, 1, 1, 0]
    assert pad_to_window(x, 1) is x


def test_every_submodule_gets_its_own_mode_back_even_after_an_error() -> None:
    net = sr_models.build("edsr_baseline", 2, channels=8, blocks=1)
    net.get_submodule("head").eval()
    before = [module.training for module in net.modules()]
    super_resolve(net, torch.rand(1, 3, 4, 4))
    assert [module.training for module in net.modules()] == before
    with pytest.raises(RuntimeError), eval_mode(net):
        assert not any(module.training for module in net.modules())
        raise RuntimeError
    assert [module.training for module in net.modules()] == before


def test_sigma_comes_along_without_gradients() -> None:
    net = sr_models.build("imdn", 2, channels=16, blocks=1)
    model = WithSigma(net, SigmaHead(16, 2, width=4))
    lr = torch.rand(1, 3, 6, 5)
    out = super_resolve(model, lr)
    assert out.sigma is not None
    assert not out.sr.requires_grad
    assert not out.sigma.requires_grad
    torch.testing.assert_close(out.sigma, model(lr)[1], rtol=0, atol=0)


def test_options_change_only_the_last_digits() -> None:
    net, lr = sr_models.build("srresnet", 2, channels=16, blocks=2), torch.rand(1, 3, 16, 16)
    reference = super_resolve(net, lr).sr
    strides = [p.stride() for p in net.parameters()]
    for options, tolerance in ((Options(precision="bf16"), 1e-2), (Options(channels_last=True), 1e-5)):
        out = super_resolve(net, lr, options=options).sr
        assert out.dtype == torch.float32
        assert out.is_contiguous()
        torch.testing.assert_close(out, reference, rtol=0, atol=tolerance)
    assert [p.stride() for p in net.parameters()] == strides  # the caller's model is left as it was


def test_bad_calls_are_refused() -> None:
    with pytest.raises(ValueError, match="lr must be float RGB"):
        super_resolve(Windowed(), torch.zeros(1, 1, 8, 8))
    with pytest.raises(ValueError, match="at least one seed"):
        super_resolve(Windowed(), torch.zeros(1, 3, 8, 8), seeds=())
