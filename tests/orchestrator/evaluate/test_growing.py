"""Nothing is measured twice: other labels, names, metrics, test sets and images ask only for what is new.

Units are computed in this process, in the place of Ray's actors. Inception's weights are not to be had: statistics of
colours stand for its features.
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import torch
from PIL import Image

import sr_models
from eval import PROTOCOLS, benchmarks
from eval.metrics.scorer import Scorer
from eval.rows import SET, Identity, Subject, measurement, read_file, read_rows, write_rows
from orchestrator.evaluate import actors, measured, service, work
from orchestrator.evaluate.work import Unit
from orchestrator.plan.sources import BenchmarkSource
from orchestrator.run.access import Access, LocalAccess
from orchestrator.run.mirrored import MirroredAccess
from orchestrator.storage.uri import Storage
from sr_models.checkpoints.folder import save_checkpoint
from sr_models.errors import InputError
from sr_models.inference.super_resolve import Options

HYPER = {"channels": 4, "blocks": 1, "noise": 30.0}
WHO = Identity("x2/noisy/l1", "noisy", "l1", "hr", "l1", 2, "f" * 64, 0, "raw", "noisy_edsr")
PROTOCOL = PROTOCOLS["classical"].model_copy(update={"draws": 2})


class Coloured(Scorer):
    def __init__(self, protocol: Any, metrics: Sequence[str], **about: Any) -> None:
        of_set = [name for name in metrics if name in ("fid", "kid")]
        super().__init__(protocol, [name for name in metrics if name not in of_set], **about)
        self.metrics += of_set

    def features(self, images: Any) -> torch.Tensor:
        x = images if isinstance(images, torch.Tensor) else torch.from_numpy(images).permute(0, 3, 1, 2) / 255
        flat = x.flatten(2).float()
        return torch.cat([flat.mean(2), flat.std(2), flat.amax(2), flat.square().mean(2)], 1)

    def reference_features(self, hashes: Sequence[str], read: Callable[[int], np.ndarray], **_: Any) -> np.ndarray:
        return np.concatenate([self.features(read(i)[None]).numpy() for i in range(len(hashes))])


@dataclass
class Bench:
    """An output on which evaluations follow one another; `asked` is what the last one computed."""

    folder: Path
    weights: Path
    asked: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    """(image, or "" for a whole set, and the metrics)"""
    refuses: tuple[str, ...] = ()
    storage: bool = False
    output: str = "runs"

    def access(self, run: str) -> Access:
        path = self.folder / self.output / run
        path.mkdir(parents=True, exist_ok=True)
        (path / "config.yaml").write_text("name: toy\n")
        if self.storage:
            return MirroredAccess(Storage.parse(str(self.folder / "far"), "--storage"), run, path)
        return LocalAccess(path)

    def job(self, metrics: Sequence[str] = ("psnr_y",), *, who: Identity = WHO, images: str = "a", name: str = "toy"):
        info = json.loads((self.weights / "model.json").read_text())
        subject = Subject(
            identity=who, weights_sha256=info["weights_sha256"], hyper=json.dumps(info["hyper"], sort_keys=True),
            benchmark=name, kernel=self.bench(images, name).kernel, protocol=PROTOCOL.id(2), seed=7, options=Options(),
        )  # fmt: skip
        source = BenchmarkSource(hr=str(self.folder / images))
        return work.Job(subject=subject, checkpoint=str(self.weights), source=source, protocol=PROTOCOL,
                        metrics=tuple(metrics), weights_dir=None), self.bench(images, name)  # fmt: skip

    def bench(self, images: str, name: str) -> benchmarks.Benchmark:
        return benchmarks.load(name, 2, self.folder / images)

    def evaluate(self, run: str, *jobs: Any) -> tuple[list[dict[str, Any]], list[str]]:
        """The run's rows, and what was refused."""
        self.asked.clear()
        actors._benchmark.cache_clear()  # a worker lives as long as an evaluation
        access = self.access(run)
        sets = {(bench.name, 2): bench for _, bench in jobs}
        planned = work.plan([job for job, _ in jobs], sets, access)
        moved: list[int] = []
        refused = service.evaluate(planned, access, lambda: service.Workforce(workers=1), moved.append)
        assert service.is_done(planned, access) or refused
        if not refused:
            assert moved[-1] == sum(len(planned_job.pictures) for planned_job in planned)
        rows = [row for planned_job in planned for row in work.rows_of(planned_job, access, work.rows_there(access))]
        return rows, refused


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    for folder, first, count in (("a", 0, 6), ("b", 20, 2)):
        (tmp_path / folder).mkdir()
        for i in range(count):
            pixels = np.random.default_rng(first + i).integers(0, 256, (24 + 2 * i, 28, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{i}.png")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = sr_models.build("noisy_edsr", 2, **HYPER)
    save_checkpoint(
        tmp_path / "net", net, model="noisy_edsr", scale=2, hyper=HYPER, sigma=None, ema=False, fingerprint=None
    )
    made = Bench(tmp_path, tmp_path / "net")

    class Worker(actors.ScoringWorker):
        def image(self, job: Any, bench: Any, picture: Any, metrics: Any) -> Any:
            made.asked.append((picture.name, tuple(metrics.metrics)))
            if picture.name in made.refuses:
                raise InputError(f"image {picture.path!r}: refused")
            return super().image(job, bench, picture, metrics)

        def _whole(self, unit: Unit) -> list[str]:
            made.asked.append((SET, unit.job.metrics))
            return super()._whole(unit)

    class Inline:
        def __init__(self, start: Any, size: int, max_restarts: int, unfinished: Any) -> None:
            self.worker = start(0)

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def run(self, units: Sequence[Unit], done: Callable[[Unit], None]) -> list[str]:
            refused = []
            for unit in units:
                refused += self.worker.score(unit)
                done(unit)
            return refused

    def starter(access: Access, *_: object) -> Any:
        return lambda _: Worker(access.for_workers(), torch.get_num_threads(), "cpu")

    actors._warm_metrics.cache_clear()
    monkeypatch.setenv("SR_CACHE", str(tmp_path / "cache"))
    for module, name, value in ((work, "Scorer", Coloured), (actors, "Scorer", Coloured), (service, "Pool", Inline),
                                (service, "starter", starter), (work, "shared_weights", lambda *_: None)):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    yield made
    actors._warm_metrics.cache_clear()


def numbers(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What rows say, but whose they are, and what was asked besides."""
    labels = {"key", "benchmark", "image", "lr_sha256", *Identity.__dataclass_fields__}
    return [{name: value for name, value in row.items() if name not in labels} for row in rows]


def test_another_sweep_computes_nothing_and_has_the_same_bits(bench: Bench) -> None:
    metrics = ("psnr_y", "ssim_y", "fid", "kid")
    first, _ = bench.evaluate("one", bench.job(metrics))
    assert [row["image"] for row in first] == ["0", "1", "2", "3", "4", "5", SET]
    assert len(bench.asked) == 7 and first[0]["psnr_y"] > 0 and first[-1]["fid"] > 0
    assert len(list((bench.folder / "runs" / "one" / "evaluation").iterdir())) == 1, "a job is one file"
    other = replace(WHO, combination="x2/mine/ours", model="mine", objective="ours", fingerprint="0" * 64, seed=3)
    again, _ = bench.evaluate("two", bench.job(metrics, who=other))
    assert bench.asked == [] and numbers(again) == numbers(first)
    assert {(row["combination"], row["model"], row["objective"], row["seed"]) for row in again} == {
        ("x2/mine/ours", "mine", "ours", 3)
    }
    assert bench.evaluate("two", bench.job(metrics, who=other))[0] == again


def test_both_kinds_of_home_give_the_same_rows(bench: Bench) -> None:
    first, _ = bench.evaluate("one", bench.job(("psnr_y", "fid", "kid")))
    bench.storage, bench.output = True, "copy"
    far, _ = bench.evaluate("far", bench.job(("psnr_y", "fid", "kid")))
    assert len(bench.asked) == 7, "another output knows nothing"
    assert [{**row, "seconds": 0} for row in far] == [{**row, "seconds": 0} for row in first]
    again, _ = bench.evaluate("farther", bench.job(("psnr_y", "fid", "kid")))
    assert bench.asked == [] and again == far
    assert list((bench.folder / "far").glob("farther/evaluation/*.parquet"))


def test_what_a_copy_of_the_output_knows_reaches_its_storage(bench: Bench) -> None:
    """Features that only this machine has are needed by workers that have the storage alone."""
    whole, _ = bench.evaluate("one", bench.job(("psnr_y", "fid", "kid")))
    [shared] = (bench.folder / "runs" / "shared" / "rows").iterdir()
    [path] = shared.glob("*.parquet")
    job, _ = bench.job()
    write_rows(path, job.subject.unlabelled, [row for row in read_file(path) if row["image"] != SET], versions="{}")
    bench.storage = True
    again, _ = bench.evaluate("far", bench.job(("psnr_y", "fid", "kid")))
    assert bench.asked == [(SET, ("fid", "kid"))] and again[:-1] == whole[:-1] and again[-1]["fid"] == whole[-1]["fid"]


def test_one_more_metric_computes_that_alone(bench: Bench) -> None:
    first, _ = bench.evaluate("one", bench.job(["psnr_y"]))
    more, _ = bench.evaluate("one", bench.job(["psnr_y", "ssim_y"]))
    assert bench.asked == [(str(i), ("ssim_y",)) for i in range(6)]
    assert [row["psnr_y"] for row in more] == [row["psnr_y"] for row in first] and all(row["ssim_y"] for row in more)
    assert all(row["per_draw"].keys() == {"psnr_y", "ssim_y"} for row in more)
    less, _ = bench.evaluate("two", bench.job(["psnr_y"]))
    assert bench.asked == [] and less == first, "what others have measured besides is not the run's"


def test_features_are_computed_for_a_metric_of_the_set_and_psnr_is_not(bench: Bench) -> None:
    whole, _ = bench.evaluate("fresh/it", bench.job(["psnr_y", "fid", "kid"]))
    first, _ = bench.evaluate("one", bench.job(["psnr_y"]))
    more, _ = bench.evaluate("one", bench.job(["psnr_y", "fid", "kid"]))
    assert bench.asked == [*((str(i), ("fid", "kid")) for i in range(6)), (SET, ("fid", "kid"))]
    assert [row["psnr_y"] for row in more[:-1]] == [row["psnr_y"] for row in first]
    assert [{**row, "seconds": 0} for row in more] == [{**row, "seconds": 0} for row in whole], "as if asked at once"
    bench.evaluate("two", bench.job(["psnr_y", "ssim_y", "kid", "fid"]))
    assert bench.asked == [(str(i), ("ssim_y",)) for i in range(6)], "features and set are there"


def test_one_more_test_set_and_image_compute_only_those(bench: Bench) -> None:
    metrics = ["psnr_y", "fid", "kid"]
    first, _ = bench.evaluate("one", bench.job(metrics))
    both, _ = bench.evaluate("two", bench.job(metrics), bench.job(metrics, images="b", name="other"))
    assert [image for image, _ in bench.asked] == ["0", "1", SET] and both[:7] == first
    Image.fromarray(np.full((24, 24, 3), 9, np.uint8)).save(bench.folder / "a" / "9.png")
    more, _ = bench.evaluate("three", bench.job(metrics))
    assert [image for image, _ in bench.asked] == ["9", SET], "features of the others are there"
    assert [row["psnr_y"] for row in more[:6]] == [row["psnr_y"] for row in first[:6]]
    assert more[0]["images"] == more[-1]["images"] == 7 and more[-1]["fid"] != first[-1]["fid"]


def test_renamed_test_sets_and_images_compute_nothing(bench: Bench) -> None:
    first, _ = bench.evaluate("one", bench.job(["psnr_y", "fid", "kid"]))
    (bench.folder / "a").rename(bench.folder / "renamed")
    for path in sorted((bench.folder / "renamed").iterdir()):
        path.rename(path.with_name(f"img_{path.name}"))
    again, _ = bench.evaluate("two", bench.job(["psnr_y", "fid", "kid"], images="renamed", name="new"))
    assert bench.asked == [] and numbers(again) == numbers(first)
    assert {row["benchmark"] for row in again} == {"new"} and again[0]["image"] == "img_0"
    renamed = bench.bench("renamed", "new")
    assert again[-1]["lr_sha256"] == renamed.lr_hash != first[-1]["lr_sha256"]


def test_jobs_of_one_evaluation_share_what_they_have_in_common(bench: Bench) -> None:
    twin = replace(WHO, combination="x2/noisy/twin", objective="twin")
    jobs = [bench.job(["psnr_y", "fid", "kid"], who=who) for who in (WHO, twin)]
    rows, refused = bench.evaluate("one", *jobs)
    assert refused == [] and len(bench.asked) == 7 and numbers(rows[:7]) == numbers(rows[7:])
    assert len(list((bench.folder / "runs" / "one" / "evaluation").iterdir())) == 2


def test_however_many_jobs_share_weights_a_file_of_measurements_is_read_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    monkeypatch.setattr(measured, "read_file", lambda path: read.append(path) or read_file(path))
    metrics, again = ["psnr_y", "fid", "kid"], replace(WHO, combination="x2/mine/ours", fingerprint="0" * 64)
    jobs = [bench.job(metrics), bench.job(metrics, images="b", name="other"), bench.job(metrics, who=again)]
    planned = work.plan(
        [job for job, _ in jobs], {("toy", 2): jobs[0][1], ("other", 2): jobs[1][1]}, bench.access("one")
    )
    workforce = service.Workforce(workers=1)
    service.evaluate(planned, bench.access("one"), lambda: workforce, lambda _: None)
    shared = sorted((bench.folder / "runs" / "shared" / "rows").glob("*/*.parquet"))
    assert len(bench.asked) == 6 + 2 + 2 and len(shared) == 1, "all that is measured of the weights"
    assert len(read) == len({*read}) == 5 + 2, (
        "the units that it wrote itself, and what each set's closing made of them"
    )
    read.clear()
    assert service.is_done(planned, bench.access("two")) and read == shared
    read.clear()
    service.evaluate(planned, bench.access("two"), lambda: workforce, lambda _: None)
    assert read == shared and service.is_done(planned, bench.access("two"))


@pytest.mark.parametrize("storage", [False, True])
def test_a_job_that_closes_leaves_one_file_with_the_rows_of_its_units(
    bench: Bench, storage: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.storage = storage
    with monkeypatch.context() as patch:
        patch.setattr(measured.Measured, "compact", lambda *_: None)
        first, _ = bench.evaluate("one", bench.job(["psnr_y", "fid", "kid"]))
    places = [bench.folder / place / "shared" / "rows" for place in ("runs", *["far"] * storage)]
    units = [read_rows(next(place.iterdir())) for place in places]
    assert all(len(list(place.glob("*/*.parquet"))) == 3 for place in places), "two of images, and the set"
    again, _ = bench.evaluate("two", bench.job(["psnr_y", "fid", "kid"]))
    assert bench.asked == [] and again == first
    for place, rows in zip(places, units, strict=True):
        [path] = place.glob("*/*.parquet")
        assert sorted(read_file(path), key=itemgetter("key")) == sorted(rows, key=itemgetter("key"))
    assert len(list(places[-1].glob("*/*.features.safetensors"))) == 2, "they stay"


@pytest.mark.parametrize("storage", [False, True])
def test_a_kill_before_units_are_removed_leaves_rows_twice_that_count_once(
    bench: Bench, storage: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.storage = storage
    kind, removed = type(bench.access("one")), []
    discard = kind.discard

    def killed(access: Access, name: str) -> None:
        if removed:
            raise KeyboardInterrupt
        removed.append(name)
        discard(access, name)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(kind, "discard", killed)
        bench.evaluate("one", bench.job(["psnr_y", "fid", "kid"]))
    place = bench.folder / ("far" if storage else "runs") / "shared" / "rows"
    files = list(place.glob("*/*.parquet"))
    keys = [row["key"] for path in files for row in read_file(path)]
    assert len(files) == 3 and len(keys) > len({*keys}) == 7
    rows, _ = bench.evaluate("one", bench.job(["psnr_y", "fid", "kid"]))
    assert bench.asked == [] and len(rows) == 7 and len(list(place.glob("*/*.parquet"))) == 1


def test_a_run_that_reads_while_another_puts_files_together_finds_all_rows(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a file goes before it is looked at or before it is opened."""
    job, _ = bench.job(["psnr_y"])
    with monkeypatch.context() as patch:
        patch.setattr(measured.Measured, "compact", lambda *_: None)
        bench.evaluate("one", bench.job(["psnr_y"]))
    reader, other = measured.Measured(bench.access("one")), measured.Measured(bench.access("two"))
    for opened in (measured._version, measured.read_file):
        before = reader.of(job.subject)
        [shared] = (bench.folder / "runs" / "shared" / "rows").iterdir()
        for number, row in enumerate(before.values()):
            write_rows(shared / f"{number}.parquet", job.subject.unlabelled, [row], versions="{}")
        meanwhile = iter([lambda: other.compact(job.subject)])

        def vanishing(path: Path, opened: Any = opened, meanwhile: Any = meanwhile) -> Any:
            next(meanwhile, lambda: None)()
            return opened(path)

        fresh = measured.Measured(bench.access("one"))
        with monkeypatch.context() as patch:
            patch.setattr(measured, opened.__name__, vanishing)
            assert fresh.of(job.subject) == before
        assert len(list(shared.glob("*.parquet"))) == 1
    path = shared / "damaged.parquet"
    path.write_bytes(b"PAR1 cut")
    with pytest.raises(InputError, match=r"damaged\.parquet cannot be read .*; delete it and run again"):
        reader.of(job.subject)


def test_what_was_put_together_may_be_in_a_larger_file_before_it_is_read(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, _ = bench.job(["psnr_y"])
    with monkeypatch.context() as patch:
        patch.setattr(measured.Measured, "compact", lambda *_: None)
        bench.evaluate("one", bench.job(["psnr_y"]))
    one, two = measured.Measured(bench.access("one")), measured.Measured(bench.access("two"))
    six = one.of(job.subject)
    more = {**next(iter(six.values())), "key": "0" * 24 + "-00000000"}

    def overtaken(path: Path, *args: Any, **given: Any) -> None:
        write_rows(path, *args, **given)
        monkeypatch.setattr(measured, "write_rows", write_rows)
        write_rows(path.with_name("more.parquet"), job.subject.unlabelled, [more], versions="{}")
        two.compact(job.subject)
        assert not path.exists()

    monkeypatch.setattr(measured, "write_rows", overtaken)
    one.compact(job.subject)
    assert one.of(job.subject) == six | {"0" * 24: more}
    assert len(list((bench.folder / "runs" / "shared" / "rows").glob("*/*.parquet"))) == 1


def test_what_was_measured_twice_with_other_values_is_named_and_the_first_stays(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    job, _ = bench.job(["psnr_y"])
    bench.evaluate("one", bench.job(["psnr_y"]))
    [path] = (bench.folder / "runs" / "shared" / "rows").glob("*/*.parquet")
    rows = read_file(path)
    twice = [rows[0] | {"seconds": 9.0}, rows[1] | {"psnr_y": 1.0}]
    write_rows(path.with_name("later.parquet"), job.subject.unlabelled, twice, versions="{}")
    os.utime(path.with_name("later.parquet"), (path.stat().st_mtime + 1,) * 2)
    known = measured.Measured(bench.access("one"))
    known.compact(job.subject)
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith(f"{rows[1]['benchmark']} 1 was measured twice, with unequal psnr_y; the first is kept")
    assert read_file(path) == rows and list(path.parent.glob("*.parquet")) == [path]
    assert known.of(job.subject) == {measurement(row["key"]): row for row in rows}


def test_a_refused_image_is_named_by_each_job_and_the_rest_come(bench: Bench) -> None:
    bench.refuses = ("3",)
    twin = replace(WHO, combination="x2/noisy/twin", objective="twin")
    jobs = [bench.job(["psnr_y", "fid", "kid"], who=who) for who in (WHO, twin)]
    rows, refused = bench.evaluate("one", *jobs)
    line = f"image {str(bench.folder / 'a' / '3.png')!r}: refused"
    assert refused == [line, line, *(f"toy x2, {who.combination}: no fid and kid of the set, 1 of its 6 images have no "
                                     "row" for who in (WHO, twin))]  # fmt: skip
    assert [row["image"] for row in rows] == ["0", "1", "2", "4", "5"] * 2 and len(bench.asked) == 7
    bench.refuses = ()
    rows, refused = bench.evaluate("one", *jobs)
    assert refused == [] and len(rows) == 14 and bench.asked == [("3", ("psnr_y", "fid", "kid")), (SET, ("fid", "kid"))]


def test_a_kill_between_measurement_and_row_leaves_nothing_double(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    whole, _ = bench.evaluate("fresh", bench.job(images="b", name="toy"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(service, "bring", killed)
        bench.evaluate("one", bench.job())
    assert len(bench.asked) == 6 and not list((bench.folder / "runs" / "one").glob("evaluation/*.parquet"))
    rows, _ = bench.evaluate("one", bench.job(), bench.job(images="b", name="other"))
    assert bench.asked == [] and len(rows) == 8
    evaluation = bench.folder / "runs" / "one" / "evaluation"
    raw = [row["key"] for path in evaluation.glob("*.parquet") for row in read_file(path)]
    assert len(raw) == len({*raw}) == len(read_rows(evaluation)) == 8 and numbers(rows[6:]) == numbers(whole)


def test_two_at_once_leave_one_of_each(bench: Bench) -> None:
    """The second measured before the first had written; whose files come last does not matter."""
    job = bench.job(["psnr_y", "fid", "kid"])
    first, _ = bench.evaluate("one", job)
    [shared] = (bench.folder / "runs" / "shared" / "rows").iterdir()
    files = {path.name for path in shared.iterdir()}
    [together] = shared.glob("*.parquet")
    planned = work.plan([job[0]], {("toy", 2): job[1]}, bench.access("two"))
    worker = service.starter(bench.access("two"))(0)
    for unit in planned[0].units({}, {}):
        worker.score(unit)
    assert {path.name for path in shared.iterdir()} > files
    assert len(list(shared.glob("*.parquet"))) == 3, "its own units again"
    again, _ = bench.evaluate("two", job)
    assert again == first and list(shared.glob("*.parquet")) == [together]


def test_what_moves_a_number_moves_the_measurement() -> None:
    subject = Subject(identity=WHO, weights_sha256="e" * 64, hyper="{}", benchmark="Set5", kernel="files",
                      protocol="classical-y-b2", seed=7, options=Options())  # fmt: skip
    labels = replace(WHO, combination="c", model="m", objective="o", target="t", loss="l", fingerprint="", seed=1,
                     weights="ema")  # fmt: skip
    name = subject.measured("c" * 64, "d" * 64)
    assert replace(subject, identity=labels, benchmark="mine").measured("c" * 64, "d" * 64) == name
    others = [
        replace(subject, identity=replace(WHO, scale=4)),
        replace(subject, identity=replace(WHO, network="vdsr")),
        replace(subject, weights_sha256="0" * 64),
        replace(subject, hyper='{"channels": 16}'),
        replace(subject, sigma='{"detail_unit": 2.0}'),
        replace(subject, kernel="matlab-cubic"),
        replace(subject, protocol="classical-y-b2-n3"),
        replace(subject, seed=8),
        replace(subject, options=Options(tile=64)),
    ]
    names = {other.measured("c" * 64, "d" * 64) for other in others}
    assert len(names) == len(others) and name not in names
    assert name not in (subject.measured("0" * 64, "d" * 64), subject.measured("c" * 64, "0" * 64))
