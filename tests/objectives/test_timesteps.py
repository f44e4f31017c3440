"""Which steps are practised, where the jump is, and how such a network is sampled."""

import pytest

from objectives.timesteps import Range, Terminal, Timesteps, Uniform
from sr_models.hyper.sampling import Sampling


@pytest.mark.parametrize(
    ("timesteps", "T", "steps", "jump"),
    [
        (Uniform(), 2000, (1, 2000), 1333),
        (Uniform(terminal=Terminal(t_max=0.5)), 2000, (1, 2000), 1000),
        (Range(), 1000, (1, 667), 667),  # the released code's 667 steps from 0 to 666, its jump one further
        (Range(t_low="t_min"), 1000, (334, 667), 667),
        (Range(t_max=0.5, ratio=0.4, t_low="t_min"), 2000, (401, 1000), 1000),
        (Range(terminal=Terminal(t_max=0.8)), 1000, (1, 667), 800),
        (Range(terminal=Terminal(t_max=0.668)), 1000, (1, 667), 668),  # the released code's, which is 667 from 0
        (Range(t_max=0.1, ratio=0.9, t_low="t_min"), 1, (1, 1), 1),
        (Range(t_max=0.01, ratio=0.999, t_low="t_min"), 100, (1, 1), 1),
    ],
)
def test_steps_and_jump(timesteps: Timesteps, T: int, steps: tuple[int, int], jump: int) -> None:
    assert (timesteps.steps(T), timesteps.jump(T)) == (steps, jump)


def test_what_practised_a_part_of_the_chain_is_sampled_on_it() -> None:
    asked = Sampling(sampler="ddim", steps=20, eta=0.5)
    assert Uniform().sampled(asked) == asked
    found = Range(t_max=0.6, ratio=0.5).sampled(asked)
    assert found == Sampling(sampler="truncated", steps=20, t_max=0.6, t_min=0.3)
    more = {"canvas": "ccsr", "colour_fix": "adain"}
    assert Range(t_max=0.6, ratio=0.5).sampled(asked.model_copy(update=more)) == found.model_copy(update=more)


def test_the_jump_that_is_asked_for_is_made_from_its_own_t_max() -> None:
    asked = Sampling(sampler="truncated", steps=45, jump="released")
    found = Range(t_max=0.5, ratio=2 / 3).sampled(asked)
    assert found == Sampling(sampler="truncated", steps=45, t_max=0.5, t_min=1 / 3, jump="released")
    assert found.mark == "truncated45t0.5-0.333333jump"
