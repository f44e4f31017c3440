"""Files appear whole or not at all, whatever ends the writer; a held folder makes the next builder wait."""

import errno
import os
import shutil
import threading
from functools import partial
from pathlib import Path

import filelock
import pytest

from sr_models import files, yaml_text
from sr_models.checkpoints.published import load_weights
from sr_models.errors import DiskFullError, InputError
from sr_models.files import (
    LOCK,
    full_disk,
    locked,
    read_json,
    replacing,
    unreadable,
    unwritable,
    write_json,
    write_text,
    writing,
)
from sr_models.images.files import read_image, sha256_file


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_file_takes_its_place_when_the_block_ends_well(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with replacing(path) as part:
        part.write_text("one")
        assert not path.exists() and part.parent == path.parent, "a rename on one disk"
    assert path.read_text() == "one"
    with replacing(path) as part:
        part.write_text("two")
        assert path.read_text() == "one"
    assert path.read_text() == "two" and names(path.parent) == ["file.txt"]


def test_of_a_disk_that_goes_away_the_first_error_is_told(tmp_path, refuse_writing):
    with pytest.raises(ValueError, match="ours"), replacing(tmp_path / "file.txt") as part:
        part.write_text("half")
        refuse_writing(tmp_path, errno.EROFS)
        raise ValueError("ours")


@pytest.mark.parametrize("error", [ValueError("ours"), KeyboardInterrupt()])
def test_a_block_that_fails_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(type(error)), replacing(path) as part:
        part.write_text("half")
        raise error
    assert path.read_text() == "old" and names(tmp_path) == ["file.txt"]


def test_a_block_that_writes_nothing_is_a_mistake(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "file.txt"):
        pass
    assert names(tmp_path) == []


def test_two_writers_do_not_mix(tmp_path):
    path = tmp_path / "file.txt"
    with replacing(path) as one, replacing(path) as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one", "the last that ends"


def test_one_builder_holds_a_folder_at_a_time(tmp_path):
    folder, order, waiting = tmp_path / "deep" / "store", [], threading.Event()

    def build():
        waiting.set()
        with locked(folder):
            order.append("second")

    with locked(folder):
        second = threading.Thread(target=build)
        second.start()
        assert waiting.wait(10)
        with pytest.raises(filelock.Timeout):
            filelock.FileLock(folder / LOCK).acquire(timeout=0)
        order.append("first")
    second.join(10)
    assert order == ["first", "second"]


def test_a_folder_is_let_go_when_its_builder_fails(tmp_path):
    with pytest.raises(ValueError), locked(tmp_path):
        raise ValueError
    with filelock.FileLock(tmp_path / LOCK).acquire(timeout=0):
        pass


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    said = r"^store .*/file/store cannot be written: Not a directory$"
    with pytest.raises(InputError, match=said), locked(tmp_path / "file" / "store"):
        pass


def test_json_to_the_byte_and_back(tmp_path):
    path, value = tmp_path / "new" / "x.json", {"b": [1, 2.5, None], "a": "é"}
    write_json(path, value)
    assert path.read_text(encoding="utf-8") == '{\n "b": [\n  1,\n  2.5,\n  null\n ],\n "a": "\\u00e9"\n}\n'
    assert read_json(path) == value


def test_what_json_cannot_hold_leaves_what_was_there(tmp_path):
    write_json(tmp_path / "x.json", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "x.json", Path("x"))
    assert read_json(tmp_path / "x.json") == 1 and names(tmp_path) == ["x.json"]


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\xff\xfe{}", b"\x00"])
def test_what_is_not_json_is_one_line_with_the_files_name(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_json(path)
    assert str(caught.value).startswith(f"{path} is not JSON (") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("pipe", "cannot be read: not a regular file"),
        ("folder", "cannot be read: not a regular file"),
        ("gone", "no such file, or a link to none"),
        ("link", "no such file, or a link to none"),
        ("caf\udce9", "its name is not UTF-8; rename it"),
        ("a\0b", "cannot be read: embedded null byte"),
    ],
)
def test_what_must_not_be_opened_is_refused_in_one_word_by_whoever_reads_files_of_others(tmp_path, name, why):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    path = tmp_path / name
    assert unreadable(path) == why
    readers = [yaml_text.read, read_image, sha256_file]
    if name != "folder":  # one of ours, of which more is said
        readers.append(partial(load_weights, model="imdn", scale=2, hyper={}))
    for reader in readers:
        with pytest.raises(InputError) as caught:
            reader(path)
        assert str(caught.value).endswith(f": {why}")
    path = tmp_path / "file"
    path.touch()
    assert unreadable(path) is None


def test_text_is_utf8(tmp_path):
    write_text(tmp_path / "x.txt", "σ ≈ 1\n")
    assert (tmp_path / "x.txt").read_bytes() == "σ ≈ 1\n".encode()


def no_room(code: int = errno.ENOSPC) -> OSError:
    return OSError(code, os.strerror(code))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named_by_the_folder_that_was_written(tmp_path, code):
    with pytest.raises(OSError) as caught, replacing(tmp_path / "new" / "file.txt"):
        raise no_room(code)
    assert str(full_disk(caught.value, ())) == f"the disk of {tmp_path / 'new'} is full (or your quota)"
    assert names(tmp_path / "new") == []


def test_of_a_copy_the_full_disk_is_the_targets(tmp_path):
    said = rf"^the disk of {tmp_path}/to is full \(or your quota\)$"
    with pytest.raises(DiskFullError, match=said), writing(tmp_path / "to", "-o"):
        raise OSError(errno.ENOSPC, "No space left on device", "/from/a", None, str(tmp_path / "to/a"))


@pytest.mark.parametrize("text", ["database or disk is full", "I/O error: No space left on device (os error 28)"])
def test_a_full_disk_is_known_behind_what_others_say(tmp_path, monkeypatch, text):
    monkeypatch.setattr(files, "_room", lambda folder: 0 if folder == tmp_path / "full" else 2**40)
    try:
        try:
            raise RuntimeError(text)
        except RuntimeError:
            raise ValueError("a library's own words")  # noqa: B904  # as libraries do
    except ValueError as error:
        found = full_disk(error, (tmp_path / "empty", tmp_path / "full"))
    assert str(found) == f"the disk of {tmp_path / 'full'} is full (or your quota)"
    assert str(full_disk(no_room(), (tmp_path,))) == f"the disk of {tmp_path} is full (or your quota)"


def test_another_error_is_no_full_disk(tmp_path):
    assert full_disk(PermissionError(errno.EACCES, "Permission denied"), (tmp_path,)) is None
    with pytest.raises(OSError, match=r"^it was replaced while it was read$"), replacing(tmp_path / "file.txt"):
        raise OSError("it was replaced while it was read")
    assert files._room(tmp_path / "not" / "there") > 0


def test_what_cannot_be_written_is_one_line(tmp_path, refuse_writing):
    refuse_writing(tmp_path, errno.EROFS)
    said = rf"^-o: {tmp_path}/new cannot be written \(Read-only file system\)$"
    with pytest.raises(InputError, match=said), writing(tmp_path / "new", "-o"):
        write_text(tmp_path / "new" / "file.txt", "text")
    with pytest.raises(ValueError, match="ours"), writing(tmp_path / "new", "-o"):
        raise ValueError("ours")


def test_what_could_not_be_read_meanwhile_is_said_by_its_own_name(tmp_path):
    out, lost = tmp_path / "new", tmp_path / "lost"
    with pytest.raises(InputError) as caught, writing(out, "-o"), replacing(out / "file") as part:
        shutil.copyfile(lost, part)
    assert str(caught.value) == f"{lost}: No such file or directory"
    out.rmdir()
    out.symlink_to(tmp_path / "nowhere" / "file")
    for path in (out, out / "file"):
        with pytest.raises(InputError, match=rf"^-o: {path} cannot be written \("), writing(path, "-o"):
            path.write_text("text")


def test_a_folder_that_could_not_be_written_is_known_before(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    assert unwritable(tmp_path / "new" / "deep", "-o") is None and not (tmp_path / "new").exists()
    assert unwritable(tmp_path / "file" / "new", "-o") == f"-o: {tmp_path}/file/new cannot be written (Not a directory)"
    monkeypatch.setattr(os, "access", lambda place, mode: mode == os.F_OK and Path(place) == tmp_path)
    assert unwritable(tmp_path / "new", "-o") == f"-o: {tmp_path}/new cannot be written (Permission denied)"
