"""What is known of a network before torch is imported: its file, hyperparameters, scales and size. Ours, no paper."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from sr_models.hyper.base import NetworkHyper

if TYPE_CHECKING:
    from sr_models.networks.base import Network


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """One row of `sr_models.MODELS`.

    Attributes:
        name: the row's key, as users write it.
        family: which objectives fit.
        module, cls: where the network's class is; imported late.
        hyper: its hyperparameters; the class takes each field as a keyword.
        scales: the upscaling factors it exists for; of one with `any_scale`, those that are counted and tested.
        any_scale: True for a network that works on LR enlarged to HR's size: its weights know nothing of the scale, so
            those of one are scored at every other.
        paper: title and address.
        fractions: True for one that takes factors that are no whole number, such as 2.5.
        window: sides of the LR input are padded to a multiple of this.
        trainable: False for a row that is only ever scored.
        batch_statistics: True for a network whose training looks at a batch as a whole (BatchNorm), so that its parts,
            by several workers or in turn, are not the same step.
        counts: trainable parameters by scale at the default hyperparameters.
        sr: False for one that gives no SR, being a part of others: it is trained, and neither searched nor scored.
    """

    name: str
    family: Literal["regression", "diffusion", "autoencoder"]
    module: str
    cls: str
    hyper: type[NetworkHyper]
    scales: tuple[int, ...]
    paper: str
    any_scale: bool = False
    fractions: bool = False
    window: int = 1
    trainable: bool = True
    batch_statistics: bool = False
    counts: dict[int, int] = field(default_factory=dict)
    sr: bool = True

    def takes(self, scale: float) -> bool:
        """Whether weights that were trained at another scale work at this one."""
        return self.any_scale if isinstance(scale, int) else self.fractions

    def load(self) -> type[Network]:
        """Import the network's class (and with it torch)."""
        found: type[Network] = getattr(importlib.import_module(self.module), self.cls)
        return found
