"""Autoencoders as networks that a sweep trains: a picture goes through its latent, and comes back.

Both are trained on HR alone and give no SR; what they come to is a file that other networks name as their
`autoencoder`, in whose latent space they work. VQ: https://arxiv.org/abs/2012.09841, Eq. 4, a straight-through gradient
and two pulls between latents and codes. KL: https://arxiv.org/abs/2112.10752, App. G, whose posterior is sampled in
training alone. The perceptual and adversarial losses of both papers are left out.
Shapes: B batch, C channels, H and W rows and columns.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from sr_models.diffusion.autoencoder import VQAutoencoder
from sr_models.diffusion.latent import AutoencoderLayout, autoencoder, check_diffusers
from sr_models.networks.base import Network

_LEAST_LOG_VARIANCE, _MOST_LOG_VARIANCE = -30.0, 20.0


class Autoencoder(Network):
    """A network that gives a picture back.

    Attributes:
        latent_channels: of a latent.
        reduction: a picture's sides over a latent's, which must be whole.
    """

    latent_channels: int
    reduction: int

    @property
    def stochastic(self) -> bool:
        """False: noise is for training."""
        return False

    @abstractmethod
    def forward(self, picture_BCHW: Tensor, z_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """A picture in [0, 1] to the one that its latent stands for, not clamped, and what keeps latents in bounds.

        Args:
            z_BCHW: standard normal noise, of the latent's shape.

        Returns:
            (B, 3, H, W), and (B,) to be added to what the picture misses, with its published weight.
        """

    @abstractmethod
    def reconstruct(self, picture_BCHW: Tensor) -> Tensor:
        """What `forward` gives for a picture without noise."""

    def latent_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """(C, H, W) of the latents of pictures of `size`."""
        return self.latent_channels, size[0] // self.reduction, size[1] // self.reduction


class TrainedVQ(VQAutoencoder, Autoencoder):
    """The VQ autoencoder: no noise; its codes start as near to 0 as VQGAN's.

    Args:
        commitment: what the latents' pull to their codes weighs.
    """

    def __init__(
        self, scale: int, *, channels: int, mults: Sequence[int], blocks: int, latent: int, codes: int,
        commitment: float,
    ) -> None:  # fmt: skip
        super().__init__(channels=channels, mults=mults, blocks=blocks, latent=latent, codes=codes)
        nn.init.uniform_(self.quantize.embedding.weight, -1 / codes, 1 / codes)
        self.scale, self.commitment = scale, commitment

    def forward(self, picture_BCHW: Tensor, z_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        latent = self.encode(2 * picture_BCHW - 1)
        coded = self.quantize(latent.float())
        pulls = (coded - latent.detach()).square() + self.commitment * (coded.detach() - latent).square()
        passed = latent + (coded - latent).detach()
        return (self.decode(passed, quantise=False) + 1) / 2, pulls.float().flatten(1).mean(1)

    def reconstruct(self, picture_BCHW: Tensor) -> Tensor:
        return (self.decode(self.encode(2 * picture_BCHW - 1)) + 1) / 2


class TrainedKL(Autoencoder):
    """diffusers' autoencoder, under its own key names; the latent is a sample of the posterior, and its mode later.

    Args:
        kl_weight: of the posterior's KL divergence from a standard normal, over the picture's 3 H W numbers.

    Raises:
        InputError: diffusers is not installed.
    """

    def __init__(
        self, scale: int, *, channels: int, mults: Sequence[int], blocks: int, latent: int, kl_weight: float
    ) -> None:
        super().__init__()
        check_diffusers()
        made = autoencoder(AutoencoderLayout(channels=channels, mults=tuple(mults), blocks=blocks, latent=latent))
        self.encoder, self.decoder = made.encoder, made.decoder
        self.quant_conv, self.post_quant_conv = made.quant_conv, made.post_quant_conv
        self.latent_channels, self.reduction = latent, 2 ** (len(mults) - 1)
        self.scale, self.kl_weight = scale, kl_weight

    def forward(self, picture_BCHW: Tensor, z_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self._posterior(picture_BCHW)
        latent = mean + (log_variance / 2).exp() * z_BCHW
        kl_B = (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).sum(1) / 2
        return self._decoded(latent), self.kl_weight * kl_B / picture_BCHW[0].numel()

    def reconstruct(self, picture_BCHW: Tensor) -> Tensor:
        return self._decoded(self._posterior(picture_BCHW)[0])

    def _posterior(self, picture_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the latent, float32."""
        moments: Tensor = self.quant_conv(self.encoder(2 * picture_BCHW - 1))
        mean, log_variance = moments.float().chunk(2, dim=1)
        return mean, log_variance.clamp(_LEAST_LOG_VARIANCE, _MOST_LOG_VARIANCE)

    def _decoded(self, latent_BCHW: Tensor) -> Tensor:
        image: Tensor = self.decoder(self.post_quant_conv(latent_BCHW))
        return (image + 1) / 2
