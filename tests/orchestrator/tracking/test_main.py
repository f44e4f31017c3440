"""`python -m orchestrator.tracking`: one line for a folder or URI that cannot be used."""

from pathlib import Path

import pytest

from orchestrator.tracking.__main__ import main


def test_bad_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none"), "--tracking-uri", "sqlite:///x.db"]) == 2
    assert "is not a folder" in capsys.readouterr().err


def test_a_uri_is_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SR_TRACKING_URI", raising=False)
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == "python -m orchestrator.tracking: give --tracking-uri, or set SR_TRACKING_URI\n"
