"""How far a set of SR images is from its HR images as distributions: FID and KID of Inception features.

FID: https://arxiv.org/abs/1706.08500, Eq. 6; KID: https://arxiv.org/abs/1801.01401, Sec. 4. The features and KID are
those of torch-fidelity (https://github.com/toshas/torch-fidelity); FID's square root is taken from the singular values
of the product of the two centred feature matrices, which is exact where there are fewer images than features.
Shapes: N samples (images or patches), B images, H height, W width; features are (N, 2048) float32.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import NormalDist

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor

from eval.metrics.backbones import WeightFiles
from sr_models.errors import InputError
from sr_models.files import replacing
from sr_models.hashing import digest

FEATURES = 2048
"""Features a sample, and the fewest samples whose covariance can have full rank."""

_INCEPTION = "weights-inception-2015-12-05-6726825d.pth"
_AT_ONCE = 16  # samples; larger batches are no faster


class Inception:
    """torch-fidelity's InceptionV3, the TensorFlow weights of 2015 that FID is defined by."""

    def __init__(self, *, files: WeightFiles, device: torch.device | str) -> None:
        """Raises Unavailable where the weights lack."""
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        # The package unpickles anything; what it is given is our own copy of the tensors of a checked file.
        copy = io.BytesIO()
        torch.save(files.tensors(_INCEPTION), copy)
        copy.seek(0)
        with torch.random.fork_rng(devices=[]):
            net = FeatureExtractorInceptionV3(
                "inception-v3-compat", [str(FEATURES)], feature_extractor_weights_path=copy
            )
        self._net = net.to(memory_format=torch.channels_last).to(device)
        self._device = device

    @torch.no_grad()
    def __call__(self, images_BCHW: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 RGB of any size, resized to 299x299 inside, to (B, 2048) float32 on the CPU."""
        parts = [self._net(part.to(self._device))[0].cpu() for part in images_BCHW.split(_AT_ONCE)]
        return torch.cat(parts)


def patches(images_BCHW: Tensor, size: int, stride: int) -> Tensor:
    """Square patches on a grid from the top left, image by image; a rest that holds no whole patch is left out.

    Returns:
        (B * patches an image, 3, size, size).

    Raises:
        InputError: the images are smaller than a patch.
    """
    if min(images_BCHW.shape[-2:]) < size:
        height, width = images_BCHW.shape[-2:]
        raise InputError(f"image of {width}x{height} px is too small for patches of {size}x{size} px")
    windows = images_BCHW.unfold(2, size, stride).unfold(3, size, stride)  # (B, 3, rows, columns, size, size)
    return windows.permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, size, size)


def fid(features_a: np.ndarray, features_b: np.ndarray) -> float:
    """Frechet distance of two sets of features, each as a Gaussian: covariances divided by N - 1, float64.

    Biased upward by about 1 / N: compare only sets of equal size (`small_sample_warning`).

    Raises:
        InputError: fewer than two samples in a set, or features of different length.
    """
    a, b = _checked(features_a, features_b)
    (mean_a, root_a), (mean_b, root_b) = _mean_and_root(a), _mean_and_root(b)
    # With A'A and B'B the covariances, the trace of the root of their product is the sum of A B's singular values.
    overlap = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    return float(np.square(mean_a - mean_b).sum() + np.square(root_a).sum() + np.square(root_b).sum() - 2 * overlap)


def _mean_and_root(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of samples, and a matrix A of as few rows as it can have with A'A their covariance."""
    mean = np.ones(len(x)) @ x / len(x)
    root = (x - mean) * np.sqrt(1 / (len(x) - 1))
    return mean, np.asarray(np.linalg.qr(root, mode="r") if len(root) > root.shape[1] else root)


def kid(
    features_a: np.ndarray, features_b: np.ndarray, *, subsets: int = 100, subset_size: int = 1000, seed: int = 2020
) -> tuple[float, float]:
    """Kernel distance of two sets of features, torch-fidelity's: unbiased, cubic polynomial kernel, over subsets.

    Args:
        subset_size: at most; a smaller set is one subset, and the deviation is then 0.
        seed: of the choice of subsets.

    Returns:
        Mean and standard deviation over the subsets. Slightly negative values are possible.

    Raises:
        InputError: as `fid`.
    """
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

    a, b = (torch.from_numpy(x) for x in _checked(features_a, features_b))
    size = min(subset_size, len(a), len(b))
    whole = size == len(a) == len(b)
    found = kid_features_to_metric(
        a, b, kid_subsets=1 if whole else subsets, kid_subset_size=size, rng_seed=seed, verbose=False
    )
    return found[KEY_METRIC_KID_MEAN], found[KEY_METRIC_KID_STD]


def jackknife_interval(
    features_a: np.ndarray,
    features_b: np.ndarray,
    value: float,
    *,
    images: Sequence[int] | None = None,
    level: float = 0.95,
) -> tuple[float, float]:
    """Where FID lies with probability `level` when other images of the same kind had been drawn.

    The infinitesimal jackknife (Efron, The Jackknife, the Bootstrap and Other Resampling Plans, 1982, ch. 6): a
    bootstrap over images, an SR image with its HR image and all their patches, to first order and without a redraw.
    With deviations x of SR and y of HR from means that are d apart, and T the optimal map between both Gaussians, a
    sample moves FID by 2 d (x - y) + |x|^2 + |y|^2 - x' T x - y' T^-1 y, less the mean of that. FID's bias at small N
    is not in it.

    Args:
        features_a, features_b: row i of both comes from the same place of the same image.
        value: `fid` of them.
        images: which image each row comes from; by default each row is one.

    Returns:
        (low, high), as far below `value` as above; both are `value` where there is one image.

    Raises:
        InputError: as `fid`, or sets of different size.
    """
    a, b = _checked(features_a, features_b)
    if len(a) != len(b):
        raise InputError(f"an interval needs as many SR as HR samples, got {len(a)} and {len(b)}")
    owner = np.arange(len(a)) if images is None else np.unique(images, return_inverse=True)[1]
    x, y = a - a.mean(0), b - b.mean(0)
    (basis_x, root_x), (basis_y, root_y) = _basis_and_root(x), _basis_and_root(y)
    # With X Y' = U S V', x' T x of all samples is the diagonal of U S U', and y' T^-1 y that of V S V'.
    left, overlap, right = np.linalg.svd(root_x @ root_y.T)
    mapped = np.square(basis_x @ left) @ overlap + np.square(basis_y @ right.T) @ overlap
    moves = 2 * (x - y) @ (a.mean(0) - b.mean(0)) + np.square(x).sum(1) + np.square(y).sum(1) - mapped
    by_image = np.bincount(owner, moves - moves.mean()) / len(a)
    half = NormalDist().inv_cdf((1 + level) / 2) * float(np.sqrt(np.square(by_image).sum()))
    return value - half, value + half


def _basis_and_root(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Q and R with Q R = x and Q'Q = 1; torch's is several times faster than numpy's."""
    basis, root = torch.linalg.qr(torch.from_numpy(x))
    return basis.numpy(), root.numpy()


def small_sample_warning(samples: int) -> str | None:
    """What to say beside FID of so few samples, or None."""
    if samples >= FEATURES:
        return None
    return (
        f"FID of {samples} samples is biased upward (covariances lack full rank below {FEATURES}): compare it only "
        f"with FID of equally many; KID is unbiased"
    )


def cached_features(folder: Path, identity: Sequence[object], compute: Callable[[], np.ndarray]) -> np.ndarray:
    """Features from `folder` if they were computed before, else computed and kept there.

    Args:
        identity: all they depend on (hashes of the pixels in order, patching, hash of the weights), as JSON data.

    Raises:
        InputError: a file of the cache cannot be read.
    """
    path = folder / f"{digest(identity)}.safetensors"
    if path.is_file():
        try:
            return load_file(path)["features"]
        except SafetensorError as error:
            raise InputError(f"cached features {str(path)!r} cannot be read ({error}); delete the file") from None
    features = compute()
    with replacing(path) as part:
        save_file({"features": np.ascontiguousarray(features)}, part)
    return features


def _checked(features_a: np.ndarray, features_b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = (np.asarray(x, dtype=np.float64) for x in (features_a, features_b))
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise InputError(f"features must be two (N, D) arrays of one D, got shapes {a.shape} and {b.shape}")
    if min(len(a), len(b)) < 2:
        raise InputError(f"FID and KID need at least 2 samples a set, got {len(a)} and {len(b)}")
    return a, b
