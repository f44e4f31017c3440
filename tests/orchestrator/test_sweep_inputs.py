"""What a user can get wrong: one line that names it, exit code 2, in bounded time, and nothing half-written.

Ray and the tracker are stood in for where the mistake shows only after they have started, so `main` runs in process.
"""

import errno
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import psycopg
import pytest
import yaml
from filelock import FileLock
from PIL import Image
from sqlalchemy.exc import OperationalError

from cluster.ray_runtime import Node, Resources
from orchestrator import session, stages
from orchestrator.data import rows
from orchestrator.data.store import PatchStore
from orchestrator.sweep import main
from orchestrator.tracking import address as tracking
from sr_models.command import EXIT_INPUT, EXIT_INTERRUPTED, EXIT_LOST
from sr_models.errors import LostError

PROGRAM = "python -m orchestrator.sweep: "
HERE = ("device: ", "sweep tiny-", "sweep quick-", "  ")
"""What lines begin with that a run says first, of the machine, its plan and its images."""
SPLITS = {"train": 2, "validation": 1, "test": 1}
SECONDS = 20.0
"""Longest answer to anything here, a busy machine included; heavy imports are most of it."""


@dataclass
class Case:
    """A folder of images and a config over them; `run` is the command line."""

    root: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def config(self) -> Path:
        return self.root / "tiny.yaml"

    @property
    def output(self) -> Path:
        return self.root / "runs"

    @property
    def folder(self) -> Path:
        [found] = self.output.glob("tiny-*/")
        return found

    def stores(self) -> list[PatchStore]:
        """Those that are finished."""
        return [PatchStore.open(path.parent) for path in sorted(self.output.glob("shared/store/*/manifest.json"))]

    def image(self, name: str, seed: int = 0, height: int = 36, width: int = 40) -> Path:
        path = self.root / name
        pixels = np.random.Generator(np.random.Philox(seed)).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    def write(self, **changes: Any) -> None:
        values = {
            "name": "tiny",
            "models": {"edsr_baseline": {"channels": 8, "blocks": 1}},
            "objectives": ["l1"],
            "data": {
                "train": [{"hr": str(self.root / "train")}],
                "validation": [{"hr": str(self.root / "validation")}],
                "test": {"toy": {"hr": str(self.root / "test")}},
            },
            "train": {"steps": 20, "batch_size": 4, "patch": 8},
        }
        self.config.write_text(yaml.safe_dump(values | changes), encoding="utf-8")

    def run(self, *arguments: str) -> tuple[int, str]:
        """Exit code and stderr of the command in `--output` of this case."""
        self.capsys.readouterr()
        code = main([*arguments, "--output", str(self.output)])
        return code, self.capsys.readouterr().err

    def refused(self, *arguments: str) -> str:
        """The one line that the command ends with, its program's name taken off; it may follow progress bars."""
        began = time.monotonic()
        code, said = self.run(*arguments)
        assert time.monotonic() - began < SECONDS
        lines = said.splitlines()
        assert code == EXIT_INPUT, said
        assert [line for line in lines if line.startswith(PROGRAM)] == lines[-1:], said
        assert "Traceback" not in said
        self.before = [line for line in lines[:-1] if not line.startswith(HERE)]
        return lines[-1].removeprefix(PROGRAM)

    def refused_at_once(self, *arguments: str) -> str:
        """The same where the mistake must show before anything is started or written."""
        line = self.refused(*arguments)
        assert self.before == [] and not self.output.exists()
        return line


@pytest.fixture(autouse=True)
def untouched_process() -> Iterator[None]:
    """The command sets a signal handler and environment variables: its own process would end with it."""
    environment, handler = dict(os.environ), signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture
def case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Case:
    made = Case(tmp_path, capsys)
    for i, (split, count) in enumerate(SPLITS.items()):
        (tmp_path / split).mkdir()
        for k in range(count):
            made.image(f"{split}/{k}.png", 10 * i + k)
    made.write()
    return made


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster of two cores and a tracker, neither of which exists; Ctrl-C comes when the search is about to start."""

    def interrupt(_session: object, _ingredients: object) -> None:
        raise KeyboardInterrupt

    found = Resources(cpus=2, gpus=0, nodes=(Node(address="127.0.0.1", cpus=2, gpus=0),))
    monkeypatch.setattr(session.ray_runtime, "connect", lambda _address, **_options: nullcontext(found))
    monkeypatch.setattr(session.address, "check", lambda _uri: None)
    monkeypatch.setattr(session, "Follower", lambda _run, _uri: nullcontext())
    monkeypatch.setattr(stages, "search", interrupt)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--preset", "quik"], "unknown preset 'quik'; did you mean 'quick'?"),
        (["quik"], "unknown preset 'quik'; did you mean 'quick'?"),
        (["models=[edsr_baselin]"], "unknown model 'edsr_baselin'; did you mean 'edsr_baseline'?"),
        (["models.edsr_baseline.model=imdnn"], "unknown model 'imdnn'; did you mean 'imdn'?"),
        (["objectives=[ecoo]"], "unknown objective 'ecoo'; did you mean 'eco'?"),
        (["objectives=[L1]"], "unknown objective 'L1'; did you mean 'l1'?"),
        (["search.metric=lpips"], "unknown metric 'lpips'; did you mean 'lpips_alex' or 'lpips_vgg'?"),
        (["resources=none"], "resources: give a mapping of keys to values, or auto (got 'none')"),
        (["resources={auto: true, gpus_per_worker: 1}"], "auto decides on cpus_per_worker and gpus_per_worker"),
        (["trian.steps=3"], "unknown key 'trian'; did you mean 'train'?"),
        (["train.step=3"], "train: unknown key 'step'; did you mean 'steps'?"),
        (["models.imdn.blok=3"], "unknown key 'blok'; did you mean 'blocks'?"),
        (["evaluation.metrics=[psnr_x]"], "unknown metric 'psnr_x'; did you mean 'psnr_y'?"),
        (["search.metric=psnr"], "unknown metric 'psnr'; did you mean 'psnr_y'?"),
        (["search.metric=ema.psnr_y"], "'ema.psnr_y' needs train.ema"),
        (
            ["search.metric=ema.psnr_y", "train.ema=0.9", "objectives.l1={grid: {train.ema: [0.99, null]}}"],
            "search.metric: 'ema.psnr_y' needs train.ema for x2/edsr_baseline/l1[train.ema=null]",
        ),
        (
            ["models=[swinir_light]", "objectives.l1={grid: {train.patch: [24, 20]}}"],
            "swinir_light works on windows of 8 pixels, so train.patch must be a multiple of that (got 20)",
        ),
        (["objectives.l1={grid: {train.batch_size: [8, true]}}"], "true and false are no numbers"),
        (["objectives.l1={grid: {train.batch_size: [8, many]}}"], "train.batch_size: Input should be a valid integer"),
        (["objectives.eco.search={target.length: {low: 0.5, high: 2}}"], "target.mixup.length: Input should be less"),
        (
            ["objectives.l1={search: {train.lr: {low: -1, high: 1}}}"],
            "train.lr: Input should be greater than 0 (got -1",
        ),
        (
            ["resources.workers_per_trial=4", "objectives.l1={grid: {train.batch_size: [8, 2]}}"],
            "4 workers cannot share a batch of 2 (train.batch_size of x2/edsr_baseline/l1[train.batch_size=2])",
        ),
        (["models=[srresnet_bn]", "resources.micro_batch=4"], "srresnet_bn normalises by the statistics of its batch"),
        (["evaluation.protocol=classic"], "unknown protocol 'classic'; did you mean 'classical'?"),
        (
            ["objectives.eco.search=[target.lenght]"],
            "'target.lenght' cannot be searched; did you mean 'target.length'?",
        ),
        (["objectives={none: {target: hr, loss: none}}"], "target 'hr' with loss 'none' needs sigma"),
        (["teacher=null"], "objectives.kd: needs a teacher"),
        (["scales=[7]"], "model 'edsr_baseline' has no scale 7 (it has 1, 2, 3, 4, 8)"),
        (["scales=[2,2]"], "scales must be different whole numbers >= 1"),
        (["train.lr=.nan"], "finite number (got nan)"),
        (["train.lr"], "unknown preset 'train.lr'"),
        (["--preset", "quick", "train.steps=3", "train.lr"], "'train.lr': an override is key=value"),
        (["=3"], "'=3': an override is key=value"),
        (["train.steps=[3"], "train.steps=[3, line 1: not plain YAML: "),
        (["name.first=x"], "'name' is not a mapping"),
        (["name=../x"], "name: String should match pattern"),
        (["data.test.photographs.hr=$NOT_SET_HERE/x"], "uses an environment variable that is not set"),
        (["data.test.photographs.hr=/not/there"], "image folder '/not/there' does not exist"),
        (["data.test.photographs.hr='a\\0b'"], "does not exist"),
        (["teacher.weights=x"], "teacher.weights: weights 'x': no such file, or a link to none"),
        (["--address", "10.0.0.5"], "expected host:port"),
    ],
)
def test_the_command_line(case: Case, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str) -> None:
    monkeypatch.setattr(session.address, "check", lambda _uri: None)
    if "--address" in arguments:  # known only after the run folder was claimed; it is taken back
        assert expected in case.refused(*arguments)
        assert list(case.output.iterdir()) == []
    else:
        assert expected in case.refused_at_once(*arguments)


def test_a_config_and_a_preset(case: Case) -> None:
    line = case.refused_at_once(str(case.config), "--preset", "quick")
    assert "a config file or --preset, not both" in line and "tiny.yaml" in line


def test_an_override_of_a_file_without_equals(case: Case) -> None:
    assert case.refused_at_once(str(case.config), "train.steps").startswith("'train.steps': an override is key=value")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- name: tiny\n", "a sweep is a mapping of keys to values, got list"),
        ("", "a sweep is a mapping of keys to values, got NoneType"),
        ("!!python/object/apply:os.mkdir [executed]\n", "line 1: not plain YAML: tags"),
        ("name: !!python/name:os.system\n", "line 1: not plain YAML"),
        ("name: tiny\nscales: [2\n", "line 3: not plain YAML"),
        ("name: \x01\n", "not plain YAML"),
        ("models: &m {a: *m}\n", "line 1: not plain YAML: a value contains itself"),
        ("1: 2\n", "name: required, and not given"),
        (b"name: \xff\n", "is not UTF-8 text"),
        (None, "no such file, or a link to none"),
    ],
)
def test_the_file(case: Case, monkeypatch: pytest.MonkeyPatch, text: str | bytes | None, expected: str) -> None:
    monkeypatch.chdir(case.root)
    if text is None:
        case.config.unlink()
    else:
        case.config.write_bytes(text if isinstance(text, bytes) else text.encode())
    line = case.refused_at_once("tiny.yaml")
    assert expected in line and "tiny.yaml" in line
    assert not Path("executed").exists()


@pytest.mark.parametrize("split", SPLITS)
def test_a_data_folder_that_is_missing_empty_or_unreadable(
    case: Case, monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    folder = case.root / split
    walk = os.walk

    def deny(top: Any, onerror: Callable[[OSError], None], **options: Any) -> Any:
        """Root may read everything, so what os.walk does on a closed folder is played."""
        return onerror(PermissionError(13, "Permission denied", str(top))) if top == folder else walk(top, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "walk", deny)
        assert f"{str(folder)!r} cannot be read: Permission denied" in case.refused_at_once(str(case.config))
    for path in folder.iterdir():
        path.unlink()
    assert f"{str(folder)!r} holds no PNG, JPEG, BMP, TIFF, WebP or PPM file" in case.refused_at_once(str(case.config))
    folder.rmdir()
    assert f"{str(folder)!r} does not exist" in case.refused_at_once(str(case.config))
    folder.touch()
    assert f"{str(folder)!r} is not a folder" in case.refused_at_once(str(case.config))


def test_a_truncated_test_image_is_named_before_anything_starts(case: Case) -> None:
    path = case.root / "test" / "0.png"
    path.write_bytes(path.read_bytes()[:2000])
    assert f"{str(path)!r}: cannot be read, truncated or corrupt" in case.refused_at_once(str(case.config))


def truncated(case: Case) -> tuple[str, Callable[[], object]]:
    path = case.root / "train" / "1.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:2000])
    return f"{str(path)!r}: cannot be read, truncated or corrupt", lambda: path.write_bytes(whole)


def no_image(case: Case) -> tuple[str, Callable[[], object]]:
    path = case.root / "train" / "2.png"
    path.write_text("not a picture")
    return f"{str(path)!r}: not a PNG, JPEG, BMP, TIFF, WebP or PPM image", path.unlink


def leak_of_test(case: Case) -> tuple[str, Callable[[], object]]:
    path = case.image("train/twin.png", 20)
    return "test images are among the train images: toy/0 (= train/twin.png)", path.unlink


def leak_of_validation(case: Case) -> tuple[str, Callable[[], object]]:
    path = case.image("train/twin.png", 10)
    return "validation images are among the train images: validation/0.png (= train/twin.png)", path.unlink


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize(
    "fault",
    [truncated, no_image, leak_of_test, leak_of_validation],
)
def test_bad_images_are_named_and_the_same_command_works_once_they_are_mended(
    case: Case, fault: Callable[[Case], tuple[str, Callable[[], object]]]
) -> None:
    expected, mend = fault(case)
    assert expected in case.refused(str(case.config))
    assert not list(case.output.glob("*/plan.json")) and not list(case.output.glob("shared/trials/*"))
    mend()
    code, said = case.run(str(case.config))
    assert code == EXIT_INTERRUPTED, said  # it came as far as the search
    assert case.stores()


@pytest.mark.usefixtures("no_ray")
def test_a_picture_too_large_for_a_worker_is_refused_before_training_and_a_tile_mends_it(case: Case) -> None:
    case.image("test/large.png", 9, 260, 300)
    case.write(models={"imdn": {"channels": 16, "blocks": 1}, "edsr_baseline": {"channels": 8, "blocks": 1}})
    small = (str(case.config), "resources.max_bytes=8000000")
    line = case.refused(*small)
    assert line.startswith("image 'toy/large' (150x130 LR pixels) takes about "), line
    assert not list(case.output.glob("shared/trials/*")) and not (case.folder / "plan.json").exists()
    declared = line.rpartition("declare ")[2]
    assert declared.startswith("evaluation.tile=")
    assert case.run(*small, declared)[0] == EXIT_INTERRUPTED
    assert case.run(*small, "models={edsr_baseline: {channels: 8, blocks: 1}}")[0] == EXIT_INTERRUPTED
    assert case.refused(str(case.config), "resources.max_bytes=auto").startswith("resources.max_bytes: no node")


@pytest.mark.usefixtures("no_ray")
def test_an_unreadable_training_image_may_be_skipped(case: Case) -> None:
    expected, _ = truncated(case)
    config = yaml.safe_load(case.config.read_text())
    case.write(data={**config["data"], "on_bad": "skip"})
    code, said = case.run(str(case.config))
    assert code == EXIT_INTERRUPTED and "skipped 1 image, unreadable or too small: train/1.png" in said
    [store] = case.stores()
    assert expected in store.skipped["train/1.png"]
    code, said = case.run(str(case.config))
    assert code == EXIT_INTERRUPTED and "skipped 1 image, unreadable or too small: train/1.png" in said


@pytest.mark.usefixtures("no_ray")
def test_other_runs_of_an_output_find_its_images_and_another_scale_leaves_them(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, read_image = list[Path](), rows.read_image
    monkeypatch.setattr(rows, "read_image", lambda path: reads.append(path) or read_image(path))
    assert case.run(str(case.config))[0] == EXIT_INTERRUPTED and len(reads) == 3
    assert case.run(str(case.config), "seed=1")[0] == EXIT_INTERRUPTED and len(reads) == 3
    assert case.run(str(case.config), "scales=[2,4]")[0] == EXIT_INTERRUPTED and len(reads) == 6
    first, second, both = (
        json.loads(path.read_text())["data_hash"]
        for path in sorted(case.output.glob("tiny-*/plan.json"), key=lambda path: path.stat().st_mtime_ns)
    )
    assert first == second == {"x2": both["x2"]} and set(both) == {"x2", "x4"} and both["x2"] != both["x4"]
    x2, x4 = sorted(case.stores(), key=lambda store: store.scale)
    assert (x2.folder / "hr.arrow").samefile(x4.folder / "hr.arrow")


@pytest.mark.usefixtures("no_ray")
def test_training_images_smaller_than_a_patch_are_refused_at_once_or_left_out(case: Case) -> None:
    for i in range(12):
        case.image(f"train/small{i:02}.png", 7, 15, 40)
    line = case.refused_at_once(str(case.config))
    assert line.startswith(
        "data.train: an LR patch of 8 at x2 does not fit into 12 of 14 images: 'small00.png', 'small01.png', "
        "'small02.png' and 9 more (all in "
    )
    assert "; the largest patch that fits all is 7: set train.patch, exclude them, or leave them out by " in line
    listed = Path(line.partition("(all in ")[2].partition(")")[0])
    assert [Path(name).name for name in listed.read_text().splitlines()] == [f"small{i:02}.png" for i in range(12)]
    listed.unlink()
    config = yaml.safe_load(case.config.read_text())
    case.write(data={**config["data"], "on_bad": "skip"})
    code, said = case.run(str(case.config))
    assert code == EXIT_INTERRUPTED and "skipped 12 images, unreadable or too small: train/small00.png" in said
    assert "12 of 14 images are smaller than an LR patch of 8 at x2, and left out: 'small00.png'" in said
    [store] = case.stores()
    assert store.manifest.products["hr"].images == 2, "as if they had not been named"


@pytest.mark.usefixtures("no_ray")
def test_a_full_disk_is_one_line_wherever_it_strikes(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(Path, "write_text", write)
        assert case.refused(str(case.config)).startswith(
            f"the disk of {case.folder} is full (or your quota); make room"
        )

    def search(*_: object) -> None:
        try:
            write()
        except OSError:
            raise RuntimeError("Tune's own words, with a traceback in them")  # noqa: B904  # as it does

    monkeypatch.setattr(stages, "search", search)
    line = case.refused(str(case.config))
    assert line.startswith("the disk of ") and f"{case.folder}" in line
    assert line.endswith(f"is full (or your quota); make room, then go on with: {PROGRAM[:-2]} --resume {case.folder}")


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize(
    ("lost", "said"),
    [
        (LostError("reading 'a' at s3://b failed: no route, for 10 minutes"), None),
        (
            OperationalError("COMMIT", {}, psycopg.errors.AdminShutdown("terminating connection\ndue to")),
            "the connection to the studies' database was lost: terminating connection due to",
        ),
    ],
)
def test_what_was_lost_is_one_line_that_goes_on(
    case: Case, monkeypatch: pytest.MonkeyPatch, lost: Exception, said: str | None
) -> None:
    def search(*_: object) -> None:
        try:
            raise lost
        except type(lost):
            raise RuntimeError("Tune's own words, with a traceback in them")  # noqa: B904  # as it does

    monkeypatch.setattr(stages, "search", search)
    code, out = case.run(str(case.config))
    line = f"{said or lost}; go on with: {PROGRAM[:-2]} --resume {case.folder}"
    assert (code, out.splitlines()[-1]) == (EXIT_LOST, PROGRAM + line) and "Traceback" not in out


@pytest.mark.usefixtures("no_ray")
def test_a_damaged_database_of_studies_is_one_line_with_the_way_out(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def search(given: session.Session, _: object) -> None:
        path = given.run.path / "studies.db"
        path.write_bytes(b"SQLite format 3\0" + bytes(2000))
        optuna.create_study(storage=given.run.studies_url)

    monkeypatch.setattr(stages, "search", search)
    code, said = case.run(str(case.config))
    line = f"{case.folder / 'studies.db'} is damaged (file is not a database); delete it, and run the same sweep, "
    assert code == EXIT_INPUT and said.splitlines()[-1].startswith(PROGRAM + line) and "Traceback" not in said


@pytest.mark.parametrize("where", ["runs", "runs/deeper"])
def test_a_file_in_the_way_of_the_output(case: Case, where: str) -> None:
    case.output.write_text("mine")
    code, lines = main([str(case.config), "--output", str(case.root / where)]), case.capsys.readouterr().err
    [said] = [line for line in lines.splitlines() if not line.startswith(HERE)]
    assert code == EXIT_INPUT
    assert said.startswith(f"{PROGRAM}--output: {case.root / where}") and "cannot be written" in said
    assert case.output.read_text() == "mine"


@pytest.mark.usefixtures("no_ray")
def test_a_run_folder_in_use(case: Case) -> None:
    assert case.run(str(case.config))[0] == EXIT_INTERRUPTED
    with FileLock(case.folder / ".driver.lock"):
        for again in ([str(case.config)], ["--resume", str(case.folder)]):
            assert case.refused(*again) == f"--output: another sweep is running in {case.folder}"
            assert case.before == []
    assert case.run(str(case.config))[0] == EXIT_INTERRUPTED


def test_nobody_at_the_ray_address(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session.address, "check", lambda _uri: None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    line = case.refused(str(case.config), "--address", address)
    assert line.startswith(f"Ray address '{address}': ") and "refused" in line
    assert case.before == [] and list(case.output.iterdir()) == []


@pytest.mark.parametrize("silent", [False, True])
def test_nobody_at_the_tracking_server(case: Case, monkeypatch: pytest.MonkeyPatch, silent: bool) -> None:
    import mlflow.tracking  # noqa: F401  # not within the second that the server has

    monkeypatch.setattr(tracking, "CHECK_TIMEOUT_S", 1.0 if silent else 10.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        uri = f"http://127.0.0.1:{server.getsockname()[1]}"
        if not silent:
            server.close()
        line = case.refused(str(case.config), "--tracking-uri", uri)
    assert line.startswith(f"tracking URI {uri!r}: ") and ("no answer within 1 s" in line or not silent)
    assert case.before == [] and list(case.output.iterdir()) == []


def test_a_tracking_uri_of_no_known_kind(case: Case) -> None:
    line = case.refused(str(case.config), "--tracking-uri", "mlruns")
    assert line.startswith("tracking URI 'mlruns': expected sqlite:///FILE, http(s)://HOST:PORT")
    assert list(case.output.iterdir()) == []


def test_resume_of_something_that_is_no_run(case: Case) -> None:
    for path in (case.root, case.root / "missing", case.config):
        assert case.refused_at_once("--resume", str(path)) == (
            f"--resume: {path} is not a run folder (it has no config.yaml)"
        )


@pytest.mark.usefixtures("no_ray")
def test_resume_on_a_changed_config(case: Case) -> None:
    assert case.run(str(case.config))[0] == EXIT_INTERRUPTED
    run = ["--resume", str(case.folder)]
    for changed in (["train.steps=21"], [str(case.config), "seed=1"], ["--preset", "quick"]):
        assert "the config has changed since tiny-" in case.refused(*run, *changed) and case.before == []
    case.write(scales=[4])
    assert "the config has changed since tiny-" in case.refused(*run, str(case.config))
    assert case.run(*run)[0] == EXIT_INTERRUPTED
    assert case.run(*run, "resources.max_concurrent=1")[0] == EXIT_INTERRUPTED  # moves no number


def test_resume_of_a_run_of_an_earlier_version(case: Case) -> None:
    run = case.output / "tiny-01234567"
    (run / "trials").mkdir(parents=True)
    (run / "config.yaml").write_text(case.config.read_text())
    assert case.refused("--resume", str(run)) == (
        f"--resume: {run} is a run of an earlier version: its board can be read, and it is not gone on with; "
        "without --resume the config starts a run of its own"
    )


@pytest.mark.usefixtures("no_ray")
def test_resume_on_changed_images(case: Case) -> None:
    assert case.run(str(case.config))[0] == EXIT_INTERRUPTED
    kept = (case.folder / "plan.json").read_bytes()
    whole = (case.root / "train" / "0.png").read_bytes()
    case.image("train/0.png", 99)
    assert "data hash changed since tiny-" in case.refused("--resume", str(case.folder))
    assert (case.folder / "plan.json").read_bytes() == kept
    (case.root / "train" / "0.png").write_bytes(whole)
    assert case.run("--resume", str(case.folder))[0] == EXIT_INTERRUPTED
    assert len(case.stores()) == 2, "what other images came to waits for who wants them"


@pytest.mark.usefixtures("no_ray")
def test_an_interrupted_run_says_how_to_go_on(case: Case) -> None:
    code, said = case.run(str(case.config))
    assert code == EXIT_INTERRUPTED
    assert said.splitlines()[-1] == f"interrupted; go on with: python -m orchestrator.sweep --resume {case.folder}"
