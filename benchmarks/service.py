"""`python -m benchmarks.service`: what the evaluation service costs over the bare loop, and what a second worker gives.

The bare loop super-resolves and scores the same images in a warm process of the same environment and writes nothing.
Processes are started, and networks loaded, before the clock.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
import torch

import sr_models
from benchmarks.timing import interleaved, machine, markdown, parser, ratio
from cluster import ray_runtime
from eval import PROTOCOLS, benchmarks
from eval.rows import Identity, Subject
from orchestrator.evaluate import actors, work
from orchestrator.evaluate import service as scoring
from orchestrator.evaluate.pool import Pool
from orchestrator.evaluate.work import Job, Unit
from orchestrator.plan.sources import BenchmarkSource
from orchestrator.run.access import Access, LocalAccess
from orchestrator.run.folder import RunDir
from sr_models.checkpoints.folder import save_checkpoint
from sr_models.inference.super_resolve import Options

SCALE, MODEL = 2, "edsr_baseline"


class Bare(actors.ScoringWorker):
    """A process that only computes."""

    def loop(self, units: list[Unit]) -> None:
        for unit in units:
            bench, metrics = actors.benchmark_of(unit.job), self._metrics(unit.job)
            for picture in unit.pictures:
                self.image(unit.job, bench, picture, metrics)


def planned(folder: Path, images: Path, count: int, access: Access) -> list[Unit]:
    """Units of `count` images for a network with random weights."""
    net = sr_models.build(MODEL, SCALE)
    info = save_checkpoint(folder, net, model=MODEL, scale=SCALE, hyper={}, sigma=None, ema=False, fingerprint=None)
    names = tuple(path.name for path in sorted(images.glob("*.png"))[:count])
    bench = benchmarks.load("bench", SCALE, images, include=names)
    who = Identity("bench", MODEL, "-", "-", "-", SCALE, "", -1, "raw", MODEL)
    subject = Subject(
        identity=who,
        weights_sha256=info.weights_sha256,
        hyper=json.dumps(info.hyper, sort_keys=True),
        benchmark=bench.name,
        kernel=bench.kernel,
        protocol=PROTOCOLS["classical"].id(SCALE),
        seed=0,
        options=Options(),
    )
    source = BenchmarkSource(hr=str(images.absolute()), lr=None, include=names, exclude=())
    job = Job(
        subject=subject,
        checkpoint=str(folder),
        source=source,
        protocol=PROTOCOLS["classical"],
        metrics=("psnr_y", "ssim_y"),
        weights_dir=None,
    )
    [planned_job] = work.plan([job], {(bench.name, SCALE): bench}, access)
    return planned_job.units({}, {})


def main() -> None:
    made = parser(__doc__.splitlines()[0])
    made.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    given = made.parse_args()
    torch.set_num_threads(given.threads)
    count, rounds = (2 * work.IMAGES_PER_UNIT, 1) if given.quick else (6 * work.IMAGES_PER_UNIT, given.rounds)
    with tempfile.TemporaryDirectory(prefix="sr-bench-") as scratch:
        run = RunDir(Path(scratch) / "run")
        run.path.mkdir()
        run.config.write_text("# benchmarks.service\n")
        access = LocalAccess(run.path)
        units = planned(Path(scratch) / "net", given.data / "BSD80", count, access)
        with ray_runtime.connect(None, cpus=4):
            bare: Any = ray.remote(Bare).options(num_cpus=1).remote(access, given.threads, "cpu")
            workforce = scoring.Workforce(workers=2, cpus=1)
            pools = [Pool(scoring.starter(access, workforce, size), size, 0, lambda unit: unit) for size in (1, 2)]
            competitors = {
                "bare loop": lambda: ray.get(bare.loop.remote(units)),
                "service, 1 worker": lambda: pools[0].run(units, lambda _: None),
                "service, 2 workers": lambda: pools[1].run(units, lambda _: None),
            }
            time.sleep(5)  # what Ray still starts
            seconds = interleaved(competitors, rounds)
    print(machine())
    unit = statistics.median(seconds["bare loop"]) / len(units)
    print(f"{MODEL} x{SCALE}, {count} images of BSD80, {len(units)} units of {unit:.2f} s, 1 thread a worker:\n")
    print(markdown(["", "s, median"], [[name, f"{statistics.median(s):.2f}"] for name, s in seconds.items()]))
    over = ratio(seconds["service, 1 worker"], seconds["bare loop"])
    twice = ratio(seconds["service, 1 worker"], seconds["service, 2 workers"])
    print(f"service / bare loop: {over:.3f}; 1 -> 2 workers: {twice:.2f}x as fast (medians of {rounds} rounds)")


if __name__ == "__main__":
    main()
