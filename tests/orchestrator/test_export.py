"""A row's weights elsewhere: a folder that loads as it was, a file that loads as a released one."""

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.export import main
from orchestrator.run.winners import read_winners
from sr_models.checkpoints.folder import load_checkpoint
from sr_models.checkpoints.published import load_weights

ROW = "x2/edsr_baseline/l1"


def run(*words: object) -> int:
    return main([*map(str, words)])


def test_a_row_comes_out_as_a_folder_or_a_file_that_load_as_the_same_network(scored_run, tmp_path, capsys):
    [first, _] = read_winners(scored_run.winners)[ROW].fingerprints
    folder = scored_run.trial(first) / "model"
    net, info = load_checkpoint(folder)
    assert run(scored_run.path, "--row", ROW, "-o", tmp_path / "net") == 0
    assert str(folder) in capsys.readouterr().out
    assert {p.name for p in (tmp_path / "net").iterdir()} == {"model.safetensors", "model.json"}
    assert load_checkpoint(tmp_path / "net")[1] == info
    assert run(folder, "-o", tmp_path / "net.pth", "--format", "pth") == 0
    state = torch.load(tmp_path / "net.pth", weights_only=True)["params"]
    same = load_weights(tmp_path / "net.pth", model=info.model, scale=2, hyper=info.hyper)
    assert all(torch.equal(value, same.state_dict()[key]) for key, value in net.state_dict().items()) and state


def test_a_run_that_can_only_be_read_gives_its_weights(scored_run, tmp_path, refuse_writing):
    refuse_writing(scored_run.output, errno.EROFS)
    assert run(scored_run.path, "--row", ROW, "-o", tmp_path / "net") == 0
    assert load_checkpoint(tmp_path / "net")[1].model == "edsr_baseline"


def test_a_full_disk_is_the_targets_and_nothing_blocks_the_next_try(scored_run, tmp_path, monkeypatch, capsys):
    def full(source: Path, part: Path) -> None:
        part.write_bytes(b"half")
        if source.name == "model.json":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source), None, str(part))

    words = scored_run.path, "--row", ROW, "-o", tmp_path / "net"
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        assert run(*words) == 2
    assert capsys.readouterr().err.endswith(f": the disk of {tmp_path}/net is full (or your quota)\n")
    assert run(*words) == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="writes to a device that is always full")
def test_a_full_disk_is_known_behind_torchs_words(scored_run, tmp_path, monkeypatch, capsys):
    opened = Path.open

    def device(path: Path, mode: str = "r", **how: Any) -> Any:
        return opened(Path("/dev/full") if mode == "wb" else path, mode, **how)

    monkeypatch.setattr(Path, "open", device)
    assert run(scored_run.path, "--row", ROW, "-o", tmp_path / "net.pth", "--format", "pth") == 2
    assert "is full (or your quota)\n" in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["RUN", "-o", "net", "--format", "pth"], "--output: with --format pth a file such as model.pth, got 'net'"),
        (["RUN", "-o", "net.pth", "--format", "onnx"], "--output: with --format onnx a file such as model.onnx, got"),
        (["RUN", "-o", "."], "--output: . is there already; --overwrite replaces it"),
        (["RUN", "-o", "net", "--row", "x2/bicubic/-"], "--row: bicubic has no weights"),
        (["RUN", "-o", "net.pth", "--format", "pth", "--row", "x2/sr3/nutl"], "--format pth: sr3 draws from a noise"),
        (["gone", "-o", "net"], "'gone' is neither a run folder nor a checkpoint folder"),
    ],
)
def test_what_cannot_be_exported_is_one_line(words, said, scored_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(*(scored_run.path if word == "RUN" else word for word in words)) == 2
    assert said in capsys.readouterr().err and not list(tmp_path.iterdir())
