"""A small sweep's YAML, written where a test can change it."""

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

BASE = """
name: base
models: [edsr_baseline, imdn]
objectives:
  l1:
  eco: {search: [target.length]}
teacher: {}
data:
  train: [{hr: a}]
  validation: [{hr: b}]
  test: {set5: {hr: "c/{scale}"}}
"""


@pytest.fixture
def write(tmp_path) -> Callable[..., Path]:
    """Writes sweep.yaml, with the text that is given or that of a small sweep, and more of it; returns its path."""

    def make(text: str = BASE, more: str = "") -> Path:
        path = tmp_path / "sweep.yaml"
        path.write_text(textwrap.dedent(text) + more)
        return path

    return make
