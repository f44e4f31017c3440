"""A sweep's config: refused in one line, identical after a round trip, fingerprinted by what moves numbers."""

import textwrap
from pathlib import Path

import pytest
import yaml

from objectives import RECIPES
from orchestrator.plan.config import GroupConfig, SweepConfig, TrainConfig, TrialConfig
from orchestrator.plan.read import PRESETS, expand, load
from sr_models.errors import InputError
from sr_models.hashing import digest

BASE = """
name: base
models: [edsr_baseline, imdn]
objectives:
  l1:
  eco: {search: [target.length]}
teacher: {}
data:
  train: [{hr: a}]
  validation: [{hr: b}]
  test: {set5: {hr: "c/{scale}"}}
"""
TRIAL = TrialConfig(
    model="imdn", scale=2, hyper={"channels": 32, "blocks": 2}, objective=RECIPES["eco"], train=TrainConfig(),
    seed=1, protocol="classical", metrics=("psnr_y",), data_hash="ab" * 32, teacher="cd" * 32,
)  # fmt: skip
GOLDEN = "0d6af7ae2a192e1ccb641f05cbc143f45ea57015137b679d07dd602adc75d56e"


@pytest.fixture
def write(tmp_path):
    def make(text: str = BASE) -> Path:
        path = tmp_path / "sweep.yaml"
        path.write_text(textwrap.dedent(text))
        return path

    return make


# ---- identity ------------------------------------------------------------------------------------------------------


def test_a_fingerprint_is_pinned():
    """A new default or field moves it, and orphans every run there is: then say so in CHANGELOG under "Numbers"."""
    assert TRIAL.fingerprint == GOLDEN
    assert digest({"b": 1, "a": [0.1, None]}) == digest({"a": [0.1, None], "b": 1})


def test_a_trial_comes_back_from_json_with_its_fingerprint():
    again = TrialConfig.model_validate_json(TRIAL.model_dump_json())
    assert again == TRIAL and again.fingerprint == TRIAL.fingerprint


@pytest.mark.parametrize(
    ("change", "moves"),
    [
        ({"train": {"checkpoint_every": 7}}, False),
        ({"train": {"lr": 2.1e-4}}, True),
        ({"train": {"validate_every": 50}}, True),
        ({"train": {"ema": 0.999}}, True),
        ({"train": {"precision": "bf16"}}, True),
        ({"train": {"groups": {}}}, False),
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


def test_a_sweep_comes_back_from_yaml_with_its_hash(write, tmp_path):
    config = load(write(), ["train.lr=1e-3", "scales=[2,4]", "objectives.eco.target.warm_hold=0.1"])
    copy = tmp_path / "copy.yaml"
    copy.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    assert load(copy) == config and load(copy).hash == config.hash
    assert config.run_name == f"base-{config.hash[:8]}" and len(config.hash) == 64


@pytest.mark.parametrize(
    ("override", "moves"),
    [
        ("resources.cpus_per_worker=4", False),
        ("resources.gpus_per_worker=0.5", False),
        ("resources.max_concurrent=3", False),
        ("evaluation.workers=2", False),
        ("evaluation.weights_dir=backbones", False),
        ("evaluation.draws=4", True),
        ("evaluation.seed=1", True),
        ("train.checkpoint_every=7", False),
        ("train.lr=1e-3", True),
        ("train.groups={}", False),
        ("train.groups.model.lr=1e-3", True),
        ("seed=1", True),
        ("seeds=2", True),
        ("search.trials=9", True),
        ("data.on_bad=skip", True),
        ("evaluation.metrics=[ssim_y]", True),
    ],
)
def test_the_hash_of_a_sweep_ignores_resources(write, override, moves):
    assert (load(write(), [override]).hash != load(write()).hash) is moves


# ---- reading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("train.steps=300", lambda c: (c.train.steps, 300)),
        ("scales=[2,4]", lambda c: (c.scales, (2, 4))),
        ("train.ema=null", lambda c: (c.train.ema, None)),
        ("train.lr=1e-3", lambda c: (c.train.lr, 1e-3)),  # YAML 1.1 reads this as text, pydantic as a number
        ("models.imdn.channels=32", lambda c: (c.models["imdn"], {"channels": 32})),
        ("models=[edsr]", lambda c: (c.models, {"edsr": {}})),
        ("search.metric=ema.psnr_y", lambda c: (c.search.metric, "ema.psnr_y")),
        ("data.test.set5.lr=x=y", lambda c: (c.data.test["set5"].lr, "x=y")),
    ],
)
def test_overrides(write, override, read):
    found, expected = read(load(write(), [override]))
    assert found == expected


def test_a_later_override_wins(write):
    assert load(write(), ["train.steps=300", "train.steps=400"]).train.steps == 400


@pytest.mark.parametrize("name", sorted(path.stem for path in PRESETS.glob("*.yaml")))
def test_presets_load(name):
    assert load(name).name == name


def test_labels_name_networks_and_recipes(write):
    text = """
        name: labels
        models:
          small: {model: imdn, channels: 32, train: {lr: 0.01, steps: 7}}
        objectives:
          slow: {recipe: eco, target.length: 0.9}
          own: {target: hr, loss: {kind: charbonnier, eps: 0.01}}
        data: {train: [{hr: a}], validation: [{hr: b}], test: {c: {hr: c}}}
    """
    config = load(write(text))
    network, hyper, train = config.network("small")
    assert (network, hyper) == ("imdn", {"channels": 32})
    assert (train.lr, train.steps, train.batch_size) == (0.01, 7, config.train.batch_size)
    assert config.objective("slow").target.length == 0.9
    assert config.objective("own").loss.eps == 0.01


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.stepz=3", "sweep.yaml.train: unknown key 'stepz'; did you mean 'steps'? (valid: batch_size, "),
        ("trian.steps=3", "sweep.yaml: unknown key 'trian'; did you mean 'train'? (valid: data, "),
        ("data.test.set5.hrr=a", "sweep.yaml.data.test.set5: unknown key 'hrr'; did you mean 'hr'? (valid: exclude, "),
        ("data.train=[{hr: a, inclde: [b]}]",
         "sweep.yaml.data.train.0: unknown key 'inclde'; did you mean 'include'? (valid: exclude, "),
        ("train.steps=1", "sweep.yaml.train.steps: Input should be greater than or equal to 2 (got 1)"),
        ("train.steps=many", "sweep.yaml.train.steps: Input should be a valid integer"),
        ("train.lr=.nan", "sweep.yaml.train.lr: Input should be a finite number (got nan)"),
        ("train.ema=1", "sweep.yaml.train.ema: Input should be less than 1 (got 1)"),
        ("train.optimizer=sgd", "sweep.yaml.train.optimizer: Input should be 'adam' or 'adamw' (got 'sgd')"),
        ("search.metric=pnsr_y", "sweep.yaml.search.metric: unknown metric 'pnsr_y'; did you mean"),
        ("evaluation.metrics=[]", "sweep.yaml.evaluation.metrics: "),
        ("evaluation.protocol=clasical", "unknown protocol 'clasical'; did you mean 'classical'?"),
        ("scales=[2,2]", "sweep.yaml.scales: scales must be different whole numbers >= 1 (got "),
        ("models={}", "sweep.yaml.models: Dictionary should have at least 1 item"),
        ("name=../up", "sweep.yaml.name: String should match pattern"),
        ("train.steps", "'train.steps': an override is key=value, for example train.steps=300"),
        ("=3", "'=3': an override is key=value, for example train.steps=300"),
        ("train.steps=[", "'train.steps=[': the value is not plain YAML"),
        ("name.x=3", "'name.x=3': 'name' is not a mapping"),
    ],
)  # fmt: skip
def test_a_bad_override_is_one_line(write, override, said):
    with pytest.raises(InputError) as caught:
        load(write(), [override])
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n- b", "sweep.yaml: a sweep is a mapping of keys to values, got list"),
        ("", "sweep.yaml: a sweep is a mapping of keys to values, got NoneType"),
        ("name: !!python/object/apply:os.getpid []", "sweep.yaml, line 1: not plain YAML: could not determine"),
        ("name: [", "sweep.yaml, line 1: not plain YAML: "),
        ("name: only", "required, and not given"),
    ],
)
def test_a_bad_file_is_one_line(write, text, said):
    with pytest.raises(InputError) as caught:
        load(write(text))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match=r"no\.yaml: cannot be read \(No such file or directory\)"):
        load(tmp_path / "no.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: \xff\xfe\xe9")
    with pytest.raises(InputError, match=r"latin\.yaml: is not UTF-8 text"):
        load(tmp_path / "latin.yaml")
    with pytest.raises(InputError, match=r"unknown preset 'quikc'; did you mean 'quick'\?"):
        load("quikc")


def test_a_config_cannot_change(write):
    config = load(write())
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 3
    assert isinstance(config, SweepConfig) and config.seed == 0


def test_paths_are_expanded(monkeypatch):
    monkeypatch.setenv("SR_SWEEP_TEST_FOLDER", "/images")
    assert expand("${SR_SWEEP_TEST_FOLDER}/x{scale}", "data.train", 4) == "/images/x4"
    assert expand("skimage:", "data.train", 4) == "skimage:"
    assert expand("~/a", "data.train") == str(Path("~/a").expanduser())
    with pytest.raises(InputError, match=r"data\.train: .* uses an environment variable that is not set"):
        expand("$SR_SWEEP_NOT_SET/a", "data.train")


# ---- updates of an objective -----------------------------------------------------------------------------------------


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
