"""The benchmark of centroids runs; what it measures is in benchmarks/RESULTS.md."""

import sys

import pytest
import torch

from benchmarks import centroids


@pytest.mark.slow
def test_it_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    monkeypatch.setattr(sys, "argv", ["centroids", "--quick"])
    try:
        centroids.main()
    finally:
        torch.set_num_threads(threads)
    assert "edsr_baseline x2, 2 images of 96x96" in capsys.readouterr().out
