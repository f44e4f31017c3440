"""A covering array of regression: each network, target and loss, with and without a sigma branch; who learns.

Each run is 20 steps of a reduced network. Its loss on a frozen probe batch is taken at progress 1, before and after,
with the same draws; most of what falls is the colour that an untrained network is off by. `pytest -s` prints every run.
"""

import functools
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

import sr_models
from objectives import LOSSES as ALL_LOSSES
from objectives import TARGETS, check_legal
from objectives.batch import Batch
from objectives.compose import Objective, trainable
from objectives.spec import ObjectiveSpec, SigmaBranch
from sr_models import MODELS
from sr_models.errors import InputError
from sr_models.images.matlab import downscale
from sr_models.images.operators import to_float
from sr_models.networks.sigma import DETAIL, SigmaHead, WithSigma
from sr_models.rng import SampleRng

LOSSES = {name: cls for name, cls in ALL_LOSSES.items() if cls.family == "regression"}
TRAINED = [name for name, row in MODELS.items() if row.trainable and row.family == "regression"]
SMALL = {name: {"channels": 16, "blocks": 1} for name in TRAINED}
SMALL["swinir"] = SMALL["swinir_light"] = {"channels": 12, "blocks": 1, "layers": 2, "heads": 2}
SMALL["idn"] = {"channels": 16, "blocks": 1, "variant": "rgb_shuffle"}
LEARN = ("edsr_baseline", "imdn")
"""Networks that are run under every combination, and must learn."""
SHOWN = {"sampled_sigma", "constant_sigma", "none"}
"""Losses of which no fall is promised: noise that the network cannot know, and the auxiliary one alone."""
STEPS, BATCH, PATCH, SCALE, SIGMA_WIDTH = 20, 4, 8, 2, 16
FALL = 0.05


class Run(NamedTuple):
    network: str
    target: str
    loss: str
    sigma: bool

    @property
    def spec(self) -> ObjectiveSpec:
        branch = SigmaBranch(width=SIGMA_WIDTH) if self.sigma else None
        return ObjectiveSpec(target=TARGETS[self.target](), loss=LOSSES[self.loss](), sigma=branch)


def legal(target: str, loss: str, sigma: bool) -> bool:
    try:
        check_legal(Run("", target, loss, sigma).spec, "regression")
    except InputError:
        return False
    return True


def covering() -> list[Run]:
    """All combinations of `LEARN`; of each other network as many as there are targets or losses, so that each of both
    comes with it, along another diagonal for each, and the sigma branch in turns where it is a choice."""
    every = [(t, loss, sigma) for t in TARGETS for loss in LOSSES for sigma in (False, True) if legal(t, loss, sigma)]
    runs = [Run(network, *one) for network in LEARN for one in every]
    targets, losses = list(TARGETS), list(LOSSES)
    for i, network in enumerate(name for name in SMALL if name not in LEARN):
        for j in range(max(len(targets), len(losses))):
            target, loss = targets[j % len(targets)], losses[(i + j) % len(losses)]
            sigma = (i + j) % 2 == 0 if legal(target, loss, False) else True
            runs.append(Run(network, target, loss, sigma))
    return runs


@functools.cache
def pictures() -> dict[str, torch.Tensor]:
    """Eight pictures of blurred blocks with LR, and mu and D(mu) of a teacher that repeats pixels; BCHW."""
    found: dict[str, list[torch.Tensor]] = {"lr": [], "hr": [], "mu": [], "mu_lr": []}
    for seed in range(8):
        rng = np.random.Generator(np.random.Philox(seed))
        fine = np.kron(rng.integers(0, 256, (14, 14, 3)), np.ones((4, 4, 1), np.int64))
        hr = (sum(fine[i : i + 48, j : j + 48] for i in range(5) for j in range(5)) // 25).astype(np.uint8)
        lr = downscale(hr, SCALE)
        mu = lr.repeat(SCALE, axis=0).repeat(SCALE, axis=1)
        for name, image in (("lr", lr), ("hr", hr), ("mu", mu), ("mu_lr", downscale(mu, SCALE))):
            found[name].append(to_float(image))
    return {name: torch.cat(images) for name, images in found.items()}


def batch(step: int) -> Batch:
    """Crops of the pictures; step `STEPS` is the probe."""
    ids = np.arange(step * BATCH, (step + 1) * BATCH)
    rng, side = SampleRng(1, step, ids), pictures()["lr"].shape[-1]

    def crops(purpose: str) -> dict[str, torch.Tensor]:
        where = rng.integers(purpose, 0, side - PATCH + 1, (2,))
        number = rng.integers(purpose, 0, len(pictures()["lr"]), draw=1)
        cut: dict[str, list[torch.Tensor]] = {name: [] for name in pictures()}
        for n, (top, left) in zip(number, where.tolist(), strict=True):
            for name, images in pictures().items():
                s = SCALE if name in ("hr", "mu") else 1
                cut[name].append(images[n, :, top * s : (top + PATCH) * s, left * s : (left + PATCH) * s])
        return {name: torch.stack(images) for name, images in cut.items()}

    own, other = crops("crop"), crops("partner")
    return Batch(**own, partner_lr=other["lr"], partner_hr=other["hr"], sample_ids=ids, step=step, seed=1)


@functools.cache
def batches() -> list[Batch]:
    return [batch(step) for step in range(STEPS + 1)]


def network(run: Run) -> nn.Module:
    torch.manual_seed(0)
    net = sr_models.build(run.network, SCALE, **SMALL[run.network])
    if not run.sigma:
        return net
    unit = DETAIL * net.feature_range
    return WithSigma(net, SigmaHead(net.feature_channels, net.feature_scale_to_go, width=SIGMA_WIDTH, detail_unit=unit))


def trained(run: Run) -> tuple[float, float]:
    """The loss on the probe before and after 20 steps of Adam."""
    net, objective, (*train, probe) = network(run), Objective(run.spec), batches()
    optimizer = torch.optim.Adam(trainable(net), lr=2e-3)

    def loss(of: Batch, progress: float) -> torch.Tensor:
        return objective.loss(net, of, progress, SampleRng(of.seed, of.step, of.sample_ids)).per_sample.mean()

    def probed() -> float:
        torch.manual_seed(1)  # of networks that draw noise themselves
        with torch.no_grad():
            return loss(probe, 1.0).item()

    net.eval()
    before = probed()
    net.train()
    for step, of in enumerate(train):
        optimizer.zero_grad()
        loss(of, step / (STEPS - 1)).backward()
        optimizer.step()
    net.eval()
    return before, probed()


def test_the_array_covers_every_pair_and_all_of_the_networks_that_must_learn():
    runs = covering()
    assert len(runs) == len(set(runs)) and all(legal(*run[1:]) for run in runs)
    for network in SMALL:
        own = [run for run in runs if run.network == network]
        assert {run.target for run in own} == set(TARGETS) and {run.loss for run in own} == set(LOSSES)
        assert {run.sigma for run in own} == {False, True}
    of_one = {run[1:] for run in runs if run.network == LEARN[0]}
    assert {run[1:] for run in runs} == of_one == {run[1:] for run in runs if run.network == LEARN[1]}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_combination_trains_and_two_networks_learn_from_each():
    torch.set_num_threads(1)
    failed, worst = [], dict.fromkeys(LEARN, 1.0)
    print(f"\n{'network':14} {'target':17} {'loss':15} sigma  {'before':>9} {'after':>9}  fall")
    for run in covering():
        before, after = trained(run)
        fall = 1 - after / before
        promised = run.network in LEARN and run.loss not in SHOWN
        said = f"{before:9.5f} {after:9.5f} {fall:6.1%}{'' if promised else '  (shown)'}"
        print(f"{run.network:14} {run.target:17} {run.loss:15} {'yes' if run.sigma else 'no':6} {said}")
        if promised:
            worst[run.network] = min(worst[run.network], fall)
        if not np.isfinite(after) or (promised and fall < FALL):
            failed.append((run, fall))
    print("least fall that was promised: " + ", ".join(f"{name} {fall:.1%}" for name, fall in worst.items()))
    assert not failed
