"""A trial's own record survives a crash in the middle of a line, and no damage is taken for a number."""

import json
import random

import pytest

from orchestrator.run.journal import Journal, end, notes, outcome, read, steps
from orchestrator.run.progress import say_once


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "journal.jsonl"
    assert read(path) == []
    journal = Journal(path)
    assert journal.last_step == 0 and end(journal.entries) is None
    journal.step(5, 10, {"psnr_y": 30.25, "train.loss": 0.1 + 0.2})
    journal.step(10, 10, {"psnr_y": 31.0})
    journal.end("failed", 10, "no memory\nat all")
    assert read(path) == journal.entries and len(path.read_text().splitlines()) == 3
    assert [(e["step"], e["of"]) for e in steps(read(path))] == [(5, 10), (10, 10)]
    assert steps(read(path))[0]["metrics"] == {"psnr_y": 30.25, "train.loss": 0.1 + 0.2}
    last = end(read(path))
    assert (last["status"], last["step"], last["cause"]) == ("failed", 10, "no memory\nat all")
    assert Journal(path).last_step == 10


@pytest.mark.parametrize("cut", ["{", '{"kind": "step", "st', '{"kind": "end", "status": "complete", "step": 9}'])
def test_a_line_cut_in_half_is_ignored_by_readers_and_dropped_by_the_next_writer(tmp_path, cut):
    path = tmp_path / "journal.jsonl"
    Journal(path).step(5, 10, {"a": 1.0})
    whole = path.read_bytes()
    path.write_bytes(whole + cut.encode())  # no newline: the crash came first
    assert [e["step"] for e in read(path)] == [5] and end(read(path)) is None
    again = Journal(path)
    assert path.read_bytes() == whole and again.last_step == 5
    again.step(10, 10, {"a": 2.0})
    assert [e["step"] for e in read(path)] == [5, 10]


def test_a_first_line_cut_in_half_leaves_an_empty_journal(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_text('{"kind": "st')
    assert read(path) == [] and Journal(path).entries == [] and path.read_bytes() == b""


def test_the_last_end_counts(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.step(5, 10, {})
    journal.end("stopped", 5)
    journal.step(10, 10, {})
    journal.end("complete", 10)
    assert end(read(journal.path))["status"] == "complete"


@pytest.mark.parametrize("sealed", [True, False])
def test_a_failure_says_its_kind_and_what_the_environment_did_can_be_reopened(tmp_path, sealed):
    path = tmp_path / "journal.jsonl"
    if not sealed:  # as earlier versions left it, which knew no kinds
        path.write_text('{"kind": "end", "status": "failed", "step": 5, "cause": "no memory", "time": 1.0}\n')
        assert outcome(read(path)).why == "numbers" and outcome(read(path)).is_final
    journal = Journal(path)
    journal.end("failed", 5, "no memory", "environment")
    ended = outcome(read(path))
    assert (ended.status, ended.why, ended.is_final) == ("failed", "environment", False)
    journal.reopen()
    assert outcome(read(path)) is None and not notes(read(path)), "what its driver says once stands in no note"
    journal.end("failed", 5, "the loss is not finite", "numbers")
    assert outcome(read(path)).is_final and len(read(path)) == len(journal.entries)
    journal.end("complete", 10)
    assert outcome(read(path)).why is None and "why" not in read(path)[-1]


@pytest.fixture
def finished(tmp_path):
    """A journal of five lines, the third of which ends the trial a first time."""
    journal = Journal(tmp_path / "journal.jsonl")
    for step in (5, 10):
        journal.step(step, 15, {"psnr_y": 30 + step / 7, "train.loss": float("nan")})
    journal.end("stopped", 10)
    journal.step(15, 15, {"psnr_y": 31.0})
    journal.end("complete", 15)
    return journal


def prefixes(entries):
    return [json.dumps(entries[:n]) for n in range(len(entries) + 1)]


def test_no_flipped_bit_is_accepted(finished, tmp_path):
    """Nor are two: what is read is what was written, up to some line."""
    data, sound = finished.path.read_bytes(), prefixes(finished.entries)
    rng = random.Random(11)
    for bits in ([n] for n in range(8 * len(data))):
        flipped = bytearray(data)
        for bit in {*bits, *rng.sample(range(8 * len(data)), rng.randrange(2))}:  # a bit flipped twice is none
            flipped[bit // 8] ^= 1 << bit % 8
        finished.path.write_bytes(flipped)
        found = read(finished.path)
        assert json.dumps(found) in sound[:-1], bits
        assert outcome(found) is None or outcome(found).status == "stopped", "its end is lost with what was before"


def lines_of(data):
    return data.splitlines(keepends=True)


DAMAGES = {  # what is done to a journal's lines -> the line that is named
    "garbled": (lambda a, b, c, d, e: (a, b"\x00\xff{not json\n", c, d, e), 2),
    "emptied": (lambda a, b, c, d, e: (a, b"\n", c, d, e), 2),
    "cut in its middle": (lambda a, b, c, d, e: (a, b[:40] + b"\n", c, d, e), 2),
    "cut with its end": (lambda a, b, c, d, e: (a, b[:40], c, d, e), 2),
    "lost": (lambda a, b, c, d, e: (a, c, d, e), 2),
    "the first one lost": (lambda a, b, c, d, e: (b, c, d, e), 1),
    "twice": (lambda a, b, c, d, e: (a, b, b, c, d, e), 3),
    "two of them moved": (lambda a, b, c, d, e: (a, b, d, c, e), 3),
    "without its checksum": (lambda a, b, c, d, e: (a, b, c, d, e[:-22] + b"}\n"), 5),
    "the first one without its checksum": (lambda a, b, c, d, e: (a[:-22] + b"}\n", b, c, d, e), 1),
    "of zeros": (lambda a, b, c, d, e: (a, b, c, bytes(4096), b"\n", e), 4),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_line_is_named_and_what_follows_is_dropped_by_the_next_writer(damage, finished, capsys):
    say_once.cache_clear()
    path, entries = finished.path, finished.entries
    change, line = DAMAGES[damage]
    path.write_bytes(b"".join(change(*lines_of(path.read_bytes()))))
    said = f"{path}, line {line}, is damaged"
    for _ in range(2):
        assert [e["step"] for e in read(path)] == [e["step"] for e in entries[: line - 1]]
    assert capsys.readouterr().err == f"{said}; it and what follows are left out\n"
    again = Journal(path)
    note = f"{said}: dropped with what follows, whose steps are computed again"
    assert capsys.readouterr().err == note + "\n" and notes(read(path)) == [note] == notes(again.entries)
    again.step(20, 20, {})
    assert [e["kind"] for e in read(path)] == [*(e["kind"] for e in entries[: line - 1]), "note", "step"]
    assert Journal(path).entries == again.entries and capsys.readouterr().err == ""


def test_a_worker_that_only_remembers_leaves_damage_alone(finished, capsys):
    data = finished.path.read_bytes()[:-40] + b"\n"
    finished.path.write_bytes(data)
    assert Journal(finished.path, None).last_step == 15
    assert finished.path.read_bytes() == data and capsys.readouterr().err == ""


def test_one_of_the_earlier_format_is_read_gone_on_with_and_said_once(finished, capsys):
    """Without checksums: a file of two formats could not tell a lost checksum from an earlier line."""
    say_once.cache_clear()
    path, entries = finished.path, finished.entries
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    assert json.dumps(read(path)) == json.dumps(Journal(path).entries) == json.dumps(entries)
    assert capsys.readouterr().err == "journals of an earlier format, without checksums, are read as they are\n"
    Journal(path).step(20, 20, {})
    assert "crc32" not in path.read_text() and [e["step"] for e in read(path)] == [5, 10, 10, 15, 15, 20]
    with path.open("a") as file:
        file.write('{"kind": "step", "step": 25\n')
    assert [e["step"] for e in read(path)] == [5, 10, 10, 15, 15, 20]
    assert capsys.readouterr().err == f"{path}, line 7, is damaged; it and what follows are left out\n"
