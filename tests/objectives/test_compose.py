"""Whole objectives on a tiny stand-in network: gradients, logs, noise, precision, every legal combination."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from objectives import LEGAL, LOSSES, RECIPES, TARGETS, LegalRow
from objectives.batch import Batch
from objectives.compose import LossTerms, Objective
from objectives.spec import NoiseRegression, ObjectiveSpec, SigmaBranch
from sr_models.rng import SampleRng

SCALE = 2
OF_REGRESSION = [name for name, spec in RECIPES.items() if spec.loss.family == "regression"]
REGRESSION_LOSSES = [name for name, cls in LOSSES.items() if cls.family == "regression"]


class Tiny(nn.Module):
    """A body, an SR tail and, with `sigma`, a head on the body's features."""

    def __init__(self, *, sigma: bool) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 8, 3, padding=1)
        self.tail = nn.Sequential(nn.Conv2d(8, 3 * SCALE**2, 3, padding=1), nn.PixelShuffle(SCALE))
        self.head = nn.Sequential(nn.Conv2d(8, 3 * SCALE**2, 3, padding=1), nn.PixelShuffle(SCALE)) if sigma else None
        g = torch.Generator().manual_seed(0)
        for p in self.parameters():
            nn.init.normal_(p, std=0.1, generator=g)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        features = self.body(x)
        return (self.tail(features), self.head(features).sigmoid()) if self.head else self.tail(features)


def make_batch(ids: list[int]) -> Batch:
    def images(size: int, purpose: str) -> Tensor:
        return torch.from_numpy(SampleRng(3, 0, np.asarray(ids)).uniform(purpose, (3, size, size)))

    return Batch(
        lr=images(6, "crop"),
        hr=images(6 * SCALE, "degrade"),
        mu=images(6 * SCALE, "init"),
        mu_lr=images(6, "sample"),
        partner_lr=images(6, "partner"),
        partner_hr=images(6 * SCALE, "mixup"),
        sample_ids=np.asarray(ids),
        step=5,
        seed=1,
    )


def run(spec: ObjectiveSpec, model: nn.Module, batch: Batch, progress: float = 0.5) -> LossTerms:
    [update] = Objective(spec).updates()
    return update.loss(model, batch, progress, SampleRng(batch.seed, batch.step, batch.sample_ids))


def gradients(spec: ObjectiveSpec, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    model.zero_grad()
    run(spec, model, batch).per_sample.mean().backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize(
    ("row", "sigma"),
    [
        (row, sigma)
        for row in LEGAL
        for sigma in (False, True)
        if row.family == "regression" and (sigma or "sigma" not in row.needs)
    ],
    ids=lambda value: f"{value.target}-{value.loss}" if isinstance(value, LegalRow) else f"sigma={value}",
)
def test_every_legal_combination_trains_every_parameter(row: LegalRow, sigma: bool) -> None:
    spec = ObjectiveSpec(target=TARGETS[row.target](), loss=LOSSES[row.loss](), sigma=SigmaBranch() if sigma else None)
    model, batch = Tiny(sigma=sigma), make_batch([4, 8, 15])
    terms = run(spec, model, batch)
    assert terms.per_sample.shape == (3,) and terms.per_sample.isfinite().all()
    logged = {"alpha"} if row.target in ("mixup", "loss_mixup") else set()
    logged |= {"loss_zero"} if row.target == "noise_regression" else set()
    assert set(terms.logs) == logged | ({"loss_main", "loss_aux"} if sigma else set())
    assert all(v.shape == () and not v.requires_grad for v in terms.logs.values())
    assert all(g.abs().max() > 0 for g in gradients(spec, model, batch).values())


@pytest.mark.parametrize("recipe", OF_REGRESSION)
def test_regression_is_one_update_of_all_that_is_not_frozen(recipe: str) -> None:
    objective, model = Objective(RECIPES[recipe]), Tiny(sigma=False)
    model.body.requires_grad_(False)
    updates = objective.updates()
    assert tuple(update.name for update in updates) == objective.spec.update_names == ("model",)
    assert [id(p) for p in updates[0].parameters(model)] == [id(p) for p in model.tail.parameters()]
    assert objective.module is None


@pytest.mark.parametrize("recipe", OF_REGRESSION)
def test_a_row_does_not_depend_on_its_batch(recipe: str) -> None:
    spec = RECIPES[recipe]
    model = Tiny(sigma=spec.sigma is not None)
    whole = run(spec, model, make_batch([4, 8, 15, 16])).per_sample
    parts = torch.cat([run(spec, model, make_batch(ids)).per_sample for ids in ([4], [8, 15], [16])])
    torch.testing.assert_close(whole, parts, rtol=1e-5, atol=0)


class Counting(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.passes = model, 0

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        self.passes += 1
        return self.model(x)


@pytest.mark.parametrize("loss", REGRESSION_LOSSES)
@pytest.mark.parametrize("target", ["mixup", "loss_mixup"])
def test_ramped_targets_start_as_noise_free_and_end_as_hr_bit_for_bit(target: str, loss: str) -> None:
    """With the gradients, the sigma branch and the noise; D(mu) is not x, nor mu y."""
    sigma = SigmaBranch() if "sigma" in LOSSES[loss].needs else None
    model, batch = Counting(Tiny(sigma=sigma is not None)), make_batch([1, 2])
    assert not torch.isclose(batch.mu_lr, batch.lr).all() and not torch.isclose(batch.mu, batch.hr).all()
    for progress, plain in ((0.0, "noise_free"), (1.0, "hr")):
        found = []
        for name in (target, plain):
            spec = ObjectiveSpec(target=TARGETS[name](), loss=LOSSES[loss](), sigma=sigma)
            model.zero_grad()
            before = model.passes
            terms = run(spec, model, batch, progress)
            terms.per_sample.mean().backward()
            found.append((terms, [p.grad.clone() for p in model.parameters()]))
            assert model.passes - before == 1
        assert torch.equal(found[0][0].per_sample, found[1][0].per_sample)
        assert all(torch.equal(a, b) for a, b in zip(found[0][1], found[1][1], strict=True))
        assert found[0][0].logs["alpha"].item() == progress and "alpha" not in found[1][0].logs


@pytest.mark.parametrize("loss", REGRESSION_LOSSES)
def test_loss_mixup_is_the_weighted_mean_of_the_two_losses_each_with_noise_of_its_own(loss: str) -> None:
    sigma = SigmaBranch() if "sigma" in LOSSES[loss].needs else None
    model, batch = Tiny(sigma=sigma is not None), make_batch([1, 2])

    def at(target: str, draw: int = 0) -> LossTerms:
        spec = ObjectiveSpec(target=TARGETS[target](), loss=LOSSES[loss](), sigma=sigma)
        return Objective(spec).loss(model, batch, 0.25, Later(batch, draw))

    class Later(SampleRng):
        """Draws what comes `draw` draws later."""

        def __init__(self, batch: Batch, draw: int) -> None:
            super().__init__(batch.seed, batch.step, batch.sample_ids)
            self.later = draw

        def noise(self, purpose, shape, device, *, draw=0):
            return super().noise(purpose, shape, device, draw=draw + self.later)

    mixed, synthetic, real = at("loss_mixup"), at("noise_free"), at("hr", 1)
    torch.testing.assert_close(mixed.per_sample, 0.75 * synthetic.per_sample + 0.25 * real.per_sample)
    for name in synthetic.logs:
        torch.testing.assert_close(mixed.logs[name], 0.75 * synthetic.logs[name] + 0.25 * real.logs[name])


@pytest.mark.parametrize("loss", ["l1", "l2", "expectation_only"])
def test_the_noise_between_hr_and_mu_is_learned_beside_what_giving_nothing_misses(loss: str) -> None:
    batch, plain = make_batch([1, 2]), RECIPES[loss].loss
    spec = ObjectiveSpec(target=NoiseRegression(), loss=plain)
    nothing = run(spec, lambda x: torch.zeros_like(batch.hr), batch)
    torch.testing.assert_close(nothing.per_sample.mean(), nothing.logs["loss_zero"], rtol=0, atol=0)
    assert run(spec, lambda x: batch.hr - batch.mu, batch).per_sample.tolist() == [0, 0]
    if loss == "l1":
        torch.testing.assert_close(nothing.logs["loss_zero"], (batch.hr - batch.mu).abs().mean())


def test_total_is_main_plus_beta_times_auxiliary() -> None:
    model, batch = Tiny(sigma=True), make_batch([1, 2])
    spec = RECIPES["l1+aux"].model_copy(update={"sigma": SigmaBranch(beta=0.3)})
    terms = run(spec, model, batch)
    torch.testing.assert_close(terms.per_sample.mean(), terms.logs["loss_main"] + 0.3 * terms.logs["loss_aux"])
    sr, sigma_hat = model(batch.lr)
    size = (batch.hr - sr).abs()
    torch.testing.assert_close(terms.logs["loss_aux"], (size - sigma_hat).abs().mean().detach())


def test_a_sampled_sigma_learns_from_the_main_loss_alone_and_shrinks() -> None:
    model, batch = Tiny(sigma=True), make_batch([1, 2])
    terms = run(RECIPES["sampled_sigma"], model, batch)
    torch.testing.assert_close(terms.per_sample.mean().detach(), terms.logs["loss_main"], rtol=0, atol=0)
    step = gradients(RECIPES["sampled_sigma"], model, batch)
    before = model(batch.lr)[1].mean()
    for name, parameter in model.named_parameters():
        if name.startswith("head"):
            parameter.data -= 10 * step[name]
    assert model(batch.lr)[1].mean() < before - 0.01


def test_auxiliary_loss_reaches_the_features_but_not_the_prediction() -> None:
    model, batch = Tiny(sigma=True), make_batch([1, 2])
    both = gradients(RECIPES["l1+aux"], model, batch)
    plain = gradients(RECIPES["l1+aux"].model_copy(update={"sigma": SigmaBranch(beta=1e-30)}), model, batch)
    for name in ("tail.0.weight", "tail.0.bias"):
        assert torch.equal(both[name], plain[name])
    assert (both["body.weight"] - plain["body.weight"]).abs().max() > 1e-6


def test_alone_the_auxiliary_loss_trains_the_prediction_too() -> None:
    assert gradients(RECIPES["aux_only"], Tiny(sigma=True), make_batch([1, 2]))["tail.0.weight"].abs().max() > 1e-6


def test_noise_belongs_to_seed_step_and_sample() -> None:
    model, batch = Tiny(sigma=False), make_batch([1, 2])
    update = Objective(RECIPES["expectation_only"]).loss

    def loss(seed: int, step: int) -> Tensor:
        return update(model, batch, 0.5, SampleRng(seed, step, batch.sample_ids)).per_sample

    assert torch.equal(loss(1, 5), loss(1, 5))
    assert not torch.isclose(loss(1, 5), loss(1, 6)).any()
    assert not torch.isclose(loss(1, 5), loss(2, 5)).any()


@pytest.mark.parametrize(
    ("recipe", "progress"), [("l1", 0.5), ("eco", 0.25), ("loss_mixup", 0.25), ("image_mixup", 0.5)]
)
def test_noise_comes_onto_inputs_after_the_mix_by_sample_and_draw(recipe: str, progress: float) -> None:
    """Of each input of each pair its own, in each channel; targets have none, and draws of the loss do not move."""
    batch, inputs = make_batch([4, 8, 15]), []

    def seen(objective: Objective, batch: Batch) -> list[Tensor]:
        inputs.clear()
        rng = SampleRng(batch.seed, batch.step, batch.sample_ids)
        objective.loss(lambda x: inputs.append(x) or x.repeat(1, 1, SCALE, SCALE), batch, progress, rng)
        return list(inputs)

    clean, noisy = (seen(Objective(RECIPES[recipe], sigma), batch) for sigma in (None, 0.02))
    fields = [(b - a) / 0.02 for a, b in zip(clean, noisy, strict=True)]
    assert len(fields) == (2 if recipe == "loss_mixup" else 1)
    flat = torch.cat([field.flatten(2).flatten(0, 1) for field in fields])  # a row for each channel of each input
    assert float(flat.std()) == pytest.approx(1, abs=0.15) and abs(float(flat.mean())) < 0.15
    assert (torch.corrcoef(flat) - torch.eye(len(flat))).abs().max() < 0.75, "no two of 6x6 elements are alike"
    for start, stop in ((0, 1), (1, 3)):
        part = seen(Objective(RECIPES[recipe], 0.02), batch.part(start, stop))
        assert all(torch.equal(mine, whole[start:stop]) for mine, whole in zip(part, noisy, strict=True))


@pytest.mark.parametrize("recipe", ["l2", "eco+expectation"])
def test_loss_is_float32_under_autocast(recipe: str) -> None:
    spec, batch = RECIPES[recipe], make_batch([1, 2])
    model = Tiny(sigma=spec.sigma is not None)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(torch.lerp(batch.mu_lr, batch.lr, 0.5) if recipe.startswith("eco") else batch.lr)
        mixed = run(spec, model, batch)
    rounded = tuple(o.float() for o in outputs) if spec.sigma else outputs.float()
    assert (outputs[0] if spec.sigma else outputs).dtype == torch.bfloat16 and mixed.per_sample.dtype == torch.float32
    torch.testing.assert_close(mixed.per_sample, run(spec, lambda x: rounded, batch).per_sample, rtol=1e-6, atol=0)


def test_a_network_of_another_scale_is_caught() -> None:
    with pytest.raises(AssertionError, match=r"\(2, 3, 6, 6\) for a target of \(2, 3, 12, 12\)"):
        run(RECIPES["l1"], nn.Identity(), make_batch([1, 2]))
