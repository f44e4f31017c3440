"""What `--model` and its options load: the network, its test set, and what its rows will say of it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sr_models
from eval.asked import load, set_name
from eval.protocol import PROTOCOLS
from eval.request import ModelRequest
from sr_models.checkpoints.folder import save_checkpoint
from sr_models.errors import InputError
from sr_models.hyper.process import ProcessParams
from sr_models.hyper.sampling import Sampling
from sr_models.images.files import sha256_file
from sr_models.inference.super_resolve import Options

HYPER = {"channels": 16, "blocks": 1}


@pytest.fixture
def hr(tmp_path: Path) -> Path:
    place = tmp_path / "mine" / "X2" / "HR"
    place.mkdir(parents=True)
    Image.fromarray(np.zeros((20, 24, 3), np.uint8)).save(place / "a.png")
    return place


def request_of(hr: Path, **over: Any) -> ModelRequest:
    values: dict[str, Any] = {
        "protocol": PROTOCOLS["classical"], "metrics": ("psnr_y",), "scale": 2, "hr": hr, "lr": None,
        "include": (), "exclude": (),
        "weights_dir": None, "strict": False, "json": None, "parquet": None, "per_image": False, "model": "bicubic",
        "kernel": None, "weights": None, "weights_key": None, "hyper": {}, "seed": 7, "precision": "fp32",
        "channels_last": False, "compile": False, "tile": None, "overlap": None, "self_ensemble": False,
        "sampling": None, "crops": None, "save_images": None, "pictures": None,
    }  # fmt: skip
    return ModelRequest(**values | over)


def test_a_network_without_weights(hr: Path) -> None:
    asked = load(request_of(hr))
    about = asked.subject
    assert (about.identity.model, about.identity.weights, about.identity.fingerprint) == ("bicubic", "none", "")
    assert (about.identity.objective, about.identity.seed) == ("-", -1), "no trial of ours need have made it"
    assert (about.weights_sha256, about.hyper, about.seed) == (None, "{}", 7)
    assert (about.benchmark, about.protocol) == ("mine", PROTOCOLS["classical"].id(2))
    assert about.kernel == asked.benchmark.kernel and len(asked.benchmark.pairs) == 1
    assert about.options == Options()


def test_released_weights_are_named_by_their_file_and_hyperparameters_are_complete(hr: Path, tmp_path: Path) -> None:
    net, path = sr_models.build("imdn", 2, **HYPER), tmp_path / "net.pth"
    torch.save(net.state_dict(), path)
    asked = load(request_of(hr, model="imdn", weights=path, hyper=HYPER))
    assert (asked.subject.identity.weights, asked.subject.identity.fingerprint) == ("released", "")
    assert asked.subject.weights_sha256 == sha256_file(path)
    assert json.loads(asked.subject.hyper) == sr_models.check("imdn", 2, HYPER).model_dump()
    assert all(torch.equal(a, b) for a, b in zip(asked.model.parameters(), net.parameters(), strict=True))


def test_weights_of_one_file_that_are_asked_for_by_their_keys_have_keys_of_their_own(hr: Path, tmp_path: Path) -> None:
    nets, path = {key: sr_models.build("imdn", 2, **HYPER) for key in ("params", "params_ema")}, tmp_path / "net.pth"
    torch.save({key: net.state_dict() for key, net in nets.items()}, path)
    subjects = {}
    for key in (None, *nets):
        asked = load(request_of(hr, model="imdn", weights=path, weights_key=key, hyper=HYPER))
        subjects[key] = asked.subject
        taken = nets[key or "params_ema"].state_dict()
        assert all(torch.equal(taken[name], value) for name, value in asked.model.state_dict().items())
    sha256 = sha256_file(path)
    assert [subject.weights_sha256 for subject in subjects.values()] == [
        sha256,
        f"{sha256}:params",
        f"{sha256}:params_ema",
    ]
    for name in (lambda one: one.key("a", "c" * 64, "d" * 64, ["psnr_y"]), lambda one: one.content):
        assert len({name(subject) for subject in subjects.values()}) == 3


@pytest.mark.parametrize(("ema", "weights"), [(False, "raw"), (True, "ema")])
def test_a_folder_of_ours_says_itself_what_it_holds(hr: Path, tmp_path: Path, ema: bool, weights: str) -> None:
    about = {"model": "imdn", "scale": 2, "hyper": HYPER, "sigma": None, "ema": ema, "fingerprint": "f" * 64}
    saved = save_checkpoint(tmp_path / "ours", sr_models.build("imdn", 2, **HYPER), **about)
    subject = load(request_of(hr, model="imdn", weights=tmp_path / "ours")).subject
    assert (subject.identity.weights, subject.identity.fingerprint) == (weights, "f" * 64)
    assert subject.weights_sha256 == saved.weights_sha256 and json.loads(subject.hyper) == HYPER


def test_how_it_computes_is_what_was_asked_for(hr: Path) -> None:
    given = {"precision": "bf16", "channels_last": True, "compile": True, "tile": 9, "self_ensemble": True}
    asked = load(request_of(hr, **given, overlap=0)).subject
    assert asked.options == Options(**given, overlap=0)
    assert asked.protocol == "classical-y-b2+tile9o0+x8+bf16"
    assert load(request_of(hr, **given)).subject.options.overlap == Options.overlap


def test_weights_of_another_network_are_refused(hr: Path, tmp_path: Path) -> None:
    torch.save(sr_models.build("imdn", 2, **HYPER).state_dict(), tmp_path / "net.pth")
    with pytest.raises(InputError, match=r"net\.pth"):
        load(request_of(hr, model="edsr", weights=tmp_path / "net.pth"))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/data/Set5/X4/HR", "Set5"), ("/data/Set5/hr", "Set5"), ("/data/Set14", "Set14"),
        ("/data/Urban100/4", "Urban100"), ("/data/Set5/GT/x2", "Set5"), ("/data/Set5/HR2", "HR2"),
    ],
)  # fmt: skip
def test_a_set_is_named_after_its_folder(path: str, name: str) -> None:
    assert set_name(Path(path)) == name


def test_a_diffusion_network_is_asked_for_with_its_process_and_all_its_steps(hr: Path, tmp_path: Path) -> None:
    hyper = {"channels": 8, "mults": (1, 2), "attention": (), "blocks": 1, "groups": 4}
    net = sr_models.build("sr3", 2, **hyper)
    net.process = ProcessParams(T=50, beta_end=0.2)
    save_checkpoint(tmp_path / "net", net, model="sr3", scale=2, hyper=hyper, sigma=None, ema=False, fingerprint="ab")
    about = load(request_of(hr, model="sr3", weights=tmp_path / "net", sampling=Sampling(sampler="ddim"))).subject
    assert about.options.sampling == Sampling(sampler="ddim", steps=50)
    assert ProcessParams.model_validate_json(about.process) == net.process
    assert about.protocol == PROTOCOLS["classical"].id(2) + "+ddim50"
    other = replace(about, process="")
    assert other.content != about.content and other.key("a", "l", "h", ["psnr_y"]) == about.key(
        "a", "l", "h", ["psnr_y"]
    )
    with pytest.raises(InputError, match="the process has 50 steps, fewer than steps=51"):
        load(request_of(hr, model="sr3", weights=tmp_path / "net", sampling=Sampling(steps=51)))
