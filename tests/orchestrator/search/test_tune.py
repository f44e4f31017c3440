"""Which failures of a trial would only happen again, Tune's scratch; the search itself is tried in test_sweep.py."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from orchestrator.run.budget import UNBOUND, Meter
from orchestrator.search.tune import _cause, _Losses, _raised, _StudySearcher, scratch_of
from sr_models.errors import DiskFullError

LOST = "The actor died unexpectedly before finishing this task.\n\tclass_name: ImplicitFunc\nThe actor is dead."
MEMORY = "1 worker(s) were killed due to the node running low on memory. Memory on the node was 1.57GB used"
RAISED = 'ray::ImplicitFunc.train() (pid=1, ip=192.0.2.2)\n  File "trial.py", line 1, in run\nValueError: bad shape\n'


@pytest.mark.parametrize(
    ("failures", "cause"),
    [
        ([LOST], None),
        ([MEMORY], "out of memory: Ray ended the worker because its node ran low"),
        ([RAISED], "ValueError: bad shape"),
        ([RAISED.replace("ValueError", "sr_models.errors.InputError")], "bad shape"),
        ([MEMORY, LOST], None),  # only the last one counts
        ([], None),
    ],
)
def test_a_lost_worker_is_told_from_a_lost_cause(tmp_path: Path, failures: list[str], cause: str | None) -> None:
    path = tmp_path / "error.txt"  # as Tune 2.60 writes it
    path.write_text("".join(f"Failure # {i} (occurred at 2026-11-20)\n{text}\n" for i, text in enumerate(failures, 1)))
    assert _cause(SimpleNamespace(error_file=str(path) if failures else None)) == cause


def test_an_interrupted_storage_is_no_outcome_of_a_trial(tmp_path: Path) -> None:
    path = tmp_path / "error.txt"
    for last, cause in (
        ("OSError: writing 'x' at s3://b failed", None),
        ("orchestrator.storage.uri.StorageAway: writing 'x' at s3://b failed", None),
        ("sr_models.errors.LostError: writing 'x' at s3://b failed, for 10 minutes", None),
        ("ValueError: wrong", "ValueError: wrong"),
    ):
        path.write_text(f'Failure #1\nray::ImplicitFunc.train()\n  File "trial.py", line 1\n{last}\n')
        assert _cause(SimpleNamespace(error_file=str(path))) == cause
        assert _raised(SimpleNamespace(error_file=str(path))) == last


@pytest.mark.parametrize("busy", [False, True])
def test_a_trial_that_another_run_goes_on_with_is_not_ended(tmp_path: Path, busy: bool) -> None:
    ended: list[str] = []
    access = SimpleNamespace(is_busy=lambda _: busy, end=lambda fingerprint, *_: ended.append(fingerprint))
    live = {"t": SimpleNamespace(config=SimpleNamespace(fingerprint="f"))}
    (tmp_path / "error.txt").write_text(f"Failure # 1\n{MEMORY}\n")
    trial = SimpleNamespace(trial_id="t", error_file=str(tmp_path / "error.txt"))
    _Losses(SimpleNamespace(live=live, access=access)).on_trial_recover(1, [], trial)  # type: ignore[arg-type]
    assert ended == ([] if busy else ["f"])


@pytest.mark.parametrize(
    ("result", "error", "heard"),
    [
        ({"status": "failed", "cause": "NaN", "why": "numbers"}, False, ("close", TrialState.FAIL, "NaN")),
        ({"status": "failed", "cause": "no memory", "why": "environment"}, False, ("leave", "no memory")),
        ({"status": "running"}, True, ("leave", "OSError: the storage was away")),
        (None, True, ("leave", "OSError: the storage was away")),
    ],
)
def test_a_study_hears_of_what_the_numbers_did_alone(
    result: dict[str, str] | None, error: bool, heard: tuple[object, ...]
) -> None:
    calls: list[tuple[object, ...]] = []
    in_flight = SimpleNamespace(
        live={"t": None}, errors={"t": "OSError: the storage was away"},
        close=lambda _id, state, _step, cause: calls.append(("close", state, cause)),
        leave=lambda _id, _step, cause: calls.append(("leave", cause)),
    )  # fmt: skip
    _StudySearcher(in_flight, 1).on_trial_complete("t", result and {"step": 50, **result}, error)  # type: ignore[arg-type]
    assert calls == [heard]


def test_a_round_hands_out_so_many_trials_and_no_more() -> None:
    started: list[str] = []

    def start(trial_id: str) -> dict[str, str] | None:
        started.append(trial_id)
        return None if trial_id == "b" else {"trial": trial_id}

    meter = Meter(UNBOUND, gpus=0)
    searcher = _StudySearcher(SimpleNamespace(start=start, duplicates={"b"}, meter=meter), 2)  # type: ignore[arg-type]
    answers = [searcher.suggest(trial_id) for trial_id in "abcd"]
    assert answers == [{"trial": "a"}, None, {"trial": "c"}, Searcher.FINISHED] and started == ["a", "b", "c"]


def test_a_full_disk_ends_the_search_and_says_nothing_of_the_trial(tmp_path: Path) -> None:
    path = tmp_path / "error.txt"
    said = "sr_models.errors.DiskFullError: the disk of /runs/shared/trials/0123 is full (or your quota)"
    path.write_text(f'Failure # 1\nray::ImplicitFunc.train()\n  File "trial.py", line 1\n{said}\n')
    with pytest.raises(DiskFullError, match=r"^the disk of /runs/shared/trials/0123 is full \(or your quota\)$"):
        _cause(SimpleNamespace(error_file=str(path)))


def test_scratch_goes_at_the_end_and_what_a_killed_driver_left_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed, other = scratch_of(tmp_path / "runs/a"), scratch_of(tmp_path / "runs/b")
    left, of_another = killed.__enter__(), other.__enter__()  # neither comes to its end here
    with pytest.raises(KeyboardInterrupt), scratch_of(tmp_path / "runs/a") as mine:
        assert {str(path) for path in tmp_path.glob("sr-sweep-tune-*")} == {mine, of_another} and mine != left
        raise KeyboardInterrupt
    assert [str(path) for path in tmp_path.glob("sr-sweep-tune-*")] == [of_another]
    other.__exit__(None, None, None)


def test_a_link_in_the_temporary_folder_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch_of(tmp_path / "runs/a") as mine:
        prefix = mine.rpartition("-")[0]
    (tmp_path / "kept").mkdir()
    link = tmp_path / f"{prefix.rpartition('/')[2]}-link"
    link.symlink_to(tmp_path / "kept")
    with scratch_of(tmp_path / "runs/a"):
        assert link.is_symlink() and (tmp_path / "kept").is_dir()
