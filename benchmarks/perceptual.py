"""`python -m benchmarks.perceptual`: LPIPS and Inception features beside calling the packages image by image.

Both sides hold the same weights, random ones, which cost what trained ones cost; images are 256x256 px for LPIPS
(https://github.com/richzhang/PerceptualSimilarity) and 299x299 px for Inception
(https://github.com/toshas/torch-fidelity), in batches of one size, as draws, patches and faces come.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.timing import interleaved, machine, markdown, parser, ratio
from eval.metrics.backbones import BACKBONES, WeightFiles
from eval.metrics.distribution import Inception
from eval.metrics.perceptual import Lpips
from sr_models.images.files import sha256_file

ALEX, INCEPTION = "alexnet-owt-7be5be79.pth", "weights-inception-2015-12-05-6726825d.pth"


def write_random_weights(folder: Path) -> WeightFiles:
    """AlexNet and Inception with random convolutions that keep the size of activations, known to this process only."""
    from torch_fidelity import feature_extractor_inceptionv3 as inception
    from torchvision.models import alexnet

    class Unloaded(inception.FeatureExtractorInceptionV3):
        def load_state_dict(self, *_: object) -> None:
            """Keep what the constructor made."""

    empty = folder / "empty.pth"
    torch.save({}, empty)
    nets = {ALEX: alexnet(), INCEPTION: Unloaded("inception", ["2048"], feature_extractor_weights_path=empty)}
    for name, net in nets.items():
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
        torch.save(net.state_dict(), folder / name)
        BACKBONES[name] = replace(BACKBONES[name], sha256=sha256_file(folder / name))
    return WeightFiles(folder)


def lpips_competitors(files: WeightFiles, images: int) -> dict[str, Callable[[], Tensor]]:
    """(N,) distances of random pairs, ours and the package's."""
    import lpips

    ours = Lpips("alex", files=files, device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bare = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    bare.load_state_dict(ours._lpips.state_dict())
    sr, hr = torch.rand(2, images, 3, 256, 256)

    @torch.no_grad()
    def one_by_one() -> Tensor:
        pairs = zip(sr.split(1), hr.split(1), strict=True)
        return torch.cat([bare(x, y, normalize=True).flatten() for x, y in pairs]).double()

    return {"ours": lambda: ours(sr, hr), "lpips, one by one": one_by_one}


def inception_competitors(files: WeightFiles, images: int) -> dict[str, Callable[[], Tensor]]:
    """(N, 2048) features of random images, ours and the package's."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    ours = Inception(files=files, device="cpu")
    path = str(files.path(INCEPTION))
    bare = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=path)
    pixels = torch.randint(0, 256, (images, 3, 299, 299), dtype=torch.uint8)

    @torch.no_grad()
    def one_by_one() -> Tensor:
        return torch.cat([bare(image)[0] for image in pixels.split(1)])

    return {"ours": lambda: ours(pixels), "torch-fidelity, one by one": one_by_one}


def main() -> None:
    made = parser(__doc__.splitlines()[0])
    made.add_argument("--rounds", type=int, default=9, help="default: %(default)s")
    given = made.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    images = 4 if given.quick else 48
    print(machine())
    print(f"MALLOC_MMAP_THRESHOLD_: {os.environ.get('MALLOC_MMAP_THRESHOLD_', 'not set')} (workers have it set)\n")
    with tempfile.TemporaryDirectory() as folder:
        files = write_random_weights(Path(folder))
        for what, competitors in (
            ("LPIPS (AlexNet), 256x256", lpips_competitors(files, images)),
            ("Inception features, 299x299", inception_competitors(files, images)),
        ):
            seconds = interleaved(competitors, 2 if given.quick else given.rounds)
            names = list(competitors)
            rows = [[name, f"{images / statistics.median(times):.1f}"] for name, times in seconds.items()]
            ours, theirs = (make() for make in competitors.values())
            print(f"{what}, {images} images, median of {len(seconds['ours'])} interleaved rounds:\n")
            print(markdown(["", "images/s"], rows))
            print(
                f"ours / {names[1]}: {ratio(seconds[names[1]], seconds['ours']):.2f}x as fast; values differ by at "
                f"most {float((ours - theirs).abs().max()):.1e} of up to {float(theirs.abs().max()):.2g}\n"
            )


if __name__ == "__main__":
    main()
