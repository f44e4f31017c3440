"""`run_trial`: the only training loop. A plain function; Ray Tune and Ray Train call it, a laptop without Ray can too.

With k workers each one runs it on its slice of the same global batch: gradients, losses and scores are summed, and the
first worker keeps the files. One worker against k differ in the order of float additions and in nothing else, except
where a network draws by itself (drop-path, dropout: a generator a worker) or looks at its batch (BatchNorm).

A step is one batch with all updates of its objective, each by an optimiser of its own (`Stepper`). Where there are
several, their metrics carry the update's name: train.NAME.loss, train.NAME.lr, for one alone train.loss, train.lr.

Everything random is keyed by (seed, step, sample), the learning rate is a closed form of the step, and a checkpoint
holds weights, optimisers, weight average and running sums: so a resumed run equals an unbroken one bit for bit on the
same machine with the same number of threads.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from filelock import FileLock
from torch import Tensor

import sr_models
from eval.protocol import AVERAGED
from objectives.batch import Batch
from orchestrator.data.store import PatchStore
from orchestrator.plan.trial import TrialConfig
from orchestrator.run import checkpoint
from orchestrator.run.checkpoint import CHECKPOINT
from orchestrator.run.folder import SNAPSHOTS
from orchestrator.run.journal import JOURNAL, Journal, TrialResult, outcome, steps
from orchestrator.run.records import TRIAL, TrialRecord, begin_trial
from orchestrator.training.failure import TrialFailure, failure_cause, failure_why
from orchestrator.training.network import (
    build_network,
    build_objective,
    export,
    move_average,
    other_weights,
    perceptual_of,
    prepare,
)
from orchestrator.training.optimisers import Stepper, steppers
from orchestrator.training.ranks import Ranks
from orchestrator.training.validation import scorer_of, validation_scores
from sr_models.checkpoints.folder import CheckpointInfo
from sr_models.errors import InputError
from sr_models.inference.bound import Bound
from sr_models.inference.super_resolve import exact_arithmetic
from sr_models.plugins import require
from sr_models.rng import SampleRng, keyed

Reporter = Callable[[int, dict[str, float]], Literal["continue", "stop"]]


FINITE_CHECK_EVERY = 10
"""Steps between looks at the running loss sum: one NaN stays in a sum, and a look makes a GPU wait."""


def run_trial(
    config: TrialConfig,
    store: PatchStore,
    report: Reporter,
    resume: bool = True,
    *,
    device: str = "cpu",
    rank: int = 0,
    world: int = 1,
    out_dir: Path,
    init: Path | None = None,
    parts: Mapping[str, Path] = MappingProxyType({}),
    micro_batch: int | None = None,
    max_bytes: int | None = None,
    weights_dir: Path | None = None,
    run: str = "",
    steered: bool = True,
    pull: Callable[[], object] = lambda: None,
    kept: Callable[[], None] = lambda: None,
) -> TrialResult:
    """Train one network and leave its journal, checkpoint, snapshots and weights in `out_dir`.

    Args:
        config: what to compute; its fingerprint should name `out_dir`.
        store: the images; its data hash must be the config's.
        report: called with (finished steps, validation metrics) after each journal write; "stop" ends the trial. A
            resumed trial first reports the last step its journal holds, so a caller that died hears of it again.
        resume: go on from `out_dir`'s checkpoint; False refuses a folder that has one.
        device: "cpu", "cuda" or "cuda:N".
        rank, world: this worker's slice of each global batch. With world > 1 a process group of that size is open,
            every worker calls this with the same arguments, and `report` must answer all of them alike.
        out_dir: the trial's own folder; a second run in it waits until the first has ended. Rank 0 writes in it.
        init: safetensors of the weights that `config.init` is the hash of; those of another scale give all but the
            upsampler (`sr_models.checkpoints.published.initialise`).
        parts: the files of frozen parts that the network stands on, whose hashes `config.hyper` has.
        micro_batch: most samples in one forward pass; a larger slice is added up over several before the step.
        max_bytes: what one validation image may take; larger ones are computed in tiles where these change nothing.
        weights_dir: folder of the weights that metrics of validations, and a perceptual loss, need; None: where they
            are looked for without.
        run: name of the run that asks, for trial.json.
        steered: whether `report` needs every validation of `config`. If not, a trial that another run has begun goes on
            with the validations that it has; if so, and they lack some, it is begun anew (`begin_trial`).
        pull: called before `out_dir` is read, to bring it up to date; by rank 0 first, and then by the others.
        kept: called after rank 0 has changed files in `out_dir`, to carry them elsewhere.

    Returns:
        The result; a failed trial is a result too, with its cause, and is not retried by running it again. One that its
        environment ended goes on once its journal is reopened (`Access.reopen`).

    Raises:
        InputError: this node lacks a plug-in, or the store the teacher; weights that a metric of validations needs are
            not to be had.
        ValueError: the store or the checkpoint belongs to another config, or resume is off and the folder is in use.
    """
    require(config.plugins)
    ranks = Ranks(rank, world)
    if store.data_hash != config.data_hash:
        raise ValueError(
            f"the store holds data {store.data_hash[:12]}, the trial was planned for {config.data_hash[:12]}"
        )
    out_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(out_dir / ".lock") if ranks.first else contextlib.nullcontext():
        if not ranks.first:
            ranks.wait()  # until the first one has carried away what was left, and mended its journal
        pull()
        if ranks.first:
            begun = begin_trial(out_dir, config, run=run, steered=steered)
            kept()
        else:
            begun = TrialRecord.read(out_dir / TRIAL)
        config = config.measured_as(begun.trial_config())
        journal = Journal(out_dir / JOURNAL, kept if ranks.first else None)
        if ranks.first:
            ranks.wait()
        ranks.agree("journal", journal.last_step, len(journal.entries))  # before anyone acts on what it says
        if not resume and (journal.entries or (out_dir / CHECKPOINT).exists()):
            raise ValueError(f"{out_dir} already holds a trial, and resume is off")
        validated = steps(journal.entries)
        last = validated[-1] if validated else None
        answer = report(last["step"], last["metrics"]) if last else "continue"
        if last and last["step"] == last["of"]:  # at its full budget nothing is left to stop
            answer = "continue"
        ended = outcome(journal.entries)
        if ended is not None and (ended.status != "stopped" or answer == "stop"):
            return ended
        if answer == "stop":
            assert last is not None
            journal.end("stopped", last["step"])
            return TrialResult("stopped", last["step"], last["metrics"])
        with torch.random.fork_rng(), exact_arithmetic():
            trial = None
            try:
                how = (init, parts, micro_batch, max_bytes, weights_dir, kept, journal)
                trial = _Trial(config, begun.attempt, store, device, ranks, out_dir, *how)
                result = trial.run(report)
            except (TrialFailure, MemoryError, RuntimeError) as error:
                cause = failure_cause(error, device)
                if cause is None or (world > 1 and not isinstance(error, TrialFailure)):
                    raise  # with others waiting for this worker, whoever started them all decides
                known = steps(journal.entries)
                metrics = known[-1]["metrics"] if known else {}
                result = TrialResult("failed", trial.step if trial else 0, metrics, cause, failure_why(error))
        journal.end(result.status, result.step, result.cause, result.why)
        return result


class _Trial:
    """The state of one run: network, objective, optimisers, weight average, running sums."""

    def __init__(
        self,
        config: TrialConfig,
        attempt: int,
        store: PatchStore,
        device: str,
        ranks: Ranks,
        out_dir: Path,
        init: Path | None,
        parts: Mapping[str, Path],
        micro_batch: int | None,
        max_bytes: int | None,
        weights_dir: Path | None,
        kept: Callable[[], None],
        journal: Journal,
    ) -> None:
        self.config, self.attempt, self.train, self.store = config, attempt, config.train, store
        self.device, self.ranks, self.out_dir, self.kept = torch.device(device), ranks, out_dir, kept
        self.journal = journal
        self.micro_batch = micro_batch or config.train.batch_size
        torch.manual_seed(config.seed)
        self.net = build_network(config, parts)
        prepare(self.net, config, init, self.device)
        self.bound = None
        if max_bytes is not None and config.gives_sr:
            exact = sr_models.tile_exact(config.model, config.hyper)
            self.bound = Bound.of(self.net, max_bytes, tile_exact=exact)
        self.scorer = scorer_of(config, self.device, weights_dir)
        # after the network, whose draws it must not move
        self.objective = build_objective(config, perceptual_of(config, self.device, weights_dir))
        self.module = self.objective.module.to(self.device) if self.objective.module is not None else None
        for module in (self.net, self.module):
            if module is not None:  # drawn on another kind of CPU, the last bits may differ
                ranks.align(module.state_dict().values())
        updates = self.objective.updates()
        assert tuple(update.name for update in updates) == config.objective.update_names
        self.steppers = steppers(updates, self.train, self.net)
        self.ema = {k: v.detach().clone() for k, v in self.net.state_dict().items()} if self.train.ema else None
        self.step = 0
        self.sums: dict[str, Tensor] = {}  # of the losses since the last report: this worker's part of them
        self.seconds = 0.0  # of training, validation excluded
        self._load()
        ranks.agree("checkpoint", self.step)

    def run(self, report: Reporter) -> TrialResult:
        train, journal = self.train, self.journal
        while True:
            if self.step in train.snapshot_steps and self.ranks.first:  # before a checkpoint that is past it
                export(self.out_dir / SNAPSHOTS / str(self.step), self.net, self.config, self.ema, self.store)
            due = self.step and (self.step % train.validate_every == 0 or self.step == train.steps)
            if due:
                self._add_up()
                metrics = self._means() | self._validate() if self.step > journal.last_step else None
                self._save()  # with its sums: a kill before the journal's line lets the resumed run measure again
                self.sums = {}
                if metrics is not None:
                    journal.step(self.step, train.steps, metrics)
                    if self.step < train.steps and report(self.step, metrics) == "stop":
                        return TrialResult("stopped", self.step, metrics)
            elif self.step % train.checkpoint_every == 0 and self.step:
                self._add_up()
                self._save()
            if self.step == train.steps:
                break
            self._train_step()
        if self.ranks.first:
            self._export()
            self.kept()
        metrics = steps(journal.entries)[-1]["metrics"]
        report(self.step, metrics)
        return TrialResult("complete", self.step, metrics)

    def _export(self) -> None:
        """Leave the weights; of a trial that was begun anew they are what it came to before, or a note says so."""
        model = self.out_dir / "model"
        before = CheckpointInfo.read(model).weights_sha256 if (model / "model.json").exists() else None
        export(self.out_dir, self.net, self.config, self.ema, self.store)
        if before not in (None, CheckpointInfo.read(model).weights_sha256):
            self.journal.note(
                f"{self.out_dir.name} was trained again for what its validations lacked, and came out with other "
                "weights, which are scored anew; bits repeat only on the same kind of machine with the same "
                "cpus_per_worker and workers_per_trial"
            )

    def _train_step(self) -> None:
        began = time.perf_counter()
        config, train = self.config, self.train
        batch = self.store.batch(
            seed=config.seed,
            step=self.step,
            batch_size=train.batch_size,
            patch=train.patch,
            teacher=config.teacher,
            partner="partner" in config.objective.needs,
            degradation=train.degradation,
            latents=config.latents,
            scales=train.scales,
            rank=self.ranks.rank,
            world=self.ranks.world,
            device=self.device,
        )
        dropout = keyed(config.seed, self.step, self.ranks.rank, "init")
        torch.manual_seed(int(dropout.integers(2**63)))
        self.net.train()
        for stepper in self.steppers:
            self._update(stepper, batch)
        self.sums["count"] = self.sums.get("count", torch.zeros(())) + 1
        if self.ema is not None:
            move_average(self.ema, self.net, train, self.step)
        self.step += 1
        if self.step % FINITE_CHECK_EVERY == 0 or self.step % train.validate_every == 0 or self.step == train.steps:
            self._check_finite()
        self.seconds += time.perf_counter() - began

    def _check_finite(self) -> None:
        for stepper in self.steppers:
            name = f"{stepper.prefix}loss"
            loss = float(self.ranks.sum(self.sums[name].clone()))  # so that all workers give up together
            if not math.isfinite(loss):
                raise TrialFailure(
                    f"the {name} is not finite ({loss}) within the {FINITE_CHECK_EVERY} steps before step {self.step}"
                )

    def _update(self, stepper: Stepper, batch: Batch) -> None:
        stepper.clear()
        parts = [batch.part(start, start + self.micro_batch) for start in range(0, len(batch), self.micro_batch)]
        if stepper.look is not None:
            with self._autocast():
                stepper.look(self.net, parts, self._progress, self.ranks.sum)
        for part in parts:
            self._add_gradients(stepper, part)
        self.ranks.sum_gradients(stepper.parameters)
        stepper.step(self.step)

    def _add_gradients(self, stepper: Stepper, part: Batch) -> None:
        """Backward pass of some samples' share of the global batch's mean loss."""
        with self._autocast():
            terms = stepper.loss(self.net, part, self._progress, SampleRng(part.seed, part.step, part.sample_ids))
        loss = terms.per_sample.sum() / self.train.batch_size
        stepper.backward(loss)
        weight = len(part) / self.train.batch_size
        for log, value in {"loss": loss.detach(), **{k: v * weight for k, v in terms.logs.items()}}.items():
            name = f"{stepper.prefix}{log}"
            self.sums[name] = self.sums.get(name, torch.zeros((), device=value.device)) + value

    @property
    def _progress(self) -> float:
        return self.step / (self.train.steps - 1)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.train.precision == "bf16")

    def _add_up(self) -> None:
        """Gather the running sums of all workers in the first one."""
        for name in sorted(self.sums.keys() - {"count"}):
            self.ranks.sum(self.sums[name])
            if not self.ranks.first:
                self.sums[name].zero_()

    def _means(self) -> dict[str, float]:
        count = float(self.sums["count"])
        means = {f"train.{name}": float(total) / count for name, total in self.sums.items() if name != "count"}
        rates = {f"train.{stepper.prefix}lr": stepper.lr(self.step - 1) for stepper in self.steppers}
        return means | rates | {"train.seconds": self.seconds}

    def _validate(self) -> dict[str, float]:
        averages = (self.ema or {}).items()
        self.ranks.align([*self.net.buffers(), *(t for name, t in averages if name in dict(self.net.named_buffers()))])
        if not self.config.gives_sr:
            return {}
        about = (self.config, self.store, self.ranks, self.device, self.step, self.bound)
        metrics = validation_scores(self.net, "", self.scorer, *about)
        if self.ema is not None:
            with other_weights(self.net, self.ema):
                metrics |= validation_scores(self.net, AVERAGED, self.scorer, *about)
        return metrics

    def _save(self) -> None:
        if self.ranks.first:
            checkpoint.save(
                self.out_dir / CHECKPOINT,
                {
                    "fingerprint": self.config.fingerprint,
                    "attempt": self.attempt,
                    "step": self.step,
                    "seconds": self.seconds,
                    "sums": self.sums,
                    "model": self.net.state_dict(),
                    "objective": self.module.state_dict() if self.module is not None else None,
                    "optimizer": {stepper.name: stepper.optimizer.state_dict() for stepper in self.steppers},
                    "ema": self.ema,
                },
            )
            self.kept()

    def _load(self) -> None:
        state, passed_over = checkpoint.newest(self.out_dir, self.device, self._check)
        if self.ranks.first:
            for path, reason in passed_over.items():
                self.journal.note(f"{reason}; going back to step {state['step'] if state else 0}")
                path.unlink()  # else it would take the place of the one that is gone back to
        if state is None:
            return
        self.net.load_state_dict(state["model"])
        if self.module is not None:
            self.module.load_state_dict(state["objective"])
        optimizers = state["optimizer"]
        if "param_groups" in optimizers:  # saved when there was one optimiser, over all of the model
            optimizers = {"model": optimizers}
        for stepper in self.steppers:
            stepper.optimizer.load_state_dict(optimizers[stepper.name])
        self.ema, self.step, self.seconds, self.sums = state["ema"], state["step"], state["seconds"], state["sums"]
        if not self.ranks.first:
            for name in self.sums.keys() - {"count"}:
                self.sums[name].zero_()  # the first worker holds what all had added up

    def _check(self, path: Path, state: dict[str, Any]) -> None:
        """Hold that a checkpoint is of this trial, and that the journal has every validation before it.

        Raises:
            InputError: the journal has lost some, which must be computed again; or the trial was begun anew since.
            ValueError: it is of another trial.
        """
        if state["fingerprint"] != self.config.fingerprint:
            raise ValueError(f"{path} belongs to another trial ({state['fingerprint'][:12]})")
        if state.get("attempt", 0) != self.attempt:
            raise InputError(f"{path} is of before the trial was begun anew")
        every = self.train.validate_every
        if self.journal.last_step < (due := (state["step"] - 1) // every * every):
            raise InputError(
                f"{self.journal.path} has lost the validation at {due}, before step {state['step']} of {path.name}"
            )
