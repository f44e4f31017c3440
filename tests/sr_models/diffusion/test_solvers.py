"""The adapter to diffusers' schedulers: its peers' own steps, and one line where it is not installed."""

import sys

import pytest
import torch
from torch import Tensor

from sr_models.diffusion.process import Level, Process
from sr_models.diffusion.samplers import sample_state, settled
from sr_models.errors import InputError
from sr_models.hyper.process import ProcessParams
from sr_models.hyper.sampling import Sampling

MEAN, SPREAD = 0.2, 0.1
NAMES = ["dpm_solver", "unipc"]


@pytest.fixture
def diffusers() -> None:
    pytest.importorskip("diffusers", reason="needs the extra [diffusion]")


def best_guess(state: Tensor, level: Level) -> Tensor:
    """The expected noise in a pixel of N(MEAN, SPREAD²) pictures."""
    root = level.gamma.float()[:, None, None, None]
    rest2 = 1 - root**2
    return rest2.sqrt() * (state - root * MEAN) / (root**2 * SPREAD**2 + rest2)


@pytest.mark.parametrize("name", NAMES)
def test_steps_are_those_of_diffusers_with_its_own_schedule_and_noise_prediction(diffusers, name):
    from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler

    start = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    params = ProcessParams(T=1000, beta_start=1e-4, beta_end=2e-2, clamp=False)
    peer = (DPMSolverMultistepScheduler if name == "dpm_solver" else UniPCMultistepScheduler)(
        beta_start=1e-4, beta_end=2e-2
    )
    peer.set_timesteps(20)
    theirs = start
    for timestep in peer.timesteps:
        gamma = peer.alphas_cumprod[timestep].sqrt().reshape(1)
        eps = best_guess(theirs, Level(gamma, timestep.reshape(1)))
        theirs = peer.step(eps, timestep, theirs).prev_sample
    ours = sample_state(best_guess, Process.of(params), lambda k: start, Sampling(sampler=name, steps=20))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_more_steps_come_closer_to_the_picture_that_belongs_to_a_start(diffusers, name):
    """Without noise on the way, a start of z goes to MEAN + SPREAD z."""
    start = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    process = Process.of(ProcessParams(T=1000, beta_start=1e-4, beta_end=2e-2, clamp=False))
    errors = []
    for steps in (10, 100):
        x = sample_state(best_guess, process, lambda k: start, Sampling(sampler=name, steps=steps))
        errors.append(float((x - (MEAN + SPREAD * start)).abs().mean()))
    assert errors[1] < errors[0] / 2 and errors[1] < 0.1 * SPREAD, errors


@pytest.mark.parametrize("name", NAMES)
def test_what_a_solver_cannot_do_is_refused(diffusers, name):
    whole = ProcessParams(T=40, beta_end=0.3)
    none_left = whole.model_copy(update={"zero_terminal_snr": True, "prediction": "v"})
    for params, steps, said in ((whole, 41, "fewer than steps=41"), (none_left, 10, "zero_terminal_snr has none")):
        with pytest.raises(InputError, match=said):
            sample_state(
                best_guess, Process.of(params), lambda k: torch.zeros(1, 1, 2, 2), Sampling(sampler=name, steps=steps)
            )
        with pytest.raises(InputError, match=said):
            settled(params, Sampling(sampler=name, steps=steps))


@pytest.mark.parametrize("name", NAMES)
def test_without_diffusers_one_line_says_what_to_install(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(
        InputError, match=r"need diffusers, which is not installed: pip install 'sr-sweep\[diffusion\]'"
    ):
        sample_state(
            best_guess, Process.of(ProcessParams()), lambda k: torch.zeros(1, 1, 2, 2), Sampling(sampler=name, steps=4)
        )
