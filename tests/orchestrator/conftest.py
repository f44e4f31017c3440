"""A node's cache; runs as sweeps leave them; commands as users give them; an S3 server and storages of each kind."""

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import sr_models
from eval.metrics.scorer import Scorer
from eval.rows import keyed, write_rows
from eval.score import score_image
from orchestrator.data.build import build_store
from orchestrator.data.inputs import Inputs
from orchestrator.evaluate import entrants
from orchestrator.plan.config import SweepConfig
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.run import lease
from orchestrator.run.access import LocalAccess
from orchestrator.run.folder import STORES, RunDir
from orchestrator.run.records import write_plan
from orchestrator.run.roles import Roles
from orchestrator.run.winners import SearchCounts, WinnerRecord, write_winners
from orchestrator.storage import mirror
from orchestrator.storage import uri as storage
from orchestrator.storage.uri import Storage
from orchestrator.training.loop import run_trial
from sr_models.checkpoints.folder import load_checkpoint
from sr_models.checkpoints.parts import packed
from sr_models.images.operators import to_uint8
from sr_models.inference.super_resolve import super_resolve

ROOT = Path(__file__).resolve().parents[2]
KEY, SECRET = "AKIATESTTESTTEST", "se/cret+of@ours"
COMMAND_SECONDS = 300
"""Longest that a command may take; an idle machine needs a fifth."""


@pytest.fixture(scope="session", autouse=True)
def cache_of_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The node's cache, for tests that do not choose their own: not that of whoever runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SR_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def _photographs(folder: Path, count: int, first: int = 0) -> Path:
    """Smooth random pictures with a little noise, 64x80 px."""
    folder.mkdir(parents=True)
    for i in range(count):
        random = np.random.default_rng(first + i)
        coarse = torch.from_numpy(random.random((1, 3, 8, 10)))
        smooth = torch.nn.functional.interpolate(coarse, (64, 80), mode="bicubic", align_corners=False)
        noisy = smooth + 0.03 * torch.from_numpy(random.standard_normal((1, 3, 64, 80)))
        Image.fromarray(to_uint8(noisy.clamp(0, 1).float())[0]).save(folder / f"{first + i}.png")
    return folder


def _train_run(run: RunDir, plan: Plan) -> None:
    """Do what a sweep does without a search: store, teacher, centroids, every combination's seeds, winners."""
    config, inputs = plan.config, Inputs(plan.config)
    run.make()
    run.config.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
    [scale] = config.scales
    store = build_store(
        run.at(STORES), train=inputs.sources["train"], validation=inputs.sources["validation"], scale=scale
    )
    roles, teacher = Roles(run), None
    if plan.teacher_scales:
        assert config.teacher is not None
        trial = plan.teacher_trial(scale, store.data_hash)
        roles.add(trial, combination=None, role="teacher")
        out = run.trial(trial.fingerprint)
        run_trial(trial, store, lambda *_: "continue", out_dir=out, run=run.name, steered=False)
        net, info = load_checkpoint(out / "model")
        teacher = config.teacher.centroids(info.weights_sha256)
        store.add_centroids(teacher, store.centroids_by(lambda lr: super_resolve(net, lr).sr))
    winners = {}
    for combination in plan.combinations:
        fingerprints = []
        for seed in range(config.seed + 1, config.seed + 1 + config.seeds):
            trial = plan.trial(combination, {}, seed, store.data_hash, teacher)
            roles.add(trial, combination=combination.id, role="final")
            out = run.trial(trial.fingerprint)
            run_trial(trial, store, lambda *_: "continue", out_dir=out, run=run.name, steered=False)
            fingerprints.append(trial.fingerprint)
        winners[combination.id] = WinnerRecord(
            number=None, params={}, fingerprints=tuple(fingerprints),
            search=SearchCounts(trials=0, pruned=0, failed=0), train_seconds=1.0,
        )  # fmt: skip
    tests = {key: bench.hash for key, bench in inputs.benchmarks.items()}
    hashes = {scale: store.data_hash}
    teachers = {scale: teacher} if teacher else {}
    write_plan(run, plan, data_hash=hashes, benchmarks=tests, inits={}, teachers=teachers, trials_at_a_time=1)
    write_winners(run.winners, winners)


@pytest.fixture(scope="session")
def photographs() -> Callable[..., Path]:
    """`photographs(folder, count, first=0)` makes a folder of pictures, named by their numbers; returns it."""
    return _photographs


@pytest.fixture(scope="session")
def train() -> Callable[[RunDir, Plan], None]:
    """Does to an empty run folder what a sweep would."""
    return _train_run


@pytest.fixture(scope="session")
def scored_run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A finished run of two networks, one of which draws its pictures, with its rows; tests leave it as it is.

    What evaluation scored lies in `pictures/NETWORK` beside the folder of runs.
    """
    folder = tmp_path_factory.mktemp("scored")
    sr3 = {"channels": 8, "mults": [1], "attention": [], "blocks": 1, "dropout": 0.0, "groups": 4}
    config = {
        "name": "scored", "models": {"edsr_baseline": {"channels": 8, "blocks": 1}, "sr3": sr3}, "seeds": 2,
        "objectives": {"l1": {}, "nutl": {"timesteps.terminal": {"weight": "alpha_bar"}}},
        "process": {"T": 40, "beta_end": 0.3}, "validation": {"images": 1, "crop": 16, "steps": 8},
        "train": {"steps": 6, "batch_size": 2, "patch": 12, "validate_every": 3, "checkpoint_every": 3, "lr": 2e-3},
        "evaluation": {"metrics": ["psnr_y"], "draws": 2, "seed": 5, "sampling": {"steps": 8}},
        "data": {
            "train": [{"hr": str(_photographs(folder / "train", 2))}],
            "validation": [{"hr": str(_photographs(folder / "validation", 1, 5))}],
            "test": {"toys": {"hr": str(_photographs(folder / "test", 1, 9))}},
        },
    }  # fmt: skip
    run, plan = RunDir(folder / "runs" / "scored-1a2b3c4d"), make_plan(SweepConfig.parse(config, "scored"))
    _train_run(run, plan)
    inputs, found = Inputs(plan.config), [*entrants.winners(run, plan)]
    bench = inputs.benchmarks["toys", 2]
    for job in entrants.jobs(found, plan.config.evaluation, inputs, LocalAccess(run.path)):
        subject, who = job.subject, job.subject.identity
        net = load_checkpoint(run.at(job.checkpoint))[0] if job.checkpoint else sr_models.build("bicubic", 2)
        scorer = Scorer(job.protocol, job.metrics, scale=2, kernel=bench.kernel)
        scored = score_image(
            net, bench, 0, scorer=scorer, draws=job.protocol.draws, seed=subject.seed, options=subject.options,
            save_in=folder / "pictures" / f"{who.model}-{who.seed}",
        )  # fmt: skip
        rows = keyed(subject, [scored.row], scorer.metrics)
        write_rows(run.evaluation / f"{who.model}-{who.seed}.parquet", subject, rows, versions="{}")
    return run


@pytest.fixture
def command() -> Callable[..., str]:
    """`command("eval", "--model", ...)` runs a module in a process of its own: what it says, once it has ended well."""

    def run(module: str, *arguments: str) -> str:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_", "PYTEST_"))}
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT, env=inherited, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run


@pytest.fixture(scope="session")
def s3_port() -> Iterator[int]:
    """The port of an S3 server with one bucket, `bucket`; it takes any credentials."""
    if find_spec("moto") is None:
        pytest.skip("moto, which plays S3, is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while True:
            try:
                assert _status(port, "PUT", "/bucket") == 200
                break
            except OSError:
                assert time.monotonic() < until and server.poll() is None, "the S3 server did not start"
                time.sleep(0.1)
        yield port
    finally:
        server.kill()
        server.wait(10)


@pytest.fixture
def s3_status(s3_port: int) -> Callable[..., int]:
    """Sends a bare request (method, path, body), past all checks of names; returns its status."""
    return lambda *request: _status(s3_port, *request)


def _status(port: int, method: str, path: str, body: bytes = b"") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body, {"Host": f"127.0.0.1:{port}"})
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.fixture
def login() -> tuple[str, str]:
    """Key and secret of every storage that `s3` makes."""
    return KEY, SECRET


@pytest.fixture
def s3() -> Callable[[int, str], Storage]:
    """Makes the storage at a prefix of the bucket, on the server at a port."""

    def make(port: int, prefix: str) -> Storage:
        user, options = f"{KEY}:se%2Fcret+of%40ours", f"region=us-east-1&endpoint_override=http://127.0.0.1:{port}"
        return Storage.parse(f"s3://{user}@bucket/{prefix}?{options}", "x")

    return make


@pytest.fixture(params=["file", "s3"])
def place(request, tmp_path, s3) -> Storage:
    """An empty storage of each kind."""
    if request.param == "file":
        return Storage.parse(str(tmp_path / "shared storage"), "x")
    return s3(request.getfixturevalue("s3_port"), f"{tmp_path.name}/a run")


@pytest.fixture
def no_waiting(monkeypatch):
    """A storage that fails is tried again at once."""
    monkeypatch.setattr(storage, "PAUSES", (0.01, 0.01, None))


@pytest.fixture
def moved(monkeypatch):
    """Names of the files that this process sent to and fetched from storages, in order."""
    names, upload, download = {"up": [], "down": []}, Storage.upload, Storage.download
    monkeypatch.setattr(
        Storage, "upload", lambda self, path, name: names["up"].append(name) or upload(self, path, name)
    )
    monkeypatch.setattr(
        Storage, "download", lambda self, name, *a, **k: names["down"].append(name) or download(self, name, *a, **k)
    )
    monkeypatch.setattr(mirror, "_THREADS", 1)
    return names


@pytest.fixture
def quick_lease(monkeypatch):
    """Signs of life that go and count as gone within a moment; none is remembered from another test."""
    lease._watched.cache_clear()
    for name, seconds in {"LEASE": 0.6, "BEAT": 0.05, "TIE": 0.05, "LOOK": 0.02}.items():
        monkeypatch.setattr(lease, f"{name}_SECONDS", seconds)


@pytest.fixture
def part_access(stand_in: Path, tmp_path: Path) -> LocalAccess:
    """Of a run that has the stand-in autoencoder as a part."""
    run = tmp_path / "runs" / "run"
    run.mkdir(parents=True)
    (run / "config.yaml").touch()
    made = LocalAccess(run)
    sha256, payload = packed(stand_in)
    made.run.init(sha256).parent.mkdir()
    made.run.init(sha256).write_bytes(payload)
    return made
