"""What steps the parameters of one update of an objective: an optimiser, a learning rate and a clip norm of its own.

LAMB (https://arxiv.org/abs/1904.00962) is timm's (https://github.com/huggingface/pytorch-image-models).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from objectives.compose import Update
from orchestrator.plan.train import TrainConfig


class Stepper:
    """One update at work.

    Args:
        update: its name, parameters and loss.
        train: of the trial; the update's own settings are looked up in its `groups`.
        net: the network, on its device.
        prefix: what the names of its logs start with: nothing where the objective has no other update.
    """

    def __init__(self, update: Update, train: TrainConfig, net: nn.Module, prefix: str) -> None:
        self.name, self.look, self.loss, self.prefix = update.name, update.look, update.loss, prefix
        self.train = train.group(update.name)
        self.parameters = list(update.parameters(net))
        self.optimizer = optimizer(self.parameters, self.train)

    def lr(self, step: int) -> float:
        """Learning rate of a step (0-based)."""
        return self.train.lr * lr_factor(self.train, step)

    def clear(self) -> None:
        """Forget what any earlier backward pass left on its parameters, another update's too."""
        self.optimizer.zero_grad(set_to_none=True)

    def backward(self, loss: Tensor) -> None:
        """Add to the gradients of its own parameters, and of no others."""
        loss.backward(inputs=self.parameters)

    def step(self, step: int) -> None:
        """Move its parameters by the gradients that they hold, clipped."""
        if self.train.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.train.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr(step)
        self.optimizer.step()


def steppers(updates: Sequence[Update], train: TrainConfig, net: nn.Module) -> list[Stepper]:
    """One for each update, in order; where there are several, each one's logs carry its name."""
    return [Stepper(update, train, net, f"{update.name}." if len(updates) > 1 else "") for update in updates]


def optimizer(parameters: list[nn.Parameter], train: TrainConfig) -> torch.optim.Optimizer:
    """The update rule of `train.optimizer` on these parameters."""
    if train.optimizer == "lamb":
        from timm.optim import Lamb  # brings all of timm's networks

        # timm's defaults would clip the gradient a second time, and be Adam where nothing decays.
        return Lamb(
            parameters,
            train.lr,
            betas=train.betas,
            weight_decay=train.weight_decay,
            max_grad_norm=None,
            always_adapt=True,
        )
    rule = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[train.optimizer]
    return rule(parameters, lr=train.lr, betas=train.betas, weight_decay=train.weight_decay, fused=True)


def lr_factor(train: TrainConfig, step: int) -> float:
    """Learning rate at `step` (0-based) as a fraction of its peak: a closed form of the full budget, not of a rung."""
    done = step / train.steps
    if done < train.warmup:
        return min(1.0, (step + 1) / (train.warmup * train.steps))
    if train.schedule == "cosine":
        along = (done - train.warmup) / (1 - train.warmup)
        return train.lr_floor + (1 - train.lr_floor) * 0.5 * (1 + math.cos(math.pi * along))
    if train.schedule == "step":
        return train.decay ** sum(done >= at for at in train.decay_at)
    return 1.0
