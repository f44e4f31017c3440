"""`python -m eval weights`: what is present, missing or corrupt, fetched where asked, refused in one line."""

import hashlib
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from eval.metrics import backbones
from eval.metrics.backbones import BACKBONES
from eval.weights_command import main

ALEX = "alexnet-owt-7be5be79.pth"
CONTENT = b"the right file" * 1000


def test_the_command_shows_present_missing_and_corrupt(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eval.weights_command.find_spec", lambda _: None)  # no pyiqa: its files are not needed
    assert main(["--weights-dir", str(weights)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"present  {ALEX} (lpips_alex; licence BSD-3-Clause)"
    assert lines[1].strip() == str(weights / ALEX)
    assert sum(line.startswith("present") for line in lines) == 6
    assert sum("only for the extra [pyiqa], which is not installed" in line for line in lines) == 3

    (tmp_path / ALEX).write_bytes(b"cut")
    assert main(["--weights-dir", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert (
        lines[0].startswith("corrupt") and f"is corrupt: its sha256 is {hashlib.sha256(b'cut').hexdigest()}" in lines[1]
    )
    assert lines[2].startswith("missing  vgg16-397923af.pth")
    assert f"put it into {str(tmp_path)!r}, sha256 {BACKBONES['vgg16-397923af.pth'].sha256}, from https" in lines[3]


def test_the_command_fetches(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    source, folder = tmp_path / "source", tmp_path / "weights"
    source.write_bytes(CONTENT)
    folder.mkdir()
    (folder / ALEX).write_bytes(b"cut")
    monkeypatch.setattr(backbones, "urlopen", urllib.request.urlopen)
    right = replace(BACKBONES[ALEX], sha256=hashlib.sha256(CONTENT).hexdigest(), url=source.as_uri())
    for name in [name for name in BACKBONES if name != ALEX]:
        monkeypatch.delitem(BACKBONES, name)
    monkeypatch.setitem(BACKBONES, ALEX, right)
    assert main(["--weights-dir", str(folder), "--fetch"]) == 0
    assert "(fetched)" in capsys.readouterr().out
    assert (folder / ALEX).read_bytes() == CONTENT
    (folder / ALEX).unlink()
    source.unlink()
    assert main(["--weights-dir", str(folder), "--fetch"]) == 1
    assert "could not be fetched" in capsys.readouterr().out


def test_the_command_refuses_what_it_cannot_use(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["--weights-dir", str(tmp_path / "nowhere")]) == 2
    assert main(["--fetsh"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("python -m eval weights: --weights-dir: folder")
    assert said[1] == "python -m eval weights: unrecognized arguments: --fetsh"
