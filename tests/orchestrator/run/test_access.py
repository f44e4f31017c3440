"""One face for a run in a folder that all see and for one on a storage: what a worker writes, the driver finds."""

import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from orchestrator.data.build import build_store
from orchestrator.data.inputs import Inputs, load_benchmark
from orchestrator.plan.sources import BenchmarkSource, ImageSource
from orchestrator.run import access as access_module
from orchestrator.run import lease, mirrored
from orchestrator.run.access import Access, LocalAccess
from orchestrator.run.checkpoint import CHECKPOINT
from orchestrator.run.folder import STORES
from orchestrator.run.journal import JOURNAL, Journal, steps
from orchestrator.run.mirrored import MirroredAccess
from orchestrator.storage.uri import Storage
from sr_models.errors import InputError
from sr_models.files import write_text

FINGERPRINT = "0123456789abcdef" * 4


class Seen(NamedTuple):
    """A run as its driver, a worker beside it and a worker of another node see it."""

    driver: Access
    worker: Access
    move: Callable[[], None]
    """From here on `worker` is on a node that knows nothing yet."""


@pytest.fixture(params=["local", "mirrored"])
def seen(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Seen:
    monkeypatch.setenv("SR_CACHE", str(tmp_path / "cache"))
    run = tmp_path / "runs" / "mine"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("name: mine\n")
    driver: Access = LocalAccess(run)
    if request.param == "mirrored":
        driver = MirroredAccess(Storage.parse(str(tmp_path / "bucket"), "--storage"), run.name, run)
    worker = pickle.loads(pickle.dumps(driver.for_workers()))
    return Seen(driver, worker, lambda: monkeypatch.setenv("SR_CACHE", str(tmp_path / "another")))


def is_local(seen: Seen) -> bool:
    return seen.worker.run == seen.driver.run


def put(access: Access, name: str, text: str) -> None:
    path = access.run.path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def begin(access: Access, *told: int) -> Journal:
    """A worker that has taken these steps of three."""
    folder = access.trial_folder(FINGERPRINT)
    folder.mkdir(parents=True, exist_ok=True)
    journal = Journal(folder / JOURNAL, lambda: access.push_trial(FINGERPRINT))
    for step in told:
        (folder / CHECKPOINT).write_text(f"step {step}")
        journal.step(step, 3, {"loss": 1 / step})
    return journal


def test_the_driver_hears_of_a_trial_and_how_it_ended(seen):
    assert seen.driver.read_journal(FINGERPRINT) == [] and seen.driver.result(FINGERPRINT) is None
    journal = begin(seen.worker, 1, 2)
    assert [entry["step"] for entry in steps(seen.driver.read_journal(FINGERPRINT))] == [1, 2]
    assert (seen.driver.run.trial(FINGERPRINT) / JOURNAL).exists()
    assert seen.driver.result(FINGERPRINT) is None
    journal.end("complete", 2)
    for access in (seen.driver, seen.worker):
        found = access.result(FINGERPRINT)
        assert found is not None and (found.status, found.step, found.metrics) == ("complete", 2, {"loss": 0.5})


def test_the_driver_hears_of_several_trials_by_one_listing(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(seen.worker, 1, 2)
    listings, names = list[str](), Storage.names
    monkeypatch.setattr(Storage, "names", lambda self, *a, **k: listings.append(self.name) or names(self, *a, **k))
    found = seen.driver.read_journals([FINGERPRINT, "0" * 64, "1" * 64])
    assert [[entry["step"] for entry in steps(entries)] for entries in found] == [[1, 2], [], []]
    assert (seen.driver.run.trial(FINGERPRINT) / JOURNAL).exists()
    assert seen.driver.read_journals([]) == []
    assert listings == ([] if is_local(seen) else ["trials"])


def test_a_trial_goes_on_where_it_stood_whatever_the_node(seen):
    begin(seen.worker, 1, 2)
    seen.move()
    seen.worker.pull_trial(FINGERPRINT)
    folder = seen.worker.trial_folder(FINGERPRINT)
    assert (folder / CHECKPOINT).read_text() == "step 2"
    journal = Journal(folder / JOURNAL)
    assert journal.last_step == 2


def test_weights_along_training_are_there_before_a_checkpoint_that_is_past_them(seen):
    folder = seen.worker.trial_folder(FINGERPRINT)
    (folder / "snapshots/1/model").mkdir(parents=True)
    (folder / "snapshots/1/model/model.safetensors").write_text("weights")
    begin(seen.worker, 1, 2)
    name = seen.driver.run.name_of(seen.driver.run.trial(FINGERPRINT))
    seen.driver.pull(name, ["snapshots/*"])
    assert (seen.driver.run.at(name) / "snapshots/1/model/model.safetensors").read_text() == "weights"
    assert access_module._TRIAL_FILES.index("snapshots/*") < access_module._TRIAL_FILES.index(CHECKPOINT)


def test_what_a_stopped_worker_had_not_carried_away_is_carried_away(seen):
    begin(seen.worker, 1)
    folder = seen.worker.trial_folder(FINGERPRINT)
    Journal(folder / JOURNAL).step(2, 3, {"loss": 0.5})
    seen.worker.pull_trial(FINGERPRINT)
    assert [entry["step"] for entry in steps(seen.driver.read_journal(FINGERPRINT))] == [1, 2]


def test_further_workers_of_a_trial_begin_with_what_the_first_one_left(seen):
    begin(seen.worker, 1)
    first, second = (seen.worker.trial_folder(FINGERPRINT, rank) for rank in (0, 1))
    assert (first == second) == is_local(seen)
    if first != second:
        second.mkdir(parents=True)
        (second / "left behind").touch()
    seen.worker.pull_trial(FINGERPRINT, 1)
    assert sorted(path.name for path in second.glob("[!.]*")) == [CHECKPOINT, JOURNAL]


def test_the_first_end_of_a_trial_stands_whoever_writes_it(seen):
    begin(seen.worker, 1, 2)
    ended = seen.driver.end(FINGERPRINT, "failed", None, "its worker was lost")
    assert (ended.status, ended.step, ended.cause) == ("failed", 2, "its worker was lost")
    assert seen.worker.end(FINGERPRINT, "stopped", 1) == ended == seen.driver.result(FINGERPRINT)
    seen.move()
    assert seen.worker.result(FINGERPRINT) == ended


def test_a_trial_that_its_environment_ended_is_reopened_and_no_other(seen, capsys):
    begin(seen.worker, 1, 2)
    seen.worker.end(FINGERPRINT, "failed", None, "out of memory", "environment")
    seen.move()
    seen.driver.reopen(FINGERPRINT)
    assert seen.driver.result(FINGERPRINT) is None is seen.worker.result(FINGERPRINT)
    said = f"trial {FINGERPRINT[:16]} is tried again, after it ended at step 2: out of memory\n"
    assert capsys.readouterr().err == said
    seen.driver.reopen(FINGERPRINT)  # another run of the output did
    assert seen.worker.end(FINGERPRINT, "failed", None, "the loss is not finite", "numbers").is_final
    seen.driver.reopen(FINGERPRINT)
    assert seen.driver.result(FINGERPRINT).why == "numbers" and capsys.readouterr().err == ""


def test_a_trial_that_a_budget_stopped_is_under_way_and_a_complete_one_is_not(seen):
    begin(seen.worker, 1, 2)
    seen.driver.leave(FINGERPRINT)
    assert seen.driver.result(FINGERPRINT) is None, "its worker wrote no end, and none is needed"
    seen.worker.end(FINGERPRINT, "stopped", 2)
    seen.move()
    seen.driver.leave(FINGERPRINT)
    assert seen.driver.result(FINGERPRINT) is None is seen.worker.result(FINGERPRINT)
    seen.worker.end(FINGERPRINT, "complete", 2)
    seen.driver.leave(FINGERPRINT)
    assert seen.driver.result(FINGERPRINT).status == "complete"


def test_a_trial_is_held_against_another_run(seen, monkeypatch):
    """The second of two runs of an output waits, and goes on when the first one lets go."""
    monkeypatch.setattr(lease, "TIE_SECONDS", 0.05)
    monkeypatch.setattr(mirrored, "CLAIM_POLL_SECONDS", 0.05)
    other = another_run(seen.driver)
    if isinstance(seen.driver, MirroredAccess):
        lease.sign(seen.driver.storage, "host:/runs", "id")
    order: list[str] = []

    def second() -> None:
        with other.claimed(FINGERPRINT):
            order.append("second")

    waiting = threading.Thread(target=second)
    with seen.driver.claimed(FINGERPRINT):
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive()
        if isinstance(other, MirroredAccess):
            assert other.is_busy(FINGERPRINT) and not seen.driver.is_busy(FINGERPRINT)
        order.append("first")
    waiting.join(20)
    assert order == ["first", "second"] and not seen.driver.is_busy(FINGERPRINT)


def test_the_claim_of_a_run_that_nobody_drives_stands_no_longer(tmp_path, monkeypatch):
    monkeypatch.setenv("SR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(lease, "TIE_SECONDS", 0.05)
    root = Storage.parse(str(tmp_path / "bucket"), "--storage")
    first, second = (MirroredAccess(root, name, tmp_path / name) for name in ("first", "second"))
    with first.claimed(FINGERPRINT):  # and no sign of life: its driver is gone
        with second.claimed(FINGERPRINT):
            assert first.is_busy(FINGERPRINT)
        assert not first.is_busy(FINGERPRINT)


def another_run(access: Access) -> Access:
    """Of the same output."""
    if isinstance(access, MirroredAccess):
        return MirroredAccess(access.root, "another", access.run.output / "another")
    folder = access.run.output / "another"
    folder.mkdir()
    (folder / "config.yaml").write_text("name: another\n")
    return LocalAccess(folder)


def test_files_go_both_ways(seen):
    put(seen.worker, "evaluation/a.parquet", "rows")
    seen.worker.send("evaluation/a.parquet")
    assert seen.driver.fetch("evaluation/a.parquet").read_text() == "rows"
    put(seen.driver, "snapshots/it@3/model/weights", "w")
    seen.driver.push("snapshots/it@3", ["*"])
    assert (seen.worker.fetch_folder("snapshots/it@3") / "model/weights").read_text() == "w"
    put(seen.driver, f"init/{FINGERPRINT[:16]}.safetensors", "start")
    seen.driver.push("", ["init/*"])
    init = seen.worker.init(FINGERPRINT)
    assert init is not None and init.read_text() == "start" and seen.worker.init(None) is None
    stands_on = {"autoencoder": None, "autoencoder_sha256": FINGERPRINT}
    assert seen.worker.parts("resshift", stands_on) == {"autoencoder": init} and seen.worker.parts("imdn", {}) == {}
    seen.driver.remove("snapshots")
    seen.move()
    assert not list(seen.worker.fetch_folder("snapshots").rglob("weights"))


def test_what_lies_in_a_folder_is_found_wherever_it_was_written(seen):
    assert seen.driver.entries("centroids") == set()
    for name in ("centroids/a.json", "centroids/deeper/b.arrow", "shared/trials/0123/journal.jsonl"):
        write_text(seen.worker.run.at(name), name)
        seen.worker.hand_over(name)
        assert is_local(seen) or not seen.worker.run.at(name).exists()
    assert seen.driver.entries("centroids") == {"a.json", "deeper"}
    assert seen.driver.entries("shared/trials") >= {"0123"}
    assert seen.driver.fetch("centroids/a.json").read_text() == "centroids/a.json"
    seen.driver.remove("centroids")
    assert seen.driver.entries("centroids") == set() and not seen.driver.run.at("centroids").exists()


def test_files_of_the_drivers_machine_reach_workers(seen, tmp_path):
    asked: list[str] = []

    def find(name: str) -> Path:
        asked.append(name)
        return tmp_path / name

    (tmp_path / "vgg").write_text("features")
    for _ in range(2):
        name = seen.driver.share("backbones", ["vgg"], find)
    if is_local(seen):
        assert name is None and asked == []
        return
    (tmp_path / "vgg").unlink()
    assert name == "backbones" and asked == ["vgg"]
    assert not (seen.driver.run.path / name).exists()
    seen.move()
    assert (seen.worker.fetch_folder(name) / "vgg").read_text() == "features"


def test_a_store_and_what_is_added_to_it_reach_every_node(seen):
    images = [ImageSource(hr="skimage:", include=(name,)) for name in ("coffee.png", "chelsea.png")]
    store = build_store(seen.driver.run.at(STORES), train=images[:1], validation=images[1:], scale=2)
    seen.driver.publish(store)
    own = seen.worker.open_store(store.data_hash)
    assert own.data_hash == store.data_hash
    own.add_centroids("f" * 64, own.centroids_by(lambda lr: lr.repeat_interleave(2, 2).repeat_interleave(2, 3)))
    seen.worker.publish(own)
    seen.move()
    for access in (seen.driver, seen.worker):
        assert access.open_store(store.data_hash).has_centroids("f" * 64)


def test_a_test_set_is_found_by_workers(seen, tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "images" / "a.png")
    monkeypatch.chdir(tmp_path)
    tests = {"toy": BenchmarkSource(hr="images", lr=None), "other": BenchmarkSource(hr="skimage:", lr=None)}
    inputs = Inputs(SimpleNamespace(data=SimpleNamespace(test=tests), scales=(2,)))
    found = seen.driver.test_set(inputs, "toy", 2)
    assert seen.driver.test_set(inputs, "other", 2) == tests["other"]
    if is_local(seen):
        assert found == tests["toy"].model_copy(update={"hr": str(tmp_path / "images")})
        return
    assert found.hr == (tmp_path / "bucket/mine/tests/toy/x2/HR").as_uri()
    (tmp_path / "images" / "a.png").unlink()
    monkeypatch.chdir("/")
    assert [pair.name for pair in load_benchmark("toy", found, 2).pairs] == ["a"]


def test_a_node_that_does_not_see_the_run_says_what_to_give(tmp_path):
    access = LocalAccess(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"does not see \S+/elsewhere; give --storage a URI that all nodes reach"):
        access.trial_folder(FINGERPRINT)
    with pytest.raises(InputError, match="does not see"):
        access.open_store("d" * 64)


def test_a_store_that_is_not_there_is_named(seen):
    with pytest.raises(InputError, match=r"dddddddddddddddd is not a patch store|holds no patch store of data d{16}$"):
        seen.worker.open_store("d" * 64)


def test_a_file_that_the_storage_lacks_is_named(tmp_path):
    access = MirroredAccess(Storage.parse(str(tmp_path / "bucket"), "--storage"), "mine", tmp_path / "run")
    with pytest.raises(InputError, match=r"bucket/mine holds no init/0123456789abcdef\.safetensors"):
        access.init(FINGERPRINT)


def test_a_secret_travels_and_is_not_shown():
    access = MirroredAccess(Storage.parse("s3://KEY:SECRET@bucket/runs", "--storage"), "mine", Path("/runs/mine"))
    assert pickle.loads(pickle.dumps(access)) == access and hash(access) == hash(pickle.loads(pickle.dumps(access)))
    assert access.for_workers() == MirroredAccess(access.root, "mine")
    assert "SECRET" not in repr(access) and "SECRET" not in str(access)
