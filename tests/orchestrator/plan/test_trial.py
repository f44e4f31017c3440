"""A trial's config: its fingerprint moves with the numbers and with nothing else."""

import pytest

from objectives import RECIPES
from orchestrator.plan.train import GroupConfig, TrainConfig
from orchestrator.plan.trial import Measured, TrialConfig
from sr_models.errors import InputError
from sr_models.hashing import digest
from sr_models.hyper.process import ProcessParams
from sr_models.hyper.sampling import Sampling

TRIAL = TrialConfig(
    model="imdn", scale=2, hyper={"channels": 32, "blocks": 2}, objective=RECIPES["eco"], train=TrainConfig(),
    seed=1, protocol="classical", metrics=("psnr_y",), data_hash="ab" * 32, teacher="cd" * 32,
)  # fmt: skip
GOLDEN = "3cec01b904c7459bc12062ff0561c7f1f63007b698350a8172ff18766495ebc1"


def test_a_fingerprint_is_pinned():
    """A new default or field moves it, and orphans every run there is: then say so in CHANGELOG under "Numbers"."""
    assert TRIAL.fingerprint == GOLDEN
    assert digest({"b": 1, "a": [0.1, None]}) == digest({"a": [0.1, None], "b": 1})


def test_a_trial_comes_back_from_json_with_its_fingerprint():
    again = TrialConfig.model_validate_json(TRIAL.model_dump_json())
    assert again == TRIAL and again.fingerprint == TRIAL.fingerprint


def test_only_objectives_with_a_sigma_branch_or_a_noisy_loss_have_other_versions():
    """What changed there left other fingerprints alone; an old trial.json says its version itself."""
    fields = TRIAL.model_dump(mode="json", exclude={"numerics_version"})
    versions = {
        name: TrialConfig.parse(fields | {"objective": spec.model_dump(mode="json")}, "trial").numerics_version
        for name, spec in RECIPES.items()
        if spec.timesteps is None
    }
    assert DIFFUSION.numerics_version == 1
    others = {name: version for name, version in versions.items() if version != 1}
    assert others == {
        "constant_sigma": 3, "sampled_sigma": 3, "expectation": 3, "expectation_only": 3, "eco+expectation": 3,
        "l1+aux": 2, "aux_only": 2,
    }  # fmt: skip
    old = TrialConfig.parse(fields | {"objective": RECIPES["l1+aux"], "numerics_version": 1}, "trial")
    assert old.numerics_version == 1 and old.fingerprint != old.model_copy(update={"numerics_version": 2}).fingerprint


@pytest.mark.parametrize(
    ("change", "moves"),
    [
        ({"train": {"checkpoint_every": 7}}, False),
        ({"train": {"snapshots": [0.5]}}, False),
        ({"train": {"checkpointing": True}}, False),
        ({"train": {"lr": 2.1e-4}}, True),
        ({"train": {"validate_every": 50}}, False),
        ({"protocol": "uncropped"}, False),
        ({"metrics": ("ssim_y", "psnr_y")}, False),
        ({"tile": 64, "tile_overlap": 8}, False),
        ({"crops": "dream40o5"}, False),
        ({"train": {"ema": 0.999}}, True),
        ({"train": {"ema_warmup": False}}, False),
        ({"train": {"ema": 0.999, "ema_warmup": True}}, True),
        ({"train": {"precision": "bf16"}}, True),
        ({"train": {"groups": {}}}, False),
        ({"train": {"lr_noise": None}}, False),
        ({"train": {"lr_noise": 0.01}}, True),
        ({"train": {"degradation": None}}, False),
        ({"train": {"degradation": "ccsr"}}, True),
        ({"train": {"groups": {"model": {"lr": 1e-3}}}}, True),
        ({"seed": 2}, True),
        ({"data_hash": "ac" * 32}, True),
        ({"teacher": "ce" * 32}, True),
        ({"numerics_version": 2}, True),
        ({"hyper": {"channels": 32, "blocks": 3}}, True),
        ({"objective": RECIPES["eco_noise_free"]}, True),
        ({"scale": 4}, True),
    ],
)
def test_the_fingerprint_moves_with_what_moves_numbers(change, moves):
    if "train" in change:
        change = {"train": TRIAL.train.changed(change["train"], "train")}
    assert (TRIAL.model_copy(update=change).fingerprint != TRIAL.fingerprint) is moves


def test_a_degradation_is_written_whole_read_back_and_known_by_every_strength():
    fields = TRIAL.model_dump(mode="json") | {"teacher": None, "objective": RECIPES["l1"].model_dump(mode="json")}
    found = set()
    for given in ("ccsr", "realesrgan", "bsrgan", {"set": "ccsr", "second": {"jpeg": [70, 100]}}):
        trial = TrialConfig.parse(fields | {"train": fields["train"] | {"degradation": given}}, "trial")
        again = TrialConfig.parse(trial.model_dump(mode="json"), "trial")
        assert again == trial and again.fingerprint == trial.fingerprint
        assert trial.train.changed({"lr": 1e-3}, "train").degradation == trial.train.degradation
        found.add(trial.fingerprint)
    assert len(found) == 4
    with pytest.raises(InputError, match="'csr' found using 'set' does not match any of the expected tags"):
        TRIAL.train.changed({"degradation": "csr"}, "train")
    with pytest.raises(InputError, match="unknown key 'usn'; did you mean 'usm'"):
        TRIAL.train.changed({"degradation": {"set": "ccsr", "usn": 1}}, "train")


def test_what_stays_is_not_taught_beside_what_is_made_anew():
    with pytest.raises(InputError, match=r"train.degradation: makes other inputs in each step, and target '\w+' needs"):
        train = TRIAL.train.model_dump(mode="json") | {"degradation": "ccsr"}
        fields = TRIAL.model_dump(mode="json")
        TrialConfig.parse(fields | {"train": train, "objective": RECIPES["eco"].model_dump(mode="json")}, "trial")


def test_a_small_patch_is_cut_out_of_96_pixels():
    plain, degraded = (TRIAL.train.changed({"patch": 12, "degradation": how}, "train") for how in (None, "ccsr"))
    assert [(plain.cut(scale), degraded.cut(scale)) for scale in (2, 3, 4, 8)] == [
        (12, 48),
        (12, 32),
        (12, 24),
        (12, 12),
    ]


def measured(
    every: int, protocol: str = "classical", metrics: tuple[str, ...] = ("psnr_y",), tile: int | None = None
) -> TrialConfig:
    train = TRIAL.train.model_copy(update={"validate_every": every})
    return TRIAL.model_copy(update={"train": train, "protocol": protocol, "metrics": metrics, "tile": tile})


@pytest.mark.parametrize(
    ("there", "asked", "holds"),
    [
        (measured(50), measured(50), True),
        (measured(50), measured(100), True),
        (measured(100), measured(50), False),
        (measured(40), measured(50), False),
        (measured(50, metrics=("ssim_y", "psnr_y")), measured(50), True),
        (measured(50), measured(50, metrics=("psnr_y", "ssim_y")), False),
        (measured(50, "uncropped"), measured(50), False),
        (measured(50, tile=64), measured(50), False),
        (measured(50, tile=64), measured(100, tile=64), True),
    ],
)
def test_what_validations_hold(there, asked, holds):
    assert there.measures(asked) is holds and there.fingerprint == asked.fingerprint
    anew = there.measured_too_as(asked)
    assert anew.measures(asked) and anew.measured_as(there) == there
    assert anew.measures(there) == (there.scored_by == asked.scored_by)


def test_snapshots_are_steps_before_the_last():
    train = TrainConfig(steps=10, snapshots=(0.5, 0.001, 0.999, 0.52))
    assert train.snapshot_steps == (1, 5, 9) and TrainConfig().snapshot_steps == ()
    for wrong in (0, 1, -0.5):
        with pytest.raises(InputError, match="snapshots"):
            TrainConfig().changed({"snapshots": [wrong]}, "train")
    kept, more = (
        TRIAL.model_copy(update={"train": TRIAL.train.changed({"snapshots": [part]}, "")}) for part in (0.5, 0.25)
    )
    both = kept.measured_too_as(more)
    assert both.train.snapshots == (0.25, 0.5) and both.keeps(kept) and both.keeps(more) and not kept.keeps(more)
    assert TRIAL.measured_as(both) == both


def test_a_patch_is_given_in_lr_or_hr_pixels():
    with pytest.raises(InputError, match=r"^t: patch \(LR\) and hr_patch \(HR\) .* \(got patch 48, hr_patch 96\)$"):
        TrainConfig.parse({"patch": 48, "hr_patch": 96}, "t")
    assert TrainConfig.parse({"patch": 24, "hr_patch": None}, "t") == TrainConfig(patch=24)
    hr = TrainConfig(hr_patch=192)
    assert [hr.at(scale, "t") for scale in (1, 2, 3, 4, 8)] == [TrainConfig(patch=192 // s) for s in (1, 2, 3, 4, 8)]
    with pytest.raises(InputError, match=r"^t\.hr_patch: an HR patch of 100 is no whole number of LR pixels at x3$"):
        TrainConfig(hr_patch=100).at(3, "t")
    with pytest.raises(InputError, match=r"^t\.patch: .* greater than or equal to 4 \(got 2\)$"):
        TrainConfig(hr_patch=16).at(8, "t")
    assert TrainConfig(patch=30).at(7, "t") == TrainConfig(patch=30)


def test_the_narrower_choice_of_a_patch_replaces_the_wider_one():
    lr, hr = TrainConfig(patch=24), TrainConfig(hr_patch=192)
    assert lr.changed({"hr_patch": 96}, "t") == TrainConfig(hr_patch=96)
    assert hr.changed({"patch": 12}, "t") == TrainConfig(patch=12)
    assert hr.changed({"lr": 1e-3}, "t") == TrainConfig(hr_patch=192, lr=1e-3)
    assert lr.changed({"hr_patch": None}, "t") == lr and hr.changed({"hr_patch": None}, "t") == TrainConfig()
    for train in (lr, hr):
        assert TrainConfig.model_validate_json(train.model_dump_json()) == train


def test_a_fingerprint_holds_the_patch_whichever_way_it_was_given():
    assert TRIAL.model_copy(update={"train": TrainConfig(hr_patch=96).at(2, "t")}).fingerprint == GOLDEN
    with pytest.raises(InputError, match=r"^trial: a trial has its patch in LR pixels .* got hr_patch 96$"):
        TrialConfig.parse(TRIAL.model_dump() | {"train": {"hr_patch": 96}}, "trial")


def test_a_warmup_goes_with_an_average():
    with pytest.raises(InputError, match=r"^train: ema_warmup has no effect without ema$"):
        TrainConfig().changed({"ema_warmup": True}, "train")
    averaged = TRIAL.train.changed({"ema": 0.999}, "")
    assert averaged.changed({"ema_warmup": True}, "").model_dump() != averaged.model_dump()


def test_a_group_changes_what_it_names_and_nothing_else():
    train = TrainConfig(lr=1e-3, clip_norm=1.0, groups={"model": {"lr": 0.1, "decay_at": [0.2], "schedule": "step"}})
    assert train.group("model") == TrainConfig(lr=0.1, clip_norm=1.0, decay_at=(0.2,), schedule="step")
    assert train.group("other") == TrainConfig(lr=1e-3, clip_norm=1.0)


def test_what_may_differ_between_updates_is_bounded_as_in_train():
    """Two declarations of one hyperparameter: their types and bounds must not drift apart."""
    for name, field in GroupConfig.model_fields.items():
        whole = TrainConfig.model_fields[name]
        assert field.metadata == whole.metadata, name
        assert field.annotation in (whole.annotation, whole.annotation | None), name


def test_a_group_that_the_objective_has_no_update_for_is_refused():
    said = r"train.groups: no update 'modle'; did you mean 'model'\? \(valid: model\)"
    train = {"groups": {"modle": {"lr": 0.1}}}
    with pytest.raises(InputError, match=f"^trial: {said}$"):
        TrialConfig.parse(TRIAL.model_dump() | {"train": train}, "trial")
    with pytest.raises(InputError, match=f"^here.{said}$"):
        TrainConfig(**train).check_groups(RECIPES["eco"], "here.train")


DIFFUSION = TrialConfig(
    model="sr3", scale=2, hyper={}, objective=RECIPES["dream"], train=TrainConfig(), seed=1, protocol="classical",
    metrics=("psnr_y",), data_hash="ab" * 32, process=ProcessParams(), sampling=Sampling(steps=20),
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "moves"),
    [
        ({"process": ProcessParams(T=1000)}, True),
        ({"process": ProcessParams(prediction="v")}, True),
        ({"objective": RECIPES["ddpm"]}, True),
        ({"sampling": Sampling(sampler="ddim", steps=5)}, False),
        ({"measured": Measured(images=3, crop=48, draws=5)}, False),
    ],
)
def test_a_diffusion_trial_is_its_noise_and_not_how_it_is_sampled(change, moves):
    other = DIFFUSION.model_copy(update=change)
    assert (other.fingerprint != DIFFUSION.fingerprint) is moves
    if not moves:
        assert other.scored_by != DIFFUSION.scored_by and not DIFFUSION.measures(other)
        assert DIFFUSION.measured_as(other) == other
    assert TrialConfig.model_validate_json(other.model_dump_json()) == other


def test_what_regression_does_not_have_is_in_no_dump_of_it():
    assert TRIAL.model_dump(mode="json").keys().isdisjoint({"process", "sampling", "measured"})
    assert TRIAL.model_dump(mode="json")["objective"]["timesteps"] is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"process": None}, r"loss dream needs process \(got None\)"),
        ({"sampling": None}, r"loss dream needs sampling \(got None\)"),
        ({"crops": "dream40o5", "tile": 8}, r"crops dream40o5 is for drawn pictures without a tile \(got tile 8\)"),
        ({"objective": RECIPES["l1"].model_dump()}, "loss l1 has no process"),
        ({"objective": RECIPES["nutl"].model_dump()}, r"process: at T=2000 alpha-bar is 4.4e-05, .* times 151"),
    ],
)
def test_a_trial_has_noise_and_sampling_where_its_loss_has_levels_of_noise(change, said):
    with pytest.raises(InputError, match=said):
        TrialConfig.parse(DIFFUSION.model_dump(mode="json") | change, "trial")
