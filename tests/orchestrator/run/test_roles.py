"""Roles: each once, in order; a half line is dropped, a damaged one named."""

import json
from pathlib import Path

import pytest

from orchestrator.plan.plan import make_plan
from orchestrator.plan.read import load
from orchestrator.run.folder import RunDir
from orchestrator.run.roles import Roles, read_roles
from sr_models.errors import InputError

EARLIER = {
    "fingerprint": "e" * 64, "combination": None, "role": "teacher", "number": None, "seed": 3,
    "params": {"train.lr": 0.1}, "config": {"model": "edsr"},
}  # fmt: skip


def test_roles_are_kept_once_and_in_order(tmp_path: Path) -> None:
    run, trial = RunDir(tmp_path), make_plan(load("quick")).teacher_trial(2, "d" * 64)
    assert read_roles(run) == []
    for _ in range(2):  # a driver that starts over says it all again
        roles = Roles(run)
        roles.add(trial, combination=None, role="teacher")
        roles.add(trial, combination="x2/edsr/l1", role="search", number=3, params={"a": 1})
    with run.roles.open("a") as file:
        file.write('{"fingerp')  # a kill
    teacher, search = read_roles(run)
    assert (teacher.role, teacher.combination, teacher.fingerprint) == ("teacher", None, trial.fingerprint)
    assert (search.role, search.number, search.params, search.seed) == ("search", 3, {"a": 1}, trial.seed)
    Roles(run).add(trial, combination="x2/edsr/l1", role="final")
    assert [role.role for role in read_roles(run)] == ["teacher", "search", "final"]
    run.roles.write_text(run.roles.read_text().replace("search", "serach"))
    with pytest.raises(InputError, match="line 2, is damaged"):
        Roles(run)
    run.roles.write_bytes(b"\xff\n" + run.roles.read_bytes())
    with pytest.raises(InputError, match=r"roles\.jsonl"):
        Roles(run)
    run.roles.write_bytes(run.roles.read_bytes()[2:])
    with pytest.raises(InputError, match=r"roles\.jsonl, line 2, is damaged; delete it, and run the same sweep"):
        read_roles(run)


def test_trials_of_earlier_versions_say_their_role_themselves(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    (tmp_path / "trials" / ("e" * 16)).mkdir(parents=True)
    (tmp_path / "trials" / ("e" * 16) / "trial.json").write_text(json.dumps(EARLIER))
    [role] = read_roles(run)
    assert (role.fingerprint, role.role, role.seed, role.params) == ("e" * 64, "teacher", 3, {"train.lr": 0.1})
