"""What a denoiser guesses of the clean picture: at noisy states as training makes them, and at those that it draws.

DREAM (https://arxiv.org/abs/2312.00210), Fig. 3, holds the two against each other: their gap is what sampling adds up.
CCSR (https://arxiv.org/abs/2401.00877), Fig. 2, looks at how good those of sampling are, and how far draws differ.

Shapes: D draws of one picture; states are (D, C, H', W'), pictures (D, 3, H, W) in [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from eval.metrics.fidelity import inside
from eval.metrics.scorer import Scorer
from eval.metrics.stability import Spread
from sr_models.diffusion.process import Level, Process, add_noise
from sr_models.diffusion.samplers import Guess, Noise, Predict
from sr_models.images.operators import quantize


def of_true(predict: Predict, process: Process, x0: Tensor, eps: Tensor, level: Level) -> Tensor:
    """The guess at a noisy state of the true picture, clamped as the process says.

    Args:
        x0: the picture's clean state.
        eps: the noise in the noisy one.
    """
    state = add_noise(x0, eps, level.gamma)
    return process.x0_hat(predict(state, level), state, level.gamma)


def trained(predict: Predict, process: Process, x0: Tensor, noise: Noise, steps: Sequence[int]) -> Iterator[Guess]:
    """The setting of training: at each of some steps a guess at a noisy state of the true picture.

    Args:
        noise: a step t has number T + t of it, which sampling, with at most T, has no use for.
        steps: of the whole chain.
    """
    for t in steps:
        yield Guess(t, of_true(predict, process, x0, noise(process.steps + t), process.level(t, x0)))


def mean_square(picture_DCHW: Tensor, hr_1CHW: Tensor) -> list[float]:
    """Of each draw, the mean square of what it misses of the true picture."""
    missed_D = (picture_DCHW - hr_1CHW).double().square().flatten(1).mean(1)
    return [float(value) for value in missed_D]


def over_draws(picture_DCHW: Tensor, hr_1CHW: Tensor, lr_DCHW: Tensor, scorer: Scorer) -> dict[str, float]:
    """The mean of each of a scorer's metrics over draws of one picture, and from two draws on their `l_std`."""
    values = scorer.image(picture_DCHW, hr_1CHW.expand_as(picture_DCHW), lr_DCHW)
    found = {name: float(value_D.mean()) for name, value_D in values.items()}
    if len(picture_DCHW) > 1:
        spread = Spread()
        seen = quantize(picture_DCHW) if scorer.protocol.uint8 else picture_DCHW
        for draw in torch.unbind(inside(seen, scorer.protocol.shave(scorer.scale))):
            spread.add(draw)
        found["l_std"] = spread.l_std()
    return found
