"""Decoder losses and discriminator against released code; two updates, and what is refused."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from objectives import RECIPES
from objectives.adversarial import AdversarialObjective, Discriminator, adaptive_weight, decoder_input, hinge
from objectives.batch import Batch
from objectives.losses import AdversarialBranch
from sr_models.diffusion.process import Level, Process
from sr_models.errors import InputError
from sr_models.hyper.process import ProcessParams
from sr_models.hyper.sampling import Sampling
from sr_models.networks.base import parameters
from sr_models.rng import SampleRng

RELEASED = AdversarialBranch(channels=4, divide_by_batch=True)


def told(arrays: dict, name: str) -> Tensor:
    return torch.from_numpy(np.asarray(arrays[name])).float()


def perceived(a: Tensor, b: Tensor) -> Tensor:
    """The stand-in of the handed losses."""
    return 0.1 * functional.avg_pool2d(a - b, 2).square().flatten(1).mean(1)


class Decoder(nn.Module):
    """The handed decoder, on latents, to [0, 1]."""

    def __init__(self, arrays: dict) -> None:
        super().__init__()
        self.conv_in, self.conv_out = nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(6, 3, 3, padding=1)
        own = {name.removeprefix("decoder/"): told(arrays, name) for name in arrays if name.startswith("decoder/")}
        self.load_state_dict(own)

    def forward(self, z: Tensor) -> Tensor:
        large = functional.interpolate(functional.silu(self.conv_in(z)), scale_factor=4.0)
        out: Tensor = (self.conv_out(large) + 1) / 2
        return out


def discriminator_of(arrays: dict) -> Discriminator:
    net = Discriminator(4, "batch")
    net.load_state_dict({name.removeprefix("disc/"): told(arrays, name) for name in arrays if name.startswith("disc/")})
    return net


def batch_of(arrays: dict, step: int) -> Batch:
    return Batch(lr=told(arrays, "z"), hr=(told(arrays, "gt") + 1) / 2, sample_ids=np.arange(3), step=step, seed=0)


def objective_of(arrays: dict, perceptual_weight: float = 0.0, **values) -> AdversarialObjective:
    branch = RELEASED.model_copy(update={"perceptual_weight": perceptual_weight, **values})
    made = AdversarialObjective(RECIPES["l1"], None, branch, lambda model: model.conv_out.weight, perceived)
    made.module = discriminator_of(arrays)
    return made


def rng() -> SampleRng:
    return SampleRng(0, 0, np.arange(3))


def test_the_discriminator_is_patchgans(oracle):
    arrays = oracle("ccsr_decoder_losses")
    net = discriminator_of(arrays)
    for picture, name in (("gt", "real_train"), ("reconstruction", "fake_train")):
        torch.testing.assert_close(net(told(arrays, picture)), told(arrays, f"logits_{name}"), rtol=1e-5, atol=1e-6)
    evaluated = net.eval()(told(arrays, "gt"))  # with the statistics of those two
    torch.testing.assert_close(evaluated, told(arrays, "logits_real_eval"), rtol=1e-5, atol=1e-6)
    assert parameters(Discriminator(64, "batch")) == int(arrays["full_size_disc_parameters"]) == 2_765_633
    assert parameters(Discriminator(64, "group")) == 2_765_633


def test_the_hinge_is_released_codes(oracle):
    arrays = oracle("ccsr_decoder_losses")
    found = hinge(told(arrays, "hinge_in_real"), told(arrays, "hinge_in_fake"))
    torch.testing.assert_close(found.mean(), told(arrays, "hinge_d"), rtol=1e-5, atol=0)


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("perceptual", [0, 1])
def test_both_updates_are_stage_2s(oracle, perceptual, step):
    arrays, at = oracle("ccsr_decoder_losses"), f"perceptual{perceptual}/global_step{step}"
    net, objective = Decoder(arrays), objective_of(arrays, float(perceptual))
    batch = batch_of(arrays, step)
    torch.testing.assert_close(2 * net(batch.lr) - 1, told(arrays, "reconstruction"), rtol=0, atol=1e-5)
    generator, discriminator = objective.updates()
    found = generator.loss(net, batch, 0.0, rng())
    named = {"nll": "loss_main", "g_loss": "loss_adversarial", "adaptive_weight": "weight"}
    for name, log in named.items():
        torch.testing.assert_close(found.logs[log], told(arrays, f"{at}/{name}"), rtol=1e-5, atol=0)
    loss = found.per_sample.mean()
    torch.testing.assert_close(loss, told(arrays, f"{at}/generator_loss"), rtol=1e-5, atol=0)
    names, weights = zip(*net.named_parameters(), strict=True)
    for name, gradient in zip(names, torch.autograd.grad(loss, weights), strict=True):
        wanted = told(arrays, f"{at}/decoder_grad/{name}")
        torch.testing.assert_close(gradient, wanted, rtol=1e-3, atol=1e-7)
    of_d = discriminator.loss(net, batch, 0.0, rng()).per_sample.mean()
    torch.testing.assert_close(of_d, told(arrays, f"{at}/d_loss"), rtol=1e-5, atol=0)
    gradients = torch.autograd.grad(of_d, list(discriminator.parameters(net)))
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
    torch.testing.assert_close(
        norm, told(arrays, f"{at}/d_grad_norm") if step else torch.tensor(0.0), rtol=1e-3, atol=0
    )


def test_what_the_decoder_sees_is_stage_2s_chain_call_by_call(oracle):
    arrays = oracle("ccsr_stage2_chain")
    params = ProcessParams(T=1000, schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clamp=False)
    noises = [*arrays["noises_first_two"], *arrays["noises_steps"]]
    strength, calls = torch.tensor(0.9, requires_grad=True), []

    def predict(state: Tensor, level: Level) -> Tensor:
        calls.append((state, level.t - 1))
        t = (level.t - 1).float()[:, None, None, None]
        return strength * state + 0.2 * told(arrays, "c") - 0.1 * t / 1000

    sampling = Sampling(sampler="truncated", steps=45, t_max=0.6667, t_min=0.3333, jump="released")
    x0 = told(arrays, "x0").requires_grad_()
    guess = decoder_input(predict, Process.of(params), x0, lambda k: torch.from_numpy(noises[k]), sampling)
    assert [int(t[0]) for _, t in calls] == arrays["network_timesteps"].tolist()
    for (state, _), wanted in zip(calls, arrays["network_inputs"], strict=True):
        torch.testing.assert_close(state, torch.from_numpy(wanted), rtol=0, atol=2e-4)
    torch.testing.assert_close(guess / 0.18215, told(arrays, "decoder_input"), rtol=0, atol=2e-4)
    assert not guess.requires_grad


def test_the_decoder_alone_has_a_gradient_of_its_losses(oracle):
    """Of what feeds it, and of the discriminator in the generator's update, nothing is stepped."""
    arrays = oracle("ccsr_decoder_losses")
    net, objective = Decoder(arrays), objective_of(arrays)
    generator, discriminator = objective.updates()
    assert {id(p) for p in generator.parameters(net)} == {id(p) for p in net.parameters()}
    discriminator.loss(net, batch_of(arrays, 1), 0.0, rng()).per_sample.mean().backward()
    assert all(p.grad is None for p in net.parameters())
    assert all(p.grad is not None for p in discriminator.parameters(net))


def test_without_the_released_division_the_whole_loss_is_a_batch_times_as_large(oracle):
    """But for what keeps the weight finite."""
    arrays = oracle("ccsr_decoder_losses")
    released, plain = (
        objective_of(arrays, divide_by_batch=divide).loss(Decoder(arrays), batch_of(arrays, 1), 0.0, rng())
        for divide in (True, False)
    )
    torch.testing.assert_close(plain.per_sample, 3 * released.per_sample, rtol=1e-4, atol=0)


def test_a_discriminator_with_groups_does_not_look_at_its_batch():
    torch.manual_seed(0)
    x = torch.rand(3, 3, 32, 32)
    for norm, alike in (("group", True), ("batch", False)):
        net = Discriminator(4, norm)
        parts = torch.cat([net(x[i : i + 1]) for i in range(3)])
        assert torch.allclose(net(x), parts, rtol=0, atol=1e-5) is alike


def test_the_weight_is_bounded():
    assert adaptive_weight(1e9 * torch.ones(2), torch.zeros(2), 0.5) == 0.5 * 1e4
    assert adaptive_weight(torch.zeros(2), torch.ones(2), 0.5) == 0


@pytest.mark.parametrize("divide", [False, True])
def test_a_batch_in_parts_has_the_weight_and_the_gradient_of_the_whole(oracle, divide):
    """What `look` adds up, whatever the parts and workers."""
    arrays = oracle("ccsr_decoder_losses")
    net, batch, gradients, weights = Decoder(arrays), batch_of(arrays, 1), [], []
    for cuts in ([(0, 3)], [(0, 1), (1, 3)]):
        objective = objective_of(arrays, 1.0, norm="group", divide_by_batch=divide)
        torch.manual_seed(0)
        objective.module = Discriminator(4, "group")
        generator, _ = objective.updates()
        assert generator.look is not None
        parts = [batch.part(*cut) for cut in cuts]
        generator.look(net, parts, 0.0, lambda own: own)
        net.zero_grad()
        for part in parts:
            terms = generator.loss(net, part, 0.0, SampleRng(0, 1, part.sample_ids))
            (terms.per_sample.sum() / 3).backward()
        weights.append(terms.logs["weight"])
        gradients.append([parameter.grad.clone() for parameter in net.parameters()])
    assert weights[0] > 0 and not weights[0].requires_grad
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-5, atol=0)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-7)


def test_a_perceptual_weight_wants_a_perceptual_network():
    with pytest.raises(InputError, match=r"perceptual_weight 1 needs the weights .* give perceptual_weight: 0"):
        AdversarialObjective(RECIPES["l1"], None, AdversarialBranch(), lambda model: model.conv_out.weight)
