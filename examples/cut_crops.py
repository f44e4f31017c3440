"""Cut one square out of each image, where bicubic enlargement misses most: small test sets for slow samplers.

    python examples/cut_crops.py HR_FOLDER OUT --side 48 --scale 4 --count 8

Squares begin at multiples of `--side`. OUT gets PNG files named after the images; LR is made from them as from any HR.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from sr_models.images.files import find_images, read_image
from sr_models.images.matlab import downscale, resize


def missed(hr: np.ndarray, scale: int) -> float:
    """Mean square, in grey levels, of what bicubic enlargement misses of an HR square."""
    up = resize(downscale(hr, scale), scale)
    return float(np.square(up.astype(np.float64) - hr).mean())


def main() -> None:
    """Write the squares; the images that bicubic misses most, where there are more than `--count`."""
    parser = argparse.ArgumentParser(description="Cut one square out of each image, where bicubic misses most.")
    parser.add_argument("hr", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--side", type=int, default=48)
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--count", type=int, default=8)
    args = parser.parse_args()
    found = []
    for path in find_images(args.hr):
        image = read_image(path)
        rows, columns = (range(0, length - args.side + 1, args.side) for length in image.shape[:2])
        squares = [image[top : top + args.side, left : left + args.side] for top in rows for left in columns]
        if squares:
            found.append(max(((missed(hr, args.scale), path.stem, hr) for hr in squares), key=lambda one: one[0]))
    args.out.mkdir(parents=True)
    for mse, name, hr in sorted(found, key=lambda one: -one[0])[: args.count]:
        Image.fromarray(hr).save(args.out / f"{name}.png")
        print(f"{name}: bicubic reaches {10 * np.log10(255**2 / mse):.2f} dB")


if __name__ == "__main__":
    main()
