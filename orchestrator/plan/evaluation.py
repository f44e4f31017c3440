"""How winners are scored, and how validations look at networks on the way there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import Field, field_validator, model_validator

from eval.protocol import VALIDATED, Protocol, get_metric, get_protocol, plain_metric
from objectives import ObjectiveSpec
from orchestrator.plan.train import MOST_COUNT
from orchestrator.plan.trial import Measured, check_tiles, crops_field, overlap_field, tile_field
from sr_models.hyper.crops import CropRule, Crops, rule_of
from sr_models.hyper.sampling import Sampling
from sr_models.params import Params, each_once, one_as_list


def check_validated(name: str) -> None:
    """Raises ValueError: no such metric, or none that a validation measures; `ema.` may stand before it."""
    get_metric(plain := plain_metric(name))
    if plain not in VALIDATED:
        raise ValueError(f"a validation measures {', '.join(VALIDATED)}; got {name!r}, which is for evaluation")


class EvaluationConfig(Params):
    """How winners are scored."""

    protocol: str = Field(default="classical", description="named protocol, stamped on every score")
    metrics: tuple[str, ...] = Field(
        default=("psnr_y", "ssim_y"), min_length=1, description="the first one leads the board"
    )
    draws: int | None = Field(
        default=None,
        ge=1,
        le=MOST_COUNT,
        description="samples of a stochastic network; null: as many as the protocol says",
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="of the noise of stochastic networks")
    weights_dir: str | None = Field(
        default=None, description="folder of what LPIPS, DISTS, FID and KID need; null: $SR_WEIGHTS_DIR, torch's cache"
    )
    workers: int | None = Field(
        default=None,
        ge=1,
        le=MOST_COUNT,
        description="processes that run networks; null: as many as the search had workers",
    )
    tile: int | None = tile_field(
        "side, in LR pixels, of the tiles that SR is computed in, by validations too; in the protocol's id; null: whole"
    )
    tile_overlap: int = overlap_field()
    crops: Crops | None = crops_field(
        "a paper's tiles for diffusion networks, by validations too, in the place of tile; in protocol ids; null: none"
    )
    sampling: Sampling | None = Field(
        default=None,
        exclude_if=lambda sampling: sampling is None,
        description="how diffusion networks draw pictures, in protocol ids; null: all steps of their process. One that "
        "has practised a range of timesteps is sampled on that, with as many steps: t_max, t_min and a tuned decoder's "
        "jump are the network's own",
    )

    @field_validator("metrics", mode="before")
    @classmethod
    def _one_name_is_a_list(cls, given: Any) -> Any:
        return one_as_list(given)

    @model_validator(mode="after")
    def _known(self) -> EvaluationConfig:
        check_tiles(self.tile, self.tile_overlap)
        if self.crops is not None and self.tile is not None:
            raise ValueError(f"crops {self.crops} and tile {self.tile} both say what the tiles are; give one")
        get_protocol(self.protocol)
        for name in self.metrics:
            get_metric(name)
        each_once(self.metrics)
        return self

    @property
    def full_protocol(self) -> Protocol:
        """The protocol with the draws that are asked for; a test set may add noise of its own."""
        found = get_protocol(self.protocol)
        return found if self.draws is None else found.model_copy(update={"draws": self.draws})

    @property
    def crop_rule(self) -> CropRule | None:
        """As `sr_models.inference.super_resolve.Options` has it, which is behind torch."""
        return rule_of(self.crops, self.tile, self.tile_overlap)


class ValidationConfig(Measured):
    """How validations during training look at networks, where less than all that evaluation does is enough."""

    steps: int | None = Field(
        default=None,
        ge=1,
        description="steps that a diffusion network is sampled in; null: as evaluation.sampling says",
    )
    metrics: tuple[str, ...] = Field(
        default=(),
        description="what is measured beside search.metric and the board's first metric; l_std needs draws >= 2",
    )

    @field_validator("metrics", mode="before")
    @classmethod
    def _one_name_is_a_list(cls, given: Any) -> Any:
        return one_as_list(given)

    @model_validator(mode="after")
    def _known(self) -> ValidationConfig:
        each_once(self.metrics)
        for name in self.metrics:
            check_validated(name)
        self.check_draws(self.metrics)
        return self

    def check_draws(self, metrics: Iterable[str]) -> None:
        """Raises ValueError: a spread over draws, of which there is one."""
        if "l_std" in map(plain_metric, metrics) and self.draws < 2:
            raise ValueError(f"l_std is a spread over draws: it needs validation.draws >= 2 (got {self.draws})")

    @property
    def measured(self) -> Measured:
        """What a trial is told of it."""
        return Measured(images=self.images, crop=self.crop, draws=self.draws)


def sampling(spec: ObjectiveSpec, evaluation: EvaluationConfig, steps: int | None = None) -> Sampling | None:
    """How pictures are drawn from what an objective trains, in evaluation's number of steps or another one.

    None: from a regression network, which gives them.
    """
    asked = evaluation.sampling or Sampling()
    return spec.sampled(asked if steps is None else asked.model_copy(update={"steps": steps}))
