"""Objectives with several updates a batch: each steps its own parameters by its own rules, resumes and is shared.

Two stand-ins: an adversarial one whose second update trains a discriminator of the objective's own, and one whose two
updates step the same weights.
"""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.optim.optimizer import register_optimizer_step_pre_hook

from objectives import RECIPES, ObjectiveSpec
from objectives.adversarial import AdversarialObjective
from objectives.compose import LossTerms, Objective, Update, trainable
from objectives.losses import AdversarialBranch
from orchestrator.data.store import PatchStore
from orchestrator.plan.train import TrainConfig
from orchestrator.plan.trial import TrialConfig
from orchestrator.run import checkpoint, journal
from orchestrator.run.checkpoint import CHECKPOINT
from orchestrator.run.journal import JOURNAL, TrialResult
from orchestrator.training import loop, ranks
from orchestrator.training.loop import run_trial
from orchestrator.training.optimisers import lr_factor, steppers
from sr_models.checkpoints.folder import load_checkpoint

ROOT = Path(__file__).resolve().parents[3]


class Adversarial(Objective):
    """L1 and a discriminator that tells SR from HR: the first update's gradient flows through what the second steps."""

    names = ("generator", "discriminator")

    def __init__(self, spec: ObjectiveSpec, lr_noise: float | None = None) -> None:
        super().__init__(spec, lr_noise)
        self.module = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 3))

    def updates(self) -> list[Update]:
        return [
            Update("generator", trainable, self.generator),
            Update("discriminator", lambda _model: self.module.parameters(), self.discriminator),
        ]

    def generator(self, model, batch, progress, rng) -> LossTerms:
        sr = model(batch.lr)
        miss = (sr - batch.hr).abs().mean(dim=(1, 2, 3))
        return LossTerms(miss + 0.05 * softplus(-self.realism(sr)), {"loss_main": miss.detach().mean()})

    def discriminator(self, model, batch, progress, rng) -> LossTerms:
        noise = torch.from_numpy(rng.normal("loss_noise", tuple(batch.hr.shape[1:])))
        real, fake = self.realism(batch.hr + 0.01 * noise), self.realism(model(batch.lr))  # not detached
        return LossTerms(softplus(-real) + softplus(fake), {})

    def realism(self, images: Tensor) -> Tensor:
        return self.module(images).mean(dim=(1, 2, 3))


class Alternating(Objective):
    """Two losses that take turns on the same weights."""

    names = ("coarse", "fine")

    def updates(self) -> list[Update]:
        return [Update("coarse", trainable, self.coarse), Update("fine", trainable, self.fine)]

    def coarse(self, model, batch, progress, rng) -> LossTerms:
        pooled = nn.functional.avg_pool2d(model(batch.lr) - batch.hr, 2)
        return LossTerms(pooled.square().mean(dim=(1, 2, 3)), {})

    def fine(self, model, batch, progress, rng) -> LossTerms:
        return LossTerms((model(batch.lr) - batch.hr).abs().mean(dim=(1, 2, 3)), {})


STAND_INS = {cls.__name__: cls for cls in (Adversarial, Alternating)}
GROUPS = {
    "Adversarial": {"discriminator": {"lr": 5e-4, "optimizer": "adamw", "schedule": "constant", "clip_norm": 0.02}},
    "Alternating": {"fine": {"lr": 2e-4, "warmup": 0.5, "weight_decay": 0.01, "clip_norm": 0.02}},
}


def install(name: str, setattr=setattr) -> None:
    setattr(loop, "build_objective", lambda config, _: STAND_INS[name](config.objective))
    setattr(ObjectiveSpec, "update_names", STAND_INS[name].names)


def config_of(name: str, store: PatchStore, **train) -> TrialConfig:
    given = {
        "steps": 16, "batch_size": 6, "patch": 8, "lr": 2e-3, "ema": 0.9, "clip_norm": 1.0, "validate_every": 5,
        "checkpoint_every": 3, "groups": GROUPS[name],
    }  # fmt: skip
    return TrialConfig(
        model="edsr_baseline", scale=2, hyper={"channels": 8, "blocks": 1}, objective=RECIPES["l1"],
        train=TrainConfig(**given | train), seed=5, protocol="classical", metrics=("psnr_y",),
        data_hash=store.data_hash,
    )  # fmt: skip


def worker(text: str) -> None:
    """A process of one trial: rank `rank` of `world`, killed when it draws the batch of step `die_at`."""
    given = json.loads(text)
    torch.set_num_threads(1)
    install(given["name"])
    store = PatchStore.open(Path(given["store"]), verify=False)
    draw = store.batch

    def batch(**wanted):
        if wanted["step"] == given["die_at"]:
            os._exit(9)
        return draw(**wanted)

    store.batch = batch
    rank, world = given["rank"], given["world"]
    if world > 1:
        torch.distributed.init_process_group("gloo", init_method=given["group"], rank=rank, world_size=world)
    run_trial(
        config_of(given["name"], store), store, lambda *_: "continue", rank=rank, world=world,
        out_dir=Path(given["out"]), micro_batch=given["micro_batch"],
    )  # fmt: skip
    if world > 1:
        torch.distributed.destroy_process_group()


def start(name: str, store: PatchStore, out: Path, *, world: int = 1, die_at=None, micro_batch=None) -> None:
    """A trial in processes of its own, until they end."""
    out.mkdir(exist_ok=True)
    here = "import sys; sys.path.append(sys.argv[1]); import test_updates; test_updates.worker(sys.argv[2])"
    given = {"name": name, "store": str(store.folder), "out": str(out), "world": world, "die_at": die_at,
             "micro_batch": micro_batch, "group": f"file://{out / 'group'}"}  # fmt: skip
    commands = [
        [sys.executable, "-c", here, str(Path(__file__).parent), json.dumps(given | {"rank": rank})]
        for rank in range(world)
    ]
    workers = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for command in commands]
    try:
        said = [process.communicate(timeout=120)[1] for process in workers]
    finally:
        for process in workers:
            process.kill()
            process.wait()
    assert [process.returncode for process in workers] == [9 if die_at is not None else 0] * world, said


def go(name: str, store: PatchStore, out: Path, **train) -> TrialResult:
    """A trial in this process."""
    return run_trial(config_of(name, store, **train), store, lambda *_: "continue", out_dir=out)


@pytest.fixture(params=STAND_INS)
def name(request, monkeypatch) -> str:
    install(request.param, monkeypatch.setattr)
    return request.param


@pytest.fixture
def adversarial(monkeypatch) -> str:
    install("Adversarial", monkeypatch.setattr)
    return "Adversarial"


def metrics(folder: Path) -> list[dict[str, float]]:
    found = [entry["metrics"] for entry in journal.steps(journal.read(folder / JOURNAL))]
    return [{name: value for name, value in values.items() if name != "train.seconds"} for values in found]


def flat(value, where: str = "") -> dict[str, object]:
    """Dotted name -> leaf of a checkpoint, training seconds aside."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        return {where: value}
    return {
        name: leaf for key, item in items if key != "seconds" for name, leaf in flat(item, f"{where}.{key}").items()
    }


def state_of(folder: Path) -> dict[str, object]:
    return flat(checkpoint.load(folder / CHECKPOINT))


# ---- resume and several workers --------------------------------------------------------------------------------------


@pytest.mark.timeout(240)
def test_a_killed_run_goes_on_bit_for_bit(name, store, tmp_path):
    start(name, store, tmp_path / "cut", die_at=8)
    assert checkpoint.load(tmp_path / "cut" / CHECKPOINT)["step"] == 6
    go(name, store, tmp_path / "cut")
    go(name, store, tmp_path / "unbroken")
    assert metrics(tmp_path / "cut") == metrics(tmp_path / "unbroken")
    cut, unbroken = state_of(tmp_path / "cut"), state_of(tmp_path / "unbroken")
    assert cut.keys() == unbroken.keys()
    for where, value in cut.items():
        same = torch.equal(value, unbroken[where]) if isinstance(value, Tensor) else value == unbroken[where]
        assert same, where
    for kind in ("model", "model_ema"):
        files = [tmp_path / folder / kind / "model.safetensors" for folder in ("cut", "unbroken")]
        assert files[0].read_bytes() == files[1].read_bytes(), kind


@pytest.mark.timeout(240)
def test_two_workers_that_accumulate_equal_one(name, store, tmp_path):
    """Weights, averages, the objective's module and every optimiser's moments, within float order."""
    go(name, store, tmp_path / "one")
    start(name, store, tmp_path / "two", world=2, micro_batch=2)
    for one, two in zip(metrics(tmp_path / "one"), metrics(tmp_path / "two"), strict=True):
        assert two == pytest.approx(one, rel=1e-6, abs=1e-5)
    one, two = state_of(tmp_path / "one"), state_of(tmp_path / "two")
    assert one.keys() == two.keys()
    for where, value in one.items():
        if isinstance(value, Tensor):
            torch.testing.assert_close(two[where], value, rtol=0, atol=1e-5, msg=lambda text, where=where: where + text)
    first, last = metrics(tmp_path / "one")[0], metrics(tmp_path / "one")[-1]
    for update in STAND_INS[name].names:
        assert abs(last[f"train.{update}.loss"] - first[f"train.{update}.loss"]) > 1e-3, (
            "what does not move proves nothing"
        )


def test_what_is_exchanged_is_bucketed(monkeypatch):
    monkeypatch.setattr(ranks, "BUCKET", 10)
    sizes = [3, 4, 5, 20, 1, 9, 2]
    buckets = [[t.numel() for t in bucket] for bucket in ranks._buckets(torch.zeros(size) for size in sizes)]
    assert buckets == [[3, 4, 5], [20], [1, 9], [2]]


# ---- each update by its own rules ------------------------------------------------------------------------------------


def test_an_update_touches_its_own_parameters_alone(adversarial, store):
    """Not even a gradient is left on what another update steps."""
    net = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2))
    objective = Adversarial(RECIPES["l1"])
    generator, discriminator = steppers(objective.updates(), TrainConfig(lr=0.1), net)
    batch = store.batch(seed=1, step=0, batch_size=2, patch=8, teacher=None, rank=0, world=1, device="cpu")
    rng = loop.SampleRng(batch.seed, batch.step, batch.sample_ids)
    modules = {"generator": net, "discriminator": objective.module}
    for stepper in (generator, discriminator):
        (other,) = (module for name, module in modules.items() if name != stepper.name)
        own, before = modules[stepper.name], [p.detach().clone() for p in other.parameters()]
        start = [p.detach().clone() for p in own.parameters()]
        for parameter in other.parameters():
            parameter.grad = None
        stepper.clear()
        stepper.backward(stepper.loss(net, batch, 0.0, rng).per_sample.mean())
        assert all(p.grad is None for p in other.parameters())
        stepper.step(0)
        assert all(torch.equal(p, old) for p, old in zip(other.parameters(), before, strict=True))
        assert not any(torch.equal(p, old) for p, old in zip(own.parameters(), start, strict=True))


def test_an_update_takes_nothing_from_the_gradients_of_the_one_before(monkeypatch, store, tmp_path):
    """`fine` with `coarse` standing still before it, step for step the same gradients as alone."""
    install("Alternating", monkeypatch.setattr)
    together = gradients(config_of("Alternating", store, groups={"coarse": {"lr": 1e-30}}), store, tmp_path / "both")
    monkeypatch.setattr(Alternating, "names", ("fine",))
    monkeypatch.setattr(ObjectiveSpec, "update_names", ("fine",))
    monkeypatch.setattr(Alternating, "updates", lambda self: [Update("fine", trainable, self.fine)])
    alone = gradients(config_of("Alternating", store, groups={}), store, tmp_path / "alone")
    assert len(together) == 2 * len(alone)
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(together[1::2], alone, strict=True))


def gradients(config: TrialConfig, store: PatchStore, out: Path) -> list[tuple[float, Tensor]]:
    """(learning rate, gradient) of every step of every optimiser, in order."""
    seen: list[tuple[float, Tensor]] = []

    def look(optimizer, *_given) -> None:
        (group,) = optimizer.param_groups
        seen.append((group["lr"], torch.cat([p.grad.flatten() for p in group["params"]])))

    hook = register_optimizer_step_pre_hook(look)
    try:
        run_trial(config, store, lambda *_: "continue", out_dir=out)
    finally:
        hook.remove()
    return seen


def test_each_update_has_its_learning_rate_clip_norm_and_logs(name, store, tmp_path):
    config = config_of(name, store, clip_norm=None)
    seen, (first, second) = gradients(config, store, tmp_path), STAND_INS[name].names
    rules = config.train.group(second)
    assert rules.clip_norm is not None
    assert [lr for lr, _ in seen[::2]] == [2e-3 * lr_factor(config.train, step) for step in range(16)]
    assert [lr for lr, _ in seen[1::2]] == [rules.lr * lr_factor(rules, step) for step in range(16)]
    assert max(float(gradient.norm()) for _, gradient in seen[::2]) > 2 * rules.clip_norm
    assert max(float(gradient.norm()) for _, gradient in seen[1::2]) == pytest.approx(rules.clip_norm, rel=1e-3)
    found = metrics(tmp_path)
    logs = {f"train.{update}.{log}" for update in (first, second) for log in ("loss", "lr")}
    logs |= {"train.generator.loss_main"} if name == "Adversarial" else set()
    assert {key for key in found[0] if key.startswith("train.")} == logs
    for values, step in zip(found, (5, 10, 15, 16), strict=True):
        assert values[f"train.{first}.lr"] == seen[2 * (step - 1)][0]
        assert values[f"train.{second}.lr"] == seen[2 * (step - 1) + 1][0]


def test_a_step_is_a_batch_with_all_its_updates(name, store, tmp_path):
    asked = []
    draw = store.batch
    store.batch = lambda **wanted: asked.append(wanted["step"]) or draw(**wanted)
    try:
        result = go(name, store, tmp_path)
    finally:
        del store.batch
    assert (result.status, result.step, asked) == ("complete", 16, list(range(16)))


def test_the_objectives_module_is_saved_and_never_exported(adversarial, store, tmp_path):
    go(adversarial, store, tmp_path)
    state = checkpoint.load(tmp_path / CHECKPOINT)
    assert state["objective"].keys() == Adversarial(RECIPES["l1"]).module.state_dict().keys()
    assert list(state["optimizer"]) == ["generator", "discriminator"]
    net, _ = load_checkpoint(tmp_path / "model")
    assert net.state_dict().keys() == state["model"].keys()


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_a_decoders_losses_and_patchgan_go_on_bit_for_bit(norm, adversarial, monkeypatch, store, tmp_path):
    """Stopped at step 5 by the search, and begun again; the discriminator is in the checkpoint alone."""
    branch = AdversarialBranch(channels=4, norm=norm, perceptual_weight=0)

    def build(config: TrialConfig, _perceptual: None) -> AdversarialObjective:
        return AdversarialObjective(config.objective, None, branch, lambda net: trainable(net)[-2])

    monkeypatch.setattr(loop, "build_objective", build)
    config = config_of(adversarial, store, patch=12)
    run_trial(config, store, lambda step, _: "stop" if step == 5 else "continue", out_dir=tmp_path / "cut")
    assert state_of(tmp_path / "cut")[".step"] == 5
    for folder in ("cut", "whole"):
        result = run_trial(config, store, lambda *_: "continue", out_dir=tmp_path / folder)
        assert (result.status, result.step) == ("complete", 16)
    cut, whole = (state_of(tmp_path / folder) for folder in ("cut", "whole"))
    assert cut.keys() == whole.keys() and any(name.startswith(".objective.main.11.") for name in cut)
    for where, value in cut.items():
        assert torch.equal(value, whole[where]) if isinstance(value, Tensor) else value == whole[where], where
    assert metrics(tmp_path / "cut") == metrics(tmp_path / "whole")
    assert metrics(tmp_path / "cut")[0].keys() >= {"train.generator.loss_adversarial", "train.generator.weight"}


def test_every_updates_loss_must_stay_finite(adversarial, monkeypatch, store, tmp_path):
    def discriminator(self, model, batch, progress, rng):
        return LossTerms(self.realism(batch.hr) * (math.nan if batch.step == 4 else 1.0), {})

    monkeypatch.setattr(Adversarial, "discriminator", discriminator)
    failed = go(adversarial, store, tmp_path)
    assert (failed.status, failed.step) == ("failed", 5)
    assert failed.cause == "the discriminator.loss is not finite (nan) within the 10 steps before step 5"
