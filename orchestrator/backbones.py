"""The weights of networks that validations measure by: at hand before anything is trained, and where workers find them.

torch is imported where such a metric is asked for, and for nothing else: a plan answers without.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from eval.protocol import get_protocol, needs_backbone
from orchestrator.plan.config import SweepConfig
from orchestrator.plan.plan import validation_metrics
from orchestrator.plan.read import expand
from sr_models.errors import InputError

if TYPE_CHECKING:
    from orchestrator.data.store import PatchStore
    from orchestrator.session import Session


def check(config: SweepConfig) -> None:
    """Refuse metrics of validations whose weights are not at hand. Nothing is fetched.

    Raises:
        InputError: names the metric and the file that it wants; or the folder that is named is none.
    """
    metrics = {metric: f"validations measure {metric}" for metric in needs_backbone(validation_metrics(config))}
    if labels := _perceiving(config):
        metrics["lpips_vgg"] = f"{labels[0]} has a perceptual_weight, which is of lpips_vgg"
    if not metrics:
        return
    from eval.metrics.backbones import BACKBONES, VARIABLE, WeightFiles

    files = WeightFiles(_folder(config))
    for metric, why in metrics.items():
        for name in [name for name, backbone in BACKBONES.items() if metric in backbone.serves]:
            try:
                found = files.locate(name)
            except InputError as error:
                raise InputError(f"{why}: {error}") from None
            if found is None:
                raise InputError(
                    f"{why}, which needs {name}, and it is not there: put it into "
                    f"{str(files.home(name))!r}, or name its folder by evaluation.weights_dir or {VARIABLE} "
                    f"(sha256 {BACKBONES[name].sha256}; python -m eval weights --fetch downloads it)"
                )


def check_sizes(config: SweepConfig, stores: Mapping[int, PatchStore]) -> None:
    """Refuse validation images that leave such a network nothing to see.

    Raises:
        InputError: names the first one, and what it would take.
    """
    for metric in needs_backbone(validation_metrics(config)):
        from eval.metrics.perceptual import SMALLEST_PX

        least = SMALLEST_PX[metric.removeprefix("lpips_")]
        for scale, store in stores.items():
            border = 2 * get_protocol(config.evaluation.protocol).shave(scale)
            for image, sides in list(store.sizes("validation").items())[: config.validation.images]:
                side = min(min(sides) * scale, config.validation.crop or min(sides) * scale) - border
                if side < least:
                    raise InputError(
                        f"validations measure {metric}, which needs {least} px a side: of {image} at x{scale} {side} "
                        "are left inside the border; give larger images, or a larger validation.crop"
                    )


def supply(session: Session) -> None:
    """Have workers on any node find the weights: the run's home then says where they are."""
    metrics = needs_backbone(validation_metrics(session.config))
    metrics += ("lpips_vgg",) * bool(_perceiving(session.config))
    if metrics:
        from orchestrator.evaluate.work import shared_weights, weights_folder

        folder = weights_folder(_folder(session.config))
        session.home.access = session.home.access.supplied(shared_weights(session.home.access, metrics, folder))


def _perceiving(config: SweepConfig) -> list[str]:
    """The objectives that measure LPIPS in training."""
    return [f"objectives.{label}" for label in config.objectives if config.objective(label).perceives]


def _folder(config: SweepConfig) -> Path | None:
    given = config.evaluation.weights_dir
    return Path(expand(given, "evaluation.weights_dir")) if given else None
