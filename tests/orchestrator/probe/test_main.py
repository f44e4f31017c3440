"""`python -m orchestrator.probe`: numbers, figures and a table of each kind; it goes on, and says what is wrong."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import sr_models
from eval.pictures.charts import Line
from orchestrator.data.store import PatchStore
from orchestrator.plan.config import SweepConfig
from orchestrator.plan.plan import make_plan
from orchestrator.probe import curves, kept, work
from orchestrator.probe.kinds import KINDS
from orchestrator.run.driver import StoredHome, home_of
from orchestrator.run.folder import STORES, RunDir
from orchestrator.run.records import read_plan
from orchestrator.run.roles import read_roles
from orchestrator.run.winners import read_winners
from orchestrator.tracking.address import client
from orchestrator.tracking.deliver import Tracker
from sr_models.checkpoints.folder import load_checkpoint
from sr_models.networks.base import parameters

ROOT = Path(__file__).resolve().parents[3]
Probe = Callable[..., tuple[str, str]]


def rows_of(folder: Path, kind: str) -> list[dict[str, Any]]:
    found = json.loads((folder / f"{kind}.json").read_text())
    assert found["kind"] == kind and pq.read_table(folder / f"{kind}.parquet").num_rows == len(found["rows"])
    return found["rows"]


def labels(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["label"].partition(" × ")[2] for row in rows))


def test_every_kind_is_worked_and_explained(probe: Probe, capsys: pytest.CaptureFixture[str]) -> None:
    assert set(KINDS) == set(work.WORK)
    with pytest.raises(SystemExit):
        probe("--help")
    said = " ".join(capsys.readouterr().out.split())
    for name, kind in KINDS.items():
        assert f"{name}: {' '.join(kind.about.split())}" in said


def test_the_command_answers_before_torch_is_imported() -> None:
    code = "import sys\nfrom orchestrator.probe.__main__ import main\n"
    code += "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
    code += "print(sorted({'torch', 'ray', 'mlflow', 'pyarrow', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.endswith("[]\n"), done.stderr


def test_spectrum(toy: RunDir, probe: Probe, tmp_path: Path) -> None:
    out, _ = probe(toy.path, "--kind", "spectrum", "--output", tmp_path, "--batches", 1)
    rows = rows_of(tmp_path, "spectrum")
    assert labels(rows) == ["l1", "eco", "expectation"] and {row["step"] for row in rows} == {4, 8, 12}
    assert "edsr_baseline × eco" in out and (tmp_path / "spectrum_x2.png").stat().st_size > 10_000
    plain = [row for row in rows if row["label"].endswith("l1") and row["step"] == 12]
    assert len(plain) == 12 + 2 and 0 < plain[0]["share_beyond_lr"] < 1


def test_landscape(toy: RunDir, probe: Probe, tmp_path: Path) -> None:
    words = ["--kind", "landscape", "--output", tmp_path, "--lengths", "0.02,0.001"]
    out, _ = probe(toy.path, *words, "--only", "*/l1", "--only", "*/expectation")
    rows = rows_of(tmp_path, "landscape")
    assert labels(rows) == ["l1", "expectation"] and len(rows) == 2 * 3 * 2 * 3
    assert sorted({row["length"] for row in rows}) == [0, 0.001, 0.02]
    for row in rows:
        assert row["low"] <= row["loss"] <= row["high"] and row["distance"] == row["length"] * row["weight_norm"]
        assert row["gradient_difference"] <= row["largest_difference"] and row["smoothness"] > 0
    assert "smoothness" in out and (tmp_path / "landscape_x2.png").exists()


def test_uncertainty(toy: RunDir, probe: Probe, tmp_path: Path) -> None:
    out, _ = probe(toy.path, "--kind", "uncertainty", "--output", tmp_path)
    rows = rows_of(tmp_path, "uncertainty")
    assert labels(rows) == ["expectation"] and len(rows) == 3 * 2
    for row in rows:
        assert row["sigma_p10"] <= row["mean_sigma"] <= row["sigma_p90"] and row["coverage"] == sorted(row["coverage"])
        assert row["sparsification"][0] == row["oracle"][0] == 1
        assert all(a >= b for a, b in zip(row["sparsification"], row["oracle"], strict=True))
        assert 0 < row["constant"] < 1 and row["psnr_constant"] > 0
    last = [row for row in rows if row["step"] == 12]
    info = load_checkpoint(toy.trial(last[0]["fingerprint"]) / "model")[1]
    assert info.sigma is not None and last[0]["constant"] == info.sigma["constant"]
    mean = sum(row["psnr_sigma"] for row in last) / 2
    assert f"{mean:.2f}" in out and "best constant of edsr_baseline × expectation" in out
    assert (tmp_path / "uncertainty_x2.png").exists()
    one = tmp_path / "one"
    probe(toy.path, "--kind", "uncertainty", "--images", 1, "--output", one)
    assert {row["image"] for row in rows_of(one, "uncertainty")} == {"10"}


def test_targets(toy: RunDir, probe: Probe, tmp_path: Path) -> None:
    out, _ = probe(toy.path, "--kind", "targets", "--output", tmp_path, "--alphas", "0.9,0.4", "--image", "train/2.png")
    rows = rows_of(tmp_path, "targets")
    assert [row["alpha"] for row in rows] == [0, 0.4, 0.9, 1] and {row["image"] for row in rows} == {"train/2.png"}
    start = rows[0]
    for row in rows:  # by linearity
        for name in ("target_difference", "input_difference"):
            assert row[name] == pytest.approx((1 - row["alpha"]) * start[name], rel=1e-5)
    assert rows[-1]["target_psnr"] is None and "equal" in out and (tmp_path / "targets_x2.png").exists()


def test_curves(toy: RunDir, probe: Probe, tmp_path: Path) -> None:
    out, _ = probe(toy.path, "--kind", "curves", "--output", tmp_path)
    rows = rows_of(tmp_path, "curves")
    assert labels(rows) == ["l1", "eco", "expectation"] and {row["seed"] for row in rows} == {1, 2}
    assert {row["step"] for row in rows} == {4, 8, 12} and all(row["images"] == 4 * row["step"] for row in rows)
    eco = [row["value"] for row in rows if row["label"].endswith("eco") and row["step"] == 12]
    assert f"{sum(eco) / 2:.2f}" in out and f"{min(eco):.2f}" in out and (tmp_path / "curves_x2.png").exists()
    band = curves.bands([row for row in rows if row["label"].endswith("eco")], "step")["edsr_baseline × eco"]
    assert band.x == [4, 8, 12] and band.low is not None and band.high is not None
    assert (band.low[-1], band.high[-1]) == (min(eco), max(eco)) and band.y[-1] == pytest.approx(sum(eco) / 2)


def test_curves_of_test_sets(toy: RunDir, probe: Probe, tmp_path: Path) -> None:
    """Of images that were scored along training as the config says; a metric whose end alone was scored is no curve."""
    probe(toy.path, "--kind", "curves", "--output", tmp_path)
    fingerprint = rows_of(tmp_path, "curves")[0]["fingerprint"]
    scored = [
        {"combination": "x2/edsr_baseline/l1", "fingerprint": fingerprint + at, "image": image, "weights": "raw",
         "benchmark": of, "scale": 2, "psnr_y": value, "ssim_y": None if at else 0.5, "protocol": protocol,
         "noise_seed": noise_seed}
        for of, at, image, value, protocol, noise_seed in [
            ("toys", "@4", "a", 20.0, "classical-y-b2", None), ("toys", "@4", "b", 22.0, "classical-y-b2", 0),
            ("toys", "", "a", 24.0, "classical-y-b2", None), ("toys", "", "b", 27.0, "classical-y-b2", None),
            ("toys", "@4", "a", 99.0, "uncropped-y-b0", None), ("toys", "@4", "b", 99.0, "classical-y-b2", 7),
            ("Set14", "@4", "c", 29.0, "classical-y-b2", None), ("Set14", "", "c", 30.0, "classical-y-b2", None),
        ]
    ]  # fmt: skip
    toy.evaluation.mkdir()
    pq.write_table(pa.Table.from_pylist(scored), toy.evaluation / "scored.parquet")
    try:
        out, _ = probe(toy.path, "--kind", "curves", "--output", tmp_path)
        rows = [row for row in rows_of(tmp_path, "curves") if row["set"] != "validation"]
        probe(toy.path, "--kind", "curves", "--metric", "psnr_y", "--output", tmp_path)
    finally:
        shutil.rmtree(toy.evaluation)
    assert [(row["set"], row["step"], row["value"]) for row in rows] == [("toys", 4, 21.0), ("toys", 12, 25.5)]
    assert {row["metric"] for row in rows_of(tmp_path, "curves")} == {"psnr_y"}
    assert "toys" in out and "25.50" in out and "Set14" not in out


def test_a_seed_that_is_behind_ends_its_band() -> None:
    row = {"run": "r", "combination": "c", "label": "a", "value": 1.0}
    rows = [row | {"seed": 1, "step": step} for step in (4, 8)] + [row | {"seed": 2, "step": 4, "value": 3.0}]
    assert curves.bands(rows, "step")["a"] == Line(x=[4], y=[2.0], low=[1.0], high=[3.0])


def test_batch_size(toy: RunDir, train: Callable[..., None], probe: Probe, tmp_path: Path) -> None:
    """The points of a grid are one line, from the journals of trials that are there."""
    text = yaml.safe_load(toy.config.read_text())
    text["objectives"] = {"l1": {"grid": {"train.batch_size": [2, 4]}}}
    plan = make_plan(SweepConfig.parse(text, "grid"))
    run = RunDir(tmp_path / "runs" / "grid")
    train(run, plan)
    out, _ = probe(run.path, "--kind", "batch_size", "--kind", "curves", "--output", tmp_path)
    rows = rows_of(tmp_path, "batch_size")
    assert {row["off_grid"] for row in rows} == {"edsr_baseline × l1"}
    assert labels(rows) == ["l1, batch_size=2", "l1, batch_size=4"]
    line = curves.bands(curves.last(rows), "batch_size", "off_grid")["edsr_baseline × l1"]
    assert line.x == [2, 4] and "l1, batch_size=4 ×2" in out
    assert (tmp_path / "batch_size_x2.png").exists() and (tmp_path / "curves_x2.png").exists()


def test_size_quality(toy: RunDir, probe: Probe, tmp_path: Path) -> None:
    (tmp_path / "run" / "evaluation").mkdir(parents=True)
    for name in ("config.yaml", "plan.json", "winners.json", "roles.jsonl"):
        (tmp_path / "run" / name).write_bytes((toy.path / name).read_bytes())
    rows, won = [], read_winners(toy.winners)
    for place, (combination, winner) in enumerate(won.items()):
        model, objective = combination.split("/")[1:]
        for seed, fingerprint in enumerate(winner.fingerprints, 1):
            rows.append({
                "combination": combination, "model": model, "objective": objective, "target": "hr", "loss": "l1",
                "scale": 2, "fingerprint": fingerprint, "seed": seed, "weights": "raw", "benchmark": "toys",
                "image": "9", "protocol": "classical-y-b2", "lr_sha256": "aa", "kernel": "files", "precision": "fp32",
                "draws": 1, "seconds": 0.25, "psnr_y": 30.0 + place + seed, "ssim_y": 0.5, "versions": "{}",
            })  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "run" / "evaluation" / "0.parquet")
    out, _ = probe(tmp_path / "run", "--kind", "size_quality", "--output", tmp_path)
    found = rows_of(tmp_path, "size_quality")
    assert [(row["value"], row["low"], row["high"]) for row in found[:1]] == [(33.5, 33.0, 34.0)]
    net = sr_models.build("edsr_baseline", 2, channels=8, blocks=1)
    assert {row["parameters"] for row in found} == {parameters(net)} and {row["seconds"] for row in found} == {0.25}
    adds = sr_models.multiply_adds("edsr_baseline", 2, {"channels": 8, "blocks": 1}) * 1280 * 720 / 4
    assert {row["multiply_adds"] for row in found} == {adds}
    assert "250.0" in out and "33.50" in out and (tmp_path / "size_quality_x2.png").exists()
    probe(tmp_path / "run", "--kind", "size_quality", "--output", tmp_path, "--metric", "ssim_y", "--only", "*/l1")
    [row] = rows_of(tmp_path, "size_quality")
    assert (row["metric"], row["value"], row["combination"]) == ("ssim_y", 0.5, "x2/edsr_baseline/l1")
    bad = ["--kind", "size_quality", "--output", tmp_path, "--metric"]
    assert "--metric: unknown metric 'psnr'" in probe(tmp_path / "run", *bad, "psnr", code=2)[1]
    assert "--kind size_quality: there is nothing to show of pll" in probe(tmp_path / "run", *bad, "pll", code=2)[1]


def test_gradient_sign(toy: RunDir, probe: Probe, tmp_path: Path) -> None:
    out, _ = probe(toy.path, "--kind", "gradient_sign", "--output", tmp_path, "--at-once", 3)
    rows = rows_of(tmp_path, "gradient_sign")
    shares = {row["loss"]: [] for row in rows}
    for row in rows:
        shares[row["loss"]].append(row["wrong_share"])
        assert row["wrong"] + row["right"] + row["silent"] == 2 * 4 * 3 * 24 * 24
    assert len(rows) == 3 * 3 * 4 and set(shares["its own"]) == {0.0} and set(shares["expectation"]) == {0.0}
    assert all(0 < share < 0.1 for share in shares["constant_sigma"])
    assert shares["expectation, σ detached"] == pytest.approx([0.1587] * 9, abs=0.012)
    assert "0.00 %" in out and (tmp_path / "gradient_sign_x2.png").exists()


def test_the_same_command_goes_on(toy: RunDir, probe: Probe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [toy.path, "--kind", "spectrum", "--output", tmp_path, "--only", "*/l1"]
    computed, write = [], kept.write_json

    def stop_at_the_second(path: Path, value: Any) -> None:
        if path.parent.name == kept.PARTS:
            computed.append(path)
            if len(computed) == 2:
                raise KeyboardInterrupt
        write(path, value)

    monkeypatch.setattr(kept, "write_json", stop_at_the_second)
    assert "interrupted; the same command goes on" in probe(*words, code=130)[1]
    assert not (tmp_path / "spectrum.json").exists()
    monkeypatch.setattr(kept, "write_json", lambda path, value: (computed.append(path), write(path, value)))
    probe(*words)
    parts = [path for path in computed if path.parent.name == kept.PARTS]
    assert len(parts) == 4 and len(set(parts)) == 3, "the first one is not computed again"
    first = (tmp_path / "spectrum.json").read_bytes()
    parts[0].write_text("[")
    probe(*words)
    assert (tmp_path / "spectrum.json").read_bytes() == first, "a damaged part is computed again, and comes out alike"


def test_several_runs_are_told_apart(toy: RunDir, probe: Probe, tmp_path: Path) -> None:
    again = toy.output / "toy-again"
    if not again.exists():
        again.mkdir()
        for name in ("config.yaml", "plan.json", "winners.json", "roles.jsonl"):
            (again / name).write_bytes((toy.path / name).read_bytes())
    probe(toy.output, "--kind", "spectrum", "--only", "*/l1", "--output", tmp_path, "--batches", 1)
    rows = rows_of(tmp_path, "spectrum")
    assert labels(rows) == [f"l1 ({toy.name})", "l1 (toy-again)"]


def test_what_is_found_goes_to_mlflow(toy: RunDir, probe: Probe) -> None:
    uri = f"sqlite:///{toy.output / 'mlflow.db'}"
    Tracker(toy.path, uri).sync()
    probe(toy.path, "--kind", "spectrum", "--only", "*/l1", "--batches", 1)
    store = client(uri)
    [experiment] = [found for found in store.search_experiments() if found.name == "toy"]
    [parent] = store.search_runs([experiment.experiment_id], "tags.role = 'sweep'")
    sent = {file.path for file in store.list_artifacts(parent.info.run_id, "probes")}
    assert sent == {f"probes/spectrum{end}" for end in (".json", ".parquet", "_x2.png")}
    assert "config.yaml" in {file.path for file in store.list_artifacts(parent.info.run_id)}


def test_a_run_on_a_storage_is_probed_from_any_machine(toy: RunDir, probe: Probe, tmp_path: Path) -> None:
    there = tmp_path / "storage"
    home = home_of(toy, str(there))
    assert isinstance(home, StoredHome)
    home.storage.check()  # makes it
    home.access.push("", ["config.yaml", "plan.json", "winners.json", "roles.jsonl"])
    for role in read_roles(toy):
        home.access.push_trial(role.fingerprint)
    data = read_plan(toy.path).data_hash
    assert isinstance(data, dict)
    home.access.publish(PatchStore.open(toy.at(STORES) / data["x2"][:16]))
    words = ["--storage", there, "--kind", "spectrum", "--only", "*/eco", "--batches", 1]
    probe(tmp_path / "elsewhere" / toy.name, *words)
    left = there / toy.name / "probes"
    assert labels(rows_of(left, "spectrum")) == ["eco"] and (left / "spectrum_x2.png").exists()
    parts = {path.name: path.stat().st_mtime_ns for path in (left / "parts").iterdir()}
    probe(tmp_path / "third machine" / toy.name, *words)
    assert {path.name: path.stat().st_mtime_ns for path in (left / "parts").iterdir()} == parts and len(parts) == 3


def test_a_folder_that_takes_no_file_is_refused_before_the_work(toy: RunDir, probe: Probe, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    _, err = probe(toy.path, "--kind", "curves", "--output", tmp_path / "file" / "x", code=2)
    assert err.endswith(
        f"python -m orchestrator.probe: --output: {tmp_path}/file/x cannot be written (Not a directory)\n"
    )


def test_a_store_that_is_away_costs_a_line(toy: RunDir, probe: Probe) -> None:
    words = [toy.path, "--kind", "curves", "--tracking-uri", "http://127.0.0.1:9"]
    out, err = probe(*words)
    assert "edsr_baseline × eco" in out and (toy.path / "probes" / "curves.json").exists()
    assert "not delivered to MLflow (tracking URI 'http://127.0.0.1:9': " in err
    assert f"deliver it with: python -m orchestrator.tracking {toy.path} --tracking-uri URI" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("RUN", "--kind", "spectrums"), "--kind: unknown kind 'spectrums'; did you mean 'spectrum'?"),
        (("RUN",), "the following arguments are required: --kind"),
        (
            ("nowhere", "--kind", "spectrum"),
            "nowhere is neither a run folder nor a folder of them, such as runs",
        ),
        (("RUN", "--kind", "spectrum", "--only", "x4/*"), "--only: 'x4/*' fits no combination"),
        (("RUN", "--kind", "spectrum", "--trial", "zz"), "--trial: no trial 'zz'"),
        (("RUN", "--kind", "spectrum", "--trial", ""), "--trial: no trial ''"),
        (("RUN", "--kind", "spectrum", "--batches", "0"), "--batches must be at least 1, got 0"),
        (("RUN", "--kind", "spectrum", "--weights", "best"), "--weights must be raw or ema, got 'best'"),
        (("RUN", "--kind", "spectrum", "--weights", "ema"), "has kept no ema weights yet"),
        (("RUN", "--kind", "spectrum", "--device", "cuda:9"), "--device: 'cuda:9' cannot be used here"),
        (("RUN", "--kind", "uncertainty", "--only", "*/l1"), "no trial that is asked for has a σ branch"),
        (("RUN", "--kind", "uncertainty", "--images", "0"), "--images must be at least 1, got 0"),
        (
            ("RUN", "--kind", "batch_size"),
            "--kind batch_size: every trial has 4 patches a step; vary it with",
        ),
        (("RUN", "--kind", "curves", "--metric", "psnr"), "--metric: unknown metric 'psnr'; did you mean 'psnr_y'?"),
        (("RUN", "--kind", "size_quality"), "holds no scores yet"),
        (("RUN", "--kind", "targets", "--only", "*/l1"), "no trial that is asked for has a teacher"),
        (
            ("RUN", "--kind", "targets", "--image", "train/9.png"),
            "no training image 'train/9.png'; did you mean",
        ),
        (("RUN", "--kind", "targets", "--alphas", "0.5,1"), "--alphas: expected positive numbers below 1 with commas"),
        (("RUN", "--kind", "landscape", "--lengths", "0.1,x"), "--lengths: expected positive numbers with commas"),
        (("RUN", "--kind", "landscape", "--lengths", "-1"), "--lengths: expected positive numbers with commas"),
    ],
)
def test_bad_input_is_one_line(words: tuple[str, ...], message: str, toy: RunDir, probe: Probe, tmp_path: Path) -> None:
    given = [str(toy.path) if word == "RUN" else word for word in words]
    out, err = probe(*given, "--output", tmp_path, code=2)
    line = err.splitlines()[-1]
    assert line.startswith("python -m orchestrator.probe: ") and message in line and out == ""
    assert not list(tmp_path.glob("*.json"))


def test_a_run_without_winners_needs_names(toy: RunDir, probe: Probe, tmp_path: Path) -> None:
    bare = toy.output / "bare"
    if not bare.exists():
        bare.mkdir()
        for name in ("config.yaml", "plan.json", "roles.jsonl"):
            (bare / name).write_bytes((toy.path / name).read_bytes())
    words = ["--kind", "spectrum", "--output", tmp_path, "--batches", 1]
    assert f"RUN: {bare} has no winners yet; name trials with --trial" in probe(bare, *words, code=2)[1]
    known = [json.loads(line) for line in toy.roles.read_text().splitlines()]
    teacher = next(role["fingerprint"] for role in known if role["role"] == "teacher")
    probe(bare, *words, "--trial", teacher[:12])
    [row, *_] = rows_of(tmp_path, "spectrum")
    assert (row["fingerprint"], row["label"], row["step"]) == (teacher, "teacher seed 0", 12)


def test_it_needs_neither_ray_nor_optuna(toy: RunDir, tmp_path: Path) -> None:
    code = "import sys\nsys.modules.update(dict.fromkeys(['ray', 'optuna']))\n"
    code += "from orchestrator.probe.__main__ import main\nraise SystemExit(main(sys.argv[1:]))"
    words = [str(toy.path), "--kind", "spectrum", "--only", "*/l1", "--batches", "1", "--output", str(tmp_path)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SR_")}
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=ROOT, env=clean, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
