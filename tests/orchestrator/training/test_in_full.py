"""How trials end that run as plain tasks, told without Ray; test_group.py runs some."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from orchestrator.plan.resources import ResourceConfig
from orchestrator.run.budget import Budget, BudgetReached, Meter
from orchestrator.run.journal import TrialResult
from orchestrator.training import in_full
from sr_models.errors import InputError


def unbounded() -> Meter:
    return Meter(Budget(), 0)


class FakeAccess:
    def __init__(self) -> None:
        self.asked = list[str]()
        """The fingerprints of each look."""

    def for_workers(self) -> "FakeAccess":
        return self

    def read_journals(self, fingerprints: list[str]) -> list[list[dict[str, Any]]]:
        self.asked.append("".join(fingerprints))
        entries: list[dict[str, Any]] = [{"kind": "step", "step": step, "of": 5, "metrics": {}} for step in (2, 5)]
        return [[*entries, {"kind": "note", "step": 9, "text": f"of {name}"}] for name in fingerprints]

    def end(self, fingerprint: str, status: Any, step: int | None, cause: str, why: Any) -> TrialResult:
        assert (fingerprint, step) == ("f", None)
        return TrialResult(status, 5, {}, cause, why)


def task_error(cause: Exception) -> Exception:
    return ray.exceptions.RayTaskError("task", "a traceback", cause)


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    """Lets Ray raise an error in the place of a task's result."""

    def arrange(error: Exception) -> None:
        def get(_ref: object) -> None:
            raise error

        monkeypatch.setattr(in_full.ray, "get", get)

    return arrange


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (ray.exceptions.OutOfMemoryError("low"), "out of memory: Ray ended a worker because its node ran low"),
        (ray.exceptions.WorkerCrashedError(), "its workers were lost more often than max_restarts allows"),
        (ray.exceptions.NodeDiedError("gone"), "its workers were lost more often than max_restarts allows"),
        (task_error(ConnectionError("s3 is away")), "ConnectionError: s3 is away"),
    ],
)
def test_what_the_environment_does_ends_one_trial_and_not_the_sweep(
    error: Exception, cause: str, raising: Callable[[Exception], None]
) -> None:
    raising(error)
    found = in_full._result("ref", FakeAccess(), "f")  # type: ignore[arg-type]
    assert (found.status, found.cause, found.is_final) == ("failed", cause, False)


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (task_error(ValueError("a defect")), ray.exceptions.RayTaskError),
        (task_error(InputError("no such file")), InputError),
    ],
)
def test_defects_and_what_the_user_can_mend_are_raised(
    error: Exception, raised: type[Exception], raising: Callable[[Exception], None]
) -> None:
    raising(error)
    with pytest.raises(raised):
        in_full._result("ref", FakeAccess(), "f")  # type: ignore[arg-type]


def test_what_an_earlier_invocation_has_done_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    result, told = TrialResult("complete", 5, {}), list[int]()
    monkeypatch.setattr(in_full, "_ended", lambda *_: result)
    trials: Any = [SimpleNamespace(fingerprint=name, train=SimpleNamespace(steps=5)) for name in "fg"]
    access: Any = FakeAccess()
    found = in_full.run_in_full(trials, access, ResourceConfig(), "cpu", told.append, unbounded(), at_a_time=lambda: 1)
    assert (found, told) == ([result] * 2, [10])
    assert access.asked == ["fg"]


def test_a_poll_looks_once_and_at_those_that_run_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result, told, polls = TrialResult("complete", 5, {}), list[int](), iter([[], ["f"], ["g"], [], ["h"]])

    class Task:
        def options(self, **_: Any) -> "Task":
            return self

        def remote(self, trial: str, *_: Any) -> str:
            return trial  # a fake's reference is its fingerprint

    monkeypatch.setattr(in_full.ray, "remote", lambda _: Task())
    monkeypatch.setattr(in_full.ray, "wait", lambda running, timeout: (next(polls), running))
    monkeypatch.setattr(in_full.ray, "get", lambda _: result)
    monkeypatch.setattr(in_full, "_ended", lambda _access, config, *_: result if config.fingerprint in "ab" else None)
    trials: Any = [
        SimpleNamespace(fingerprint=name, train=SimpleNamespace(steps=5), model_dump=lambda mode, name=name: name)
        for name in "abfgh"
    ]
    access: Any = FakeAccess()
    found = in_full.run_in_full(trials, access, ResourceConfig(), "cpu", told.append, unbounded(), at_a_time=lambda: 2)
    assert (found, told) == ([result] * 5, [25] * 6)
    assert access.asked == ["abfgh", "fg", "fg", "gh", "h", "h"], "one look a poll; what has ended is not asked again"
    assert [line.split()[-1] for line in capsys.readouterr().err.splitlines()] == ["f", "g", "h"], "notes, once each"


def test_a_budget_ends_each_trial_at_its_next_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two run, a third waits; one is past a validation when time is up, the other at the second look after."""
    now, looks = 0.0, iter([{"f": 0, "g": 0, "h": 0}, {"f": 2, "g": 0}, {"g": 0}, {"g": 3}])
    cancelled = list[str]()

    class Access(FakeAccess):
        def read_journals(self, fingerprints: list[str]) -> list[list[dict[str, Any]]]:
            nonlocal now
            at, now = next(looks), now + 1800.0
            return [
                [{"kind": "step", "step": step, "of": 5, "metrics": {}} for step in ([at[name]] if at[name] else [])]
                for name in fingerprints
            ]

    task = SimpleNamespace(remote=lambda trial, *_: trial, options=lambda **_: task)
    monkeypatch.setattr(in_full.ray, "remote", lambda _: task)
    monkeypatch.setattr(in_full.ray, "wait", lambda running, timeout: ([], running))
    monkeypatch.setattr(in_full.ray, "cancel", lambda ref, force: cancelled.append(ref))
    monkeypatch.setattr(in_full, "_ended", lambda *_: None)
    trials: Any = [
        SimpleNamespace(fingerprint=name, train=SimpleNamespace(steps=5), model_dump=lambda mode, name=name: name)
        for name in "fgh"
    ]
    access: Any = Access()
    meter = Meter(Budget(max_hours=1), 0, lambda: now)
    with pytest.raises(BudgetReached, match="--max-hours 1"):
        in_full.run_in_full(trials, access, ResourceConfig(), "cpu", lambda _: None, meter, at_a_time=lambda: 2)
    assert cancelled == ["f", "g"] and meter.spent.trials == 2
