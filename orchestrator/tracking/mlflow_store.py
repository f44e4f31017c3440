"""The MLflow side of tracking: experiments, runs, metrics, params and artifacts of one run folder in one store.

MLflow (https://mlflow.org/docs/latest/ml/tracking/) is imported here and in `address.py` alone, and only when a store
is opened.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cluster.secrets import shown
from orchestrator.run.folder import RunDir
from orchestrator.tracking.address import absolute, client, one_line, sqlite_file
from orchestrator.tracking.record import DeliveredRun, Part, TrackingRecord
from orchestrator.tracking.view import SharedView
from sr_models.errors import InputError

BATCH = 1000
"""MLflow's limit of metrics in one call."""

_log = logging.getLogger("orchestrator.tracking")

ATTEMPT = "sr.attempt"
"""Tag of a trial's run: how often the trial had been begun anew."""

_STATUS = {
    "running": "RUNNING", "complete": "FINISHED", "stopped": "FINISHED", "interrupted": "KILLED", "failed": "FAILED",
}  # fmt: skip
"""A trial that its search has stopped came to its end as planned; the tag `status` tells it from a complete one."""


_WEIGHTS = "weights_sha256"
"""Tag of a model's version."""

_MODEL_NOTE = (
    "The best row's weights, a version a run: model.safetensors and model.json, no pickle. Versions say how to load."
)


def load_line(name: str, version: str) -> str:
    """The line of Python that loads a version of a registered model, where `mlflow.set_tracking_uri` named the store.

    Both names are imported: `load_checkpoint` of `sr_models.checkpoints.folder`, and `mlflow`.
    """
    return f'net, info = load_checkpoint(mlflow.artifacts.download_artifacts("models:/{name}/{version}"))'


def left_alone(run_folder: Path) -> str:
    """A line on what MLflow does not take of a run folder; "" if it takes all."""
    path = RunDir(run_folder).tracking
    refused = TrackingRecord.read(path).refused if path.exists() else {}
    if not refused:
        return ""
    key, reason = next(iter(refused.items()))
    return f"MLflow does not take {len(refused)} run(s) or file(s), listed in {path}; the first is {key}: {reason}"


class Store:
    """One run folder's runs in one tracking store, each made once and found again.

    `RUN/tracking.json` is `state`, what was delivered. `RUN/run.id` names the folder in MLflow's tags, so that runs are
    found again if tracking.json is lost, and two folders of equal configs never share runs.
    """

    def __init__(self, run_folder: Path, uri: str) -> None:
        self.folder, self.uri = run_folder, absolute(uri)
        self.state = TrackingRecord(uri=shown(self.uri))
        self._appends = False
        """Whether tracking.json is there and `state` but for what is noted."""
        self._client: Any = None
        self._folder_id = ""
        self._listed: set[str] = set()
        """Experiments whose runs this process has looked up, and from then on knows."""
        self.asked: set[str] = set()
        """Keys of runs whose state in MLflow this process has looked up, and from then on knows."""

    def open(self) -> None:
        """Connect and recall what was delivered; after this, only this process writes."""
        if self._client is not None:
            return
        if not self.folder.is_dir():
            raise InputError(f"{self.folder} is not a run folder")
        run = RunDir(self.folder)
        self._folder_id = run.id
        if run.tracking.exists() and (found := TrackingRecord.read(run.tracking)).uri == self.state.uri:
            self.state = found
        self._client = client(self.uri)

    def doubt(self) -> None:
        """Look up again what the store has, before anything is made in it."""
        self._listed.clear()
        self.asked.clear()

    def forget(self) -> None:
        """Begin again with a store that has lost what it was sent; what it still has of this folder is found by tag."""
        _log.warning("tracking store %s no longer knows what it was sent: all is sent again", shown(self.uri))
        self.state = TrackingRecord(uri=self.state.uri)
        self.doubt()

    def save(self) -> None:
        """Remember `state`, whole."""
        self.state.write(RunDir(self.folder).tracking)
        self._appends = True

    def note(self, part: Part, key: str) -> None:
        """Remember one entry of `state`, or that it is no more."""
        path = RunDir(self.folder).tracking
        if not (self._appends and path.exists()):
            self.save()
            return
        self._appends = False  # a full disk may leave half a line, which nothing may follow
        self.state.append(path, part, key)
        self._appends = True

    def refuse(self, key: str, error: Exception) -> None:
        """Leave a run or file alone from now on."""
        self.state.refused[key] = one_line(error)
        self.note("refused", key)

    def _experiment(self, name: str) -> str:
        """The id of an experiment, made or restored where it is not there; its runs of this folder are then known."""
        if name not in self._listed:
            found = self._client.get_experiment_by_name(name)
            if found is not None and found.lifecycle_stage == "deleted":
                self._client.restore_experiment(found.experiment_id)
            there = found.experiment_id if found else self._create_experiment(name)
            known = self.state.experiments.get(name)
            if known is not None and (found is None or known != there):  # an emptied store gives the same ids again
                self.forget()
            self.state.experiments[name] = there
            self._recall(there)  # a process killed after making a run left one that only MLflow knows
            self.save()
            self._listed.add(name)
        return self.state.experiments[name]

    def _create_experiment(self, name: str) -> str:
        """The id of a new experiment, or of the one that another sweep of its name has made at this moment."""
        from mlflow.exceptions import MlflowException

        try:
            return str(self._client.create_experiment(name, artifact_location=self._artifacts(name)))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return str(self._client.get_experiment_by_name(name).experiment_id)

    def _artifacts(self, name: str) -> str | None:
        """Beside an SQLite file, beside the run folder for another database, and wherever a server puts them."""
        if self.uri.startswith("http"):
            return None
        file = sqlite_file(self.uri) or self.folder.absolute().parent / "mlflow.db"
        return (file.parent / f"{file.stem}-artifacts" / _safe(name).replace("/", "_")).as_uri()

    def _recall(self, experiment: str) -> None:
        """Find this folder's runs that MLflow has and tracking.json has not."""
        token = None
        while True:
            page = self._client.search_runs(
                [experiment], f"tags.`sr.folder` = '{self._folder_id}'", max_results=1000, page_token=token
            )
            for run in page:
                tags = run.data.tags
                made = DeliveredRun(id=run.info.run_id, status=tags.get("status", "running"), attempt=_attempt(tags))
                self.state.runs.setdefault(tags["sr.key"], made)
            token = page.token
            if not token:
                return

    def run(
        self, key: str, experiment: str, name: str, tags: Mapping[str, Any], start: float
    ) -> tuple[DeliveredRun, int]:
        """The record of the run called `key`, and 1 if it had to be made."""
        own = self._experiment(experiment)
        runs = self.state.runs
        if key in runs:
            return runs[key], 0
        every = {**tags, "status": "running", "sr.folder": self._folder_id, "sr.key": key}
        if tags.get("git_commit"):
            every["mlflow.source.git.commit"] = tags["git_commit"]
        short = {tag: str(value)[:5000] for tag, value in every.items() if value is not None}
        made = self._client.create_run(own, start_time=int(start * 1000), tags=short, run_name=name)
        runs[key] = DeliveredRun(id=made.info.run_id, status="running", attempt=_attempt(tags))
        self.note("runs", key)
        return runs[key], 1

    def drop(self, key: str) -> None:
        """Delete a run, for `run` to make it anew.

        It is deleted first and forgotten then: whoever is killed in between leaves none, or one, and never two.
        """
        run = self.state.runs[key]
        if self.stage(run) == "active":
            self._client.delete_run(run.id)
        del self.state.runs[key]
        self.asked.discard(key)
        self.note("runs", key)

    def stage(self, run: DeliveredRun) -> str:
        """A run's in MLflow: "active", "deleted" (as its UI does), or "lost" where the store knows it no longer."""
        from mlflow.exceptions import MlflowException

        try:
            return str(self._client.get_run(run.id).info.lifecycle_stage)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return "lost"

    def hang(self, run: DeliveredRun, parent: str) -> None:
        """Show a run below another parent."""
        self._client.set_tag(run.id, "mlflow.parentRunId", parent)

    def set_status(self, run: DeliveredRun, status: str, end: float | None, cause: str | None = None) -> None:
        """Give a run a journal's status; `end` in s since 1970, None for a run that goes on."""
        if cause or run.status == "failed":  # one that is tried again has failed no longer
            self._client.set_tag(run.id, "cause", (cause or "")[:5000])
        if end is None:
            self._client.update_run(run.id, status=_STATUS[status])
        else:
            self._client.set_terminated(run.id, _STATUS[status], end_time=int(end * 1000))
        self._client.set_tag(run.id, "status", status)
        run.status = status

    def log_params(self, run_id: str, values: Mapping[str, Any]) -> None:
        """Log params in MLflow's batches of 100; a param cannot change, so what is there stays."""
        from mlflow.entities import Param

        there = self._client.get_run(run_id).data.params
        params = [
            Param(_safe(name)[:250], text(value)[:6000])
            for name, value in values.items()
            if _safe(name)[:250] not in there
        ]
        for start in range(0, len(params), 100):
            self._client.log_batch(run_id, params=params[start : start + 100])

    def log_steps(self, key: str, entries: Sequence[dict[str, Any]]) -> int:
        """Send journal steps in as few calls as `BATCH` allows; how many values that was."""
        run, new = self.state.runs[key], 0
        for batch in _batches(entries):
            if new:
                self.note("runs", key)  # who waits for the delivery sees by it that it goes on
            values = [row for entry in batch for row in metric_rows(entry["metrics"], entry["step"], entry["time"])]
            self._client.log_batch(run.id, metrics=values)
            run.step = batch[-1]["step"]
            new += len(values)
        return new

    def share(self, experiment: str, view: SharedView) -> str:
        """Have an experiment that is there be shown as the view says; the id of the experiment."""
        own = self._experiment(experiment)
        self._client.set_experiment_tag(own, view.tag, view.state)
        self.state.view = view.key
        return own

    def describe(
        self, run_id: str, note: str, metrics: Mapping[str, float], tags: Mapping[str, Any], when: float
    ) -> None:
        """Give a run a description, metrics and tags in the place of those that it has."""
        for name, tag in {**tags, "mlflow.note.content": note}.items():
            self._client.set_tag(run_id, _safe(name)[:250], str(tag)[:5000])
        self._client.log_batch(run_id, metrics=metric_rows(metrics, 0, when))

    def log_datasets(self, run_id: str, data: Sequence[Mapping[str, str]]) -> None:
        """Give a run dataset inputs (`exhibits.DataUsed`'s fields); those that it has stay."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = [
            DatasetInput(
                Dataset(one["name"][:500], one["digest"], "local", one["source"][:65535]),
                [InputTag("mlflow.data.context", one["context"])],
            )
            for one in data
        ]
        self._client.log_inputs(run_id, inputs)

    def register(self, name: str, folder: Path, sha256: str, run_id: str, tags: Mapping[str, Any]) -> None:
        """Make a checkpoint folder a version of a registered model, its files artifacts of a run; not a second time.

        Args:
            name: of the model, which is made where it is not there.
            folder: holds model.safetensors and model.json.
            sha256: of the weights.
            run_id: the run that has them.
            tags: of the version.
        """
        name, place = _safe(name).replace("/", "_").replace(":", "_"), f"model/{sha256[:16]}"
        if not self._client.search_registered_models(f"name = '{name}'"):
            self._client.create_registered_model(name, description=_MODEL_NOTE)
        versions = self._client.search_model_versions(f"name = '{name}'")
        if any(found.run_id == run_id and found.tags.get(_WEIGHTS) == sha256 for found in versions):
            return
        for file in ("model.json", "model.safetensors"):
            self._client.log_artifact(run_id, str(folder / file), place)
        source = f"{self._client.get_run(run_id).info.artifact_uri}/{place}"
        own = {_safe(tag)[:250]: str(value)[:5000] for tag, value in {**tags, _WEIGHTS: sha256}.items()}
        made = self._client.create_model_version(name, source, run_id, own, await_creation_for=0)
        note = f"{tags['row']}; `{load_line(name, made.version)}` loads it"
        self._client.update_model_version(name, made.version, note)
        self._client.set_tag(run_id, f"registered {name}", f"version {made.version}: {tags['row']}")

    def log_file(self, run_id: str, path: Path, folder: str | None) -> None:
        """Send an artifact, over one of the same name."""
        self._client.log_artifact(run_id, str(path), folder)

    def last_step(self, run_id: str) -> int:
        """The last step MLflow has of a run, -1 for none; a step's metrics always go out in one call."""
        keys = self._client.get_run(run_id).data.metrics
        return max((m.step for key in keys for m in self._client.get_metric_history(run_id, key)), default=-1)

    def log_scores(
        self,
        key: str,
        experiment: str,
        name: str,
        tags: Mapping[str, Any],
        scores: Mapping[str, Any],
        when: float,
        *,
        params: Mapping[str, Any] = MappingProxyType({}),
    ) -> int:
        """A finished run that holds these scores and tags; only what differs from what MLflow has is sent.

        MLflow cannot forget a metric, nor change a param: where there is one no longer (a rank, while a seed lacks), or
        another one, the run is made anew.
        """
        run, new = self.run(key, experiment, name, tags, when)
        there = self._client.get_run(run.id).data
        now, asked = (
            metric_rows(scores, 0, when),
            {_safe(own)[:250]: text(value)[:6000] for own, value in params.items()},
        )
        gone = {_safe(score)[:250] for score in scores} - {value.key for value in now}
        changed = {own: value for own, value in there.params.items() if own in asked and asked[own] != value}
        if gone & there.metrics.keys() or changed or there.params.keys() - asked.keys():
            self.drop(key)
            run, new = self.run(key, experiment, name, tags, when)
            there = self._client.get_run(run.id).data
        values = [value for value in now if there.metrics.get(value.key) != value.value]
        for name, tag in tags.items():
            if tag is not None and there.tags.get(name) != str(tag)[:5000]:
                self._client.set_tag(run.id, name, str(tag)[:5000])
        for start in range(0, len(values), BATCH):
            self._client.log_batch(run.id, metrics=values[start : start + BATCH])
        if asked.keys() - there.params.keys():
            self.log_params(run.id, params)
        if run.status != "complete":
            self.set_status(run, "complete", when)
        if values:
            self.note("runs", key)
        return new + len(values)


def _attempt(tags: Mapping[str, Any]) -> int:
    """The attempt of the trial that a run with these tags shows."""
    return int(tags.get(ATTEMPT, 0))


def metric_rows(values: Mapping[str, Any], step: int, when: float) -> list[Any]:
    """MLflow metrics of the finite numbers among `values`; MLflow would make 1.8e308 of infinity.

    The same input gives the same rows, which MLflow stores once.
    """
    from mlflow.entities import Metric

    numbers = {_safe(k)[:250]: float(v) for k, v in values.items() if isinstance(v, int | float) and math.isfinite(v)}
    return [Metric(name, number, int(when * 1000), step) for name, number in numbers.items()]


def _batches(entries: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Groups of whole steps with at most BATCH metrics."""
    group: list[dict[str, Any]] = []
    for entry in entries:
        if group and sum(len(e["metrics"]) for e in [*group, entry]) > BATCH:
            yield group
            group = []
        group.append(entry)
    if group:
        yield group


def _safe(name: str) -> str:
    """A name that MLflow accepts for metrics and params."""
    return re.sub(r"[^\w.\- :/]", "_", name).strip("/").replace("//", "/")


def text(value: Any) -> str:
    """A value as a tag or parameter: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)
