"""A trial under a degradation: killed and resumed it is the unbroken one; inputs are made anew, validations are not."""

import numpy as np
import pytest
import torch
from PIL import Image

from eval.metrics.scorer import Scorer
from eval.protocol import PROTOCOLS
from objectives import RECIPES
from orchestrator.data.build import build_store
from orchestrator.data.store import PatchStore
from orchestrator.plan.sources import ImageSource
from orchestrator.plan.train import TrainConfig
from orchestrator.plan.trial import TrialConfig
from orchestrator.run import checkpoint, journal
from orchestrator.run.checkpoint import CHECKPOINT
from orchestrator.run.journal import JOURNAL
from orchestrator.training.loop import run_trial
from orchestrator.training.validation import bicubic_scores, validation_scores
from sr_models.images.matlab import resize
from sr_models.images.operators import to_float


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> PatchStore:
    """Two training images of 100x112 pixels and one for validation, at x2."""
    folder = tmp_path_factory.mktemp("large")
    sources = {}
    for split, seeds in {"train": (1, 2), "validation": (3,)}.items():
        (folder / split).mkdir()
        for seed in seeds:
            coarse = np.random.default_rng(seed).integers(0, 256, (25, 28, 3), dtype=np.uint8)
            Image.fromarray(resize(coarse, 4)).save(folder / split / f"{seed}.png")
        sources[split] = [ImageSource(hr=str(folder / split))]
    return build_store(folder / "store", scale=2, **sources)


def config(store: PatchStore, objective: str = "l1", **train) -> TrialConfig:
    values = {"steps": 8, "batch_size": 3, "patch": 8, "validate_every": 4, "checkpoint_every": 3, "lr": 1e-3}
    return TrialConfig(
        model="edsr_baseline", scale=2, hyper={"channels": 8, "blocks": 1}, objective=RECIPES[objective], seed=5,
        train=TrainConfig(**values | train), protocol="classical", metrics=("psnr_y",), data_hash=store.data_hash,
    )  # fmt: skip


def go_on(_step, _metrics) -> str:
    return "continue"


@pytest.mark.parametrize("objective", ["l1", "image_mixup"])
def test_a_killed_trial_goes_on_bit_for_bit(large, tmp_path, killed_at, objective):
    trial = config(large, objective, degradation="ccsr")
    assert run_trial(trial, large, go_on, out_dir=tmp_path / "whole").status == "complete"
    with killed_at(5):
        run_trial(trial, large, go_on, out_dir=tmp_path / "cut")
    assert run_trial(trial, large, go_on, out_dir=tmp_path / "cut").status == "complete"
    one, other = (checkpoint.load(tmp_path / name / CHECKPOINT)["model"] for name in ("whole", "cut"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_inputs_are_made_anew_and_validations_are_what_they_were(large, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "orchestrator.training.loop.validation_scores",
        lambda net, prefix, scorer, trial, store, *rest: (
            seen.append([lr for _, lr, _ in store.validation()])
            or validation_scores(net, prefix, scorer, trial, store, *rest)
        ),
    )
    losses = []
    for name, how in (("plain", None), ("degraded", "realesrgan")):
        assert run_trial(config(large, degradation=how), large, go_on, out_dir=tmp_path / name).status == "complete"
        first = journal.steps(journal.read(tmp_path / name / JOURNAL))[0]
        losses.append(first["metrics"]["train.loss"])
    assert losses[1] > losses[0], "harder inputs"
    assert len(seen) == 4 and all((pictures[0] == seen[0][0]).all() for pictures in seen)


def test_bicubic_is_scored_on_the_images_of_validations(large):
    [(_, lr, hr)] = large.validation()
    scorer = Scorer(PROTOCOLS["classical"], ("psnr_y",), scale=2, device=torch.device("cpu"))
    by_hand = scorer.image(to_float(resize(lr, 2)), to_float(hr))["psnr_y"].item()
    trial = config(large).model_copy(update={"metrics": ("psnr_y", "lpips_alex")})
    assert bicubic_scores(trial, large) == {"psnr_y": pytest.approx(by_hand, abs=0.02)}, "no weights for a line"
