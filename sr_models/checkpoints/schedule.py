"""The noise schedule that released diffusion checkpoints hold as buffers beside their weights.

Names are those of https://github.com/Janspiry/Image-Super-Resolution-via-Iterative-Refinement, commit 01d27a7, which
DREAM and IDM share; IDM has `ddim_c1` beside them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from sr_models.errors import InputError
from sr_models.hyper.process import MOST_SIGNAL, ProcessParams

_BUFFERS = {
    "betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod", "posterior_variance",
    "posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2", "ddim_c1",
}  # fmt: skip


def without_schedule(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A file's tensors but its schedule, whose length is no property of the network."""
    return {key: value for key, value in state.items() if _name(key) not in _BUFFERS}


def recorded_process(state: Mapping[str, Tensor], where: str) -> ProcessParams | None:
    """The process whose schedule a file holds; None if it holds none.

    Raises:
        InputError: its betas are none of the schedules that there are.
    """
    betas = next((value.double().numpy() for key, value in state.items() if _name(key) == "betas"), None)
    if betas is None:
        return None
    if betas.ndim != 1 or not betas.size or not ((betas > 0) & (betas < 1)).all():
        raise InputError(
            f"{where}: its betas are no noise schedule (shape {tuple(betas.shape)}, to be between 0 and 1)"
        )
    start, end = (float(f"{value:.6g}") for value in (betas[0], betas[-1]))
    ends = {
        "linear": np.linspace(start, end, len(betas)),
        "scaled_linear": np.linspace(start**0.5, end**0.5, len(betas)) ** 2,
    }
    kind = next((name for name, made in ends.items() if np.allclose(betas, made, rtol=1e-4, atol=0)), None)
    if kind is None:
        raise InputError(
            f"{where}: its {len(betas)} betas from {start:g} to {end:g} rise neither linearly nor by squares"
        )
    left = bool(np.prod(1 - betas) > MOST_SIGNAL)
    values = {"T": len(betas), "schedule": kind, "beta_start": start, "beta_end": end, "allow_terminal_signal": left}
    return ProcessParams.parse(values, f"{where}, its schedule")


def _name(key: str) -> str:
    return key.rpartition(".")[2]
