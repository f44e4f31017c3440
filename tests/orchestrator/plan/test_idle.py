"""What nothing in a sweep uses is refused, what a part of it ignores is said; what is used is neither."""

from pathlib import Path
from typing import Any

import pytest

from orchestrator.plan.config import SweepConfig
from orchestrator.plan.idle import Idle, idle
from orchestrator.plan.plan import make_plan
from orchestrator.plan.read import PRESETS, load

DATA = {"train": [{"hr": "a"}], "validation": [{"hr": "b"}], "test": {"c": {"hr": "c"}}}
SR3 = {"channels": 8, "mults": [1, 2], "attention": [], "blocks": 1, "groups": 4}
SHIFTED = {"model": "resshift", "autoencoder": "f.pth", "objectives": ["resshift"]}
CCSR = {"model": "ccsr", "channels": 32, "mults": [1, 1], "attention": [1], "blocks": 1, "head": 16,
        "autoencoder": "vae.safetensors", "unet": {"trial": "0123abcd"}}  # fmt: skip
TUNED = {"models": {"ccsr": CCSR | {"tuned_decoder": True}}, "scales": [4]}
DECODER = {"recipe": "ccsr_decoder", "loss.perceptual_weight": 0}
TABLE = {"models": {"sr3": SR3 | {"objectives": ["ddpm"]}, "mine": SHIFTED}, "objectives": ["ddpm", "resshift"],
         "scales": [4], "train": {"patch": 64}}  # fmt: skip
NOISY = {"models": {"sr3": SR3}, "objectives": ["ddpm"]}
NUTL = {"timesteps.terminal": {"weight": "alpha_bar"}, "search": []}
MIXUP = {"objectives": {"eco": {"search": [], "target.power": 3}}, "teacher": {}}


def found(**changes: Any) -> Idle:
    base = {"name": "p", "models": ["imdn"], "objectives": ["l1"], "data": DATA}
    return idle(make_plan(SweepConfig.parse(base | changes, "test")))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            TUNED | {"objectives": {"decoder": DECODER | {"timesteps.t_low": "t_min"}}},
            "objectives.decoder: timesteps.t_low: would be ignored: loss ccsr_decoder practises no noise levels, and "
            "its chain goes from t_max to t_min; leave it out",
        ),
        (
            TUNED | {"objectives": {"decoder": DECODER | {"loss.start": 1000}}, "train": {"steps": 1000}},
            "objectives.decoder: loss.start 1000 is after the last step of x4/ccsr/decoder (999, counted from 0), so "
            "its discriminator would never count; give at most that",
        ),
        (
            TUNED | {"models": {"ccsr": CCSR | {"tuned_decoder": True, "encoder_in_gradient": True}},
                     "objectives": {"decoder": DECODER}},
            "models.ccsr.encoder_in_gradient: would be ignored: with tuned_decoder the decoder alone is trained; leave "
            "it out",
        ),
        (
            {"models": {"ccsr": CCSR | {"encoder_in_gradient": True}}, "scales": [4], "objectives": ["ddpm"]},
            "models.ccsr.encoder_in_gradient: would be ignored: no state has a gradient without timesteps.terminal, or "
            "with its detach; leave it out",
        ),
        (
            TABLE | {"models": {"mine": SHIFTED | {"process": {"T": 40}}}, "objectives": ["resshift"]},
            "models.mine.process: would be ignored: loss resshift has a process of its own (loss.T, ...); leave it out",
        ),
        (
            TABLE | {"models": {"mine": SHIFTED}, "objectives": ["resshift"], "process": {"T": 40}},
            "process: would be ignored: loss resshift has a process of its own (loss.T, ...); leave it out",
        ),
        (
            TABLE | {"models": {"mine": SHIFTED}, "objectives": ["resshift"], "validation": {"steps": 5}},
            "validation.steps: would be ignored: residual shifting takes all of its 15 steps; leave it out",
        ),
        (
            {"process": {"T": 40}},
            "process: would be ignored: no network of this sweep has a noise process; leave it out",
        ),
        (
            {"validation": {"steps": 5}},
            "validation.steps: would be ignored: no network of this sweep draws its pictures from noise; leave it out",
        ),
        (
            {"validation": {"draws": 2}},
            "validation.draws: would be ignored: no network of this sweep draws its pictures from noise; leave it out",
        ),
        (
            {"evaluation": {"sampling": {"steps": 5}}},
            "evaluation.sampling: would be ignored: no network of this sweep draws its pictures from noise; leave it "
            "out",
        ),
        (
            NOISY | {"objectives": {"ddpm": {"grid": {"sampling.steps": [5, 10]}}}, "validation": {"steps": 5}},
            "validation.steps: would be ignored: sampling.steps of its objective says them; leave it out",
        ),
        (
            NOISY | {"objectives": {"nutl": NUTL},
                     "evaluation": {"sampling": {"sampler": "truncated", "jump": "released"}}},
            "evaluation.sampling.sampler truncated: would be ignored: it is drawn by truncatedt0.666667-0.333333; "
            "leave it out",
        ),
        (
            NOISY | {"process": {"schedule": "cosine", "beta_end": 0.1}},
            "process.beta_end: would be ignored: schedule cosine has none; leave it out",
        ),
        (MIXUP, "objectives.eco: target.power: would be ignored: shape linear has none; leave it out"),
        (
            {"objectives": {"eco": {"search": [], "grid": {"target.steepness": [5, 20]}}}, "teacher": {}},
            "objectives.eco: target.steepness: would be ignored: shape linear has none; leave it out",
        ),
        (
            {"objectives": {"eco": {"target": {"shape": "points", "points": [[0, 1]], "length": 0.5, "kind": "mixup"},
                                    "loss": "l1"}}, "teacher": {}},
            "objectives.eco: target.length: would be ignored: shape points has none; leave it out",
        ),
        (
            {"train": {"schedule": "constant", "lr_floor": 0.1}},
            "train.lr_floor: would be ignored: it is of schedule cosine (got schedule constant); leave it out",
        ),
        (
            {"models": {"imdn": {"train": {"decay_at": [0.2]}}}},
            "models.imdn.train.decay_at: would be ignored: it is of schedule step (got schedule cosine); leave it out",
        ),
        (
            {"objectives": {"l1": {"grid": {"train.decay": [0.5, 0.1]}}}},
            "objectives.l1.grid: train.decay: would be ignored: it is of schedule step (got schedule cosine); leave it "
            "out",
        ),
        (
            NOISY | {"objectives": {"nutl": NUTL},
                     "train": {"groups": {"terminal": {"decay": 0.1}}}},
            "train.groups.terminal.decay: would be ignored: it is of schedule step (got schedule cosine); leave it out",
        ),
        (
            {"train": {"checkpointing": True}},
            "train.checkpointing: would be ignored: it is of diffusion networks; leave it out",
        ),
        (
            NOISY | {"train": {"stored_latents": False}},
            "train.stored_latents: would be ignored: it is of networks of a latent space; leave it out",
        ),
        (
            {"search": {"trials": 1, "audit": 1}},
            "search.audit: would be ignored: nothing is searched; leave it out",
        ),
        (
            {"search": {"common": ["train.lr"], "sampler": "random", "startup_trials": 2}},
            "search.startup_trials: would be ignored: with search.sampler random all proposals are; leave it out",
        ),
        (
            {"search": {"metric": ["psnr_y", "ssim_y"], "reduction": 3}},
            "search.reduction: would be ignored: without search.halve_by no trial is stopped; leave it out",
        ),
        (
            {"objectives": ["kd"], "teacher": {"weights": "f.pth", "train": {"steps": 5}}},
            "teacher.train: would be ignored: its weights are given, and nothing is trained; leave it out",
        ),
        (
            {"objectives": ["kd"], "teacher": {"trial": "0123abcd", "hyper": {"channels": 8}}},
            "teacher.hyper: would be ignored: trial 0123abcd says its network itself; leave it out",
        ),
        (
            {"objectives": ["kd"], "teacher": {"train": {"snapshots": [0.5]}}},
            "teacher.train.snapshots: would be ignored: a teacher is not scored, and keeps none; leave it out",
        ),
        (
            {"models": {"imdn": {}, "bicubic": {"train": {"steps": 5}}}},
            "models.bicubic.train: would be ignored: bicubic is not trained; leave it out",
        ),
        (
            {"data": DATA | {"train": [{"hr": "a", "lr": {2: "l"}, "kernel": "matlab-bicubic-symmetric-u8"}]}},
            "data.train: kernel of a: would be ignored: its LR are files at every scale; leave it out",
        ),
        (
            {"resources": {"placement": "spread"}},
            "resources.placement spread: would be ignored: a trial has one worker; leave it out",
        ),
    ],
)  # fmt: skip
def test_what_nothing_uses_is_refused(changes: dict[str, Any], said: str) -> None:
    assert found(**changes).refused == [said]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            TABLE | {"validation": {"steps": 5}},
            "validation.steps: ignored by x4/mine/resshift: residual shifting takes all of its 15 steps",
        ),
        (
            TABLE | {"validation": {"steps": 5}, "evaluation": {"sampling": {"steps": 9}}},
            "validation.steps and evaluation.sampling.steps: ignored by x4/mine/resshift: residual shifting takes all "
            "of its 15 steps",
        ),
        (
            TABLE | {"evaluation": {"sampling": {"sampler": "ddim"}}},
            "evaluation.sampling.sampler ddim: ignored by x4/mine/resshift: it is drawn by resshift",
        ),
        (
            TABLE | {"process": {"T": 1000}},
            "process: ignored by x4/mine/resshift: loss resshift has a process of its own (loss.T, ...)",
        ),
        (
            TABLE | {"models": {"mine": SHIFTED | {"objectives": ["ddpm", "resshift"], "process": {"kept": 9}}}},
            "models.mine.process: ignored by x4/mine/resshift: loss resshift has a process of its own (loss.T, ...)",
        ),
        (
            {"search": {"common": ["train.lr"], "trials": 4}},
            "search.sampler tpe: ignored by x2/imdn/l1: its 4 trials are proposed at random (search.startup_trials 4)",
        ),
        ({"teacher": {}}, "teacher is not used: no objective of this sweep learns from one"),
        (
            {"models": {"imdn": {"init": {3: "f.pth"}}}},
            "models.imdn.init: what it says of x3 is not used: scales are x2",
        ),
        (
            {"data": DATA | {"validation": [{"hr": "b", "lr": {4: "l"}}]}},
            "data.validation: LR files of b at x4 are not used: scales are x2",
        ),
    ],
)
def test_what_a_part_ignores_is_said(changes: dict[str, Any], said: str) -> None:
    assert found(**changes) == Idle(refused=[], said=[said])


def test_lr_files_beside_hr_that_makes_its_own_are_said_once() -> None:
    """Tables mix rows with train.scales and without on purpose, so the files stay; of many rows the first are named."""
    idm = {"channels": 16, "mults": [1, 2], "attention": [], "blocks": 1, "groups": 8, "features": 16,
           "encoder_blocks": 2, "train": {"scales": {"low": 1, "high": 2}}}  # fmt: skip
    data = DATA | {"train": [{"hr": "a", "lr": {2: "l"}}]}
    given = {"objectives": {"dream": {"grid": {"loss.p": [0, 1, 2, 3]}}}, "data": data, "train": {"patch": 16}}
    line = (
        "data.train: LR files at x2: ignored by x2/idm/dream[loss.p=0.0], x2/idm/dream[loss.p=1.0], "
        "x2/idm/dream[loss.p=2.0] and 1 more: train.scales makes LR from HR in each step"
    )
    for models in ({"sr3": SR3, "idm": idm}, {"idm": idm}):
        assert found(models=models, **given) == Idle(refused=[], said=[line])
    assert found(models={"sr3": SR3}, **given) == Idle()


@pytest.mark.parametrize(
    "changes",
    [
        MIXUP | {"objectives": {"eco": {"search": ["target.shape"], "target.power": 3}}, "search": {"trials": 5}},
        MIXUP | {"objectives": {"eco": {"search": [], "target.power": 3, "target.shape": "polynomial"}}},
        {"models": {"imdn": {"train": {"schedule": "step"}}, "vdsr": {}}, "train": {"decay_at": [0.2]}},
        {"objectives": ["kd"], "teacher": {"train": {"schedule": "step"}}, "train": {"decay": 0.1}},
        NOISY | {"models": {"sr3": SR3, "imdn": {}}, "objectives": ["ddpm", "l1"],
                 "validation": {"steps": 5, "draws": 2}, "process": {"beta_end": 0.02},
                 "train": {"checkpointing": True}},
        NOISY | {"objectives": {"ddpm": {"grid": {"process.schedule": ["linear", "cosine"]}}},
                 "process": {"beta_end": 0.02}},
        TUNED | {"objectives": {"decoder": DECODER | {"loss.start": 999}}, "train": {"steps": 1000}},
        {"resources": {"placement": "spread", "workers_per_trial": 2}},
        {"search": {"common": ["train.lr"], "audit": 1, "startup_trials": 2}},
        {"search": {"common": ["train.lr"], "trials": 4, "sampler": "random"}},
        {"models": {"ccsr": CCSR | {"encoder_in_gradient": True}}, "scales": [4],
         "objectives": {"nutl": {"search": []}}},
        {"objectives": ["kd"], "teacher": {"weights": "f.pth", "hyper": {"channels": 8}}},
    ],
)  # fmt: skip
def test_what_is_used_is_neither(changes: dict[str, Any]) -> None:
    assert found(**changes) == Idle()


@pytest.mark.parametrize("size", [(), ("scale_down=tiny",)], ids=["full", "tiny"])
@pytest.mark.parametrize("name", sorted(path.stem for path in PRESETS.glob("*.yaml") if path.stem != "quick"))
def test_presets_hold_nothing_that_they_do_not_use(name: str, size: tuple[str, ...]) -> None:
    assert idle(make_plan(load(name, size))).refused == []


@pytest.mark.parametrize(
    "path", sorted(Path(__file__).resolve().parents[3].glob("examples/*.yaml")), ids=lambda p: p.stem
)
def test_nor_do_examples(path: Path) -> None:
    assert idle(make_plan(load(str(path)))) == Idle()
