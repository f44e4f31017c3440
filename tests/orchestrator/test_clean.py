"""What no run of an output needs is listed, goes only when told to, and never from under someone who works there."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eval.rows import Identity, Subject, write_rows
from orchestrator import clean, session
from orchestrator.data.build import build_store
from orchestrator.data.shared import fetch_store, publish_store
from orchestrator.data.store import PatchStore
from orchestrator.evaluate.on_cluster import one_at_a_time
from orchestrator.needed import DAY
from orchestrator.plan.plan import make_plan
from orchestrator.plan.read import load
from orchestrator.plan.services import Services
from orchestrator.plan.sources import ImageSource
from orchestrator.plan.trial import TrialConfig
from orchestrator.run import lease
from orchestrator.run.checkpoint import CHECKPOINT
from orchestrator.run.driver import home_of
from orchestrator.run.folder import STORES, RunDir
from orchestrator.run.journal import JOURNAL, Journal
from orchestrator.run.lock import CLEAN_LOCK, DRIVER_LOCK, EVALUATE_LOCK, held
from orchestrator.run.records import TRIAL, begin_trial
from orchestrator.run.roles import Roles
from orchestrator.search.record import Proposal, SearchRecord, record_name
from orchestrator.storage.mirror import push_tree
from orchestrator.storage.uri import Storage
from sr_models.command import EXIT_DONE, EXIT_FAILED, EXIT_INPUT
from sr_models.errors import InputError
from sr_models.files import write_json, write_text
from sr_models.hashing import digest
from sr_models.inference.super_resolve import Options

pytestmark = pytest.mark.usefixtures("quick_lease")

PLAN = make_plan(load("quick"))
KEPT, LEFT = "1" * 64, "2" * 64
"""Hashes of stores, keys of searches, hashes of weights: of what a run needs, and of what none does."""


def trial(seed: int) -> TrialConfig:
    return PLAN.trial(PLAN.combinations[0], {}, seed, KEPT, None)


def begin_run(output: Path, name: str, *seeds: int, data_hash: Any = KEPT) -> RunDir:
    """A run folder with the roles of these trials; a plan is read whatever else a version writes there."""
    run = RunDir(output / name)
    write_text(run.config, "name: mine\n")
    write_json(run.plan, {"data_hash": data_hash, "name": "mine"})
    roles = Roles(run)
    for seed in seeds:
        roles.add(trial(seed), combination="x2/edsr/l1", role="final")
    return run


def train(run: RunDir, seed: int, status: str | None) -> str:
    """The folder of a trial, as a worker leaves it; its name. `status` None: it was cut."""
    config = trial(seed)
    folder = run.trial(config.fingerprint)
    folder.mkdir(parents=True, exist_ok=True)
    begin_trial(folder, config, run=run.name, steered=False)
    journal = Journal(folder / JOURNAL)
    journal.step(1, 2, {"loss": 0.5})
    if status:
        journal.end(status, 2)
    weights = ("model/model.safetensors", "snapshots/1/model/model.safetensors")
    for name in (CHECKPOINT, "checkpoint.before.pt", f"{CHECKPOINT}.sha256", *weights):
        write_text(folder / name, "0123456789")
    for name in ("model", "snapshots/1/model"):
        write_json(folder / name / "model.json", {"weights_sha256": weights_of(seed, name), "model": "edsr"})
    return run.name_of(folder)


def weights_of(seed: int, name: str) -> str:
    """The hash of what `train` leaves in this folder of a trial."""
    return digest([seed, name])


def search(run: RunDir, key: str, *seeds: int) -> str:
    told = tuple(
        Proposal(fingerprint=trial(seed).fingerprint, params={}, values={2: 0.5}, status="complete") for seed in seeds
    )
    SearchRecord(metric="psnr_y", combination="x2/edsr/l1", proposals=told).write(run.at(record_name(key)))
    return record_name(key)


def store(run: RunDir, data_hash: str) -> str:
    folder = f"shared/store/{data_hash[:16]}"
    for name in ("manifest.json", "hr.arrow"):
        write_text(run.at(f"{folder}/{name}"), "{}")
    return folder


def rows(run: RunDir, name: str, weights_sha256: str | None, details: dict[str, str] | None = None) -> None:
    who = Identity("x2/edsr/l1", "edsr", "l1", "hr", "l1", 2, "", 0, "raw", "edsr")
    subject = Subject(
        identity=who, weights_sha256=weights_sha256, hyper="{}", benchmark="Set5", kernel="files", protocol="p", seed=0,
        options=Options(),
    )  # fmt: skip
    write_rows(
        run.at(name), subject, [{"key": "a-b", "image": "baby", "psnr_y": 30.0, "details": details}], versions="{}"
    )


def write(path: Path, text: str = "mine") -> Path:
    write_text(path, text)
    return path


def old(path: Path, days: float = 2) -> Path:
    when = time.time() - days * DAY
    os.utime(path, (when, when))
    return path


def names(output: Path) -> set[str]:
    """All there is, but for locks, whoever made them."""
    return {
        path.relative_to(output).as_posix()
        for path in output.rglob("*")
        if not path.is_dir() and path.name not in (".clean.lock", ".driver.lock", ".evaluate.lock")
    }


def below(names: set[str], *folders: str) -> set[str]:
    return {name for name in names for folder in folders if name == folder or name.startswith(f"{folder}/")}


@pytest.fixture(autouse=True)
def nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SR_STORAGE", raising=False)


@pytest.fixture
def run_clean(capsys: pytest.CaptureFixture[str]) -> Callable[..., SimpleNamespace]:
    def run(*argv: object) -> SimpleNamespace:
        code = clean.main([str(word) for word in argv])
        said = capsys.readouterr()
        listed = {word for word in said.out.split() if word.startswith("shared/")}
        return SimpleNamespace(code=code, out=said.out, err=said.err, listed=listed)

    return run


@pytest.fixture
def after_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clean comes later: nobody can make a file on a bucket older."""
    monkeypatch.setattr(clean, "time", SimpleNamespace(time=lambda: time.time() + 2 * DAY))


@pytest.fixture
def made(tmp_path: Path) -> SimpleNamespace:
    """An output of two runs: `kept` is what they need, `left` is not, `states` are checkpoints of a finished trial."""
    output = tmp_path / "runs"
    first, second = begin_run(output, "first-01234567", 1, 2), begin_run(output, "second-01234567", 2, 3)
    kept = {train(first, 1, "complete"), train(first, 2, "stopped"), train(first, 3, None)}
    left = {train(first, 4, "complete"), train(first, 5, None)}
    kept |= {search(first, KEPT, 4, 3), store(first, KEPT)}
    left |= {search(first, LEFT, 4, 5), store(first, LEFT)}
    rows(first, "evaluation/a.parquet", KEPT)
    rows(first, "evaluation/b.parquet", None)
    for name, sha256 in (("11", KEPT), ("22", LEFT), ("33", None)):
        rows(first, f"shared/rows/{name}/a.parquet", sha256)
        write_text(first.at(f"shared/rows/{name}/a.npz"), "features")
        for path in first.at(f"shared/rows/{name}").iterdir():
            old(path)
    kept |= {"shared/rows/11", "shared/rows/33"}
    left |= {"shared/rows/22"}
    ended = first.name_of(first.trial(trial(1).fingerprint))
    states = {f"{ended}/{name}" for name in (CHECKPOINT, "checkpoint.before.pt", f"{CHECKPOINT}.sha256")}
    return SimpleNamespace(output=output, run=first, second=second, kept=kept, left=left, states=states)


def test_a_trial_whose_weights_a_run_is_computed_from_is_needed(
    made: SimpleNamespace, run_clean: Callable[..., SimpleNamespace]
) -> None:
    """`teacher: {trial: ...}` of another run's trial: that run may be gone."""
    output = made.output
    lone = train(made.run, 4, "complete")
    assert lone in run_clean(output).listed
    plan = {"data_hash": KEPT, "weights_from": {"teacher x2": trial(4).fingerprint}}
    write_json(made.run.plan, plan)
    assert lone not in run_clean(output).listed


def test_what_no_run_needs_is_listed_and_goes_only_when_told_to(made, run_clean):
    before = names(made.output)
    listed = run_clean(made.output)
    assert (listed.code, listed.listed, names(made.output)) == (EXIT_DONE, made.left | made.states, before)
    assert f"{made.output}: 2 run folders need 3 trials\n" in listed.out and "nothing was removed" in listed.out

    removed = run_clean(made.output, "--remove")
    assert removed.code == EXIT_DONE and removed.out.splitlines()[-1].startswith("removed 5, ")
    assert names(made.output) == before - below(before, *made.left)
    assert not any((made.output / name).exists() for name in made.left)
    assert run_clean(made.output).listed == made.states


def test_checkpoints_of_finished_trials_go_when_asked_for(made, run_clean):
    before = names(made.output)
    refused = run_clean(made.output, "--checkpoints")
    assert (refused.code, refused.err.count("\n")) == (
        EXIT_INPUT,
        1,
    ) and "--checkpoints goes with --remove" in refused.err
    assert "(an audit, snapshots or a longer search may want them)" in run_clean(made.output).out
    assert run_clean(made.output, "--remove", "--checkpoints").code == EXIT_DONE
    assert names(made.output) == before - below(before, *made.left) - made.states
    assert "needed by none of them: nothing" in run_clean(made.output).out


def test_a_run_less_makes_its_own_trials_and_searches_unneeded(made, run_clean):
    for path in made.second.path.iterdir():
        path.unlink()
    made.second.path.rmdir()
    only = {f"shared/trials/{trial(3).fingerprint[:16]}", record_name(KEPT)}
    assert run_clean(made.output).listed == made.left | made.states | only


@pytest.mark.parametrize("left", [None, "", '{"finger'])
def test_a_run_whose_roles_are_lost_needs_no_one_knows_what(made, run_clean, left):
    """Its trials would all be taken, its winners' weights too."""
    made.run.roles.unlink()
    if left is not None:
        made.run.roles.write_text(left)
    refused = run_clean(made.output, "--remove")
    assert (refused.code, refused.err.count("\n"), refused.listed) == (EXIT_INPUT, 1, set())
    assert "roles.jsonl names no trial, so what first-01234567 needs is not known; run the same sweep" in refused.err


@pytest.mark.parametrize("data_hash", [KEPT, {"x2": KEPT}, {"x2": LEFT, "x3": KEPT}])
def test_a_store_is_needed_by_the_hash_of_its_scale(tmp_path, run_clean, data_hash):
    run = begin_run(tmp_path, "a", data_hash=data_hash)
    both = {store(run, sha256) for sha256 in (KEPT, LEFT)}
    named = {data_hash} if isinstance(data_hash, str) else set(data_hash.values())
    assert run_clean(tmp_path).listed == both - {f"shared/store/{sha256[:16]}" for sha256 in named}


def test_what_a_kill_left_goes_after_a_day(made, run_clean):
    shared, own = made.output / "shared", made.run.trial(trial(1).fingerprint)
    removed = shared / "store" / f".{LEFT[:16]}.0a1b.part" / "manifest.json"  # by a clean that was killed
    leftovers = [own / f".{CHECKPOINT}.7-a.part", shared / "searches/.a.json.7-b.part", removed]
    leftovers += [shared / "store" / KEPT[:16] / "mu_x2_0.arrow.part"]
    halves = [shared / "store/.building/ab/store/hr.arrow.part", shared / "store/.building/ab/.lock"]
    halves += [shared / "rows/44/a.npz"]
    for path in leftovers + halves:
        write_text(path, "half")
    assert run_clean(made.output).listed == made.left | made.states
    for path in [*leftovers, *halves]:
        old(path)
    listed = run_clean(made.output)
    names_of = {path.relative_to(made.output).as_posix() for path in leftovers[:2] + leftovers[3:]}
    names_of |= {removed.parent.relative_to(made.output).as_posix(), "shared/store/.building/ab", "shared/rows/44"}
    assert listed.listed == made.left | made.states | names_of and "2 days" in listed.out
    halves[1].touch()  # somebody builds there again
    assert listed.listed - run_clean(made.output).listed == {"shared/store/.building/ab"}
    old(halves[1])
    assert run_clean(made.output, "--remove").code == EXIT_DONE
    assert not any(path.exists() for path in [*leftovers, *halves])
    assert (own / TRIAL).exists() and (shared / "store" / KEPT[:16] / "hr.arrow").exists()


def test_measurements_whose_rows_are_still_to_be_written_stay(made, run_clean):
    """An evaluation that was interrupted goes on with them; of weights that no trial has left, for a day."""
    whose = {"44": weights_of(1, "model"), "55": weights_of(3, "snapshots/1/model"), "66": weights_of(4, "model"),
             "77": "7" * 64}  # fmt: skip
    for name, sha256 in whose.items():
        rows(made.run, f"shared/rows/{name}/a.parquet", sha256)
    assert run_clean(made.output).listed == made.left | made.states
    for name in whose:
        old(made.output / f"shared/rows/{name}/a.parquet")
    assert run_clean(made.output).listed == made.left | made.states | {"shared/rows/66", "shared/rows/77"}


def test_features_that_no_row_names_are_listed_after_a_day(made, run_clean):
    """Their worker was killed between them and its rows; those of rows stay, in whatever file these now are."""
    folder, whose = made.output / "shared/rows/44", weights_of(1, "model")
    rows(made.run, "shared/rows/44/c.parquet", whose, details={"features": "a"})
    lost, named = (folder / f"{name}.features.safetensors" for name in "ba")
    for path in (lost, named):
        write_text(path, "features")
    assert run_clean(made.output).listed == made.left | made.states
    for path in folder.iterdir():
        old(path)
    assert run_clean(made.output).listed == made.left | made.states | {lost.relative_to(made.output).as_posix()}
    run_clean(made.output, "--remove")
    assert not lost.exists() and named.exists()


def test_links_are_not_followed_out_of_the_output(made, run_clean, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    for name in ("whole/hr.arrow", "inside/photo.png"):
        write_text(elsewhere / name, "mine")
    shared = made.output / "shared"
    (shared / "store" / ("3" * 16)).symlink_to(elsewhere / "whole")
    gone = made.output / next(name for name in made.left if name.startswith("shared/trials"))
    (gone / "inside").symlink_to(elsewhere / "inside")
    (gone / "file").symlink_to(elsewhere / "inside/photo.png")
    assert run_clean(made.output, "--remove", "--checkpoints").code == EXIT_DONE
    assert not gone.exists() and (shared / "store" / ("3" * 16) / "hr.arrow").exists()
    assert names(elsewhere) == {"whole/hr.arrow", "inside/photo.png"}

    other = tmp_path / "other"
    begin_run(other, "third-01234567")
    (other / "shared").symlink_to(shared)
    before, refused = names(made.output), run_clean(other, "--remove")
    assert (refused.code, refused.err.count("\n")) == (EXIT_INPUT, 1) and "shared is a link" in refused.err
    assert names(made.output) == before


def test_what_is_not_ours_stays(made, run_clean):
    for name in (
        "notes.txt",
        "mine/data.bin",
        "trials/README",
        "trials/not-hex/a",
        "store/manifest.json",
        "rows/x.parquet",
    ):
        old(write(made.output / "shared" / name))
    assert run_clean(made.output).listed == made.left | made.states


@pytest.mark.parametrize(
    ("lock", "busy"), [(DRIVER_LOCK, "a sweep is running in"), (EVALUATE_LOCK, "an evaluation is writing to")]
)
def test_nothing_is_done_while_someone_works_in_a_run(made, run_clean, lock, busy):
    before = names(made.output)
    with held(made.second.path, lock, "--output", "busy"):
        refused = run_clean(made.output, "--remove")
    assert (refused.code, names(made.output)) == (EXIT_INPUT, before)
    assert refused.err == f"python -m orchestrator.clean: OUTPUT: {busy} {made.second.path}\n"
    assert run_clean(made.output, "--remove").code == EXIT_DONE


def test_who_comes_while_an_output_is_cleaned_is_told_so(made, run_clean):
    shared = made.output / "shared"
    with held(shared, CLEAN_LOCK, "OUTPUT", "busy"):
        with pytest.raises(InputError) as refused, one_at_a_time(made.run, "--run"):
            pass
        assert str(refused.value) == f"--run: orchestrator.clean is at work in {shared}"
        new = session.opened(PLAN, made.output / "new-01234567", Services(tracking_uri="sqlite://"))
        with pytest.raises(InputError, match=r"--output: orchestrator\.clean is at work in"), new:
            pass
        assert not (made.output / "new-01234567").exists()
        assert "another clean is at work in" in run_clean(made.output).err
    with one_at_a_time(made.run, "--run"):
        pass


def test_two_that_start_at_once_are_not_in_each_others_way(made):
    """Each looks at the lock of a clean by taking it for a moment."""
    write(made.output / "shared" / CLEAN_LOCK, "")
    code = (
        "import sys; from pathlib import Path; from orchestrator.run.lock import refuse_while_cleaned as look\n"
        "for _ in range(300): look(Path(sys.argv[1]), '--output')"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, str(made.output)]) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plan.json", "{"),
        ("plan.json", "{}"),
        ("plan.json", '{"data_hash": 3}'),
        ("plan.json", None),
        ("roles.jsonl", '{"fingerprint": "a"}\n'),
        ("roles.jsonl", "\udcff\n"),
        ("roles.jsonl", None),
        ("evaluation/a.parquet", "PAR1"),
    ],
)
def test_a_run_that_cannot_be_read_stops_everything(made, run_clean, name, text):
    path = made.run.path / name
    path.unlink()
    if text is None:  # a folder in its place
        path.mkdir()
    else:
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
    before = names(made.output)
    refused = run_clean(made.output, "--remove")
    assert (refused.code, refused.err.count("\n"), names(made.output)) == (EXIT_INPUT, 1, before)
    assert str(path) in refused.err


@pytest.mark.parametrize(
    "name",
    [
        record_name(LEFT),
        "shared/rows/22/a.parquet",
        f"{STORES}/{LEFT[:16]}.json",
        f"shared/trials/{trial(1).fingerprint[:16]}/model/model.json",
    ],
)
def test_what_cannot_be_judged_stops_everything(made, run_clean, name):
    write(made.output / name, "{")
    before, refused = names(made.output), run_clean(made.output, "--remove")
    assert (refused.code, refused.err.count("\n"), names(made.output)) == (EXIT_INPUT, 1, before)
    assert name in refused.err


def test_run_folders_of_earlier_versions_are_left_alone(made, run_clean):
    old_run = made.output / "old-01234567"
    write(old_run / "config.yaml")
    write(old_run / "plan.json", '{"of": "long ago"}')
    write(old_run / "store/manifest.json")
    write(old_run / f"trials/{trial(4).fingerprint[:16]}/{TRIAL}", "{}")
    before, done = names(old_run), run_clean(made.output, "--remove")
    assert (done.code, names(old_run)) == (EXIT_DONE, before)
    assert "3 run folders need 3 trials; 1 of an earlier version" in done.out
    assert not any((made.output / name).exists() for name in made.left)


def test_a_folder_that_is_no_output(made, run_clean, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    said = {
        tmp_path / "nothing": "is not a folder",
        made.run.config: "is not a folder",
        made.run.path: f"is a run folder; give the folder that it lies in, {made.output}",
        empty: "is no output",
        tmp_path: "is no output",
    }
    before = names(tmp_path)
    for folder, line in said.items():
        refused = run_clean(folder, "--remove")
        assert (refused.code, refused.err.count("\n")) == (EXIT_INPUT, 1) and f"{folder} {line}" in refused.err
    assert names(tmp_path) == before and not (empty / "shared").exists()


def test_nothing_that_a_terminal_would_obey_is_printed(made, run_clean):
    write_text(path := made.output / "shared/searches/.\x1b]0;a.json.7-b.part", "half")
    old(path)
    said = run_clean(made.output)
    assert "\x1b" not in said.out and r"shared/searches/.\x1b]0;a.json.7-b.part" in said.listed


def test_what_cannot_be_removed_is_named(made, run_clean, monkeypatch):
    def fail(_self: Path, _target: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", fail)
    done = run_clean(made.output, "--remove")
    assert (done.code, done.err.count("\n")) == (EXIT_FAILED, 1) and "cannot be removed" in done.err


# ---- on a storage ----------------------------------------------------------------------------------------------------


def stored(place: Storage) -> set[str]:
    return set(place.names()) - {f"shared/{lease.DRIVER}"}


def test_a_storage_is_cleaned_and_the_copies_here_stay(made, place, run_clean, after_a_day):
    push_tree(made.output, place, ["*"])
    extra = begin_run(made.output.parent / "elsewhere", "third-01234567", 5)  # a run that another machine drove
    push_tree(extra.output, place, ["*"])
    left = made.left - {f"shared/trials/{trial(5).fingerprint[:16]}"} - {record_name(LEFT)}
    here, before = names(made.output), stored(place)
    listed = run_clean(made.output, "--storage", place.uri)
    assert (listed.code, listed.listed, stored(place)) == (EXIT_DONE, left | made.states, before)
    assert f"{place.shown}: 3 run folders need 4 trials\n" in listed.out

    assert run_clean(made.output, "--storage", place.uri, "--remove", "--checkpoints").code == EXIT_DONE
    assert stored(place) == before - below(before, *left) - made.states
    assert names(made.output) == here
    assert not lease.read(place.child("shared")).counts


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> dict[int, PatchStore]:
    """Scale -> a store of the same images, with the centroids of one teacher."""
    folder = tmp_path_factory.mktemp("published")
    for seed, split in enumerate(("train", "val")):
        (folder / split).mkdir()
        pixels = np.random.default_rng(seed).integers(256, size=(36, 42, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / split / "0.png")
    train, validation = ([ImageSource(hr=str(folder / split))] for split in ("train", "val"))
    made = {}
    for scale in (2, 3):
        made[scale] = build_store(folder / "stores", train=train, validation=validation, scale=scale)
        by = made[scale].centroids_by(
            lambda lr, scale=scale: lr.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
        )
        made[scale].add_centroids("a" * 16, by)
    return made


def tables(names: set[str]) -> set[str]:
    """What stores on a storage consist of: the names of tables without their hashes, listings as they are."""
    files = {name.rpartition("/")[2] for name in names}
    return {name.rpartition("-")[0] if name.endswith(".arrow") else name for name in files}


def test_of_a_store_on_a_storage_what_no_other_one_lists_goes(published, place, run_clean, tmp_path):
    """In the shape in which it is published there: flat, HR once for all scales."""
    run, shelf = begin_run(tmp_path / "runs", "mine-01234567", data_hash={"x2": published[2].data_hash}), STORES
    for store in published.values():
        publish_store(store, place.child(shelf))
    push_tree(run.output, place, ["*"])
    before, key = stored(place), published[3].data_hash[:16]
    listed = run_clean(run.output, "--storage", place.uri)
    own = {"lr_x3", "val_lr_x3", f"mu_x3_{'a' * 16}", f"mu_lr_x3_{'a' * 16}"}
    assert tables(listed.listed) == own | {f"{key}.json", f"{key}-{'a' * 16}.json"}
    assert tables(before - listed.listed) >= {"hr", "val_hr", "lr_x2", "val_lr_x2"}

    removed = run_clean(run.output, "--storage", place.uri, "--remove")
    assert removed.code == EXIT_DONE and stored(place) == before - listed.listed
    assert "needed by none of them: nothing" in run_clean(run.output, "--storage", place.uri).out
    there = fetch_store(place.child(shelf), published[2].data_hash, tmp_path / "cache")
    assert there.has_centroids("a" * 16)
    with pytest.raises(InputError, match="holds no patch store"):
        fetch_store(place.child(shelf), published[3].data_hash, tmp_path / "cache")
    publish_store(published[3], place.child(shelf))
    assert stored(place) == before


def test_tables_that_nothing_lists_go_after_a_day(published, run_clean, tmp_path):
    """They are of a publication, or a clean, that was killed: the first goes on with them."""
    root = Storage.parse(str(tmp_path / "bucket"), "x")
    output = begin_run(tmp_path / "runs", "mine-01234567").output
    publish_store(published[2], root.child(STORES))
    for listing in (root.folder / STORES).glob("*.json"):
        listing.unlink()
    arrows = list((root.folder / STORES).glob("*.arrow"))
    assert len(arrows) == 6 and not run_clean(output, "--storage", root.uri).listed
    for path in arrows[:4]:
        old(path)
    assert len(run_clean(output, "--storage", root.uri).listed) == 4
    assert run_clean(output, "--storage", root.uri, "--remove").code == EXIT_DONE
    assert {*(root.folder / STORES).glob("*.arrow")} == {*arrows[4:]}


def test_what_only_a_run_here_knows_to_need_stays_on_the_storage(made, place, run_clean, after_a_day):
    """A driver that was killed had not brought its last roles there."""
    rows(made.run, "shared/rows/44/a.parquet", weights_of(3, "model"))
    push_tree(made.output, place, ["*"])
    place.delete(f"{made.second.name}/roles.jsonl")
    assert run_clean(made.output, "--storage", place.uri).listed == made.left | made.states


def test_nothing_is_done_on_a_storage_while_a_driver_lives(made, place, run_clean):
    push_tree(made.output, place, ["*"])
    before = stored(place)
    with lease.kept(place.child(made.run.name), "machine:/runs", "a" * 16):
        refused = run_clean(made.output, "--storage", place.uri, "--remove")
    assert refused.code == EXIT_INPUT
    assert f"a sweep is running in {made.run.name}, driven by machine:/runs" in refused.err
    assert stored(place) == before | {f"{made.run.name}/{lease.DRIVER}"}
    lease.sign(place.child(made.run.name), "machine:/runs", "a" * 16)  # and no farewell: it was killed
    assert run_clean(made.output, "--storage", place.uri, "--remove").code == EXIT_DONE


def test_a_run_on_a_storage_that_cannot_be_read_is_named_there(made, place, run_clean):
    push_tree(made.output, place, ["*"])
    before = stored(place)
    place.write("third-01234567/plan.json", b"{")
    refused = run_clean(made.output, "--storage", place.uri, "--remove")
    assert (refused.code, refused.err.count("\n")) == (EXIT_INPUT, 1)
    assert "third-01234567/plan.json is not JSON" in refused.err and "sr-clean-" not in refused.err
    assert stored(place) == before | {"third-01234567/plan.json"}


def test_a_kill_on_the_way_leaves_nothing_that_looks_whole():
    """In a bucket, where nothing can be renamed: no checkpoint without a journal, no finished trial without weights."""
    trial = ["a/checkpoint.pt", "a/journal.jsonl", "a/model/model.safetensors", "a/trial.json"]
    assert sorted({*trial}, key=clean.turn) == trial
    assert sorted(["b/hr.arrow", "b/manifest.json"], key=clean.turn) == ["b/manifest.json", "b/hr.arrow"]
    assert sorted(["c/a.npz", "c/a.parquet"], key=clean.turn) == ["c/a.parquet", "c/a.npz"]


def test_a_driver_that_comes_while_a_storage_is_cleaned_is_told_so(tmp_path, run_clean):
    output, root = tmp_path / "runs", Storage.parse(str(tmp_path / "bucket"), "x")
    run = begin_run(output, "mine-01234567")
    home = home_of(run, root.uri)
    with lease.kept(root.child("shared"), "a clean on machine", "a" * 16):
        with pytest.raises(InputError, match="is being cleaned by a clean on machine"), home.driven():
            pass
        assert "is being cleaned by a clean on machine" in run_clean(output, "--storage", root.uri).err
    with home.driven():
        assert "a sweep is running in mine-01234567" in run_clean(output, "--storage", root.uri).err


def test_help_answers_before_heavy_packages_are_imported():
    code = "import sys; from orchestrator.clean import parser; parser().format_help(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "ray", "mlflow", "optuna", "pyarrow", "numpy"} & {*loaded}
