"""Every preset is a sweep that can be planned in both of its sizes without its data, and prints what can be shown."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.plan.cost import wall_seconds
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.read import PRESETS, load
from orchestrator.plan.sources import SKIMAGE
from orchestrator.sweep import main
from sr_models.command import EXIT_DONE, EXIT_INPUT

OF_PAPERS = sorted(path.stem for path in PRESETS.glob("*.yaml") if path.stem != "quick")
TINY = "scale_down=tiny"
ROOT = Path(__file__).resolve().parents[2]
SECONDS = 900
"""Longest a preset's small size may take; two cores that nobody else uses need a fraction of it."""


def planned(name: str, *words: str) -> Plan:
    return make_plan(load(name, words))


@pytest.mark.parametrize("size", [(), (TINY,)], ids=["full", "tiny"])
@pytest.mark.parametrize("name", OF_PAPERS)
def test_a_preset_is_planned_without_its_data(name, size, monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("SR_DATA", raising=False)
    code = main(["--preset", name, "--dry-run", "--output", str(tmp_path / "runs"), *size])
    said = capsys.readouterr().out
    assert ("a run would be refused here: " in said) == (code == EXIT_INPUT) and (code == EXIT_DONE or not size)
    assert f"sweep {name}{'_tiny' if size else ''}-" in said and "GPU-hours" in said and "skipped" not in said


def test_a_plan_without_its_data_says_that_it_does_not_know_what_is_there(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("SR_DATA", str(tmp_path / "data"))
    (tmp_path / "runs/shared/store").mkdir(parents=True)
    assert main(["--preset", "eco_table2d", "--dry-run", "--output", str(tmp_path / "runs")]) == EXIT_INPUT
    missing = f"image folder '{tmp_path}/data/DIV2K/DIV2K_train_HR' does not exist"
    lines = capsys.readouterr().out.splitlines()
    assert f"  already there: not known ({missing})" in lines and f"  a run would be refused here: {missing}" in lines


@pytest.mark.parametrize("name", OF_PAPERS)
def test_the_small_size_has_the_same_structure_and_needs_neither_data_nor_a_gpu(name):
    full, tiny = planned(name), planned(name, TINY)
    assert (full.config.name, tiny.config.name) == (name, f"{name}_tiny")
    small, large = ({(c.label, c.objective) for c in plan.combinations if c.gives_sr} for plan in (tiny, full))
    assert small == large, "what gives no SR, a part that others stand on, may be a file at full size"
    without_pairs_of_one_size = (full.config.scales, tiny.config.scales) == ((1,), (2,))
    assert set(tiny.config.scales) <= set(full.config.scales) or without_pairs_of_one_size
    data = tiny.config.data
    assert {source.hr for source in (*data.train, *data.validation, *data.test.values())} == {SKIMAGE}
    assert tiny.config.resources.gpus_per_worker == 0 and wall_seconds(tiny, 2) < 120
    assert tiny.config.evaluation.metrics == full.config.evaluation.metrics


@pytest.mark.parametrize("name", OF_PAPERS)
def test_what_is_printed_has_a_row_and_a_place_to_stand(name):
    """A misspelt row or benchmark would be shown nowhere."""
    plan, paper = planned(name), load(name).paper
    if paper is None:
        return
    rows = {*(c.id for c in plan.combinations), *(f"x{scale}/bicubic/-" for scale in plan.config.scales)}
    assert {*paper.scores, *paper.parameters, *paper.seconds} <= rows and not rows & {*paper.printed_only}
    cells = [
        (benchmark, metric)
        for printed in (*paper.scores.values(), *(row.scores for row in paper.printed_only.values()))
        for benchmark, of in printed.items()
        for metric in of
    ]
    assert set(cells) <= set(itertools.product(plan.config.data.test, plan.config.evaluation.metrics))
    assert "https://arxiv.org/abs/" in paper.source
    tiny = load(name, (TINY,)).paper
    assert tiny.scaled_down and set(tiny.beside.values()) <= {benchmark for benchmark, _ in cells}


@pytest.mark.parametrize("name", [name for name in OF_PAPERS if name.startswith("ccsr_") and "pixel" not in name])
def test_ccsrs_jump_is_to_the_released_codes_step(name):
    """It counts from 0, and jumps to round(T t_max) there: 667 of 1000."""
    jumping = [c for c in planned(name).combinations if c.spec.timesteps and c.spec.timesteps.terminal]
    assert jumping and {c.process.steps for c in jumping} == {1000}
    for c in jumping:
        assert c.spec.timesteps.jump(1000) - 1 == round(1000 * c.spec.timesteps.t_max), c.id


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(SECONDS + 30)
@pytest.mark.parametrize("name", OF_PAPERS)
def test_the_small_size_runs_to_a_board_that_shows_what_is_printed(name, tmp_path):
    command = [sys.executable, "-m", "orchestrator.sweep", "--preset", name, TINY, "--output", str(tmp_path / "runs")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    [run] = tmp_path.glob(f"runs/{name}_tiny-*")
    rows = json.loads((run / "leaderboard.json").read_text())["rows"]
    plan = planned(name, TINY)
    scored = {c.id for c in plan.combinations if c.gives_sr}
    assert scored <= {row["combination"] for row in rows}
    if (paper := plan.config.paper) is None:
        return
    said = " ".join(done.stdout.split())
    assert not paper.scores or f"beside the paper: {paper.source}; scaled down: " in said
    assert all(name in said for name in paper.printed_only)
    of_rows = [row for row in rows if row["combination"] in {*paper.scores}]
    shown = [(of, row) for row in of_rows for of in row["metrics"].values() if of.get("paper") is not None]
    assert shown or not paper.scores
    assert all(of["over_paper"] == of["mean"] - of["paper"] for of, _ in shown if of["mean"] is not None)
