"""`python -m benchmarks.step_cost`: what an objective adds to a plain step: batch, backward and Adam.

The step is the trial's: the patch store's batch, the objective's `updates()`, an optimiser each. ECO
(https://arxiv.org/abs/2312.17526) reads four images where L1 reads two, the expectation loss draws noise, and the sigma
branch (https://arxiv.org/abs/2201.10084) adds the multiply-adds that it has, forward and backward. With `--family
diffusion` the plain step is ddpm's: DREAM (https://arxiv.org/abs/2312.00210) adds a forward pass, and CCSR's jump
(https://arxiv.org/abs/2401.00877) two passes with their backward ones.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

import sr_models
from benchmarks.timing import interleaved, machine, markdown, parser
from objectives import RECIPES, resolve
from orchestrator.data.build import build_store
from orchestrator.data.store import PatchStore
from orchestrator.plan.cost import forwards
from orchestrator.plan.sources import ImageSource
from orchestrator.plan.train import TrainConfig
from orchestrator.plan.trial import TrialConfig
from orchestrator.training.network import build_network, build_objective, prepare
from orchestrator.training.optimisers import steppers
from sr_models.hyper.process import ProcessParams
from sr_models.hyper.sampling import Sampling
from sr_models.rng import SampleRng

SCALE = 2
SMALL_SR3 = {"channels": 32, "mults": (1, 2, 4), "attention": (), "blocks": 1, "dropout": 0.0, "groups": 8}
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "regression": ("edsr_baseline", {}), "diffusion": ("sr3", SMALL_SR3)
}  # fmt: skip
OBJECTIVES = {
    "regression": ("l1", "eco", "expectation_only", "l1+aux", "expectation"),
    "diffusion": ("ddpm", "dream", "nutl", "dream+nutl"),
}
"""The first of each family is what the others are compared with."""
TEACHER = "5" * 64
SIDE = 256
"""Of a training image in HR pixels."""


class Training:
    """One network under one objective: each call is a step, at and after the middle of its run."""

    def __init__(self, objective: str, store: PatchStore, train: TrainConfig, device: str) -> None:
        spec, noise = RECIPES[objective], dict[str, Any]()
        if spec.timesteps is not None:
            noise = {"process": ProcessParams(), "sampling": Sampling()}
        if spec.timesteps is not None and spec.timesteps.terminal is not None:
            spec = resolve({"recipe": objective, "timesteps.terminal": {"weight": "alpha_bar"}})
        model, hyper = NETWORKS[spec.loss.family]
        config = TrialConfig(
            model=model, scale=SCALE, hyper=hyper, objective=spec, train=train, seed=0, protocol="classical",
            metrics=("psnr_y",), data_hash=store.data_hash, teacher=TEACHER if "mu" in spec.needs else None, **noise,
        )  # fmt: skip
        torch.manual_seed(0)
        self.config, self.store, self.device, self.number = config, store, torch.device(device), train.steps // 2
        self.net = build_network(config)
        prepare(self.net, config, None, self.device)
        self.steppers = steppers(build_objective(config).updates(), train, self.net)

    def __call__(self) -> None:
        train, progress = self.config.train, self.number / (self.config.train.steps - 1)
        batch = self.store.batch(
            seed=0, step=self.number, batch_size=train.batch_size, patch=train.patch, teacher=self.config.teacher,
            device=self.device,
        )  # fmt: skip
        self.net.train()
        for stepper in self.steppers:
            stepper.clear()
            terms = stepper.loss(self.net, batch, progress, SampleRng(batch.seed, batch.step, batch.sample_ids))
            stepper.backward(terms.per_sample.mean())
            stepper.step(self.number)
        self.number += 1
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    @property
    def multiply_adds(self) -> float:
        """Of a step per LR pixel, the branch included, where a backward pass is two forward ones."""
        config, sigma = self.config, self.config.objective.sigma
        width = sigma.width if sigma else None
        return forwards(config.objective) * sr_models.multiply_adds(
            config.model, SCALE, config.hyper, sigma_width=width
        )


def made_store(folder: Path) -> PatchStore:
    """Eight pictures of noise, with centroids of a teacher that repeats pixels."""
    draw = np.random.Generator(np.random.Philox(0))
    sources = {}
    for split, count in {"train": 8, "validation": 1}.items():
        (folder / split).mkdir()
        for i in range(count):
            Image.fromarray(draw.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)).save(folder / split / f"{i}.png")
        sources[split] = [ImageSource(hr=str(folder / split))]
    store = build_store(folder / "store", scale=SCALE, train=sources["train"], validation=sources["validation"])
    by = store.centroids_by(lambda lr: functional.interpolate(lr, scale_factor=float(SCALE)))
    store.add_centroids(TEACHER, by)
    return store


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Of their median, with 95 % confidence or more, whatever they follow: two order statistics (the ends below 6)."""
    ordered, count = sorted(values), len(values)
    below = [sum(math.comb(count, i) for i in range(k)) / 2**count for k in range(count // 2 + 1)]
    first = max([k for k, chance in enumerate(below) if 0 < chance <= 0.025], default=1)
    return ordered[first - 1], ordered[count - first]


def table(family: str, store: PatchStore, train: TrainConfig, rounds: int, device: str) -> str:
    """Seconds of a step under each objective, and how they compare with the family's plain one of the same round."""
    trained, plain = {name: Training(name, store, train, device) for name in OBJECTIVES[family]}, OBJECTIVES[family][0]
    seconds, rows = interleaved(trained, rounds), []
    for name, training in trained.items():
        ratios = [a / b for a, b in zip(seconds[name], seconds[plain], strict=True)]
        low, high = interval(ratios)
        arithmetic = training.multiply_adds / trained[plain].multiply_adds
        measured = f"{statistics.median(ratios):.3f} ({low:.3f} to {high:.3f})"
        rows.append([name, f"{1000 * statistics.median(seconds[name]):.0f}", measured, f"{arithmetic:.3f}"])
    return markdown(
        ["objective", "ms a step", f"ratio to {plain}, median of {rounds} rounds", "by multiply-adds"], rows
    )


def main() -> None:
    made = parser(__doc__.splitlines()[0])
    made.add_argument("--rounds", type=int, default=21, help="steps of each objective (default: %(default)s)")
    made.add_argument("--batch-size", type=int, default=16, help="default: %(default)s")
    made.add_argument("--patch", type=int, default=48, help="side in LR pixels (default: %(default)s)")
    made.add_argument("--family", choices=OBJECTIVES, default="regression", help="default: %(default)s")
    made.add_argument("--device", default="cpu", help="default: %(default)s")
    given = made.parse_args()
    torch.set_num_threads(given.threads)
    size = {"batch_size": 2, "patch": 8} if given.quick else {"batch_size": given.batch_size, "patch": given.patch}
    train = TrainConfig(steps=1000, **size)
    with tempfile.TemporaryDirectory() as folder:
        made_table = table(
            given.family, made_store(Path(folder)), train, 3 if given.quick else given.rounds, given.device
        )
    print(machine())
    print(
        f"{NETWORKS[given.family][0]} x{SCALE} on {given.device}, {train.batch_size} LR patches of {train.patch} px:\n"
    )
    print(made_table)


if __name__ == "__main__":
    main()
