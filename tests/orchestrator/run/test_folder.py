"""What lies where in a run folder: other programs and older runs rely on it."""

import os
import pickle
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.run.folder import SHARED, STORES, RunDir
from sr_models.errors import InputError


def test_what_lies_where(tmp_path):
    run, fingerprint = RunDir(tmp_path / "quick-1a2b3c4d"), "0123456789abcdef" + "f" * 48
    assert run.name == "quick-1a2b3c4d"
    places = {
        name: getattr(run, name).relative_to(run.path).as_posix()
        for name in ("config", "plan", "winners", "roles", "home", "tracking", "evaluation", "pictures")
    }
    assert places == {
        "config": "config.yaml", "plan": "plan.json", "winners": "winners.json", "roles": "roles.jsonl",
        "home": "home.json", "tracking": "tracking.json", "evaluation": "evaluation", "pictures": "pictures",
    }  # fmt: skip
    assert run.output == tmp_path and run.at("a/b") == run.path / "a" / "b" and run.at("") == run.path
    assert run.trial(fingerprint) == tmp_path / "shared" / "trials" / "0123456789abcdef"
    for name in ("shared/trials/0123456789abcdef", "evaluation/a.parquet"):
        assert run.name_of(run.at(name)) == name
    assert run.at(STORES) == tmp_path / "shared" / "store" and run.name_of(run.at(STORES)) == STORES
    assert run.init(fingerprint) == run.path / "init" / "0123456789abcdef.safetensors"
    assert not run.path.exists(), "naming a place makes nothing"


def test_the_studies_url_does_not_depend_on_where_the_process_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = RunDir(type(tmp_path)("runs/x"))
    assert run.studies_url == f"sqlite:///{tmp_path.resolve()}/runs/x/studies.db"


def test_a_folder_keeps_its_random_name_and_another_one_has_its_own(tmp_path):
    run = RunDir(tmp_path / "a")
    found = run.id
    assert len(found) == 16 and int(found, 16) >= 0
    assert run.id == RunDir(tmp_path / "a").id == pickle.loads(pickle.dumps(run)).id == found
    assert RunDir(tmp_path / "b").id != found
    assert (tmp_path / "a" / "run.id").read_text() == found + "\n"
    (tmp_path / "a" / "run.id").write_text("")
    with pytest.raises(InputError, match=r"run\.id is empty; delete it and .*studies\.db, and run the same sweep"):
        _ = run.id


def test_a_run_of_an_earlier_version_has_its_own_trials(tmp_path):
    run, fingerprint = RunDir(tmp_path / "quick-1a2b3c4d"), "0123456789abcdef" + "f" * 48
    own = run.path / "trials" / "0123456789abcdef"
    own.mkdir(parents=True)
    assert run.trial(fingerprint) == own and run.name_of(own) == "trials/0123456789abcdef"


# ---- who may see it


@pytest.fixture(params=[0o022, 0o077], ids=["open umask", "closed umask"])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(run: RunDir) -> list[int]:
    return [folder.stat().st_mode & 0o7777 for folder in (run.output, run.at(SHARED), run.path)]


def test_a_new_output_is_its_users_alone(tmp_path: Path, umask: int) -> None:
    run = RunDir(tmp_path / "deep" / "runs" / "mine-01234567")
    run.make()
    assert modes(run) == [0o700] * 3
    assert (tmp_path / "deep").stat().st_mode & 0o777 == 0o777 & ~umask, "only what is ours"
    run.make(group=True)
    assert modes(run) == [0o700] * 3, "what is there stays as it is"
    (run.path / "file").touch()
    assert (run.path / "file").stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_group_may_read_what_is_new_if_it_is_told_to(tmp_path: Path, umask: int) -> None:
    run = RunDir(tmp_path / "runs" / "mine-01234567")
    run.make(group=True)
    assert modes(run) == [0o2750] * 3
    (run.path / "evaluation").mkdir()
    assert (run.path / "evaluation").stat().st_mode & 0o2000, "the group is handed on"


@pytest.mark.parametrize("mode", [0o755, 0o2770, 0o2775, 0o700])
def test_an_output_that_is_there_keeps_its_mode_and_hands_it_on(tmp_path: Path, umask: int, mode: int) -> None:
    run = RunDir(tmp_path / "runs" / "mine-01234567")
    run.output.mkdir()
    run.output.chmod(mode)
    run.make()
    assert modes(run) == [mode] + [mode & ~umask] * 2
    RunDir(tmp_path / "runs" / "other").make(group=True)
    assert modes(RunDir(tmp_path / "runs" / "other")) == [mode, mode & ~umask, 0o2750]


@pytest.mark.skipif(shutil.which("setfacl") is None, reason="setfacl is not installed")
def test_an_acl_is_handed_on(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "runs" / "mine-01234567")
    run.output.mkdir()
    run.output.chmod(0o770)
    set_acl = subprocess.run(["setfacl", "-d", "-m", "u:nobody:rx", run.output], capture_output=True, check=False)
    if set_acl.returncode:
        pytest.skip("no ACL on this file system")
    run.make()
    told = subprocess.run(["getfacl", "-p", run.path], capture_output=True, text=True, check=True).stdout
    assert "user:nobody:r-x\n" in told


@pytest.mark.parametrize("name", ["config.yaml", "pictures", "evaluation/a.parquet", "shared/trials/0/journal.jsonl"])
def test_a_link_that_leads_out_is_refused_by_name(tmp_path: Path, name: str) -> None:
    run = RunDir(tmp_path / "runs" / "mine-01234567")
    run.make()
    secret = tmp_path / "secret"
    secret.mkdir()
    run.refuse_links()
    link = run.at(name)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(secret)
    with pytest.raises(InputError, match=f"{link} is a link that leads out of .*, to {secret}, where nothing is read"):
        run.refuse_links()
    link.unlink()
    link.symlink_to(os.path.relpath(secret, link.parent))
    with pytest.raises(InputError, match="leads out"):
        run.refuse_links()


def test_links_that_stay_inside_and_a_linked_run_folder_are_none_of_our_business(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "runs" / "mine-01234567")
    run.make()
    (run.path / "a").mkdir()
    (run.path / "b").symlink_to(run.path / "a")
    (run.path / "a" / "loop").symlink_to(run.path / "a")
    run.refuse_links()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine-01234567").symlink_to(run.path)
    linked = RunDir(tmp_path / "elsewhere" / "mine-01234567")
    linked.refuse_links()
    RunDir(tmp_path / "not" / "there").refuse_links()
    (run.path / "a" / "out").symlink_to(tmp_path / "elsewhere")
    for place in (run, linked):
        with pytest.raises(InputError, match=r"a/out is a link that leads out"):
            place.refuse_links()
