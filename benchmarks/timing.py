"""Timing that survives a busy machine: competitors take turns in one process, and each round gives one ratio. Ours."""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import torch

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def parser(description: str) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--quick", action="store_true", help="tiny settings: shows that it runs, measures nothing")
    made.add_argument("--threads", type=int, default=1, help="torch's threads (default: %(default)s)")
    made.add_argument("--data", type=Path, default=DATA, help="folder of Set5 and Set14 (default: %(default)s)")
    return made


def interleaved(competitors: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each competitor in each round, after one that does not count; every other round runs backwards."""
    return interleaved_by(time.perf_counter, competitors, rounds)


def interleaved_by(
    clock: Callable[[], float], competitors: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, list[float]]:
    """The same by another clock: `time.process_time` counts this process alone, on a machine with other work."""
    seconds: dict[str, list[float]] = {name: [] for name in competitors}
    for number in range(-1, rounds):
        for name in list(competitors)[:: 1 if number % 2 else -1]:
            start = clock()
            competitors[name]()
            if number >= 0:
                seconds[name].append(clock() - start)
    return seconds


def ratio(seconds: Sequence[float], reference: Sequence[float]) -> float:
    """Median over the rounds of seconds / reference."""
    return statistics.median(a / b for a, b in zip(seconds, reference, strict=True))


def markdown(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"


def machine() -> str:
    """What the numbers were measured on, in one line."""
    cpu = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = f"{len(names)} x {names[0]}" if names else cpu
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "scikit-image"))
    return f"{cpu}; Python {platform.python_version()}, {libraries}; torch uses {torch.get_num_threads()} thread(s)\n"
