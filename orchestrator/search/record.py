"""What a search came to, for every sweep of an output: its proposals in order, their values at the rungs, their ends.

A record is named by what determines it, the number of proposals aside. A run with the same search takes over what is
there and asks only for what is missing; the studies stay the only memory of the run that is under way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from orchestrator.plan.combination import Combination
from orchestrator.plan.config import SearchConfig
from orchestrator.plan.plan import first_rung
from orchestrator.plan.trial import TrialConfig
from orchestrator.run.folder import SHARED, RunDir
from orchestrator.run.records import Record
from orchestrator.search.pareto import Values, as_reported, reported
from sr_models.hashing import digest
from sr_models.params import Params

_STATES: dict[TrialState, Literal["complete", "stopped", "failed"]] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "stopped",
    TrialState.FAIL: "failed",
}


class Proposal(Params):
    """One finished trial of a search."""

    fingerprint: str
    params: dict[str, Any]
    values: dict[int, float | Values]
    """Finished steps -> the steering metric; or all of them in their order, where there are several."""
    status: Literal["complete", "stopped", "failed"]
    cause: str | None = None

    @property
    def curve(self) -> dict[int, Values]:
        """`values`, of one metric or several."""
        return {step: found if isinstance(found, tuple) else (found,) for step, found in self.values.items()}

    @property
    def last(self) -> Values:
        """What its last validation measured."""
        return self.curve[max(self.values)]


class SearchRecord(Record):
    """`shared/searches/<key>.json`: the proposals of a search from the first on, all finished."""

    metric: str | tuple[str, ...]
    combination: str
    """As the run called it that wrote this."""
    proposals: tuple[Proposal, ...]


def search_key(configured: TrialConfig, combination: Combination, search: SearchConfig) -> str:
    """Names a search by what determines it, in hex.

    Args:
        configured: the trial of the configured values: network, objective, data, teacher, start and seed in one.
    """
    ranges = {name: span.model_dump(mode="json") for name, span in combination.axes.ranges.items()}
    rungs = [first_rung(combination.train, search), search.reduction]
    how: list[Any] = [search.metric, configured.protocol, search.sampler, search.startup_trials]
    if configured.tile is not None:
        how += [configured.tile, configured.tile_overlap]
        if configured.tiles_version > 1:
            how.append("lrtiles")
    if search.halve_by is not None and search.halve_by != search.metric:
        how.append({"halve_by": search.halve_by})
    how += [
        part
        for name in ("sampling", "crops", "measured")
        if (part := configured.model_dump(mode="json", include={name}))
    ]
    return digest([configured.fingerprint, ranges, combination.axes.configured, rungs, how])


def record_name(key: str) -> str:
    """The name of a record's file, as `RunDir.at` finds it."""
    return f"{SHARED}/searches/{key[:16]}.json"


def adopt(study: optuna.Study, run: RunDir, key: str, distributions: Mapping[str, BaseDistribution], most: int) -> None:
    """Add to a study what its record holds beyond it, up to `most` trials.

    Nothing is added while a trial of the study is under way, or where its proposals are other ones than the record's.
    """
    path = run.at(record_name(key))
    if not path.exists():
        return
    own, proposals = study.get_trials(deepcopy=False), SearchRecord.read(path).proposals[:most]
    if not all(t.state.is_finished() for t in own):
        return
    if any(t.params != known.params for t, known in zip(own, proposals, strict=False)):
        return
    states = {status: state for state, status in _STATES.items()}
    for known in proposals[len(own) :]:
        state = states[known.status]
        attrs = {"fingerprint": known.fingerprint} | ({"cause": known.cause} if known.cause else {})
        plain, several = as_reported(known.curve)
        study.add_trial(
            optuna.trial.create_trial(
                state=state,
                values=known.last if state == TrialState.COMPLETE else None,
                params=dict(known.params),
                distributions=dict(distributions),
                intermediate_values=plain,
                user_attrs=attrs | several,
            )
        )


def keep(trials: list[FrozenTrial], run: RunDir, key: str, combination: str, metric: str | tuple[str, ...]) -> None:
    """Write the record of a study, unless there is a longer one."""
    proposals = []
    for trial in trials:
        if not trial.state.is_finished():
            break
        proposals.append(
            Proposal(
                fingerprint=str(trial.user_attrs["fingerprint"]),
                params=trial.params,
                values={step: found if len(found) > 1 else found[0] for step, found in reported(trial).items()},
                status=_STATES[trial.state],
                cause=trial.user_attrs.get("cause"),
            )
        )
    path = run.at(record_name(key))
    if not path.exists() or len(SearchRecord.read(path).proposals) < len(proposals):
        SearchRecord(metric=metric, combination=combination, proposals=tuple(proposals)).write(path)
