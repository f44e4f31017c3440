"""Losses: how the miss is measured, as declared hyperparameters; and what a run must supply for an objective's parts.

Of regression: plain ones and those of He & Cheng 2022 (https://arxiv.org/abs/2201.10084), on images in [0, 1]. Of
diffusion: DDPM (https://arxiv.org/abs/2006.11239) as SR3 trains (https://arxiv.org/abs/2104.07636), DRM and DREAM
(https://arxiv.org/abs/2312.00210), Min-SNR (https://arxiv.org/abs/2303.09556), ResShift
(https://arxiv.org/abs/2307.12348); whether a network guesses the noise in a
state, the picture or v, is the noise process's word (`prediction`). No torch.

`needs`, what a run must supply, is a subset of: "mu" (the teacher's SR of the real LR), "mu_lr" (that SR downscaled
again), "partner" (a second pair for each sample), "sigma" (a network that also returns sigma), "tuned_decoder" (a
network that trains a decoder alone).
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from sr_models.hyper.process import ShiftParams
from sr_models.params import Params, SearchRange, searchable

Family = Literal["regression", "diffusion", "autoencoder"]
Need = Literal["mu", "mu_lr", "partner", "sigma", "tuned_decoder"]

NOTHING: frozenset[Need] = frozenset()


class LossParams(Params):
    """Base of the losses."""

    family: ClassVar[Family] = "regression"
    """Which networks it trains."""
    needs: ClassVar[frozenset[Need]] = NOTHING
    noisy: ClassVar[bool] = False
    """Whether the loss draws z, standard normal noise of the target's shape."""
    auxiliary: ClassVar[bool] = True
    """Whether a sigma branch beside the loss learns from its auxiliary loss."""


class L1(LossParams):
    """Mean |y - mu|."""

    kind: Literal["l1"] = "l1"


class L2(LossParams):
    """Mean (y - mu)^2."""

    kind: Literal["l2"] = "l2"


class Charbonnier(LossParams):
    """Mean sqrt((y - mu)^2 + eps^2), a smooth L1 (LapSRN, https://arxiv.org/abs/1704.03915)."""

    kind: Literal["charbonnier"] = "charbonnier"
    eps: float = searchable(
        1e-3,
        SearchRange(low=1e-4, high=1e-2, log=True),
        "radius of the rounded corner, in image units (1 = white), > 0",
        gt=0,
    )


class ConstantSigma(LossParams):
    """Mean |y + k z - mu|, z ~ N(0, 1) per element: L1 to a noisy target (He & Cheng Eq. 7; k is not printed there)."""

    kind: Literal["constant_sigma"] = "constant_sigma"
    noisy: ClassVar[bool] = True
    k: float = searchable(
        2 / 255,
        SearchRange(low=0.5 / 255, high=8 / 255, log=True),
        "standard deviation of the noise, in image units (1 = white), > 0",
        gt=0,
    )


class SampledSigma(LossParams):
    """Mean |y - (mu + sigma z)|, sigma that of the branch, which learns from this alone (He & Cheng Eq. 6).

    To be shown, not to be used: no noise misses y less, so sigma collapses to 0 (their Fig. 2).
    """

    kind: Literal["sampled_sigma"] = "sampled_sigma"
    needs: ClassVar[frozenset[Need]] = frozenset({"sigma"})
    noisy: ClassVar[bool] = True
    auxiliary: ClassVar[bool] = False


class Expectation(LossParams):
    """The expectation loss, mean |y - (mu + |y - mu| z)|, z ~ N(0, 1) per element (He & Cheng Eq. 8)."""

    kind: Literal["expectation"] = "expectation"
    noisy: ClassVar[bool] = True
    zero_below_average: bool = Field(
        default=True,
        description="zero the |y - mu| that scales z where it is below its image's average: plain L1 there",
    )


class NoLoss(LossParams):
    """No main term: the sigma branch's auxiliary loss trains the network alone (He & Cheng Table 1, "Eq. 10 only")."""

    kind: Literal["none"] = "none"
    needs: ClassVar[frozenset[Need]] = frozenset({"sigma"})


class Reconstruction(LossParams):
    """Mean |y - y'|, y' what an autoencoder makes of y, plus what keeps its latents in bounds (VQ, or KL).

    The perceptual and adversarial losses that latent diffusion's autoencoders are released with are left out.
    """

    kind: Literal["reconstruction"] = "reconstruction"
    family: ClassVar[Family] = "autoencoder"
    weight: float = Field(
        default=1.0,
        ge=0,
        le=1e6,
        description="of what keeps latents in bounds, times the network's own commitment or kl_weight; 1 as published",
    )


class AdversarialBranch(LossParams):
    """A PatchGAN discriminator beside L1 and a perceptual distance, with an adaptive weight: two updates a batch."""

    channels: int = Field(default=64, ge=1, le=1024, description="of the discriminator's first layer")
    norm: Literal["batch", "group"] = Field(
        default="batch",
        description="of its layers; batch, as released, looks at a batch as a whole: one worker, and no parts of one",
    )
    perceptual_weight: float = Field(
        default=1.0,
        ge=0,
        le=1000,
        description="of LPIPS on VGG, which must be at hand (python -m eval weights); 0: without it",
    )
    weight: float = Field(
        default=0.5,
        ge=0,
        le=1000,
        description="of the adversarial loss, in multiples of what makes it as steep as the rest at the last layer",
    )
    start: int = Field(default=1, ge=0, le=10**9, description="step from which the discriminator learns and counts")
    divide_by_batch: bool = Field(
        default=False, description="divide the mean of what is not adversarial by the batch size again, as released"
    )


class DiffusionLoss(LossParams):
    """Base of the losses on noisy states, in [-1, 1] and as the network's own space has them."""

    family: ClassVar[Family] = "diffusion"
    norm: Literal["l1", "l2"] = Field(default="l1", description="of what the network's guess misses: |.| or (.)^2")


class DDPM(DiffusionLoss):
    """The guess of what is noise in a noisy picture, at a noise level drawn for each sample (SR3 Eq. 6)."""

    kind: Literal["ddpm"] = "ddpm"


class DRM(DiffusionLoss):
    """The picture that a first guess stands for made noisy again, and what leads from there to y (DREAM Eq. 10, 11).

    One more pass, without gradient and in evaluation mode.
    """

    kind: Literal["drm"] = "drm"
    noise: Literal["shared", "independent"] = Field(
        default="shared", description="of the second state: the first one's, which works better, or other noise"
    )


class DREAM(DiffusionLoss):
    """DRM with shared noise, as far as (sqrt(1 - alpha_bar))^p: most where there is most noise (DREAM Alg. 3)."""

    kind: Literal["dream"] = "dream"
    p: float | None = searchable(
        1.0,
        SearchRange(low=0.0, high=3.0),
        "exponent, >= 0: 0 is drm, and the larger the nearer to ddpm; null: ddpm, and no first pass",
        ge=0,
        le=1000,
    )


class MinSNR(DiffusionLoss):
    """ddpm weighed by min(SNR, gamma): low noise counts no more than a signal-to-noise ratio of gamma."""

    kind: Literal["min_snr"] = "min_snr"
    norm: Literal["l1", "l2"] = Field(default="l2", description="of what the network's guess misses: |.| or (.)^2")
    gamma: float = searchable(
        5.0, SearchRange(low=1.0, high=20.0, log=True), "largest signal-to-noise ratio that weighs, > 0", gt=0, le=1e6
    )


class ResidualShift(ShiftParams, LossParams):
    """The guess of the clean state in one between it and LR's, under a process of few steps, mean squared (ResShift).

    For networks with a clean state of enlarged LR; `process` has no say in it.
    """

    kind: Literal["resshift"] = "resshift"
    family: ClassVar[Family] = "diffusion"


class CCSRDecoder(AdversarialBranch):
    """L1, LPIPS and a discriminator on what a decoder makes of a truncated sample's last guess (CCSR's stage 2).

    The chain begins with the latent of HR, as noisy as at T, and goes as `timesteps: range` says; it is frozen.
    """

    kind: Literal["ccsr_decoder"] = "ccsr_decoder"
    family: ClassVar[Family] = "diffusion"
    needs: ClassVar[frozenset[Need]] = frozenset({"tuned_decoder"})
    steps: int = Field(default=45, ge=1, le=100_000, description="that the chain is cut to; of them range uses a part")
    jump: Literal["first_used", "released"] = Field(
        default="first_used",
        description="as `evaluation.sampling.jump`, of the chain in training, and of the pictures that are then drawn",
    )
