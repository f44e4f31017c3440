"""What stands behind a row: curves that are thinned, schedules as they are trained, configs without what all share."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from orchestrator.leaderboard import behind
from orchestrator.leaderboard.board import Entry
from orchestrator.run.folder import RunDir
from orchestrator.run.journal import JOURNAL, Journal
from orchestrator.run.records import TrialRecord
from sr_models.errors import InputError

CONFIG: dict[str, Any] = {
    "model": "edsr", "scale": 2, "hyper": {"channels": 8}, "seed": 1, "protocol": "classical", "metrics": ["psnr_y"],
    "data_hash": "d", "train": {"steps": 100, "lr": 1e-3},
    "objective": {"target": {"kind": "hr"}, "loss": {"kind": "l1"}, "sigma": None, "timesteps": None},
}  # fmt: skip
RANGE = {
    "objective": {
        "target": {"kind": "hr"}, "loss": {"kind": "ddpm"}, "sigma": None,
        "timesteps": {"kind": "range", "t_max": 0.6, "ratio": 0.5, "terminal": {}},
    },
    "model": "sr3", "process": {"T": 1000},
    "sampling": {"sampler": "truncated", "steps": 10, "t_max": 0.6, "t_min": 0.3},
}  # fmt: skip


def made(run: Path, name: str, label: str, steps: int = 5, **config: Any) -> Entry:
    """A row with a trial behind it."""
    folder = RunDir(run).trial(name)
    folder.mkdir(parents=True)
    TrialRecord(fingerprint=name, config=CONFIG | config).write(folder / "trial.json")
    journal = Journal(folder / JOURNAL)
    for step in range(1, steps + 1):
        values = {"train.loss": 1.0, "psnr_y": 30 + step / 3, "ema.psnr_y": float("nan")}
        journal.step(step, steps, values)
    return Entry(f"x2/edsr/{label}", "edsr", label, "hr", "l1", "raw", "fp32", fingerprints={1: name})


def test_curves_and_configs(tmp_path):
    run = tmp_path / "run"
    entries = [made(run, "a" * 64, "l1"), made(run, "b" * 64, "kd", train={"steps": 100, "lr": 2e-3})]
    found = behind.trials({"": run}, entries)
    curve = found["", "x2/edsr/l1", ""]["curves"][0]
    assert (curve["seed"], curve["x"]) == (1, [1, 2, 3, 4, 5])
    assert curve["y"] == {"psnr_y": [30.333, 30.667, 31.0, 31.333, 31.667], "ema.psnr_y": [None] * 5}
    assert found["", "x2/edsr/kd", ""]["config"] == {"train.lr": "0.002"}
    assert found["", "", ""]["config"]["hyper.channels"] == "8" and "train.lr" not in found["", "", ""]["config"]


def test_a_long_curve_keeps_its_ends(tmp_path):
    found = behind.trials({"": tmp_path / "run"}, [made(tmp_path / "run", "a" * 64, "l1", steps=200)])
    steps = found["", "x2/edsr/l1", ""]["curves"][0]["x"]
    assert len(steps) == behind.POINTS[1] and (steps[0], steps[-1]) == (1, 200)


def test_a_ramp_is_drawn_as_it_is_trained(tmp_path):
    target = {"kind": "mixup", "shape": "linear", "length": 0.5, "warm_hold": 0.25}
    objective = {"target": target, "loss": {"kind": "l1"}, "sigma": None, "timesteps": None}
    entry = made(tmp_path / "run", "a" * 64, "eco", objective=objective, teacher="t", train={"steps": 100, "patch": 24})
    found = behind.trials({"": tmp_path / "run"}, [entry])["", "x2/edsr/eco", ""]["schedule"]
    alphas = dict(map(tuple, found["alpha"]))
    assert (alphas[0.25], alphas[0.5], alphas[0.75], alphas[1.0]) == (0, 0.5, 1, 1) and found["shape"] == "linear"


def test_levels_that_are_practised_and_sampled(tmp_path):
    found = behind.trials({"": tmp_path / "run"}, [made(tmp_path / "run", "a" * 64, "nutl", **RANGE)])[
        "", "x2/edsr/nutl", ""
    ]
    assert found["schedule"] == {
        "T": 1000, "practised": [1, 600], "jump": 600, "sampler": "truncated", "steps": 10, "sampled": [300, 600],
    }  # fmt: skip


def test_a_config_of_another_version_says_so_and_a_trial_that_is_gone_says_nothing(tmp_path):
    gone = Entry("x2/edsr/kd", "edsr", "kd", "kd", "l1", "raw", "fp32", fingerprints={1: "c" * 64})
    found = behind.trials({"": tmp_path / "run"}, [made(tmp_path / "run", "a" * 64, "l1", unheard=1), gone])
    assert "unheard" in found["", "x2/edsr/l1", ""]["schedule"]["unknown"]
    assert found["", "x2/edsr/kd", ""] == {"curves": []}


def test_pictures_are_embedded_smaller_where_they_can_be(tmp_path, monkeypatch):
    run = RunDir(tmp_path)
    run.pictures.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    for name, image in {"comparison_my_set_x4": noise, "violin_psnr_y_x2.5": np.zeros((9, 9, 3), np.uint8)}.items():
        Image.fromarray(image).save(run.pictures / f"{name}.png")
    found, left_out = behind.pictures(run, "a", ["set", "my_set"])
    assert [(p["kind"], p["scale"], p["set"], p["run"]) for p in found] == [
        ("comparison", 4, "my_set", "a"), ("violin", 2.5, "", "a"),
    ]  # fmt: skip
    assert found[0]["src"].startswith("data:image/webp;base64,") and found[1]["src"].startswith(
        "data:image/png;base64,"
    )
    content = base64.b64decode(found[0]["src"].partition(",")[2])
    assert Image.open(io.BytesIO(content)).size == (200, 200) and not left_out
    monkeypatch.setattr(behind, "_PICTURES_BYTES", 100)
    assert behind.pictures(run, "a", [])[1] == ["comparison_my_set_x4.png", "violin_psnr_y_x2.5.png"]


def test_a_damaged_picture_is_named(tmp_path):
    run = RunDir(tmp_path)
    run.pictures.mkdir()
    (run.pictures / "board_a_x2.png").write_bytes(b"<svg>" * 20_000)
    with pytest.raises(InputError, match=r"board_a_x2\.png is no picture"):
        behind.pictures(run, "", [])
    (run.pictures / "crops_a_x2.json").write_text(json.dumps({"set": "a"}))
    with pytest.raises(InputError, match="holds no crops"):
        behind.crops(run, "")


def test_numbers_are_short_and_words_stay():
    values = (1234.56789, 12, "cosine", None, [1.5])
    assert [behind.plain(value) for value in values] == ["1234.6", "12", "cosine", "null", "[1.5]"]


def test_flatten() -> None:
    assert behind.flatten({"a": {"b": 1, "c": {}}, "d": 2}) == {"a.b": 1, "d": 2}
