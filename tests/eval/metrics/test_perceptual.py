"""LPIPS, DISTS and pyiqa's metrics equal their packages on the same random weights, and do not depend on the batch."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from eval.metrics import perceptual
from eval.metrics.backbones import BACKBONES, Unavailable, WeightFiles
from eval.metrics.perceptual import Dists, Lpips, NoReference
from sr_models.errors import InputError
from sr_models.images.files import sha256_file


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    """Five pairs of 61x47 px in [0, 1], each with another amount of noise."""
    draw = torch.Generator().manual_seed(0)
    hr = torch.rand(5, 3, 61, 47, generator=draw)
    noise = torch.randn(hr.shape, generator=draw) * torch.linspace(0.02, 0.3, 5).view(5, 1, 1, 1)
    return (hr + noise).clamp(0, 1), hr


def metrics(weights: Path) -> dict:
    files = WeightFiles(weights)
    return {
        "alex": Lpips("alex", files=files, device="cpu"),
        "vgg": Lpips("vgg", files=files, device="cpu"),
        "dists": Dists(files=files, device="cpu"),
    }


@pytest.mark.filterwarnings("ignore:.*deprecated:UserWarning")
@pytest.mark.usefixtures("torchvision_nets")
def test_equal_to_the_packages(weights: Path, pair: tuple[Tensor, Tensor]) -> None:
    import lpips
    from DISTS_pytorch import DISTS

    ours = metrics(weights)
    with torch.no_grad():
        for net in ("alex", "vgg"):
            bare = lpips.LPIPS(net=net, verbose=False)
            signed = bare(*(2 * x - 1 for x in pair)).flatten().double()
            assert signed.min() > 1e-4  # random weights see a difference
            torch.testing.assert_close(ours[net](*pair), signed, atol=1e-6, rtol=0)
            as_dream = Lpips(net, files=WeightFiles(weights), device="cpu", signed=False)
            torch.testing.assert_close(as_dream(*pair), bare(*pair).flatten().double(), atol=1e-6, rtol=0)
            assert not torch.allclose(as_dream(*pair), ours[net](*pair), rtol=0.01)
        expected = DISTS()(*pair).double()
        assert expected.min() > 1e-5
        torch.testing.assert_close(ours["dists"](*pair), expected, atol=1e-6, rtol=0)


def test_neither_the_batch_nor_its_parts_matter(
    weights: Path, pair: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    sr, hr = pair
    order = torch.tensor([3, 1, 4, 0, 2])
    for metric in metrics(weights).values():
        together = metric(sr, hr)
        assert torch.equal(metric(sr, hr), together)
        torch.testing.assert_close(metric(sr[order], hr[order]), together[order], atol=1e-6, rtol=0)
        alone = torch.cat([metric(sr[i : i + 1], hr[i : i + 1]) for i in range(5)])
        torch.testing.assert_close(alone, together, atol=1e-6, rtol=0)
        assert together.dtype == torch.float64
    monkeypatch.setattr(perceptual, "_AT_ONCE_PX", {"alex": 2 * 61 * 47, "vgg": 1})
    for (name, metric), parts in zip(metrics(weights).items(), (3, 5, 5), strict=True):
        calls: list[int] = []
        measure = metric._measure
        monkeypatch.setattr(metric, "_measure", lambda x, y, m=measure, c=calls: (c.append(len(x)), m(x, y))[1])
        assert len(metric(sr, hr)) == 5 and len(calls) == parts, name


def test_equal_images_are_at_distance_zero_and_the_order_does_not_matter(
    weights: Path, pair: tuple[Tensor, Tensor]
) -> None:
    sr, hr = pair
    for metric in metrics(weights).values():
        torch.testing.assert_close(metric(hr, hr), torch.zeros(5, dtype=torch.float64), atol=1e-6, rtol=0)
        torch.testing.assert_close(metric(sr, hr), metric(hr, sr), atol=1e-6, rtol=0)


def test_building_a_metric_draws_nothing_from_the_global_generator(weights: Path) -> None:
    before = torch.random.get_rng_state()
    metrics(weights)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_wrong_images_are_refused(weights: Path, pair: tuple[Tensor, Tensor]) -> None:
    sr, hr = pair
    for name, metric in metrics(weights).items():
        with pytest.raises(ValueError, match=r"expects SR in \[0, 1\], got -1 to "):
            metric(sr * 2 - 1 - (sr * 2 - 1).min() - 1, hr)
        with pytest.raises(ValueError, match=r"expects HR in \[0, 1\], got .* to 1.5"):
            metric(sr, hr.clamp(max=0.9).index_fill(0, torch.tensor([0]), 1.5))
        with pytest.raises(ValueError, match="in"):
            metric(sr * torch.nan, hr)
        with pytest.raises(InputError, match="one shape"):
            metric(sr, hr[..., 1:])
        smallest = 31 if name == "alex" else 16
        assert metric(sr[..., :smallest, :], hr[..., :smallest, :]).shape == (5,)
        with pytest.raises(InputError, match=f"needs {smallest} px a side, {smallest - 1} are left"):
            metric(sr[..., : smallest - 1, :], hr[..., : smallest - 1, :])


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    files = WeightFiles(tmp_path)
    with pytest.raises(Unavailable, match=r"^alexnet-owt-7be5be79.pth is not there .*sha256 7be5be79.*--weights-dir"):
        Lpips("alex", files=files, device="cpu")
    with pytest.raises(Unavailable, match=r"^vgg16-397923af.pth is not there"):
        Dists(files=files, device="cpu")


def test_a_metric_of_the_extra_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptual, "find_spec", lambda _: None)
    with pytest.raises(Unavailable, match=r"pip install 'sr-sweep\[pyiqa\]' \(PolyForm Noncommercial licence\)"):
        NoReference("niqe", files=WeightFiles(tmp_path), device="cpu")


@pytest.mark.parametrize("name", ["niqe", "musiq"])
def test_equal_to_pyiqa(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyiqa = pytest.importorskip("pyiqa", reason="needs the extra [pyiqa]")
    import scipy.io
    from pyiqa.archs.musiq_arch import MUSIQ

    torch.manual_seed(0)
    if name == "niqe":
        path, draw = tmp_path / "niqe_modelparameters.mat", np.random.default_rng(0)
        root = draw.normal(size=(36, 36))
        scipy.io.savemat(path, {"mu_prisparam": draw.normal(size=(1, 36)), "cov_prisparam": root @ root.T})
    else:
        path = tmp_path / "musiq_koniq_ckpt-e95806b9.pth"
        torch.save(MUSIQ(pretrained=False).state_dict(), path)
    monkeypatch.setitem(
        BACKBONES,
        path.name,
        BACKBONES[path.name].__class__(**vars(BACKBONES[path.name]) | {"sha256": sha256_file(path)}),
    )
    images = torch.rand(2, 3, 224, 200)
    ours = NoReference(name, files=WeightFiles(tmp_path), device="cpu")(images)
    bare = pyiqa.create_metric(name, device=torch.device("cpu"), pretrained_model_path=str(path))
    expected = torch.cat([bare(image).reshape(1) for image in images.split(1)])
    torch.testing.assert_close(ours, expected.double(), atol=1e-6, rtol=1e-6)
