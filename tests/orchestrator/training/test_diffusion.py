"""Diffusion networks through the training loop: what is trained, drawn, kept; resumed and in parts it is the same."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

import sr_models
from eval.metrics import backbones
from eval.metrics.fidelity import score
from objectives import resolve
from orchestrator.plan.train import TrainConfig
from orchestrator.plan.trial import Measured, TrialConfig
from orchestrator.run import checkpoint, journal
from orchestrator.run.checkpoint import CHECKPOINT
from orchestrator.run.journal import JOURNAL
from orchestrator.training import network, validation
from orchestrator.training.loop import run_trial
from sr_models.checkpoints.folder import load_checkpoint
from sr_models.errors import InputError
from sr_models.hyper.process import ProcessParams
from sr_models.hyper.sampling import Sampling
from sr_models.images.files import sha256_file
from sr_models.inference.super_resolve import Options, super_resolve

SMALL = {"channels": 8, "mults": (1, 2), "attention": (), "blocks": 1, "dropout": 0.0, "groups": 4}
PROCESS = ProcessParams(T=40, beta_end=0.3)
TRAIN = {
    "steps": 12, "batch_size": 4, "patch": 8, "lr": 1e-3, "clip_norm": 1.0, "ema": 0.9, "validate_every": 5,
    "checkpoint_every": 3,
}  # fmt: skip
ANY = {
    "model": "idm", "hyper": {"features": 8, "encoder_blocks": 1, "highest_scale": 4.0}, "patch": 6,
    "scales": {"low": 1, "high": 4},
}  # fmt: skip
BOTH = {"recipe": "dream+nutl", "timesteps.terminal": {"weight": "alpha_bar"}}


@pytest.fixture
def plan(store):
    """Makes a trial's config of a network of 39 thousand parameters."""

    def make(objective=BOTH, *, model="sr3", hyper=None, draws=2, crop=16, **train) -> TrialConfig:
        spec = resolve(objective)
        return TrialConfig(
            model=model, scale=2, hyper=sr_models.check(model, 2, SMALL | (hyper or {})).model_dump(), objective=spec,
            train=TrainConfig(**(TRAIN | train)), seed=5, protocol="classical", metrics=("psnr_y",),
            data_hash=store.data_hash, process=PROCESS, sampling=spec.timesteps.sampled(Sampling(steps=6)),
            measured=Measured(images=1, crop=crop, draws=draws),
        )  # fmt: skip

    return make


def go_on(_step, _metrics) -> str:
    return "continue"


def read(folder: Path) -> list[dict[str, float]]:
    found = [entry["metrics"] for entry in journal.steps(journal.read(folder / JOURNAL))]
    for metrics in found:
        del metrics["train.seconds"]
    return found


def tensors(value, where: str = "") -> dict[str, torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return {where: value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {name: found for key, part in items for name, found in tensors(part, f"{where}.{key}").items()}


def assert_equal_runs(one: Path, other: Path) -> None:
    assert read(one) == read(other)
    a, b = (tensors(checkpoint.load(folder / CHECKPOINT)) for folder in (one, other))
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_small_denoiser_is_trained_drawn_from_and_kept(plan, store, tmp_path):
    """Two updates with moments of their own; validations of crops; weights that know their noise and draw pictures."""
    config = plan()
    result = run_trial(config, store, go_on, out_dir=tmp_path)
    assert (result.status, result.step) == ("complete", 12)
    own = {"model": {"loss", "lr", "loss_first"}, "terminal": {"loss", "lr", "loss_T", "loss_t_max", "loss_noise"}}
    logged = {f"train.{name}.{log}" for name, logs in own.items() for log in logs}
    assert all(set(metrics) == logged | {"psnr_y", "ema.psnr_y"} for metrics in read(tmp_path))
    state = checkpoint.load(tmp_path / CHECKPOINT)
    model, terminal = (state["optimizer"][name]["state"] for name in ("model", "terminal"))
    assert model.keys() == terminal.keys() and not torch.equal(model[0]["exp_avg"], terminal[0]["exp_avg"])

    net, info = load_checkpoint(tmp_path / "model")
    assert info.sampling == Sampling(sampler="truncated", t_max=2 / 3, t_min=1 / 3)
    assert info.process == PROCESS == net.process and sum(p.numel() for p in net.parameters()) < 40_000
    [(name, lr, hr)] = store.validation()[:1]
    name, lr, hr = validation._middle((name, lr, hr), 16, 2)
    assert lr.shape == (8, 8, 3) and hr.shape == (16, 16, 3)
    lr_BCHW = torch.from_numpy(np.array(lr)).permute(2, 0, 1)[None] / 255
    seeds = [validation.noise_seed(0, name, draw) for draw in range(2)]
    options = Options(sampling=config.sampling)
    drawn = super_resolve(net, lr_BCHW.expand(2, -1, -1, -1), seeds=seeds, options=options).sr
    wanted = torch.from_numpy(np.array(hr)).permute(2, 0, 1)[None] / 255
    protocol = validation.PROTOCOLS["classical"]
    scores = score(drawn, wanted.expand(2, -1, -1, -1), scale=2, protocol=protocol, metrics=("psnr_y",))["psnr_y"]
    assert result.metrics["psnr_y"] == pytest.approx(sum(scores) / 2, abs=1e-6) and scores[0] != scores[1]


def test_validations_are_drawn_in_a_papers_tiles(plan, store, tmp_path, monkeypatch):
    seen, compute = [], validation.super_resolve

    def watched(net, lr_BCHW, options, **rest):
        seen.append(options.crops)
        return compute(net, lr_BCHW, options=options, **rest)

    monkeypatch.setattr(validation, "super_resolve", watched)
    config = plan()
    cut = TrialConfig.parse(config.model_dump(mode="json") | {"crops": "dream40o5"}, "trial")
    found = [run_trial(one, store, go_on, out_dir=tmp_path / str(one.crops)).metrics for one in (config, cut)]
    assert {*seen[: len(seen) // 2]} == {None} and {*seen[len(seen) // 2 :]} == {"dream40o5"}
    assert found[0]["train.model.loss"] == found[1]["train.model.loss"] and found[0]["psnr_y"] != found[1]["psnr_y"]
    assert validation.bicubic_scores(cut, store) == validation.bicubic_scores(config, store)


@pytest.mark.parametrize("hyper", [{}, {"dropout": 0.3}], ids=["plain", "dropout"])
def test_a_run_that_is_cut_goes_on_bit_for_bit(hyper, plan, store, tmp_path, killed_at):
    with killed_at(8):
        run_trial(plan(hyper=hyper), store, go_on, out_dir=tmp_path / "cut")
    assert run_trial(plan(hyper=hyper), store, go_on, out_dir=tmp_path / "cut").status == "complete"
    run_trial(plan(hyper=hyper), store, go_on, out_dir=tmp_path / "unbroken")
    assert_equal_runs(tmp_path / "cut", tmp_path / "unbroken")


def test_a_run_over_scales_is_cut_and_goes_on_bit_for_bit(plan, store, tmp_path, killed_at, monkeypatch):
    config, sides = plan("dream", **ANY), []
    encode = sr_models.spec("idm").load().encode

    def watched(net, lr_BCHW, size):
        sides.append((lr_BCHW.shape[2], size))
        return encode(net, lr_BCHW, size)

    with killed_at(8):
        run_trial(config, store, go_on, out_dir=tmp_path / "cut")
    assert run_trial(config, store, go_on, out_dir=tmp_path / "cut").status == "complete"
    with monkeypatch.context() as patch:
        patch.setattr(sr_models.spec("idm").load(), "encode", watched)
        run_trial(config, store, go_on, out_dir=tmp_path / "unbroken")
    assert_equal_runs(tmp_path / "cut", tmp_path / "unbroken")
    trained = {size[0] for lr, size in sides if lr == 6 and size[0] == size[1]}
    assert len(trained) > 6 and trained <= {*range(6, 25)} and (8, (16, 16)) in sides, "validations are at x2"
    assert config.fingerprint != plan("dream", **ANY | {"scales": None}).fingerprint


@pytest.mark.parametrize("train", [{}, {"objective": "dream", **ANY}], ids=["sr3", "idm"])
def test_parts_of_a_batch_are_the_whole_within_float_order(train, plan, store, tmp_path):
    for size in (None, 1):
        run_trial(plan(**train), store, go_on, out_dir=tmp_path / str(size), micro_batch=size)
    whole, parts = (read(tmp_path / name) for name in ("None", "1"))
    for a, b in zip(whole, parts, strict=True):
        for name in a:
            assert a[name] == pytest.approx(b[name], rel=1e-4, abs=1e-3 if "psnr" in name else 1e-6), name


def test_without_p_a_dream_trial_is_the_ddpm_trial(plan, store, tmp_path):
    hyper = {"dropout": 0.3}
    dream = plan({"recipe": "dream", "loss.p": None}, hyper=hyper)
    run_trial(plan("ddpm", hyper=hyper), store, go_on, out_dir=tmp_path / "ddpm")
    run_trial(dream, store, go_on, out_dir=tmp_path / "dream")
    assert_equal_runs(tmp_path / "ddpm", tmp_path / "dream")


def test_activations_that_are_computed_again_are_the_same(plan, store, tmp_path):
    hyper = {"dropout": 0.3}
    for name, again in (("kept", False), ("again", True)):
        run_trial(plan(hyper=hyper, checkpointing=again), store, go_on, out_dir=tmp_path / name)
    assert network.build_network(plan(checkpointing=True)).checkpointing
    assert_equal_runs(tmp_path / "kept", tmp_path / "again")


def test_bf16_trains_and_keeps_float32_weights(plan, store, tmp_path):
    result = run_trial(plan(precision="bf16"), store, go_on, out_dir=tmp_path)
    assert result.status == "complete"
    state = checkpoint.load(tmp_path / CHECKPOINT)
    assert {value.dtype for value in state["model"].values() if value.is_floating_point()} == {torch.float32}
    exact = run_trial(plan(), store, go_on, out_dir=tmp_path / "fp32")
    assert result.metrics["train.model.loss"] == pytest.approx(exact.metrics["train.model.loss"], rel=0.05)
    assert result.metrics["train.model.loss"] != exact.metrics["train.model.loss"]


def test_a_denoiser_learns_what_was_added(plan, store, tmp_path):
    """ddpm's loss of giving nothing is E|eps| = 0.80; after 150 steps of a small network less is left."""
    train = {"steps": 150, "lr": 4e-3, "validate_every": 50, "checkpoint_every": 1000, "ema": None}
    run_trial(plan("ddpm", draws=1, **train), store, go_on, out_dir=tmp_path)
    losses = [metrics["train.loss"] for metrics in read(tmp_path)]
    assert losses[-1] < 0.6 and losses == sorted(losses, reverse=True)


def test_an_average_that_warms_up_is_validated_beside_the_raw_weights(plan, store, tmp_path):
    """`ema.psnr_y` may steer: it is neither the raw one nor that of an average which starts at random."""
    found = {}
    for warm in (True, False):
        config = plan("ddpm", ema=0.999, ema_warmup=warm)
        found[warm] = run_trial(config, store, go_on, out_dir=tmp_path / str(warm)).metrics
    assert found[True]["psnr_y"] == found[False]["psnr_y"] != found[True]["ema.psnr_y"] != found[False]["ema.psnr_y"]


@pytest.fixture
def alexnet(tmp_path, monkeypatch) -> Path:
    """A folder with random weights of LPIPS' AlexNet, which pass for the right ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = torchvision.models.alexnet().features.state_dict()
    name, folder = "alexnet-owt-7be5be79.pth", tmp_path / "backbones"
    folder.mkdir()
    torch.save({f"features.{key}": value for key, value in layers.items()}, folder / name)
    right = replace(backbones.BACKBONES[name], sha256=sha256_file(folder / name))
    monkeypatch.setitem(backbones.BACKBONES, name, right)
    return folder


def test_validations_measure_what_draws_differ_by_and_lpips(plan, store, tmp_path, alexnet, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError("tests have no network")

    metrics = ("psnr_y", "l_std", "lpips_alex")
    config = plan("ddpm", crop=None, ema=None).model_copy(update={"metrics": metrics})
    result = run_trial(config, store, go_on, out_dir=tmp_path / "trial", weights_dir=alexnet)
    plain = run_trial(plan("ddpm", crop=None, ema=None), store, go_on, out_dir=tmp_path / "plain")
    assert result.metrics["psnr_y"] == plain.metrics["psnr_y"] and result.metrics["lpips_alex"] > 0

    net, _ = load_checkpoint(tmp_path / "trial" / "model")
    [(name, lr, _)] = store.validation()[:1]
    lr_BCHW = torch.from_numpy(np.array(lr)).permute(2, 0, 1)[None] / 255
    seeds, options = [validation.noise_seed(0, name, draw) for draw in range(2)], Options(sampling=config.sampling)
    drawn = super_resolve(net, lr_BCHW.expand(2, -1, -1, -1), seeds=seeds, options=options).sr[..., 2:-2, 2:-2]
    spread = ((drawn * 255).round() / 255).double().std(0, correction=0).mean()
    assert result.metrics["l_std"] == pytest.approx(float(spread), rel=1e-4) and spread > 0
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(backbones, "urlopen", refuse)
    with pytest.raises(InputError, match=r"lpips_alex: alexnet-owt-7be5be79\.pth is not there"):
        run_trial(config.model_copy(update={"seed": 6}), store, go_on, out_dir=tmp_path / "without")


def test_one_picture_differs_from_itself_by_nothing(plan, store, tmp_path):
    config = plan("ddpm", draws=1, ema=None).model_copy(update={"metrics": ("l_std",)})
    assert run_trial(config, store, go_on, out_dir=tmp_path).metrics["l_std"] == 0.0


def test_a_network_is_built_with_its_trials_noise(plan):
    net = network.build_network(plan())
    assert net.process == PROCESS and network.build_objective(plan()).process.steps == 40
