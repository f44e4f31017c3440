"""Which objectives push pixels away from their targets, and how many (`eval.probes.gradient_sign`).

He and Cheng (https://arxiv.org/abs/2201.10084), Eq. 7 and 8. Each trial's own objective is held against L1 to the same
target, on the batches that came next; at the same weights, for comparison, constant σ, the expectation loss, and that
loss with its σ cut off from the gradient, all to HR and without the trick that makes some pixels plain L1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eval.pictures.charts import Chart, charts
from eval.probes.gradient_sign import Signs, compare, detached_expectation
from eval.probes.gradients import Samples, output_gradients
from objectives import RECIPES, ObjectiveSpec, resolve
from orchestrator.probe.figures import PlaceOf, groups, named, over_steps
from orchestrator.probe.gradients import begun, key, losses, scene
from orchestrator.probe.kept import Row, Unit
from orchestrator.probe.kinds import Asked
from orchestrator.probe.trials import Looked, Subject, Weights

OWN, DETACHED = "its own", "expectation, σ detached"

REFERENCES: dict[str, ObjectiveSpec] = {
    "constant_sigma": RECIPES["constant_sigma"],
    "expectation": resolve({"recipe": "expectation_only", "loss.zero_below_average": False}),
}
"""What is looked at beside a trial's own objective."""


def units(looked: Looked) -> list[Unit]:
    """A unit a trial and step."""
    return [
        Unit(key=key(subject, weights, looked.asked), rows=partial(_rows, subject, weights, looked.asked))
        for subject, weights in looked.points()
    ]


def _rows(subject: Subject, weights: Weights, asked: Asked) -> list[Row]:
    """A row a loss."""
    spec, found = subject.config.objective, dict[tuple[str, str], Signs]()
    plain = spec.model_copy(update={"loss": RECIPES["l1"].loss, "sigma": None})

    def count(what: str, update: str, signs: Signs) -> None:
        found[what, update] = found[what, update] + signs if (what, update) in found else signs

    with scene(subject, weights, asked) as there:
        picture = _PictureOnly(there.net)
        generator = torch.Generator().manual_seed(subject.config.seed)

        def gradients(model: nn.Module, of: ObjectiveSpec, batch: Samples) -> Iterator[tuple[str, list[Tensor]]]:
            for update, loss in losses(of, subject.config, weights.step):
                for part in output_gradients(model, loss, batch, at_once=asked.at_once):
                    yield update.name, part

        for batch in there.batches():
            toward = [part for _, part in gradients(picture, plain, batch)]
            for i, (update, part) in enumerate(gradients(there.net, spec, batch)):
                count(OWN, update, compare(part, toward[i % len(toward)]))
            if spec.target.output != "sr":
                continue
            to_hr = [part for _, part in gradients(picture, RECIPES["l1"], batch)]
            for what, reference in REFERENCES.items():
                for (update, part), right in zip(gradients(picture, reference, batch), to_hr, strict=True):
                    count(what, update, compare(part, right))
            for start, right in zip(range(0, len(batch), asked.at_once), to_hr, strict=True):
                part_of = batch.part(start, start + asked.at_once)
                with torch.no_grad():
                    error = part_of.hr - picture(part_of.lr)
                count(DETACHED, "model", compare([detached_expectation(error, generator)], right))
    return [
        {**begun(subject, weights, asked, update), "loss": what, **vars(signs), "wrong_share": signs.wrong_share}
        for (what, update), signs in found.items()
    ]


class _PictureOnly(nn.Module):
    """A network without what it returns beside the picture."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, lr_BCHW: Tensor) -> Any:
        found = self.net(lr_BCHW)
        return found[0] if isinstance(found, tuple) else found


# ---- what it looks like ----------------------------------------------------------------------------------------------


def draw(_: Looked, rows: Sequence[Row], place: PlaceOf) -> list[Path]:
    """Wrong signs over steps: of each trial's own objective, and of losses at the first trial's weights."""
    paths = []
    for (scale,), of_scale in groups(rows, "scale").items():
        own = named([row for row in of_scale if row["loss"] == OWN])
        first = [row for row in of_scale if row["fingerprint"] == of_scale[0]["fingerprint"] and row["loss"] != OWN]
        at_its_weights = [row | {"label": f"{row['loss']}, at the weights of {row['label']}"} for row in first]
        series = {
            "each objective, at its own weights": over_steps(own, "wrong_share"),
            "losses at the same weights": over_steps(at_its_weights, "wrong_share"),
        }
        shown = [
            Chart(title=title, xlabel="optimiser steps", ylabel="share of pushed elements", lines=lines)
            for title, lines in series.items()
            if lines
        ]
        paths.append(place(f"gradient_sign_x{scale}"))
        charts(
            paths[-1],
            shown,
            title=f"Elements that a loss pushes away from its target, ×{scale}",
            caption="Sign of the gradient with respect to the SR image against that of L1 to the same target; "
            f"{of_scale[0]['weights']} weights",
        )
    return paths


def table(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """A line a trial and step; of the first trial also one of each loss at its weights."""
    lines: list[tuple[str, ...]] = [("label", "step", "loss", "wrong signs")]
    first = rows[0]["fingerprint"]
    for row in [row for row in named(rows) if row["loss"] == OWN or row["fingerprint"] == first]:
        lines.append((row["label"], f"{row['step']:,}", row["loss"], f"{100 * row['wrong_share']:.2f} %"))
    return lines
