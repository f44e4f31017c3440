"""Update rules, learning rates of papers, and that LAMB is timm's with the options that `train.optimizer` promises."""

from pathlib import Path

import pytest
import torch
from timm.optim import Lamb
from torch import Tensor, nn

from objectives import RECIPES
from objectives.compose import Update, trainable
from orchestrator.data.store import PatchStore
from orchestrator.plan.train import TrainConfig
from orchestrator.plan.trial import TrialConfig
from orchestrator.run import checkpoint
from orchestrator.run.checkpoint import CHECKPOINT
from orchestrator.training.loop import run_trial
from orchestrator.training.optimisers import Stepper, lr_factor
from sr_models.checkpoints.folder import load_checkpoint

LAMB = {"optimizer": "lamb", "steps": 8, "lr": 0.01, "weight_decay": 0.1, "clip_norm": 0.5, "warmup": 0.25}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 3, 3))


def stepper(net: nn.Module, **train) -> Stepper:
    return Stepper(Update("model", trainable, lambda *_: None), TrainConfig(**LAMB | train), net, "")


def loss(net: nn.Module, step: int) -> Tensor:
    return 100 * net(torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(step))).square().mean()


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_lamb_is_timms_bit_for_bit(weight_decay):
    ours, theirs = network(), network()
    made = stepper(ours, weight_decay=weight_decay)
    rule = Lamb(
        theirs.parameters(), lr=0.01, betas=(0.9, 0.999), eps=1e-6, weight_decay=weight_decay, bias_correction=True,
        grad_averaging=True, max_grad_norm=None, trust_clip=False, always_adapt=True, caution=False,
        decoupled_decay=False,
    )  # fmt: skip
    for step in range(8):
        made.clear()
        made.backward(loss(ours, step))
        made.step(step)
        rule.zero_grad()
        loss(theirs, step).backward()
        assert float(nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)) > 0.5
        rule.param_groups[0]["lr"] = 0.01 * lr_factor(made.train, step)
        rule.step()
        assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_lambs_first_step_is_as_long_as_the_rate_says_for_each_tensor():
    """By hand: m / sqrt(v) is the gradient's sign, and the trust ratio makes the step lr times the tensor's norm."""
    net = network()
    made = stepper(net, weight_decay=0.0, clip_norm=None, warmup=0.0, schedule="constant")
    before = [p.detach().clone() for p in net.parameters()]
    made.backward(loss(net, 0))
    made.step(0)
    for old, new in zip(before, net.parameters(), strict=True):
        assert new.grad is not None
        assert torch.equal((old - new).sign(), new.grad.sign())
        assert float((old - new).detach().norm()) == pytest.approx(0.01 * float(old.norm()), rel=1e-4)


def test_a_gradient_is_clipped_once_by_the_configs_norm():
    """Timm's own limit of 1 is off: LAMB's second moment remembers what it was shown."""
    net = network()
    made = stepper(net, clip_norm=None)
    made.backward(loss(net, 0))
    norm = torch.cat([p.grad.flatten() for p in net.parameters()]).norm()
    made.step(0)
    seen = torch.cat([made.optimizer.state[p]["exp_avg"].flatten() for p in net.parameters()]).norm()
    assert float(norm) > 1 and float(seen) == pytest.approx(0.1 * float(norm), rel=1e-4)


def trial(store: PatchStore, **train) -> TrialConfig:
    given = LAMB | {"batch_size": 2, "patch": 8, "ema": 0.9, "validate_every": 3, "checkpoint_every": 3} | train
    return TrialConfig(
        model="imdn", scale=2, hyper={"channels": 16, "blocks": 1}, objective=RECIPES["l1"],
        train=TrainConfig(**given), seed=5, protocol="classical", metrics=("psnr_y",), data_hash=store.data_hash,
    )  # fmt: skip


def assert_goes_on(config: TrialConfig, store: PatchStore, out: Path) -> dict:
    """Stopped after step 3 and resumed, a trial ends as an unbroken one does, bit for bit; its last checkpoint."""
    assert run_trial(config, store, lambda *_: "stop", out_dir=out / "cut").step == 3
    run_trial(config, store, lambda *_: "continue", out_dir=out / "cut")
    run_trial(config, store, lambda *_: "continue", out_dir=out / "whole")
    for kind in ("model", "model_ema") if config.train.ema else ("model",):
        cut, whole = ((out / name / kind / "model.safetensors").read_bytes() for name in ("cut", "whole"))
        assert cut == whole, kind
    return checkpoint.load(out / "cut" / CHECKPOINT)


def test_a_trial_under_lamb_goes_on_bit_for_bit(store, tmp_path):
    state = assert_goes_on(trial(store), store, tmp_path)
    (group,) = state["optimizer"]["model"]["param_groups"]
    assert (int(group["step"]), group["always_adapt"], group["max_grad_norm"]) == (8, True, None)


def test_an_update_may_have_lamb_of_its_own(store, tmp_path):
    config = trial(store, optimizer="adam", groups={"model": {"optimizer": "lamb", "lr": 0.02}})
    state = assert_goes_on(config, store, tmp_path)
    assert state["optimizer"]["model"]["param_groups"][0]["always_adapt"] is True


def test_an_average_with_a_warmup_goes_on_bit_for_bit(store, tmp_path):
    assert_goes_on(trial(store, optimizer="adam", ema=0.999, ema_warmup=True), store, tmp_path / "warm")
    assert_goes_on(trial(store, optimizer="adam", ema=0.999), store, tmp_path / "cold")
    raw, warm, cold = (
        load_checkpoint(tmp_path / folder)[0].state_dict()["fea_conv.weight"]
        for folder in ("warm/cut/model", "warm/cut/model_ema", "cold/cut/model_ema")
    )
    assert (warm - raw).norm() < (cold - raw).norm()


def test_adam_halved_every_200k_of_a_million_steps_as_papers_say():
    train = TrainConfig(steps=10**6, lr=1e-4, schedule="step", decay_at=(0.2, 0.4, 0.6, 0.8), decay=0.5)
    for step in (0, 199_999, 200_000, 399_999, 400_000, 599_999, 600_000, 799_999, 800_000, 999_999):
        assert lr_factor(train, step) == 0.5 ** (step // 200_000), step
