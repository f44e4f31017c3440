"""Checkpoints are plain, whole or absent, and never executed; no damage is ever taken for weights."""

import os
import random

import pytest
import torch

from orchestrator.run import checkpoint
from orchestrator.run.progress import say_once
from sr_models.errors import InputError


class Trap:
    """Would run a command if it were unpickled."""

    def __reduce__(self):
        return os.system, ("exit 3",)


STATE = {
    "step": 7, "seconds": 0.1, "ema": None, "sums": {"loss": torch.tensor(0.1)},
    "optimizer": {"state": {0: {"exp_avg": torch.arange(12.0).view(3, 4) / 7}}, "param_groups": [{"lr": 1e-3}]},
}  # fmt: skip


def test_a_state_comes_back_bit_for_bit(tmp_path):
    path = tmp_path / checkpoint.CHECKPOINT
    assert checkpoint.load(path) is None
    checkpoint.save(path, STATE)
    found = checkpoint.load(path)
    assert torch.equal(found["optimizer"]["state"][0]["exp_avg"], STATE["optimizer"]["state"][0]["exp_avg"])
    assert (found["step"], found["seconds"], found["ema"]) == (7, 0.1, None)
    assert found["optimizer"]["param_groups"] == [{"lr": 1e-3}]
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_state(tmp_path, monkeypatch):
    path = tmp_path / checkpoint.CHECKPOINT
    checkpoint.save(path, STATE)

    def half(_state, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(torch, "save", half)
        checkpoint.save(path, {"step": 8})
    assert checkpoint.load(path)["step"] == 7
    checkpoint.save(path, {"step": 9})
    assert checkpoint.load(path) == {"step": 9} and checkpoint.load(tmp_path / checkpoint.BEFORE)["step"] == 7
    assert sorted(tmp_path.iterdir()) == [tmp_path / checkpoint.BEFORE, path]


@pytest.mark.parametrize("damage", ["text", "cut", "no hash", "written by others", "object", "object with a hash"])
def test_what_is_no_whole_checkpoint_is_refused_by_name(tmp_path, damage):
    path = tmp_path / checkpoint.CHECKPOINT
    checkpoint.save(path, STATE)
    data = path.read_bytes()
    if damage == "object":
        torch.save({"step": Trap()}, path)
    elif damage == "object with a hash":
        checkpoint.save(path, {"step": Trap()})
    elif damage == "written by others":  # a weight changed by hand: a state of ours without its hash
        state = torch.load(path, weights_only=True)
        state["optimizer"]["state"][0]["exp_avg"][0, 0] += 1
        torch.save(state, path)
    else:
        path.write_bytes({"text": b"not a checkpoint", "cut": data[: len(data) // 2], "no hash": data[:-64]}[damage])
    with pytest.raises(InputError) as caught:
        checkpoint.load(path)
    assert str(caught.value).startswith(f"{path} is damaged: ") and "\n" not in str(caught.value)


def test_no_flipped_bit_and_no_cut_is_accepted(tmp_path):
    path, rng = tmp_path / checkpoint.CHECKPOINT, random.Random(11)
    checkpoint.save(path, STATE)
    data = path.read_bytes()
    known = data.index(b"sr checkpoint ended by its sha256")  # what tells our format and its end: every bit of them
    bits = {*range(8 * known, 8 * (known + 33)), *range(8 * len(data) - 8 * 64, 8 * len(data))}
    bits |= set(rng.sample(range(8 * len(data)), 300))
    for bit in bits:
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises(InputError, match="is damaged"):
            checkpoint.load(path)
    for size in (0, 1, 63, 64, 65, *rng.sample(range(len(data)), 100), len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(InputError, match="is damaged"):
            checkpoint.load(path)


def test_the_last_sound_one_of_two_is_taken_and_the_others_are_named(tmp_path):
    last, before = tmp_path / checkpoint.CHECKPOINT, tmp_path / checkpoint.BEFORE
    assert checkpoint.newest(tmp_path) == (None, {})
    for step in (3, 6, 9):
        checkpoint.save(last, {"step": step})
    assert checkpoint.newest(tmp_path) == ({"step": 9}, {})
    whole = last.read_bytes()
    last.write_bytes(whole[:1000])
    assert checkpoint.newest(tmp_path) == (
        {"step": 6},
        {last: f"{last} is damaged: its bytes are not those that were written"},
    )
    last.unlink()  # a kill between the two renames of a save
    assert checkpoint.newest(tmp_path) == ({"step": 6}, {})
    last.write_bytes(whole)

    def check(path, state):
        if state["step"] > 7:
            raise InputError(f"{path} has come too far")

    assert checkpoint.newest(tmp_path, check=check) == ({"step": 6}, {last: f"{last} has come too far"})
    before.write_bytes(b"")
    found, passed_over = checkpoint.newest(tmp_path, check=check)
    assert found is None and list(passed_over) == [last, before]


def test_one_of_the_earlier_format_is_read_and_said_once(tmp_path, capsys):
    say_once.cache_clear()
    path = tmp_path / checkpoint.CHECKPOINT
    torch.save(STATE, path)
    for _ in range(2):
        assert checkpoint.load(path)["step"] == 7
    said = "checkpoints of an earlier format, without checksums, are read as they are\n"
    assert capsys.readouterr().err == said
    checkpoint.save(path, STATE)
    assert checkpoint.newest(tmp_path)[0]["step"] == 7 and capsys.readouterr().err == ""
    data = path.with_name(checkpoint.BEFORE).read_bytes()
    for size in range(0, len(data), 97):
        path.write_bytes(data[:size])
        with pytest.raises(InputError, match="is damaged: not a readable checkpoint"):
            checkpoint.load(path)
