"""What can be asked of a run: the kinds of probes, each with what it shows; help reads this, so there is no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of probe."""

    about: str
    """What it shows, where it is from, and what was chosen where the paper is silent."""
    seeds: int | None
    """Of each winner, how many are looked at; None: all."""


DEFAULT_BATCHES, DEFAULT_AT_ONCE = 2, 16
DEFAULT_STEPS, DEFAULT_DRAWS, DEFAULT_CROP, DEFAULT_IMAGES = 100, 4, 64, 8
"""Of kinds that draw pictures: steps, draws of each image, side of its middle in HR pixels, images of each test set."""

KINDS: dict[str, Kind] = {
    "spectrum": Kind(
        about="Where in spatial frequency the gradient of the loss with respect to the SR image lives (ECO Fig. 9): "
        "power by rings, and the share beyond the LR image's Nyquist frequency, which no input can tell.",
        seeds=1,
    ),
    "landscape": Kind(
        about="How smooth the loss is where training steps (ECO Fig. 2): down the gradient of a batch's loss, its "
        "range, the largest change of the gradient, and that over the distance (effective smoothness). Steps are those "
        "of train.snapshots, and the end. The paper prints no step lengths: --lengths are fractions of the norm of the "
        "weights.",
        seeds=1,
    ),
    "uncertainty": Kind(
        about="What σ is worth on the test sets (He & Cheng): its size over training (Fig. 2), PLL and PSNR of σ "
        "against |y - μ|, as luma, beside the best constant of the training patches (Table 7), coverage of the "
        "intervals that it promises, and how fast errors fall when the largest σ are left out. Trials with a σ branch; "
        "--images N for the first N of each set.",
        seeds=1,
    ),
    "targets": Kind(
        about="What ECO trains on (Fig. 7): a training image y and its x, the teacher's μ and D(μ), and the mixtures "
        "at several --alphas; --image names the image (default: the first). Of runs with a teacher.",
        seeds=1,
    ),
    "curves": Kind(
        about="Scores over training, with a band from the worst seed to the best: of any rows (--only), such as points "
        "of a grid or schedules of α (ECO Fig. 5). Of validations, and of test sets that were scored with "
        "orchestrator.evaluate --snapshots; --metric for one of the metrics alone. With board.baseline, or --baseline: "
        "the step from which on each row is never worse than its network's baseline is in the end, between validations "
        "on a straight line, of each seed alone, and how many times sooner that is (DREAM Fig. 1, 7, 10 to 12).",
        seeds=None,
    ),
    "gap": Kind(
        about="How wrong guesses of x0 are over t (DREAM Fig. 3): MSE, and LPIPS where its weights are, from noisy "
        "states of the true picture (training) and along the network's own chain from pure noise (sampling), mean ± "
        f"standard deviation over images and draws, all objectives under the same noise. The chain is cut to --steps "
        f"({DEFAULT_STEPS}, or T where that is less), at whose t both are compared; networks of a range of timesteps "
        f"have CCSR's. Diffusion networks, on the middle --crop ({DEFAULT_CROP}) HR px of the first --images "
        f"({DEFAULT_IMAGES}) of each test set, --draws ({DEFAULT_DRAWS}).",
        seeds=1,
    ),
    "along_t": Kind(
        about="How good guesses of x0 are along sampling, and how far draws differ (CCSR Fig. 2): PSNR, SSIM, LPIPS "
        "where its weights are, and L-STD, over the t of the chain of gap. Options as of gap.",
        seeds=1,
    ),
    "sampling_steps": Kind(
        about="What more steps of sampling buy (DREAM Fig. 8, 13, 14): PSNR, SSIM, consistency, LPIPS where its "
        "weights are, and L-STD of the same weights at --steps A,B,... (5, 10, 20, 50, 100) of the run's sampler, with "
        "bands over seeds, the calls of the network and seconds an image. Images, crop and draws as of gap.",
        seeds=None,
    ),
    "batch_size": Kind(
        about="The last validation against train.batch_size, where a grid varies it, with bands over seeds (ECO "
        "Fig. 4).",
        seeds=None,
    ),
    "size_quality": Kind(
        about="Cost against quality, from the boards: parameters (He & Cheng Fig. 4), multiply-adds and measured time "
        "(IMDN Fig. 6, 9) against the leading metric, or --metric, on each test set.",
        seeds=None,
    ),
    "gradient_sign": Kind(
        about="How many elements a loss pushes away from its target (He & Cheng Eq. 7, 8): each trial's objective, and "
        "at the same weights constant σ (some), the expectation loss (none) and that loss with σ detached (15.9 %).",
        seeds=1,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the command line asks of the runs; each kind reads what concerns it."""

    trials: tuple[str, ...] = ()
    """Beginnings of fingerprints; none of them for the winners."""
    only: tuple[str, ...] = ()
    """Patterns of combinations; none of them for all."""
    seeds: int | None = 1
    """Of each winner; None: all."""
    weights: str = "raw"
    """raw or ema."""
    batches: int = DEFAULT_BATCHES
    """Of each step that is looked at."""
    at_once: int = DEFAULT_AT_ONCE
    """Most samples in one pass."""
    images: int | None = None
    """Of each test set, how many; None: all, or `DEFAULT_IMAGES` where pictures are drawn."""
    draws: int = DEFAULT_DRAWS
    """Pictures that a diffusion network draws of each image."""
    crop: int = DEFAULT_CROP
    """Side, in HR pixels, of the middle of an image that they are drawn of."""
    steps: tuple[int, ...] = ()
    """Of sampling; none of them for a kind's own."""
    device: str = "cpu"
    metric: str | None = None
    """Of validations or boards; None: all, or the leading one."""
    baseline: str | None = None
    """Objective that curves are measured from, as boards call it; None: the run's own."""
    image: str | None = None
    """Of the training images, for the sheet of targets; None: the first one."""
    alphas: tuple[float, ...] = ()
    """Of the sheet of targets; none of them for its own."""
    lengths: tuple[float, ...] = ()
    """Of the landscape; none of them for its own."""
