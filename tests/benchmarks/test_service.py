"""The benchmark of the evaluation service plans what it will time."""

from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.service import planned
from orchestrator.evaluate.work import IMAGES_PER_UNIT
from orchestrator.run.access import LocalAccess


def test_every_picture_of_the_benchmark_is_in_one_unit(tmp_path: Path) -> None:
    images, count = tmp_path / "BSD80", IMAGES_PER_UNIT + 1
    images.mkdir()
    for i in range(count + 1):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (24, 24, 3), np.uint8)).save(images / f"{i}.png")
    units = planned(tmp_path / "net", images, count, LocalAccess(tmp_path / "run"))
    assert [len(unit.pictures) for unit in units] == [IMAGES_PER_UNIT, 1]
