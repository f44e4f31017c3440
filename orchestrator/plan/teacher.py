"""Whose pictures ECO and distillation learn from: a config's `teacher`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, field_validator, model_validator

from orchestrator.plan.trial import check_tiles, overlap_field, tile_field
from orchestrator.plan.weights import Weights, weights_at, weights_of
from sr_models.hashing import digest
from sr_models.params import Params

CENTROIDS_VERSION = 2
"""Of how mu and D(mu) are made, in their name: raised when their bits change, so that a store's old ones are not used.

2: one thread, and tiles that no machine has a say in.
"""


class TeacherConfig(Params):
    """Where mu = g(x) comes from: a network trained first by the same loop, or weights from elsewhere.

    `teacher: FILE`, `teacher: {trial: FINGERPRINT}` and `teacher: {from: ID}` stand for the same below `weights`.
    """

    weights: Any = Field(
        default=None,
        description="a released file of `model`, or a checkpoint folder of ours, one per {scale}; {trial: FINGERPRINT} "
        "of this output; {from: 'x{scale}/LABEL/OBJECTIVE'}, the winner of that row; {SCALE: one of these}; null: "
        "trained first",
    )
    model: str = Field(
        default="edsr_baseline",
        description="network of a teacher that the sweep trains, or of its file; left out, a file is recognised",
    )
    hyper: dict[str, Any] = Field(default={}, description="the network's hyperparameters")
    train: dict[str, Any] = Field(default={}, description="what differs from the sweep's `train` (steps, lr, ...)")
    tile: int | None = tile_field("side, in LR pixels, of the tiles that mu is computed in; null: whole images")
    tile_overlap: int = overlap_field()

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, given: Any) -> Any:
        if isinstance(given, str):
            return {"weights": given}
        short = [key for key in ("trial", "from") if key in given] if isinstance(given, Mapping) else []
        if not short:
            return given
        if "weights" in given:
            raise ValueError(f"give weights or {short[0]}, not both")
        rest = {key: value for key, value in given.items() if key not in short}
        return {**rest, "weights": {key: given[key] for key in short}}

    @field_validator("weights")
    @classmethod
    def _weights(cls, given: Any) -> Any:
        weights_of(given)
        return given

    @model_validator(mode="after")
    def _tiles(self) -> TeacherConfig:
        check_tiles(self.tile, self.tile_overlap)
        return self

    def at(self, scale: int) -> Weights | None:
        """The weights of the teacher of one scale; None where `weights` names none, or where it is trained first."""
        return weights_at(self.weights, scale)

    def centroids(self, weights_sha256: str) -> str:
        """What names mu and D(mu) of a teacher: its weights, how they are made, and the tiles that are declared."""
        tiles = [] if self.tile is None else [self.tile, self.tile_overlap]
        return digest([CENTROIDS_VERSION, weights_sha256, *tiles])
