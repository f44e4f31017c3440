"""What is known of a network before torch is imported: its file, hyperparameters, scales and size. Ours, no paper."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from sr_models.errors import InputError
from sr_models.hyper.base import NetworkHyper
from sr_models.plugins import check_params

if TYPE_CHECKING:
    from sr_models.networks.base import Network

MOST_SCALE = 64
"""Of factors that are not in a network's table: more is a slip of the keyboard."""


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


def check_added(name: str, row: Any, _distribution: str) -> ModelSpec:
    """A plug-in's row of `sr_models.MODELS`. Raises ValueError: what is wrong with it."""
    if not isinstance(row, ModelSpec):
        raise ValueError(f"is no sr_models.spec.ModelSpec (got {row!r:.80})")
    if row.name != name:
        raise ValueError(f"calls itself {row.name!r}")
    if row.family != "regression" or not row.sr:
        raise ValueError("must be of the family regression, and give SR: plug-ins add no other networks")
    if not (isinstance(row.hyper, type) and issubclass(row.hyper, NetworkHyper)) or row.hyper.parts:
        raise ValueError(f"must have hyperparameters of a NetworkHyper without frozen parts (got {row.hyper!r})")
    if not row.scales or not all(type(scale) is int and 1 <= scale <= MOST_SCALE for scale in row.scales):
        raise ValueError(f"must have scales that are whole numbers from 1 to {MOST_SCALE} (got {row.scales!r})")
    if not row.counts.keys() <= {*row.scales} or row.window < 1:
        raise ValueError(
            f"must count parameters at its scales, and have a window of at least 1 (got {row.counts!r}, {row.window!r})"
        )
    check_params(row.hyper)
    for scale in row.scales if row.trainable else ():
        if not 0 < (cost := row.hyper().multiply_adds(scale)) < math.inf:
            raise ValueError(f"must say its multiply_adds an LR pixel, above 0 (got {cost!r} at scale {scale})")
    return row


def build_added(row: ModelSpec, stamp: str, scale: float, values: NetworkHyper) -> Network:
    """A plug-in's network, `stamp` its distribution and version.

    Raises:
        InputError: it cannot be built, is no SRNetwork of that scale, or has not as many parameters as its row counts.
    """
    from sr_models.networks.base import SRNetwork, parameters

    where = f"plug-in {stamp}: model {row.name!r}"
    try:
        net = row.load()(scale, **dict(values))
    except Exception as error:  # a package may raise anything
        said = " ".join(str(error).split())
        raise InputError(f"{where} cannot be built at scale {scale} ({type(error).__name__}: {said})") from error
    if not isinstance(net, SRNetwork) or getattr(net, "scale", None) != scale:
        raise InputError(f"{where} must be a sr_models.networks.base.SRNetwork with scale {scale} (got {net!r:.80})")
    count, found = row.counts.get(int(scale)), parameters(net)
    if values == row.hyper() and count is not None and count != found:
        raise InputError(f"{where} has {found:,} trainable parameters at scale {scale}, and its row counts {count:,}")
    return net
