"""Kinds that look at diffusion networks: what they measure, that it is what scores measure, and whom they refuse."""

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from eval.metrics import backbones, scorer
from eval.metrics.fidelity import score
from eval.probes.guesses import over_draws
from eval.protocol import PROTOCOLS
from orchestrator.probe import along_t, curves, denoisers, gap, sampling_steps
from orchestrator.probe.crossing import crossings
from orchestrator.probe.figures import groups
from orchestrator.probe.folders import open_runs
from orchestrator.probe.kept import PARTS
from orchestrator.probe.kinds import Asked
from orchestrator.probe.trials import Looked
from orchestrator.run.folder import RunDir
from sr_models.diffusion.samplers import evenly
from sr_models.hyper.sampling import Sampling
from sr_models.inference.super_resolve import Options, super_resolve

Probe = Callable[..., tuple[str, str]]
SMALL = ("--crop", 19, "--draws", 2, "--images", 1)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights of LPIPS from anywhere."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError("there is no network")

    monkeypatch.setattr(backbones, "urlopen", refuse)


class Distance:
    """In the place of LPIPS, whose weights are not here."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __call__(self, sr_BCHW: Tensor, hr_BCHW: Tensor) -> Tensor:
        return (sr_BCHW - hr_BCHW).abs().double().flatten(1).mean(1)


def rows_of(folder: Path, kind: str) -> list[dict[str, Any]]:
    rows = json.loads((folder / f"{kind}.json").read_text())["rows"]
    assert pq.read_table(folder / f"{kind}.parquet").num_rows == len(rows)
    return rows


def test_gap(noise_run: RunDir, probe: Probe, tmp_path: Path) -> None:
    """At t = T both settings know as little; at the end only training has the true picture before it."""
    out, err = probe(noise_run.path, "--kind", "gap", "--output", tmp_path, "--steps", 9, *SMALL)
    rows = rows_of(tmp_path, "gap")
    by_label = groups(rows, "combination")
    assert [name for (name,) in by_label] == ["x2/sr3/ddpm", "x2/sr3/dream", "x2/sr3/nutl"]
    for (name,), own in by_label.items():
        steps = [row["t"] for row in own]
        assert steps[0] == 40 and steps == sorted(steps, reverse=True) and {row["image"] for row in own} == {"10"}
        assert (steps == evenly(40, 9)[::-1]) == (name != "x2/sr3/nutl"), "that one has CCSR's chain"
        for row in own:
            assert len(row["training_mse"]) == len(row["sampling_mse"]) == 2 and row["sampling_lpips"] is None
        wrong = {s: [statistics.fmean(row[f"{s}_mse"]) for row in own] for s in gap.SETTINGS}
        assert wrong["training"][-1] < wrong["training"][0] and wrong["training"][-1] < wrong["sampling"][-1]
    assert "gap: lpips_alex is not computed: alexnet-owt-7be5be79.pth is not there" in err
    assert "LPIPS training" not in out and "sr3 × dream ×2" in out and (tmp_path / "gap_x2.png").exists()
    last = gap.table(rows)[-1]
    assert last[:2] == ("sr3 × nutl ×2", "all") and f"{gap.table(rows)[0][-1]}" == "MSE gap"
    parts = {path.name: path.stat().st_mtime_ns for path in (tmp_path / PARTS).iterdir()}
    probe(noise_run.path, "--kind", "gap", "--output", tmp_path, "--steps", 9, *SMALL)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / PARTS).iterdir()} == parts and len(parts) == 3


def test_the_gap_in_lpips_where_its_weights_are(
    noise_run: RunDir, probe: Probe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scorer, "Lpips", Distance)
    words = ["--kind", "gap", "--output", tmp_path, "--steps", 3, "--only", "*/dream", *SMALL]
    out, err = probe(noise_run.path, *words)
    rows = rows_of(tmp_path, "gap")
    assert all(0 < value < 1 for row in rows for value in row["training_lpips"] + row["sampling_lpips"])
    assert "LPIPS sampling" in out and "not computed" not in err


def test_along_t_ends_with_what_is_scored(noise_run: RunDir, probe: Probe, tmp_path: Path) -> None:
    """The last guess is the picture that the same noise draws in as many steps."""
    words = ["--kind", "along_t", "--output", tmp_path, "--steps", 9, *SMALL]
    out, _ = probe(noise_run.path, *words, "--at-once", 1)
    rows = rows_of(tmp_path, "along_t")
    assert "l_std" in out and "sr3 × nutl ×2" in out and (tmp_path / "along_t_x2.png").exists()
    looked = Looked(open_runs([noise_run.path], None), Asked(draws=2, crop=19, images=1))
    for task in denoisers.tasks("along_t", looked, ["psnr_y"], lambda protocol: protocol):
        [*_, last] = [row for row in rows if row["combination"] == task.subject.combination]
        pictures, timesteps = task.pictures(), task.subject.config.objective.timesteps
        assert timesteps is not None and pictures.hr_1CHW.shape[2:] == (18, 18)
        options = Options(sampling=timesteps.sampled(Sampling(steps=9)))
        sr = super_resolve(task.network(), pictures.lr_DCHW, seeds=pictures.seeds, options=options).sr
        hr = pictures.hr_1CHW.expand_as(sr)
        psnr = statistics.fmean(score(sr, hr, scale=2, protocol=PROTOCOLS["classical"], metrics=["psnr_y"])["psnr_y"])
        assert last["psnr_y"] == pytest.approx(psnr, abs=1e-3)
        spread = over_draws(sr, pictures.hr_1CHW, pictures.lr_DCHW, task.scorer)["l_std"]
        assert last["l_std"] == pytest.approx(spread, abs=1e-5)


def test_sampling_steps(noise_run: RunDir, probe: Probe, tmp_path: Path) -> None:
    words = ["--kind", "sampling_steps", "--output", tmp_path, "--steps", "9,4", "--only", "*/d*"]
    out, _ = probe(noise_run.path, *words, *SMALL)
    rows = rows_of(tmp_path, "sampling_steps")
    assert {row["seed"] for row in rows} == {1, 2} and len(rows) == 2 * 2 * 2
    assert [row["calls"] for row in rows[:2]] == [4, 9] and all(row["seconds"] > 0 for row in rows)
    assert all(row["l_std"] > 0 and row["consistency"] > 0 and row["lpips_alex"] is None for row in rows)
    assert "s an image" in out and (tmp_path / "sampling_steps_x2.png").exists()
    dream = [row["psnr_y"] for row in rows if row["combination"].endswith("dream") and row["steps"] == 9]
    assert f"{statistics.fmean(dream):.2f}" in out
    [task, *_] = denoisers.tasks(
        "sampling_steps", Looked(open_runs([noise_run.path], None), Asked(only=("*/nutl",))), ["psnr_y"], lambda p: p
    )
    assert [way.steps for way in sampling_steps._ways(task)] == [5, 10, 20], "those that a chain of 40 has"


def test_curves_say_when_the_baseline_is_met(noise_run: RunDir, probe: Probe, tmp_path: Path) -> None:
    """From the run's own baseline, or from another one that is asked for; without any nothing is said of it."""
    out, err = probe(noise_run.path, "--kind", "curves", "--output", tmp_path)
    rows = rows_of(tmp_path, "curves")
    assert {row["combination"] for row in rows if row["is_baseline"]} == {"x2/sr3/ddpm"} and err.count("measured") == 0
    [head, ddpm, dream, nutl] = curves.table(rows)
    assert head[-2:] == ("as good as the baseline's end at", "speed-up") and ddpm[-2:] == ("-", "-")
    found = {key[-1]: crossing for key, crossing in crossings(rows).items()}
    assert dream[-2:] == found["x2/sr3/dream"].text and nutl[-2:] == found["x2/sr3/nutl"].text
    assert found["x2/sr3/dream"].until == 12 and all(text in out for text in dream[-2:])
    other = ["--kind", "curves", "--output", tmp_path, "--baseline", "dream"]
    probe(noise_run.path, *other)
    assert {key[-1] for key in crossings(rows_of(tmp_path, "curves"))} == {"x2/sr3/ddpm", "x2/sr3/nutl"}
    _, err = probe(noise_run.path, "--kind", "curves", "--output", tmp_path, "--only", "*/dream")
    assert "no row of the baseline ddpm of noise-1a2b3c4d is asked for" in err
    assert curves.table(rows_of(tmp_path, "curves"))[0][-1] == "largest"


def test_a_table_shows_a_few_of_many_and_columns_that_are_full() -> None:
    assert denoisers.some(range(1, 101)) == [100, 75, 50, 26, 1] and denoisers.some([7, 7, 3]) == [7, 3]
    rows = [{"a": 1.0, "b": None}, {"a": 2.0, "b": 3.0}]
    assert along_t.computed(rows, ["a", "b"]) == ["a"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--kind", "gap", "--steps", "5,9"), "--steps: this kind looks at one chain and wants one number, got 5,9"),
        (("--kind", "gap", "--steps", "41"), "--steps: sr3 × ddpm: sampling: the process has 40 steps, fewer than"),
        (("--kind", "gap", "--steps", "2.5"), "--steps: expected whole numbers with commas between them, got '2.5'"),
        (("--kind", "along_t", "--steps", "2"), "--steps: sr3 × nutl: sampling: no step of 2 lies between"),
        (("--kind", "sampling_steps", "--steps", "9,2"), "--steps: sr3 × nutl: sampling: no step of 2 lies between"),
        (("--kind", "curves", "--baseline", "dreams"), "--baseline: no row of 'dreams' among those that are asked for"),
        (("--kind", "gap", "--draws", "0"), "--draws must be at least 1, got 0"),
        (("--kind", "gap", "--crop", "1", "--steps", "9"), "--crop: of 10 it leaves 0x0 LR pixels; at least 2 HR"),
    ],
)
def test_bad_input_is_one_line(
    words: tuple[str, ...], message: str, noise_run: RunDir, probe: Probe, tmp_path: Path
) -> None:
    out, err = probe(noise_run.path, *words, "--output", tmp_path, code=2)
    line = err.splitlines()[-1]
    assert line.startswith("python -m orchestrator.probe: ") and message in line and out == ""


@pytest.mark.parametrize("kind", ["gap", "along_t", "sampling_steps"])
def test_a_run_without_diffusion_networks_is_refused(kind: str, toy: RunDir, probe: Probe, tmp_path: Path) -> None:
    _, err = probe(toy.path, "--kind", kind, "--output", tmp_path, code=2)
    assert f"--kind {kind}: no diffusion network among the trials that are asked for in {toy.name}" in err


def test_a_chain_of_its_own_weights_alone_moves_no_generator(noise_run: RunDir) -> None:
    """Looking at a network leaves torch's generator and the network's mode as they were."""
    before = torch.random.get_rng_state()
    looked = Looked(open_runs([noise_run.path], None), Asked(draws=1, crop=16, images=1, only=("*/ddpm",), steps=(3,)))
    [unit] = gap.units(looked)
    assert len(unit.rows()) == 3 and torch.equal(before, torch.random.get_rng_state())
