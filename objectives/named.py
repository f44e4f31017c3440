"""What configs call objectives and losses: ours, and the losses of plug-ins, each of which is an objective as well.

No torch: a plug-in's loss gets it with its tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidatorFunctionWrapHandler

from objectives.losses import (
    DDPM,
    DREAM,
    DRM,
    L1,
    L2,
    CCSRDecoder,
    Charbonnier,
    ConstantSigma,
    Expectation,
    LossParams,
    MinSNR,
    NoLoss,
    Reconstruction,
    ResidualShift,
    SampledSigma,
)
from sr_models.plugins import Table, check_params

if TYPE_CHECKING:
    from torch import Tensor


class OwnLoss(LossParams):
    """Base of a plug-in's losses, of regression: its fields are hyperparameters, and `kind: Literal[NAME]` its name.

    `needs` (nothing, or {"sigma"}), `noisy` and `auxiliary` say what it is given, as of our losses.
    """

    kind: str = ""

    def per_sample(self, mu: Tensor, y: Tensor, z: Tensor | None, sigma_hat: Tensor | None) -> Tensor:
        """What each sample of a batch misses: (B,), whose mean is minimised.

        Args:
            mu: what the network gives, float32 (B, 3, H, W), about [0, 1] and not clamped.
            y: the target, of the same shape.
            z: standard normal noise of that shape, where the loss is `noisy`.
            sigma_hat: what a sigma branch gives, of that shape, where the objective has one.
        """
        raise NotImplementedError


DESCRIPTIONS: dict[str, str] = {
    "l1": "mean absolute error to the HR image",
    "l2": "mean squared error to the HR image",
    "charbonnier": "L1 with a rounded corner, to the HR image",
    "kd": "distillation: L1 to the teacher's SR of the real LR",
    "eco_noise_free": "L1 on the teacher's pair: its SR, and that SR downscaled again (ECO Eq. 11)",
    "eco": "L1 on a mixup that moves from the teacher's pair to the real pair (ECO Eq. 14)",
    "loss_mixup": "L1 on the teacher's pair and on the real one, weighed by ECO's ramp; nothing is mixed (ECO Fig. 5)",
    "image_mixup": "L1 on ordinary mixup: each pair blended with another one of the training images",
    "noise_regression": "L1 of the noise y - mu, guessed from the LR (ECO Fig. 8): no SR, so shown and not scored",
    "constant_sigma": "L1 to the HR image plus constant Gaussian noise (He & Cheng Eq. 7)",
    "sampled_sigma": "L1 of SR with noise of the sigma branch's size, where sigma collapses to 0: to be shown (Eq. 6)",
    "expectation": "expectation loss and a sigma branch that learns the error (He & Cheng Eq. 8 + 10)",
    "expectation_only": "expectation loss without the sigma branch (He & Cheng Eq. 8)",
    "l1+aux": "L1 and the sigma branch (He & Cheng Eq. 10 beside L1)",
    "aux_only": "the sigma branch's auxiliary loss alone, through the network too (He & Cheng Eq. 10)",
    "eco+expectation": "ECO's mixup under the expectation loss with the sigma branch (in neither paper)",
    "ddpm": "the guess of the noise in a noisy HR image, from LR (SR3)",
    "drm": "that guess made noisy again, as sampling meets it, and corrected (DREAM Eq. 11)",
    "dream": "drm, most where there is most noise (DREAM Alg. 3)",
    "min_snr": "ddpm, where low noise counts no more than a signal-to-noise ratio of gamma (Min-SNR)",
    "resshift": "the guess of the clean latent from one on its way to LR's, in few steps (ResShift)",
    "nutl": "ddpm up to t_max, and a jump from pure noise to there (CCSR Eq. 3)",
    "dream+nutl": "dream up to t_max, and nutl's jump (in neither paper)",
    "reconstruction": "L1 of the HR image from its own latent, which is kept in bounds: trains autoencoders",
    "ccsr_decoder": "decoder of truncated samples, under L1, LPIPS and a discriminator (CCSR's stage 2)",
}


def _check_added(name: str, found: Any, _distribution: str) -> type[OwnLoss]:
    """A plug-in's row of `LOSSES`. Raises ValueError: what is wrong with it."""
    if not (isinstance(found, type) and issubclass(found, OwnLoss)):
        raise ValueError(f"is no class below objectives.OwnLoss (got {found!r:.80})")
    kind = found.model_fields.get("kind")
    if kind is None or kind.default != name:
        raise ValueError(f"must have the field `kind: Literal[{name!r}] = {name!r}`")
    if found.family != "regression" or not found.needs <= {"sigma"}:
        raise ValueError("must be of the family regression, and need nothing or sigma: plug-ins add no other losses")
    if found.per_sample is OwnLoss.per_sample:
        raise ValueError("has no per_sample")
    check_params(found)
    return found


_OURS: dict[str, type[LossParams]] = {
    "l1": L1,
    "l2": L2,
    "charbonnier": Charbonnier,
    "constant_sigma": ConstantSigma,
    "sampled_sigma": SampledSigma,
    "expectation": Expectation,
    "none": NoLoss,
    "ddpm": DDPM,
    "drm": DRM,
    "dream": DREAM,
    "min_snr": MinSNR,
    "reconstruction": Reconstruction,
    "ccsr_decoder": CCSRDecoder,
    "resshift": ResidualShift,
}

LOSSES = Table("objective", _OURS, _check_added, taken=DESCRIPTIONS)
"""Every loss: ours, and those of plug-ins."""


def with_added(given: Any, ours: ValidatorFunctionWrapHandler) -> Any:
    """A loss from plain data, a plug-in's too; `ours` makes it of what names none of these."""
    if isinstance(given, OwnLoss):
        return given
    kind = given.get("kind") if isinstance(given, Mapping) else None
    return LOSSES[kind].parse(given, kind) if isinstance(kind, str) and kind in LOSSES.added else ours(given)
