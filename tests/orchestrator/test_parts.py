"""Frozen parts through a sweep: ordered, known by their hashes, in no weights; loaded wherever pictures are drawn."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

import eval.command
from orchestrator import ingredients
from orchestrator.data.build import build_store
from orchestrator.ingredients import Ingredients
from orchestrator.plan import plan as planning
from orchestrator.plan.config import SweepConfig
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.read import load
from orchestrator.plan.sources import ImageSource
from orchestrator.plan.weights import Weights
from orchestrator.run.driver import home_of
from orchestrator.run.folder import STORES, RunDir
from orchestrator.training.loop import run_trial
from sr_models.checkpoints.folder import load_checkpoint
from sr_models.checkpoints.parts import packed
from sr_models.errors import InputError
from sr_models.hyper.process import ProcessParams
from sr_models.hyper.sampling import Sampling
from sr_models.inference.super_resolve import Options, super_resolve

TINY: dict[str, Any] = {
    "channels": 8, "mults": [1, 1], "blocks": 1, "embed": 8, "heads": 2, "mlp_ratio": 2, "attention_window": 2,
    "side": 8, "groups": 4,
}  # fmt: skip
BASE: dict[str, Any] = {
    "name": "s", "scales": [4], "objectives": ["ddpm"], "process": {"T": 30, "beta_end": 0.5, "kept": 6},
    "train": {"steps": 4, "batch_size": 2, "patch": 8, "validate_every": 2},
    "validation": {"images": 1, "crop": 16, "steps": 3},
    "data": {"train": [{"hr": "a"}], "validation": [{"hr": "b"}], "test": {"c": {"hr": "c"}}},
}  # fmt: skip
SMALL = {"channels": 8, "blocks": 1}


def planned(autoencoder: Any, **changes: Any) -> Plan:
    models = {"mine": {"model": "resshift", "autoencoder": autoencoder, **TINY}}
    return make_plan(SweepConfig.parse(BASE | {"models": models} | changes, "test"))


def session(folder: Path, plan: Plan) -> Any:
    run = RunDir(folder / "out" / "s-01234567")
    run.make()
    run.config.touch()
    return SimpleNamespace(plan=plan, config=plan.config, run=run, home=home_of(run, None))


def test_a_part_is_no_hyperparameter_until_its_hash_is_known(stand_in: Path, tmp_path: Path) -> None:
    """Its file's name is in no trial: the same part elsewhere is the same trial."""
    prints = set()
    for name in ("one", "other"):
        torch.save(safetensors.torch.load_file(stand_in), tmp_path / f"{name}.pth")
        plan = planned(str(tmp_path / f"{name}.pth"))
        [one] = plan.combinations
        assert (one.hyper["autoencoder"], one.hyper["autoencoder_sha256"], one.after) == (None, None, ())
        known = Ingredients(data_hash={4: "d" * 64})
        assert not known.hold(one)
        own = session(tmp_path / name, plan)
        known = Ingredients(data_hash=known.data_hash, parts=ingredients.frozen_parts(own, known))
        assert known.hold(one) and ingredients.frozen_parts(own, known) == known.parts
        trial, sha256 = known.trial(plan, one, {}, 1), packed(stand_in)[0]
        assert (trial.hyper["autoencoder"], trial.hyper["autoencoder_sha256"]) == (None, sha256)
        assert packed(own.run.init(sha256))[0] == sha256
        prints.add(trial.fingerprint)
    assert len(prints) == 1


def test_what_stands_on_a_winner_comes_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    models = {
        "vq": {"model": "edsr_baseline", "objectives": ["l1"], **SMALL},
        "mine": {"model": "resshift", "autoencoder": {"from": "x{scale}/vq/l1"}, **TINY},
    }
    with pytest.raises(InputError, match=r"models\.mine\.autoencoder: x4/vq/l1 trains edsr_baseline, and autoencoder"):
        planned(None, models=models, objectives=["l1", "ddpm"])
    monkeypatch.setitem(planning.PARTS, "autoencoder", ("name", "edsr_baseline"))
    plan = planned(None, models=models, objectives=["l1", "ddpm"])
    assert [[one.id for one in level] for level in plan.levels] == [["x4/vq/l1"], ["x4/mine/ddpm"]]
    assert plan.combinations[1].parts == {"autoencoder": Weights("from", "x4/vq/l1")}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"autoencoder": None}, r"models\.mine: resshift at x4 stands on a frozen autoencoder; give autoencoder: FILE"),
        ({"autoencoder": {2: "f"}}, r"resshift at x4 stands on a frozen autoencoder"),
        ({"autoencoder": 3}, r"mine\.autoencoder: expected FILE, \{trial"),
        ({"autoencoder": {"from": "x4/no/l1"}}, r"models\.mine\.autoencoder: no combination 'x4/no/l1' in this sweep"),
        ({"autoencoder_sha256": "a" * 64}, r"mine\.autoencoder_sha256: a sweep finds it itself; leave it out"),
        ({"objectives": ["dppm"]}, r"models\.mine\.objectives: no objective 'dppm' in this sweep.*ddpm"),
        ({"objectives": "ddpm"}, r"models\.mine\.objectives: expected a list of labels of objectives, got 'ddpm'"),
        ({"objectives": ["dream"]}, r"objectives\.ddpm: no model is trained under it"),
    ],
)
def test_parts_and_objectives_that_cannot_be_are_one_line(changed: dict[str, Any], said: str) -> None:
    models = {"mine": {"model": "resshift", "autoencoder": "f", **TINY, **changed}}
    with pytest.raises(InputError, match=said):
        planned(None, models=models, objectives=["ddpm", "dream"])


def test_a_file_that_is_no_such_part_is_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(1)}, tmp_path / "other.pth")
    own = session(tmp_path, planned(str(tmp_path / "other.pth")))
    with pytest.raises(InputError, match=r"^models\.mine\.autoencoder at x4: autoencoder .*holds no VQ autoencoder"):
        ingredients.frozen_parts(own, Ingredients(data_hash={4: "d" * 64}))


@pytest.mark.parametrize(
    ("preset", "hashed", "fingerprint"),
    [("quick", "a402ba4f", "bae418a40e1c2a83"), ("dream_table1", "6b2446d0", "0aa4770454c0a5fb")],
)
def test_trials_without_parts_are_those_they_were(preset: str, hashed: str, fingerprint: str) -> None:
    """Names as the code before parts gave them: what outputs hold is found again."""
    config = load(preset)
    plan = make_plan(config)
    trial = plan.trial(plan.combinations[0], {}, config.seed, "d" * 64, None)
    assert (config.hash[:8], trial.fingerprint[:16]) == (hashed, fingerprint)


def test_process_is_the_networks_where_the_config_is_silent() -> None:
    assert planned("f", process={}).combinations[0].process == ProcessParams(kept=50, clamp=False)
    named = planned("f", process={"kept": 15, "kept_by": "resshift", "schedule": "scaled_linear", "clamp": True})
    assert named.combinations[0].process == ProcessParams(kept=15, kept_by="resshift", schedule="scaled_linear")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for i in range(2):
        rng = np.random.Generator(np.random.Philox(i))
        Image.fromarray(rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


def test_a_trial_is_trained_and_drawn_from_beside_its_part(
    stand_in: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The part is in no file that the trial leaves; who asks for pictures must give it, and the right one."""
    plan = planned(str(stand_in))
    own = session(tmp_path, plan)
    train, validation = ([ImageSource(hr=str(images), include=(f"{i}.png",))] for i in range(2))
    store = build_store(own.run.at(STORES), train=train, validation=validation, scale=4)
    known = Ingredients(data_hash={4: store.data_hash})
    known = Ingredients(data_hash=known.data_hash, parts=ingredients.frozen_parts(own, known))
    trial = known.trial(plan, plan.combinations[0], {}, 1)
    parts, folder = own.home.access.parts(trial.model, trial.hyper), tmp_path / "trial"
    result = run_trial(trial, store, lambda *_: "continue", out_dir=folder, parts=parts, max_bytes=2**40)
    assert result.status == "complete" and "psnr_y" in result.metrics
    assert str(stand_in) not in (folder / "model" / "model.json").read_text()

    (net, info), lr = load_checkpoint(folder / "model", parts=parts), torch.rand(1, 3, 8, 12)
    assert info.hyper["autoencoder_sha256"] == packed(stand_in)[0] and info.hyper["autoencoder"] is None
    assert not any("encoder" in key for key in net.state_dict())
    drawn = super_resolve(net, lr, options=Options(sampling=Sampling(steps=2))).sr
    assert drawn.shape == (1, 3, 32, 48)
    with pytest.raises(InputError, match="give its file, autoencoder=FILE"):
        super_resolve(load_checkpoint(folder / "model")[0], lr, options=Options(sampling=Sampling(steps=2)))

    asked = ["--model", "resshift", "--scale", "4", "--weights", str(folder / "model"), "--hr", str(images)]
    asked += ["--steps", "2", "--draws", "1", "--json", str(tmp_path / "found.json")]
    sha256 = packed(stand_in)[0]
    with pytest.raises(InputError, match=rf"stands on a frozen autoencoder with the sha256 {sha256}: give --part"):
        eval.command.evaluate(asked)
    torch.save({key: value + 1 for key, value in safetensors.torch.load_file(stand_in).items()}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=rf"--part autoencoder: its sha256 is .*trained with {sha256}"):
        eval.command.evaluate([*asked, "--part", f"autoencoder={tmp_path / 'other.pth'}"])
    eval.command.evaluate([*asked, "--part", f"autoencoder={stand_in}"])
    assert "ancestral2" in json.loads((tmp_path / "found.json").read_text())["protocol"]
    for given, said in {
        "unet=f": "resshift has no part 'unet' (it has: autoencoder)",
        "autoencoder": "must be NAME=FILE",
        "autoencoder=nowhere": "'nowhere' does not exist",
    }.items():
        with pytest.raises(InputError) as refused:
            eval.command.evaluate([*asked, "--part", given])
        assert said in str(refused.value)
    with pytest.raises(InputError, match="--hyper autoencoder: a frozen part is given as --part autoencoder=FILE"):
        eval.command.evaluate([*asked, "--hyper", "autoencoder=f"])
