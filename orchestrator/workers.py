"""What runs on Ray beside the search: teachers, centroids, winners' further seeds, and evaluation by warm actors."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ray

from orchestrator import journal
from orchestrator.config import BenchmarkSource, EvaluationConfig, ResourceConfig, TrialConfig, expand
from orchestrator.journal import JOURNAL
from orchestrator.rows import Identity, write_rows
from orchestrator.rundir import RunDir
from orchestrator.sources import SKIMAGE, ImageSource
from orchestrator.trial import Report, TrialResult, run_trial
from sr_models.errors import InputError

POLL_SECONDS = 0.5
"""How often the driver looks at the journals of trials that run as plain tasks."""


def execute(trial: dict[str, Any], run: str, *, device: str, threads: int, report: Report) -> TrialResult:
    """Run one trial of a run folder in this process, with its own number of threads."""
    import torch

    torch.set_num_threads(threads)
    config, folder = TrialConfig.model_validate(trial), RunDir(Path(run))
    return run_trial(
        config,
        open_store(folder.store),
        report,
        device=device,
        out_dir=folder.trial(config.fingerprint),
        init=folder.init(config.init) if config.init else None,
    )


def open_store(folder: Path) -> Any:
    """The patch store, kept open by this process until its manifest changes; the driver has verified its hashes."""
    return _open_store(folder, (folder / "manifest.json").stat().st_mtime_ns)


@functools.lru_cache(maxsize=2)
def _open_store(folder: Path, _changed: int) -> Any:
    from orchestrator.patches import PatchStore

    return PatchStore.open(folder, verify=False)


def run_in_full(
    configs: Sequence[TrialConfig],
    run: RunDir,
    resources: ResourceConfig,
    device: str,
    progress: Callable[[int], None],
    *,
    cpus: int,
) -> list[TrialResult]:
    """Run trials to their end, none stopped early; `progress` gets the finished steps of all of them together.

    Args:
        cpus: cores (and threads) that each trial holds.
    """
    task = ray.remote(_execute).options(
        num_cpus=cpus, num_gpus=resources.gpus_per_worker, max_retries=resources.max_restarts
    )
    journals = [run.trial(config.fingerprint) / JOURNAL for config in configs]
    results = [ended(path) for path in journals]
    refs = {
        i: task.remote(config.model_dump(mode="json"), str(run.path), device, cpus)
        for i, config in enumerate(configs)
        if results[i] is None
    }
    waiting = list(refs.values())
    try:
        while waiting:
            _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=POLL_SECONDS)
            progress(sum(max((e["step"] for e in journal.steps(journal.read(path))), default=0) for path in journals))
        with _user_errors():
            return [result or ray.get(refs[i]) for i, result in enumerate(results)]
    finally:
        for ref in waiting:  # only on the way out of an interrupted wait
            ray.cancel(ref, force=True)


def ended(path: Path) -> TrialResult | None:
    """How a journal says its trial ended in full or failed; None if there is something left to run."""
    entries = journal.read(path)
    done, heard = journal.end(entries), journal.steps(entries)
    if done is None or done["status"] == "stopped":
        return None
    return TrialResult(done["status"], done["step"], heard[-1]["metrics"] if heard else {}, done["cause"])


@contextmanager
def _user_errors() -> Iterator[None]:
    """Raise what the user can mend as one line, without Ray's traceback around it."""
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise error.cause from None
        raise
    except ray.exceptions.OutOfMemoryError:
        raise InputError(
            "out of memory: Ray ended a worker because its node ran low; set resources.max_concurrent lower, "
            "then run the same command again"
        ) from None


def _execute(trial: dict[str, Any], run: str, device: str, threads: int) -> TrialResult:
    return execute(trial, run, device=device, threads=threads, report=lambda _step, _metrics: "continue")


def make_centroids(
    weights_folder: str, run: RunDir, teacher: str, scale: int, gpus: float, cpus: int, device: str
) -> None:
    """Fill the store with mu and D(mu) of a teacher, on one worker."""
    task = ray.remote(_make_centroids).options(num_cpus=cpus, num_gpus=gpus)
    with _user_errors():
        ray.get(task.remote(weights_folder, str(run.store), teacher, scale, cpus, device))


def _make_centroids(weights_folder: str, store: str, teacher: str, scale: int, threads: int, device: str) -> None:
    import torch

    from sr_models import weights
    from sr_models.inference import super_resolve

    torch.set_num_threads(threads)
    net, _ = weights.load(weights_folder)
    net = net.to(device)
    open_store(Path(store)).add_centroids(teacher, scale, lambda lr: super_resolve(net, lr).sr, device=device)


@dataclass(frozen=True)
class Unit:
    """One checkpoint on one benchmark: the piece of evaluation that is done, or lost, whole."""

    identity: Identity
    checkpoint: str | None
    """Folder of the weights; None for a network that has none."""
    benchmark: str
    source: BenchmarkSource
    evaluation: EvaluationConfig
    benchmark_hash: str

    @property
    def key(self) -> str:
        """Names the unit's rows by content: the same weights on the same pixels under the same protocol."""
        return self.identity.key(self.benchmark_hash, self.evaluation.protocol, self.evaluation.metrics)


def evaluate(
    units: Iterable[Unit],
    run: RunDir,
    resources: ResourceConfig,
    workers: int,
    device: str,
    progress: Callable[[int], None],
) -> None:
    """Score the units whose rows are not there yet, on `workers` warm actors; each writes its rows as it finishes."""
    todo = [unit for unit in units if not (run.evaluation / f"{unit.key}.parquet").exists()]
    if not todo:
        return
    actor = ray.remote(_EvalWorker).options(
        num_cpus=resources.cpus_per_worker, num_gpus=resources.gpus_per_worker, max_restarts=resources.max_restarts,
        max_task_retries=resources.max_restarts,
    )  # fmt: skip
    pool = ray.util.ActorPool([actor.remote(resources.cpus_per_worker, device) for _ in range(min(workers, len(todo)))])
    scored = pool.map_unordered(lambda worker, unit: worker.score.remote(unit, str(run.evaluation)), todo)
    with _user_errors():
        for done, _ in enumerate(scored, start=1):
            progress(done)


class _EvalWorker:
    """A process that has torch loaded, and scores one unit after the other."""

    def __init__(self, threads: int, device: str) -> None:
        import torch

        torch.set_num_threads(threads)
        self.device = device

    def score(self, unit: Unit, folder: str) -> None:
        import sr_models
        from eval.protocol import get_protocol
        from eval.score import score_image
        from sr_models import weights

        scale = unit.identity.scale
        net = weights.load(unit.checkpoint)[0] if unit.checkpoint else sr_models.build(unit.identity.network, scale)
        net = net.to(self.device)
        bench = load_benchmark(unit.benchmark, unit.source, scale)
        protocol = get_protocol(unit.evaluation.protocol)
        rows = [
            score_image(net, bench, i, protocol=protocol, metrics=unit.evaluation.metrics) for i in range(len(bench))
        ]
        versions = json.dumps({name: version(name) for name in ("torch", "numpy", "pillow")})
        write_rows(Path(folder) / f"{unit.key}.parquet", unit.identity, rows, versions)


def located(name: str, source: BenchmarkSource, scale: int) -> BenchmarkSource:
    """A test set with its paths filled in and absolute: a worker may start in another folder.

    Raises:
        InputError: an environment variable that is not set.
    """

    def place(path: str) -> str:
        return path if path == SKIMAGE else str(Path(expand(path, f"data.test.{name}", scale)).absolute())

    return source.model_copy(update={"hr": place(source.hr), "lr": place(source.lr) if source.lr else None})


def load_benchmark(name: str, source: BenchmarkSource, scale: int) -> Any:
    """The test set that a located source names, at one scale.

    Raises:
        InputError: a folder that is missing or empty, a file without a partner.
    """
    from eval import benchmarks

    if source.hr == SKIMAGE:
        files = ImageSource(hr=SKIMAGE, include=source.include, exclude=source.exclude).hr_files()
        return benchmarks.load(name, scale, files[0].parent, include=[file.name for file in files])
    lr = Path(source.lr) if source.lr else None
    return benchmarks.load(name, scale, Path(source.hr), lr, include=source.include, exclude=source.exclude)
