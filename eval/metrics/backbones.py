"""The weights that metrics are made of: which file, where it is looked for, whether it is the right one.

Nothing ever stands in for a file that cannot be had. The hashes of the three download files are public beside their
releases (https://pytorch.org/vision, https://github.com/toshas/torch-fidelity); those of files that packages ship were
taken from the packages.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from urllib.request import urlopen

import torch
from torch import Tensor

from sr_models.errors import InputError
from sr_models.files import replacing
from sr_models.images.files import sha256_file

VARIABLE = "SR_WEIGHTS_DIR"
"""Environment variable that names the folder of weights where --weights-dir does not."""

_STALL_S, _LIMIT_S = 15.0, 900.0  # a download may stand still, and may take in all


class Unavailable(InputError):
    """A metric lacks a file or a package. The message is the reason that scores record, in one line."""


class Corrupt(Unavailable):
    """A file is there, and is not the right one."""


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """One file of weights.

    serves: the metrics that need it. sha256: hex, or as many leading digits of it as are public. url: the library's own
    source. licence: of the weights. package: the installed package that ships the file, "" for a download.
    extra: whether only the extra [pyiqa] uses it.
    """

    serves: tuple[str, ...]
    sha256: str
    url: str
    licence: str
    package: str = ""
    extra: bool = False


_LPIPS = "https://github.com/richzhang/PerceptualSimilarity"
_IQA = "https://huggingface.co/chaofengc/IQA-PyTorch-Weights/resolve/main"
BACKBONES: dict[str, Backbone] = {
    "alexnet-owt-7be5be79.pth": Backbone(
        serves=("lpips_alex",),
        sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        licence="BSD-3-Clause",
    ),
    "vgg16-397923af.pth": Backbone(
        serves=("lpips_vgg", "dists"),
        sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        url="https://download.pytorch.org/models/vgg16-397923af.pth",
        licence="BSD-3-Clause",
    ),
    "weights-inception-2015-12-05-6726825d.pth": Backbone(
        serves=("fid", "kid"),
        sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
        licence="Apache-2.0",
    ),
    "weights/v0.1/alex.pth": Backbone(
        serves=("lpips_alex",),
        sha256="df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
        url=_LPIPS,
        licence="BSD-2-Clause",
        package="lpips",
    ),
    "weights/v0.1/vgg.pth": Backbone(
        serves=("lpips_vgg",),
        sha256="a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
        url=_LPIPS,
        licence="BSD-2-Clause",
        package="lpips",
    ),
    "weights.pt": Backbone(
        serves=("dists",),
        sha256="f5e65c96230b7f6ca995691647d482237e4cab8a50c5c4a5784f219ef0748218",
        url="https://github.com/dingkeyan93/DISTS",
        licence="MIT",
        package="DISTS_pytorch",
    ),
    "niqe_modelparameters.mat": Backbone(
        serves=("niqe",),
        sha256="fa2aa4d12dd9595c",  # no more digits of it are public
        url=f"{_IQA}/niqe_modelparameters.mat",
        licence="not stated",
        extra=True,
    ),
    "musiq_koniq_ckpt-e95806b9.pth": Backbone(
        serves=("musiq",),
        sha256="e95806b9eae5f3814c410f574ba8e552362bd5bc63d758ed5b97860f5d6185aa",
        url=f"{_IQA}/musiq_koniq_ckpt-e95806b9.pth",
        licence="Apache-2.0",
        extra=True,
    ),
    "RN50.pt": Backbone(
        serves=("clipiqa",),
        sha256="afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762",
        url="https://openaipublic.azureedge.net/clip/models/"
        "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762/RN50.pt",
        licence="MIT",
        extra=True,
    ),
}


class WeightFiles:
    """The weights of one process: each file is looked for, hashed and, where there is a network, fetched once."""

    def __init__(self, folder: Path | None = None) -> None:
        """`folder`: what --weights-dir says; without it, SR_WEIGHTS_DIR does. It must exist if it is given.

        Raises:
            InputError: no such folder.
        """
        given = folder or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)
        if given is not None and not given.is_dir():
            source = "--weights-dir" if folder else VARIABLE
            raise InputError(f"{source}: folder {str(given)!r} does not exist")
        self.folder = given
        self._found: dict[str, Path | Unavailable] = {}

    def path(self, name: str) -> Path:
        """A file of `BACKBONES`, its hash checked; fetched if it is nowhere.

        Raises:
            Unavailable: neither to be found nor to be fetched, or not the right file.
        """
        if name not in self._found:
            try:
                self._found[name] = self.locate(name) or self.fetch(name)
            except Unavailable as error:
                self._found[name] = error
        found = self._found[name]
        if isinstance(found, Unavailable):
            raise found
        return found

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors of a file, on the CPU; nothing else is unpickled. Raises Unavailable, as `path`."""
        loaded: dict[str, Tensor] = torch.load(self.path(name), map_location="cpu", weights_only=True)
        return loaded

    def locate(self, name: str) -> Path | None:
        """Where a file lies, its hash checked; None if nowhere. The first place that has one of this name decides.

        Raises:
            Corrupt: what lies there is not the right file, or cannot be read.
            Unavailable: the package that ships it is not installed.
        """
        path = next((place for place in self._places(name) if place.is_file()), None)
        if path is None:
            return None
        known = BACKBONES[name].sha256
        try:
            found = sha256_file(path)
        except InputError as error:
            raise Corrupt(str(error)) from None
        if not found.startswith(known):
            raise Corrupt(f"{str(path)!r} is corrupt: its sha256 is {found}, not {known}")
        return path

    def fetch(self, name: str) -> Path:
        """Download a file to where it will be looked for; it appears there whole and checked, or not at all.

        Raises:
            Unavailable: the download failed, took too long or brought something else; or a package ships the file.
        """
        backbone = BACKBONES[name]
        target = self._places(name)[0]
        if backbone.package:
            raise Unavailable(f"package {backbone.package} lacks its file {name}; install it again")
        try:
            with replacing(target) as part:
                found = _download(backbone.url, part)
                if not found.startswith(backbone.sha256):
                    raise OSError(f"what came has sha256 {found}")
        except (OSError, HTTPException) as error:  # urllib's errors are OSErrors, a cut answer is the latter
            raise Unavailable(
                f"{name} is not there and {backbone.url} could not be fetched ({error}); put the file (sha256 "
                f"{backbone.sha256}) into {str(target.parent)!r}, or into a folder named by --weights-dir or {VARIABLE}"
            ) from None
        return target

    def home(self, name: str) -> Path:
        """The folder that a file belongs into. Raises Unavailable where its package is not installed."""
        return self._places(name)[0].parent

    def _places(self, name: str) -> list[Path]:
        """Where a file may lie, in order; the first is where it is downloaded to."""
        package = BACKBONES[name].package
        if package:
            spec = find_spec(package)
            if spec is None or not spec.submodule_search_locations:
                raise Unavailable(f"package {package} is not installed")
            return [Path(spec.submodule_search_locations[0]) / name]
        hub = Path(torch.hub.get_dir())
        caches = [hub / "pyiqa", hub / "clip"] if BACKBONES[name].extra else []
        folders: Iterable[Path | None] = (self.folder, hub / "checkpoints", *caches)
        return [folder / name for folder in folders if folder is not None]


def _download(url: str, target: Path) -> str:
    """Write what `url` gives to `target`; returns its hex sha256. Raises OSError or HTTPException."""
    digest, deadline = hashlib.sha256(), time.monotonic() + _LIMIT_S
    with urlopen(url, timeout=_STALL_S) as answer, target.open("wb") as file:
        while chunk := answer.read(1 << 20):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not done after {_LIMIT_S:.0f} s")
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()
