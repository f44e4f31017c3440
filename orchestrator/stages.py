"""The stages of a sweep, in order: patch store, teachers, centroids, search, winners in full, evaluation, board."""

from __future__ import annotations

import hashlib
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import safetensors.torch
import yaml
from filelock import FileLock, Timeout
from tqdm import tqdm

import sr_models
from cluster import ray_runtime
from orchestrator import journal, leaderboard, mlflow_store, report
from orchestrator.config import TrialConfig, expand
from orchestrator.follower import Follower
from orchestrator.origin import write_plan
from orchestrator.patches import PatchStore, build_store, check_leaks
from orchestrator.plan import Combination, Plan
from orchestrator.rows import Identity
from orchestrator.rundir import RunDir, read_json, write_json, write_text
from orchestrator.studies import Studies
from sr_models import published
from sr_models.errors import InputError
from sr_models.files import replacing
from sr_models.images import pixels_sha256


class Sweep:
    """One sweep in one run folder. A context manager: whatever it started (Ray, the tracker) ends with it.

    Raises:
        InputError: on entering, missing data, a folder that cannot be written or is in use, a tracking server or Ray
            cluster that does not answer.
    """

    def __init__(self, plan: Plan, folder: Path, *, address: str | None, tracking_uri: str) -> None:
        self.plan, self.config, self.run_dir = plan, plan.config, RunDir(folder.absolute())
        self.address, self.tracking_uri = address, tracking_uri
        self.began = time.time()
        self.device = "cuda" if self.config.resources.gpus_per_worker else "cpu"
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        self._check_data()
        new = not self.run_dir.path.exists()
        self._lock()
        try:
            mlflow_store.check(self.tracking_uri)
            runtime = ray_runtime.connect(self.address, cpus=None)
            self.cluster = self._exit.enter_context(runtime)
            _ = self.concurrency  # refuses trials that no node can hold, before one waits for ever
            self.tracker = self._exit.enter_context(Follower(self.run_dir.path, self.tracking_uri))
        except BaseException as error:
            if new and isinstance(error, InputError):
                shutil.rmtree(self.run_dir.path)  # nothing was started: leave nothing behind
            self._exit.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def run(self) -> None:
        """Run every stage that is not finished, then print the board."""
        self._say(self.plan.text(self.concurrency * self.config.resources.cpus_per_worker))
        self._say(f"run folder {self.run_dir.path}")
        self.store = self._build_store()
        self.inits = {
            (label, scale): self._init(label, path, scale)
            for label in self.config.models
            for scale in self.config.scales
            if (path := self.config.init(label))
        }
        self._write_plan({})
        self.teachers = {scale: self._teacher(scale) for scale in self.plan.teacher_scales}
        self._write_plan(self.teachers)
        self._search()
        self._finish_winners()
        self._evaluate()
        self._report()

    # ---- stages ----------------------------------------------------------------------------------------------------

    def _build_store(self) -> PatchStore:
        data = self.config.data
        sources = {
            split: [
                source.model_copy(
                    update={
                        "hr": expand(source.hr, f"data.{split}"),
                        "lr": {s: expand(p, f"data.{split}", s) for s, p in source.lr.items()},
                    }
                )
                for source in group
            ]
            for split, group in (("train", data.train), ("validation", data.validation))
        }
        with _bar("patch store", 0) as bar:

            def tick(what: str, done: int, total: int) -> None:
                bar.set_postfix_str(what, refresh=False)
                bar.total, bar.n = total, done
                bar.refresh()

            store = build_store(
                self.run_dir.store,
                train=sources["train"],
                validation=sources["validation"],
                scales=self.config.scales,
                on_bad=data.on_bad,
                progress=tick,
            )
        try:
            for scale, patch in self.plan.patches:
                store.check_patch(scale, patch)
            check_leaks(store, self.test_hashes)
        except InputError:
            if not self.run_dir.plan.exists():
                shutil.rmtree(self.run_dir.store)  # nothing was trained on it, so the mended images may take its place
            raise
        if skipped := store.manifest.skipped:
            self._say(f"skipped {len(skipped)} unreadable training images: {', '.join(list(skipped)[:3])}")
        return store

    def _init(self, label: str, path: str, scale: int) -> str:
        """The hash of the weights that a model starts from; afterwards they lie in the run folder, and they fit.

        Raises:
            InputError: weights that cannot be read, or are of another network.
        """
        network, given, _train = self.config.network(label)
        where = f"models.{label}.init"
        try:
            state = published.read(expand(path, where, scale), model=network)
            published.initialise(sr_models.build(network, scale, **given), state)
        except InputError as error:
            raise InputError(f"{where} at x{scale}: {error}") from None
        payload = safetensors.torch.save({key: value.contiguous() for key, value in state.items()})
        sha = hashlib.sha256(payload).hexdigest()
        with replacing(self.run_dir.init(sha)) as part:
            part.write_bytes(payload)
        return sha

    def _teacher(self, scale: int) -> str:
        """The hash of the teacher at `scale`; afterwards its centroids are in the store."""
        from orchestrator import workers
        from sr_models import weights

        teacher = self.config.teacher
        assert teacher is not None  # the plan refuses objectives that need one otherwise
        cpus = self._whole_node
        if teacher.weights is not None:
            folder = Path(expand(teacher.weights, "teacher.weights", scale))
            if not folder.is_dir():  # a released file: kept as a checkpoint of ours
                net = published.load_weights(folder, model=teacher.model, scale=scale, hyper=teacher.hyper)
                folder = self.run_dir.path / "teacher" / f"x{scale}"
                weights.save(
                    folder,
                    net,
                    model=teacher.model,
                    scale=scale,
                    hyper=teacher.hyper,
                    sigma=None,
                    ema=False,
                    fingerprint=None,
                )
        else:
            trial = self.plan.teacher_trial(scale, self.store.data_hash)
            self.run_dir.write_trial(trial, combination=None, role="teacher", number=None, params={})
            with _bar(f"teacher x{scale}", trial.train.steps, "step") as bar:
                [result] = workers.run_in_full(
                    [trial], self.run_dir, self.config.resources, self.device, _set(bar), cpus=cpus
                )
            if result.status != "complete":
                raise InputError(
                    f"teacher: training at x{scale} failed at step {result.step}: {result.cause}; change teacher.train"
                )
            folder = self.run_dir.trial(trial.fingerprint) / ("model_ema" if trial.train.ema else "model")
        net, info = weights.load(folder)
        if info.scale != scale:
            raise InputError(f"teacher.weights: {folder} is a x{info.scale} network, needed at x{scale}")
        del net
        if not self.store.has_centroids(info.weights_sha256, scale):
            with _bar(f"centroids x{scale}", 1):
                workers.make_centroids(
                    str(folder.absolute()),
                    self.run_dir,
                    info.weights_sha256,
                    scale,
                    self.config.resources.gpus_per_worker,
                    cpus,
                    self.device,
                )
        return info.weights_sha256

    def _search(self) -> None:
        from orchestrator.search import search
        from orchestrator.studies import Assignment

        self.studies = Studies(self.run_dir.studies_url, self.plan, self._trial_config)
        with _bar("search", sum(one.trials * one.train.steps for one in self.plan.combinations), "step") as bar:
            ended = {"complete": 0, "stopped": 0, "failed": 0}
            bar.n = sum(self.studies.finished(one) * one.train.steps for one in self.plan.combinations)
            bar.refresh()
            reached: dict[str, int] = {}

            def progress(assignment: Assignment, step: int, status: str) -> None:
                name = f"{assignment.combination.id}#{assignment.number}"
                now = step if status == "running" else assignment.combination.train.steps
                bar.update(max(now - reached.get(name, 0), 0))
                reached[name] = now
                if status != "running":
                    ended[status] += 1
                bar.set_postfix(ended)

            search(self.studies, self.run_dir, self.config.resources, self.concurrency, self.device, progress)
        failed = {one.id: causes for one in self.plan.combinations if (causes := self.studies.failures(one))}
        for name, causes in failed.items():
            self._say(f"{name}: {len(causes)} trial(s) failed: {causes[0]}")

    def _finish_winners(self) -> None:
        from orchestrator import workers

        winners: dict[str, Any] = {}
        runs: list[TrialConfig] = []
        for one in self.plan.combinations:
            best = self.studies.winner(one)
            if best is None:
                self._say(f"{one.id}: no trial ran its full budget; no score")
                continue
            configs = [
                self._trial_config(one, best.params, self.config.seed + extra) for extra in range(self.config.seeds)
            ]
            for config in configs[1:]:
                self.run_dir.write_trial(config, combination=one.id, role="final", number=None, params=best.params)
            runs += configs[1:]
            winners[one.id] = {
                "number": best.number,
                "params": best.params,
                "fingerprints": [config.fingerprint for config in configs],
                "search": self.studies.counts(one),
                "train_seconds": self._train_seconds(configs[0]),
            }
        with _bar("winners in full", sum(config.train.steps for config in runs), "step") as bar:
            results = workers.run_in_full(
                runs,
                self.run_dir,
                self.config.resources,
                self.device,
                _set(bar),
                cpus=self.config.resources.cpus_per_worker,
            )
        for config, result in zip(runs, results, strict=True):
            if result.status != "complete":
                self._say(f"{config.model} seed {config.seed}: {result.status} at step {result.step}: {result.cause}")
        write_json(self.run_dir.winners, winners)

    def _evaluate(self) -> None:
        from orchestrator import workers

        units = list(self._units())
        with _bar("evaluation", len(units), "unit") as bar:
            workers.evaluate(units, self.run_dir, self.config.resources, self.concurrency, self.device, _set(bar))

    def _report(self) -> None:
        board = leaderboard.write(self.run_dir.path)
        report.pictures(self.run_dir, self.plan, self.benchmarks)
        if not self.tracker.finish():
            self._say(
                "tracking is behind (see tracking.log); deliver it with: "
                f"python -m orchestrator.tracking {self.run_dir.path} --tracking-uri {self.tracking_uri}"
            )
        print(f"\n{board}\n")
        print(report.rungs_text(self.run_dir.path))
        print(f"\nfinished in {time.time() - self.began:.0f} s; tables and pictures in {self.run_dir.path}")
        print(f"all runs and curves: {mlflow_store.ui_command(self.tracking_uri)}")
        link = mlflow_store.board_link(self.run_dir.path, self.tracking_uri)
        print(f"the board in it: {link or 'not delivered yet, see tracking.log'}")

    # ---- what the stages share -------------------------------------------------------------------------------------

    @cached_property
    def concurrency(self) -> int:
        """Trials at a time: what the nodes hold, each for itself, or fewer if the config says so."""
        held = self.config.resources

        def fits(node: ray_runtime.Node) -> int:
            by_cpu = node.cpus // held.cpus_per_worker
            return min(by_cpu, int(node.gpus / held.gpus_per_worker + 1e-9)) if held.gpus_per_worker else by_cpu

        fit = sum(fits(node) for node in self.cluster.nodes)
        if fit < 1:
            shapes = sorted({f"{node.cpus} CPUs and {node.gpus} GPUs" for node in self.cluster.nodes})
            raise InputError(
                f"resources: a trial needs {held.cpus_per_worker} CPUs and {held.gpus_per_worker:g} GPUs on one node; "
                f"the nodes have {', '.join(shapes) or 'nothing'}"
            )
        return min(fit, held.max_concurrent or fit)

    @property
    def _whole_node(self) -> int:
        """Cores of one worker that has the machine to itself."""
        return max(node.cpus for node in self.cluster.nodes)

    @cached_property
    def benchmarks(self) -> dict[tuple[str, int], Any]:
        """Every test set at every scale."""
        from orchestrator.workers import load_benchmark, located

        return {
            (name, scale): load_benchmark(name, located(name, source, scale), scale)
            for name, source in self.config.data.test.items()
            for scale in self.config.scales
        }

    @cached_property
    def test_hashes(self) -> dict[str, str]:
        """Name -> pixel hash of each test image, whole and as cropped for each scale."""
        found: dict[str, str] = {}
        for (name, scale), bench in self.benchmarks.items():
            for image, sha in bench.hr_hashes.items():
                found[f"{name}/{image}"] = sha
            for i, pair in enumerate(bench.pairs):
                found[f"{name}/{pair.name} (x{scale})"] = pixels_sha256(bench.read(i)[1])
        return found

    def _check_data(self) -> None:
        """Refuse data folders that are missing or empty before anything is started or written."""
        for split, group in (("train", self.config.data.train), ("validation", self.config.data.validation)):
            for source in group:
                source.model_copy(update={"hr": expand(source.hr, f"data.{split}")}).hr_files()
        _ = self.test_hashes

    def _trial_config(self, one: Combination, values: dict[str, Any], seed: int | None = None) -> TrialConfig:
        seed = self.config.seed if seed is None else seed
        init = self.inits.get((one.label, one.scale))
        return self.plan.trial(one, values, seed, self.store.data_hash, self.teachers.get(one.scale), init)

    def _train_seconds(self, config: TrialConfig) -> float:
        return float(
            journal.steps(journal.read(self.run_dir.trial(config.fingerprint) / journal.JOURNAL))[-1]["metrics"][
                "train.seconds"
            ]
        )

    def _units(self) -> Iterator[Any]:
        """What is to be scored: bicubic, and each winner's every finished seed, raw and averaged, on each benchmark."""
        from orchestrator.workers import Unit, located

        winners = read_json(self.run_dir.winners)
        for (name, scale), bench in self.benchmarks.items():
            identities: list[tuple[Identity, str | None]] = [
                (Identity(f"x{scale}/bicubic/-", "bicubic", "-", "-", "-", scale, "", -1, "none", "bicubic"), None)
            ]
            for one in self.plan.combinations:
                if one.scale != scale or one.id not in winners:
                    continue
                for extra, fingerprint in enumerate(winners[one.id]["fingerprints"]):
                    for folder, kind in (("model", "raw"), ("model_ema", "ema")):
                        checkpoint = self.run_dir.trial(fingerprint) / folder
                        if not (checkpoint / "model.json").exists():
                            continue  # no average was kept, or that seed failed (reported when it did)
                        who = Identity(
                            one.id,
                            one.label,
                            one.objective_label,
                            one.spec.target.kind,
                            one.spec.loss.kind,
                            scale,
                            fingerprint,
                            self.config.seed + extra,
                            kind,
                            one.network,
                        )
                        identities.append((who, str(checkpoint)))
            for who, checkpoint_folder in identities:
                source = located(name, self.config.data.test[name], scale)
                yield Unit(who, checkpoint_folder, name, source, self.config.evaluation, bench.hash)

    def _write_plan(self, teachers: Mapping[int, str]) -> None:
        write_plan(
            self.run_dir,
            self.plan,
            data_hash=self.store.data_hash,
            benchmarks=self.benchmarks,
            inits=self.inits,
            teachers=teachers,
        )

    def _lock(self) -> None:
        """Claim the run folder: one driver at a time, and its config on disk before anything else."""
        try:
            self.run_dir.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.run_dir.path / ".driver.lock", timeout=0)
            self._exit.enter_context(lock)
            if not self.run_dir.config.exists():
                write_text(
                    self.run_dir.config,
                    yaml.safe_dump(self.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
                )
        except Timeout:
            raise InputError(f"--output: another sweep is running in {self.run_dir.path}") from None
        except OSError as error:
            raise InputError(f"--output: {self.run_dir.path} cannot be written ({error.strerror})") from None

    def _say(self, text: str) -> None:
        tqdm.write(text, file=sys.stderr)


@contextmanager
def _bar(name: str, total: int, unit: str = "image") -> Iterator[Any]:
    with tqdm(total=total, desc=f"{name:<16}", unit=unit, file=sys.stderr, dynamic_ncols=True, mininterval=0.5) as bar:
        yield bar


def _set(bar: Any) -> Any:
    """A callback that moves a bar to an absolute position."""

    def move(done: int) -> None:
        bar.n = done
        bar.refresh()

    return move
