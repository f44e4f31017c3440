"""Files of other projects: recognised, run as spandrel runs them, trained as ours; or refused in one line."""

import pickle

import pytest
import torch

import sr_models
from sr_models.checkpoints import published, zoo
from sr_models.checkpoints.folder import load_checkpoint, save_checkpoint
from sr_models.errors import InputError
from sr_models.inference.super_resolve import super_resolve
from sr_models.networks.base import parameters

spandrel = pytest.importorskip("spandrel")

WINDOWS = {
    "upscale": 2,
    "embed_dim": 12,
    "num_heads": [2],
    "window_size": 8,
    "mlp_ratio": 2,
    "upsampler": "pixelshuffle",
}


def released(architecture: str, network: str, **arguments):
    """A small network of an architecture, as its authors' class makes it."""
    module = __import__(f"spandrel.architectures.{architecture}", fromlist=[network])
    torch.manual_seed(0)
    return getattr(module, network)(**arguments)


NETWORKS = {
    "HAT": lambda: released("HAT", "HAT", depths=[1], num_feat=8, squeeze_factor=4, overlap_ratio=0.5, **WINDOWS),
    "DAT": lambda: released(
        "DAT", "DAT", upscale=2, embed_dim=32, depth=[1], num_heads=[2], split_size=[8, 8], expansion_factor=2.0
    ),
    "SwinIR": lambda: released("SwinIR", "SwinIR", depths=[2], **WINDOWS),
    "Compact": lambda: released("Compact", "Compact", num_feat=8, num_conv=1, upscale=2),
}


def saved(name, tmp_path):
    net, path = NETWORKS[name](), tmp_path / f"{name}.pth"
    torch.save({"params_ema": net.state_dict()}, path)
    return net, path


@pytest.mark.parametrize("name", NETWORKS)
def test_a_file_is_recognised_and_computes_what_its_own_code_does(name, tmp_path):
    theirs, path = saved(name, tmp_path)
    hyper, _ = zoo.read(path)
    assert (hyper.architecture, hyper.factor) == (name, 2)
    ours = published.load_weights(path, model="zoo", scale=2, hyper=hyper.model_dump())
    assert parameters(ours) == hyper.cost == parameters(theirs)
    lr = torch.rand(1, 3, 24, 40)
    with torch.no_grad():
        assert torch.equal(super_resolve(ours, lr).sr, theirs.eval()(lr).clamp(0, 1))
    assert super_resolve(ours, torch.rand(1, 3, 11, 19)).sr.shape == (1, 3, 22, 38)  # smaller than HAT takes


def test_it_is_trained_saved_and_loaded_without_its_file(tmp_path):
    _, path = saved("HAT", tmp_path)
    hyper = zoo.read(path)[0].model_dump()
    net = sr_models.build("zoo", 2, **hyper)
    published.initialise(net, published.read(path, model="zoo"))
    path.unlink()
    lr = torch.rand(1, 3, 16, 16)
    first, again = net(lr), net(lr)
    assert net.training and torch.equal(first, again)  # no stochastic depth
    first.mean().backward()
    assert all(p.grad is not None for p in net.parameters())
    save_checkpoint(tmp_path / "net", net, model="zoo", scale=2, hyper=hyper, sigma=None, ema=False, fingerprint=None)
    same, info = load_checkpoint(tmp_path / "net")
    assert info.hyper == hyper and torch.equal(same.eval()(lr), net.eval()(lr))


class Runs:
    def __reduce__(self):
        return print, ("this must not run",)


def test_what_cannot_be_used_is_one_line(tmp_path, capsys):
    unsafe = tmp_path / "unsafe.pth"
    torch.save({"params": Runs()}, unsafe, pickle_module=pickle)
    with pytest.raises(InputError, match=r"refused, because opening it would run code \(print\)"):
        zoo.read(unsafe)
    grey = tmp_path / "grey.pth"
    net = released("Compact", "Compact", num_in_ch=1, num_out_ch=1, num_feat=8, num_conv=1, upscale=2)
    torch.save(net.state_dict(), grey)
    with pytest.raises(InputError, match="takes 1 channels to 1, a network of grey pictures; RGB to RGB"):
        zoo.read(grey)
    other = tmp_path / "other.pth"
    torch.save({"a.weight": torch.zeros(2)}, other)
    with pytest.raises(InputError, match=r"no architecture that spandrel .* knows \(keys: a.weight"):
        zoo.read(other)
    hyper = zoo.read(saved("Compact", tmp_path)[1])[0].model_dump()
    with pytest.raises(InputError, match="these Compact weights are of x2, not x4"):
        sr_models.build("zoo", 4, **hyper)
    with pytest.raises(InputError, match="knows no Compact network 'Sequential'"):
        sr_models.build("zoo", 2, **hyper | {"network": "Sequential"})
    with pytest.raises(InputError, match="this Compact has factor 2, multiple 1, got 4 and 1"):
        sr_models.build("zoo", 4, **hyper | {"factor": 4})
    assert "this must not run" not in capsys.readouterr().out


def test_a_lacking_extra_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("sr_models.networks.zoo.find_spec", lambda _name: None)
    with pytest.raises(InputError, match=r"need spandrel: pip install 'sr-sweep\[zoo\]'"):
        zoo.read(saved("Compact", tmp_path)[1])
