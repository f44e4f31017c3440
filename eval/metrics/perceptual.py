"""How close SR looks to HR, or how good it looks alone: LPIPS, DISTS, and the no-reference metrics of pyiqa.

LPIPS 0.1 (https://arxiv.org/abs/1801.03924) and DISTS (https://arxiv.org/abs/2004.07728) are computed by their authors'
packages, `lpips` and `dists-pytorch`; here is only what keeps them from downloading by themselves, feeds them the right
range, and makes batches fast. NIQE, MUSIQ and CLIP-IQA come from `pyiqa` (extra [pyiqa], PolyForm Noncommercial 1.0.0).
Every metric takes float RGB in [0, 1] of shape (B, 3, H, W) and returns (B,) float64.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from eval.metrics.backbones import Unavailable, WeightFiles
from sr_models.errors import InputError
from sr_models.images.operators import check_images

_VGG = "vgg16-397923af.pth"
_ALEX = "alexnet-owt-7be5be79.pth"
_AT_ONCE_PX = {"alex": 2**20, "vgg": 2**19}  # larger batches are no faster, and VGG keeps 2.5 KB a pixel
SMALLEST_PX = {"alex": 31, "vgg": 16}
"""Side of the smallest image that a backbone sees: below, its last pooling has nothing left."""


class Lpips:
    """LPIPS 0.1 on one backbone, "alex" or "vgg"."""

    def __init__(self, net: str, *, files: WeightFiles, device: torch.device | str, signed: bool = True) -> None:
        """`signed`: feed [-1, 1], as LPIPS was trained; else [0, 1]. Raises Unavailable where weights lack."""
        import lpips

        self._net, self._signed = net, signed
        tensors = files.tensors(_ALEX if net == "alex" else _VGG)
        files.path(f"weights/v0.1/{net}.pth")  # the heads, which the package loads by itself
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*(pretrained|weight).*deprecated", category=UserWarning)
            self._lpips = lpips.LPIPS(net=net, version="0.1", pnet_rand=True, verbose=False)
        slices = self._lpips.net
        slices.load_state_dict({key: tensors[f"features.{key.partition('.')[2]}"] for key in slices.state_dict()})
        self._lpips.requires_grad_(False).to(memory_format=torch.channels_last).to(device)

    def __call__(self, sr_BCHW: Tensor, hr_BCHW: Tensor) -> Tensor:
        """(B,) distances. Raises InputError for unequal or too small images, ValueError outside of [0, 1]."""
        _check(sr_BCHW, hr_BCHW, f"lpips_{self._net}", SMALLEST_PX[self._net])
        return _in_parts(self._measure, sr_BCHW, hr_BCHW, _AT_ONCE_PX[self._net])

    def between(self, a_BCHW: Tensor, b_BCHW: Tensor) -> Tensor:
        """(B,) distances of pictures in [-1, 1] and beyond, with a gradient of theirs: to train by."""
        distances: Tensor = self._lpips(a_BCHW, b_BCHW)
        return distances.flatten()

    def _measure(self, sr_BCHW: Tensor, hr_BCHW: Tensor) -> Tensor:
        pair = [x.to(memory_format=torch.channels_last, copy=True) for x in (sr_BCHW, hr_BCHW)]
        if self._signed:
            for x in pair:
                x.mul_(2).sub_(1)
            assert all(low >= -1 and high <= 1 for low, high in map(torch.aminmax, pair))
        distances: Tensor = self._lpips(*pair)
        return distances.flatten()


class Dists:
    """DISTS on VGG16."""

    def __init__(self, *, files: WeightFiles, device: torch.device | str) -> None:
        """Raises Unavailable where weights or the package lack."""
        calibration = files.tensors("weights.pt")
        tensors = files.tensors(_VGG)
        self._dists = _dists(tensors, calibration).to(device)

    def __call__(self, sr_BCHW: Tensor, hr_BCHW: Tensor) -> Tensor:
        """(B,) distances; arguments and errors as in `Lpips`."""
        _check(sr_BCHW, hr_BCHW, "dists", SMALLEST_PX["vgg"])
        return _in_parts(self._measure, sr_BCHW, hr_BCHW, _AT_ONCE_PX["vgg"])

    def _measure(self, sr_BCHW: Tensor, hr_BCHW: Tensor) -> Tensor:
        distances: Tensor = self._dists(*(x.contiguous(memory_format=torch.channels_last) for x in (sr_BCHW, hr_BCHW)))
        return distances.reshape(-1)  # the package returns a bare number for one image


def _dists(vgg: dict[str, Tensor], calibration: dict[str, Tensor]) -> nn.Module:
    """The package's DISTS around a VGG16 of ours: its constructor would download one."""
    from DISTS_pytorch.DISTS_pt import DISTS, L2pooling
    from torchvision.models.vgg import cfgs, make_layers

    with torch.random.fork_rng(devices=[]):
        layers = make_layers(cfgs["D"])
    layers.load_state_dict({key: vgg[f"features.{key}"] for key in layers.state_dict()})
    model = DISTS.__new__(DISTS)
    nn.Module.__init__(model)
    model.chns = [3, 64, 128, 256, 512, 512]
    stages = ((0, 4), (4, 9), (9, 16), (16, 23), (23, 30))
    for number, (first, end) in enumerate(stages, start=1):
        stage = [
            L2pooling(channels=model.chns[number - 1]) if isinstance(layer, nn.MaxPool2d) else layer
            for layer in layers[first:end]
        ]
        setattr(model, f"stage{number}", nn.Sequential(*stage))
    model.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
    model.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
    model.alpha, model.beta = (nn.Parameter(calibration[name]) for name in ("alpha", "beta"))
    return model.requires_grad_(False).eval().to(memory_format=torch.channels_last)


class NoReference:
    """NIQE, MUSIQ (KonIQ-10k) or CLIP-IQA (RN50) of pyiqa, with the weights that we checked."""

    def __init__(self, name: str, *, files: WeightFiles, device: torch.device | str) -> None:
        """Raises Unavailable where weights or the package lack."""
        if find_spec("pyiqa") is None:
            raise Unavailable(
                "package pyiqa is not installed: pip install 'sr-sweep[pyiqa]' (PolyForm Noncommercial licence)"
            )
        import pyiqa

        if name == "niqe":
            options = {"pretrained_model_path": str(files.path("niqe_modelparameters.mat"))}
        elif name == "musiq":
            files.tensors("musiq_koniq_ckpt-e95806b9.pth")  # shows that there is nothing to execute in it
            options = {"pretrained_model_path": str(files.path("musiq_koniq_ckpt-e95806b9.pth"))}
        else:
            options = {"backbone": str(files.path("RN50.pt"))}
        self._name = name
        with torch.random.fork_rng(devices=[]), redirect_stdout(sys.stderr):
            self._metric = pyiqa.create_metric(name, device=torch.device(device), **options)

    def __call__(self, sr_BCHW: Tensor) -> Tensor:
        """(B,) scores, one image at a time: pyiqa's batches may differ. Errors as in `Lpips`."""
        _check(sr_BCHW, sr_BCHW, self._name, 96)
        with torch.no_grad():
            return torch.cat([self._metric(sr_1CHW).reshape(1).double() for sr_1CHW in sr_BCHW.split(1)]).cpu()


def _check(sr_BCHW: Tensor, hr_BCHW: Tensor, name: str, smallest_px: int) -> None:
    for image, what in ((sr_BCHW, "SR"), (hr_BCHW, "HR")):
        check_images(image, what)
        low, high = map(float, torch.aminmax(image))
        if not (low >= 0 and high <= 1):
            raise ValueError(f"{name} expects {what} in [0, 1], got {low:g} to {high:g}")
    if sr_BCHW.shape != hr_BCHW.shape:
        raise InputError(f"SR and HR must have one shape, got {tuple(sr_BCHW.shape)} and {tuple(hr_BCHW.shape)}")
    if min(sr_BCHW.shape[-2:]) < smallest_px:
        raise InputError(
            f"image is too small: {name} needs {smallest_px} px a side, {min(sr_BCHW.shape[-2:])} are left "
            f"inside the border"
        )


@torch.no_grad()
def _in_parts(measure: Callable[[Tensor, Tensor], Tensor], sr: Tensor, hr: Tensor, at_once_px: int) -> Tensor:
    """A batch in parts of at most `at_once_px` pixels, or single images; (B,) float64 on the CPU."""
    count = max(at_once_px // (sr.shape[-2] * sr.shape[-1]), 1)
    parts = zip(sr.split(count), hr.split(count), strict=True)
    return torch.cat([measure(*(x.float() for x in part)).double() for part in parts]).cpu()
