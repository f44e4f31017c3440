"""`python -m benchmarks.noise`: what drawing a loss's noise costs, one row a sample, by each way that there is.

He & Cheng (https://arxiv.org/abs/2201.10084) print 3 % of a step for their expectation loss, noise included. Medians of
interleaved rounds; ratios to what the project does (`SampleRng.noise`).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from benchmarks.timing import interleaved, machine, markdown, parser, ratio
from sr_models.rng import SampleRng

OURS = "torch, one generator seeded anew for each row (ours)"


def moved(rng: SampleRng, shape: tuple[int, ...], device: str) -> Tensor:
    """Drawn by numpy on the CPU and moved: what was done before."""
    return torch.from_numpy(rng.normal("loss_noise", shape)).to(device)


def generator_each(count: int, shape: tuple[int, ...], device: str) -> Tensor:
    """A torch generator made for each row."""
    z = torch.empty((count, *shape), device=device)
    for i, row in enumerate(z):
        row.normal_(generator=torch.Generator(device).manual_seed(2**40 + i))
    return z


def at_once(count: int, shape: tuple[int, ...], device: str) -> Tensor:
    """All rows by one generator: the least it can cost, and row i then depends on the batch."""
    return torch.randn((count, *shape), device=device, generator=torch.Generator(device).manual_seed(2**40))


def waiting(draw: Callable[[], Tensor], device: str) -> None:
    """Draw, and wait until it is there."""
    draw()
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def main() -> None:
    made = parser(__doc__.splitlines()[0])
    made.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: %(default)s)")
    args = made.parse_args()
    torch.set_num_threads(args.threads)
    count, side, rounds = (2, 8, 2) if args.quick else (16, 192, 31)
    shape = (3, side, side)
    rng = SampleRng(1, 2, np.arange(count))
    draws: dict[str, Callable[[], Tensor]] = {
        "numpy on the CPU, then moved (before)": partial(moved, rng, shape, args.device),
        "torch, a generator for each row": partial(generator_each, count, shape, args.device),
        OURS: partial(rng.noise, "loss_noise", shape, args.device),
        "torch, all rows at once (depends on the batch)": partial(at_once, count, shape, args.device),
    }
    seconds = interleaved({name: partial(waiting, draw, args.device) for name, draw in draws.items()}, rounds)
    print(machine())
    heads = [f"{count}x3x{side}x{side} on {args.device}", "ms", f"ratio, median of {rounds} rounds"]
    rows = [[n, f"{1000 * statistics.median(s):.2f}", f"{ratio(s, seconds[OURS]):.2f}"] for n, s in seconds.items()]
    print(markdown(heads, rows))


if __name__ == "__main__":
    main()
