"""A sweep's config from a file, a preset and overrides: read as asked, or refused in one line that names the place."""

import json
from pathlib import Path

import pytest
import yaml

from orchestrator.plan.read import PRESETS, expand, is_uri, load
from sr_models.errors import InputError


def test_a_sweep_comes_back_from_yaml_with_its_hash(write, tmp_path):
    config = load(write(), ["train.lr=1e-3", "scales=[2,4]", "objectives.eco.target.warm_hold=0.1"])
    copy = tmp_path / "copy.yaml"
    copy.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    assert load(copy) == config and load(copy).hash == config.hash
    assert config.run_name == f"base-{config.hash[:8]}" and len(config.hash) == 64


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


TINY = """
tiny:
  train.steps: 30
  models.imdn: {channels: 16}
  objectives.eco.search: []
  train.patch: 12
"""


def test_scaling_down_is_the_same_as_giving_the_overrides_and_comes_before_them(write):
    path = write(more=TINY)
    given = ["train.steps=30", "models.imdn={channels: 16}", "objectives.eco.search=[]", "train.patch=16"]
    for words in (["scale_down=tiny", "train.patch=16"], ["train.patch=16", "scale_down=tiny"]):
        scaled = load(path, words)
        assert scaled.hash == load(path, given).hash and scaled.run_name == load(path, given).run_name
    assert (scaled.train.steps, scaled.train.patch, scaled.models["imdn"]) == (30, 16, {"channels": 16})


def test_the_small_size_is_in_no_hash_and_no_run_folder(write):
    whole = load(write(more=TINY))
    assert whole.tiny and whole.train.steps == 1000
    assert (whole.hash, whole.model_dump(mode="json")) == ((plain := load(write())).hash, plain.model_dump(mode="json"))


def test_scaling_down_says_that_what_is_printed_is_of_another_size(write):
    path = write(more=TINY + "paper: {source: Table 1}")
    assert [load(path, words).paper.scaled_down for words in ([], ["scale_down=tiny"])] == [False, True]
    assert load(path).hash == load(write()).hash and "paper" not in load(write()).model_dump()


@pytest.mark.parametrize(
    ("more", "word", "said"),
    [
        ("", "scale_down=tiny", "sweep.yaml: scale_down=tiny: this config has no `tiny:`, which maps dotted keys"),
        ("tiny: 3", "scale_down=tiny", "sweep.yaml: scale_down=tiny: this config has no `tiny:`"),
        (TINY, "scale_down=small", "'scale_down=small': the only size to scale down to is scale_down=tiny"),
        (TINY, "scale_down", "'scale_down': the only size to scale down to is scale_down=tiny"),
        ("tiny: {name.x: 3}", "scale_down=tiny", "tiny: name.x: 'name' is not a mapping"),
        ("tiny: {train.stepz: 3}", "scale_down=tiny", "sweep.yaml.train: unknown key 'stepz'; did you mean 'steps'?"),
        (
            TINY,
            "tiny.train.steps=3",
            "'tiny.train.steps=3': `tiny:` is the file's; an override of its own comes after it",
        ),
    ],
)
def test_what_cannot_be_scaled_down_is_one_line(write, more, word, said):
    with pytest.raises(InputError) as caught:
        load(write(more=more), [word])
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(path.stem for path in PRESETS.glob("*.yaml")))
def test_presets_load(name):
    assert load(name).name == name


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.stepz=3", "sweep.yaml.train: unknown key 'stepz'; did you mean 'steps'? (valid: batch_size, "),
        ("trian.steps=3", "sweep.yaml: unknown key 'trian'; did you mean 'train'? (valid: board, data, "),
        ("data.test.set5.hrr=a", "sweep.yaml.data.test.set5: unknown key 'hrr'; did you mean 'hr'? (valid: exclude, "),
        ("data.train=[{hr: a, inclde: [b]}]",
         "sweep.yaml.data.train.0: unknown key 'inclde'; did you mean 'include'? (valid: exclude, "),
        ("train.steps=1", "sweep.yaml.train.steps: Input should be greater than or equal to 2 (got 1)"),
        ("train.steps=many", "sweep.yaml.train.steps: Input should be a valid integer"),
        ("train.lr=1e300", "sweep.yaml.train.lr: Input should be less than or equal to 1000000 (got '1e300')"),
        ("train.lr=true", "sweep.yaml.train.lr: true and false are no numbers (got True)"),
        ("seeds=true", "sweep.yaml.seeds: true and false are no numbers (got True)"),
        ("scales=[true]", "sweep.yaml.scales: true and false are no numbers (got [True])"),
        ("train.groups={model: {lr: true}}", "train.groups.model.lr: true and false are no numbers (got True)"),
        ("train.steps=1" + 30 * "0", "train.steps=1" + 30 * "0" + ": the number 10000000000000000000... has more than"),
        ("train.steps=1" + 15 * "0", "train.steps: Input should be less than or equal to 1000000000 (got 1000"),
        ("train.steps=2:30", "sweep.yaml.train.steps: Input should be a valid integer, unable to parse string"),
        ("train.patch=1000000", "sweep.yaml.train.patch: Input should be less than or equal to 4096 (got 1000000)"),
        ("train.decay_at=[2, -1]", "sweep.yaml.train.decay_at.0: Input should be less than 1 (got 2)"),
        ("evaluation.metrics=[psnr_y, ssim_y, psnr_y]", "sweep.yaml.evaluation: 'psnr_y' is named twice"),
        ("models=[edsr, edsr]", "'edsr' is named twice"),
        ("name=" + 101 * "x", "sweep.yaml.name: String should match pattern"),
        ("name=" + 5000 * "x", "a text of 5,000 letters"),
        ("models." + 101 * "x" + "={model: edsr}", "a label is at most 100 letters, digits and _ . + -, got 'xxx"),
        ("data.train=x" + 3000 * "x", "data.train: Input should be a valid tuple (got 'xxxx"),
        ("train.lr=.nan", "sweep.yaml.train.lr: Input should be a finite number (got nan)"),
        ("train.ema=1", "sweep.yaml.train.ema: Input should be less than 1 (got 1)"),
        ("train.optimizer=sgd", "sweep.yaml.train.optimizer: Input should be 'adam', 'adamw' or 'lamb' (got 'sgd')"),
        ("search.metric=pnsr_y", "sweep.yaml.search.metric: unknown metric 'pnsr_y'; did you mean"),
        ("evaluation.metrics=[]", "sweep.yaml.evaluation.metrics: "),
        ("evaluation.protocol=clasical", "unknown protocol 'clasical'; did you mean 'classical'?"),
        ("scales=[2,2]", "sweep.yaml.scales: scales must be different whole numbers >= 1 (got "),
        ("models={}", "sweep.yaml.models: Dictionary should have at least 1 item"),
        ("name=../up", "sweep.yaml.name: String should match pattern"),
        ("train.steps", "'train.steps': an override is key=value, for example train.steps=300"),
        ("=3", "'=3': an override is key=value, for example train.steps=300"),
        ("train.steps=[", "train.steps=[, line 1: not plain YAML: "),
        ("name.x=3", "'name.x=3': 'name' is not a mapping"),
    ],
)  # fmt: skip
def test_a_bad_override_is_one_line(write, override, said):
    with pytest.raises(InputError) as caught:
        load(write(), [override])
    assert said in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 1000


def test_octal_is_read_as_written(write):
    assert load(write(), ["train.steps=0120"]).train.steps == 120


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n- b", "sweep.yaml: a sweep is a mapping of keys to values, got list"),
        ("", "sweep.yaml: a sweep is a mapping of keys to values, got NoneType"),
        ("name: !!python/object/apply:os.getpid []", "sweep.yaml, line 1: not plain YAML: tags"),
        ("name: [", "sweep.yaml, line 1: not plain YAML: "),
        ("name: only", "required, and not given"),
    ],
)
def test_a_bad_file_is_one_line(write, text, said):
    with pytest.raises(InputError) as caught:
        load(write(text))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match=r"no\.yaml: no such file, or a link to none$"):
        load(tmp_path / "no.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: \xff\xfe\xe9")
    with pytest.raises(InputError, match=r"latin\.yaml: is not UTF-8 text"):
        load(tmp_path / "latin.yaml")
    with pytest.raises(InputError, match=r"unknown preset 'quikc'; did you mean 'quick'\?"):
        load("quikc")


def test_paths_are_expanded(monkeypatch):
    monkeypatch.setenv("SR_SWEEP_TEST_FOLDER", "/images")
    assert expand("${SR_SWEEP_TEST_FOLDER}/x{scale}", "data.train", 4) == "/images/x4"
    assert expand("skimage:", "data.train", 4) == "skimage:"
    assert expand("~/a", "data.train") == str(Path("~/a").expanduser())
    with pytest.raises(InputError, match=r"data\.train: .* uses an environment variable that is not set .*write \$\$$"):
        expand("$SR_SWEEP_NOT_SET/a", "data.train")


def test_a_dollar_in_a_folders_name(monkeypatch, tmp_path):
    monkeypatch.setenv("SR_SWEEP_TEST_FOLDER", "/images/$5")
    monkeypatch.chdir(tmp_path)
    for name in ("cash $5", "x2 ${SR_SWEEP_TEST_FOLDER}"):
        (tmp_path / name).mkdir()
        assert expand(str(tmp_path / name), "w") == str(tmp_path / name) and expand(name, "w") == name
    assert expand("x{scale} ${SR_SWEEP_TEST_FOLDER}", "w", 2) == "x2 ${SR_SWEEP_TEST_FOLDER}"
    assert expand("not there $$5/$$$SR_SWEEP_TEST_FOLDER", "w") == "not there $5/$/images/$5"
    assert expand("a$-b/$", "w") == "a$-b/$"
    with pytest.raises(InputError, match=r"not set \(5\)"):
        expand("cash $5/deeper", "w")


@pytest.mark.parametrize("name", ["SWEEP.YAML", "sweep.Yml", "sweep.txt", "sweep", "a config.cfg"])
def test_a_config_is_read_whatever_it_is_called(write, tmp_path, name):
    path = write().rename(tmp_path / name)
    assert load(path).name == "base"


@pytest.mark.parametrize("indent", [None, 2, "\t"])
def test_json_is_read(write, tmp_path, indent):
    plain = load(write())
    (tmp_path / "sweep.json").write_text(json.dumps(yaml.safe_load(write().read_text()), indent=indent))
    assert load(tmp_path / "sweep.json") == plain
    with pytest.raises(InputError, match=r"gone\.json: no such file, or a link to none$"):
        load(tmp_path / "gone.json")


def test_a_value_inside_itself_is_one_line(write):
    with pytest.raises(InputError, match=r"^sweep\.yaml, line 2: not plain YAML: a value contains itself$"):
        load(write("name: base\nmodels: &all [*all]\n"))


def test_what_is_a_uri_is_not_looked_for_here(monkeypatch):
    monkeypatch.setenv("SR_SWEEP_TEST_BUCKET", "mine")
    assert is_uri("s3://bucket/x") and not is_uri("/images/x") and not is_uri("skimage:")
    assert expand("s3://${SR_SWEEP_TEST_BUCKET}/~x{scale}", "data.train", 2) == "s3://mine/~x2"
