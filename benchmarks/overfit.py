"""`python -m benchmarks.overfit`: does a small denoiser learn what it is shown? Eight patches by heart, over steps.

The patches are those of scikit-image's photographs on which bicubic enlargement (x4) does worst. An SR3 that predicts
x0 is trained on them, their flips and turns by the loop that sweeps use, then draws each in 50 steps: from its own LR,
and from another patch's, which it must not be able to.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import skimage
import torch
from PIL import Image
from torch import Tensor

import sr_models
from benchmarks.timing import machine, parser
from objectives import resolve
from orchestrator.data.build import build_store
from orchestrator.plan.sources import ImageSource
from orchestrator.plan.train import TrainConfig
from orchestrator.plan.trial import TrialConfig
from orchestrator.training.loop import run_trial
from sr_models.checkpoints.folder import load_checkpoint
from sr_models.hyper.process import ProcessParams
from sr_models.hyper.sampling import Sampling
from sr_models.images.files import read_image
from sr_models.images.matlab import downscale
from sr_models.images.operators import to_float
from sr_models.inference.super_resolve import Options, super_resolve

SCALE, SIDE = 4, 32
PHOTOGRAPHS = {"coffee.png": 3, "motorcycle_left.png": 3, "astronaut.png": 2}
"""How many patches of each."""
WORST_BICUBIC = 22.0
"""dB that bicubic enlargement reaches at most on each patch."""
KEPT = (0.125, 0.25, 0.5)
"""Fractions of the run after which weights are kept, beside the end."""
HYPER = {"channels": 16, "mults": (1, 2, 4), "attention": (2,), "blocks": 1, "dropout": 0.0, "groups": 8}
SAMPLING = Sampling(steps=50)


def main() -> None:
    """Train from each seed and print PSNR (RGB) over steps, with its own LR and with another's."""
    options = parser(__doc__)
    options.add_argument("--steps", type=int, default=2000)
    options.add_argument("--seeds", type=int, default=3)
    args = options.parse_args()
    torch.set_num_threads(args.threads)
    steps, seeds = (20, 1) if args.quick else (args.steps, args.seeds)
    print(machine())
    hr = patches()
    bicubic = _psnr(super_resolve(sr_models.build("bicubic", SCALE), _lr(hr)).sr, hr)
    print(f"bicubic: {bicubic.mean():.2f} dB, at most {bicubic.max():.2f}")
    assert bicubic.max() <= WORST_BICUBIC, f"a patch is too easy: bicubic reaches {bicubic.max():.2f} dB"
    print("| seed | step | PSNR, dB | over bicubic | worst patch | another's LR | s |\n|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            _one(Path(folder), hr, bicubic, seed, steps)


def _one(folder: Path, hr: np.ndarray, bicubic: Tensor, seed: int, steps: int) -> None:
    """One seed's lines of the table."""
    for split, shown in {"train": hr, "validation": 255 - hr[:1]}.items():
        (folder / split).mkdir(exist_ok=True)
        for i, patch in enumerate(shown):
            Image.fromarray(patch).save(folder / split / f"{i}.png")
    train, validation = ([ImageSource(hr=str(folder / split))] for split in ("train", "validation"))
    store = build_store(folder / "store", scale=SCALE, train=train, validation=validation)
    config = TrialConfig(
        model="sr3",
        scale=SCALE,
        hyper=sr_models.check("sr3", SCALE, HYPER).model_dump(),
        objective=resolve("ddpm"),
        train=TrainConfig(
            steps=steps, batch_size=len(hr), patch=SIDE // SCALE, lr=2e-3, warmup=0.05, clip_norm=1.0, ema=0.995,
            ema_warmup=True, validate_every=steps, checkpoint_every=steps, snapshots=KEPT,
        ),
        seed=seed,
        protocol="classical",
        metrics=("psnr_rgb",),
        data_hash=store.data_hash,
        process=ProcessParams(T=1000, prediction="x0"),
        sampling=SAMPLING,
    )  # fmt: skip
    out, begun = folder / str(seed), time.monotonic()
    run_trial(config, store, lambda step, metrics: "continue", out_dir=out)
    seconds = time.monotonic() - begun
    kept = {step: out / "snapshots" / str(step) / "model_ema" for step in config.train.snapshot_steps}
    for step, weights in {**kept, steps: out / "model_ema"}.items():
        (net, _), lr, how = load_checkpoint(weights), _lr(hr), Options(sampling=SAMPLING)
        own, other = (
            _psnr(super_resolve(net, given, seeds=list(range(len(hr))), options=how).sr, hr)
            for given in (lr, lr.roll(1, 0))
        )
        gain = (own - bicubic).mean()
        took = f"{seconds:.0f}" if step == steps else ""
        print(f"| {seed} | {step} | {own.mean():.2f} | {gain:+.2f} | {own.min():.2f} | {other.mean():.2f} | {took} |")


def patches() -> np.ndarray:
    """The squares of each photograph that bicubic enlargement misses most: (8, SIDE, SIDE, 3) uint8."""
    chosen = []
    for name, count in PHOTOGRAPHS.items():
        image = read_image(Path(skimage.__file__).parent / "data" / name)
        starts = [range(0, length - SIDE + 1, SIDE) for length in image.shape[:2]]
        squares = np.stack([image[y : y + SIDE, x : x + SIDE] for y in starts[0] for x in starts[1]])
        missed = _psnr(super_resolve(sr_models.build("bicubic", SCALE), _lr(squares)).sr, squares)
        chosen += [squares[i] for i in missed.argsort()[:count]]
    return np.stack(chosen)


def _lr(hr: np.ndarray) -> Tensor:
    return to_float(np.stack([downscale(patch, SCALE) for patch in hr]))


def _psnr(sr: Tensor, hr: np.ndarray) -> Tensor:
    """dB over all of each patch: eight whole patches, so no border is left out."""
    return -10 * torch.log10((sr - to_float(hr)).square().mean((1, 2, 3)))


if __name__ == "__main__":
    main()
