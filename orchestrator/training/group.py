"""Ray Train: one trial over several workers and nodes, started again from its last checkpoint when some are lost.

Each worker runs `run_trial`, the loop that a trial on one worker runs too; TorchTrainer
(https://docs.ray.io/en/latest/train/api/api.html) places the workers, opens their process group (gloo on CPUs, NCCL on
GPUs) and forms a new group when a node goes away. Whoever calls `fit` holds a `trial_slot` and no CPU: drivers that
held CPUs while waiting for their workers would fill a machine and wait for ever.
"""

from __future__ import annotations

import asyncio
import math
import os
import tempfile
from collections.abc import Sequence
from typing import Any, Literal

import ray
import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from cluster.ray_private import QUICK_TRAIN
from orchestrator.plan.trial import TrialConfig
from orchestrator.run.journal import TrialResult
from orchestrator.training.failure import LOST, NODE_OUT_OF_MEMORY, failure_cause, failure_why
from orchestrator.training.worker import Crew
from sr_models.errors import InputError

Answer = Literal["continue", "stop"]


class Verdicts:
    """An actor between the driver, whose studies decide, and the workers of a trial, which wait for the decision.

    Tune's own way to stop a trial kills its process, and with it the Train run inside, whose placement group then
    stays behind and blocks the next trial (Ray 2.60). So workers ask, and end by themselves.
    """

    def __init__(self) -> None:
        self.answers: dict[tuple[str, int], Answer] = {}
        self.news = asyncio.Condition()

    async def give(self, key: str, step: int, answer: Answer) -> None:
        """Decide on a trial's report; the first decision stands, because some worker may have acted on it."""
        async with self.news:
            self.answers.setdefault((key, step), answer)
            self.news.notify_all()

    async def wait(self, key: str, step: int) -> Answer:
        """The decision on a trial's report, once there is one."""
        async with self.news:
            await self.news.wait_for(lambda: (key, step) in self.answers)
            return self.answers[key, step]


def fit(
    crew: Crew, trial: dict[str, Any], key: str = "", callbacks: Sequence[Any] = (), until: float = math.inf
) -> TrialResult:
    """Run one trial to its end; a trial that cannot be finished is a result too, with its cause.

    Args:
        trial: the dump of its `TrialConfig`.
        key: names the trial to `crew.verdicts`.
        callbacks: Ray Train's `UserCallback`s, told of every report of the first worker.
        until: the step after which a trial is stopped whose crew has no verdicts.
    """
    os.environ.update(QUICK_TRAIN)
    fingerprint = TrialConfig.model_validate(trial).fingerprint
    resources = crew.resources
    per_worker: dict[str, float] = {"CPU": resources.cpus_per_worker}
    if resources.gpus_per_worker:
        per_worker["GPU"] = resources.gpus_per_worker
    most, fewest = resources.workers_per_trial, resources.min_workers or resources.workers_per_trial
    count: Any = most if fewest == most else (fewest, most)  # a pair makes the group elastic
    with tempfile.TemporaryDirectory(prefix="sr-sweep-train-") as scratch:  # Ray wants a folder; nothing is kept in it
        trainer = TorchTrainer(
            # nothing as its config, which Ray may write down: a crew holds credentials
            lambda: _loop(crew, trial, key, until),
            torch_config=TorchConfig(backend="nccl" if resources.gpus_per_worker else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=count,
                use_gpu=resources.gpus_per_worker > 0,
                resources_per_worker=per_worker,
                placement_strategy=resources.placement.upper(),
            ),
            run_config=RunConfig(
                name="trial",
                storage_path=scratch,
                callbacks=list(callbacks),
                failure_config=FailureConfig(max_failures=resources.max_restarts),
            ),
        )
        with crew.access.claimed(fingerprint):  # also while its end is read: another run may go on with the trial
            try:
                trainer.fit()
            except ray.train.TrainingFailedError as error:
                return _given_up(crew, fingerprint, error)
            result = crew.access.result(fingerprint)
    assert result is not None, "the workers ended, and the trial's journal does not say how"
    return result


def _loop(crew: Crew, trial: dict[str, Any], key: str, until: float) -> None:
    """What each worker runs."""
    from orchestrator.training.worker import execute

    context = ray.train.get_context()
    share = math.ceil(trial["train"]["batch_size"] / crew.resources.workers_per_trial)

    def report(step: int, metrics: dict[str, float]) -> Answer:
        ray.train.report({"step": step, "status": "running", "metrics": metrics})
        if crew.verdicts is None:
            return "continue" if step < until else "stop"
        answer: Answer = ray.get(crew.verdicts.wait.remote(key, step))
        return answer

    execute(
        trial,
        crew.access,
        device=str(get_device()) if crew.device == "cuda" else crew.device,
        threads=crew.resources.cpus_per_worker,
        report=report,
        rank=context.get_world_rank(),
        world=context.get_world_size(),
        micro_batch=crew.resources.micro_batch or share,  # fewer workers take longer, and no more memory
        max_bytes=crew.resources.bound,
        steered=crew.steered,
        claimed=True,
    )


def _given_up(crew: Crew, fingerprint: str, error: ray.train.TrainingFailedError) -> TrialResult:
    """Record in its journal why a trial was given up.

    Raises:
        InputError: what the user can mend.
        TrainingFailedError: the cause is neither an outcome of the trial nor the loss of its workers.
    """
    causes = [getattr(each, "_base_exc", each) for each in getattr(error, "worker_failures", {}).values()]
    for cause in causes:
        if isinstance(cause, InputError):
            raise cause from None
        if said := failure_cause(cause, crew.device):
            return crew.access.end(fingerprint, "failed", None, said, failure_why(cause))
    if not any(isinstance(cause, ray.exceptions.RayError) for cause in causes):  # the others lose their connection
        raise error
    starved = any(isinstance(cause, ray.exceptions.OutOfMemoryError) for cause in causes)
    return crew.access.end(fingerprint, "failed", None, NODE_OUT_OF_MEMORY if starved else LOST, "environment")
