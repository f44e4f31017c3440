"""`python -m orchestrator.evaluate`: the rows of `python -m eval`, kept; trials of a run, also one under way."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import sr_models
from cluster import ray_runtime
from eval import PROTOCOLS, benchmarks, command
from eval.asked import load as load_asked
from eval.metrics import backbones
from eval.metrics.scorer import Scorer
from eval.request import ModelRequest
from eval.rows import read_file, read_rows
from eval.score import score_image
from orchestrator.data.build import build_store
from orchestrator.data.inputs import Inputs
from orchestrator.evaluate import actors, entrants, service
from orchestrator.evaluate.__main__ import main
from orchestrator.evaluate.work import Job
from orchestrator.plan import config
from orchestrator.plan.plan import make_plan
from orchestrator.plan.read import load
from orchestrator.plan.sources import BenchmarkSource
from orchestrator.run import checkpoint
from orchestrator.run.access import LocalAccess
from orchestrator.run.checkpoint import CHECKPOINT
from orchestrator.run.driver import home_of
from orchestrator.run.folder import STORES, RunDir
from orchestrator.run.journal import JOURNAL
from orchestrator.run.records import write_plan
from orchestrator.run.roles import Roles
from orchestrator.run.winners import SearchCounts, WinnerRecord, write_winners
from orchestrator.training.loop import run_trial
from orchestrator.training.network import build_network
from sr_models.checkpoints.folder import save_checkpoint
from sr_models.diffusion.base import Denoiser
from sr_models.errors import InputError
from sr_models.hyper.process import ProcessParams, ShiftParams
from sr_models.hyper.sampling import Sampling

ROOT = Path(__file__).resolve().parents[3]
HYPER = {"channels": 8, "blocks": 1, "noise": 30.0}


def write_images(folder: Path, count: int, first: int = 0) -> Path:
    folder.mkdir(parents=True)
    for i in range(count):
        pixels = np.random.default_rng(first + i).integers(0, 256, (40, 48, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def run(module: str, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SR_"))}
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT, env=clean | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == code, done.stderr[-3000:]
    return done


def run_here(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> tuple[str, str]:
    """What `main` writes to standard output and to errors, in this process: for a command that starts no Ray."""
    capsys.readouterr()
    assert main([*map(str, arguments)]) == code
    assert "ray" not in sys.modules or not sys.modules["ray"].is_initialized()
    return tuple(capsys.readouterr())


def offline(*_: object, **__: object) -> None:
    raise URLError("tests have no network")


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.slow
def test_a_diffusion_network_on_two_workers_draws_what_one_process_does(tmp_path: Path) -> None:
    hr, hyper = write_images(tmp_path / "mine", 5), {"channels": 8, "mults": [1, 2], "attention": [1], "groups": 4}
    state = sr_models.build("sr3", 4, **hyper).state_dict()
    betas = torch.linspace(1e-6, 1e-2, 1000, dtype=torch.float64).float()
    torch.save({f"denoise_fn.{key}": value for key, value in state.items()} | {"betas": betas}, tmp_path / "gen.pth")
    ask = ["--model", "sr3", "--scale", 4, "--hr", hr, "--weights", tmp_path / "gen.pth", "--draws", 2, "--sampler",
           "truncated", "--steps", 6, *(part for key, value in hyper.items() for part in ("--hyper", f"{key}={value}")),
           ]  # fmt: skip
    run("eval", *ask, "--parquet", tmp_path / "one.parquet")
    run(
        "orchestrator.evaluate",
        *ask,
        "--output",
        tmp_path / "kept",
        "--workers",
        2,
        "--parquet",
        tmp_path / "two.parquet",
    )
    one, two = (read_file(tmp_path / f"{who}.parquet") for who in ("one", "two"))
    assert len(one) == 5 and one[0]["sampler"] == "truncated" and one[0]["steps"] == 6
    for row, expected in zip(two, one, strict=True):
        for name, value in expected.items():
            if name != "seconds":
                assert row[name] == (pytest.approx(value, rel=1e-4) if isinstance(value, float) else value), name


@pytest.mark.ray
@pytest.mark.slow
def test_table_json_and_rows_are_those_of_one_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hr = write_images(tmp_path / "mine", 5)
    torch.manual_seed(0)
    net = sr_models.build("noisy_edsr", 2, **HYPER)
    save_checkpoint(
        tmp_path / "net", net, model="noisy_edsr", scale=2, hyper=HYPER, sigma=None, ema=False, fingerprint=None
    )
    ask = ["--model", "noisy_edsr", "--scale", 2, "--hr", hr, "--weights", tmp_path / "net", "--draws", 3, "--seed", 4,
           "--metrics", "psnr_y,ssim_rgb,consistency,niqe", "--per-image"]  # fmt: skip
    kept = ["--output", tmp_path / "kept", "--workers", 2]
    files = {who: ["--json", tmp_path / f"{who}.json", "--parquet", tmp_path / f"{who}.parquet"] for who in "ab"}
    one = run("eval", *ask, *files["a"])
    many = run("orchestrator.evaluate", *ask, *kept, *files["b"])
    assert "niqe not computed: " in many.stderr
    assert many.stdout.splitlines()[1:] == one.stdout.splitlines()[1:], "the first line has seconds in it"

    a, b = (json.loads((tmp_path / f"{who}.json").read_text()) for who in "ab")
    assert {k: v for k, v in a.items() if k not in ("seconds_per_image", "means", "images")} == {
        k: v for k, v in b.items() if k not in ("seconds_per_image", "means", "images")
    }
    assert b["means"] == pytest.approx(a["means"], rel=1e-9)
    assert a["means"]["g_std.psnr_y"] > 0
    for row, expected in zip(read_file(tmp_path / "b.parquet"), read_file(tmp_path / "a.parquet"), strict=True):
        for name, value in expected.items():
            if name != "seconds":
                assert row[name] == (pytest.approx(value, rel=1e-9) if isinstance(value, float) else value), name

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "kept" / "evaluation").iterdir()}
    assert run_here(capsys, *ask, *kept)[0] == many.stdout
    Image.fromarray(np.full((40, 48, 3), 9, np.uint8)).save(hr / "5.png")
    (hr / "6.png").write_bytes((hr / "5.png").read_bytes()[:60])
    more = run("orchestrator.evaluate", *ask, *kept)
    assert "mean of 6" in more.stdout and "1 refused, 6 scored" in more.stdout and "6.png" in more.stdout
    now = {path: path.stat().st_mtime_ns for path in (tmp_path / "kept" / "evaluation").iterdir()}
    assert before.items() < now.items() and len(now) == len(before) + 1, "only the new image was scored"


@pytest.mark.parametrize("words", [[], ["--sampler", "ddim"]])
def test_a_worker_has_the_noise_that_the_plan_assumed(words: list[str], stand_in: Path, tmp_path: Path) -> None:
    hyper = {"channels": 8, "mults": [1], "blocks": 1, "embed": 8, "heads": 2, "mlp_ratio": 2, "attention_window": 2,
             "side": 8, "groups": 4}  # fmt: skip
    torch.save(sr_models.build("resshift", 4, **hyper).state_dict(), tmp_path / "net.pth")
    hr = write_images(tmp_path / "mine", 1)
    ask = ["--model", "resshift", "--scale", 4, "--hr", hr, "--weights", tmp_path / "net.pth", *words,
           "--part", f"autoencoder={stand_in}"]  # fmt: skip
    ask += [f"--hyper={key}={value}" for key, value in hyper.items()]
    request = command.requested(command.parser().parse_args([*map(str, ask)]))
    assert isinstance(request, ModelRequest)
    asked, run = load_asked(request), RunDir(tmp_path / "run")
    run.make()
    run.config.write_text("# rows")
    for sha256, file in asked.parts.items():
        run.init(sha256).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, run.init(sha256))
    job = Job(
        subject=asked.subject, checkpoint=str(tmp_path / "net.pth"), source=BenchmarkSource(hr=str(hr)),
        protocol=request.protocol, metrics=("psnr_y",), weights_dir=None,
    )  # fmt: skip
    net = actors.network_of(LocalAccess(run.path), job, "cpu")
    assert isinstance(net, Denoiser) and isinstance(net.process, ProcessParams if words else ShiftParams)
    assert net.process.model_dump_json() == asked.subject.process


BICUBIC = ("--model", "bicubic", "--scale", "2", "--hr", "hr")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--images", "hr", "--scale", "2", "--hr", "hr"), "--images: pictures need no workers; use python -m eval"),
        ((*BICUBIC, "--pictures", "new"), "--pictures goes with python -m eval, not with workers"),
        ((*BICUBIC, "--save-images", "new"), "--save-images goes with python -m eval, not with workers"),
        ((*BICUBIC, "--workers", "0"), "--workers must be at least 1, got 0"),
        ((*BICUBIC, "--cpus-per-worker", "0"), "--cpus-per-worker must be at least 1, got 0"),
        ((*BICUBIC, "--gpus-per-worker", "-1"), "--gpus-per-worker must be at least 0, got -1"),
        ((*BICUBIC, "--output", "run"), "run is the run folder of a sweep; score its trials with --run"),
        ((*BICUBIC, "--output", "hr/0.png"), "0.png cannot be written (File exists)"),
        ((*BICUBIC, "--metrics", "psnr"), "--metrics: unknown metric 'psnr'; did you mean 'psnr_y'?"),
        ((*BICUBIC, "--strict", "--metrics", "lpips_alex", "--weights-dir", "hr"), "lpips_alex: alexnet-owt-7be5be79"),
        (BICUBIC[:4], "--hr is needed"),
        (("--run", "hr"), "--run: {cwd}/hr is not a run folder (it has no config.yaml and plan.json)"),
        (("--run", "hr", "--hr", "hr"), "unrecognized arguments: --hr hr"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(backbones, "urlopen", offline)
    write_images(Path("hr"), 1)
    Path("run").mkdir()
    Path("run/plan.json").write_text("{}")
    assert main(arguments) == 2
    said = capsys.readouterr()
    line = said.err.splitlines()[-1]
    assert message.format(cwd=tmp_path) in line and line.startswith("python -m orchestrator.evaluate: ")
    assert said.out == "" and "Traceback" not in said.err


# ---- a run that still trains


@pytest.fixture
def training(tmp_path: Path) -> tuple[RunDir, dict[str, Any]]:
    """A run folder as its sweep leaves it before the search: config, store, plan; and a trial of it."""
    sources = {
        "train": [{"hr": str(write_images(tmp_path / "train", 2))}],
        "validation": [{"hr": str(write_images(tmp_path / "validation", 1, 5))}],
        "test": {"toy": {"hr": str(write_images(tmp_path / "test", 3, 9))}},
    }
    text = {
        "name": "toy", "models": {"edsr_baseline": {"channels": 8, "blocks": 1}}, "objectives": {"l1": {}},
        "data": sources,
        "train": {"steps": 30, "batch_size": 2, "patch": 8, "validate_every": 10, "checkpoint_every": 10, "ema": 0.9},
    }  # fmt: skip
    folder = RunDir(tmp_path / "run")
    folder.path.mkdir()
    parsed = config.SweepConfig.parse(text, "text")
    folder.config.write_text(yaml.safe_dump(parsed.model_dump(mode="json")))
    plan, inputs = make_plan(parsed), Inputs(parsed)
    store = build_store(
        folder.at(STORES), train=inputs.sources["train"], validation=inputs.sources["validation"], scale=2
    )
    tests = {key: bench.hash for key, bench in inputs.benchmarks.items()}
    write_plan(
        folder, plan, data_hash={2: store.data_hash}, benchmarks=tests, inits={}, teachers={}, trials_at_a_time=1
    )
    [one] = plan.combinations
    trial = plan.trial(one, {}, 0, store.data_hash, None)
    Roles(folder).add(trial, combination=one.id, role="search", number=0)
    return folder, {"trial": trial, "store": store}


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_trial_is_scored_while_it_trains(
    training: tuple[RunDir, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, made = training
    trial, store, out = made["trial"], made["store"], folder.trial(made["trial"].fingerprint)
    command = ["--run", folder.path, "--trial", trial.fingerprint[:6], "--workers", 1]
    assert f"--trial: {trial.fingerprint[:16]} has not begun yet" in run_here(capsys, *command, code=2)[1]
    assert "has no winners yet; name trials with --trial" in run_here(capsys, "--run", folder.path, code=2)[1]

    def until(step: int) -> None:
        run_trial(trial, store, lambda at, _: "stop" if at == step else "continue", out_dir=out)
        if step < trial.train.steps:  # as it is in the middle of a run
            lines = (out / JOURNAL).read_text().splitlines(keepends=True)
            (out / JOURNAL).write_text("".join(line for line in lines if '"kind": "end"' not in line))

    until(10)
    first = run("orchestrator.evaluate", *command)
    assert f"edsr_baseline × l1 {trial.fingerprint[:16]} (raw, step 10) x2, protocol classical-y-b2" in first.stdout
    assert "(ema, step 10)" in first.stdout and "so far; the sweep writes its board" in first.stdout
    assert not (folder.path / "snapshots").exists() and not (folder.path / "leaderboard.json").exists()
    rows = {(row["weights"], row["image"]): row for row in read_rows(folder.evaluation)}
    assert len(rows) == 3 * 3 and rows["raw", "0"]["fingerprint"] == f"{trial.fingerprint}@10"
    state = checkpoint.load(out / CHECKPOINT)
    assert state is not None and state["step"] == 10
    net = build_network(trial)
    bench = benchmarks.load("toy", 2, tmp_path / "test")
    scorer = Scorer(PROTOCOLS["classical"], ["psnr_y"], scale=2, kernel=bench.kernel)
    for kind, held in (("raw", state["model"]), ("ema", state["ema"])):
        net.load_state_dict(held)
        expected = score_image(net, bench, 1, scorer=scorer, draws=1).row["psnr_y"]
        assert rows[kind, "1"]["psnr_y"] == pytest.approx(expected, rel=1e-9)

    until(20)
    second = run("orchestrator.evaluate", *command)
    assert "@10)" in second.stdout and "@20)" in second.stdout, "the board tells the steps apart"
    until(30)
    counts = SearchCounts(trials=1, pruned=0, failed=0)
    winner = WinnerRecord(number=0, params={}, fingerprints=(trial.fingerprint,), search=counts, train_seconds=1.0)
    write_winners(folder.winners, {"x2/edsr_baseline/l1": winner})
    last = run("orchestrator.evaluate", "--run", folder.path, "--workers", 1, "--metrics", "psnr_y,psnr_rgb")
    assert "@" not in last.stdout
    assert "toy psnr_rgb" in last.stdout and (folder.path / "leaderboard.json").exists()
    board = json.loads((folder.path / "leaderboard.json").read_text())
    assert {row["weights"] for row in board["rows"]} == {"raw", "ema", "none"}
    assert all(row["images"] == row["of_images"] == 3 for row in board["rows"])


@pytest.mark.parametrize(("asked", "number"), [("auto", 600), (1000, 1000), (None, None)])
def test_a_picture_takes_no_more_of_a_worker_than_in_the_sweep(
    training: tuple[RunDir, dict[str, Any]],
    asked: str | int | None,
    number: int | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, made = training
    trial, found = made["trial"], list[service.Workforce]()
    text = yaml.safe_load(folder.config.read_text())
    folder.config.write_text(yaml.safe_dump(text | {"resources": text["resources"] | {"max_bytes": asked}}))
    run_trial(trial, made["store"], lambda *_: "continue", out_dir=folder.trial(trial.fingerprint))
    node = ray_runtime.Node(address="a", cpus=4, gpus=0, memory=1200)
    cluster = ray_runtime.Resources(cpus=4, gpus=0, nodes=(node,))

    def evaluate(
        _planned: object, _access: object, workforce: Callable[[], service.Workforce], _progress: object
    ) -> list[str]:
        found.append(workforce())
        raise InputError("seen")

    monkeypatch.setattr(ray_runtime, "connect", lambda *_, **__: nullcontext(cluster))
    monkeypatch.setattr(service, "evaluate", evaluate)
    command = ["--run", folder.path, "--trial", trial.fingerprint[:6], "--cpus-per-worker", 2]
    assert "seen" in run_here(capsys, *command, code=2)[1]
    assert [workforce.max_bytes for workforce in found] == [number]


def test_the_weights_along_training_are_entrants_by_step(training: tuple[RunDir, dict[str, Any]]) -> None:
    folder, made = training
    parsed = load(folder.config, ["train.snapshots=[0.5,0.8]"])
    plan, store = make_plan(parsed), made["store"]
    [one] = plan.combinations
    assert plan.trial(one, {}, parsed.seed, store.data_hash, None).train.snapshots == (), "the search keeps none"
    trial = plan.trial(one, {}, parsed.seed + 1, store.data_hash, None)
    home, out = home_of(folder, None), folder.trial(trial.fingerprint)
    Roles(folder).add(trial, combination=one.id, role="final")

    def entrant() -> entrants.Entrant:
        return next(iter(entrants.trials(home, plan, trial.fingerprint)))

    def until(step: int) -> list[tuple[str, str, str | None]]:
        run_trial(trial, store, lambda at, _: "stop" if at == step else "continue", out_dir=out)
        found = list(entrants.snapshots(home, entrant()))
        return [(who.identity.fingerprint[65:], who.identity.weights, who.checkpoint) for who in found]

    assert until(20) == [("15", "raw", f"{folder.name_of(out)}/snapshots/15/model"),
                         ("15", "ema", f"{folder.name_of(out)}/snapshots/15/model_ema")]  # fmt: skip
    assert [(step, kind) for step, kind, _ in until(30)] == [("15", "raw"), ("15", "ema"), ("24", "raw"), ("24", "ema")]
    shutil.rmtree(out / "snapshots" / "24")
    with pytest.raises(InputError, match=r"--snapshots: .*/24 is gone"):
        list(entrants.snapshots(home, entrant()))
    plain = made["trial"]
    run_trial(plain, store, lambda *_: "continue", out_dir=folder.trial(plain.fingerprint))
    with pytest.raises(InputError, match=r"has kept none; run the sweep again with train\.snapshots="):
        list(entrants.snapshots(home, next(iter(entrants.trials(home, plan, plain.fingerprint)))))


def test_noisy_inputs_of_a_test_set_are_in_the_names_of_its_scores_and_measurements(tmp_path: Path) -> None:
    bench = benchmarks.load("toy", 2, write_images(tmp_path / "toy", 1))
    clean, noisy, more = (
        entrants._job(
            entrants.bicubic(2), config.EvaluationConfig(draws=3), bench,
            config.BenchmarkSource(hr=str(tmp_path / "toy"), noise=noise),
        )
        for noise in (None, 0.01, 0.02)
    )  # fmt: skip
    stamps = [job.subject.protocol for job in (clean, noisy, more)]
    assert stamps == ["classical-y-b2-n3", "classical-y-b2-n3-noise0.01", "classical-y-b2-n3-noise0.02"]
    assert len({job.subject.content for job in (clean, noisy, more)}) == 3
    net, lr = sr_models.build("bicubic", 2), bench.read(0)[0]
    drawn = [[one.out.sr for one in actors.sample_job(net, lr, job, None)] for job in (clean, noisy)]
    assert [len(draws) for draws in drawn] == [1, 3] and not torch.equal(drawn[1][0], drawn[1][1])


def test_what_gives_no_sr_is_no_entrant(training: tuple[RunDir, dict[str, Any]]) -> None:
    """Trained beside another winner, it is passed over, and refused by name."""
    folder, made = training
    text = yaml.safe_load(folder.config.read_text())
    text |= {"objectives": {"l1": {}, "noise_regression": {}}, "teacher": {"model": "edsr_baseline"}}
    plan, store = make_plan(config.SweepConfig.parse(text, "text")), made["store"]
    by = store.centroids_by(lambda lr: torch.nn.functional.interpolate(lr, scale_factor=2))
    store.add_centroids("ab" * 8, by)
    counts, winners = SearchCounts(trials=0, pruned=0, failed=0), {}
    for one in plan.combinations:
        trial = plan.trial(one, {}, 1, store.data_hash, "ab" * 8)
        run_trial(trial, store, lambda *_: "continue", out_dir=folder.trial(trial.fingerprint))
        Roles(folder).add(trial, combination=one.id, role="final")
        winners[one.id] = WinnerRecord(
            number=None, params={}, fingerprints=(trial.fingerprint,), search=counts, train_seconds=1.0
        )
    write_winners(folder.winners, winners)
    found = {(who.identity.objective, who.identity.weights) for who in entrants.winners(folder, plan)}
    assert found == {("-", "none"), ("l1", "raw"), ("l1", "ema")}
    with pytest.raises(InputError, match=r"^--trial: what .* gives is no SR, so there is nothing to score"):
        list(entrants.trials(home_of(folder, None), plan, trial.fingerprint))


def test_a_sweeps_tiles_are_in_the_names_of_its_scores(tmp_path: Path) -> None:
    bench = benchmarks.load("toy", 2, write_images(tmp_path / "toy", 1))
    source = config.BenchmarkSource(hr=str(tmp_path / "toy"))
    whole, tiled = (
        entrants._job(entrants.bicubic(2), config.EvaluationConfig(**tiles), bench, source).subject
        for tiles in ({}, {"tile": 16, "tile_overlap": 4})
    )
    assert (whole.protocol, tiled.protocol) == ("classical-y-b2", "classical-y-b2+tile16o4")
    assert (tiled.options.tile, tiled.options.overlap) == (16, 4)
    crops = config.EvaluationConfig(crops="dream40o5")
    sr3 = replace(entrants.bicubic(2), sampled=lambda _: Sampling(sampler="ddim", steps=4))
    drawn, plain = (entrants._job(one, crops, bench, source).subject for one in (sr3, entrants.bicubic(2)))
    assert (drawn.protocol, plain.protocol) == ("classical-y-b2+ddim4+dream40o5", "classical-y-b2")
    row = score_image(
        sr_models.build("bicubic", 2), bench, 0, scorer=Scorer(PROTOCOLS["classical"], ["psnr_y"], scale=2), draws=10,
        options=tiled.options,
    ).row  # fmt: skip
    assert row["protocol"] == tiled.protocol, "as `python -m eval` stamps it"
