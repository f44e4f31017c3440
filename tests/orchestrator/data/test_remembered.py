"""What was computed of a file is found again as long as the file is as it was, and never a moment longer."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.data import known, remembered
from orchestrator.data.remembered import Look, Remembered
from sr_models.errors import InputError


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that counts as settled at once, and a cache of this test's own."""
    monkeypatch.setenv("SR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remembered, "SETTLED_NS", 0)
    made = tmp_path / "a file"
    made.write_text("one")
    return made


def of(path: Path, *, libraries: tuple[str, ...] = ("numpy",)) -> tuple[str, bool]:
    """A file's text, by the cache of a new process; and whether the file was read for it."""
    read = list[str]()
    cache = Remembered("test", (known,), libraries)
    value = cache.of([Look.at(path)], "text", lambda: read.append("") or path.read_text())
    cache.save()
    return value, bool(read)


def rewritten(path: Path) -> None:
    """As `rsync --times` or a mirror may do: another content of the same size and time."""
    before = path.stat().st_mtime_ns
    time.sleep(0.02)  # a tick of the disk's clock
    path.write_text("two")
    os.utime(path, ns=(before, before))


def test_a_value_is_computed_once(file: Path, tmp_path: Path) -> None:
    assert of(file) == ("one", True)
    assert of(file) == ("one", False)
    assert (tmp_path / "cache" / "known").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("change", [lambda path: path.write_text("three"), lambda path: os.utime(path), rewritten])
def test_a_file_that_may_have_changed_is_read_again(change: Callable[[Path], None], file: Path) -> None:
    of(file)
    time.sleep(0.02)
    change(file)
    assert of(file) == (file.read_text(), True)
    assert of(file) == (file.read_text(), False)


def test_a_file_that_was_written_just_now_is_not_remembered(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "SETTLED_NS", 2 * 10**9)
    assert [of(file), of(file)] == [("one", True)] * 2


def test_what_changes_while_it_is_read_is_remembered_as_it_was_before(file: Path) -> None:
    cache = Remembered("test", (known,), ())
    look = Look.at(file)
    time.sleep(0.02)
    assert cache.of([look], "text", lambda: [file.read_text(), rewritten(file)][0]) == "one"
    cache.save()
    assert of(file) == ("two", True)


def test_other_code_and_other_libraries_compute_anew(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of(file)
    assert of(file, libraries=("numpy", "pillow"))[1]
    of(file)
    monkeypatch.setattr(remembered.inspect, "getsource", lambda _: "other code")
    assert of(file)[1]


def test_two_processes_keep_what_both_have_computed(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "another"
    other.write_text("two")
    first, second = (Remembered("test", (known,), ("numpy",)) for _ in range(2))
    for cache, path in ((first, file), (second, other)):
        cache.of([Look.at(path)], "text", path.read_text)
    first.save()
    second.save()
    assert [of(file), of(other)] == [("one", False), ("two", False)]


def test_what_cannot_be_computed_and_what_is_gone_is_not_kept(file: Path, tmp_path: Path) -> None:
    cache = Remembered("test", (known,), ("numpy",))

    def fail() -> None:
        raise InputError("no picture")

    with pytest.raises(InputError, match="no picture"):
        cache.of([Look.at(file)], "text", fail)
    with pytest.raises(FileNotFoundError):
        cache.of([Look.at(tmp_path / "none")], "text", (tmp_path / "none").read_text)
    cache.save()
    assert of(file) == ("one", True)
    file.rename(tmp_path / "another")
    of(tmp_path / "another")
    text = (tmp_path / "cache" / "known" / "test.json").read_text()
    assert "another" in text and "a file" not in text


@pytest.mark.parametrize("text", ["{", '{"version": 1}', ""])
def test_a_damaged_cache_is_said_and_made_anew(
    text: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of(file)
    (tmp_path / "cache" / "known" / "test.json").write_text(text)
    assert of(file) == ("one", True)
    assert "known/test.json" in capsys.readouterr().err
    assert of(file) == ("one", False) and capsys.readouterr().err == ""


def test_a_cache_that_others_can_write_is_neither_read_nor_written(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of(file)
    (tmp_path / "cache" / "known").chmod(0o770)
    assert [of(file), of(file)] == [("one", True)] * 2
    assert "must be yours and closed to others" in capsys.readouterr().err


def test_a_cache_that_cannot_be_made_costs_time_alone(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache").write_text("no folder")
    assert of(file) == ("one", True)
    assert "cannot be made" in capsys.readouterr().err
