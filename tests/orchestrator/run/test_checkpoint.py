"""Checkpoints are plain, whole or absent, and never executed."""

import os

import pytest
import torch

from orchestrator.run import checkpoint
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
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(torch, "save", half)
        checkpoint.save(path, {"step": 8})
    assert checkpoint.load(path)["step"] == 7
    checkpoint.save(path, {"step": 9})
    assert checkpoint.load(path) == {"step": 9} and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "flipped", "object"])
def test_what_is_no_plain_checkpoint_is_refused_by_name(tmp_path, damage):
    path = tmp_path / checkpoint.CHECKPOINT
    checkpoint.save(path, STATE)
    data = path.read_bytes()
    middle = len(data) // 2
    if damage == "object":
        torch.save({"step": Trap()}, path)
    else:
        path.write_bytes(
            {
                "empty": b"",
                "text": b"not a checkpoint",
                "cut": data[:middle],
                "flipped": data[: len(data) - 30] + bytes(b ^ 255 for b in data[-30:]),
            }[damage]
        )
    with pytest.raises(InputError) as caught:
        checkpoint.load(path)
    said = str(caught.value)
    assert said.startswith(f"{path}: not a readable checkpoint (") and said.endswith("); delete it to start over")
    assert "\n" not in said
