"""What every diffusion network shares: a condition made from LR once, then one call for each noise level.

Pictures are in [0, 1] at its boundary and states in [-1, 1] inside, as in SR3 (https://arxiv.org/abs/2104.07636).
Shapes: B batch, C channels; LR is (B, 3, H, W), a picture of the wanted size (B, 3, H', W').
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from torch import Tensor

from sr_models.diffusion.process import Level
from sr_models.hyper.process import AnyProcess, ProcessParams
from sr_models.networks.base import Network


class Denoiser(Network):
    """A network that tells noise from picture in a noisy state; `sr_models.inference.sampling` draws pictures with it.

    Attributes:
        process: the noise that its weights were trained on; it belongs to them, in files too.
        reduction: a picture's sides over a state's; they must be whole.
        discrete: it is told the step, and not γ: training then draws the γ of steps alone, and none between them.
        checkpointing: trade time for memory in training: activations are computed again on the way back.
    """

    process: AnyProcess = ProcessParams()
    reduction: int = 1
    discrete: bool = False
    checkpointing: bool = False

    @property
    def stochastic(self) -> bool:
        """True: it begins with noise."""
        return True

    @abstractmethod
    def encode(self, lr_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
        """What the network knows of LR in [0, 1], for a picture of `size` (H', W'); the same at all noise levels.

        LR may already be as large as the picture.
        """

    @abstractmethod
    def forward(self, condition: Tensor, state_BCHW: Tensor, level: Level) -> Tensor:
        """What `process.prediction` names, of a noisy state and in its shape.

        Args:
            condition: of `encode`.
            level: how noisy each sample's state is.
        """

    def state_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """(C, H, W) of a state of pictures of `size`."""
        return 3, *size

    def state(self, picture_BCHW: Tensor) -> Tensor:
        """The clean state of a picture in [0, 1]."""
        return 2 * picture_BCHW - 1

    def enlarged(self, lr_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
        """The clean state of LR in [0, 1] enlarged to `size`: of networks whose state is a latent.

        Raises:
            ValueError: another network.
        """
        raise ValueError(f"{type(self).__name__} has no latents")

    def start(self, condition: Tensor, lr_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
        """The clean state that residual shifting starts from: `enlarged`, if `condition`, of `encode`, is not it."""
        return self.enlarged(lr_BCHW, size)

    def condition_of(self, latent_lr_BCHW: Tensor) -> Tensor:
        """What `encode` gives of an LR whose `enlarged` is there already; of networks whose `latents` are not None."""
        return latent_lr_BCHW

    def renamed(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A released file's tensors under our names, of a network that has others than its release has."""
        return dict(state)

    def check_part(self, name: str) -> None:
        """Raise an InputError where the file of a frozen part that it stands on cannot be used."""

    def decode(self, state_BCHW: Tensor) -> Tensor:
        """The picture of a clean state, about [0, 1] and not clamped."""
        return (state_BCHW + 1) / 2

    def reconstruct(self, picture_BCHW: Tensor) -> Tensor:
        """What its autoencoder makes of a picture: as good as one that is drawn can be expected to get."""
        return self.decode(self.state(picture_BCHW))
