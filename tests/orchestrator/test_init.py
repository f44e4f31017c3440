"""A config that starts as it is: from ten pictures of any kind, by a split that comes out the same; else one line."""

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cluster.here import Gpu, Machine
from orchestrator import init, ready
from orchestrator.data.inputs import Inputs
from orchestrator.init import main
from orchestrator.plan.read import load
from orchestrator.plan.schema import FILE, first_line
from orchestrator.sweep import main as sweep
from sr_models.command import EXIT_DONE, EXIT_INPUT

CPU = Machine(cpus=2, memory=2**34)


def picture(path: Path, seed: int, height: int = 60, width: int = 70) -> Image.Image:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))
    made.save(path)
    return made


@pytest.fixture
def ten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten pictures: colour, grey, with alpha and of 16 bits, in folders, one with a name of glob letters and quotes."""
    for module in (init, ready):
        monkeypatch.setattr(module, "machine", lambda: CPU)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "my photos"
    for i in range(6):
        picture(folder / f"{i}.png", i)
    picture(folder / "deeper" / '[1] "$x".png', 6)
    picture(folder / "grey.png", 7).convert("L").save(folder / "grey.png")
    picture(folder / "alpha.png", 8).convert("RGBA").save(folder / "alpha.png")
    Image.fromarray(np.random.default_rng(9).integers(0, 65536, (60, 70)).astype(np.uint16)).save(folder / "deep.png")
    return folder


def files(config: str) -> dict[str, list[str]]:
    inputs = Inputs(load(config))
    inputs.check()
    found = {
        split: [file.name for one in sources for file in one.hr_files()] for split, sources in inputs.sources.items()
    }
    return {**found, "test": [pair.hr.name for bench in inputs.benchmarks.values() for pair in bench.pairs]}


def test_ten_pictures_are_split_and_the_config_passes_a_dry_run(ten: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mine.yaml", "--images", str(ten)]) == EXIT_DONE
    said = capsys.readouterr().out
    assert "10 pictures (10 PNG), 70x60 to 70x60 pixels" in said and "1 grey" in said and "1 of 16 bits" in said
    text, split = Path("mine.yaml").read_text(), files("mine.yaml")
    assert text.startswith(first_line()) and Path(FILE).exists() and "resources: auto" in text
    assert {name: len(found) for name, found in split.items()} == {"train": 7, "validation": 1, "test": 2}
    assert len({*split["train"], *split["validation"], *split["test"]}) == 10
    assert sweep(["mine.yaml", "--dry-run"]) == EXIT_DONE
    assert "minutes on 2 CPU cores" in capsys.readouterr().out
    assert main(["again.yaml", "--images", str(ten)]) == EXIT_DONE and files("again.yaml") == split


def test_every_picture_may_be_held_out_whatever_its_name(ten: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = init._alone
    monkeypatch.setattr(init, "_alone", lambda *given: sorted(odd(*given), key=lambda one: one.path.name[0] != "["))
    assert main(["mine.yaml", "--images", str(ten)]) == EXIT_DONE
    assert '[1] "$x".png' in files("mine.yaml")["test"] and '[1] "$x".png' not in files("mine.yaml")["train"]


def test_what_cannot_be_used_is_left_out_and_twins_are_trained_on(
    ten: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (ten / "broken.png").write_bytes((ten / "0.png").read_bytes()[:500])
    (ten / "none.png").write_text("no picture")
    picture(ten / "small.png", 11, 40, 90)
    for name in ("1.jpg", "copy of 2.png"):
        Image.open(ten / f"{name[-5]}.png").save(ten / name)
    assert main(["mine.yaml", "--images", str(ten)]) == EXIT_DONE
    said = capsys.readouterr().out.splitlines()
    assert said[1] == "  left out: 3"
    assert said[2].startswith(f"    image {str(ten / 'none.png')!r}: its header cannot be read (")
    assert said[3] == "    'small.png' is smaller than 48 pixels a side, 90x40"
    assert said[4].startswith(f"    image {str(ten / 'broken.png')!r}: ") and said[5].startswith("  validation")
    split = files("mine.yaml")
    assert {"1.png", "1.jpg", "2.png", "copy of 2.png"} <= {*split["train"]}
    assert not {"broken.png", "none.png", "small.png"} & {name for found in split.values() for name in found}


def test_of_many_that_are_left_out_ten_are_named(ten: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(12):
        (ten / f"x{i:02}.png").write_text("no picture")
    assert main(["mine.yaml", "--images", str(ten)]) == EXIT_DONE
    said = capsys.readouterr().out.splitlines()
    assert said[1] == "  left out: 12" and "x09.png" in said[11] and said[12] == "    and 2 more"


@pytest.mark.parametrize(("hours", "steps"), [("0.02", 200), ("0.1", 200), ("0.3", None), ("1", None)])
def test_hours_that_are_too_few_are_said(ten: Path, capsys: Any, hours: str, steps: int | None) -> None:
    assert main(["mine.yaml", "--images", str(ten), "--hours", hours]) == EXIT_DONE
    said, found = capsys.readouterr().out, load("mine.yaml").train.steps
    least = [line for line in said.splitlines() if line.startswith("the least that this makes, 200 steps a run, takes")]
    assert (found == steps, len(least)) == ((True, 1) if steps else (False, 0))
    assert all(line.endswith(f": not {hours} hours") for line in least)
    taken = init._seconds(init.make_plan(load("mine.yaml"))) / 3600
    assert taken > float(hours) if steps else taken == pytest.approx(float(hours), rel=0.05)


def test_lines_to_type_are_quoted(ten: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["my ü file.yaml", "--images", str(ten)]) == EXIT_DONE
    assert capsys.readouterr().out.endswith(": python -m orchestrator.sweep 'my ü file.yaml'\n")
    lines = Path("my ü file.yaml").read_text().splitlines()
    assert "# Look:  python -m orchestrator.sweep 'my ü file.yaml' --dry-run" in lines


def test_thumbnails_of_the_same_names_take_no_picture_from_training(ten: Path) -> None:
    """A name in a config means every file that has it."""
    for i in range(6):
        picture(ten / "thumbs" / f"{i}.png", i, 20, 20)
    assert main(["mine.yaml", "--images", str(ten)]) == EXIT_DONE
    split = files("mine.yaml")
    assert {f"{i}.png" for i in range(6)} <= set(split["train"])
    assert not {f"{i}.png" for i in range(6)} & {*split["validation"], *split["test"]}
    assert len(split["test"]) + len(split["validation"]) == 3


@pytest.mark.parametrize("hours", ["inf", "nan", "0", "-1"])
def test_hours_are_a_number_above_0(ten: Path, capsys: Any, hours: str) -> None:
    assert main(["mine.yaml", "--images", str(ten), f"--hours={hours}"]) == EXIT_INPUT
    assert "--hours must be a number above 0, got" in capsys.readouterr().err and not Path("mine.yaml").exists()


def test_a_machine_with_a_gpu_gets_the_published_networks(
    ten: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    gpu = Machine(cpus=8, memory=2**35, gpus=(Gpu(name="H", memory=2**36),))
    for module in (init, ready):
        monkeypatch.setattr(module, "machine", lambda: gpu)
    assert main(["mine.yaml", "--images", str(ten), "--hours", "3"]) == EXIT_DONE
    said = capsys.readouterr().out
    assert "device: GPU, 1 of 1 GPU (H, 64 GiB)" in said and "about 3.0 hours" in said
    assert load("mine.yaml").models["edsr_baseline"] == {}


def too_few(folder: Path) -> None:
    for path in sorted(folder.rglob("*.png"))[2:]:
        path.unlink()


def too_small(folder: Path) -> None:
    for path in folder.rglob("*.png"):
        picture(path, 1, 30, 30)


def empty(folder: Path) -> None:
    for path in folder.rglob("*.png"):
        path.unlink()


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EROFS, "CONFIG: mine.yaml cannot be written (Read-only file system)"),
        (errno.ENOSPC, "is full (or your quota)"),
    ],
)
def test_a_folder_that_takes_no_file_is_one_line(
    ten: Path, tmp_path: Path, refuse_writing: Any, capsys: Any, number: int, said: str
) -> None:
    refuse_writing(tmp_path, number)
    assert main(["mine.yaml", "--images", str(ten)]) == EXIT_INPUT
    error = capsys.readouterr().err
    assert error.endswith(f"{said}\n") and error.count("\n") == 1


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (empty, "holds no PNG"),
        (too_few, "needs 3 pictures or more of 48 pixels a side, to train on, to steer by and to score; 2 of 2 can be"),
        (too_small, "; 0 of 10 can be used: '0.png' is smaller than 48 pixels a side"),
        (lambda _: Path("mine.yaml").write_text("mine"), "mine.yaml is there already; give another name, or remove it"),
    ],
)
def test_what_it_refuses_is_one_line_and_leaves_nothing(ten: Path, capsys: Any, spoil: Any, said: str) -> None:
    spoil(ten)
    assert main(["mine.yaml", "--images", str(ten)]) == EXIT_INPUT
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not Path(FILE).exists() and (not Path("mine.yaml").exists() or Path("mine.yaml").read_text() == "mine")
