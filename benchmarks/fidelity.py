"""`python -m benchmarks.fidelity`: PSNR-Y and SSIM-Y of Set14 x2 against scikit-image with equivalent settings.

Both start from the pictures as a PNG holds them and end with two numbers an image; scikit-image
(https://scikit-image.org) has one thread, and so has torch unless `--threads` says otherwise.
"""

from __future__ import annotations

import statistics
from functools import partial

import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from benchmarks.timing import interleaved, machine, markdown, parser, ratio
from eval import PROTOCOLS, benchmarks
from eval.metrics.fidelity import score
from sr_models.images.matlab import resize
from sr_models.images.operators import to_float

SCALE = 2
Pairs = list[tuple[np.ndarray, np.ndarray]]


def ours(pairs: Pairs) -> np.ndarray:
    """(N, 2): PSNR-Y in dB and SSIM-Y of uint8 (sr, hr) under the classical protocol."""
    rows = []
    for sr, hr in pairs:
        images = to_float(sr), to_float(hr)
        scores = score(*images, scale=SCALE, protocol=PROTOCOLS["classical"], metrics=["psnr_y", "ssim_y"])
        rows.append([scores["psnr_y"][0], scores["ssim_y"][0]])
    return np.array(rows)


def scikit_image(pairs: Pairs) -> np.ndarray:
    """The same numbers by scikit-image."""
    rows = []
    for pair in pairs:
        sr, hr = (
            16 + image[SCALE:-SCALE, SCALE:-SCALE].astype(np.float64) @ np.array([65.481, 128.553, 24.966]) / 255
            for image in pair
        )
        rows.append([
            peak_signal_noise_ratio(hr, sr, data_range=255),
            structural_similarity(
                hr, sr, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
            ),
        ])  # fmt: skip
    return np.array(rows)


def main() -> None:
    made = parser(__doc__.splitlines()[0])
    made.add_argument("--rounds", type=int, default=15, help="default: %(default)s")
    given = made.parse_args()
    torch.set_num_threads(given.threads)
    if given.quick:
        draw = np.random.default_rng(0)
        pictures = [draw.integers(0, 256, (2, 60, 80, 3)).astype(np.uint8) for _ in range(3)]
        pairs: Pairs = [(sr, hr) for sr, hr in pictures]
    else:
        folder = given.data / "Set14" / f"X{SCALE}"
        files = benchmarks.load("Set14", SCALE, folder / "HR", folder / "LR")
        pairs = [(resize(lr, SCALE), hr) for lr, hr in map(files.read, range(len(files)))]

    competitors = {"ours": partial(ours, pairs), "scikit-image": partial(scikit_image, pairs)}
    seconds = interleaved(competitors, 3 if given.quick else given.rounds)
    speed = {name: len(pairs) / statistics.median(times) for name, times in seconds.items()}
    faster = ratio(seconds["scikit-image"], seconds["ours"])
    apart = np.abs(ours(pairs) - scikit_image(pairs)).max(axis=0)

    print(machine())
    print(f"PSNR-Y + SSIM-Y, {len(pairs)} images, median of {len(seconds['ours'])} interleaved rounds:\n")
    print(markdown(["", "images/s"], [[name, f"{rate:.1f}"] for name, rate in speed.items()]))
    print(
        f"ours / scikit-image: {faster:.2f}x as fast; values differ by at most {apart[0]:.1e} dB, {apart[1]:.1e} SSIM"
    )


if __name__ == "__main__":
    main()
