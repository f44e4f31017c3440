"""Random weights in the places of the real ones, and no network: what the tests of backbones stand on."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import Tensor, nn

from eval.metrics import backbones
from sr_models.images.files import sha256_file

ALEX, VGG = "alexnet-owt-7be5be79.pth", "vgg16-397923af.pth"
INCEPTION = "weights-inception-2015-12-05-6726825d.pth"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing is downloaded, and neither a cache nor a folder of the machine's own is looked into."""

    def refuse(*_: object, **__: object) -> None:
        raise URLError("tests have no network")

    monkeypatch.setattr(backbones, "urlopen", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch_home")))
    monkeypatch.delenv(backbones.VARIABLE, raising=False)


def _live(net: nn.Module) -> dict[str, Tensor]:
    """Random weights that keep the size of activations, as trained ones do."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
    return net.state_dict()


@pytest.fixture(scope="session")
def random_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with AlexNet and VGG16 (convolutions only) and the whole Inception, randomly initialised."""
    from torch_fidelity import feature_extractor_inceptionv3 as inception

    folder = tmp_path_factory.mktemp("random_weights")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for name, layers in (
            (ALEX, torchvision.models.alexnet().features),
            (VGG, torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"])),
        ):
            torch.save({f"features.{key}": value for key, value in _live(layers).items()}, folder / name)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: {})
            patch.setattr(inception.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
            torch.save(_live(inception.FeatureExtractorInceptionV3("inception", ["2048"])), folder / INCEPTION)
    return folder


@pytest.fixture
def weights(random_files: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That folder, and a table of hashes that takes its files for the right ones."""
    for name in (ALEX, VGG, INCEPTION):
        right = replace(backbones.BACKBONES[name], sha256=sha256_file(random_files / name))
        monkeypatch.setitem(backbones.BACKBONES, name, right)
    return random_files


@pytest.fixture
def torchvision_nets(random_files: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torchvision's `alexnet` and `vgg16`, however called, bring those random weights: for calling packages bare."""

    def bring(make: Callable[[], nn.Module], name: str) -> Callable[..., nn.Module]:
        def made(**_: object) -> nn.Module:
            net = nn.Module()
            net.features = make()
            net.load_state_dict(torch.load(random_files / name, weights_only=True))
            return net

        return made

    alex, vgg = torchvision.models.alexnet, torchvision.models.vgg
    monkeypatch.setattr(torchvision.models, "alexnet", bring(lambda: alex().features, ALEX))
    monkeypatch.setattr(torchvision.models, "vgg16", bring(lambda: vgg.make_layers(vgg.cfgs["D"]), VGG))
    yield
