"""What a sweep is going to do: which combinations, how many trials, which rungs, which refusals."""

import itertools
from typing import Any

import pytest

import objectives
import sr_models
from objectives import ObjectiveSpec
from orchestrator.plan import trial as trial_config
from orchestrator.plan.config import SweepConfig
from orchestrator.plan.cost import gpu_hours, wall_seconds
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.read import PRESETS, load
from orchestrator.plan.text import plan_text
from orchestrator.plan.trial import TrialConfig
from sr_models.errors import InputError
from sr_models.hyper.sampling import Sampling

DATA = {"train": [{"hr": "a"}], "validation": [{"hr": "b"}], "test": {"c": {"hr": "c"}}}


def planned(**changes: Any) -> Plan:
    base = {"name": "p", "models": ["imdn"], "objectives": ["l1"], "data": DATA, "teacher": {}}
    return make_plan(SweepConfig.parse(base | changes, "test"))


@pytest.mark.parametrize("name", sorted(path.stem for path in PRESETS.glob("*.yaml")))
def test_presets_plan(name):
    plan = make_plan(load(name))
    assert plan.combinations and not plan.skipped
    assert all(one.id in plan_text(plan, 2) for one in plan.combinations)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train": {"groups": {"d": {"lr": 1}}}, "teacher": None}, "x2/imdn/l1: train.groups: no update 'd'"),
        (
            {"objectives": {"l1": {"grid": {"train.groups": [{}, {"d": {}}]}}}},
            r"x2/imdn/l1\[train.groups=.*\]: train.groups: no update 'd'",
        ),
        ({"teacher": {"train": {"groups": {"d": {"lr": 1}}}}}, "teacher.train.groups: no update 'd'"),
    ],
)
def test_settings_of_an_update_that_an_objective_does_not_have_are_refused(changes, said):
    with pytest.raises(InputError, match=rf"^{said}; \(valid: model\)$"):
        planned(**changes)
    assert planned(train={"groups": {"model": {"lr": 0.1}}}).combinations[0].train.group("model").lr == 0.1


@pytest.mark.parametrize(("name", "value"), [("degradation", "ccsr"), ("lr_noise", 0.1)])
def test_an_autoencoder_looks_at_hr_alone_and_the_advice_mends_it(name, value):
    given = {"scales": [4], "models": ["vq_autoencoder"], "objectives": ["reconstruction"], "train": {name: value}}
    with pytest.raises(InputError) as refused:
        planned(**given)
    advice = f"leave it out of this training (`train: {{{name}: null}}` under the model)"
    said = f"x4/vq_autoencoder/reconstruction: train.{name}: loss reconstruction looks at HR alone; {advice}"
    assert str(refused.value) == said
    assert planned(**given | {"models": {"vq_autoencoder": {"train": {name: None}}}}).combinations
    with pytest.raises(InputError, match=r"^objectives\.reconstruction: unknown key 'train'"):
        planned(**given | {"objectives": {"reconstruction": {"train": {name: None}}}})


def test_a_searched_rate_that_no_update_uses_is_refused():
    changes = {"search": {"common": ["train.lr"]}, "train": {"groups": {"model": {"lr": 1e-3}}}}
    with pytest.raises(InputError, match=r"^x2/imdn/l1: train\.lr is searched, and no update uses it"):
        planned(models=["imdn"], objectives=["l1"], **changes)


def test_ecos_recipe_can_be_written_down():
    """Table 1 of ECO: LAMB, 16 times the rate, 8 times the batch, an eighth of the steps."""
    train = {"optimizer": "lamb", "batch_size": 128, "lr": 1.6e-3, "steps": 125_000, "schedule": "cosine", "patch": 48}
    plan = planned(models=["edsr", "rcan"], objectives=["l1", "eco"], train=train, scales=[2])
    assert "a full run: 125000 steps, 128 patches of 48 px" in plan_text(plan, 2)
    assert {one.train.optimizer for one in plan.combinations} == {"lamb"} and len(plan.combinations) == 4


def test_an_hr_patch_is_the_same_at_every_scale():
    """IMDN's recipe: 192 HR pixels, which are 96, 64 and 48 LR ones."""
    changes = {"objectives": ["l1", "eco"], "scales": [2, 3, 4]}
    plan = planned(train={"hr_patch": 192}, **changes)
    assert plan.patches == {(2, 96), (3, 64), (4, 48)}
    assert "16 patches of 192 HR px (96 at x2, 64 at x3, 48 at x4); rungs" in plan_text(plan, 2)
    for scale in (2, 3, 4):
        by_lr = planned(train={"patch": 192 // scale}, **changes | {"scales": [scale]})
        ours, theirs = ([c for c in each.combinations if c.scale == scale] for each in (plan, by_lr))
        assert ours == theirs
        assert plan.teacher_trial(scale, "ab" * 32) == by_lr.teacher_trial(scale, "ab" * 32)
    rows = planned(objectives={"l1": {"grid": {"train.hr_patch": [64, 96]}}}, train={"patch": 24})
    assert [one.train.patch for one in rows.combinations] == [32, 48]
    assert [one.objective_label for one in rows.combinations] == ["l1, hr_patch=64", "l1, hr_patch=96"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"train": {"hr_patch": 100}, "scales": [2, 3]},
            r"x3/imdn/l1: train\.hr_patch: an HR patch of 100 is no whole",
        ),
        ({"models": ["swinir_light"], "train": {"hr_patch": 40}}, r"x2/swinir_light/l1: .* of 8 pixels.* \(got 20\)"),
        (
            {"teacher": {"train": {"hr_patch": 51}}, "objectives": ["eco"]},
            r"teacher\.train\.hr_patch: an HR patch of 51",
        ),
        ({"train": {"hr_patch": 96, "patch": 48}}, r"test\.train: patch \(LR\) and hr_patch \(HR\) are two words"),
    ],
)
def test_hr_patches_that_do_not_fit_are_refused(changes, said):
    with pytest.raises(InputError, match=f"^{said}"):
        planned(**changes)


def test_quick_is_what_it_promises():
    plan = make_plan(load("quick"))
    cells = {(one.label, one.objective_label) for one in plan.combinations}
    assert len(cells) == 10 and plan.trials == 2 * (3 + 3), "the others have nothing to search"
    assert plan.rungs == [50, 100] and plan.teacher_scales == (2,) and plan.config.seeds == 2
    assert wall_seconds(plan, 2) < 300  # five minutes on two cores


def test_every_model_meets_every_objective_at_every_scale():
    plan = planned(models=["edsr_baseline", "imdn"], objectives=["l1", "kd"], scales=[2, 4])
    assert [one.id for one in plan.combinations] == [
        f"x{s}/{m}/{o}" for s in (2, 4) for m in ("edsr_baseline", "imdn") for o in ("l1", "kd")
    ]
    assert plan.teacher_scales == (2, 4)
    assert planned(scales=[2]).teacher_scales == ()


@pytest.mark.parametrize(
    ("entry", "trials"),
    [
        ({"search": []}, [0]),
        ({"search": ["target.length"]}, [5]),
        ({"search": {"target.length": [0.5, 0.75]}}, [3]),  # and the configured 1.0
        ({"search": {"target.length": [1.0]}}, [0]),
        ({"search": [], "grid": {"target.shape": ["linear", "step"], "target.length": [0.5, 0.75, 1.0]}}, [0] * 6),
        ({"search": ["target.length"], "grid": {"target.shape": ["linear", "step"]}}, [5, 5]),
    ],
)
def test_number_of_trials(entry, trials):
    plan = planned(objectives={"eco": entry}, search={"trials": 5})
    assert [one.trials for one in plan.combinations] == trials and plan.trials == sum(trials)
    assert planned(objectives={"eco": entry}, search={"trials": 1}).trials == 0, "one proposal chooses nothing"


def test_a_common_axis_gives_every_combination_as_many_proposals():
    models = {"imdn": {"train": {"lr": 1e-2}}, "edsr_baseline": {}}
    plan = planned(models=models, objectives=["l1", "eco"], search={"trials": 5, "common": ["train.lr"]})
    assert [one.trials for one in plan.combinations] == [5] * 4
    lrs = [one.axes.ranges["train.lr"] for one in plan.combinations if one.objective == "l1"]
    assert [(span.low, span.high) for span in lrs] == [(2.5e-3, 4e-2), (5e-5, 8e-4)]


def test_a_grid_point_is_a_combination_of_its_own():
    grid = {"train.batch_size": [16, 8], "loss.zero_below_average": [True, False]}
    plan = planned(objectives={"expectation": {"grid": grid, "search": ["sigma.beta"]}}, train={"patch": 12})
    assert [one.id for one in plan.combinations] == [
        f"x2/imdn/expectation[train.batch_size={size},loss.zero_below_average={zero}]"
        for size in (16, 8) for zero in ("true", "false")
    ]  # fmt: skip
    last = plan.combinations[-1]
    assert last.objective_label == "expectation, batch_size=8, zero_below_average=false"
    assert last.point == {"train.batch_size": 8, "loss.zero_below_average": False}
    made = plan.trial(last, {"sigma.beta": 0.02}, 0, "d" * 64, None)
    assert (made.train.batch_size, made.objective.loss.zero_below_average, made.objective.sigma.beta) == (
        8,
        False,
        0.02,
    )
    assert plan.patches == {(2, 12)} and all(one.id in plan_text(plan, 2) for one in plan.combinations)


def test_parts_of_a_point_that_share_their_last_name_are_told_apart():
    grid = {"loss.zero_below_average": [True], "sigma.zero_below_average": [False], "sigma.width": [8]}
    [one] = planned(objectives={"expectation": {"grid": grid}}).combinations
    assert one.objective_label == ("expectation, loss.zero_below_average=true, sigma.zero_below_average=false, width=8")


@pytest.mark.parametrize(
    ("steps", "every", "first", "reduction", "rungs"),
    [
        (200, 50, 0.25, 2, [50, 100]),
        (200, 50, 0.26, 2, [100]),  # a validation at or after the fraction
        (1000, 100, 0.1, 3, [100, 300, 900]),
        (100, 100, 0.25, 2, []),
        (100, 30, 1.0, 2, []),
    ],
)
def test_rungs(steps, every, first, reduction, rungs):
    plan = planned(
        train={"steps": steps, "validate_every": every}, search={"first_rung": first, "reduction": reduction}
    )
    assert plan.rungs == rungs


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"models": ["imdnn"]}, "unknown model 'imdnn'; did you mean 'imdn'?"),
        ({"models": {"imdn": {"chanels": 4}}}, "model 'imdn': unknown key 'chanels'; did you mean 'channels'?"),
        ({"models": {"imdn": {"channels": 24}}}, "model 'imdn'.channels: Input should be a multiple of 16 (got 24)"),
        ({"models": {"imdn": {"train": {"lrr": 1}}}}, "models.imdn.train: unknown key 'lrr'; did you mean 'lr'?"),
        ({"scales": [5], "teacher": None}, "model 'imdn' has no scale 5 (it has 1, 2, 3, 4, 8)"),
        ({"scales": [8], "models": ["srresnet"]}, "model 'srresnet' has no scale 8"),
        ({"objectives": ["ecco"]}, "objectives.ecco: unknown objective 'ecco'; did you mean 'eco'?"),
        ({"objectives": {"l1": {"loss.kind": "l3"}}}, "objectives.l1.loss: unknown loss 'l3'"),
        ({"objectives": {"l1": {"loss": "none"}}}, "objectives.l1: target 'hr' with loss 'none' needs sigma"),
        ({"objectives": ["eco"], "teacher": None}, "objectives.eco: needs a teacher; add teacher:"),
        ({"teacher": {"model": "imdnn"}}, "unknown model 'imdnn'"),
        ({"teacher": {"train": {"stepz": 3}}}, "teacher.train: unknown key 'stepz'; did you mean 'steps'?"),
        ({"search": {"metric": "ema.psnr_y"}}, "search.metric: 'ema.psnr_y' needs train.ema"),
        (
            {"search": {"metric": "ema.psnr_y"}, "train": {"ema": 0.9},
             "objectives": {"l1": {"grid": {"train.ema": [0.99, None]}}}},
            "search.metric: 'ema.psnr_y' needs train.ema for x2/imdn/l1[train.ema=null]",
        ),
        (
            {"models": ["swinir_light"], "objectives": {"l1": {"grid": {"train.patch": [48, 20]}}}},
            "x2/swinir_light/l1[train.patch=20]: swinir_light works on windows of 8 pixels",
        ),
        (
            {"models": {"imdn": {"train": {"lr": 1e-3}}}, "objectives": {"l1": {"grid": {"train.lr": [1e-3, -1]}}}},
            "objectives.l1.train.lr: Input should be greater than 0 (got -1)",
        ),
        (
            {"objectives": ["noise_regression"], "search": {"common": ["train.lr"]}},
            "x2/imdn/noise_regression: what it learns is no SR, so validations cannot steer a search of train.lr; give",
        ),
        (
            {"objectives": ["eco"], "train": {"degradation": "realesrgan"}},
            "x2/imdn/eco: train.degradation: makes other inputs in each step, and target 'mixup' needs",
        ),
        (
            {"objectives": ["l1"], "train": {"degradation": {"set": "ccsr"}},
             "data": DATA | {"train": [{"hr": "a", "lr": {2: "b"}}]}},
            "x2/imdn/l1: train.degradation makes LR from HR, and data.train has LR files at x2, which would be unused",
        ),
        (
            {"models": ["sr3"], "objectives": ["ddpm"], "train": {"scales": {"low": 1, "high": 8}}},
            "x2/sr3/ddpm: train.scales is for networks that take any scale (idm), and sr3 does not",
        ),
        (
            {"models": ["idm"], "objectives": ["ddpm"], "train": {"scales": {"low": 1, "high": 12}}},
            "x2/idm/ddpm: train.scales.high: x12 is beyond highest_scale 8: idm is told p = 1.57, of 0 to 1; give the",
        ),
        (
            {"train": {"scales": {"low": 1, "high": 8}, "degradation": "ccsr"}},
            "train: degradation makes LR of the trial's scale, and scales of others; give one",
        ),
        ({"search": {"common": ["train.steps"]}}, "search.common: 'train.steps' cannot be searched everywhere"),
        ({"search": {"common": {"train.lr": 1}}}, "test.search.common: Input should be a valid tuple"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_one_line(changes, said):
    with pytest.raises(InputError) as caught:
        planned(**changes)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_what_a_degradation_makes_is_versioned_and_in_the_estimate(monkeypatch):
    plain, made = (planned(train={"degradation": how}, teacher=None) for how in (None, "realesrgan"))
    seconds = made.config.train.steps * made.config.train.batch_size * 96**2 * 3.6e-7  # 48 LR pixels at x2
    runs = made.trials + 1
    assert wall_seconds(made, 1) - wall_seconds(plain, 1) == pytest.approx(runs * seconds)
    assert gpu_hours(made) - gpu_hours(plain) == pytest.approx(runs * seconds / 3600)

    def trial(plan: Plan) -> TrialConfig:
        return plan.trial(plan.combinations[0], {}, 1, "data", None)

    first = [trial(plan) for plan in (plain, made)]
    assert "degradation_version" not in first[1].model_dump()
    monkeypatch.setattr(trial_config, "DEGRADATION_VERSION", 2)
    second = [trial(plan) for plan in (plain, made)]
    assert first[0].fingerprint == second[0].fingerprint and first[1].fingerprint != second[1].fingerprint
    kept = TrialConfig.parse(first[1].model_dump(mode="json"), "trial.json")
    assert kept.fingerprint == first[1].fingerprint, "a trial of before stays what it was"


def test_a_network_of_all_scales_is_planned_with_what_its_steps_take_and_cut():
    idm = {"models": {"idm": {"channels": 8, "groups": 4}}, "objectives": ["ddpm"], "scales": [4], "teacher": None}
    plain, ranged = (planned(**idm, train={"patch": 16} | own) for own in ({}, {"scales": {"low": 1, "high": 8}}))
    assert (plain.patches, ranged.patches) == ({(4, 16)}, {(4, 32)})
    assert wall_seconds(ranged, 2) > 1.2 * wall_seconds(plain, 2)  # 24.3 HR pixels for an LR pixel, of 16
    assert "x4/idm/ddpm  nothing to search; steps at x1 to x8, LR made from HR in each" in plan_text(ranged, 2)
    assert "scales" not in plain.combinations[0].train.model_dump()


def test_a_test_set_beyond_what_a_network_knows_is_named():
    data = {**DATA, "test": {"near": {"hr": "test"}, "far": {"hr": "test", "scale": 12}}}
    models = {"idm": {"channels": 8, "groups": 4}}
    text = plan_text(planned(models=models, objectives=["ddpm"], scales=[4], teacher=None, data=data), 2)
    assert "  x4/idm/ddpm on far: x12 is beyond highest_scale 8: idm is told p = 1.57" in text
    assert "on near: " not in text


SAME_SIZE = {
    "train": [{"hr": "a", "lr": {1: "b"}}], "validation": [{"hr": "c", "lr": {1: "d"}}],
    "test": {"e": {"hr": "f", "lr": "g"}},
}  # fmt: skip


def test_at_scale_1_every_network_without_upsampler_meets_every_objective_without_d_mu():
    rows = [row for row in sr_models.MODELS.values() if row.trainable and row.family == "regression"]
    able = [row.name for row in rows if 1 in row.scales]
    assert {"vdsr", "imdn_as", "imdn", "edsr_baseline", "srresnet", "rcan"} <= set(able)
    plan = planned(
        models=able, objectives=["l1", "kd", "expectation"], scales=[1], data=SAME_SIZE, train={"patch": 192}
    )
    assert len(plan.combinations) == 3 * len(able) and plan.patches == {(1, 192)} and wall_seconds(plan, 2) > 0
    assert plan.trial(plan.combinations[0], {}, 1, "ab" * 32, None).scale == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"data": DATA},
            r"data\.train: at scale 1 no kernel makes LR from HR; name the folder .* \(lr: \{1: FOLDER\}\)",
        ),
        (
            {"data": SAME_SIZE | {"validation": [{"hr": "c", "lr": {2: "d"}}]}},
            r"data\.validation: at scale 1 no kernel",
        ),
        ({"data": SAME_SIZE | {"test": {"e": {"hr": "f"}}}}, r"data\.test\.e: .* files \(lr: FOLDER\)$"),
        (
            {"objectives": ["eco"]},
            r"objectives\.eco: target 'mixup' needs D\(mu\), and at scale 1 no kernel D makes LR",
        ),
        ({"objectives": ["eco_noise_free"]}, r"objectives\.eco_noise_free: target 'noise_free' needs D\(mu\)"),
        ({"models": ["swinir_light"]}, r"model 'swinir_light' has no scale 1 \(it has 2, 3, 4\)"),
        ({"models": ["imdn_as"], "train": {"patch": 50}}, r"x1/imdn_as/l1: imdn_as works on windows of 4 pixels"),
    ],
)
def test_what_scale_1_has_not_is_refused(changes, said):
    with pytest.raises(InputError, match=f"{said}"):
        planned(**{"scales": [1], "data": SAME_SIZE} | changes)


def test_what_scale_1_has_not_is_left_out_of_a_table_that_holds_other_scales():
    plan = planned(objectives=["l1", "eco"], scales=[1, 2], data=SAME_SIZE)
    assert [one.id for one in plan.combinations] == ["x1/imdn/l1", "x2/imdn/l1", "x2/imdn/eco"]
    assert [name for name, _ in plan.skipped] == ["x1/imdn/eco"] and plan.teacher_scales == (2,)


def test_every_pair_of_target_and_loss_is_planned_or_refused():
    for target in objectives.TARGETS:
        for loss in (name for name, cls in objectives.LOSSES.items() if cls.family == "regression"):
            entry = {"target": target, "loss": loss, "search": []}
            if "sigma" in objectives.LOSSES[loss].needs:
                with pytest.raises(InputError, match="needs sigma"):
                    planned(objectives={"own": entry})
                entry["sigma"] = {}
            spec = planned(objectives={"own": entry}).combinations[0].spec
            assert (spec.target.kind, spec.loss.kind) == (target, loss)


def test_what_is_never_trained_is_not_planned():
    assert planned(models=["bicubic"]).combinations == ()
    assert [one.label for one in planned(models=["bicubic", "imdn"]).combinations] == ["imdn"]
    with pytest.raises(InputError, match=r"^models\.bicubic\.init: bicubic is not trained; leave it out$"):
        planned(models={"bicubic": {"init": "f.pth"}, "imdn": {}})


def test_what_gives_no_sr_is_trained_and_the_plan_says_that_it_is_not_scored():
    plan = planned(models=["imdn"], objectives=["l1", "noise_regression"])
    lines = [line for line in plan_text(plan, 2).splitlines() if line.startswith("  x2/")]
    assert ["not scored" in line for line in lines] == [False, True]


def test_a_trial_is_filled_in():
    plan = planned(objectives=["eco", "l1"], models={"imdn": {"channels": 32}}, train={"ema": 0.99})
    eco, l1 = plan.combinations
    made = plan.trial(eco, {"target.length": 0.5, "train.lr": 1e-3}, 3, "d" * 64, "e" * 64)
    assert (made.model, made.scale, made.seed, made.data_hash, made.teacher) == ("imdn", 2, 3, "d" * 64, "e" * 64)
    assert made.hyper == {"channels": 32, "blocks": 6}  # complete: a changed default is another trial
    assert (made.objective.target.length, made.train.lr, made.train.ema) == (0.5, 1e-3, 0.99)
    assert plan.trial(l1, {}, 3, "d" * 64, "e" * 64).teacher is None
    teacher = plan.teacher_trial(2, "d" * 64)
    assert (teacher.model, teacher.teacher) == ("edsr_baseline", None)
    assert teacher.objective == ObjectiveSpec.parse({"target": {"kind": "hr"}, "loss": {"kind": "l1"}}, "test")


def test_validation_measures_what_steers_and_what_leads():
    plan = planned(search={"metric": "ema.psnr_rgb"}, train={"ema": 0.9}, evaluation={"metrics": ["ssim_y", "psnr_y"]})
    assert plan.trial(plan.combinations[0], {}, 0, "d", None).metrics == ("psnr_rgb", "ssim_y")


def test_the_cost_of_a_plan_is_shared_by_its_cores():
    plan = planned(models={"edsr_baseline": {"channels": 32, "blocks": 4}})
    assert wall_seconds(plan, 4) == pytest.approx(wall_seconds(plan, 1) / 4) and wall_seconds(plan, 4) > 0


def test_gpu_hours_are_of_the_steps_of_all_runs():
    plan = planned(models=["edsr_baseline"], train={"steps": 10_000}, seeds=3)
    macs = sr_models.multiply_adds("edsr_baseline", 2, {})
    assert gpu_hours(plan) == pytest.approx(3 * 10_000 * 16 * 48**2 * macs * 6 / 10e12 / 3600)
    assert f"  or {gpu_hours(plan):.1f} GPU-hours on one that sustains 10 TFLOP/s" in plan_text(plan, 2)
    assert "  or under 0.1 GPU-hours on" in plan_text(planned(train={"steps": 10}), 2)
    longer = planned(models=["edsr_baseline"], train={"steps": 10_000_000})
    assert f"  or {gpu_hours(longer):.0f} GPU-hours on" in plan_text(longer, 2) and 80 < gpu_hours(longer) < 90


def test_the_plan_says_how_many_printed_numbers_stand_beside_it():
    paper = {"source": "Table 1 of it", "parameters": {"x2/imdn/l1": 694_000}}
    paper["scores"] = {
        row: {"c": {"psnr_y": 38.0, "psnr_rgb": 36.0}} for row in ("x2/imdn/l1", "x2/bicubic/-", "x3/a/l1")
    }
    assert "  printed numbers beside them: 3, of Table 1 of it" in plan_text(planned(paper=paper), 2).splitlines()


@pytest.mark.parametrize("where", ["train", "grid", "teacher"])
def test_more_workers_than_samples_are_refused(where):
    changes: dict[str, Any] = {"resources": {"workers_per_trial": 6}, "train": {"batch_size": 8}}
    if where == "train":
        changes["train"] = {"batch_size": 4}
    elif where == "grid":
        changes["objectives"] = {"l1": {"grid": {"train.batch_size": [8, 4]}}}
    else:
        changes["teacher"] = {"train": {"batch_size": 4}}
    with pytest.raises(InputError, match="6 workers cannot share a batch of 4"):
        planned(**changes)


def test_what_only_evaluation_computes_does_not_steer_a_search():
    with pytest.raises(InputError, match="'dists', which is for evaluation"):
        planned(search={"metric": "dists"})
    plan = planned(evaluation={"metrics": ["lpips_alex", "psnr_y"]})
    trial = plan.trial(plan.combinations[0], {}, 0, "d" * 64, None)
    assert trial.metrics == ("psnr_y",)


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ({"micro_batch": 4}, "resources.micro_batch: srresnet_bn normalises by the statistics of its batch"),
        ({"workers_per_trial": 2}, "resources.workers_per_trial: srresnet_bn normalises"),
        ({"workers_per_trial": 2, "min_workers": 1}, "resources.workers_per_trial: srresnet_bn normalises"),
        ({"min_workers": 1}, "resources.min_workers: srresnet_bn normalises"),
    ],
)
@pytest.mark.parametrize("where", ["model", "teacher"])
def test_a_network_that_looks_at_its_batch_is_not_trained_on_parts_of_one(resources, said, where):
    changes = {"models": ["srresnet_bn"]} if where == "model" else {"teacher": {"model": "srresnet_bn"}}
    with pytest.raises(InputError) as caught:
        planned(resources=resources, **changes)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert planned(**changes).combinations and planned(resources=resources).combinations


def test_a_decoder_is_tuned_on_its_first_stage_and_its_discriminator_may_look_at_the_batch():
    tiny = {"model": "ccsr", "channels": 32, "mults": [1, 1], "attention": [1], "blocks": 1, "head": 16}
    parts = {"autoencoder": "vae.safetensors", "unet": {"trial": "0123abcd"}}
    models = {"ccsr": tiny | parts, "two": tiny | parts | {"tuned_decoder": True, "init": {"from": "x4/ccsr/nutl"}}}
    objectives = {"nutl": {}, "decoder": {"recipe": "ccsr_decoder", "loss.perceptual_weight": 0}}
    changes = {"models": models, "objectives": objectives, "scales": [4], "train": {"patch": 48}, "teacher": None}
    plan = planned(**changes)
    assert [one.id for one in plan.combinations] == ["x4/ccsr/nutl", "x4/two/decoder"]
    assert {cell for cell, _ in plan.skipped} == {"x4/ccsr/decoder", "x4/two/nutl"}
    assert plan.combinations[1].after == ("x4/ccsr/nutl",)
    assert "  two has no prompt: a seeded stand-in takes its place" in plan_text(plan, 2)
    of_a_file = {"ccsr": tiny | parts | {"unet": "sd.safetensors"}}
    with pytest.raises(InputError, match=r"models\.ccsr: its unet is a file, .*; give prompt: FILE"):
        planned(**changes | {"models": of_a_file})
    prompted = planned(
        **changes | {"models": {"ccsr": of_a_file["ccsr"] | {"prompt": "p.safetensors"}}, "objectives": ["nutl"]}
    )
    assert "no prompt" not in plan_text(prompted, 2)
    with pytest.raises(InputError, match=r"resources\.micro_batch: the discriminator \(loss\.norm batch\) normal"):
        planned(**changes | {"resources": {"micro_batch": 4}})
    chain = {"nutl": {}, "decoder": objectives["decoder"] | {"loss.steps": 2}}
    with pytest.raises(InputError, match=r"^loss\.steps of objectives\.decoder: of 2 steps none may lie between"):
        planned(**changes | {"objectives": chain})
    grouped = {"nutl": {}, "decoder": objectives["decoder"] | {"loss.norm": "group"}}
    assert planned(**changes | {"resources": {"workers_per_trial": 2}, "objectives": grouped}).combinations
    for init in (None, {2: {"from": "x4/ccsr/nutl"}}):
        begun = {"ccsr": models["ccsr"], "two": models["two"] | {"init": init}}
        with pytest.raises(InputError, match=r"^models\.two: x4/two/decoder tunes a .*; give init: FILE") as told:
            planned(**changes | {"models": begun})
        assert "\n" not in str(told.value)


def from_(name: str) -> dict[str, Any]:
    return {"from": name}


def warm(**changes: Any) -> Plan:
    models = {"edsr_baseline": {"init": {4: from_("x2/edsr_baseline/l1")}}}
    return planned(**{"models": models, "scales": [2, 4], "objectives": ["l1", "eco"]} | changes)


def test_combinations_come_in_the_order_of_their_needs():
    plan = warm(teacher=from_("x{scale}/edsr_baseline/l1"))
    assert [[one.id.replace("edsr_baseline/", "") for one in level] for level in plan.levels] == [
        ["x2/l1"], ["x2/eco", "x4/l1"], ["x4/eco"],
    ]  # fmt: skip
    assert plan.combinations[-1].after == ("x2/edsr_baseline/l1", "x4/edsr_baseline/l1")
    assert len(planned(objectives=["l1", "eco"]).levels) == 1, "a teacher that is trained first needs no row"
    part = plan.part(plan.levels[1])
    assert [one.id for one in part.combinations] == ["x2/edsr_baseline/eco", "x4/edsr_baseline/l1"]


def test_a_dry_run_says_whose_fingerprints_are_not_known_yet():
    lines = plan_text(warm(teacher=from_("x{scale}/edsr_baseline/l1")), 2).splitlines()
    later = [line.split()[0] for line in lines if line.endswith(", fingerprints known once trained")]
    assert later == ["x2/edsr_baseline/eco", "x4/edsr_baseline/l1", "x4/edsr_baseline/eco"]
    assert "  teacher at x2, x4: the winner of x2/edsr_baseline/l1, the winner of x4/edsr_baseline/l1" in lines
    assert "known once trained" not in plan_text(planned(objectives=["l1", "eco"]), 2)


def test_a_grid_point_is_named_by_its_id():
    grid = {"l1": {"grid": {"train.batch_size": [16, 8]}}}
    models = {"imdn": {}, "again": {"model": "imdn", "init": from_("x2/imdn/l1[train.batch_size=8]")}}
    plan = planned(objectives=grid, models=models)
    assert plan.levels[1][0].after == ("x2/imdn/l1[train.batch_size=8]",)


A_B = {"a": {"model": "imdn", "init": from_("x{scale}/b/l1")}, "b": {"model": "imdn", "init": from_("x{scale}/a/l1")}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"models": {"imdn": {"init": {4: from_("x2/imdn/l2")}}}},
            "models.imdn.init: no combination 'x2/imdn/l2' in this sweep; did you mean 'x2/imdn/l1'? (valid: ",
        ),
        ({"models": A_B}, "x2/a/l1 needs its own weights: x2/a/l1 needs x2/b/l1 needs x2/a/l1; name other weights"),
        ({"models": {"imdn": {"init": from_("x2/imdn/l1")}}}, "x2/imdn/l1 needs its own weights: x2/imdn/l1 needs x2/"),
        ({"teacher": from_("x{scale}/imdn/eco")}, "x2/imdn/eco needs its own weights"),
        ({"teacher": from_("x2/imdn/l1")}, "teacher: x2/imdn/l1 makes no x4 pictures, which x4/imdn/eco needs"),
        ({"teacher": {"weights": {2: "FILE"}}}, "teacher.weights: none for x4, where x4/imdn/eco needs a teacher"),
        (
            {"models": {"edsr_baseline": {}, "imdn": {"init": from_("x2/edsr_baseline/l1")}}},
            "models.imdn.init: x2/edsr_baseline/l1 trains edsr_baseline, whose weights start no imdn (x2/imdn/l1)",
        ),
    ],
)
def test_weights_that_cannot_be_had_are_one_line(changes, said):
    with pytest.raises(InputError) as caught:
        planned(**{"scales": [2, 4], "objectives": ["l1", "eco"]} | changes)
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value)


SR3 = {"sr3": {"channels": 8, "mults": [1, 2], "attention": [], "blocks": 1, "groups": 4}}
WEIGHED = {"recipe": "nutl", "timesteps.terminal": {"weight": "alpha_bar"}}


def test_diffusion_stands_beside_regression_and_each_objective_finds_its_networks():
    plan = planned(
        models={**SR3, "imdn": {}}, objectives={"l1": {}, "ddpm": {}, "dream": {"search": []}, "nutl": WEIGHED},
        process={"T": 1000}, validation={"images": 2, "crop": 32, "steps": 10}, train={"steps": 200},
        evaluation={"sampling": {"sampler": "ddim", "steps": 50}},
    )  # fmt: skip
    found = {one.id: one for one in plan.combinations}
    assert list(found) == ["x2/sr3/ddpm", "x2/sr3/dream", "x2/sr3/nutl", "x2/imdn/l1"]
    assert [name for name, _ in plan.skipped] == ["x2/sr3/l1", "x2/imdn/ddpm", "x2/imdn/dream", "x2/imdn/nutl"]
    assert list(found["x2/sr3/nutl"].axes.ranges) == ["timesteps.t_max", "timesteps.ratio"]
    assert found["x2/sr3/ddpm"].process.T == 1000 and found["x2/imdn/l1"].process is None
    text = plan_text(plan, 2)
    assert "sr3/ddpm draws a picture in 50 passes, in 10 for a validation" in text
    assert "sr3/nutl draws a picture in 17 passes, in 5 for a validation" in text and "not in the estimate" not in text
    assert "a step of sr3/dream takes 2 forward and 1 backward, 4/3 of a plain one" in text
    assert "a step of sr3/nutl takes 3 forward and 3 backward, 3 of a plain one" in text
    assert "a step of sr3/ddpm" not in text and "GPU-seconds for one of 128x128 HR pixels" in text

    trial = plan.trial(found["x2/sr3/dream"], {}, 0, "ab" * 32, None)
    assert (trial.process.T, trial.sampling) == (1000, Sampling(sampler="ddim", steps=10))
    assert (trial.measured.images, trial.measured.crop, trial.measured.draws) == (2, 32, 1)
    moved = plan.trial(found["x2/sr3/nutl"], {"timesteps.t_max": 0.8, "timesteps.ratio": 0.25}, 0, "ab" * 32, None)
    assert moved.sampling == Sampling(sampler="truncated", steps=10, t_max=0.8, t_min=0.2)
    plain = plan.trial(found["x2/imdn/l1"], {}, 0, "ab" * 32, None)
    assert plain.process is None and plain.sampling is None and plain.measured.crop == 32


def test_a_grid_over_p_with_null_is_rows_and_a_model_may_have_noise_of_its_own():
    models = {**SR3, "v": {"model": "sr3", **SR3["sr3"], "process": {"prediction": "v"}}}
    plan = planned(models=models, objectives={"dream": {"grid": {"loss.p": [0, 1, None]}}}, process={"T": 1000})
    assert [one.id for one in plan.combinations if one.label == "sr3"] == [
        "x2/sr3/dream[loss.p=0.0]", "x2/sr3/dream[loss.p=1.0]", "x2/sr3/dream[loss.p=null]",
    ]  # fmt: skip
    assert {one.label: (one.process.T, one.process.prediction) for one in plan.combinations} == {
        "sr3": (1000, "eps"), "v": (1000, "v"),
    }  # fmt: skip
    assert "validations are not in the estimate: give validation.images and validation.crop" in plan_text(plan, 2)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"objectives": ["nutl"]}, "x2/sr3/nutl: process: at T=2000 alpha-bar is 4.4e-05, .*weight: alpha_bar"),
        ({"process": {"steps": 3}}, r"process: unknown key 'steps'"),
        ({"process": {"T": 200}}, "process: the chain ends with alpha-bar 0.37, above 0.02"),
        ({"models": {"imdn": {"process": {"T": 10}}}, "objectives": ["l1"]}, "models.imdn.process: imdn is no diff"),
        (
            {"train": {"patch": 7}, "models": {"sr3": SR3["sr3"] | {"mults": [1, 2, 2]}}},
            "sr3 works on windows of 2 pix",
        ),
        (
            {"models": {**SR3, "imdn": {}}, "objectives": ["ddpm", "kd"], "teacher": {"model": "sr3"}},
            "teacher: target 'hr' with loss 'l1' cannot train a diffusion network",
        ),
        *(
            (
                {"models": {**SR3, "imdn": {}}, "objectives": ["ddpm", "kd"], "teacher": teacher},
                "teacher: sr3 draws its pictures from noise, and a teacher gives one",
            )
            for teacher in ({"model": "sr3", "weights": "FILE"}, {"from": "x2/sr3/ddpm"})
        ),
        ({"validation": {"crop": 33}}, "validation.crop: 33 HR pixels are no whole number of LR pixels at x2"),
        (
            {"validation": {"steps": 2001}},
            "validation.steps: the process of x2/sr3/ddpm has 2000 steps, fewer than 2001",
        ),
        ({"validation": {"metrics": ["dists"]}}, "validation.*a validation measures .* for evaluation"),
        ({"validation": {"metrics": ["l_std"]}}, r"validation: l_std .* needs validation.draws >= 2 \(got 1\)"),
        ({"search": {"metric": ["psnr_y", "l_std"]}}, r"search.metric: l_std .* needs validation.draws >= 2 \(got 1\)"),
        ({"search": {"metric": ["psnr_y"]}}, r"give one metric by its name, or a list of two or three"),
        ({"search": {"metric": ["psnr_y", "psnr_y"]}}, "'psnr_y' is named twice"),
        ({"search": {"metric": ["psnr_y", "ssim_y"], "halve_by": "psnr_rgb"}}, "halve_by names one of search.metric"),
        ({"search": {"metric": ["psnr_y", "ssim_y"], "audit": 1}}, "without halve_by none is stopped"),
        (
            {"search": {"metric": ["psnr_y", "ema.ssim_y"]}},
            "search.metric: 'ema.ssim_y' needs train.ema for x2/sr3/ddpm",
        ),
        (
            {"objectives": {"ddpm": {"search": ["process.beta_end"]}}, "process": {"T": 1000, "beta_end": 0.02}},
            r"objectives.ddpm.process: the chain ends with alpha-bar 0.082, above 0.02 \(T=1000, beta 1e-06 to 0.005\)",
        ),
        ({"objectives": {"ddpm": {"grid": {"process.T": [2000, 200]}}}}, "objectives.ddpm.process: .* alpha-bar 0.37"),
        (
            {
                "objectives": {"nutl": WEIGHED | {"timesteps.terminal": {}, "search": ["process.beta_end"]}},
                "process": {"T": 1000, "beta_end": 0.012, "allow_terminal_signal": True},
            },
            "x2/sr3/nutl: process: at T=1000 alpha-bar is 1.*e-09",
        ),
        (
            {"objectives": {"ddpm": {"search": ["process.beta_end"]}}, "process": {"schedule": "cosine"}},
            "x2/sr3/ddpm: process.beta_end has no effect under process.schedule cosine",
        ),
        (
            {"objectives": {"ddpm": {"search": {"sampling.steps": [10, 2001]}}}},
            "objectives.ddpm: sampling.steps: the process of x2/sr3/ddpm has 2000 steps, fewer than 2001",
        ),
        (
            {"objectives": {"nutl": WEIGHED | {"grid": {"sampling.steps": [50, 7]}}}},
            r"sampling.steps: of 7 steps none may lie between t_max and t_min of x2/sr3/nutl\[sampling.steps=7\]",
        ),
        (
            {
                "models": {**SR3, "imdn": {}},
                "objectives": ["ddpm", "expectation"],
                "validation": {"draws": 2},
                "search": {"metric": "l_std"},
            },
            "search.metric: l_std cannot steer x2/imdn/expectation, which gives one picture",
        ),
        (
            {"evaluation": {"sampling": {"sampler": "resshift"}}},
            "evaluation.sampling of x2/sr3/ddpm: sampling: sampler resshift: this network has no such steps",
        ),
        ({"evaluation": {"sampling": {"steps": 5000}}}, "the process of x2/sr3/ddpm has 2000 steps, fewer than 5000"),
        (
            {
                "process": {"zero_terminal_snr": True, "prediction": "v"},
                "evaluation": {"sampling": {"sampler": "unipc"}},
            },
            "evaluation.sampling of x2/sr3/ddpm: samplers dpm_solver and unipc ",
        ),
        (
            {"objectives": {"nutl": WEIGHED}, "validation": {"steps": 7}},
            "validation.steps: of 7 steps none may lie between t_max and t_min of x2/sr3/nutl; give at least 8",
        ),
        (
            {"objectives": {"nutl": WEIGHED | {"search": []}}, "evaluation": {"sampling": {"steps": 2}}},
            "evaluation.sampling.steps: of 2 steps none .*; give at least 3",
        ),
        ({"evaluation": {"sampling": {"eta": 1}}}, "evaluation.sampling.*eta goes with the sampler ddim"),
        ({"objectives": ["l1"]}, "objectives.l1: target 'hr' with loss 'l1' cannot train a diffusion network"),
    ],
)
def test_noise_and_sampling_that_cannot_be_are_refused(changes, said):
    with pytest.raises(InputError, match=said):
        planned(**{"models": SR3, "objectives": ["ddpm"]} | changes)


def test_validations_of_before_tiles_on_a_canvas_were_lr_pixels_are_not_those_of_a_search():
    canvas, tile = {"sampling": {"canvas": "ccsr"}}, {"tile": 16, "tile_overlap": 4}
    for asked, moved in (({}, False), (canvas, False), (tile, False), (canvas | tile, True)):
        plan = planned(models=SR3, objectives=["ddpm"], evaluation=asked)
        now = plan.trial(plan.combinations[0], {}, 0, "d" * 64, None)
        fields = now.model_dump(mode="json")
        assert (fields.pop("tiles_version", None) is not None) is moved
        before = TrialConfig.parse(fields, "trial.json of before")
        assert before.fingerprint == now.fingerprint and before.measures(now) is not moved
        assert before.measured_too_as(now).measures(now)


def test_a_papers_tiles_are_of_diffusion_networks_and_move_no_trial():
    models, objectives = {**SR3, "imdn": {}}, ["l1", "ddpm"]
    plain, cut = (
        planned(models=models, objectives=objectives, evaluation=e) for e in ({}, {"crops": "ccsr128o64released"})
    )
    for one, other in zip(plain.combinations, cut.combinations, strict=True):
        before, after = (p.trial(c, {}, 0, "d" * 64, None) for p, c in ((plain, one), (cut, other)))
        drawn = one.objective == "ddpm"
        assert (before.crops, after.crops) == (None, "ccsr128o64released" if drawn else None)
        assert before.fingerprint == after.fingerprint and (before.scored_by != after.scored_by) is drawn
    assert "crops" not in plain.config.model_dump(mode="json")["evaluation"]
    assert "crops" not in plain.trial(plain.combinations[0], {}, 0, "d" * 64, None).model_dump(mode="json")
    assert "(classical protocol, drawn in tiles of ccsr128o64released)" in plan_text(cut, 2)
    with pytest.raises(InputError, match=r"evaluation\.crops: dream40o5 are tiles of diffusion networks, and this"):
        planned(evaluation={"crops": "dream40o5"})


def test_what_diffusion_brought_moves_no_other_run():
    config = planned().config
    assert config.model_dump(mode="json").keys().isdisjoint({"process", "validation"})
    assert "sampling" not in config.model_dump(mode="json")["evaluation"]


FAR = {"near": {"hr": "test"}, "far": {"hr": "test", "scale": 5}}
"""Test sets: one at the scales of the sweep, one at a scale of its own."""


def test_a_test_set_of_its_own_scale_is_for_networks_that_take_any():
    plan = planned(scales=[2, 4], models={**SR3, "imdn": {}}, objectives=["l1", "ddpm"], data={**DATA, "test": FAR})
    assert plan.unscored == {("far", 5): ("x2/imdn/l1", "x4/imdn/l1")}
    assert plan.config.scored_scales == (2, 4, 5)
    text = plan_text(plan, 2)
    assert "not scored on far x5: x2/imdn/l1, x4/imdn/l1, whose weights are of their own scale alone" in text
    assert "scored on near, far x5 by" in text
    plain = planned(scales=[2, 4], models={**SR3, "imdn": {}}, objectives=["l1", "ddpm"])
    assert plain.unscored == {} and "not scored on" not in plan_text(plain, 2)
    own = planned(scales=[2, 4], data={**DATA, "test": {"near": {"hr": "test"}, "x4only": {"hr": "test", "scale": 4}}})
    assert own.unscored == {("x4only", 4): ("x2/imdn/l1",)}


IDM = {"idm": {"channels": 8, "groups": 4}}
HALF = {"near": {"hr": "test"}, "half": {"hr": "test", "scale": 2.5}}


def test_a_test_set_at_a_fraction_is_for_networks_that_take_them():
    plan = planned(models={**SR3, **IDM}, objectives=["ddpm"], data={**DATA, "test": HALF})
    assert plan.unscored == {("half", 2.5): ("x2/sr3/ddpm",)} and plan.config.scored_scales == (2, 2.5)
    assert plan.scored == {("near", 2): ("x2/sr3/ddpm", "x2/idm/ddpm"), ("half", 2.5): ("x2/idm/ddpm",)}
    assert "not scored on half x2.5: x2/sr3/ddpm, whose weights are of whole scales alone" in plan_text(plan, 2)
    whole = {"near": {"hr": "test", "scale": 2.0}}
    [named] = {planned(data={**DATA, "test": {"near": {"hr": "test", "scale": s}}}).config.hash for s in (2, 2.0)}
    assert named == planned(data={**DATA, "test": whole}).config.hash
    assert SweepConfig.parse(plan.config.model_dump(mode="json"), "again").hash == plan.config.hash


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"data": {**DATA, "test": HALF}},
            r"data.test.half.scale: no network of this sweep is scored at x2\.5: none is trained there, and weights of "
            "imdn are of whole scales alone",
        ),
        (
            {"data": {**DATA, "test": {"half": {"hr": "test", "scale": 0.5}}}},
            r"data\.test\.half\.scale: a scale must be at least 1, got 0\.5",
        ),
        (
            {"models": IDM, "objectives": ["ddpm"], "data": {**DATA, "test": HALF}, "evaluation": {"tile": 8}},
            r"evaluation\.tile: tiles are for whole scales, and data\.test\.half has x2\.5; leave one out",
        ),
        (
            {
                "models": IDM, "objectives": ["ddpm"], "data": {**DATA, "test": HALF},
                "evaluation": {"crops": "dream40o5"},
            },
            r"evaluation\.crops: tiles are for whole scales, and data\.test\.half has x2\.5; leave one out",
        ),
        ({"data": {**DATA, "test": FAR}}, "data.test.far.scale: no network of this sweep is scored at x5: none is"),
        (
            {"scales": [2, 4], "data": {**DATA, "test": {"only": {"hr": "test", "scale": 4}}}},
            "data.test: no set of x2, which x2/imdn/l1 is to be scored on",
        ),
        (
            {"models": SR3, "objectives": ["ddpm"], "data": {**DATA, "test": {"same": {"hr": "test", "scale": 1}}}},
            "data.test.same: at scale 1 no kernel makes LR from HR",
        ),
        (
            {
                "models": {"sr3": {**SR3["sr3"], "mults": [1, 2, 2]}}, "objectives": ["ddpm"],
                "data": {**DATA, "test": FAR}, "evaluation": {"tile": 6, "tile_overlap": 2},
            },
            "evaluation.tile: sr3 needs multiples of 4 LR pixels at x5, and a tile with its overlap on both sides has",
        ),
        (
            {
                "models": {"sr3": {**SR3["sr3"], "mults": [1, 1, 2, 2, 2]}}, "objectives": ["ddpm"],
                "data": {**DATA, "test": FAR}, "evaluation": {"crops": "dream40o5"},
            },
            r"evaluation\.crops: sr3 needs multiples of 16 LR pixels at x5, and tiles of dream40o5 have 40 ",
        ),
    ],
)  # fmt: skip
def test_a_scale_of_a_test_set_that_cannot_be_scored_is_refused(changes, said):
    with pytest.raises(InputError, match=said):
        planned(**changes)


def test_a_scale_of_a_test_set_moves_the_name_of_a_run_and_its_absence_does_not():
    plain = planned().config
    assert "scale" not in plain.model_dump_json(include={"data": {"test"}})
    assert plain.hash != planned(models=SR3, objectives=["ddpm"], data={**DATA, "test": FAR}).config.hash


def test_a_search_for_a_front_measures_all_its_metrics_and_leaves_the_hash_of_others_alone():
    config = planned().config
    assert "halve_by" not in config.model_dump(mode="json")["search"] and config.search.metric == "psnr_y"
    plan = planned(search={"metric": ["ssim_y", "lpips_alex", "ema.psnr_y"]}, train={"steps": 9, "ema": 0.9})
    trial = plan.trial(plan.combinations[0], {}, 0, "d" * 64, None)
    assert trial.metrics == ("ssim_y", "lpips_alex", "psnr_y")
    assert (plan.config.search.halved_by, config.search.halved_by) == (None, "psnr_y")
    searched = planned(search={"metric": ["psnr_y", "ssim_y"]}, objectives=["expectation"])
    said = "  searches are for the front of psnr_y, ssim_y; no trial is stopped early; the best by psnr_y runs in full"
    assert said in plan_text(searched, 2).splitlines() and searched.rungs == []
    halved = planned(search={"metric": ["psnr_y", "ssim_y"], "halve_by": "ssim_y"}, objectives=["expectation"])
    assert "; trials are stopped by ssim_y; " in plan_text(halved, 2) and halved.rungs


def test_the_process_moves_fingerprints_and_the_number_of_sampling_steps_does_not():
    objectives = {"ddpm": {"search": {"process.beta_end": {"low": 8e-3, "high": 0.02}, "sampling.steps": [20, 10]}}}
    plan = planned(models=SR3, objectives=objectives, validation={"steps": 5}, search={"trials": 3})
    [one] = plan.combinations
    assert one.axes.configured == {"process.beta_end": 1e-2, "sampling.steps": 20}

    def trial(**values: Any) -> TrialConfig:
        return plan.trial(one, {name.replace("__", "."): value for name, value in values.items()}, 0, "d" * 64, None)

    few, many, moved = trial(sampling__steps=10), trial(sampling__steps=20), trial(process__beta_end=0.02)
    assert few.fingerprint == many.fingerprint == trial().fingerprint != moved.fingerprint
    assert (few.sampling.steps, many.sampling.steps, trial().sampling.steps) == (10, 20, 5)
    assert moved.process.beta_end == 0.02 and not few.measures(many)
    assert "sr3/ddpm draws a picture in 20 passes, in 20 for a validation" in plan_text(plan, 2)


def test_rows_of_a_grid_differ_in_prediction_chain_and_sampling_steps():
    grid = {"process.T": [1000, 2000], "process.prediction": ["eps", "v"], "sampling.steps": [4]}
    plan = planned(models=SR3, objectives={"ddpm": {"grid": grid}}, process={"beta_end": 0.02})
    assert [one.id for one in plan.combinations][:2] == [
        "x2/sr3/ddpm[process.T=1000,process.prediction=eps,sampling.steps=4]",
        "x2/sr3/ddpm[process.T=1000,process.prediction=v,sampling.steps=4]",
    ]
    trials = [plan.trial(one, {}, 0, "d" * 64, None) for one in plan.combinations]
    assert len({trial.fingerprint for trial in trials}) == 4 and {trial.sampling.steps for trial in trials} == {4}
    assert "sr3/ddpm[sampling.steps=4] draws a picture in 4 passes" in plan_text(plan, 2)


def test_p_and_the_range_of_timesteps_are_searched_together_without_a_rejection():
    plan = planned(models=SR3, objectives={"dream+nutl": WEIGHED | {"recipe": "dream+nutl"}}, validation={"steps": 20})
    [one] = plan.combinations
    assert list(one.axes.ranges) == ["loss.p", "timesteps.t_max", "timesteps.ratio"]
    for ends in itertools.product(*(one.axes.values(name) for name in one.axes.ranges)):
        drawn = plan.trial(one, dict(zip(one.axes.ranges, ends, strict=True)), 0, "d" * 64, None).sampling
        assert (drawn.t_max, drawn.t_min) == (ends[1], pytest.approx(ends[1] * ends[2])) and drawn.t_min < drawn.t_max


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ({}, "; on latents that are made once"),
        ({"stored_latents": False}, "; each step encodes (train.stored_latents=false)"),
        ({"degradation": "realesrgan"}, "; each step encodes (train.degradation)"),
    ],
)
def test_a_plan_says_whether_steps_pay_for_an_autoencoder(train, said):
    models = {"mine": {"model": "resshift", "autoencoder": "f.pth"}}
    plan = planned(models=models, scales=[4], objectives=["ddpm"], train={"patch": 64, **train})
    text = plan_text(plan, 2)
    assert said in text and "beside bicubic and the ceiling of each autoencoder" in text
