"""CCSR through the training loop: the adapter, then its decoder; killed and resumed, in parts, over two workers."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torchvision.models import vgg

pytest.importorskip("diffusers", reason="needs the extra [latent]")

import sr_models
from eval.metrics import backbones
from objectives import resolve
from orchestrator.plan.train import TrainConfig
from orchestrator.plan.trial import TrialConfig
from orchestrator.run import checkpoint, journal
from orchestrator.run.checkpoint import CHECKPOINT
from orchestrator.run.journal import JOURNAL
from orchestrator.training import network
from orchestrator.training.loop import run_trial
from sr_models.checkpoints.folder import CheckpointInfo, load_checkpoint
from sr_models.diffusion.process import Level
from sr_models.errors import InputError
from sr_models.hyper.latent import CCSRHyper
from sr_models.hyper.process import ProcessParams
from sr_models.hyper.sampling import Sampling
from sr_models.images.files import sha256_file

ROOT = Path(__file__).resolve().parents[3]
TRAIN = {
    "steps": 5, "batch_size": 2, "patch": 12, "lr": 2e-3, "ema": 0.9, "clip_norm": 1.0, "validate_every": 5,
    "checkpoint_every": 2, "groups": {"discriminator": {"lr": 1e-3, "betas": (0.5, 0.9)}},
}  # fmt: skip
WORKER = """
import json, sys
from pathlib import Path
import torch
from orchestrator.plan.trial import TrialConfig
from orchestrator.data.store import PatchStore
from orchestrator.training.loop import run_trial

given = json.loads(sys.argv[1])
torch.set_num_threads(1)
store = PatchStore.open(Path(given["store"]), verify=False)
torch.distributed.init_process_group("gloo", init_method=given["group"], rank=given["rank"], world_size=2)
run_trial(TrialConfig.model_validate(given["config"]), store, lambda *_: "continue", rank=given["rank"], world=2,
          out_dir=Path(given["out"]), micro_batch=1)
torch.distributed.destroy_process_group()
"""


@pytest.fixture
def parts(latent_parts) -> dict[str, Path]:
    return {name: Path(latent_parts[name]) for name in ("unet", "autoencoder")}


@pytest.fixture
def plan(store, latent_parts, parts):
    """Makes a trial's config of a tiny CCSR at x2, which knows its parts by their hashes alone."""

    def make(objective="nutl", *, hyper=None, init=None, sampled=True, **train) -> TrialConfig:
        spec = resolve(objective)
        hashes = dict.fromkeys(parts) | {f"{name}_sha256": sha256_file(path) for name, path in parts.items()}
        values = latent_parts | hashes | (hyper or {})
        if "groups" not in train and spec.update_names[0] != "generator":
            train["groups"] = {}
        return TrialConfig(
            model="ccsr", scale=2, hyper=sr_models.check("ccsr", 2, values).model_dump(), objective=spec,
            train=TrainConfig(**TRAIN | train), seed=5, protocol="classical", metrics=("psnr_y",),
            data_hash=store.data_hash, process=ProcessParams(**CCSRHyper.process), init=init,
            sampling=spec.timesteps.sampled(Sampling(steps=6)), measured={"images": 1, "crop": 16},
        )  # fmt: skip

    return make


@pytest.fixture
def stage_2(plan):
    """Likewise of its second stage, without a perceptual distance."""

    def make(norm="group", **train) -> TrialConfig:
        loss = {"loss.channels": 4, "loss.norm": norm, "loss.perceptual_weight": 0, "loss.steps": 6}
        hyper = {"tuned_decoder": True} | train.pop("hyper", {})
        return plan({"recipe": "ccsr_decoder"} | loss, hyper=hyper, **train)

    return make


def go_on(_step, _metrics) -> str:
    return "continue"


def read(folder: Path) -> list[dict[str, float]]:
    found = [entry["metrics"] for entry in journal.steps(journal.read(folder / JOURNAL))]
    return [{name: value for name, value in metrics.items() if name != "train.seconds"} for metrics in found]


def tensors(value, where: str = "") -> dict[str, torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return {where: value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {name: found for key, part in items for name, found in tensors(part, f"{where}.{key}").items()}


def state_of(folder: Path) -> dict[str, torch.Tensor]:
    return tensors(checkpoint.load(folder / CHECKPOINT))


def test_stage_1_trains_the_adapter_and_stage_2_the_decoder_of_what_it_has_come_to(
    plan, stage_2, store, parts, tmp_path
):
    """The adapter starts as the U-Net's first half; weights hold neither parts nor a discriminator."""
    first = run_trial(plan(), store, go_on, out_dir=tmp_path / "one", parts=parts)
    assert first.status == "complete"
    begun = network.build_network(plan(), parts)
    network.prepare(begun, plan(), None, torch.device("cpu"))
    before, (one, _) = begun.state_dict(), load_checkpoint(tmp_path / "one" / "model", parts=parts)
    assert {name.split(".")[0] for name in one.state_dict()} == {"control"}
    moved = [name for name, value in one.state_dict().items() if not torch.equal(value, before[name])]
    assert "control.conv_in.weight" in moved and len(moved) == len(before)
    assert 0 < float((one.state_dict()["control.conv_in.weight"] - before["control.conv_in.weight"]).abs().max()) < 0.05

    init = CheckpointInfo.read(tmp_path / "one" / "model").weights_sha256
    config = stage_2(init=init)
    result = run_trial(
        config, store, go_on, out_dir=tmp_path / "two", parts=parts, init=tmp_path / "one/model/model.safetensors"
    )
    assert result.status == "complete"
    of_generator = {"loss", "loss_main", "loss_adversarial", "weight", "lr"}
    logged = {f"train.generator.{log}" for log in of_generator} | {
        f"train.discriminator.{log}" for log in ("loss", "lr")
    }
    assert set(result.metrics) - {"train.seconds"} == logged | {"psnr_y", "ema.psnr_y"}
    net, info = load_checkpoint(tmp_path / "two" / "model", parts=parts)
    assert info.hyper["tuned_decoder"] and info.hyper["unet"] is None
    assert info.sampling == config.objective.sampled(Sampling())
    found, coder = net.state_dict(), net._coder(torch.zeros(1))
    assert {name.split(".")[0] for name in found} == {"control", "decoder", "post_quant_conv"}
    assert all(torch.equal(found[name], value) for name, value in one.state_dict().items())
    assert all(not torch.equal(found[f"decoder.{name}"], value) for name, value in coder.decoder.state_dict().items())
    state = checkpoint.load(tmp_path / "two" / CHECKPOINT)
    assert state["objective"] and list(state["optimizer"]) == ["generator", "discriminator"]
    assert state["optimizer"]["discriminator"]["param_groups"][0]["betas"] == (0.5, 0.9)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_generator_and_discriminator_that_are_killed_go_on_bit_for_bit(
    norm, stage_2, store, parts, tmp_path, killed_at
):
    with killed_at(3):
        run_trial(stage_2(norm), store, go_on, out_dir=tmp_path / "cut", parts=parts)
    assert checkpoint.load(tmp_path / "cut" / CHECKPOINT)["step"] == 2
    for folder in ("cut", "whole"):
        assert run_trial(stage_2(norm), store, go_on, out_dir=tmp_path / folder, parts=parts).status == "complete"
    cut, whole = state_of(tmp_path / "cut"), state_of(tmp_path / "whole")
    assert cut.keys() == whole.keys() and all(torch.equal(cut[name], whole[name]) for name in cut)
    assert any(name.startswith(".objective.main.") for name in cut)
    assert read(tmp_path / "cut") == read(tmp_path / "whole")
    for kind in ("model", "model_ema"):
        assert len({(tmp_path / folder / kind / "model.safetensors").read_bytes() for folder in ("cut", "whole")}) == 1


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_two_workers_in_parts_are_one_within_float_order(stage_2, store, latent_parts, tmp_path):
    """The adaptive weight too, which is the whole batch's; of three samples the first worker has two."""
    files = {name: latent_parts[name] for name in ("unet", "autoencoder")}
    config = stage_2(hyper=files, batch_size=3, lr=2e-4, validate_every=1, ema=None, groups={})
    run_trial(config, store, go_on, out_dir=tmp_path / "one")
    out = tmp_path / "two"
    out.mkdir()
    given = {"config": config.model_dump(mode="json"), "store": str(store.folder), "out": str(out),
             "group": f"file://{out / 'group'}"}  # fmt: skip
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, json.dumps(given | {"rank": rank})],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=200)[1] for process in workers]
    assert [process.returncode for process in workers] == [0, 0], said
    for one, two in zip(read(tmp_path / "one"), read(out), strict=True):
        assert one["train.generator.weight"] > 0 and two == pytest.approx(one, rel=2e-4, abs=1e-5)
    one, two = state_of(tmp_path / "one"), state_of(out)
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=5e-5, msg=lambda text, name=name: name + text)


@pytest.mark.parametrize("stage", [1, 2])
def test_activations_that_are_computed_again_are_the_same_and_bf16_is_near(
    stage, stage_2, plan, store, parts, tmp_path
):
    losses, make = {}, {1: plan, 2: stage_2}[stage]
    for name, how in {"kept": {}, "again": {"checkpointing": True}, "bf16": {"precision": "bf16"}}.items():
        config = make(steps=2, ema=None, **how)
        result = run_trial(config, store, go_on, out_dir=tmp_path / name, parts=parts)
        losses[name] = [value for key, value in result.metrics.items() if key.endswith((".loss", ".loss_main"))]
    assert losses["kept"] == losses["again"] != losses["bf16"]
    assert losses["bf16"] == pytest.approx(losses["kept"], rel=0.1)
    weights = checkpoint.load(tmp_path / "bf16" / CHECKPOINT)["model"].values()
    assert {value.dtype for value in weights} == {torch.float32}


def test_a_perceptual_distance_wants_its_weights(stage_2, store, parts, tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError("tests have no network")

    config = stage_2()
    loss = config.objective.loss.model_copy(update={"perceptual_weight": 1.0})
    config = config.model_copy(update={"objective": config.objective.model_copy(update={"loss": loss})})
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(backbones, "urlopen", refuse)
    with pytest.raises(InputError, match=r"perceptual_weight needs lpips_vgg: vgg16.* or give perceptual_weight: 0"):
        run_trial(config, store, go_on, out_dir=tmp_path / "without", parts=parts)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = vgg.make_layers(vgg.cfgs["D"]).state_dict()
    torch.save({f"features.{key}": value for key, value in layers.items()}, tmp_path / "vgg16-397923af.pth")
    right = backbones.BACKBONES["vgg16-397923af.pth"]
    sha256 = sha256_file(tmp_path / "vgg16-397923af.pth")
    monkeypatch.setitem(backbones.BACKBONES, "vgg16-397923af.pth", replace(right, sha256=sha256))
    distance = network.perceptual_of(config, torch.device("cpu"), tmp_path)
    a, b = 2 * torch.rand(2, 2, 3, 24, 24) - 1
    a.requires_grad_()
    assert distance(a, b).shape == (2,) and torch.autograd.grad(distance(a, b).sum(), a)[0].abs().sum() > 0
    assert network.perceptual_of(stage_2(), torch.device("cpu"), None) is None


def test_what_a_network_says_of_a_level_is_of_its_own_chain(plan, parts):
    net = network.build_network(plan(), parts)
    assert net.discrete and net.process.T == 1000
    x = torch.randn(1, 4, 4, 4)
    assert net(x, x, Level(torch.tensor([0.5]), torch.tensor([1000]))).shape == x.shape
