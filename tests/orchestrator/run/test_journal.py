"""A trial's own record survives a crash in the middle of a line."""

import pytest

from orchestrator.run.journal import Journal, end, read, steps


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
