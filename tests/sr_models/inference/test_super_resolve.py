"""super_resolve: any size and no trace of how it was done; tiles without seams, bounded memory, self-ensemble."""

import pytest
import torch
from torch import Tensor

import sr_models
from sr_models.errors import InputError
from sr_models.inference.bound import reach
from sr_models.inference.super_resolve import Options, eval_mode, super_resolve
from sr_models.networks.base import SRNetwork
from sr_models.networks.sigma import SigmaHead, WithSigma


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


@pytest.fixture
def edsr() -> SRNetwork:
    """Sees 6 LR pixels in each direction: head 1, block 2, after it 1, upsampler 1, and 1 at full size."""
    torch.manual_seed(0)
    return sr_models.build("edsr_baseline", 2, channels=8, blocks=1)


@pytest.mark.parametrize(("tile", "overlap"), [(16, 8), (5, 6), (100, 0)])
def test_tiles_leave_no_seam_where_the_network_sees_no_further(edsr: SRNetwork, tile: int, overlap: int) -> None:
    lr = torch.rand(2, 3, 21, 37)
    whole = super_resolve(edsr, lr).sr
    tiled = super_resolve(edsr, lr, options=Options(tile=tile, overlap=overlap)).sr
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-5)
    assert tiled.is_contiguous()


def test_a_short_overlap_changes_pixels_at_cuts_and_nowhere_else(edsr: SRNetwork) -> None:
    lr = torch.rand(1, 3, 40, 40)
    whole = super_resolve(edsr, lr).sr
    change = (super_resolve(edsr, lr, options=Options(tile=20, overlap=1)).sr - whole).abs().amax((0, 1)) > 1e-5
    near = (torch.arange(80) - 39.5).abs() < 2 * 6  # one cut in the middle of each side
    assert change.any()
    assert not change[~(near[:, None] | near)].any()


SMALL = {
    "channels": 16, "blocks": 1, "units": 1, "layers": 2, "heads": 2, "groups": 1, "reduction": 4, "growth": 4,
}  # fmt: skip


REGRESSION = [row.name for row in sr_models.MODELS.values() if row.family == "regression"]


@pytest.mark.parametrize(
    ("name", "given"), [*((name, {}) for name in REGRESSION), ("imdn", {"attention": "ca"}),
                        ("imdn", {"attention": "none"}), ("imdn_as", {"attention": "none"})],
)  # fmt: skip
def test_networks_declare_whether_tiles_are_the_whole_picture(name: str, given: dict[str, str]) -> None:
    row, exact = sr_models.spec(name), sr_models.tile_exact(name, given)
    torch.manual_seed(0)
    small = SMALL | ({"channels": 64} if name.startswith("imdn") else {})  # fewer may silence its attention
    hyper = given | {k: v for k, v in small.items() if k in row.hyper.model_fields}
    net = sr_models.build(name, 1 if name == "imdn_as" else 2, **hyper)
    with torch.no_grad():
        for p in net.parameters():  # so that no attention is too faint to be seen
            if p.requires_grad:
                p.normal_(std=1.5 * p[0].numel() ** -0.5) if p.ndim > 1 else p.uniform_(0.1, 0.5)
    lr = torch.rand(1, 3, 82, 77)
    lr[..., :40] *= 0.1  # tiles differ in what they would pool
    whole = super_resolve(net, lr).sr
    overlap = reach(net) if exact else 28
    tiled = super_resolve(net, lr, options=Options(tile=20, overlap=overlap)).sr
    change, spread = float((tiled - whole).abs().max()), float(whole.std())
    assert spread > 0.02
    assert change < 1e-4 * spread if exact else change > 1e-2 * spread
    if exact:
        lr = torch.rand(1, 3, 80, 80).requires_grad_()
        net.eval()(lr)[..., 40 * net.scale, 40 * net.scale].sum().backward()
        assert lr.grad is not None
        seen = lr.grad.abs().amax((0, 1, 3)).nonzero().flatten() - 40
        assert overlap / 3 <= int(seen.abs().max()) <= overlap, "as far as it looks, and not much further"


def test_tiles_keep_to_the_windows_of_the_whole_picture() -> None:
    class Position(Windowed):
        """Each pixel's place in its window: any tile off the grid shows."""

        def features(self, lr_BCHW: Tensor) -> Tensor:
            height, width = lr_BCHW.shape[2:]
            place = torch.arange(height)[:, None] % 8 * 8 + torch.arange(width) % 8
            return super().features(lr_BCHW) * 0 + place / 200 + 1 / 3

    lr = torch.rand(1, 3, 19, 30)
    for overlap in (0, 5):
        tiled = super_resolve(Position(), lr, options=Options(tile=9, overlap=overlap)).sr
        torch.testing.assert_close(tiled, super_resolve(Position(), lr).sr, rtol=0, atol=0)


def test_self_ensemble_is_the_mean_over_flips_and_turns(edsr: SRNetwork) -> None:
    lr = torch.rand(1, 3, 9, 12)
    plus = super_resolve(edsr, lr, options=Options(self_ensemble=True)).sr
    eight = []
    for axes in ((), (2,), (3,), (2, 3)):
        for transposed in (False, True):
            x = lr.flip(axes).transpose(2, 3) if transposed else lr.flip(axes)
            y = edsr(x)
            eight.append((y.transpose(2, 3) if transposed else y).flip(axes))
    torch.testing.assert_close(plus, torch.stack(eight).mean(0).clamp(0, 1), rtol=0, atol=1e-6)

    turned = super_resolve(edsr, lr.rot90(1, (2, 3)), options=Options(self_ensemble=True)).sr
    torch.testing.assert_close(turned.rot90(-1, (2, 3)), plus, rtol=0, atol=1e-6)  # now equivariant; the net is not
    options = Options(self_ensemble=True, tile=5, overlap=7)
    torch.testing.assert_close(super_resolve(edsr, lr, options=options).sr, plus, rtol=0, atol=1e-5)


def test_tiles_and_ensembles_carry_sigma() -> None:
    model = WithSigma(sr_models.build("edsr_baseline", 2, channels=8, blocks=1), SigmaHead(8, 2, width=4))
    lr = torch.rand(1, 3, 20, 26)
    whole = super_resolve(model, lr).sigma
    tiled = super_resolve(model, lr, options=Options(tile=9, overlap=10)).sigma
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-5)
    plus = super_resolve(model, lr, options=Options(self_ensemble=True)).sigma
    mirrored = super_resolve(model, lr.flip(3), options=Options(self_ensemble=True)).sigma
    assert mirrored is not None
    torch.testing.assert_close(mirrored.flip(3), plus, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(64, 80), (70, 101), (9, 6), (3, 2)])
def test_imdn_as_takes_any_size(size: tuple[int, int]) -> None:
    net = sr_models.build("imdn_as", 1, channels=16, blocks=1)
    lr = torch.rand(1, 3, *size)
    for options in (Options(), Options(tile=30, overlap=16), Options(self_ensemble=True)):
        assert super_resolve(net, lr, options=options).sr.shape == lr.shape
    if size == (64, 80):
        torch.testing.assert_close(super_resolve(net, lr).sr, net(lr).clamp(0, 1), rtol=0, atol=1e-6)


def test_compile_runs_what_the_compiler_gives(edsr: SRNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda model: compiled.append(model) or model)
    lr = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(
        super_resolve(edsr, lr, options=Options(compile=True)).sr, super_resolve(edsr, lr).sr, rtol=0, atol=0
    )
    assert compiled == [edsr]


def test_fp32_is_not_tf32_even_under_autocast(edsr: SRNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    seen = []
    edsr.register_forward_pre_hook(
        lambda *_: seen.append((torch.backends.cudnn.allow_tf32, torch.is_autocast_enabled("cpu")))
    )
    lr = torch.rand(1, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        inside = super_resolve(edsr, lr).sr
    assert seen == [(False, False)]
    assert torch.backends.cudnn.allow_tf32
    assert torch.equal(inside, super_resolve(edsr, lr).sr)


def test_options_have_a_name_for_scores() -> None:
    assert Options(channels_last=True, compile=True, overlap=8).marks == ""
    assert Options(tile=96, overlap=8, self_ensemble=True, precision="bf16").marks == "+tile96o8+x8+bf16"


@pytest.mark.parametrize("values", [{"tile": 0}, {"tile": 8, "overlap": -1}, {"precision": "fp16"}])
def test_bad_options_are_refused(values: dict) -> None:
    with pytest.raises(InputError, match="got"):
        Options(**values)


def test_bad_calls_are_refused() -> None:
    with pytest.raises(ValueError, match="lr must be float RGB"):
        super_resolve(Windowed(), torch.zeros(1, 1, 8, 8))
    for seeds in ((), (1, 2)):
        with pytest.raises(ValueError, match=f"one seed, or one for each of 3 images, got {len(seeds)}"):
            super_resolve(Windowed(), torch.zeros(3, 3, 8, 8), seeds=seeds)
