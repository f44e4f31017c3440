"""`python -m benchmarks.centroids`: images a second of a worker that makes centroids, against the bare network.

A worker makes mu by `super_resolve`, D(mu) by MATLAB's bicubic, both in uint8, hashes them and writes them to tables
(`orchestrator.training.centroids`). Both run in this process, by one thread, on the same images in turn. Joining the
parts, which the driver does, is shown apart.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import sr_models
from benchmarks.timing import interleaved, machine, markdown, parser, ratio
from orchestrator.data.build import build_store
from orchestrator.plan.sources import ImageSource
from orchestrator.plan.teacher import TeacherConfig
from orchestrator.run.access import LocalAccess
from orchestrator.run.folder import STORES
from orchestrator.training import centroids, products
from sr_models.checkpoints.folder import save_checkpoint
from sr_models.images.operators import to_float

MODEL, SCALE = "edsr_baseline", 2
IMAGES, SIDE = 4, 512
"""Of random pixels, HR; a quarter of that many LR pixels each."""


def main() -> None:
    """Print one table."""
    given = parser(__doc__.splitlines()[0]).parse_args()
    torch.set_num_threads(1)
    count, side, rounds = (2, 96, 1) if given.quick else (IMAGES, SIDE, 5)
    hyper: dict[str, Any] = {"channels": 8, "blocks": 1} if given.quick else {}
    with tempfile.TemporaryDirectory(prefix="sr-centroids-") as scratch:
        run = Path(scratch) / "runs" / "run"
        run.mkdir(parents=True)
        (run / "config.yaml").touch()
        images = run / "images"
        images.mkdir()
        for i in range(count):
            pixels = np.random.Generator(np.random.Philox(i)).integers(0, 256, (side, side, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(images / f"{i}.png")
        access = LocalAccess(run)
        store = build_store(access.run.at(STORES), train=[ImageSource(hr=str(images))], validation=[], scale=SCALE)
        net = sr_models.build(MODEL, SCALE, **hyper).eval()
        info = save_checkpoint(
            run / "teacher", net, model=MODEL, scale=SCALE, hyper=hyper, sigma=None, ema=False, fingerprint=None
        )
        teacher = TeacherConfig()
        job = centroids.Job(
            access=access,
            checkpoint="teacher",
            name=teacher.centroids(info.weights_sha256),
            data_hash=store.data_hash,
            tile=None,
            tile_overlap=teacher.tile_overlap,
            device="cpu",
        )
        parts = products.parts_of(store)
        inputs = [to_float(lr) for lr in store._table(store.manifest.tables("train")[1]).images]

        @torch.no_grad()
        def bare() -> None:
            for lr_BCHW in inputs:
                net(lr_BCHW)

        def ours() -> None:
            for part in parts:
                products.make_part(job, part)

        seconds = interleaved({"bare": bare, "ours": ours}, rounds)
        began = time.perf_counter()
        products.join(job, access, store, parts)
        joined = time.perf_counter() - began
    rates = [f"{count / statistics.median(seconds[who]):.2f}" for who in ("bare", "ours")]
    what = f"{MODEL} x{SCALE}, {count} images of {side}x{side}"
    row = [what, *rates, f"{ratio(seconds['ours'], seconds['bare']):.3f}", f"{joined / count * 1000:.0f}"]
    cost = f"time ratio, median of {rounds} pairs"
    heads = ["teacher", "bare forward, images/s", "centroids, images/s", cost, "joining, ms an image"]
    print(markdown(heads, [row]))
    print(machine())


if __name__ == "__main__":
    main()
