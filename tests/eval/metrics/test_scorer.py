"""One scorer: what it computes, what it says it cannot, and that values are those of the metrics alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from eval import PROTOCOLS, Protocol
from eval.metrics import backbones, fidelity, scorer
from eval.metrics.backbones import WeightFiles
from eval.metrics.distribution import patches
from eval.metrics.perceptual import Dists, Lpips
from eval.metrics.scorer import Scorer
from eval.metrics.uncertainty import pll, psnr_sigma, sigma_r
from eval.protocol import FIDELITY, METRICS, UNCERTAINTY, all_metrics
from sr_models.errors import InputError
from sr_models.images.files import pixels_sha256
from sr_models.images.matlab import KERNEL
from sr_models.images.operators import quantize, to_float

SCALE = 2
IMAGE_METRICS = [name for name, metric in METRICS.items() if metric.level == "image" and metric.cost != "extra"]


@pytest.fixture
def images() -> dict[str, Tensor]:
    """Three LR, HR, SR and sigma: 30x25 px, and twice that; SR leaves [0, 1] here and there."""
    draw = torch.Generator().manual_seed(0)
    hr = torch.rand(3, 3, 60, 50, generator=draw)
    noise = torch.randn(hr.shape, generator=draw) * torch.tensor([0.02, 0.1, 0.3]).view(3, 1, 1, 1)
    lr = torch.rand(3, 3, 30, 25, generator=draw)
    return {"sr": hr + noise, "hr": hr, "lr": lr, "sigma": noise.abs() + 0.01}


def score_of(made: Scorer, images: dict[str, Tensor], rows: slice | Tensor = slice(None)) -> dict[str, Tensor]:
    return made.image(*(images[name][rows] for name in ("sr", "hr", "lr", "sigma")), 0.05)


def test_every_value_is_that_of_its_metric_alone(weights: Path, images: dict[str, Tensor]) -> None:
    protocol = PROTOCOLS["classical"]
    made = Scorer(protocol, IMAGE_METRICS, scale=SCALE, weights_dir=weights, kernel="files")
    found = score_of(made, images)
    assert list(found) == made.metrics == IMAGE_METRICS
    sr, hr, lr, sigma = images.values()
    ask = {"scale": SCALE, "protocol": protocol, "metrics": FIDELITY}
    for name, values in fidelity.score(sr, hr, **ask).items():
        assert found[name].tolist() == values
    inner = quantize(sr)[..., 2:-2, 2:-2], hr[..., 2:-2, 2:-2]
    files = WeightFiles(weights)
    expected = {
        "lpips_alex": Lpips("alex", files=files, device="cpu")(*inner),
        "lpips_vgg": Lpips("vgg", files=files, device="cpu")(*inner),
        "dists": Dists(files=files, device="cpu")(*inner),
        "consistency": fidelity.consistency(sr, lr, kernel=KERNEL, uint8=True),
        "pll": pll(sr, hr, sigma, shave=2),
        "psnr_sigma": psnr_sigma(sr, hr, sigma, shave=2),
        "psnr_constant": psnr_sigma(sr, hr, torch.full_like(sr, 0.05), shave=2),
        "sigma_r": sigma_r(sr, hr, sigma, shave=2),
    }
    for name, values in expected.items():
        assert torch.equal(found[name], values), name
    assert all(values.dtype == torch.float64 and values.shape == (3,) for values in found.values())


def test_values_do_not_depend_on_the_batch(weights: Path, images: dict[str, Tensor]) -> None:
    made = Scorer(PROTOCOLS["classical"], IMAGE_METRICS, scale=SCALE, weights_dir=weights, kernel=KERNEL)
    together = score_of(made, images)
    order = torch.tensor([2, 0, 1])
    shuffled = score_of(made, images, order)
    for name, values in together.items():
        assert torch.equal(score_of(made, images)[name], values), name
        torch.testing.assert_close(shuffled[name], values[order], atol=1e-6, rtol=0)
        for i in range(3):
            alone = score_of(made, images, slice(i, i + 1))[name]
            torch.testing.assert_close(alone, values[i : i + 1], atol=1e-6, rtol=0)


def test_what_lacks_weights_is_not_computed_and_the_rest_goes_on(tmp_path: Path, images: dict[str, Tensor]) -> None:
    made = Scorer(PROTOCOLS["classical"], list(METRICS), scale=SCALE, weights_dir=tmp_path, kernel=KERNEL)
    light = [name for name, metric in METRICS.items() if metric.cost == "light" and metric.level == "image"]
    assert made.metrics == light
    assert list(made.not_computed) == [name for name, metric in METRICS.items() if metric.cost != "light"]
    assert made.not_computed["fid"].startswith("weights-inception-2015-12-05-6726825d.pth is not there")
    assert made.not_computed["lpips_vgg"] == made.not_computed["dists"]
    assert all("\n" not in reason for reason in made.not_computed.values())
    assert list(score_of(made, images)) == light
    with pytest.raises(InputError, match=r"^no features: weights-inception-2015-12-05-6726825d\.pth is not there"):
        made.features(images["sr"])


def test_a_corrupt_file_is_the_reason(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "alexnet-owt-7be5be79.pth").write_bytes(b"not weights")
    made = Scorer(PROTOCOLS["classical"], ["psnr_y", "lpips_alex"], scale=SCALE, weights_dir=tmp_path)
    assert made.metrics == ["psnr_y"]
    assert "alexnet-owt-7be5be79.pth' is corrupt: its sha256 is" in made.not_computed["lpips_alex"]


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("lpips_alex", r"^lpips_alex: alexnet-owt-7be5be79\.pth is not there"),
        ("g_std.dists", r"^dists: vgg16-397923af\.pth is not there"),
        ("kid", r"^kid: weights-inception-2015-12-05-6726825d\.pth is not there"),
        ("consistency", "^consistency: LR images are not known"),
    ],
)
def test_strict_makes_it_an_error(metric: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Scorer(PROTOCOLS["classical"], ["psnr_y", metric], scale=SCALE, strict=True)


def test_the_packages_of_the_extra_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eval.metrics.perceptual.find_spec", lambda _: None)
    made = Scorer(PROTOCOLS["classical"], ["niqe", "musiq", "clipiqa"], scale=SCALE)
    assert made.metrics == []
    assert set(made.not_computed.values()) == {
        "package pyiqa is not installed: pip install 'sr-sweep[pyiqa]' (PolyForm Noncommercial licence)"
    }


def test_an_absent_input_is_said_and_left_out(images: dict[str, Tensor]) -> None:
    asked = ["psnr_y", "consistency", "pll", "psnr_sigma", "psnr_constant"]
    made = Scorer(PROTOCOLS["classical"], asked, scale=SCALE, kernel=KERNEL)
    no_sigma, no_constant = "the network predicts no sigma", "the network's file does not say how far SR misses"
    assert made.lacking(lr=True, sigma=True, constant=True) == {}
    assert made.lacking(lr=True, sigma=False, constant=True) == {"pll": no_sigma, "psnr_sigma": no_sigma}
    assert made.lacking(lr=False, sigma=True, constant=True) == {"consistency": "LR images are not known"}
    assert made.lacking(lr=True, sigma=True, constant=False)["psnr_constant"].startswith(no_constant)
    assert list(made.image(images["sr"], images["hr"])) == ["psnr_y"]
    assert list(made.image(images["sr"], images["hr"], images["lr"])) == ["psnr_y", "consistency"]
    without = Scorer(PROTOCOLS["classical"], ["psnr_y", "consistency"], scale=SCALE)
    assert without.not_computed == {"consistency": "LR images are not known"}
    assert list(without.image(images["sr"], images["hr"], images["lr"])) == ["psnr_y"]


def test_what_draws_need_is_what_an_image_needs() -> None:
    made = Scorer(PROTOCOLS["classical"], ["g_std.ssim_y", "l_std", "psnr_y", "g_std.psnr_y"], scale=SCALE)
    assert made.metrics == ["ssim_y", "psnr_y"]
    assert made.not_computed == {}


def test_a_sigma_of_one_channel_is_that_of_all(images: dict[str, Tensor]) -> None:
    made = Scorer(PROTOCOLS["classical"], ["pll", "psnr_sigma"], scale=SCALE)
    one = images["sigma"][:, :1]
    both = [made.image(images["sr"], images["hr"], None, sigma) for sigma in (one, one.expand(3, 3, 60, 50))]
    for name in ("pll", "psnr_sigma"):
        assert torch.equal(both[0][name], both[1][name])


def test_a_constant_sigma_has_no_value_beside_images_where_it_varies(images: dict[str, Tensor]) -> None:
    made = Scorer(PROTOCOLS["classical"], ["psnr_y", *UNCERTAINTY], scale=SCALE)
    images["sigma"][1] = 0.02
    found = score_of(made, images)
    for name, values in found.items():
        assert values.isnan().tolist() == [False, name in ("psnr_sigma", "sigma_r", "pll"), False], name


def test_consistency_uses_the_kernel_that_made_lr() -> None:
    for kernel, expected in (("files", KERNEL), ("matlab-bicubic-symmetric-float", "matlab-bicubic-symmetric-float")):
        assert Scorer(PROTOCOLS["classical"], ["consistency"], scale=SCALE, kernel=kernel).kernel == expected
    assert Scorer(PROTOCOLS["dream-face"], ["consistency"], scale=SCALE, kernel=KERNEL).kernel == "pil"
    assert Scorer(PROTOCOLS["classical"], ["psnr_y"], scale=SCALE).kernel is None
    with pytest.raises(InputError, match=r"unknown kernel 'bicubic'.*valid: files, matlab-bicubic-replicate-float"):
        Scorer(PROTOCOLS["classical"], ["psnr_y"], scale=SCALE, kernel="bicubic")


def test_unknown_metrics_are_refused() -> None:
    with pytest.raises(InputError, match="unknown metric 'psnr'; did you mean 'psnr_y'"):
        Scorer(PROTOCOLS["classical"], ["psnr"], scale=SCALE)
    assert set(all_metrics()) > set(METRICS)


def test_lpips_sees_the_range_of_the_protocol(weights: Path, images: dict[str, Tensor]) -> None:
    values = [
        Scorer(Protocol(name="p", lpips_range=kind), ["lpips_alex"], scale=SCALE, weights_dir=weights).image(
            images["sr"], images["hr"]
        )["lpips_alex"]
        for kind in ("signed", "unit")
    ]
    assert not torch.allclose(*values, rtol=0.01)


def test_features_are_of_whole_images_or_patches_in_8_bits(weights: Path, images: dict[str, Tensor]) -> None:
    sr = images["sr"].clamp(0, 1)
    whole = Scorer(PROTOCOLS["classical"], ["fid"], scale=SCALE, weights_dir=weights)
    pixels = (quantize(sr) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    found = whole.features(images["sr"])
    assert found.shape == (3, 2048) and found.dtype == torch.float32
    assert torch.equal(whole.features(pixels), found)
    by_patch = Protocol(name="p", fid_patch=32, fid_stride=16)
    cut = Scorer(by_patch, ["kid"], scale=SCALE, weights_dir=weights)
    assert cut.features(sr).shape == (3 * 2 * 2, 2048)
    expected = whole.features(patches(quantize(sr), 32, 16))
    torch.testing.assert_close(cut.features(sr), expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(InputError, match="50x60 px is too small for patches of 64x64 px"):
        Scorer(Protocol(name="p", fid_patch=64, fid_stride=64), ["fid"], scale=SCALE, weights_dir=weights).features(sr)
    with pytest.raises(InputError, match="neither fid nor kid was asked for"):
        Scorer(by_patch, ["psnr_y"], scale=SCALE).features(sr)


def test_reference_features_are_kept_by_content(weights: Path, images: dict[str, Tensor], tmp_path: Path) -> None:
    made = Scorer(PROTOCOLS["classical"], ["fid"], scale=SCALE, weights_dir=weights)
    pixels = (images["hr"] * 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    hashes = [pixels_sha256(image) for image in pixels]
    reads: list[int] = []

    def read(index: int) -> np.ndarray:
        reads.append(index)
        return pixels[index]

    first = made.reference_features(hashes, read, cache=tmp_path)
    again = made.reference_features(hashes, read, cache=tmp_path)
    assert reads == [0, 1, 2] and np.array_equal(first, again)
    torch.testing.assert_close(torch.from_numpy(first), made.features(to_float(pixels)), atol=1e-5, rtol=1e-5)
    by_patch = Scorer(Protocol(name="p", fid_patch=32, fid_stride=32), ["fid"], scale=SCALE, weights_dir=weights)
    assert by_patch.reference_features(hashes, read, cache=tmp_path).shape == (3, 2048)
    made.reference_features(hashes[::-1], read, cache=tmp_path)
    assert reads == [0, 1, 2] * 3


def test_reference_features_of_other_weights_are_others(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Scorer(PROTOCOLS["classical"], ["fid"], scale=SCALE, weights_dir=weights)
    calls: list[int] = []
    monkeypatch.setattr(made, "features", lambda _: (calls.append(1), torch.zeros(1, 2048))[1])
    inception = "weights-inception-2015-12-05-6726825d.pth"
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    for sha256, computed in (("a" * 64, 1), ("a" * 64, 1), ("b" * 64, 2)):
        monkeypatch.setitem(backbones.BACKBONES, inception, replace(backbones.BACKBONES[inception], sha256=sha256))
        made.reference_features(["hash"], lambda _: image, cache=tmp_path)
        assert len(calls) == computed


def test_images_that_do_not_fit_are_refused(weights: Path, images: dict[str, Tensor]) -> None:
    made = Scorer(PROTOCOLS["classical"], ["lpips_alex", "dists"], scale=SCALE, weights_dir=weights)
    sr, hr = images["sr"], images["hr"]
    with pytest.raises(InputError, match="one shape"):
        made.image(sr[..., 1:], hr)
    with pytest.raises(ValueError, match="SR holds values that are not finite"):
        made.image(sr * torch.nan, hr)
    with pytest.raises(InputError, match="lpips_alex needs 31 px a side, 30 are left inside the border"):
        made.image(sr[..., :34, :], hr[..., :34, :])
    with pytest.raises(InputError, match="too small for a border of 2 px"):
        made.image(sr[..., :4, :], hr[..., :4, :])


def test_arithmetic_is_exact_inside_and_restored(images: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    seen: list[bool] = []
    score = scorer.score

    def spy(*args: Tensor, **how: object) -> dict:
        seen.append(torch.backends.cudnn.allow_tf32)
        return score(*args, **how)

    monkeypatch.setattr(scorer, "score", spy)
    Scorer(PROTOCOLS["classical"], ["psnr_y"], scale=SCALE).image(images["sr"], images["hr"])
    assert seen == [False] and torch.backends.cudnn.allow_tf32
