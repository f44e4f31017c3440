"""DPM-Solver++ (https://arxiv.org/abs/2211.01095) and UniPC (https://arxiv.org/abs/2302.04867), as diffusers has them.

An adapter: the schedulers of https://github.com/huggingface/diffusers see our clamped guess of x0 and our ᾱ, and choose
their own steps. They are optional, by the extra [diffusion]. States and guesses are (B, C, H, W), as in `process`.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from sr_models.diffusion.process import Level, Process
from sr_models.errors import InputError
from sr_models.hyper.sampling import check_solvers


def dpm_solver(
    predict: Callable[[Tensor, Level], Tensor], process: Process, start: Tensor, steps: int | None
) -> Tensor:
    """DPM-Solver++ of second order, multistep.

    Args:
        start: noise of the state's size.
        steps: calls of the network; None: as many as the process has.

    Raises:
        InputError: diffusers is not installed, the process has fewer steps, or it ends without any signal.
    """
    return _solved("DPMSolverMultistepScheduler", predict, process, start, steps)


def unipc(predict: Callable[[Tensor, Level], Tensor], process: Process, start: Tensor, steps: int | None) -> Tensor:
    """UniPC of second order; arguments and errors as of `dpm_solver`."""
    return _solved("UniPCMultistepScheduler", predict, process, start, steps)


def _solved(
    scheduler: str, predict: Callable[[Tensor, Level], Tensor], process: Process, state: Tensor, steps: int | None
) -> Tensor:
    check_solvers(process.alpha_bar)
    import diffusers

    count = process.steps if steps is None else steps
    if count > process.steps:
        raise InputError(f"sampling: the process has {process.steps} steps, fewer than steps={count}")
    betas = 1 - process.alpha_bar[1:] / process.alpha_bar[:-1]
    solver = getattr(diffusers, scheduler)(
        num_train_timesteps=process.steps, trained_betas=betas, prediction_type="sample"
    )
    solver.set_timesteps(count, device=state.device)
    for timestep in solver.timesteps:
        step = int(timestep) + 1
        x0 = process.x0_hat(predict(state, process.level(step, state)), state, process.gamma(step))
        state = solver.step(x0, timestep, state).prev_sample
    return state
