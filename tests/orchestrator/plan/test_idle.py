"""What a sweep, or a part of it, ignores is said in a line; of what is used nothing is."""

from pathlib import Path
from typing import Any

import pytest

from orchestrator.plan.config import SweepConfig
from orchestrator.plan.idle import idle
from orchestrator.plan.plan import make_plan
from orchestrator.plan.read import PRESETS, load

DATA = {"train": [{"hr": "a"}], "validation": [{"hr": "b"}], "test": {"c": {"hr": "c"}}}
SR3 = {"channels": 8, "mults": [1, 2], "attention": [], "blocks": 1, "groups": 4}
SHIFTED = {"model": "resshift", "autoencoder": "f.pth", "objectives": ["resshift"]}
CCSR = {"model": "ccsr", "channels": 32, "mults": [1, 1], "attention": [1], "blocks": 1, "head": 16,
        "autoencoder": "vae.safetensors", "unet": {"trial": "0123abcd"}}  # fmt: skip
STAGE_2 = CCSR | {"tuned_decoder": True, "init": {"trial": "89abcdef"}}
TUNED = {"models": {"ccsr": STAGE_2}, "scales": [4]}
DECODER = {"recipe": "ccsr_decoder", "loss.perceptual_weight": 0}
TABLE = {"models": {"sr3": SR3 | {"objectives": ["ddpm"]}, "mine": SHIFTED}, "objectives": ["ddpm", "resshift"],
         "scales": [4], "train": {"patch": 64}}  # fmt: skip
NOISY = {"models": {"sr3": SR3}, "objectives": ["ddpm"]}
NUTL = {"timesteps.terminal": {"weight": "alpha_bar"}, "search": []}
MIXUP = {"objectives": {"eco": {"search": [], "target.power": 3}}, "teacher": {}}


def found(**changes: Any) -> list[str]:
    base = {"name": "p", "models": ["imdn"], "objectives": ["l1"], "data": DATA}
    return idle(make_plan(SweepConfig.parse(base | changes, "test")))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            TUNED | {"objectives": {"decoder": DECODER | {"timesteps.t_low": "t_min"}}},
            "objectives.decoder: timesteps.t_low: ignored: loss ccsr_decoder practises no noise levels, and "
            "its chain goes from t_max to t_min",
        ),
        (
            TUNED | {"objectives": {"decoder": DECODER | {"loss.start": 1000}}, "train": {"steps": 1000}},
            "objectives.decoder: loss.start 1000 is after the last step of x4/ccsr/decoder (999, counted from 0), so "
            "its discriminator never counts",
        ),
        (
            TUNED | {"models": {"ccsr": STAGE_2 | {"encoder_in_gradient": True}},
                     "objectives": {"decoder": DECODER}},
            "models.ccsr.encoder_in_gradient: ignored: with tuned_decoder the decoder alone is trained",
        ),
        (
            {"models": {"ccsr": CCSR | {"encoder_in_gradient": True}}, "scales": [4], "objectives": ["ddpm"]},
            "models.ccsr.encoder_in_gradient: ignored: no state has a gradient without timesteps.terminal, or "
            "with its detach",
        ),
        (
            TABLE | {"models": {"mine": SHIFTED | {"process": {"T": 40}}}, "objectives": ["resshift"]},
            "models.mine.process: ignored: loss resshift has a process of its own (loss.T, ...)",
        ),
        (
            TABLE | {"models": {"mine": SHIFTED}, "objectives": ["resshift"], "process": {"T": 40}},
            "process: ignored: loss resshift has a process of its own (loss.T, ...)",
        ),
        (
            TABLE | {"models": {"mine": SHIFTED}, "objectives": ["resshift"], "validation": {"steps": 5}},
            "validation.steps: ignored: residual shifting takes all of its 15 steps",
        ),
        (
            {"process": {"T": 40}},
            "process: ignored: no network of this sweep has a noise process",
        ),
        (
            {"validation": {"steps": 5}},
            "validation.steps: ignored: no network of this sweep draws its pictures from noise",
        ),
        (
            {"validation": {"draws": 2}},
            "validation.draws: ignored: no network of this sweep draws its pictures from noise",
        ),
        (
            {"evaluation": {"sampling": {"steps": 5}}},
            "evaluation.sampling: ignored: no network of this sweep draws its pictures from noise",
        ),
        (
            NOISY | {"objectives": {"ddpm": {"grid": {"sampling.steps": [5, 10]}}}, "validation": {"steps": 5}},
            "validation.steps: ignored: sampling.steps of its objective says them",
        ),
        (
            NOISY | {"objectives": {"nutl": NUTL}, "evaluation": {"sampling": {"sampler": "ddim"}}},
            "evaluation.sampling.sampler ddim: ignored: it is drawn by truncated",
        ),
        (
            NOISY | {"objectives": {"nutl": NUTL | {"timesteps.t_max": 0.5, "timesteps.ratio": 0.8}},
                     "evaluation": {"sampling": {"sampler": "truncated", "t_max": 0.75, "t_min": 0.4}}},
            "evaluation.sampling.t_max 0.75: ignored: timesteps.t_max of its objective says it",
        ),
        (
            TUNED | {"objectives": {"decoder": DECODER},
                     "evaluation": {"sampling": {"sampler": "truncated", "jump": "released"}}},
            "evaluation.sampling.jump released: ignored: loss.jump of its objective says it",
        ),
        (
            NOISY | {"process": {"schedule": "cosine", "beta_end": 0.1}},
            "process.beta_end: ignored: schedule cosine has none",
        ),
        (MIXUP, "objectives.eco: target.power: ignored: shape linear has none"),
        (
            {"objectives": {"eco": {"search": [], "grid": {"target.steepness": [5, 20]}}}, "teacher": {}},
            "objectives.eco: target.steepness: ignored: shape linear has none",
        ),
        (
            {"objectives": {"eco": {"target": {"shape": "points", "points": [[0, 1]], "length": 0.5, "kind": "mixup"},
                                    "loss": "l1"}}, "teacher": {}},
            "objectives.eco: target.length: ignored: shape points has none",
        ),
        (
            {"train": {"schedule": "constant", "lr_floor": 0.1}},
            "train.lr_floor: ignored: it is of schedule cosine (got schedule constant)",
        ),
        (
            {"models": {"imdn": {"train": {"decay_at": [0.2]}}}},
            "models.imdn.train.decay_at: ignored: it is of schedule step (got schedule cosine)",
        ),
        (
            {"objectives": {"l1": {"grid": {"train.decay": [0.5, 0.1]}}}},
            "objectives.l1.grid: train.decay: ignored: it is of schedule step (got schedule cosine)",
        ),
        (
            NOISY | {"objectives": {"nutl": NUTL},
                     "train": {"groups": {"terminal": {"decay": 0.1}}}},
            "train.groups.terminal.decay: ignored: it is of schedule step (got schedule cosine)",
        ),
        (
            {"train": {"checkpointing": True}},
            "train.checkpointing: ignored: it is of diffusion networks",
        ),
        (
            NOISY | {"train": {"stored_latents": False}},
            "train.stored_latents: ignored: it is of networks that can be trained on stored latents",
        ),
        (
            TABLE | {"models": {"mine": SHIFTED | {"condition": "lr"}}, "objectives": ["resshift"],
                     "train": {"patch": 64, "stored_latents": False}},
            "train.stored_latents: ignored: it is of networks that can be trained on stored latents",
        ),
        (
            {"search": {"trials": 1, "audit": 1}},
            "search.audit: ignored: nothing is searched",
        ),
        (
            {"search": {"common": ["train.lr"], "sampler": "random", "startup_trials": 2}},
            "search.startup_trials: ignored: with search.sampler random all proposals are",
        ),
        (
            {"search": {"metric": ["psnr_y", "ssim_y"], "reduction": 3}},
            "search.reduction: ignored: without search.halve_by no trial is stopped",
        ),
        (
            {"objectives": ["kd"], "teacher": {"weights": "f.pth", "train": {"steps": 5}}},
            "teacher.train: ignored: its weights are given, and nothing is trained",
        ),
        (
            {"objectives": ["kd"], "teacher": {"trial": "0123abcd", "hyper": {"channels": 8}}},
            "teacher.hyper: ignored: trial 0123abcd says its network itself",
        ),
        (
            {"objectives": ["kd"], "teacher": {"train": {"snapshots": [0.5]}}},
            "teacher.train.snapshots: ignored: a teacher is not scored, and keeps none",
        ),
        (
            {"models": {"imdn": {}, "bicubic": {"train": {"steps": 5}}}},
            "models.bicubic.train: ignored: bicubic is not trained",
        ),
        (
            {"data": DATA | {"train": [{"hr": "a", "lr": {2: "l"}, "kernel": "matlab-bicubic-symmetric-u8"}]}},
            "data.train: kernel of a: ignored: its LR are files at every scale",
        ),
        (
            {"resources": {"placement": "spread"}},
            "resources.placement spread: ignored: a trial has one worker",
        ),
    ],
)  # fmt: skip
def test_what_nothing_uses_is_said(changes: dict[str, Any], said: str) -> None:
    assert found(**changes) == [said]


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
            {"models": ["imdn", "vdsr"], "search": {"common": ["train.lr"], "trials": 4}},
            "search: all 4 trials of x2/imdn/l1, x2/vdsr/l1 are proposed at random (search.startup_trials 4)",
        ),
        (
            TABLE
            | {
                "models": {"sr3": SR3 | {"objectives": ["ddpm"]}, "imdn": {"objectives": ["l1"]}},
                "objectives": ["ddpm", "l1"],
                "evaluation": {"crops": "dream40o5"},
            },
            "evaluation.crops: ignored by x4/imdn/l1: it draws no picture from noise",
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
    assert found(**changes) == [said]


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
    assert found(models={"sr3": SR3, "idm": idm}, **given) == [line]
    assert found(models={"idm": idm}, **given) == [
        "data.train: LR files at x2: ignored: train.scales makes LR from HR in each step"
    ]
    assert found(models={"sr3": SR3}, **given) == []


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
        NOISY | {"objectives": {"nutl": NUTL},
                 "evaluation": {"sampling": {"sampler": "truncated", "jump": "released"}}},
        NOISY | {"models": {"sr3": SR3, "imdn": {"train": {"checkpointing": False, "decay": 0.5}}},
                 "objectives": ["ddpm", "l1"], "train": {"checkpointing": True}},
        {"resources": {"placement": "spread", "workers_per_trial": 2}},
        {"search": {"common": ["train.lr"], "audit": 1, "startup_trials": 2}},
        {"search": {"common": ["train.lr"], "trials": 4, "sampler": "random"}},
        {"models": {"ccsr": CCSR | {"encoder_in_gradient": True}}, "scales": [4],
         "objectives": {"nutl": {"search": []}}},
        {"objectives": ["kd"], "teacher": {"weights": "f.pth", "hyper": {"channels": 8}}},
    ],
)  # fmt: skip
def test_what_is_used_is_neither(changes: dict[str, Any]) -> None:
    assert found(**changes) == []


@pytest.mark.parametrize(("name", "given"), [("hyper", {"channels": 8}), ("model", "imdn")])
def test_a_checkpoint_folder_of_a_teacher_says_its_network_itself(tmp_path: Path, name: str, given: Any) -> None:
    (tmp_path / "x2").mkdir()
    folder = f"{tmp_path}/x{{scale}}"
    changes = {"objectives": ["kd"], "scales": [2], "teacher": {"weights": folder, name: given}}
    assert found(**changes) == []
    (tmp_path / "x2" / "model.json").touch()
    assert found(**changes) == [f"teacher.{name}: ignored: {folder} says its network itself"]
    changes["teacher"]["weights"] = {2: folder, 4: "$NOT_SET/f.pth"}
    changes["scales"] = [2, 4]
    assert found(**changes) == [], "a file of one scale has use for it; what is no file here is said with the others"


@pytest.mark.parametrize("size", [(), ("scale_down=tiny",)], ids=["full", "tiny"])
@pytest.mark.parametrize("name", sorted(path.stem for path in PRESETS.glob("*.yaml") if path.stem != "quick"))
def test_presets_hold_nothing_that_they_do_not_use(name: str, size: tuple[str, ...]) -> None:
    lines = idle(make_plan(load(name, size)))
    assert [line for line in lines if ": ignored by " not in line] == []  # some rows of a table use it


@pytest.mark.parametrize(
    "path", sorted(Path(__file__).resolve().parents[3].glob("examples/*.yaml")), ids=lambda p: p.stem
)
def test_nor_do_examples(path: Path) -> None:
    assert idle(make_plan(load(str(path)))) == []


def test_the_released_jump_of_ccsrs_table_is_said_of_decoders_alone() -> None:
    asked = ("evaluation.sampling.sampler=truncated", "evaluation.sampling.jump=released")
    [line] = idle(make_plan(load("ccsr_table5", asked)))
    assert line.startswith("evaluation.sampling.jump released: ignored by x4/tuned_2-3_1-3/tuned_t_max_2-3_t_min_1-3, ")
    pairs = ("2-3_t_min_1-3", "1-2_t_min_1-3", "2-3_t_min_1-2", "4-5_t_min_1-3", "2-3_t_min_1-5")
    released = tuple(f"objectives.tuned_t_max_{pair}.loss.jump=released" for pair in pairs)
    assert idle(make_plan(load("ccsr_table5", asked + released))) == []
