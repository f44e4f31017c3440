"""Losses of diffusion against released code, on its own small networks; what DREAM keeps; draws, modes, precision."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from objectives import RECIPES, TARGETS, resolve
from objectives.batch import Batch
from objectives.compose import LossTerms, trainable
from objectives.diffusion import DiffusionObjective, Rectified, jump_terms, levels, rectified, shares, snr_weight
from objectives.losses import DREAM, DRM, MinSNR
from objectives.spec import ObjectiveSpec
from objectives.timesteps import Range, Terminal, Uniform
from sr_models.diffusion.base import Denoiser
from sr_models.diffusion.process import Level, Process, add_noise
from sr_models.hyper.process import ProcessParams
from sr_models.rng import SampleRng

PREDICTIONS = ("eps", "x0", "v")
OF_DIFFUSION = [name for name, spec in RECIPES.items() if spec.takes_process and not spec.chain]
SHORT = ProcessParams(T=40, beta_end=0.3)


def told(arrays: dict[str, Any], name: str) -> Tensor:
    return torch.from_numpy(np.asarray(arrays[name]))


class Handed(nn.Module):
    """The network of the handed losses: conv2(silu(conv1(condition, state) + emb(level))), or CCSR's around it."""

    def __init__(self, arrays: dict[str, Any], *, of_t: bool = False) -> None:
        super().__init__()
        shapes = {name: arrays[f"w/{name}.weight"].shape for name in ("conv1", "emb", "conv2")}
        self.conv1 = nn.Conv2d(shapes["conv1"][1], shapes["conv1"][0], 3, padding=1)
        self.emb = nn.Linear(1, shapes["emb"][0])
        self.conv2 = nn.Conv2d(shapes["conv2"][1], shapes["conv2"][0], 3, padding=1)
        self.load_state_dict({name.removeprefix("w/"): told(arrays, name) for name in arrays if name.startswith("w/")})
        self.of_t = of_t

    def forward(self, condition: Tensor, state: Tensor, level: Level) -> Tensor:
        told_B1 = ((level.t - 1) / 1000 if self.of_t else level.gamma).float()[:, None]
        parts = [state, condition] if self.of_t else [condition, state]
        hidden = functional.silu(self.conv1(torch.cat(parts, 1)) + self.emb(told_B1)[:, :, None, None])
        out = self.conv2(hidden)
        return 0.8 * state + 0.3 * out if self.of_t else out


def held_to(found: dict[str, Tensor], arrays: dict[str, Any], prefix: str) -> None:
    """Gradients, at the handed tolerance."""
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, told(arrays, f"{prefix}/grad/{name}"), rtol=1e-4, atol=1e-7)


def gradients(net: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    names, parameters = zip(*net.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


def test_the_plain_loss_is_sr3s(oracle):
    arrays = oracle("sr3_loss")
    a, b, c = arrays["stub_coef_y_xup_gamma"]
    gamma, eps = told(arrays, "gamma")[:, 0].double(), told(arrays, "noise")
    state = add_noise(told(arrays, "hr"), eps, gamma)
    torch.testing.assert_close(state, told(arrays, "y_t"), rtol=0, atol=1e-6)
    out = a * state + b * told(arrays, "x_up") + c * gamma.float()[:, None, None, None]
    objective = DiffusionObjective(RECIPES["ddpm"], None, ProcessParams())
    level = Level(gamma, torch.full((4,), int(arrays["t"])))
    loss = objective.miss(RECIPES["ddpm"].loss, out, told(arrays, "hr"), eps, level)
    torch.testing.assert_close(loss.mean(), told(arrays, "loss_mean"), rtol=1e-5, atol=0)
    assert loss.shape == (4,)


@pytest.mark.parametrize("p", [0, 1, 2, 3])
@pytest.mark.parametrize("draw", [0, 1, 2])
def test_dream_is_the_released_codes_pass_by_pass(p: int, draw: int, oracle) -> None:
    arrays, at = oracle("dream_loss"), f"p{p}/draw{draw}"
    net, x0, eps, x_up = Handed(arrays), told(arrays, "hr"), told(arrays, "noise"), told(arrays, "x_up")
    process = Process.of(ProcessParams())
    level = Level(told(arrays, f"{at}/gamma")[:, 0].double(), torch.full((4,), int(arrays[f"{at}/t"])))
    state = add_noise(x0, eps, level.gamma)
    guess = net(x_up, state, level).detach()
    loss = DREAM(p=float(p))
    second = rectified(process, guess, state, x0, eps, level, shares(loss, level))
    out = net(x_up, second.state, level)
    named = {"y_t": state, "eps_first": guess, "y_hat": second.state, "target": second.eps, "eps_second": out}
    for name, value in named.items():
        torch.testing.assert_close(value, told(arrays, f"{at}/{name}"), rtol=0, atol=1e-5)
    objective = DiffusionObjective(RECIPES["dream"], None, ProcessParams())
    mean = objective.miss(loss, out, x0, second.eps, level).mean()
    torch.testing.assert_close(mean, told(arrays, f"{at}/loss_mean"), rtol=0, atol=1e-5)
    held_to(gradients(net, mean), arrays, at)


def test_the_jump_is_ccsrs_first_stage_and_detached_it_is_the_flags(oracle) -> None:
    arrays = oracle("ccsr_stage1_losses")
    params = ProcessParams(T=1000, schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    process, net, x0 = Process.of(params), Handed(arrays, of_t=True), told(arrays, "x0")
    np.testing.assert_allclose(process.alpha_bar[1:], arrays["alpha_bar"], rtol=1e-5)

    def level(t0: Tensor) -> Level:
        return Level(torch.from_numpy(np.sqrt(process.alpha_bar))[t0 + 1], t0 + 1)

    def predict(state: Tensor, at: Level) -> Tensor:
        return net(told(arrays, "c_latent"), state, at)

    eps, at = told(arrays, "A/noises")[0], level(told(arrays, "t_A"))
    objective = DiffusionObjective(resolve({"recipe": "nutl", "loss.norm": "l2"}), None, params)
    plain = objective.miss(objective.spec.loss, predict(add_noise(x0, eps, at.gamma), at), x0, eps, at).mean()
    torch.testing.assert_close(plain, told(arrays, "A/loss"), rtol=1e-5, atol=0)
    held_to(gradients(net, plain), arrays, "A")

    eps_T, eps_max = told(arrays, "B/noises")
    pair = tuple(level(t) for t in told(arrays, "B/network_timesteps"))
    for detach, name in ((False, "B"), (True, "B_detached")):
        terms = jump_terms(Terminal(detach=detach), process, predict, x0, (eps_T, eps_max), pair)
        if not detach:
            for term, log in zip(terms, ("loss_x0", "loss_x0_from_tao", "loss_noise_from_tao"), strict=True):
                torch.testing.assert_close(term.mean(), told(arrays, f"B/log/{log}"), rtol=1e-5, atol=0)
        total = sum(terms).mean()
        torch.testing.assert_close(total, told(arrays, f"{name}/loss"), rtol=1e-5, atol=0)
        held_to(gradients(net, total), arrays, name)


def test_the_training_setting_of_dreams_figure_3_is_the_released_codes(oracle) -> None:
    arrays = oracle("dream_training_setting")
    net, process = Handed(arrays), Process.of(ProcessParams(T=500, allow_terminal_signal=True))
    x0, x_up = told(arrays, "hr"), told(arrays, "x_up")
    for k in range(len(arrays["gamma"])):
        level = Level(told(arrays, "gamma")[k, :, 0].double(), torch.ones(2, dtype=torch.int64))
        state = add_noise(x0, told(arrays, "noise")[k], level.gamma)
        torch.testing.assert_close(state, told(arrays, "y_t")[k], rtol=0, atol=1e-6)
        guess = process.x0_hat(net(x_up, state, level), state, level.gamma)
        torch.testing.assert_close(guess, told(arrays, "x0_hat")[k], rtol=0, atol=2e-5 / float(level.gamma.min()))


# ---- what the losses keep ------------------------------------------------------------------------------------------


class Tiny(Denoiser):
    """Six channels to three beside the noise level; x2, with dropout if asked."""

    scale = 2

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.body, self.drop, self.tail = nn.Conv2d(7, 8, 3, padding=1), nn.Dropout(dropout), nn.Conv2d(8, 3, 1)
        self.seen: list[tuple[Tensor, Level, bool]] = []
        drawn = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.2, generator=drawn)

    def encode(self, lr_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
        return 2 * functional.interpolate(lr_BCHW, size=size) - 1

    def forward(self, condition: Tensor, state_BCHW: Tensor, level: Level) -> Tensor:
        self.seen.append((state_BCHW.detach(), level, self.training))
        gamma = level.gamma.float()[:, None, None, None].expand(-1, 1, *state_BCHW.shape[2:])
        return self.tail(self.drop(self.body(torch.cat([condition, state_BCHW, gamma], 1)).tanh()))


def make_batch(ids: list[int]) -> Batch:
    def images(size: int, purpose: str) -> Tensor:
        return torch.from_numpy(SampleRng(3, 0, np.asarray(ids)).uniform(purpose, (3, size, size)))

    return Batch(
        lr=images(6, "crop"), hr=images(12, "degrade"), mu=images(12, "init"), mu_lr=images(6, "sample"),
        sample_ids=np.asarray(ids), step=5, seed=1,
    )  # fmt: skip


def run(
    spec: ObjectiveSpec, net: Denoiser, batch: Batch, process: ProcessParams = SHORT, *, update: int = 0
) -> LossTerms:
    rng = SampleRng(batch.seed, batch.step, batch.sample_ids)
    return DiffusionObjective(spec, None, process).updates()[update].loss(net, batch, 0.5, rng)


@pytest.mark.parametrize("recipe", OF_DIFFUSION)
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("target", ["hr", "noise_free", "mixup"])
def test_every_recipe_trains_every_parameter_in_each_of_its_updates(recipe: str, prediction: str, target: str) -> None:
    spec = RECIPES[recipe].model_copy(update={"target": TARGETS[target]()})
    process, net, batch = SHORT.model_copy(update={"prediction": prediction}), Tiny(), make_batch([4, 8, 15])
    objective = DiffusionObjective(spec, None, process)
    updates = objective.updates()
    assert tuple(update.name for update in updates) == spec.update_names
    for number, update in enumerate(updates):
        terms = run(spec, net, batch, process, update=number)
        assert terms.per_sample.shape == (3,) and terms.per_sample.dtype == torch.float32
        assert all(gradient.abs().max() > 0 for gradient in gradients(net, terms.per_sample.mean()).values())
        logged = {"loss_T", "loss_t_max", "loss_noise"} if update.name == "terminal" else set()
        logged |= {"alpha"} if target == "mixup" and update.name == "model" else set()
        logged |= {"loss_first"} if isinstance(spec.loss, DRM | DREAM) and update.name == "model" else set()
        assert set(terms.logs) == logged
        assert all(value.shape == () and not value.requires_grad for value in terms.logs.values())
        assert [id(p) for p in update.parameters(net)] == [id(p) for p in trainable(net)]


@pytest.mark.parametrize("recipe", OF_DIFFUSION)
def test_a_row_does_not_depend_on_its_batch(recipe: str) -> None:
    for number in range(len(RECIPES[recipe].update_names)):
        whole = run(RECIPES[recipe], Tiny(), make_batch([4, 8, 15, 16]), update=number).per_sample
        parts = [
            run(RECIPES[recipe], Tiny(), make_batch(ids), update=number).per_sample for ids in ([4], [8, 15], [16])
        ]
        torch.testing.assert_close(whole, torch.cat(parts), rtol=1e-5, atol=1e-6)


def test_without_p_dream_is_ddpm_bit_for_bit_and_makes_one_pass() -> None:
    net, batch = Tiny(dropout=0.3).train(), make_batch([1, 2])
    found = []
    for spec in (RECIPES["ddpm"], resolve({"recipe": "dream", "loss.p": None})):
        torch.manual_seed(0)
        net.seen.clear()
        terms = run(spec, net, batch)
        found.append((terms.per_sample, gradients(net, terms.per_sample.mean())))
        assert len(net.seen) == 1 and terms.logs == {}
    assert torch.equal(found[0][0], found[1][0])
    assert all(torch.equal(a, b) for a, b in zip(found[0][1].values(), found[1][1].values(), strict=True))


def test_the_first_pass_is_in_evaluation_mode_without_gradient_at_the_same_level_and_moves_no_draw() -> None:
    net, batch = Tiny(dropout=0.3).train(), make_batch([1, 2])
    net.drop.eval()  # a part with a mode of its own gets it back
    terms = run(RECIPES["dream"], net, batch)
    (_, first, was), (_, second, now) = net.seen
    assert (was, now) == (False, True) and net.body.training and not net.drop.training
    assert torch.equal(first.gamma, second.gamma) and torch.equal(first.t, second.t)
    net.train()
    torch.manual_seed(0)
    run(RECIPES["dream"], net, batch)
    after = torch.rand(())
    torch.manual_seed(0)
    plain = run(RECIPES["ddpm"], net, batch)
    assert torch.equal(after, torch.rand(()))
    net.eval()
    torch.testing.assert_close(terms.logs["loss_first"], run(RECIPES["ddpm"], net, batch).per_sample.mean().detach())
    assert not torch.equal(plain.per_sample, terms.per_sample)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("loss", [DREAM(p=0.0), DREAM(p=1.0), DREAM(p=7.5), DRM(), DRM(noise="independent")], ids=str)
def test_a_rectified_state_still_holds_the_picture(prediction: str, loss: DREAM | DRM) -> None:
    """(state - sqrt(1 - gamma^2) eps) / gamma = x0 for any guess; and a perfect guess changes nothing."""
    process = Process.of(SHORT.model_copy(update={"prediction": prediction}))
    x0, eps, guess, other = torch.randn(4, 5, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    level = Level(torch.tensor([0.99, 0.9, 0.5, 0.2, 0.05], dtype=torch.float64), torch.arange(1, 6))
    second = other if isinstance(loss, DRM) and loss.noise == "independent" else None
    state = add_noise(x0, eps, level.gamma)
    found = rectified(process, guess, state, x0, eps, level, shares(loss, level), second)
    root = level.gamma.view(-1, 1, 1, 1)
    torch.testing.assert_close((found.state - (1 - root**2).sqrt() * found.eps) / root, x0)
    right = rectified(process, process.target(x0, eps, level.gamma), state, x0, eps, level, shares(loss, level), second)
    torch.testing.assert_close(right.eps, eps if second is None else second)


def test_under_v_and_x0_dream_is_what_the_same_guess_of_noise_makes_it() -> None:
    """The state does not depend on what the network gives; in v's terms it is moved by lambda gamma (v - v')."""
    draw = torch.Generator().manual_seed(0)
    x0, eps, guess = torch.randn(3, 4, 3, 6, 6, dtype=torch.float64, generator=draw)
    level = Level(torch.tensor([0.9, 0.5, 0.2, 0.05], dtype=torch.float64), torch.arange(1, 5))
    lam, root = shares(DREAM(p=1.0), level), level.gamma.view(-1, 1, 1, 1)
    state = add_noise(x0, eps, level.gamma)

    def under(prediction: str, out: Tensor) -> tuple[Rectified, Process]:
        process = Process.of(SHORT.model_copy(update={"prediction": prediction}))
        return rectified(process, out, state, x0, eps, level, lam), process

    by_eps, process = under("eps", guess)
    x0_hat = process.x0_hat(guess, state, level.gamma, clamp=False)
    v_hat = root * guess - (1 - root**2).sqrt() * x0_hat
    by_v, v_process = under("v", v_hat)
    by_x0, x0_process = under("x0", x0_hat)
    for other in (by_v, by_x0):
        torch.testing.assert_close(other.state, by_eps.state)
        torch.testing.assert_close(other.eps, by_eps.eps)
    v, share = v_process.target(x0, eps, level.gamma), lam.view(-1, 1, 1, 1)
    torch.testing.assert_close(by_v.state, state + share * root * (1 - root**2).sqrt() * (v - v_hat))
    torch.testing.assert_close(v_process.target(x0, by_v.eps, level.gamma), v + share * root**2 * (v - v_hat))
    assert torch.equal(x0_process.target(x0, by_x0.eps, level.gamma), x0)


def test_p_of_0_is_drm_and_a_large_p_nearly_ddpm_where_there_is_more_picture_than_noise() -> None:
    level = Level(torch.tensor([0.0063, 0.3, 0.5, 0.9], dtype=torch.float64).sqrt(), torch.arange(1, 5))
    assert torch.equal(shares(DREAM(p=0.0), level), shares(DRM(), level))
    assert shares(DREAM(p=40.0), level).tolist() == pytest.approx([0.8813, 0.0008, 0.0, 0.0], abs=5e-5)
    batch, net = make_batch([1, 2, 3, 4]), Tiny()
    assert torch.equal(
        run(resolve({"recipe": "dream", "loss.p": 0}), net, batch).per_sample,
        run(RECIPES["drm"], net, batch).per_sample,
    )
    clear = ProcessParams(T=40, beta_end=0.02, allow_terminal_signal=True)
    assert clear.alpha_bar()[-1] > 0.5
    far = run(resolve({"recipe": "dream", "loss.p": 40}), net, batch, clear).per_sample
    torch.testing.assert_close(far, run(RECIPES["ddpm"], net, batch, clear).per_sample, rtol=1e-4, atol=0)
    near = run(RECIPES["dream"], net, batch, clear).per_sample
    assert (far - near).abs().max() > 1e-3


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_min_snr_weighs_the_guess_of_x0_by_the_smaller_of_snr_and_gamma(prediction: str) -> None:
    """In each prediction the same loss, had the network given x0: a miss of eps is its miss times sqrt(SNR)."""
    level = Level(torch.tensor([0.99, 0.9, 0.5, 0.05], dtype=torch.float64), torch.arange(1, 5))
    snr = level.gamma**2 / (1 - level.gamma**2)
    of_x0 = {"eps": snr, "x0": torch.ones_like(snr), "v": snr + 1}[prediction]
    found = snr_weight(MinSNR(gamma=3.0), prediction, level).double() * of_x0
    torch.testing.assert_close(found, snr.clamp(max=3.0), rtol=1e-6, atol=0)
    assert snr_weight(MinSNR(), "v", Level(torch.zeros(1, dtype=torch.float64), torch.ones(1))).tolist() == [0]


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_min_snr_is_ddpm_under_its_weight(prediction: str) -> None:
    process, batch, net = SHORT.model_copy(update={"prediction": prediction}), make_batch([1, 2, 3, 4]), Tiny()
    plain = run(resolve({"recipe": "ddpm", "loss.norm": "l2"}), net, batch, process).per_sample
    weight = snr_weight(MinSNR(gamma=0.5), prediction, net.seen[-1][1])
    assert len(set(weight.tolist())) > 1
    found = run(resolve({"recipe": "min_snr", "loss.gamma": 0.5}), net, batch, process).per_sample
    torch.testing.assert_close(found, weight * plain)


def silent() -> Tiny:
    """A network that gives 0."""
    net = Tiny()
    nn.init.zeros_(net.tail.weight)
    nn.init.zeros_(net.tail.bias)
    return net


def test_norms_are_of_what_is_missed() -> None:
    process, batch, net = SHORT.model_copy(update={"prediction": "x0"}), make_batch([1, 2]), silent()
    x0 = (2 * batch.hr - 1).flatten(1)
    for norm, expected in (("l1", x0.abs().mean(1)), ("l2", x0.square().mean(1))):
        found = run(resolve({"recipe": "ddpm", "loss.norm": norm}), net, batch, process).per_sample
        torch.testing.assert_close(found, expected)


def test_of_a_network_that_says_nothing_the_rectified_noise_is_all_that_is_missed() -> None:
    """With a guess of 0 for eps: 2 eps under drm, or other noise and eps; (1 + lambda) eps under dream."""
    batch, net = make_batch([1, 2, 3]), silent()
    rng = SampleRng(batch.seed, batch.step, batch.sample_ids)
    eps, other = (rng.noise("diffusion_noise", (3, 12, 12), "cpu", draw=draw) for draw in (0, 1))

    def found(**changes: object) -> Tensor:
        return run(resolve({"recipe": "drm", **changes}), net, batch).per_sample

    torch.testing.assert_close(found(), (2 * eps).abs().flatten(1).mean(1))
    torch.testing.assert_close(found(**{"loss.noise": "independent"}), (other + eps).abs().flatten(1).mean(1))
    dream = run(RECIPES["dream"], net, batch).per_sample
    lam = (1 - net.seen[-1][1].gamma ** 2).sqrt().float()
    torch.testing.assert_close(dream, (1 + lam) * eps.abs().flatten(1).mean(1))


@pytest.mark.parametrize(
    "timesteps", [Uniform(), Range(t_max=0.5, ratio=0.5), Range(t_max=0.5, ratio=0.5, t_low="t_min")]
)
def test_levels_are_drawn_by_sample_within_their_steps(timesteps: Uniform | Range) -> None:
    process, ids = Process.of(SHORT), np.arange(400)
    found = levels(timesteps, process, SampleRng(0, 3, ids), torch.device("cpu"))
    first, last = timesteps.steps(40)
    assert sorted(set(found.t.tolist())) == list(range(first, last + 1))
    roots = torch.from_numpy(np.sqrt(process.alpha_bar))
    assert ((roots[found.t] <= found.gamma) & (found.gamma <= roots[found.t - 1])).all()
    assert len(set(found.gamma.tolist())) > 390
    part = levels(timesteps, process, SampleRng(0, 3, ids[7:9]), torch.device("cpu"))
    assert torch.equal(part.gamma, found.gamma[7:9])
    assert not torch.equal(levels(timesteps, process, SampleRng(0, 4, ids), torch.device("cpu")).t, found.t)


def test_the_jump_starts_from_t_ends_at_t_max_and_its_sum_is_of_both_losses() -> None:
    batch, net = make_batch([1, 2]), Tiny()
    spec = resolve({"recipe": "nutl", "timesteps.terminal": {"weight": "alpha_bar"}})
    jump = run(spec, net, batch, update=1)
    assert [level.t.tolist() for _, level, _ in net.seen] == [[40, 40], [27, 27]]
    bars = SHORT.alpha_bar()
    logs = {name: float(value) for name, value in jump.logs.items()}
    weighed = bars[40] * logs["loss_T"] + bars[27] * logs["loss_t_max"] + logs["loss_noise"]
    assert float(jump.per_sample.detach().mean()) == pytest.approx(weighed, rel=1e-5)
    plain = run(RECIPES["nutl"], net, batch, update=1)
    assert float(plain.per_sample.detach().mean()) == pytest.approx(sum(logs.values()), rel=1e-5)
    summed = resolve({"recipe": "nutl", "timesteps.terminal": {"weight": "alpha_bar", "updates": "summed"}})
    assert summed.update_names == ("model",)
    both = run(summed, net, batch)
    torch.testing.assert_close(both.per_sample, run(spec, net, batch).per_sample + jump.per_sample)
    assert set(both.logs) == {"loss_T", "loss_t_max", "loss_noise"}


def test_loss_is_float32_under_autocast_and_inputs_may_be_noisy() -> None:
    batch, net = make_batch([1, 2]), Tiny()
    with torch.autocast("cpu", torch.bfloat16):
        for number in (0, 1):
            assert run(RECIPES["dream+nutl"], net, batch, update=number).per_sample.dtype == torch.float32
    conditions: list[Tensor] = []

    class Told(Tiny):
        def encode(self, lr_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
            conditions.append(lr_BCHW)
            return super().encode(lr_BCHW, size)

    for sigma in (None, 0.02):
        DiffusionObjective(RECIPES["ddpm"], sigma, SHORT).loss(Told(), batch, 0.5, SampleRng(1, 5, batch.sample_ids))
    assert float((conditions[1] - conditions[0]).std()) == pytest.approx(0.02, rel=0.2)
