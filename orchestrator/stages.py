"""The stages of a sweep, in order: patch store, teachers, centroids, search, winners in full, evaluation, board."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from filelock import FileLock, Timeout

from cluster import ray_runtime
from cluster.secrets import shown
from orchestrator.data.inputs import Inputs
from orchestrator.data.store import PatchStore, build_store, check_leaks
from orchestrator.leaderboard import pictures as report
from orchestrator.leaderboard.rungs import rungs_text
from orchestrator.leaderboard.write import write
from orchestrator.plan.config import ResourceConfig, TrialConfig
from orchestrator.plan.plan import Combination, Plan
from orchestrator.plan.services import Services
from orchestrator.run import journal
from orchestrator.run.driver import home_of
from orchestrator.run.folder import RunDir
from orchestrator.run.progress import bar, moves, say
from orchestrator.run.records import WinnerRecord, write_plan, write_trial, write_winners
from orchestrator.search.studies import Studies, open_storage
from orchestrator.tracking import mlflow_store
from orchestrator.tracking.follower import Follower
from orchestrator.training import teachers
from sr_models.errors import InputError
from sr_models.files import write_text


class Sweep:
    """One sweep in one run folder. A context manager: whatever it started (Ray, the tracker) ends with it.

    Raises:
        InputError: on entering, missing data, a folder that cannot be written or is in use, a tracking server, storage
            or Ray cluster that does not answer, trials that its nodes can never workforce.
    """

    def __init__(self, plan: Plan, folder: Path, services: Services) -> None:
        self.plan, self.config, self.services = plan, plan.config, services
        self.run_dir = RunDir(folder.absolute())
        self.home = home_of(self.run_dir, services.storage)
        self.inputs = Inputs(self.config)
        self.began = time.time()
        self.device = "cuda" if self.config.resources.gpus_per_worker else "cpu"
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        self.inputs.check()
        new = not self.run_dir.path.exists()
        try:
            self._lock()
            self.home.bind()
            self._exit.enter_context(self.home.driven())
            self._write_config()
            mlflow_store.check(self.services.tracking_uri)
            if self.services.studies_uri:
                open_storage(self.services.studies_uri).engine.dispose()  # its tables are made before any worker starts
            self.cluster = self._exit.enter_context(
                ray_runtime.connect(
                    self.services.address,
                    allow_anonymous=self.services.allow_anonymous,
                    may_add=self.services.may_add,
                )
            )
            _ = self.concurrency  # refuses trials that no node can hold, before one waits for ever
            self._check_shared()
            self.tracker = self._exit.enter_context(Follower(self.run_dir.path, self.services.tracking_uri))
        except BaseException as error:
            if new and isinstance(error, InputError):
                shutil.rmtree(self.run_dir.path, ignore_errors=True)  # nothing was started: leave nothing behind
            self._exit.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def run(self) -> None:
        """Run every stage that is not finished, then print the board."""
        held = self.config.resources
        say(self.plan.text(self.concurrency * held.workers_per_trial * held.cpus_per_worker))
        say(self.home.shown)
        self.store = self._build_store()
        self.inits = {
            (label, scale): teachers.start_weights(self.config, self.home, label, path, scale)
            for label in self.config.models
            for scale in self.config.scales
            if (path := self.config.init(label))
        }
        self._write_plan({})
        self.home.push()  # before anything that takes long
        self.teachers = {
            scale: teachers.teach(self.plan, self.home, scale, self.store.data_hash, self._one_at_a_time, self.device)
            for scale in self.plan.teacher_scales
        }
        self._write_plan(self.teachers)
        self.home.push()
        self._search()
        self._finish_winners()
        self._evaluate()
        self._report()

    # ---- stages ----------------------------------------------------------------------------------------------------

    def _build_store(self) -> PatchStore:
        with bar("patch store", 0) as made:

            def tick(what: str, done: int, total: int) -> None:
                made.set_postfix_str(what, refresh=False)
                made.total = total
                made.update(done - made.n)

            store = build_store(
                self.run_dir.store,
                train=self.inputs.sources["train"],
                validation=self.inputs.sources["validation"],
                scales=self.config.scales,
                on_bad=self.config.data.on_bad,
                progress=tick,
            )
        try:
            for scale, patch in self.plan.patches:
                store.check_patch(scale, patch)
            check_leaks(store, self.inputs.test_hashes)
        except InputError:
            if not self.run_dir.plan.exists():
                shutil.rmtree(self.run_dir.store)  # nothing was trained on it, so the mended images may take its place
            raise
        if skipped := store.manifest.skipped:
            say(f"skipped {len(skipped)} unreadable training images: {', '.join(list(skipped)[:3])}")
        self.home.publish(store)
        return store

    def _search(self) -> None:
        from orchestrator.search.studies import Assignment
        from orchestrator.search.tune import search

        url = self.services.studies_uri or self.run_dir.studies_url
        self.studies = Studies(url, self.plan, self._trial_config, self.run_dir)
        with bar("search", sum(one.trials * one.train.steps for one in self.plan.combinations), "step") as made:
            ended = {"complete": 0, "stopped": 0, "failed": 0}
            made.n = sum(self.studies.finished(one) * one.train.steps for one in self.plan.combinations)
            made.refresh()
            reached: dict[str, int] = {}

            def progress(assignment: Assignment, step: int, status: str) -> None:
                name = f"{assignment.combination.id}#{assignment.number}"
                now = step if status == "running" else assignment.combination.train.steps
                made.update(max(now - reached.get(name, 0), 0))
                reached[name] = now
                if status != "running":
                    ended[status] += 1
                made.set_postfix(ended, refresh=False)
                self.home.push(sometimes=True)

            search(self.studies, self.home.access, self.config.resources, self.concurrency, self.device, progress)
        self.home.push()
        failed = {one.id: causes for one in self.plan.combinations if (causes := self.studies.failures(one))}
        for name, causes in failed.items():
            say(f"{name}: {len(causes)} trial(s) failed: {causes[0]}")

    def _finish_winners(self) -> None:
        from orchestrator.training import in_full as workers

        winners: dict[str, WinnerRecord] = {}
        runs: list[TrialConfig] = []
        for one in self.plan.combinations:
            best = self.studies.winner(one)
            if best is None:
                say(f"{one.id}: no trial ran its full budget; no score")
                continue
            configs = [
                self._trial_config(one, best.params, self.config.seed + extra) for extra in range(self.config.seeds)
            ]
            for config in configs[1:]:
                write_trial(self.run_dir, config, combination=one.id, role="final", number=None, params=best.params)
            runs += configs[1:]
            winners[one.id] = WinnerRecord(
                number=best.number,
                params=best.params,
                fingerprints=tuple(config.fingerprint for config in configs),
                search=self.studies.counts(one),
                train_seconds=self._train_seconds(configs[0]),
            )
        with bar("winners in full", sum(config.train.steps for config in runs), "step") as made:
            results = workers.run_in_full(
                runs, self.home.access, self.config.resources, self.device, moves(made), at_a_time=self.concurrency
            )
        for config, result in zip(runs, results, strict=True):
            if result.status != "complete":
                say(f"{config.model} seed {config.seed}: {result.status} at step {result.step}: {result.cause}")
        write_winners(self.run_dir.winners, winners)
        for winner in winners.values():
            for fingerprint in winner.fingerprints:
                self.home.pull_weights(fingerprint)
        self.home.push()

    def _evaluate(self) -> None:
        from orchestrator.evaluate import entrants, work
        from orchestrator.evaluate import service as scoring

        held, evaluation = self.config.resources, self.config.evaluation
        found = entrants.winners(self.run_dir, self.plan)
        jobs = entrants.jobs(list(found), evaluation, self.inputs, self.home.access)
        planned = work.plan(jobs, self.inputs.benchmarks, self.home.access)
        workforce = scoring.Workforce(
            workers=evaluation.workers or self.concurrency * held.workers_per_trial,
            cpus=held.cpus_per_worker,
            gpus=held.gpus_per_worker,
            apart=held.gpus_per_worker > 0,
            max_restarts=held.max_restarts,
        )
        with bar("evaluation", sum(len(one.pictures) for one in planned)) as made:
            self.refused = scoring.evaluate(planned, self.home.access, workforce, moves(made))

    def _report(self) -> None:
        board = write(self.run_dir.path)
        report.pictures(self.run_dir, self.plan, self.inputs.benchmarks)
        uri = self.services.tracking_uri
        if not self.tracker.finish():
            say(
                "tracking is behind (see tracking.log); deliver it with: "
                f"python -m orchestrator.tracking {self.run_dir.path} --tracking-uri {shown(uri)}"
            )
        self.home.push()
        print(f"\n{board}\n")
        for line in self.refused:
            print(f"refused: {line}")
        print(rungs_text(self.run_dir.path))
        print(f"\nfinished in {time.time() - self.began:.0f} s; tables and pictures in {self.run_dir.path}")
        print(f"all runs and curves: {mlflow_store.ui_command(uri)}")
        link = mlflow_store.board_link(self.run_dir.path, uri)
        print(f"the board in it: {link or 'not delivered yet, see tracking.log'}")

    # ---- what the stages share -------------------------------------------------------------------------------------

    @cached_property
    def concurrency(self) -> int:
        """Trials at a time: what the nodes hold, those that may still come included, or fewer if the config says so."""
        held = self.config.resources
        nodes = (*self.cluster.nodes, *self.cluster.may_add)
        workers = sum(node.holds(held.cpus_per_worker, held.gpus_per_worker) for node in nodes)
        needed = held.min_workers or held.workers_per_trial
        if workers < needed:
            shapes = sorted({f"{node.cpus} CPUs and {node.gpus} GPUs" for node in nodes})
            many = f"{needed} workers with " if needed > 1 else ""
            raise InputError(
                f"resources: a trial needs {many}{held.cpus_per_worker} CPUs and {held.gpus_per_worker:g} GPUs"
                f"{' each, and each' if needed > 1 else ''} on one node; the cluster's nodes ({len(nodes)}) have "
                f"{', '.join(shapes) or 'nothing'}; name nodes that an autoscaler may start with --may-add"
            )
        fit = max(workers // held.workers_per_trial, 1)
        if held.workers_per_trial > 1:
            if not self.cluster.slots:
                raise InputError(
                    f"resources.workers_per_trial: the cluster offers no {ray_runtime.TRIAL_SLOT}; start its head with "
                    f"""`ray start --head --resources='{{"{ray_runtime.TRIAL_SLOT}": {ray_runtime.LOCAL_SLOTS}}}'`"""
                )
            fit = min(fit, self.cluster.slots)
        return min(fit, held.max_concurrent or fit)

    @property
    def _one_at_a_time(self) -> ResourceConfig:
        """What a task holds that has the cluster to itself: on one worker, all cores of the largest node that fits."""
        held = self.config.resources
        if held.workers_per_trial > 1:
            return held
        up = [node.cpus for node in self.cluster.nodes if node.holds(held.cpus_per_worker, held.gpus_per_worker)]
        to_come = [node.cpus for node in self.cluster.may_add if node.holds(held.cpus_per_worker, held.gpus_per_worker)]
        return held.model_copy(update={"cpus_per_worker": max(up or to_come)})

    def _check_shared(self) -> None:
        """Refuse nodes that do not see the run folder when that is where trials are to work."""
        if self.home.is_shared:
            return
        if self.cluster.may_add:
            raise InputError(
                "--storage: nodes that are still to come (--may-add) must find the run; give a URI that all reach "
                "(s3://, gs://, file:// on a shared disk)"
            )
        if len(self.cluster.nodes) == 1:
            return
        if blind := ray_runtime.nodes_without(self.run_dir.config):
            raise InputError(
                f"--storage: {len(blind)} of {len(self.cluster.nodes)} nodes ({', '.join(blind[:3])}) do not see "
                f"{self.run_dir.path}; give a URI that all reach (s3://, gs://, file:// on a shared disk)"
            )

    def _trial_config(self, one: Combination, values: dict[str, Any], seed: int | None = None) -> TrialConfig:
        seed = self.config.seed if seed is None else seed
        init = self.inits.get((one.label, one.scale))
        return self.plan.trial(one, values, seed, self.store.data_hash, self.teachers.get(one.scale), init)

    def _train_seconds(self, config: TrialConfig) -> float:
        return float(journal.steps(self.home.access.read_journal(config.fingerprint))[-1]["metrics"]["train.seconds"])

    def _write_plan(self, teachers: Mapping[int, str]) -> None:
        write_plan(
            self.run_dir,
            self.plan,
            data_hash=self.store.data_hash,
            benchmarks={key: bench.hash for key, bench in self.inputs.benchmarks.items()},
            inits=self.inits,
            teachers=teachers,
        )

    def _lock(self) -> None:
        """Claim the run folder: one driver at a time."""
        try:
            self.run_dir.path.mkdir(parents=True, exist_ok=True)
            self._exit.enter_context(FileLock(self.run_dir.path / ".driver.lock", timeout=0))
        except Timeout:
            raise InputError(f"--output: another sweep is running in {self.run_dir.path}") from None
        except OSError as error:
            raise InputError(f"--output: {self.run_dir.path} cannot be written ({error.strerror})") from None

    def _write_config(self) -> None:
        """The config on disk before anything else."""
        if not self.run_dir.config.exists():
            text = yaml.safe_dump(self.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
            try:
                write_text(self.run_dir.config, text)
            except OSError as error:
                raise InputError(f"--output: {self.run_dir.path} cannot be written ({error.strerror})") from None
