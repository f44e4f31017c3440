"""How a diffusion network is trained: losses on noisy states, DREAM's rectified ones, CCSR's jump from pure noise.

DDPM as SR3 has it: https://arxiv.org/abs/2104.07636, Eq. 6. DRM and DREAM: https://arxiv.org/abs/2312.00210, Eq. 10, 11
and Alg. 3, with the first pass in evaluation mode, as in https://github.com/jinxinzhou/DREAM, commit 27a2f7f. Min-SNR:
https://arxiv.org/abs/2303.09556. The jump: https://arxiv.org/abs/2401.00877, Eq. 3, with the released code's third term
(https://github.com/csslc/CCSR, commit 15778ed, ddpm_ccsr_stage1.py).

x0 is the clean state of a target's y, eps standard normal noise, x_t = γ x0 + √(1 - γ²) eps. All are stated for any
`prediction` of the process: a network's output is read as the noise and the picture that it stands for. So DREAM's
rectified noise e' = eps + λ (eps - guess of eps) makes the state γ x0 + √(1 - γ²) e', and the process says what the
network should give there: e', x0 itself, or γ e' - √(1 - γ²) x0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from objectives import targets
from objectives.batch import Batch
from objectives.compose import LossTerms, Objective, Update, trainable
from objectives.losses import DREAM, DRM, DiffusionLoss, MinSNR
from objectives.spec import ObjectiveSpec
from objectives.timesteps import Terminal, Timesteps
from sr_models.diffusion.base import Denoiser
from sr_models.diffusion.process import Level, Process, add_noise
from sr_models.hyper.process import ProcessParams
from sr_models.inference.super_resolve import eval_mode
from sr_models.rng import SampleRng

Predict = Callable[[Tensor, Level], Tensor]
"""A network on a noisy state, under the condition of its batch."""

FIRST, SECOND, AT_T, AT_T_MAX = range(4)
"""Draws of noise: of the noisy state, of DRM's independent second one, of the terminal loss's two."""


class Rectified(NamedTuple):
    """What a network is asked after a first guess: a state, and the noise that is in it."""

    state: Tensor
    eps: Tensor


class StateObjective(Objective):
    """What objectives share that train networks which are `Denoiser`s."""

    def states(self, model: nn.Module, batch: Batch, progress: float, rng: SampleRng) -> tuple[Tensor, Tensor]:
        """The network's condition, and the clean state of the target's y."""
        assert isinstance(model, Denoiser), f"{type(model).__name__} is no Denoiser"
        if batch.latent is not None and batch.latent_lr is not None:
            assert self.spec.target.kind == "hr" and self.lr_noise is None, "latents are of the pictures as they are"
            return model.condition_of(batch.latent_lr), batch.latent
        [term] = targets.BY_KIND[self.spec.target.kind](self.spec.target, batch, progress, rng)
        x = self.noisy(term.x, rng, 0)
        return model.encode(x, (term.y.shape[2], term.y.shape[3])), model.state(term.y)


class DiffusionObjective(StateObjective):
    """The training steps that a spec with timesteps describes, for networks that are `Denoiser`s.

    Args:
        lr_noise: as in `Objective`; on what is encoded.
        process: the noise; what `check_process` refuses is not checked again.
    """

    def __init__(self, spec: ObjectiveSpec, lr_noise: float | None, process: ProcessParams) -> None:
        super().__init__(spec, lr_noise)
        self.process = Process.of(process)

    def updates(self) -> list[Update]:
        found = [Update("model", trainable, self.loss)]
        if "terminal" in self.spec.update_names:
            found.append(Update("terminal", trainable, self.terminal_loss))
        return found

    def loss(self, model: nn.Module, batch: Batch, progress: float, rng: SampleRng) -> LossTerms:
        """The loss of guesses at drawn noise levels, and with a summed terminal loss that of the jump too.

        `logs`: "alpha" where a ramp exists; under DRM and DREAM "loss_first", what the first guess misses: the loss of
        ddpm, in evaluation mode.
        """
        timesteps, loss = self.spec.timesteps, self.spec.loss
        assert timesteps is not None and isinstance(loss, DiffusionLoss)
        predict, first_guess, x0 = self.seen(model, batch, progress, rng)
        eps = rng.noise("diffusion_noise", tuple(x0.shape[1:]), x0.device, draw=FIRST)
        assert isinstance(model, Denoiser)  # `seen` says it
        level = levels(timesteps, self.process, rng, x0.device, between=not model.discrete)
        logs = self.ramp(progress, x0.device)
        state = add_noise(x0, eps, level.gamma)
        if isinstance(loss, DRM | DREAM) and (lam := shares(loss, level)) is not None:
            other = None
            if isinstance(loss, DRM) and loss.noise == "independent":
                other = rng.noise("diffusion_noise", tuple(x0.shape[1:]), x0.device, draw=SECOND)
            guess = first_guess(state, level)
            logs["loss_first"] = self.miss(loss, guess, x0, eps, level).mean()
            state, eps = rectified(self.process, guess, state, x0, eps, level, lam, other)
        miss = self.miss(loss, predict(state, level).float(), x0, eps, level)
        if timesteps.terminal and timesteps.terminal.updates == "summed":
            jump, own = self._jump(timesteps.terminal, predict, x0, rng)
            miss, logs = miss + jump, logs | own
        return LossTerms(miss, logs)

    def terminal_loss(self, model: nn.Module, batch: Batch, progress: float, rng: SampleRng) -> LossTerms:
        """The loss of the jump from pure noise to t_max; `logs`: its three terms, without weights."""
        assert self.spec.timesteps is not None and self.spec.timesteps.terminal is not None
        predict, _, x0 = self.seen(model, batch, progress, rng)
        return LossTerms(*self._jump(self.spec.timesteps.terminal, predict, x0, rng))

    def seen(self, model: nn.Module, batch: Batch, progress: float, rng: SampleRng) -> tuple[Predict, Predict, Tensor]:
        """The network with its condition, the same without gradient and in evaluation mode, and the clean state."""
        condition, x0 = self.states(model, batch, progress, rng)

        def first_guess(state: Tensor, level: Level) -> Tensor:
            with torch.no_grad(), eval_mode(model):
                return model(condition.detach(), state, level).float()

        return (lambda state, level: model(condition, state, level)), first_guess, x0

    def miss(self, loss: DiffusionLoss, out: Tensor, x0: Tensor, eps: Tensor, level: Level) -> Tensor:
        """What an output misses of what it should be, weighed: (B,)."""
        miss = out - self.process.target(x0, eps, level.gamma)
        miss_B = (miss.abs() if loss.norm == "l1" else miss.square()).flatten(1).mean(1)
        return miss_B * snr_weight(loss, self.process.prediction, level) if isinstance(loss, MinSNR) else miss_B

    def _jump(
        self, terminal: Terminal, predict: Predict, x0: Tensor, rng: SampleRng
    ) -> tuple[Tensor, dict[str, Tensor]]:
        assert self.spec.timesteps is not None
        shape, device = tuple(x0.shape[1:]), x0.device
        eps = [rng.noise("diffusion_noise", shape, device, draw=draw) for draw in (AT_T, AT_T_MAX)]
        last = self.process.level(self.process.steps, x0)
        t_max = self.process.level(self.spec.timesteps.jump(self.process.steps), x0)
        terms = jump_terms(terminal, self.process, predict, x0, (eps[0], eps[1]), (last, t_max))
        logs = dict(zip(("loss_T", "loss_t_max", "loss_noise"), (term.detach().mean() for term in terms), strict=True))
        weights = (last.gamma**2, t_max.gamma**2) if terminal.weight == "alpha_bar" else (1.0, 1.0)
        return (weights[0] * terms[0] + weights[1] * terms[1]).to(x0.dtype) + terms[2], logs


def levels(
    timesteps: Timesteps, process: Process, rng: SampleRng, device: torch.device, *, between: bool = True
) -> Level:
    """A noise level for each sample: its step as `timesteps` says, and γ anywhere between that and the one before.

    Args:
        between: False: the step's own γ.
    """
    first, last = timesteps.steps(process.steps)
    step = torch.from_numpy(rng.integers("timestep", first, last + 1))
    share = torch.from_numpy(rng.uniform("timestep", draw=1)) if between else torch.zeros(len(step))
    level = process.between(step, share)
    return Level(level.gamma.to(device), level.t.to(device))


def shares(loss: DRM | DREAM, level: Level) -> Tensor | None:
    """λ, (B,) float64: how much of a first guess's miss goes into the second state; None: no first guess."""
    if isinstance(loss, DRM):
        return torch.ones_like(level.gamma)
    return None if loss.p is None else (1 - level.gamma**2) ** (loss.p / 2)


def rectified(
    process: Process,
    guess: Tensor,
    state: Tensor,
    x0: Tensor,
    eps: Tensor,
    level: Level,
    share: Tensor,
    other: Tensor | None = None,
) -> Rectified:
    """The second state of DRM and DREAM; (state - √(1 - γ²) eps) / γ is x0 in both, so neither has a gradient.

    Args:
        guess: what the network gave for the noisy `state`, without gradient.
        share: λ, (B,).
        other: independent noise in eps's place, for DRM as Eq. 10 prints it.
    """
    miss = eps - process.eps_hat(guess, state, level.gamma)
    moved = (eps if other is None else other) + share.to(eps).view(-1, *[1] * (eps.ndim - 1)) * miss
    return Rectified(add_noise(x0, moved, level.gamma), moved)


def snr_weight(loss: MinSNR, prediction: str, level: Level) -> Tensor:
    """min(SNR, `loss.gamma`) where a network gives x0, which is that over SNR for eps, and over SNR + 1 for v.

    SNR = γ² / (1 - γ²), of the level's γ, whose shape, (B,), the weight has.
    """
    signal = level.gamma**2
    if prediction == "x0":
        weight = (signal / (1 - signal)).clamp(max=loss.gamma)
    else:
        weight = (loss.gamma * (1 - signal) / signal).clamp(max=1)
        weight = weight * signal if prediction == "v" else weight
    return weight.float()


def jump_terms(
    terminal: Terminal,
    process: Process,
    predict: Predict,
    x0: Tensor,
    eps: tuple[Tensor, Tensor],
    at: tuple[Level, Level],
) -> tuple[Tensor, Tensor, Tensor]:
    """l_T, l_tmax and what is missed of the noise at t_max, each a mean square, (B,) and without weights.

    The second pass starts from the first one's guess of x0, which is not clamped.

    Args:
        eps: the noise at T, and that which is added at t_max.
        at: the levels of T and t_max.
    """
    x_T = add_noise(x0, eps[0], at[0].gamma)
    first = process.x0_hat(predict(x_T, at[0]).float(), x_T, at[0].gamma, clamp=False)
    x_max = add_noise(first.detach() if terminal.detach else first, eps[1], at[1].gamma)
    out = predict(x_max, at[1]).float()
    second = process.x0_hat(out, x_max, at[1].gamma, clamp=False)
    noise = process.eps_hat(out, x_max, at[1].gamma)
    l_T, l_max, l_noise = ((a - b).square().flatten(1).mean(1) for a, b in ((first, x0), (second, x0), (noise, eps[1])))
    return l_T, l_max, l_noise
