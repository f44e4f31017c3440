"""From noise to a picture, by DDPM's steps, by DDIM's, or by CCSR's truncated chain; all with one signature.

Ancestral: Algorithm 2 of https://arxiv.org/abs/2006.11239 through the clamped guess of x0, as SR3's code has it
(Janspiry, commit 01d27a7). DDIM: https://arxiv.org/abs/2010.02502, Eq. 12 and 16; the steps of `idm_ddim` are those of
https://github.com/Ree1s/IDM, commit d224c0e. Truncated: https://arxiv.org/abs/2401.00877, Sec. 3.3, steps as in
https://github.com/csslc/CCSR, commit 15778ed. States and guesses are (B, C, H, W), clean ones in [-1, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from torch import Tensor

from sr_models.diffusion.process import Level, Process, add_noise, eps_between
from sr_models.diffusion.solvers import dpm_solver, unipc
from sr_models.errors import InputError
from sr_models.hyper.process import AnyProcess, ShiftParams, spread
from sr_models.hyper.sampling import SOLVERS, Sampling, check_sampler, check_solvers

Predict = Callable[[Tensor, Level], Tensor]
"""A network on a noisy state."""

Noise = Callable[[int], Tensor]
"""Standard normal noise of the state's size: 0 is what sampling starts from, then one for each step that adds some."""

Sampler = Callable[[Predict, Process, Noise, Sampling], Tensor]
"""Returns the clean state."""


class Guess(NamedTuple):
    """What one call of a network says of the clean state: at step t of the whole chain, x0 of the state's shape."""

    t: int
    x0: Tensor


def sample_state(predict: Predict, process: Process, noise: Noise, sampling: Sampling) -> Tensor:
    """Draw a clean state as `sampling` says.

    Raises:
        InputError: more steps than the process has, none between t_max and t_min, or an extra that is not installed.
    """
    return SAMPLERS[sampling.sampler](predict, process, noise, sampling)


def settled(params: AnyProcess, sampling: Sampling) -> Sampling:
    """`sampling` with its number of steps named, as scores record it; raises what drawing by it would.

    A network of residual shifting takes its own steps where ancestral ones are asked for.
    """
    if isinstance(params, ShiftParams) and sampling.sampler == "ancestral":
        sampling = Sampling(
            sampler="resshift", steps=sampling.steps, canvas=sampling.canvas, colour_fix=sampling.colour_fix
        )
    check_sampler(params, sampling)
    if isinstance(params, ShiftParams):
        return sampling.model_copy(update={"steps": params.steps})
    count = len(accumulated(params.steps, sampling.steps))
    if sampling.sampler == "idm_ddim":
        shipped(params.steps, sampling.steps)
    if sampling.sampler == "truncated":
        used(count, sampling)
    if sampling.sampler in SOLVERS:
        check_solvers(params.alpha_bar())
    return sampling.model_copy(update={"steps": count})


def ancestral(predict: Predict, process: Process, noise: Noise, sampling: Sampling) -> Tensor:
    """The last of `ancestral_guesses`: the step to a clean picture adds nothing."""
    return _last(ancestral_guesses(predict, process, noise, sampling))


def ancestral_guesses(predict: Predict, process: Process, noise: Noise, sampling: Sampling) -> Iterator[Guess]:
    """Each step draws from q(x_{t-1} | x_t, guess of x0)."""
    chain = process.respaced(evenly(process.steps, sampling.steps))
    state = noise(0)
    for step in range(chain.steps, 0, -1):
        x0 = _guess(predict, chain, step, state)
        yield Guess(int(chain.t[step]), x0)
        if step > 1:
            state = _posterior_step(chain, step, x0, state, noise, chain.steps - step + 1)


def ddim(predict: Predict, process: Process, noise: Noise, sampling: Sampling) -> Tensor:
    """Steps towards the guess of x0 along the noise that is left, of which a part, by eta, is drawn anew."""
    chain = process.respaced(evenly(process.steps, sampling.steps))
    state, eta = noise(0), sampling.eta or 0.0
    for step in range(chain.steps, 0, -1):
        gamma, before = chain.gamma(step), float(chain.alpha_bar[step - 1])
        out = predict(state, chain.level(step, state))
        x0 = chain.x0_hat(out, state, gamma)
        eps = chain.eps_hat(out, state, gamma) if sampling.eps == "predicted" else eps_between(x0, state, gamma)
        sigma = eta * math.sqrt(chain.posterior(step)[2])
        state = math.sqrt(before) * x0 + math.sqrt(max(1 - before - sigma**2, 0.0)) * eps
        if sigma > 0:
            state = state + sigma * noise(chain.steps - step + 1)
    return state


def idm_ddim(predict: Predict, process: Process, noise: Noise, sampling: Sampling) -> Tensor:
    """DDIM without noise and without clamping, which ends with the state at step 1: that noise stays in the picture."""
    chain, state = process.respaced(shipped(process.steps, sampling.steps)), noise(0)
    for step in range(chain.steps, 1, -1):
        gamma, before = chain.gamma(step), float(chain.alpha_bar[step - 1])
        out = predict(state, chain.level(step, state))
        x0, eps = chain.x0_hat(out, state, gamma, clamp=False), chain.eps_hat(out, state, gamma)
        state = math.sqrt(before) * x0 + math.sqrt(1 - before) * eps
    return state


def truncated(predict: Predict, process: Process, noise: Noise, sampling: Sampling) -> Tensor:
    """The last of `truncated_guesses`, at t_min."""
    return _last(truncated_guesses(predict, process, noise, sampling))


def truncated_guesses(predict: Predict, process: Process, noise: Noise, sampling: Sampling) -> Iterator[Guess]:
    """One guess from pure noise, noise again at t_max, ancestral steps from there to t_min."""
    kept = accumulated(process.steps, sampling.steps)
    chain, (first, last) = process.respaced(kept), used(len(kept), sampling)
    assert sampling.t_max is not None
    x0 = _guess(predict, chain, chain.steps, noise(0))
    yield Guess(int(chain.t[chain.steps]), x0)
    jump = round((chain.steps - 1) * sampling.t_max) + 1 if sampling.jump == "released" else first
    state = add_noise(x0, noise(1), chain.gamma(jump))
    for number, step in enumerate(range(first, last - 1, -1), start=2):
        x0 = _guess(predict, chain, step, state)
        yield Guess(int(chain.t[step]), x0)
        if step > last:
            state = _posterior_step(chain, step, x0, state, noise, number)


SAMPLERS: dict[str, Sampler] = {
    "ancestral": ancestral,
    "ddim": ddim,
    "idm_ddim": idm_ddim,
    "truncated": truncated,
    "dpm_solver": lambda predict, process, noise, sampling: dpm_solver(predict, process, noise(0), sampling.steps),
    "unipc": lambda predict, process, noise, sampling: unipc(predict, process, noise(0), sampling.steps),
}

GUESSES: dict[str, Callable[[Predict, Process, Noise, Sampling], Iterator[Guess]]] = {
    "ancestral": ancestral_guesses,
    "truncated": truncated_guesses,
}
"""Samplers of which each call's guess of the clean state can be watched; the last one is what they return."""


def evenly(total: int, count: int | None) -> list[int]:
    """`count` steps of 1 to `total` with the last among them, and the first if there are several; None: all.

    Raises:
        InputError: fewer than `count` there are.
    """
    return spread(total, _checked(total, count))


def shipped(total: int, count: int | None) -> list[int]:
    """Step 1 and every (`total` // `count`)-th after it: `count` steps, or more where that leaves a rest.

    Raises:
        InputError: as `evenly`, or one step alone, which nothing would be called at.
    """
    kept = [*range(1, total + 1, total // _checked(total, count))]
    if len(kept) < 2:
        raise InputError(f"sampling: idm_ddim needs 2 of the {total} steps at least, got steps={count}")
    return kept


def accumulated(total: int, count: int | None) -> list[int]:
    """`evenly` by the rule of guided diffusion, which adds up a fraction of a step and rounds the sum.

    Raises:
        InputError: as `evenly`.
    """
    if count == 1:
        return [total]
    wanted = _checked(total, count)
    stride, at, steps = (total - 1) / max(wanted - 1, 1), 0.0, []
    for _ in range(wanted):
        steps.append(1 + round(at))
        at += stride
    return steps


def used(count: int, sampling: Sampling) -> tuple[int, int]:
    """First and last step, of a chain of `count`, that truncated sampling calls the network at after its jump.

    Raises:
        InputError: there is none.
    """
    assert sampling.t_max is not None and sampling.t_min is not None
    first, last = round(count * sampling.t_max), round(count * sampling.t_min) + 1
    if first < last:
        raise InputError(
            f"sampling: no step of {count} lies between t_max {sampling.t_max:g} and t_min {sampling.t_min:g}"
        )
    return first, last


def _checked(total: int, count: int | None) -> int:
    if count is not None and count > total:
        raise InputError(f"sampling: the process has {total} steps, fewer than steps={count}")
    return total if count is None else count


def _guess(predict: Predict, chain: Process, step: int, state: Tensor) -> Tensor:
    return chain.x0_hat(predict(state, chain.level(step, state)), state, chain.gamma(step))


def _last(guesses: Iterator[Guess]) -> Tensor:
    for guess in guesses:
        x0 = guess.x0
    return x0


def _posterior_step(chain: Process, step: int, x0: Tensor, state: Tensor, noise: Noise, number: int) -> Tensor:
    """A draw from q(x_{t-1} | x_t, x0), with the noise of that number if there is any."""
    of_x0, of_state, variance = chain.posterior(step)
    return of_x0 * x0 + of_state * state + math.sqrt(variance) * noise(number)
