"""Which noise levels a diffusion network practises: all of a chain, or a part of it; and the jump from pure noise.

The part and the jump are those of CCSR (https://arxiv.org/abs/2401.00877, Sec. 3.3; code https://github.com/csslc/CCSR,
commit 15778ed), there for latents and here for any states. No torch: plans and `--help` read this.

T is the number of steps of the noise process, from 1 (least noise) to T (pure noise, or nearly).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sr_models.hyper.sampling import Sampling
from sr_models.params import Params, SearchRange, searchable

T_MAX, RATIO = 2 / 3, 1 / 2
"""CCSR's, whose t_min is a third of T."""


class Terminal(Params):
    """The network's guess from step T, made noisy again at t_max, and the guess from there (CCSR Eq. 3).

    Its loss is l_T + l_tmax, mean squares of x0's miss in each, and as the released code has it a third one, of the
    guess of what was added at t_max. Two more passes with gradient: with the other update, three times a plain step.
    """

    updates: Literal["alternating", "summed"] = Field(
        default="alternating",
        description="a second update of each batch, with moments (and `train.groups`) of its own; or one of both",
    )
    detach: bool = Field(
        default=False, description="no gradient from what is guessed at t_max back through the guess at T"
    )
    weight: Literal["none", "alpha_bar"] = Field(
        default="none",
        description="of l_T and l_tmax: none, or each times its alpha-bar, which takes back that x0 magnifies the "
        "noise's miss; none is refused where that is more than about 30 times",
    )
    t_max: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="the step of l_tmax, of T; null: the range's t_max, 2/3 under uniform (of 1000 released: 0.668)",
    )


class Timesteps(Params):
    """Base of the choices."""

    terminal: Terminal | None = Field(default=None, description="the jump from pure noise, or null for none")

    def steps(self, T: int) -> tuple[int, int]:
        """First and last step that are practised; each is as likely as another."""
        return 1, T

    def jump(self, T: int) -> int:
        """The step that the guess from T is made noisy at, for a network with `terminal`.

        The released code counts from 0, and makes the guess noisy at 667 of 1000: step 668 here, where the default is
        667, the last one that is practised. `terminal.t_max: 0.668` is its.
        """
        asked = None if self.terminal is None else self.terminal.t_max
        return max(round(T * (T_MAX if asked is None else asked)), 1)

    def sampled(self, sampling: Sampling) -> Sampling:
        """How a network that has practised these levels is sampled, where `sampling` is asked for."""
        return sampling


class Uniform(Timesteps):
    """All steps of the chain, 1 to T."""

    kind: Literal["uniform"] = "uniform"


class Range(Timesteps):
    """The steps up to t_max alone: sampling jumps from pure noise to there, and ends at t_min with a guess.

    A network is sampled by `truncated` from its t_max to its t_min, whatever sampler and t_max and t_min the others
    have, in as many steps and with the `jump` that is asked for.
    """

    kind: Literal["range"] = "range"
    t_max: float = searchable(
        T_MAX, SearchRange(low=0.5, high=0.8), "last step that is practised, as a fraction of T, in (0, 1)", gt=0, lt=1
    )
    ratio: float = searchable(
        RATIO,
        SearchRange(low=0.3, high=0.75),
        "where sampling ends, t_min, as a fraction of t_max, in [0, 1)",
        ge=0,
        lt=1,
    )
    t_low: Literal["zero", "t_min"] = Field(
        default="zero", description="where practice begins: at no noise, as the released code has it, or at t_min"
    )

    @property
    def t_min(self) -> float:
        """Where sampling ends, as a fraction of T."""
        return self.ratio * self.t_max

    def steps(self, T: int) -> tuple[int, int]:
        last = max(round(T * self.t_max), 1)
        return (min(round(T * self.t_min) + 1, last) if self.t_low == "t_min" else 1), last

    def jump(self, T: int) -> int:
        return super().jump(T) if self.terminal and self.terminal.t_max is not None else self.steps(T)[1]

    def sampled(self, sampling: Sampling) -> Sampling:
        return Sampling(
            sampler="truncated", steps=sampling.steps, t_max=self.t_max, t_min=self.t_min, jump=sampling.jump,
            canvas=sampling.canvas, colour_fix=sampling.colour_fix,
        )  # fmt: skip
