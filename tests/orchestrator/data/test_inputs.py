"""A sweep's images wherever they lie: paths filled in, test sets at every scale, and what others need is sent once."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval import benchmarks
from orchestrator.data.inputs import Inputs, load_benchmark, local
from orchestrator.plan.config import SweepConfig
from orchestrator.plan.sources import BenchmarkSource
from orchestrator.storage.uri import Storage
from sr_models.errors import InputError
from sr_models.images.files import pixels_sha256
from sr_models.images.matlab import downscale, modcrop
from sr_models.scales import parse_scale

HR = np.random.default_rng(0).integers(0, 256, (21, 35, 3), np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """Images to train on, to steer by and to test with, the last with LR files at x2 and x4; $SR_TEST_ROOT is there."""
    root = tmp_path / "images"
    for split in ("train", "validation"):
        save(root / split / "a.png", HR)
    for scale in (2, 4):
        save(root / f"X{scale}" / "HR" / "a.png", HR)
        save(root / f"X{scale}" / "LR" / "a.png", downscale(modcrop(HR, scale), scale))
    monkeypatch.setenv("SR_TEST_ROOT", str(root))
    return root


def inputs(**data) -> Inputs:
    values = {
        "train": [{"hr": "$SR_TEST_ROOT/train", "lr": {2: "$SR_TEST_ROOT/X{scale}/LR"}}],
        "validation": [{"hr": "$SR_TEST_ROOT/validation"}],
        "test": {"toy": {"hr": "$SR_TEST_ROOT/X{scale}/HR", "lr": "$SR_TEST_ROOT/X{scale}/LR"}},
    }  # fmt: skip
    config = {"name": "s", "models": ["imdn"], "objectives": ["l1"], "scales": [2, 4], "data": values | data}
    return Inputs(SweepConfig.parse(config, "test"))


def test_variables_and_scales_are_filled_in(root):
    [train], [validation] = inputs().sources.values()
    assert (train.hr, train.lr) == (str(root / "train"), {2: str(root / "X2" / "LR")})
    assert (validation.hr, validation.lr) == (str(root / "validation"), {})


def test_every_test_set_is_there_at_every_scale(root):
    found = inputs().benchmarks
    assert list(found) == [("toy", 2), ("toy", 4)]
    for (_, scale), bench in found.items():
        lr, hr = bench.read(0)
        assert np.array_equal(hr, modcrop(HR, scale)) and np.array_equal(lr, downscale(modcrop(HR, scale), scale))


def test_a_set_at_a_fraction_has_the_lr_that_eval_makes(root):
    found = inputs(test={"half": {"hr": "$SR_TEST_ROOT/X2/HR", "scale": 2.5}})
    assert list(found.benchmarks) == [("half", 2.5)]
    lr, hr = found.benchmarks["half", 2.5].read(0)
    assert lr.shape == (8, 14, 3) and (hr == HR[:20, :35]).all() and (lr == downscale(HR, 2.5)).all()
    alone = benchmarks.load("half", parse_scale("2.5", "--scale"), root / "X2" / "HR")
    assert alone.hash == found.benchmarks["half", 2.5].hash
    assert found.test_hashes["half/a (x2.5)"] == pixels_sha256(HR[:20])


def test_test_images_are_known_whole_and_cropped(root):
    assert inputs().test_hashes == {
        "toy/a": pixels_sha256(HR),
        "toy/a (x2)": pixels_sha256(modcrop(HR, 2)),
        "toy/a (x4)": pixels_sha256(modcrop(HR, 4)),
    }


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda root: (root / "X4" / "HR" / "a.png").write_bytes(b"not a picture"), "a.png"),
        (lambda root: (root / "X2" / "LR" / "a.png").unlink(), "LR"),
        (
            lambda root: save(root / "X2" / "HR" / "a.png", np.zeros_like(HR)),
            r"^test image '.*X2/HR/a\.png' has one colour only: every model makes it without error, .*; exclude it$",
        ),
        (
            lambda root: (save(root / "X2/HR/a.png", HR[:, :14]), save(root / "X2/LR/a.png", HR[:10, :7])),
            r"^test image '.*X2/HR/a\.png': image is too small: SSIM's window is 11 px, 10 are left .*; exclude it$",
        ),
    ],
)
def test_what_is_missing_is_named_before_anything_starts(root, spoil, said):
    inputs().check()
    spoil(root)
    with pytest.raises(InputError, match=said):
        inputs().check()


def test_a_variable_that_is_not_set_is_named():
    with pytest.raises(InputError, match=r"^data\.test\.toy: '\$SR_TEST_NOWHERE' uses an environment variable"):
        inputs(test={"toy": {"hr": "$SR_TEST_NOWHERE"}}).located("toy", 2)


def test_a_located_path_is_absolute_unless_it_is_no_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = inputs(test={"toy": {"hr": "x{scale}", "lr": "s3://bucket/x{scale}", "exclude": ["b*"]}}).located("toy", 4)
    assert (found.hr, found.lr, found.exclude) == (str(tmp_path / "x4"), "s3://bucket/x4", ("b*",))
    assert inputs(test={"toy": {"hr": "skimage:"}}).located("toy", 2).hr == "skimage:"


def test_scikit_images_photographs_are_a_test_set():
    bench = load_benchmark("photos", BenchmarkSource(hr="skimage:", include=("c*",), exclude=("coffee*",)), 2)
    assert [pair.name for pair in bench.pairs] == ["chelsea"]


def test_a_uri_of_this_machine_is_its_folder(tmp_path):
    assert local(str(tmp_path)) == str(tmp_path) and local(tmp_path.as_uri()) == tmp_path


def test_without_a_storage_workers_see_what_the_driver_sees(root):
    found = inputs().located("toy", 2)
    assert (found.hr, found.lr) == (str(root / "X2" / "HR"), str(root / "X2" / "LR"))


def test_what_lies_here_alone_is_sent_once(root, tmp_path, moved):
    storage, made = Storage.parse(str(tmp_path / "shared"), "x"), inputs()
    found = made.stored("toy", 2, storage)
    assert moved["up"] == ["HR/a.png", "LR/a.png"]
    assert found == BenchmarkSource(hr=storage.child("tests/toy/x2/HR").uri, lr=storage.child("tests/toy/x2/LR").uri)
    bench, own = load_benchmark("toy", found, 2), made.benchmarks["toy", 2]
    assert bench.hr_hashes == own.hr_hashes and bench.lr_hash == own.lr_hash
    assert made.stored("toy", 2, storage) == found and len(moved["up"]) == 2, "nothing twice"
    noisy = inputs(test={"toy": made.data.test["toy"].model_dump() | {"noise": 0.01}})
    assert noisy.stored("toy", 2, storage) == found.model_copy(update={"noise": 0.01}) and len(moved["up"]) == 2
    storage.write("tests/toy/x2/LR/a.png", b"half")
    made.stored("toy", 2, storage)
    assert moved["up"][2:] == ["LR/a.png"]


def test_what_every_node_has_is_not_sent(tmp_path, moved):
    storage = Storage.parse(str(tmp_path / "shared"), "x")
    for hr in ("skimage:", "s3://bucket/x"):
        source = inputs(test={"toy": {"hr": hr}}).stored("toy", 2, storage)
        assert source.hr == hr
    assert moved["up"] == []
