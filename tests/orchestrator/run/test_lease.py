"""Signs of life on a storage: a run is driven while they change, and no more once they stay or a farewell came."""

import json
import time
from pathlib import Path

import pytest

from orchestrator.run import lease
from orchestrator.storage.uri import Storage

pytestmark = pytest.mark.usefixtures("quick_lease")


def test_a_run_may_be_driven_until_one_sign_has_stayed_for_the_leases_length(tmp_path: Path) -> None:
    storage = Storage.parse(str(tmp_path / "bucket"), "--storage").child("mine")
    assert lease.read(storage) == lease.NOBODY and not lease.may_be_driven(storage)
    lease.sign(storage, "host:/runs/mine", "a" * 16)
    assert lease.may_be_driven(storage)
    time.sleep(0.4)
    lease.sign(storage, "host:/runs/mine", "a" * 16)
    time.sleep(0.4)
    assert lease.may_be_driven(storage), "another sign was seen meanwhile"
    time.sleep(0.7)
    assert not lease.may_be_driven(storage)
    lease.sign(storage, "host:/runs/mine", "a" * 16)
    assert lease.may_be_driven(storage)
    lease.sign(storage, "host:/runs/mine", "a" * 16, ended=True)
    assert not lease.may_be_driven(storage)
    assert lease.read(storage)[:2] == ("host:/runs/mine", "a" * 16)


def test_who_is_at_work_among_several_is_found_and_the_dead_are_waited_for_together(tmp_path: Path) -> None:
    root = Storage.parse(str(tmp_path / "bucket"), "--storage")
    dead = [root.child(f"run{i}") for i in range(4)]
    for storage in dead:
        lease.sign(storage, "host:/runs", storage.name)
    began = time.monotonic()
    assert lease.first_at_work(dead) is None and 0.6 <= time.monotonic() - began < 1.6
    with lease.kept(dead[2], "other:/runs", "b" * 16):
        found = lease.first_at_work(dead)
        assert found is not None and (found.storage, found.last.owner) == (dead[2], "other:/runs")


def test_a_sign_of_an_earlier_version_is_its_owners(tmp_path: Path) -> None:
    storage = Storage.parse(str(tmp_path / "bucket"), "--storage").child("mine")
    storage.write(lease.DRIVER, json.dumps({"owner": "host:/runs/mine", "time": 5.0}).encode())
    assert lease.read(storage) == ("host:/runs/mine", "host:/runs/mine", 5.0)


def test_a_storage_that_is_away_and_back_is_said_once_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    share = tmp_path / "share"
    share.mkdir()
    storage = Storage.parse(str(share / "bucket"), "--storage").child("mine")
    with lease.kept(storage, "host:/runs/mine", "a" * 16):
        share.rename(tmp_path / "gone")
        share.write_text("what a mount point without its share may be")
        time.sleep(20 * lease.BEAT_SECONDS)
        share.unlink()
        (tmp_path / "gone").rename(share)
        time.sleep(20 * lease.BEAT_SECONDS)
    away, back = capsys.readouterr().err.splitlines()
    assert away.endswith("; trials wait for it") and back == f"storage {storage.shown} answers again"
