"""How trials end that run as plain tasks, told without Ray; test_group.py runs some."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from orchestrator.plan.config import ResourceConfig
from orchestrator.run.journal import TrialResult
from orchestrator.training import in_full
from sr_models.errors import InputError


class FakeAccess:
    def for_workers(self) -> "FakeAccess":
        return self

    def read_journal(self, fingerprint: str) -> list[dict[str, Any]]:
        return [{"kind": "step", "step": step} for step in (2, 5)] + [{"kind": "note", "step": 9}]

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
    found = in_full.run_in_full(trials, access, ResourceConfig(), "cpu", told.append, at_a_time=1)
    assert (found, told) == ([result] * 2, [10])
