"""What probes take for a trial's loss is what its training loop minimised, for every recipe."""

import math
from dataclasses import replace

import pytest
import torch

from eval.probes.landscape import landscape
from objectives import RECIPES
from orchestrator.probe import gradients
from orchestrator.probe.folders import open_runs
from orchestrator.probe.kinds import Asked
from orchestrator.probe.trials import subjects
from orchestrator.run.folder import RunDir
from orchestrator.run.journal import JOURNAL, read, steps
from orchestrator.training.network import build_network


def test_the_loss_at_a_step_is_the_one_that_was_trained(toy: RunDir) -> None:
    """The journal's mean loss of steps 4 to 7 lies about the loss at step 4, which is one of the four."""
    asked = Asked(batches=1, only=("*/eco",))
    [subject] = subjects(open_runs([toy.path], None), asked)
    weights = subject.weights("raw")
    assert [point.step for point in weights] == [4, 8, 12]
    journalled = {entry["step"]: entry["metrics"]["train.loss"] for entry in steps(read(subject.folder / JOURNAL))}
    for point, until in zip(weights[:2], (8, 12), strict=True):
        with gradients.scene(subject, point, asked) as found:
            [(update, loss)] = gradients.losses(subject.config.objective, subject.config, point.step)
            [batch] = found.batches()
            now, again = (float(loss(found.net, batch).detach().mean()) for _ in range(2))
        assert update.name == "model" and now == again
        assert batch.step == point.step and batch.mu is not None
        assert now == pytest.approx(journalled[until], rel=0.35)


@pytest.mark.parametrize("recipe", [name for name, spec in RECIPES.items() if spec.loss.family == "regression"])
def test_every_recipe_has_a_spectrum_and_a_landscape(recipe: str, toy: RunDir) -> None:
    asked = Asked(batches=1)
    [eco] = subjects(open_runs([toy.path], None), Asked(only=("*/eco",)))
    config = eco.config.model_copy(update={"objective": RECIPES[recipe]})
    point = eco.weights("raw")[0]
    with gradients.scene(replace(eco, config=config), point, asked) as found:
        net, [batch] = build_network(config), found.batches()
        for update, loss in gradients.losses(config.objective, config, point.step):
            [first, *_] = [
                gradient for part in gradients.output_gradients(net, loss, batch, at_once=3) for gradient in part
            ]
            assert torch.isfinite(first).all() and first.abs().max() > 0
            moved = list(update.parameters(net))
            seen = landscape(net, moved, loss, batch, lengths=(0.001,))
            assert seen.gradient_norm > 0 and math.isfinite(seen.smoothness)
