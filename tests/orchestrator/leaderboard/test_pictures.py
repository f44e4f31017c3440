"""What a finished sweep is shown by: which pictures there are, of whom, and with which scores."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eval import benchmarks
from eval.pictures import of_rows
from eval.pictures.differences import Gap
from eval.protocol import UNCERTAINTY, get_protocol
from orchestrator.data.inputs import Inputs
from orchestrator.evaluate import actors, first_image
from orchestrator.leaderboard import pictures as report
from orchestrator.plan.config import SweepConfig
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.run.access import LocalAccess
from orchestrator.run.folder import RunDir
from orchestrator.run.journal import JOURNAL, Journal
from orchestrator.run.records import TRIAL, TrialRecord
from orchestrator.training.network import build_network
from sr_models.checkpoints.folder import save_checkpoint
from sr_models.inference.bound import reach

PLAIN, NOISY, SIGMA = "x2/edsr_baseline/l1", "x2/noisy_edsr/l1", "x2/edsr_baseline/expectation"


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for i, name in enumerate("ab"):
        pixels = np.random.default_rng(i).integers(60, 200, (44, 52, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def plan(images: Path) -> Plan:
    """A network and a stochastic one, each with l1 and with a σ head."""
    small = {"channels": 8, "blocks": 1}
    return make_plan(
        SweepConfig.parse(
            {
                "name": "s", "models": {"edsr_baseline": small, "noisy_edsr": {**small, "noise": 30.0}},
                "objectives": ["l1", "expectation"], "teacher": {},
                "data": {"train": [{"hr": "a"}], "validation": [{"hr": "b"}], "test": {"toy": {"hr": str(images)}}},
                "evaluation": {"metrics": ["psnr_y", "ssim_y"], "draws": 2}, "resources": {"max_bytes": 10_000_000},
            },
            "test",
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory, plan: Plan, score: Callable, winner: Callable, make: Callable) -> RunDir:
    """Its run folder, with a winner of every combination but noisy_edsr × expectation."""
    rows, winners = [], {}
    for i, name in enumerate((PLAIN, NOISY, SIGMA)):
        fingerprint = str(i) * 64
        winners[name] = winner(i, fingerprint)
        rows += [score(name, 31.0 + i + k, benchmark="toy", image=image, fingerprint=fingerprint, ssim_y=0.9)
                 for k, image in enumerate("ab")]  # fmt: skip
    rows += [score("x2/bicubic/-", 30.0 + k, benchmark="toy", image=image, ssim_y=0.8) for k, image in enumerate("ab")]
    evaluation = plan.config.evaluation
    protocol = get_protocol(evaluation.protocol).model_copy(update={"draws": evaluation.draws})
    rows = [row | {"protocol": protocol.id(2), "noise_seed": None} for row in rows]
    made = RunDir(make(tmp_path_factory.mktemp("drawn") / "run", rows, winners))
    for one in plan.combinations:
        if one.id in winners:
            trial, fingerprint = plan.trial(one, {}, 0, "d" * 64, None), winners[one.id].fingerprints[0]
            net = build_network(trial)
            sigma = trial.objective.sigma and {
                "width": trial.objective.sigma.width, "detail_unit": net.head.detail_unit, "constant": 0.02,
            }  # fmt: skip
            save_checkpoint(
                made.trial(fingerprint) / "model", net, model=one.network, scale=2, hyper=trial.hyper,
                sigma=sigma, ema=False, fingerprint=fingerprint,
            )  # fmt: skip
            TrialRecord(fingerprint=fingerprint, config=trial.model_dump(mode="json")).write(
                made.trial(fingerprint) / TRIAL
            )
            journal = Journal(made.trial(fingerprint) / JOURNAL)
            journal.step(50, 100, {"psnr_y": 20.0, "ema.psnr_y": 21.0, "train.loss": 0.1})
            journal.step(100, 100, {"psnr_y": 22.0, "ema.psnr_y": 23.0, "train.loss": 0.1})
            journal.end("complete", 100)
    return made


@pytest.fixture(scope="module")
def drawn(run: RunDir, plan: Plan, images: Path) -> dict[str, dict[str, Any]]:
    """File name -> what its picture was given, of everything that the run is shown by; nothing is drawn."""
    found: dict[str, dict[str, Any]] = {}

    def keep(path: Path, *args: Any, **given: Any) -> None:
        assert path.name not in found
        found[path.name] = given | {"args": args}
        path.write_text("a picture")

    def here(seeds: str) -> dict[str, Callable[[], dict[str, bytes]]]:
        due = first_image.planned(run, plan, Inputs(plan.config), access, seeds)
        return {
            what: partial(first_image.draw, shown, access, 1, "cpu", plan.config.resources.bound)
            for what, shown in due.items()
        }

    access = LocalAccess(run.path)
    boards = report.leaderboard.rows
    computed: list[Path] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report.leaderboard, "rows", lambda folder: computed.append(folder) or boards(folder))
        for name in ("training_curves", "violins", "bars", "per_image", "methods"):
            patch.setattr(report, name, keep)
        for name in ("comparison", "write_crops"):
            patch.setattr(first_image, name, keep)
        for name in ("best_and_worst", "l_std_map", "sigma_against_error"):
            patch.setattr(of_rows, name, keep)
        report.pictures(run, plan, {("toy", 2): benchmarks.load("toy", 2, images)}, here)
    assert computed == [run.path], "however many pictures show the board"
    assert {path.name for path in run.pictures.iterdir()} - {"drawn"} == set(found), "of workers too"
    return found


def test_pictures_are_drawn_again_only_when_something_changed_and_never_end_a_sweep(
    run, plan, images, drawn, monkeypatch, capsys
):
    """After `drawn`, which drew them all: a second time nothing, with other images all, and a failure is a line."""
    calls = []
    for name in ("_training", "_violins", "_bars"):
        monkeypatch.setattr(report, name, lambda *_args, name=name: calls.append(name))
    monkeypatch.setattr(report, "_per_image", lambda *_: None)

    def workers(seeds):
        calls.append("begun")
        return {"toy x2": lambda: calls.append("taken") or {}}

    report.pictures(run, plan, {("toy", 2): benchmarks.load("toy", 2, images)}, workers)
    assert calls == []
    one = {("toy", 2): benchmarks.load("toy", 2, images, include=["a.png"])}
    monkeypatch.setattr(report, "_violins", lambda *_: 1 / 0)
    for _ in range(2):
        report.pictures(run, plan, one, workers)
        assert calls == ["begun", "_training", "_bars", "taken"], "a worker draws while the driver does"
        assert capsys.readouterr().err == "violins of x2 was not drawn: ZeroDivisionError: division by zero\n"
        calls.clear()
    report.pictures(run, plan, one, lambda _: {"toy x2": lambda: 1 / 0})
    assert "comparison of toy x2 was not drawn: ZeroDivisionError" in capsys.readouterr().err
    monkeypatch.setattr(report, "read_winners", lambda _: 1 / 0)
    report.pictures(run, plan, one, workers)
    assert capsys.readouterr().err == "pictures was not drawn: ZeroDivisionError: division by zero\n"


def test_networks_take_no_more_of_a_picture_than_workers_may(run, plan, drawn, monkeypatch):
    bounds = []
    monkeypatch.setattr(actors, "sample", lambda *_args, bound, **_given: bounds.append(bound) or iter(()))
    [shown] = first_image.planned(run, plan, Inputs(plan.config), LocalAccess(run.path), "").values()
    for job in shown.jobs.values():
        net = actors.network_of(LocalAccess(run.path), job, "cpu")
        list(actors.sample_job(net, np.zeros((8, 8, 3), np.uint8), job, 10_000_000))
        assert bounds[-1].max_bytes == 10_000_000 and bounds[-1].overlap == reach(net)
    assert len(bounds) == 4


def test_what_there_is_to_show(drawn):
    assert set(drawn) == {
        "comparison_toy_x2.png", "crops_toy_x2.json", "draws_toy_x2.png", "l_std_toy_x2.png",
        "sigma_toy_x2_edsr_baseline_expectation.png",
        "validation_x2.png", "violin_psnr_y_x2.png", "violin_ssim_y_x2.png", "board_toy_x2.png",
        "images_toy_x2.png",
    }  # fmt: skip


def test_winners_stand_between_bicubic_and_hr_the_best_first(drawn):
    given = drawn["comparison_toy_x2.png"]
    labels = [label for label, _, _ in given["panels"]]
    assert labels[:2] == ["LR", "bicubic"] and labels[-1] == "HR" and given["title"] == "toy ×2: a, seed 0"
    assert sorted(labels[2:-1]) == [
        "edsr_baseline\n× expectation", "edsr_baseline\n× l1", "noisy_edsr\n× l1\ndraw 0 of 2",
    ]  # fmt: skip
    scores = [scores["psnr_y"] for _, _, scores in given["panels"][2:-1]]
    assert len(scores) == 3 and all(list(one) == ["psnr_y"] for _, _, one in given["panels"][1:-1])
    plain = [s for s, label in zip(scores, labels[2:-1], strict=True) if "draw" not in label]
    assert plain == sorted(plain, reverse=True)


def test_crops_are_of_the_same_panels_with_lr_as_large_as_hr(drawn):
    given, shown = drawn["crops_toy_x2.json"], drawn["comparison_toy_x2.png"]["panels"]
    assert (given["benchmark"], given["scale"]) == ("toy", 2)
    assert [label for label, _, _ in given["panels"]] == [label.replace("\n", " ") for label, _, _ in shown]
    assert {image.shape for _, image, _ in given["panels"]} == {shown[-1][1].shape}
    assert given["panels"][0][2] == "" and given["panels"][1][2].endswith("dB"), "one number each"


def test_draws_and_their_spread_are_the_stochastic_networks(drawn):
    methods, maps = drawn["draws_toy_x2.png"]["methods"], drawn["l_std_toy_x2.png"]["maps"]
    assert list(methods) == [label for label, _, _ in maps] == ["noisy_edsr × l1"]
    pictures, scores = methods["noisy_edsr × l1"]
    assert len(pictures) == 2 and {len(values) for values in scores.values()} == {2}
    image = drawn["l_std_toy_x2.png"]["image"][1]
    assert image.shape == maps[0][1].shape, "without the border that scores leave out"


def test_sigma_is_held_against_the_error_at_hr_size(drawn):
    given = drawn["sigma_toy_x2_edsr_baseline_expectation.png"]
    assert given["sigma"].shape == given["error"].shape == (44, 52, 3)
    assert list(given["scores"]) == list(UNCERTAINTY) and given["constant"] == 0.02 and not given["flat"]


def test_curves_are_the_winners_validations_raw_and_averaged(drawn):
    [panels] = drawn["validation_x2.png"]["args"]
    assert list(panels) == ["psnr_y"], "losses are no validation"
    assert panels["psnr_y"]["edsr_baseline × l1"] == ([50, 100], [20.0, 22.0])
    assert panels["psnr_y"]["edsr_baseline × l1 (ema)"] == ([50, 100], [21.0, 23.0])
    assert len(panels["psnr_y"]) == 6


def test_violins_are_bicubic_and_the_best_by_the_boards_order(drawn):
    [scores] = drawn["violin_psnr_y_x2.png"]["args"]
    assert (
        drawn["violin_psnr_y_x2.png"]["title"].endswith(", seed 0") and "seed 0" in drawn["validation_x2.png"]["title"]
    )
    assert list(scores) == ["toy"]
    assert {label: sorted(values) for label, values in scores["toy"].items()} == {
        "bicubic": [30.0, 31.0], "edsr_baseline × expectation": [33.0, 34.0], "noisy_edsr × l1": [32.0, 33.0],
        "edsr_baseline × l1": [31.0, 32.0],
    }  # fmt: skip
    assert list(scores["toy"])[:2] == ["bicubic", "edsr_baseline × expectation"]


def test_bars_stand_on_bicubic(drawn):
    given = drawn["board_toy_x2.png"]
    assert given["baseline"] == ("bicubic", 30.5) and given["caption"].endswith("; one seed: order not established")
    assert given["args"] == ([
        ("edsr_baseline × expectation", 33.5, None), ("noisy_edsr × l1", 32.5, None),
        ("edsr_baseline × l1", 31.5, None),
    ],)  # fmt: skip


def test_images_are_held_against_bicubic_where_no_baseline_is_named(drawn):
    given = drawn["images_toy_x2.png"]
    [groups] = given["args"]
    assert {label: values for found in groups for label, values in found.items()} == {
        "edsr_baseline × l1": [1.0, 1.0], "noisy_edsr × l1": [2.0, 2.0], "edsr_baseline × expectation": [3.0, 3.0],
    }  # fmt: skip
    assert given["higher_is_better"] and given["title"] == "toy ×2: over bicubic, image by image"


def test_images_are_held_against_the_networks_baseline(run, plan, monkeypatch, score, winner):
    """Means over seeds of an image first; of other winners, averaged weights and another protocol nothing is taken."""
    found = {}
    monkeypatch.setattr(report, "per_image", lambda path, groups, **given: found.update({path.name: groups}))
    config = plan.config.model_copy(update={"board": plan.config.board.model_copy(update={"baseline": "l1"})})
    about = {"benchmark": "toy", "protocol": report.stamp(plan, 2, "toy")}
    rows = [score(PLAIN, 30.0, fingerprint="a", **about), score(PLAIN, 32.0, fingerprint="b", **about),
            score(SIGMA, 33.5, fingerprint="c", **about), score(SIGMA, 99.0, fingerprint="former", **about),
            score(SIGMA, 99.0, fingerprint="c", weights="ema", **about),
            score(SIGMA, 99.0, fingerprint="c", **about | {"protocol": "other"})]  # fmt: skip
    report._per_image(run, replace(plan, config=config), {PLAIN: winner(0, "a", "b"), SIGMA: winner(0, "c")}, rows, {})
    assert found == {"images_toy_x2.png": [{"edsr_baseline × expectation": [2.5]}]}


def test_a_plane_needs_a_metric_of_distortion_and_one_of_perception(run, plan, monkeypatch):
    found = {}
    monkeypatch.setattr(report, "methods", lambda path, *args, **_: found.update({path.name: args}))
    row = {"benchmark": "toy", "scale": 2, "weights": "raw", "protocol": report.stamp(plan, 2, "toy")}
    rows = [
        row | {"model": name, "objective": objective, "weights": kept,
               "metrics": {"psnr_y": {"mean": 30.0 + i}, "lpips_alex": {"mean": 0.1}}}
        for i, (name, objective, kept) in enumerate(
            [("bicubic", "-", "none"), ("edsr", "l1", "raw"), ("edsr", "l1", "ema"), ("a stranger", "l1", "raw")])
    ]  # fmt: skip
    styled = {"bicubic": (":", "k"), "edsr × l1": ("-", "b")}
    report._planes(run, plan, rows, styled)
    assert found == {}, "psnr_y and ssim_y are both of distortion"
    evaluation = plan.config.evaluation.model_copy(update={"metrics": ("psnr_y", "lpips_alex")})
    other = replace(plan, config=plan.config.model_copy(update={"evaluation": evaluation}))
    report._planes(run, other, rows, styled)
    sets = {"toy": {"bicubic": (30.0, 0.1), "edsr × l1": (31.0, 0.1)}}
    assert found == {"plane_x2.png": (sets, ("psnr_y", "lpips_alex"))}


def test_differences_are_those_of_the_board(run, plan, monkeypatch):
    found = {}
    monkeypatch.setattr(report, "differences", lambda path, groups, **given: found.update({path.name: groups}))
    said = {"over_baseline": 0.5, "over_baseline_low": 0.2, "over_baseline_high": 0.8}
    row = {"benchmark": "toy", "scale": 2, "model": "edsr", "objective": "eco", "weights": "raw", "trial": ""}
    nothing = dict.fromkeys(said)
    rows = [
        row | {"metrics": {"psnr_y": said}}, row | {"objective": "l1", "metrics": {"psnr_y": nothing}},
        row | {"weights": "ema", "metrics": {"psnr_y": said}}, row | {"trial": "a", "metrics": {"psnr_y": said}},
        row | {"metrics": {}},
    ]  # fmt: skip
    report._differences(run, plan, rows, {})
    assert found == {"differences_toy_x2.png": [[Gap(label="edsr × eco", value=0.5, low=0.2, high=0.8)]]}
