"""Frozen degraded sets: the same bytes on another day, resumed, mended, and refused where they would be mixed."""

import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator import degrade as command
from orchestrator.degrade import main
from sr_models.hyper.degradation import parse_degradation
from sr_models.images.degrade import degrade
from sr_models.images.files import pixels_sha256, read_image, sha256_file
from sr_models.images.matlab import modcrop, resize
from sr_models.rng import keyed


@pytest.fixture
def hr(tmp_path: Path) -> Path:
    """Three pictures, one of them in a folder of its own."""
    folder = tmp_path / "HR"
    (folder / "sub").mkdir(parents=True)
    for seed, name in enumerate(("a.png", "b.bmp", "sub/c.png")):
        draw = np.random.default_rng(seed)
        image = resize(draw.integers(0, 256, (30, 26, 3), dtype=np.uint8), 4)[: 119 - seed]
        Image.fromarray(image).save(folder / name)
    return folder


def files(out: Path) -> dict[str, bytes]:
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def run(hr: Path, out: Path, *words: str) -> int:
    return main([str(hr), str(out), *(words or ("--set", "ccsr"))])


def test_every_picture_is_degraded_by_its_pixels_and_the_seed_alone(hr, tmp_path, capsys):
    assert run(hr, tmp_path / "one", "--set", "realesrgan", "--seed", "5", "usm=false", "first.jpeg=[50,60]") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'one' / 'lr'}: 3 made, 0 there already; realesrgan x4, seed 5\n"
    how = parse_degradation({"set": "realesrgan", "usm": False, "first": {"jpeg": [50, 60]}}, "d")
    listed = json.loads((tmp_path / "one" / "manifest.json").read_text())
    assert parse_degradation(listed["degradation"], "d") == how and (listed["seed"], listed["scale"]) == (5, 4)
    assert set(listed["files"]) == {"a", "b", "sub/c"} and set(listed["libraries"]) == set(command.LIBRARIES)
    for name, file in {"a": "a.png", "b": "b.bmp", "sub/c": "sub/c.png"}.items():
        image = read_image(hr / file)
        rng = keyed(5, 0, int(pixels_sha256(image)[:15], 16), "degrade")
        lr = tmp_path / "one" / "lr" / f"{name}.png"
        assert (read_image(lr) == degrade(modcrop(image, 4), 4, how, rng).lr).all()
        assert listed["files"][name] == {"source": pixels_sha256(image), "lr": sha256_file(lr)}


def test_a_disk_that_is_full_or_cannot_be_written_is_one_line(hr, tmp_path, refuse_writing, capsys):
    refuse_writing(tmp_path / "out" / "lr", errno.ENOSPC)
    assert run(hr, tmp_path / "out") == 2
    refuse_writing(tmp_path / "out" / "lr", errno.EROFS)
    assert run(hr, tmp_path / "out") == 2
    full, read_only = capsys.readouterr().err.splitlines()
    assert full.endswith(f": the disk of {tmp_path}/out is full (or your quota)")
    assert read_only.endswith(f": OUT: {tmp_path}/out cannot be written (Read-only file system)")


def test_another_day_under_other_names_the_bytes_are_the_same(hr, tmp_path):
    assert run(hr, tmp_path / "one", "--set", "bsrgan") == run(hr, tmp_path / "two", "--set", "bsrgan") == 0
    assert files(tmp_path / "one") == files(tmp_path / "two")
    (tmp_path / "other").mkdir()
    shutil.copy(hr / "b.bmp", tmp_path / "other" / "z.bmp")
    assert run(tmp_path / "other", tmp_path / "three", "--set", "bsrgan") == 0
    assert files(tmp_path / "three")["lr/z.png"] == files(tmp_path / "one")["lr/b.png"]
    assert run(hr, tmp_path / "four", "--set", "bsrgan", "--seed", "1") == 0
    assert files(tmp_path / "four")["lr/b.png"] != files(tmp_path / "one")["lr/b.png"]


def test_a_sharpened_target_lies_beside_its_lr(hr, tmp_path, capsys):
    assert run(hr, tmp_path / "out", "--set", "realesrgan", "--scale", "2") == 0
    assert "score against" in capsys.readouterr().out
    made = files(tmp_path / "out")
    assert set(made) == {
        "manifest.json",
        *(f"{side}/{name}.png" for side in ("hr", "lr") for name in ("a", "b", "sub/c")),
    }
    target, lr = (read_image(tmp_path / "out" / side / "a.png") for side in ("hr", "lr"))
    assert target.shape == (118, 104, 3) and lr.shape == (59, 52, 3)
    assert (target != modcrop(read_image(hr / "a.png"), 2)).any()


def test_a_stopped_set_goes_on_and_damage_is_mended(hr, tmp_path, capsys, monkeypatch):
    assert run(hr, tmp_path / "whole") == 0
    image, asked = read_image, []

    def killed(path, **options):
        asked.append(path)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return image(path, **options)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("sr_models.images.files.read_image", killed)
        assert run(hr, out) == 130
    assert set(json.loads((out / "manifest.json").read_text())["files"]) == {"a", "b"}
    capsys.readouterr()
    assert run(hr, out) == 0 and "1 made, 2 there already" in capsys.readouterr().out
    assert files(out) == files(tmp_path / "whole")

    times = {path: path.stat().st_mtime_ns for path in (out / "lr").rglob("*.png")}
    (out / "lr" / "a.png").write_bytes(b"half")
    (out / "lr" / "b.png").unlink()
    assert run(hr, out) == 0
    said = capsys.readouterr()
    assert "2 made, 1 there already" in said.out and "a: its files are not what they were; made again" in said.err
    assert files(out) == files(tmp_path / "whole")
    assert (out / "lr/sub/c.png").stat().st_mtime_ns == times[out / "lr/sub/c.png"]

    Image.fromarray(read_image(hr / "a.png")[::-1]).save(hr / "a.png")
    (hr / "b.bmp").unlink()
    assert run(hr, out) == 0
    said = capsys.readouterr().err
    assert "a: HR is not what it was; made again" in said
    assert f"1 in {out} are of no picture that is there now, and stay: b" in said


def test_pictures_of_other_libraries_do_not_join_a_set(hr, tmp_path, capsys, monkeypatch):
    """A whole one is told so as ever; one that something is to be made of is refused and stays as it is."""
    out, here = tmp_path / "out", command.version
    assert run(hr, out) == 0
    monkeypatch.setattr(command, "version", lambda name: "0.1" if name in ("pillow", "torch") else here(name))
    assert run(hr, out) == 0 and "0 made, 3 there already" in capsys.readouterr().out
    (out / "lr" / "b.png").unlink()
    before = files(out)
    assert run(hr, out) == 2
    begun = ", ".join(f"{name} {here(name)} (here 0.1)" for name in ("pillow", "torch"))
    assert f"OUT: {out} was begun with {begun}, and b is to be made" in capsys.readouterr().err
    assert files(out) == before
    assert run(hr, tmp_path / "new") == 0
    assert json.loads((tmp_path / "new" / "manifest.json").read_text())["libraries"]["pillow"] == "0.1"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "realesrgan"], "was begun with degradation.set 'ccsr', and 'realesrgan' is asked for"),
        (["--set", "ccsr", "--seed", "1"], "was begun with seed 0, and 1 is asked for"),
        (["--set", "ccsr", "--scale", "2"], "was begun with scale 4, and 2 is asked for"),
        (["--set", "ccsr", "usm=true"], "was begun with degradation.usm False, and True is asked for"),
    ],
)
def test_a_set_of_other_parameters_is_left_alone(hr, tmp_path, capsys, words, said):
    assert run(hr, tmp_path / "out") == 0
    before = files(tmp_path / "out")
    assert run(hr, tmp_path / "out", *words) == 2
    assert said in capsys.readouterr().err and files(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "ccsr", "first.jpg=[50,60]"], "ccsr.first: unknown key 'jpg'; did you mean 'jpeg'?"),
        (["--set", "ccsr", "first.jpeg=[60,50]"], "must rise and lie within 1 to 100"),
        (["--set", "ccsr", "usm"], "'usm': a change is KEY=VALUE"),
        (["--set", "ccsr", "set=bsrgan"], "a set is chosen by --set"),
        (["--set", "ccsr", "usm=true", "usm.x=1"], "'usm' is not a mapping"),
        (["--set", "csr"], "invalid choice: 'csr'"),
        (["--set", "ccsr", "--scale", "0"], "--scale must be at least 1, got 0"),
        (["--set", "ccsr", "--seed", "-1"], "--seed must be at least 0, got -1"),
        (["--set", "ccsr", "--sheet", "a.jpg"], "--sheet: 'a.jpg' is no .png file"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_written(hr, tmp_path, capsys, words, said):
    assert run(hr, tmp_path / "out", *words) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_folders_that_cannot_be_used_are_refused(hr, tmp_path, capsys):
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("x")
    (tmp_path / "file").write_text("x")
    for given, out, said in [
        (tmp_path / "none", tmp_path / "out", "does not exist"),
        (hr, full, f"OUT: {full} holds 'mine.txt' and no manifest.json; name a new folder"),
        (hr, tmp_path / "file", "is no folder"),
        (hr, hr / "lr", "whose pictures it would be among"),
    ]:
        assert run(given, out) == 2
        assert said in capsys.readouterr().err
    assert set(files(full)) == {"mine.txt"} and not (hr / "lr").exists()
    (full / "mine.txt").rename(full / "manifest.json")
    (full / "manifest.json").write_text("[1]")
    assert run(hr, full) == 2 and "is none of this command" in capsys.readouterr().err


def test_pictures_that_cannot_be_degraded_are_named(hr, tmp_path, capsys):
    Image.fromarray(np.zeros((95, 200, 3), np.uint8)).save(hr / "d.png")
    assert run(hr, tmp_path / "out") == 2
    assert "d.png': 95x200 pixels (height x width), and a degradation needs 96 a side" in capsys.readouterr().err
    assert run(hr, tmp_path / "out", "--set", "ccsr", "--exclude", "d.png") == 0
    shutil.copy(hr / "a.png", hr / "a.PNG")
    assert run(hr, tmp_path / "two", "--set", "ccsr", "--exclude", "d.png") == 2
    assert "would both become a.png; rename or move one" in capsys.readouterr().err
    (hr / "a.PNG").unlink()
    whole = (hr / "a.png").read_bytes()
    (hr / "a.png").write_bytes(whole[: len(whole) // 2])
    assert run(hr, tmp_path / "three", "--set", "ccsr", "--exclude", "d.png") == 2
    assert "a.png': cannot be read, truncated or corrupt" in capsys.readouterr().err


def test_a_sheet_shows_the_picture_and_eight_draws_of_each_set(hr, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("eval.pictures.grid.grid", lambda path, **given: drawn.append((path, given)))
    assert run(hr, tmp_path / "out", "--set", "bsrgan", "--sheet", str(tmp_path / "s.png")) == 0
    [(path, given)] = drawn
    assert path == tmp_path / "s.png" and "a.png" in given["title"]
    assert [row[1][0].split()[0] for row in given["rows"]] == ["realesrgan", "ccsr", "bsrgan"]
    assert all(len(row) == 9 and len({image.tobytes() for _, image in row}) == 9 for row in given["rows"])
    assert {image.shape for row in given["rows"] for _, image in row} == {(104, 104, 3)}
