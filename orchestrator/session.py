"""A sweep that is ready to run: its folder claimed, its storage and services checked, its cluster at hand."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import yaml

from cluster import ray_runtime
from cluster.ray_private import forbid_auto_connect
from cluster.ray_runtime import Resources
from orchestrator.data.inputs import Inputs
from orchestrator.data.look import look
from orchestrator.plan.config import SweepConfig
from orchestrator.plan.plan import Plan
from orchestrator.plan.plugins import used
from orchestrator.plan.read import read_yaml
from orchestrator.plan.resources import device_text, most_trials, resolved
from orchestrator.plan.schema import first_line, write_schema
from orchestrator.plan.services import Services
from orchestrator.run import lock
from orchestrator.run.budget import UNBOUND, Budget, Meter
from orchestrator.run.driver import Home, home_of
from orchestrator.run.folder import SHARED, RunDir
from orchestrator.run.progress import say
from orchestrator.run.records import WRITTEN_AGAIN
from orchestrator.run.roles import Roles
from orchestrator.search.studies import open_storage
from orchestrator.tracking import address
from orchestrator.tracking.follower import Follower
from sr_models.errors import InputError
from sr_models.files import write_text


class Cluster:
    """What trials and scores are computed on; `join` connects to it, once, when something is to be computed."""

    def __init__(self, join: Callable[[], Resources]) -> None:
        self._join = join

    def join(self) -> None:
        """Connect, if that was not done before. Raises as `resources`."""
        self.resources  # noqa: B018

    @cached_property
    def resources(self) -> Resources:
        """What it offers. Raises InputError: it cannot be joined, or holds no trial; LostError: Ray did not start."""
        return self._join()

    @property
    def is_joined(self) -> bool:
        return "resources" in vars(self)


@dataclass(frozen=True, kw_only=True)
class Session:
    """What every stage works with: what is asked for, where it lies, and what it runs on."""

    plan: Plan
    services: Services
    home: Home
    roles: Roles
    inputs: Inputs
    cluster: Cluster
    tracker: Follower
    meter: Meter
    began: float
    """Seconds since 1970."""

    @property
    def config(self) -> SweepConfig:
        return self.plan.config

    @property
    def run(self) -> RunDir:
        return self.home.run

    @property
    def trials_at_a_time(self) -> int:
        """What the cluster holds; joins it."""
        return most_trials(self.cluster.resources, self.config.resources)

    @property
    def cores(self) -> int:
        """CPU cores that trials use at a time; before the cluster is joined, all of this machine's."""
        if not self.cluster.is_joined:
            return os.cpu_count() or 1
        resources = self.config.resources
        return self.trials_at_a_time * resources.workers_per_trial * resources.cpus_per_worker

    @property
    def gpus(self) -> float:
        """GPUs that trials use at a time; before the cluster is joined, those of one trial."""
        resources, trials = self.config.resources, self.trials_at_a_time if self.cluster.is_joined else 1
        return trials * resources.workers_per_trial * resources.gpus_per_worker

    @property
    def device(self) -> str:
        return "cuda" if self.config.resources.gpus_per_worker else "cpu"


@contextmanager
def opened(
    plan: Plan,
    folder: Path,
    services: Services,
    budget: Budget = UNBOUND,
    *,
    began: float | None = None,
    group: bool = False,
) -> Iterator[Session]:
    """A sweep that is ready to run in `folder`; whatever this started (Ray, the tracker) ends with the `with` block.

    A Ray of its own is started at once for a run that is new. One that goes on may have nothing left to compute, so
    there it is started when something is.

    Args:
        began: `time.monotonic()` from which the budget's hours count; None: now.
        group: whether the output's group may read folders that are new.

    Raises:
        InputError: a budget that cannot be reached, missing data, a folder that cannot be written or is in use, a
            tracking server, storage or Ray cluster that does not answer, trials that its nodes can never hold.
    """
    started, inputs = time.time(), Inputs(plan.config)
    if inputs.are_far:
        check_fetched(plan)
    inputs.check()
    run_dir = RunDir(folder.absolute())
    home, shared = home_of(run_dir, services.storage), run_dir.at(SHARED)
    new = [path for path in (run_dir.path, shared) if not path.exists()]
    with ExitStack() as stack:

        def join() -> Resources:
            found = stack.enter_context(
                ray_runtime.connect(
                    services.address, allow_anonymous=services.allow_anonymous, may_add=services.may_add
                )
            )
            asked = resolved(plan.config.resources, found)
            if services.address:
                say(device_text(asked, found, None))
            most_trials(found, asked)
            check_reach(home, found)
            ray_runtime.check_plugins(used(plan))
            return found

        forbid_auto_connect()
        cluster = Cluster(join)
        make_folders(run_dir, group=group)
        run_dir.refuse_links()
        stack.enter_context(lock.held(run_dir.path, lock.DRIVER_LOCK, "--output", "another sweep is running in"))
        try:
            lock.refuse_while_cleaned(run_dir.output, "--output")
            home.bind()
            stack.enter_context(home.driven())
            if plan.config.resources.auto:
                plan = replace(plan, config=placed(plan.config, cluster.resources))
            gpus = plan.config.resources.gpus_per_worker * plan.config.resources.workers_per_trial
            meter = Meter(budget, gpus, began=began)
            budget.check(meter.gpus)
            write_config(run_dir, plan.config)
            roles = Roles(run_dir)
            address.check(services.tracking_uri)
            if services.studies_uri:
                open_storage(services.studies_uri).engine.dispose()  # its tables are made before any worker starts
            if plan.config.resources.max_bytes == "auto":
                plan = replace(plan, config=bounded(plan.config, cluster.resources))
            elif services.address or not run_dir.plan.exists():
                cluster.join()  # what is wrong with it is known before anything is left behind
            tracker = stack.enter_context(Follower(run_dir.path, services.tracking_uri))
        except InputError:
            for path in new:  # nothing was started: leave nothing behind
                if path != shared or not any(path.iterdir()):
                    shutil.rmtree(path, ignore_errors=True)
            raise
        yield Session(
            plan=plan,
            services=services,
            home=home,
            roles=roles,
            inputs=inputs,
            cluster=cluster,
            tracker=tracker,
            meter=meter,
            began=started,
        )


def check_fetched(plan: Plan) -> None:
    """Look at images that lie at a URI, once they are here; what is left out of them is said.

    Raises:
        InputError: they cannot be used.
    """
    looked = look(plan.config, plan.patches, fetch=True)
    if looked.faults:
        raise InputError(looked.faults[0])
    for line in looked.left_out:
        say(line)


def make_folders(run_dir: RunDir, *, group: bool) -> None:
    """Make the run folder and those around it.

    Raises:
        InputError: that cannot be done.
    """
    try:
        run_dir.make(group=group)
    except OSError as error:
        raise InputError(f"--output: {run_dir.path} cannot be written ({error.strerror})") from None


def placed(config: SweepConfig, cluster: Resources) -> SweepConfig:
    """The config with numbers in the place of `resources: auto`."""
    return config.model_copy(update={"resources": resolved(config.resources, cluster)})


def bounded(config: SweepConfig, cluster: Resources) -> SweepConfig:
    """The config with a number in the place of `resources.max_bytes: auto`.

    Raises:
        InputError: no node that is up says its memory.
    """
    from orchestrator.training.memory import most_bytes

    resources = config.resources
    most = most_bytes(resources.max_bytes, cluster, resources.cpus_per_worker, resources.gpus_per_worker)
    return config.model_copy(update={"resources": resources.model_copy(update={"max_bytes": most})})


def check_reach(home: Home, cluster: Resources) -> None:
    """Refuse nodes that do not see the run folder when that is where trials are to work.

    Raises:
        InputError: there are such nodes, or may be.
    """
    if home.is_shared:
        return
    if cluster.may_add:
        raise InputError(
            "--storage: nodes that are still to come (--may-add) must find the run; give a URI that all reach "
            "(s3://, gs://, file:// on a shared disk)"
        )
    if len(cluster.nodes) == 1:
        return
    if blind := ray_runtime.nodes_without(home.run.config):
        raise InputError(
            f"--storage: {len(blind)} of {len(cluster.nodes)} nodes ({', '.join(blind[:3])}) do not see "
            f"{home.run.path}; give a URI that all reach (s3://, gs://, file:// on a shared disk)"
        )


def write_config(run_dir: RunDir, config: SweepConfig) -> None:
    """Leave the config in a run folder that has none, before anything else; `board` and `paper` are always the latest.

    Raises:
        InputError: the one that is there is damaged, or the folder cannot be written.
    """
    fields = config.model_dump(mode="json")
    if run_dir.config.exists():
        try:
            kept = read_yaml(run_dir.config)
        except InputError as error:
            raise InputError(f"{run_dir.config} is damaged ({error}); {WRITTEN_AGAIN}") from None
        latest = {name: fields[name] for name in ("board", "paper") if name in fields}
        if latest == {name: kept[name] for name in ("board", "paper") if name in kept}:
            return
        fields = {name: value for name, value in kept.items() if name != "paper"} | latest
    text = first_line() + yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)
    try:
        write_schema(run_dir.path)
        write_text(run_dir.config, text)
    except OSError as error:
        raise InputError(f"--output: {run_dir.path} cannot be written ({error.strerror})") from None
