"""`python -m benchmarks.degradation`: what making LR anew adds to a training step, patch by patch and beside IMDN's.

The sets of Real-ESRGAN (https://arxiv.org/abs/2107.10833), CCSR (https://arxiv.org/abs/2401.00877) and BSRGAN
(https://arxiv.org/abs/2103.14006). Seconds of CPU, by one thread: a degradation is numpy and scipy on the worker's CPU,
and a GPU waits for it.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import sr_models
from benchmarks.timing import interleaved_by, machine, markdown, parser, ratio
from orchestrator.data.build import build_store
from orchestrator.data.store import PatchStore
from orchestrator.plan.sources import ImageSource
from sr_models.hyper.degradation import NAMES, parse_degradation
from sr_models.images.matlab import resize

SCALE, BATCH = 4, 16
PLAIN, STEP = "the store's LR", "forward and backward pass of imdn"


def made_store(folder: Path) -> PatchStore:
    """Four smooth pictures of 384 HR pixels, and one for validation."""
    sources = {}
    for split, seeds in {"train": range(4), "validation": range(4, 5)}.items():
        (folder / split).mkdir()
        for seed in seeds:
            coarse = np.random.default_rng(seed).integers(0, 256, (48, 48, 3), dtype=np.uint8)
            Image.fromarray(resize(coarse, 8)).save(folder / split / f"{split}{seed}.png")
        sources[split] = [ImageSource(hr=str(folder / split))]
    return build_store(folder / "store", scale=SCALE, train=sources["train"], validation=sources["validation"])


def competitors(store: PatchStore, patch: int, batch_size: int) -> dict[str, Callable[[], object]]:
    """A step's batch with and without each set, and what IMDN does with one."""
    net = sr_models.build("imdn", SCALE)
    draw = partial(store.batch, seed=0, batch_size=batch_size, patch=patch)
    batch, steps = draw(step=0), iter(range(10**9))

    def step() -> None:
        (net(batch.lr) - batch.hr).abs().mean().backward()

    def make(name: str | None) -> object:
        how = None if name is None else parse_degradation({"set": name}, name)
        return draw(step=next(steps), degradation=how)

    return {PLAIN: partial(make, None), **{name: partial(make, name) for name in NAMES}, STEP: step}


def main() -> None:
    made = parser(__doc__.splitlines()[0])
    made.add_argument("--rounds", type=int, default=15, help="batches of each set (default: %(default)s)")
    made.add_argument("--patch", type=int, default=48, help="side in LR pixels (default: %(default)s)")
    given = made.parse_args()
    torch.set_num_threads(given.threads)
    patch, batch_size, rounds = (8, 2, 2) if given.quick else (given.patch, BATCH, given.rounds)
    with tempfile.TemporaryDirectory() as folder:
        store = made_store(Path(folder))
        seconds = interleaved_by(time.process_time, competitors(store, patch, batch_size), rounds)
    print(machine())
    heads = [f"x{SCALE}, {batch_size} patches of {patch} LR pixels", "ms of CPU a patch", "s a batch", "of imdn's step"]
    rows = []
    for name, taken in seconds.items():
        middle = statistics.median(taken)
        rows.append([name, f"{1000 * middle / batch_size:.1f}", f"{middle:.3f}", f"{ratio(taken, seconds[STEP]):.3f}"])
    print(markdown(heads, rows))


if __name__ == "__main__":
    main()
