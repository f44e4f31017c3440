"""A start decodes each picture file of its test sets once, and the next start none; what is known is what is read."""

import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval import benchmarks
from eval.benchmarks import Benchmark
from orchestrator.data import known, remembered
from orchestrator.data.known import with_facts
from orchestrator.evaluate import work
from orchestrator.run.access import LocalAccess
from sr_models.images import files
from sr_models.images.matlab import downscale, modcrop

SCALES = (2, 3, 4)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (25, 38, 3), np.uint8)


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, int], Benchmark]:
    """Two pictures at three scales, in one set with LR made, in another with LR files; a cache of this test's own."""
    monkeypatch.setenv("SR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remembered, "SETTLED_NS", 0)
    made = {}
    for seed, name in enumerate(("a.png", "b.png")):
        save(tmp_path / "hr" / name, picture(seed))
        for scale in SCALES:
            save(tmp_path / f"lr{scale}" / name, downscale(modcrop(picture(seed), scale), scale))
    for scale in SCALES:
        made["made", scale] = benchmarks.load("made", scale, tmp_path / "hr")
        made["files", scale] = benchmarks.load("files", scale, tmp_path / "hr", tmp_path / f"lr{scale}")
    return made


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each picture file was decoded, by its folder and name."""
    found, read = Counter[str](), files.read_image

    def counted(path: Path) -> np.ndarray:
        found[f"{path.parent.name}/{path.name}"] += 1
        return read(path)

    for module in (files, benchmarks):
        monkeypatch.setattr(module, "read_image", counted)
    return found


def test_each_file_is_decoded_once_for_all_scales_and_sets_and_then_no_more(
    sets: dict[tuple[str, int], Benchmark], decoded: Counter[str], tmp_path: Path
) -> None:
    folders = ["hr", *(f"lr{scale}" for scale in SCALES)]
    plain = {where: bench.hash for where, bench in sets.items()}
    decoded.clear()
    for _ in range(2):  # by the hashes of plan.json, and the names of measurements
        assert {where: bench.hash for where, bench in with_facts(sets).items()} == plain
        work.plan([], sets, LocalAccess(tmp_path))
        assert decoded == {f"{folder}/{name}": 1 for folder in folders for name in ("a.png", "b.png")}
    time.sleep(0.02)
    save(tmp_path / "hr" / "b.png", picture(2))
    save(tmp_path / "lr3" / "a.png", np.zeros((8, 12, 3), np.uint8))
    decoded.clear()
    changed = {where: bench.hash for where, bench in with_facts(with_facts(sets)).items()}
    assert set(decoded) == {"hr/a.png", "hr/b.png", *(f"{folder}/b.png" for folder in folders), "lr3/a.png"}
    assert changed == {where: bench.hash for where, bench in fresh(sets).items()}
    assert all(changed[where] != plain[where] for where in sets)


def fresh(sets: dict[tuple[str, int], Benchmark]) -> dict[tuple[str, int], Benchmark]:
    """The same sets, of which nothing was asked yet."""
    return {
        where: Benchmark(name=bench.name, scale=bench.scale, kernel=bench.kernel, pairs=bench.pairs)
        for where, bench in sets.items()
    }


def test_what_is_known_is_what_reading_finds(sets: dict[tuple[str, int], Benchmark]) -> None:
    for found in (with_facts(sets), with_facts(sets)):
        for where, bench in found.items():
            assert bench.known == sets[where].all_facts and list(bench.known) == ["a", "b"]


def test_an_image_that_cannot_be_used_is_known_where_it_can(
    sets: dict[tuple[str, int], Benchmark], tmp_path: Path
) -> None:
    save(tmp_path / "hr" / "a.png", picture(0)[:3])
    (tmp_path / "lr2" / "b.png").write_bytes(b"no picture")
    found = {where: list(bench.known) for where, bench in with_facts(sets).items()}
    assert found == {
        ("made", 2): ["a", "b"], ("made", 3): ["a", "b"], ("made", 4): ["b"],
        ("files", 2): [], ("files", 3): ["b"], ("files", 4): ["b"],
    }  # fmt: skip


def test_pictures_are_decoded_side_by_side(
    sets: dict[tuple[str, int], Benchmark], monkeypatch: pytest.MonkeyPatch
) -> None:
    both, read = threading.Barrier(2, timeout=30), files.read_image
    monkeypatch.setattr(known.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(files, "read_image", lambda path: both.wait() is None or read(path))
    assert len(with_facts({"toy": sets["made", 2]})["toy"].known) == 2
