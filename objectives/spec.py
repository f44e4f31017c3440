"""What an objective is made of: target x loss x timesteps, plus an optional sigma branch, as declared hyperparameters.

Sources: ECO (Lee & Heo 2023, https://arxiv.org/abs/2312.17526) for the targets, He & Cheng 2022
(https://arxiv.org/abs/2201.10084) for the sigma branch; losses are in `objectives.losses`, what of a noise process is
practised in `objectives.timesteps`. No torch: plans and `--help` read this.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, SerializeAsAny, WrapValidator, model_validator

from objectives.losses import (
    DDPM,
    DREAM,
    DRM,
    L1,
    L2,
    NOTHING,
    AdversarialBranch,
    CCSRDecoder,
    Charbonnier,
    ConstantSigma,
    Expectation,
    MinSNR,
    Need,
    NoLoss,
    Reconstruction,
    ResidualShift,
    SampledSigma,
)
from objectives.named import with_added
from objectives.timesteps import Range, Uniform
from sr_models.errors import InputError
from sr_models.hyper.process import ShiftParams
from sr_models.hyper.sampling import Sampling
from sr_models.params import Params, SearchRange, nearest, searchable

GrowingShape = Literal["linear", "cosine", "polynomial", "sigmoid", "step"]
Output = Literal["sr", "noise"]
RampShape = Literal[GrowingShape, "points"]
Unit = Annotated[float, Field(ge=0, le=1)]


# ---- targets: what the network is asked to reach -------------------------------------------------------------------


class TargetParams(Params):
    """Base of the targets."""

    needs: ClassVar[frozenset[Need]] = NOTHING
    output: ClassVar[Output] = "sr"
    """What the network gives once it has learned."""


class HR(TargetParams):
    """The ordinary pair: x -> y."""

    kind: Literal["hr"] = "hr"


class Distillation(TargetParams):
    """Knowledge distillation, x -> mu (ECO Eq. 9): only the target is replaced, there is no ground-truth term."""

    kind: Literal["kd"] = "kd"
    needs: ClassVar[frozenset[Need]] = frozenset({"mu"})


class CentroidTarget(TargetParams):
    """The noise-free pair, D(mu) -> mu (ECO Eq. 11)."""

    kind: Literal["noise_free"] = "noise_free"
    needs: ClassVar[frozenset[Need]] = frozenset({"mu", "mu_lr"})


class RampedTarget(TargetParams):
    """Base of the targets that go from the noise-free pair, alpha = 0, to the real one, alpha = 1.

    The paper prints only that alpha grows smoothly from 0 to 1; the defaults are its literal reading, a linear ramp
    over the whole run. The ramp is cut at the end of the run, so alpha always reaches 1, unless `points` say otherwise:
    see `objectives.ramps`.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"mu", "mu_lr"})
    shape: RampShape = searchable(
        "linear",
        SearchRange(choices=get_args(GrowingShape)),
        "how alpha grows from 0 to 1; points: as `points` say, by steps, jumps or backwards",
    )
    length: float = searchable(
        1.0, SearchRange(low=0.25, high=1.0), "length of the ramp as a fraction of the run, in (0, 1]", gt=0, le=1
    )
    warm_hold: float = Field(
        default=0.0, ge=0, le=0.9, description="fraction of the run held at alpha = 0 before the ramp"
    )
    power: float = Field(default=2.0, gt=0, description="exponent of the polynomial ramp, > 0 (1 is linear)")
    steepness: float = Field(
        default=10.0, ge=0.1, le=1000, description="logistic range of the sigmoid ramp, in [0.1, 1000]"
    )
    points: tuple[tuple[Unit, Unit], ...] | None = Field(
        default=None,
        min_length=1,
        exclude_if=lambda points: points is None,  # so that trials keep the fingerprints they had before
        description="shape points: [[fraction of the run, alpha], ...], straight between them, the end values held "
        "beyond; a fraction that comes twice is a jump there",
    )

    @model_validator(mode="after")
    def _points_in_order(self) -> RampedTarget:
        if (self.shape == "points") != (self.points is not None):
            raise ValueError(f"shape points and points go together, got shape {self.shape} and points {self.points}")
        if self.points and any(a[0] > b[0] for a, b in itertools.pairwise(self.points)):
            raise ValueError(f"points go on in the run, so their fractions never fall (got {self.points})")
        return self


class CentroidMixup(RampedTarget):
    """From the noise-free pair to the real one, (1-alpha)(D(mu), mu) + alpha(x, y), alpha from 0 to 1 (ECO Eq. 14)."""

    kind: Literal["mixup"] = "mixup"


class LossMixup(RampedTarget):
    """alpha weighs two losses, (1-alpha) L(f(D(mu)), mu) + alpha L(f(x), y), and no images are mixed (ECO Fig. 5).

    Two forward passes, and one where alpha is exactly 0 or 1.
    """

    kind: Literal["loss_mixup"] = "loss_mixup"


class ImageMixup(TargetParams):
    """Ordinary mixup of two images, lambda (x, y) + (1-lambda) (x', y') with lambda ~ Beta(a, a) for each sample.

    Zhang et al. 2018 (https://arxiv.org/abs/1710.09412), for SR in Yoo et al. 2020 (https://arxiv.org/abs/2004.00448):
    what ECO compares with, and can be used beside. (x', y') is no row of the batch, which another number of workers
    would cut otherwise, but a pair drawn like one, by the sample's own number: the same distribution.
    """

    kind: Literal["image_mixup"] = "image_mixup"
    needs: ClassVar[frozenset[Need]] = frozenset({"partner"})
    a: float = searchable(
        1.0,
        SearchRange(low=0.1, high=4.0, log=True),
        "both parameters of lambda's Beta distribution: 1 is uniform, small ones leave most images nearly unmixed",
        ge=0.01,
        le=100,
    )


class NoiseRegression(TargetParams):
    """The inherent noise, x -> y - mu (ECO Fig. 8, by an RRDB): to be shown, since from x alone it cannot be known.

    What the network gives is no SR: it is trained, neither searched, nor validated, nor scored, and its weights are
    refused wherever SR is expected. How much of the noise it has found stands in its journal: the loss beside
    `loss_zero`, that of giving 0. Networks that add the mean colour of images (EDSR, RCAN) must unlearn that first.
    """

    kind: Literal["noise_regression"] = "noise_regression"
    needs: ClassVar[frozenset[Need]] = frozenset({"mu"})
    output: ClassVar[Output] = "noise"


# ---- the sigma branch ----------------------------------------------------------------------------------------------


class SigmaBranch(Params):
    """A head that predicts |y - mu| from the network's features, trained by beta |target - sigma| (Eq. 10).

    It departs from the paper in two places, for one reason: the optimum of an L1 loss is the target's conditional
    median. Eq. 10 prints y - mu, whose median is about 0 (`signed`). And the paper zeroes the |y - mu| below their
    average, by its wording here too: in an image whose errors have a tail that is more than half of them, so the median
    is 0 again. So the target is |y - mu|, all of it, and sigma its median; beta and the rest are as printed.
    """

    beta: float = searchable(
        0.01,
        SearchRange(low=1e-3, high=1e-1, log=True),
        "weight of the auxiliary loss, both terms in [0, 1], > 0",
        gt=0,
    )
    width: int = Field(default=160, ge=1, le=4096, description="channels of the head's hidden convolutions")
    signed: bool = Field(default=False, description="target y - mu as printed (sigma collapses to 0), not |y - mu|")
    zero_below_average: bool = Field(
        default=False,
        description="zero the target where |y - mu| is below its image's average (sigma collapses to 0: a median)",
    )


# ---- the objective -------------------------------------------------------------------------------------------------

Target = HR | Distillation | CentroidTarget | CentroidMixup | LossMixup | ImageMixup | NoiseRegression
Loss = (
    L1 | L2 | Charbonnier | ConstantSigma | SampledSigma | Expectation | NoLoss | Reconstruction
    | DDPM | DRM | DREAM | MinSNR | ResidualShift | CCSRDecoder
)  # fmt: skip
Steps = Uniform | Range


class ObjectiveSpec(Params):
    """One point of target x loss x timesteps; immutable, comparable, and round-trips through `model_dump`."""

    target: Annotated[Target, Field(discriminator="kind", description="what the network is asked to reach")]
    loss: Annotated[
        SerializeAsAny[Loss],  # of plug-ins, too
        Field(discriminator="kind", description="how the miss is measured"),
        WrapValidator(with_added),
    ]
    sigma: SigmaBranch | None = Field(default=None, description="the sigma branch, or null for none")
    timesteps: Annotated[Steps, Field(discriminator="kind")] | None = Field(
        default=None, description="which noise levels are practised (diffusion only; null for regression)"
    )

    @model_validator(mode="after")
    def _levels_of_noise(self) -> ObjectiveSpec:
        loss, has = self.loss.kind, self.timesteps is not None
        if has != (self.loss.family == "diffusion"):
            asked = f"no noise levels (got timesteps {self.timesteps.kind})" if self.timesteps else "timesteps"
            raise ValueError(f"loss {loss} takes {asked}" + ("" if has else ": uniform or range"))
        if self.loss.family != "regression" and self.sigma:
            raise ValueError(f"a sigma branch beside loss {loss} would have nothing to learn; leave sigma out")
        return self

    @model_validator(mode="after")
    def _chain_of_a_decoder(self) -> ObjectiveSpec:
        if isinstance(self.loss, CCSRDecoder) and (not isinstance(self.timesteps, Range) or self.timesteps.terminal):
            raise ValueError("loss ccsr_decoder samples by timesteps range, without terminal")
        return self

    @model_validator(mode="after")
    def _shift_without_jump(self) -> ObjectiveSpec:
        if self.shifting is not None and self.timesteps is not None and self.timesteps.terminal is not None:
            raise ValueError(f"loss {self.loss.kind} starts from LR and not from noise; leave timesteps.terminal out")
        return self

    @model_validator(mode="after")
    def _branch_that_counts(self) -> ObjectiveSpec:
        if self.sigma and not self.loss.auxiliary:
            plain = SigmaBranch(width=self.sigma.width)
            if idle := [name for name, value in self.sigma if value != getattr(plain, name)]:
                raise ValueError(
                    f"sigma.{idle[0]} has no effect with loss {self.loss.kind}, from which alone sigma learns "
                    f"(got {getattr(self.sigma, idle[0])!r})"
                )
        return self

    @property
    def needs(self) -> frozenset[Need]:
        """What a run must supply: a subset of {"mu", "mu_lr", "partner", "sigma"}."""
        return self.target.needs | (frozenset({"sigma"}) if self.sigma else NOTHING)

    @property
    def shifting(self) -> ShiftParams | None:
        """The process that is the loss's own, which moves states towards LR's; None: that of the network, or none."""
        if not isinstance(self.loss, ResidualShift):
            return None
        return ShiftParams(**{name: getattr(self.loss, name) for name in ShiftParams.model_fields})

    @property
    def takes_process(self) -> bool:
        """Whether it trains under a noise process that the config chooses."""
        return self.timesteps is not None and self.shifting is None

    def sampled(self, asked: Sampling) -> Sampling | None:
        """How a network that it has trained is sampled, where `asked` is what all are; None: it draws nothing.

        A tuned decoder is for samples by the `jump` of its loss, so these are what it is given.
        """
        if self.timesteps is None:
            return None
        if self.shifting is not None:
            return Sampling(sampler="resshift", canvas=asked.canvas, colour_fix=asked.colour_fix)
        sampled = self.timesteps.sampled(asked)
        return sampled.model_copy(update={"jump": self.loss.jump}) if isinstance(self.loss, CCSRDecoder) else sampled

    @property
    def practised(self) -> Sampling | None:
        """How a network that has practised a range of noise levels is sampled by itself; None: it has practised all."""
        return self.sampled(Sampling()) if isinstance(self.timesteps, Range) else None

    @property
    def seats(self) -> dict[str, Params]:
        """The parts that it has, by their place."""
        parts = {seat: getattr(self, seat) for seat in ObjectiveSpec.model_fields}
        return {seat: part for seat, part in parts.items() if part is not None}

    @property
    def update_names(self) -> tuple[str, ...]:
        """Names of the updates that a batch makes, in order (`objectives.compose.Objective.updates`)."""
        if isinstance(self.loss, AdversarialBranch):
            return "generator", "discriminator"
        terminal = self.timesteps.terminal if self.timesteps else None
        return ("model", "terminal") if terminal and terminal.updates == "alternating" else ("model",)

    @property
    def chain(self) -> Sampling | None:
        """The frozen chain whose guess a decoder is tuned on; None of other losses."""
        return self.sampled(Sampling(steps=self.loss.steps)) if isinstance(self.loss, CCSRDecoder) else None

    @property
    def perceives(self) -> bool:
        """Whether its loss measures LPIPS."""
        return isinstance(self.loss, AdversarialBranch) and self.loss.perceptual_weight > 0

    @property
    def whole_batches(self) -> bool:
        """Whether its own network looks at a batch as a whole, so that parts of one are not the same step."""
        return isinstance(self.loss, AdversarialBranch) and self.loss.norm == "batch"


def search_ranges(spec: ObjectiveSpec) -> dict[str, SearchRange]:
    """Dotted name -> range of every hyperparameter that a search may vary in `spec`, e.g. "target.length".

    A ramp of given points has none, nor a sigma branch without the auxiliary loss, nor DREAM without p.
    """
    return {
        f"{seat}.{name}": found
        for seat, component in spec.seats.items()
        if not (isinstance(component, RampedTarget) and component.points)
        and (spec.loss.auxiliary or not isinstance(component, SigmaBranch))
        and not (isinstance(component, DREAM) and component.p is None)
        for name, found in type(component).search_ranges().items()
    }


def with_values(spec: ObjectiveSpec, values: Mapping[str, Any], where: str = "objective") -> ObjectiveSpec:
    """`spec` with some hyperparameters replaced, e.g. {"target.length": 0.5}; checked like user input.

    Raises:
        InputError: a name that this spec does not have, or a value out of range.
    """
    plain = spec.model_dump()
    fields = {seat: type(part).model_fields.keys() - {"kind"} for seat, part in spec.seats.items()}
    names = [f"{seat}.{name}" for seat, found in fields.items() for name in found]
    for dotted, value in values.items():
        if dotted not in names:
            raise InputError(f"{where}: unknown hyperparameter {dotted!r}{nearest(dotted, names)}")
        seat, name = dotted.split(".")
        plain[seat][name] = value
    return ObjectiveSpec.parse(plain, where)
