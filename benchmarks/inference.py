"""`python -m benchmarks.inference`: what `super_resolve` costs over the bare network, what its options give, memory.

On the CPU, with random weights unless `--weights` names IMDN x4 ones (https://github.com/Zheng222/IMDN); time and
memory do not depend on them, the change of PSNR does.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

import sr_models
from benchmarks.timing import interleaved, machine, markdown, parser, ratio
from eval import PROTOCOLS, benchmarks
from eval.metrics.fidelity import psnr
from eval.metrics.scorer import Scorer
from eval.score import score_image
from sr_models.checkpoints.published import load_weights
from sr_models.inference.bound import Bound
from sr_models.inference.super_resolve import Options, super_resolve
from sr_models.networks.base import SRNetwork

SCALE = 4
OPTIONS = {
    "fp32": Options(),
    "fp32, channels_last": Options(channels_last=True),
    "fp32, compiled": Options(compile=True),
    "bf16": Options(precision="bf16"),
    "bf16, channels_last": Options(precision="bf16", channels_last=True),
    "bf16, channels_last, compiled": Options(precision="bf16", channels_last=True, compile=True),
}
MB = 1_000_000


@torch.no_grad()
def bare(net: SRNetwork, lr: Tensor) -> Tensor:
    """Nothing but the network."""
    sr: Tensor = net(lr)
    return sr


def overhead(lr: Tensor, rounds: int) -> str:
    """`super_resolve` beside a forward of the bare network."""
    rows = []
    for name in ("imdn", "edsr_baseline"):
        net = sr_models.build(name, SCALE).eval()
        assert isinstance(net, SRNetwork)
        seconds = interleaved({"bare": partial(bare, net, lr), "ours": partial(super_resolve, net, lr)}, rounds)
        medians = [f"{1000 * statistics.median(seconds[who]):.1f}" for who in ("bare", "ours")]
        rows.append([f"{name} x{SCALE}", *medians, f"{ratio(seconds['ours'], seconds['bare']):.3f}"])
    return markdown(["network", "bare forward, ms", "super_resolve, ms", f"ratio, median of {rounds} pairs"], rows)


def options(net: SRNetwork, lr: Tensor, rounds: int, set5: benchmarks.Benchmark | None) -> str:
    """Time and change of the picture by each option; of PSNR-Y too where Set5 and trained weights are there."""
    competitors = {name: partial(super_resolve, net, lr, options=how) for name, how in OPTIONS.items()}
    seconds = interleaved(competitors, rounds)
    whole, reference, rows = super_resolve(net, lr).sr, 0.0, []
    for name, how in OPTIONS.items():
        apart = psnr(super_resolve(net, lr, options=how).sr, whole, data_range=1.0, shave=0, luma=None).item()
        change = "-"
        if set5 is not None:
            scorer = Scorer(PROTOCOLS["classical"], ["psnr_y"], scale=SCALE, kernel=set5.kernel)
            scores = [score_image(net, set5, i, scorer=scorer, draws=1, options=how) for i in range(len(set5))]
            mean = statistics.mean(scored.row["psnr_y"] for scored in scores)
            reference = reference or mean
            change = f"{mean - reference:+.4f}"
        times = f"{1000 * statistics.median(seconds[name]):.1f}", f"{ratio(seconds[name], seconds['fp32']):.2f}"
        rows.append([name, *times, f"{apart:.1f}", change])
    return markdown(["imdn x4", "ms", "ratio to fp32", "PSNR to fp32's picture, dB", "PSNR-Y change on Set5, dB"], rows)


def memory(height: int, width: int, bounds: list[int | None], threads: int) -> str:
    """Peak memory of one picture in tiles, each bound in a process of its own."""
    rows = []
    for bound in bounds:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            tile, used, seconds = pool.apply(_one_picture, (height, width, bound, threads))
        asked = "none" if bound is None else f"{bound / MB:.0f}"
        rows.append([asked, tile or "whole", f"{used / MB:.0f}", f"{seconds:.1f}"])
    picture = 3 * 4 * width * height * SCALE**2 / MB
    title = f"imdn x4 to {width * SCALE}x{height * SCALE}, besides the {picture:.0f} MB of the picture itself"
    return f"{title}:\n\n" + markdown(["bound, MB", "tile, LR px", "peak, MB", "s"], rows)


def _one_picture(height: int, width: int, bound: int | None, threads: int) -> tuple[int | None, int, float]:
    """(tile, peak bytes of resident memory that were added, picture aside, seconds)."""
    torch.set_num_threads(threads)
    net, lr = sr_models.build("imdn", SCALE), torch.rand(1, 3, height, width)
    tile = None if bound is None else Bound.of(net, bound, tile_exact=False).tile(Options.overlap)
    super_resolve(net, lr[..., :16, :16])  # what libraries set up once
    before, start = _status("VmRSS"), time.perf_counter()
    sr = super_resolve(net, lr, options=Options(tile=tile)).sr
    return tile, _status("VmHWM") - before - sr.nbytes, time.perf_counter() - start


def _status(field: str) -> int:
    """Bytes of one line of Linux's account of this process: resident now (VmRSS), or at most so far (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(f"{field}:")))


def main() -> None:
    made: argparse.ArgumentParser = parser(__doc__.splitlines()[0])
    made.add_argument("--rounds", type=int, default=25, help="pairs of super_resolve and bare (default: %(default)s)")
    made.add_argument("--weights", type=Path, help="IMDN x4 weights, for the change of PSNR")
    made.add_argument("--no-compile", action="store_true", help="leave out the rows that need a compiler")
    given = made.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    if given.no_compile or given.quick:
        for name in [name for name, how in OPTIONS.items() if how.compile]:
            del OPTIONS[name]
    lr = torch.rand(1, 3, 16, 24) if given.quick else torch.rand(1, 3, 720 // SCALE, 1280 // SCALE)
    net, set5 = sr_models.build("imdn", SCALE), None
    assert isinstance(net, SRNetwork)
    if given.weights:
        loaded = load_weights(given.weights, model="imdn", scale=SCALE, hyper={})
        assert isinstance(loaded, SRNetwork)
        folder = given.data / "Set5" / f"X{SCALE}"
        net, set5 = loaded, benchmarks.load("Set5", SCALE, folder / "HR", folder / "LR")

    print(machine())
    print(overhead(lr, 2 if given.quick else given.rounds))
    print(options(net, lr, 2 if given.quick else 7, set5))
    size, bounds = (
        ((150, 200), [64 * MB, None]) if given.quick else ((750, 1000), [256 * MB, 512 * MB, 1024 * MB, None])
    )
    print(memory(*size, bounds, given.threads))


if __name__ == "__main__":
    main()
