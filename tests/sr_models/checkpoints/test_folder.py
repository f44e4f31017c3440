"""A saved network comes back bit for bit; anything less than a whole checkpoint is refused in one line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import sr_models
from sr_models.checkpoints.folder import CheckpointInfo, load_checkpoint, save_checkpoint
from sr_models.errors import InputError
from sr_models.hyper.process import ProcessParams
from sr_models.hyper.sampling import Sampling
from sr_models.networks.base import SRNetwork
from sr_models.networks.sigma import SigmaHead, WithSigma

HYPER = {"channels": 16, "blocks": 1}


def saved(folder: Path, sigma: bool = False) -> SRNetwork | WithSigma:
    net = sr_models.build("imdn", 2, **HYPER)
    module = WithSigma(net, SigmaHead(16, 2, width=4)) if sigma else net
    save_checkpoint(
        folder, module, model="imdn", scale=2, hyper=HYPER, sigma={"width": 4} if sigma else None,
        ema=sigma, fingerprint="abc",
    )  # fmt: skip
    return module


@pytest.mark.parametrize("sigma", [False, True])
def test_round_trip(tmp_path: Path, sigma: bool) -> None:
    module = saved(tmp_path / "deep" / "net", sigma)
    state = torch.get_rng_state()
    loaded, info = load_checkpoint(tmp_path / "deep" / "net")
    assert torch.equal(torch.get_rng_state(), state)
    assert type(loaded) is type(module)
    assert all(
        torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), module.state_dict().values(), strict=True)
    )
    head = {"width": 4, "depth": 4, "out_channels": 3, "detail_unit": None, "constant": None}
    assert info.sigma == (head if sigma else None)
    assert (info.model, info.scale, info.hyper, info.ema, info.fingerprint) == ("imdn", 2, HYPER, sigma, "abc")
    assert sorted(p.name for p in (tmp_path / "deep" / "net").iterdir()) == ["model.json", "model.safetensors"]


def test_the_same_weights_have_the_same_hash(tmp_path: Path) -> None:
    module = saved(tmp_path / "a")
    again = save_checkpoint(
        tmp_path / "b", module, model="imdn", scale=2, hyper=HYPER, sigma=None, ema=True, fingerprint=None
    )
    assert again.weights_sha256 == load_checkpoint(tmp_path / "a")[1].weights_sha256


def test_saving_over_a_checkpoint_replaces_it(tmp_path: Path) -> None:
    saved(tmp_path)
    second = saved(tmp_path)
    loaded, _ = load_checkpoint(tmp_path)
    assert torch.equal(next(loaded.parameters()), next(second.parameters()))


def spoil(folder: Path, how: str) -> None:
    info, tensors = folder / "model.json", folder / "model.safetensors"
    if how == "no json":
        info.unlink()
    elif how == "half json":
        info.write_text(info.read_text()[:40])
    elif how == "json list":
        info.write_text("[]")
    elif how == "no tensors":
        tensors.unlink()
    elif how == "cut tensors":
        tensors.write_bytes(tensors.read_bytes()[:-1])
    else:
        values = json.loads(info.read_text())
        key, value = {
            "other size": ("hyper", {"channels": 32, "blocks": 1}),
            "other model": ("model", "imdnn"),
            "other key": ("epoch", 3),
            "sigma": ("sigma", {"widht": 3}),
        }[how]
        info.write_text(json.dumps(values | {key: value}))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no json", "model.json' cannot be read: No such file"),
        ("half json", "model.json is corrupt"),
        ("json list", "expected a mapping"),
        ("no tensors", "model.safetensors' cannot be read: No such file"),
        ("cut tensors", "model.safetensors is corrupt or of another checkpoint"),
        ("other size", "the weights do not fit imdn x2: .*size mismatch"),
        ("other model", "unknown model 'imdnn'; did you mean 'imdn'"),
        ("other key", "unknown key 'epoch'"),
        ("sigma", "unknown key 'widht'; did you mean 'width'"),
    ],
)
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, how: str, message: str) -> None:
    saved(tmp_path)
    spoil(tmp_path, how)
    with pytest.raises(InputError, match=message) as caught:
        load_checkpoint(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_head_must_be_declared(tmp_path: Path) -> None:
    net = sr_models.build("imdn", 2, **HYPER)
    with pytest.raises(ValueError, match="exactly with a σ head"):
        save_checkpoint(tmp_path, net, model="imdn", scale=2, hyper=HYPER, sigma={}, ema=False, fingerprint=None)
    assert not list(tmp_path.iterdir())


def test_a_head_comes_back_as_it_was_trained(tmp_path: Path) -> None:
    net = sr_models.build("edsr_baseline", 2, **HYPER)
    module = WithSigma(net, SigmaHead(16, 2, width=4, detail_unit=8.0))
    about = {"model": "edsr_baseline", "scale": 2, "hyper": HYPER, "ema": False, "fingerprint": None}
    with pytest.raises(ValueError, match=r"the σ head has the detail_unit 8\.0, sigma says None"):
        save_checkpoint(tmp_path, module, sigma={"width": 4}, **about)
    save_checkpoint(tmp_path, module, sigma={"width": 4, "detail_unit": 8.0, "constant": 0.01}, **about)
    loaded, lr = load_checkpoint(tmp_path)[0], torch.rand(1, 3, 6, 7)
    assert torch.equal(loaded(lr)[1], module(lr)[1]) and loaded.head.constant == 0.01


def test_a_head_of_an_older_file_reads_features_as_they_are(tmp_path: Path) -> None:
    net = sr_models.build("edsr_baseline", 2, **HYPER)
    module = WithSigma(net, SigmaHead(16, 2, width=4))
    about = {"model": "edsr_baseline", "scale": 2, "hyper": HYPER, "ema": False, "fingerprint": None}
    save_checkpoint(tmp_path, module, sigma={"width": 4}, **about)
    values = json.loads((tmp_path / "model.json").read_text())
    values["sigma"] = {"width": 4, "depth": 4, "out_channels": 3}  # all that it said
    (tmp_path / "model.json").write_text(json.dumps(values))
    loaded, lr = load_checkpoint(tmp_path)[0], torch.rand(1, 3, 6, 7)
    assert torch.equal(loaded(lr)[1], module(lr)[1]) and loaded.head.constant is None


def test_model_json_to_the_byte_and_back(tmp_path):
    info = CheckpointInfo(
        model="imdn", scale=2, hyper={"channels": 8}, sigma=None, ema=False, fingerprint=None, weights_sha256="ab"
    )
    info.write(tmp_path)
    assert (tmp_path / "model.json").read_text() == (
        '{\n  "ema": false,\n  "fingerprint": null,\n  "hyper": {\n    "channels": 8\n  },\n  "model": "imdn",\n'
        '  "scale": 2,\n  "sigma": null,\n  "weights_sha256": "ab"\n}\n'
    )
    assert CheckpointInfo.read(tmp_path) == info


def test_what_gives_noise_is_loaded_by_those_who_ask_for_it_alone(tmp_path: Path) -> None:
    module = saved(tmp_path / "sr")
    about = {"model": "imdn", "scale": 2, "hyper": HYPER, "sigma": None, "ema": False, "fingerprint": None}
    save_checkpoint(tmp_path / "noise", module, **about, output="noise")
    assert "output" not in json.loads((tmp_path / "sr" / "model.json").read_text())
    loaded, info = load_checkpoint(tmp_path / "noise", output="noise")
    assert info.output == "noise" and torch.equal(next(loaded.parameters()), next(module.parameters()))
    for folder, asked, gives in (("noise", "sr", "noise"), ("sr", "noise", "sr")):
        with pytest.raises(InputError, match=f"{folder}' gives {gives}, where {asked} is expected"):
            load_checkpoint(tmp_path / folder, output=asked)


SR3 = {"channels": 8, "mults": (1, 2), "attention": (), "blocks": 1, "groups": 4}


def test_a_diffusion_network_comes_back_with_its_process(tmp_path: Path) -> None:
    net = sr_models.build("sr3", 4, **SR3)
    net.process = ProcessParams(T=1000, prediction="v", zero_terminal_snr=True)
    save_checkpoint(tmp_path, net, model="sr3", scale=4, hyper=SR3, sigma=None, ema=False, fingerprint=None)
    loaded, info = load_checkpoint(tmp_path)
    assert loaded.process == info.process == net.process
    assert json.loads((tmp_path / "model.json").read_text())["process"]["T"] == 1000


def test_a_folder_says_which_noise_levels_were_practised_where_these_are_not_all(tmp_path: Path) -> None:
    net, own = sr_models.build("sr3", 4, **SR3), Sampling(sampler="truncated", t_max=0.6, t_min=0.3)
    about: dict[str, Any] = {
        "model": "sr3", "scale": 4, "hyper": SR3, "sigma": None, "ema": False, "fingerprint": None
    }  # fmt: skip
    save_checkpoint(tmp_path / "part", net, **about, sampling=own)
    save_checkpoint(tmp_path / "all", net, **about)
    assert [load_checkpoint(tmp_path / name)[1].sampling for name in ("part", "all")] == [own, None]
    assert "sampling" not in json.loads((tmp_path / "all" / "model.json").read_text()), "as folders had it before"


def test_a_process_belongs_to_diffusion_networks_alone(tmp_path: Path) -> None:
    saved(tmp_path / "imdn")
    assert "process" not in json.loads((tmp_path / "imdn" / "model.json").read_text())
    net = sr_models.build("sr3", 4, **SR3)
    save_checkpoint(tmp_path / "sr3", net, model="sr3", scale=4, hyper=SR3, sigma=None, ema=False, fingerprint=None)
    for name, process, said in (("imdn", {}, "a process in model.json, for a regression"), ("sr3", None, "no process")):
        path = tmp_path / name / "model.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"process": process}))
        with pytest.raises(InputError, match=said):
            load_checkpoint(tmp_path / name)
