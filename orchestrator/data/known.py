"""What a start must know of test images: each file is decoded once for all scales, on all cores, and remembered."""

from __future__ import annotations

import functools
import os
import warnings
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from PIL import Image

from eval import benchmarks
from eval.benchmarks import Benchmark, Facts
from orchestrator.data.remembered import Look, Remembered
from sr_models import scales
from sr_models.errors import InputError
from sr_models.images import files, matlab, pairs

K = TypeVar("K")
MOST_THREADS = 8
"""At once, each with a decoded picture in memory."""


def with_facts(sets: Mapping[K, Benchmark]) -> dict[K, Benchmark]:
    """The same test sets with the facts of every image that can be read, as its files are now."""
    remembered = Remembered("tests", (files, matlab, pairs, benchmarks, scales), ("numpy", "pillow"))
    sets = {where: replace(bench, known={}) for where, bench in sets.items()}
    uses: dict[Path, list[tuple[K, int]]] = defaultdict(list)
    for where, bench in sets.items():
        for i, pair in enumerate(bench.pairs):
            uses[pair.hr].append((where, i))

    def facts(hr: Path) -> list[Facts | None]:
        """Of each use of an HR file; None of one that cannot be read or used."""
        look, whole = Look.at(hr), functools.cache(lambda: files.read_image(hr))

        def one(bench: Benchmark, i: int) -> Facts | None:
            lr = bench.pairs[i].lr
            looks = [look] if lr is None else [look, Look.at(lr)]
            what = f"x{bench.scale} {bench.kernel if lr is None else looks[-1].name}"
            try:
                made = remembered.of(looks, what, lambda: bench.facts(i, whole()).model_dump())
                return Facts.parse(made, str(hr))
            except InputError:  # whoever asks for this image reads it again, and is told
                return None

        return [one(sets[where], i) for where, i in uses[hr]]

    of_images: dict[K, dict[str, Facts]] = {where: {} for where in sets}
    pool = ThreadPoolExecutor(min(os.cpu_count() or 1, MOST_THREADS))
    try:
        with warnings.catch_warnings():  # for all threads: that of `read_image` is not one thread's alone
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            for hr, found in zip(uses, pool.map(facts, uses), strict=True):
                for (where, i), one in zip(uses[hr], found, strict=True):
                    if one is not None:
                        of_images[where][sets[where].pairs[i].name] = one
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupt waits for the pictures at hand, and not for all
    remembered.save()
    return {where: replace(bench, known=of_images[where]) for where, bench in sets.items()}
