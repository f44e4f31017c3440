"""CCSR's adapter against released code; its U-Net alone; states, parts, the tuned decoder, losses of stage 1."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor, nn

pytest.importorskip("diffusers", reason="needs the extra [latent]")

import sr_models
from objectives import resolve
from objectives.batch import Batch
from objectives.diffusion import DiffusionObjective
from sr_models.checkpoints.published import initialise, load_weights
from sr_models.diffusion import frozen
from sr_models.diffusion.ccsr import CCSR, LatentUNet
from sr_models.diffusion.latent import UNetLayout, renamed_adapter
from sr_models.diffusion.process import Level
from sr_models.errors import InputError
from sr_models.hyper.latent import CCSRHyper, LatentUNetHyper
from sr_models.hyper.process import ProcessParams
from sr_models.hyper.sampling import Sampling
from sr_models.inference.super_resolve import Options, super_resolve
from sr_models.rng import SampleRng


@pytest.fixture
def tiny(latent_parts):
    """Makes a tiny CCSR on seeded parts."""

    def make(scale: int = 4, *, begun: bool = True, **changed: Any) -> CCSR:
        torch.manual_seed(0)
        net = CCSR(scale, **dict(CCSRHyper.parse(latent_parts | changed, "ccsr")))
        if begun:
            net.begin()
        return net

    return make


@pytest.fixture
def tiny_unet(latent_parts):
    values = {name: value for name, value in latent_parts.items() if name in LatentUNetHyper.model_fields}
    torch.manual_seed(0)
    return LatentUNet(4, **dict(LatentUNetHyper.parse(values, "latent_unet")))


def stirred(net: CCSR) -> CCSR:
    """With an adapter that says something."""
    with torch.no_grad():
        for parameter in net.control.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return net


def level(*steps: int) -> Level:
    return Level(torch.full((len(steps),), 0.5), torch.tensor(steps))


def told(arrays: dict[str, Any], name: str) -> Tensor:
    value = torch.from_numpy(np.asarray(arrays[name]))
    return value.float() if value.is_floating_point() else value


@pytest.fixture
def released(oracle, latent_parts, tmp_path):
    """Makes the handed networks, by their own names, the U-Net's among others of a whole checkpoint."""
    arrays = oracle("ccsr_adapter")
    config = json.loads(str(arrays["config"]))
    assert (config["model_channels"], tuple(config["channel_mult"])) == (32, latent_parts["mults"])
    whole = {f"model.diffusion_model.{name.removeprefix('unet/')}": told(arrays, name) for name in arrays
             if name.startswith("unet/")}  # fmt: skip
    safetensors.torch.save_file(whole | {"model_ema.decay": torch.zeros(1)}, tmp_path / "sd.safetensors")
    layout = UNetLayout(channels=32, mults=(1, 1), attention=(1,), blocks=1, head=16, context=12)

    def make(**flags: bool) -> CCSR:
        values = latent_parts | {"unet": str(tmp_path / "sd.safetensors")} | flags
        net = CCSR(4, **dict(CCSRHyper.parse(values, "ccsr")))
        weights = {name.removeprefix("control/"): told(arrays, name) for name in arrays if name.startswith("control/")}
        net.control.load_state_dict(renamed_adapter(weights, layout))
        return net

    return make, arrays, [told(arrays, name) for name in ("x", "hint", "timesteps", "context")]


def test_the_adapter_and_what_it_steers_are_the_released_ones(released):
    make, arrays, (x, hint, t, context) = released
    net = make()
    controls = net.controls(x, hint, t, context)
    assert len(controls) == 5
    for i, control in enumerate(controls):
        torch.testing.assert_close(control, told(arrays, f"control_out/{i}"), rtol=0, atol=5e-5)
    torch.testing.assert_close(net.denoise(x, hint, t, context), told(arrays, "eps"), rtol=0, atol=5e-5)
    alone = net.denoise(x, None, t, context)
    torch.testing.assert_close(alone, told(arrays, "eps_without_control"), rtol=0, atol=5e-5)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize(("whole", "name"), [(False, "grad_x_released_graph"), (True, "grad_x_full_graph")])
def test_the_gradient_goes_around_the_encoder_or_through_it(released, whole, name, again):
    make, arrays, (x, hint, t, context) = released
    net = make(encoder_in_gradient=whole)
    net.checkpointing = again
    x.requires_grad_()
    net.denoise(x, hint, t, context).square().mean().backward()
    wanted = told(arrays, name)
    torch.testing.assert_close(x.grad, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))
    assert all(p.grad is None for p in net.steered(x).parameters())
    norm = torch.stack([p.grad.norm() for p in net.control.parameters() if p.grad is not None]).norm()
    assert float(norm) == pytest.approx(float(arrays["control_grad_norm"]), rel=1e-3)


def test_a_new_adapter_says_nothing_and_does_not_see_the_condition(tiny):
    net = tiny()
    x, c = torch.randn(2, 1, 4, 8, 8)
    assert torch.equal(net(c, x, level(500)), net.denoise(x, None, torch.tensor([499]), net.context(x)))
    source = net.steered(x)
    assert torch.equal(net.control.mid_block.resnets[0].conv1.weight, source.mid_block.resnets[0].conv1.weight)
    assert torch.equal(net.control.conv_in.weight[:, :4], source.conv_in.weight)
    assert not net.control.conv_in.weight[:, 4:].any()
    assert [p for p in net.parameters() if p.requires_grad] == list(net.control.parameters())


def test_states_are_scaled_modes_and_lr_is_enlarged_as_pillow_does(tiny, latent_parts):
    net, lr = tiny(), (torch.rand(1, 3, 8, 12) * 255).round() / 255
    size = (32, 48)
    pixels = (lr[0].permute(1, 2, 0) * 255).numpy().astype(np.uint8)
    large = np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BICUBIC))
    picture = torch.from_numpy(large.copy()).permute(2, 0, 1)[None] / 255
    coder = frozen.kl_autoencoder(latent_parts["autoencoder"], None, net.vae, "cpu")
    latent = coder.encode(2 * picture - 1).latent_dist.mode()
    assert torch.equal(net.state(picture), 0.18215 * latent) and not net.state(picture).requires_grad
    torch.testing.assert_close(net.encode(lr, size), 0.18215 * latent, rtol=0, atol=0.02)  # of 8-bit levels
    assert torch.equal(net.encode(picture, size), net.state(picture))  # on a canvas LR is as large already
    assert net.state_shape(size) == tuple(latent.shape[1:]) == (4, 16, 24)
    torch.testing.assert_close(net.decode(0.18215 * latent), (coder.decode(latent).sample + 1) / 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net.state(picture), 0.18215 * latent) and net.decode(latent).dtype == torch.float32


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_windows_are_cells_that_the_levels_halve(tiny, latent_parts, scale):
    net = tiny(scale, begun=False)
    assert net.window == CCSRHyper.parse(latent_parts, "ccsr").window(scale)
    lr = torch.rand(1, 3, net.window, 2 * net.window)
    size = (net.window * scale, 2 * net.window * scale)
    condition = net.encode(lr, size)
    assert net(condition, condition, level(1)).shape == (1, *net.state_shape(size))
    assert CCSRHyper().window(4) == 16 and CCSRHyper().window(1) == 64


def test_frozen_parts_are_in_no_state_and_told_apart_by_their_hash(tiny, latent_parts):
    net = tiny()
    assert {name.split(".")[0] for name in net.state_dict()} == {"control"}
    for part in ("unet", "autoencoder"):
        sha256 = hashlib.sha256(Path(latent_parts[part]).read_bytes()).hexdigest()
        assert tiny(**{f"{part}_sha256": sha256}).state(torch.rand(1, 3, 8, 8)).shape == (1, 4, 4, 4)
        with pytest.raises(InputError, match=f"{part} .*: its sha256 is {sha256[:12]}, and the network was trained w"):
            tiny(**{f"{part}_sha256": "0" * 64}).state(torch.rand(1, 3, 8, 8))
        with pytest.raises(InputError, match=f"give its file, {part}=FILE"):
            tiny(**{part: None}).state(torch.rand(1, 3, 8, 8))


def test_a_prompts_embedding_is_a_file_or_a_seeded_stand_in(tiny, tmp_path):
    x = torch.zeros(2, 4, 4, 4)
    drawn = tiny().context(x)
    assert drawn.shape == (2, 77, 12) and torch.equal(drawn, tiny().context(x))
    path = tmp_path / "prompt.safetensors"
    safetensors.torch.save_file({"prompt": torch.rand(1, 5, 12).half()}, path)
    assert tiny(prompt=str(path)).context(x).shape == (2, 5, 12)
    with pytest.raises(InputError, match=r"its tensor `prompt` must be \(1, N, 16\), got \(1, 5, 12\)"):
        tiny(begun=False, context=16, prompt=str(path)).context(x)


def test_a_u_net_alone_is_what_ccsr_stands_on(tiny, tiny_unet, tmp_path):
    """Its checkpoint is a part; it sees no LR."""
    safetensors.torch.save_file(tiny_unet.state_dict(), tmp_path / "unet.safetensors")
    steered = tiny(unet=str(tmp_path / "unet.safetensors"))
    lr, size = torch.rand(1, 3, 4, 4), (16, 16)
    x = torch.randn(1, *tiny_unet.state_shape(size))
    out = tiny_unet(tiny_unet.encode(lr, size), x, level(3))
    assert torch.equal(out, steered(steered.encode(lr, size), x, level(3)))
    out.sum().backward()
    assert all(p.grad is not None for p in tiny_unet.parameters())


def test_stage_2_has_a_decoder_of_its_own_beside_a_frozen_adapter(tiny):
    one, net = stirred(tiny()), tiny(tuned_decoder=True)
    assert not any(p.requires_grad for p in net.control.parameters())
    z = torch.randn(1, 4, 4, 4)
    assert torch.equal(net.decode(z), one.decode(z)) and net.decode(z).requires_grad
    taken = initialise(net, one.state_dict())
    assert {name.split(".")[0] for name in taken.left} == {"decoder", "post_quant_conv"}
    assert all(torch.equal(net.state_dict()[name], value) for name, value in one.state_dict().items())
    net.decode(z).sum().backward()
    trained = [p for p in net.parameters() if p.requires_grad]
    assert all(p.grad is not None for p in trained) and any(p is net.last_layer for p in trained)
    with pytest.raises(InputError, match="its key 'decoder"):
        initialise(one, net.state_dict())


def test_a_whole_checkpoint_of_the_release_is_read(released, latent_parts, tmp_path):
    """Adapter, and the tuned decoder of stage 2; its schedule, without clamping; the U-Net, by its own model."""
    make, arrays, _ = released
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    names = {"control/": "control_model.", "unet/": "model.diffusion_model."}
    whole = {names[old] + name.removeprefix(old): told(arrays, name) for name in arrays for old in names
             if name.startswith(old)}  # fmt: skip
    path = tmp_path / "ccsr.ckpt"
    torch.save({"state_dict": whole | {"betas": betas}}, path)
    found = load_weights(path, model="ccsr", scale=4, hyper=latent_parts)
    wanted = make().state_dict()
    assert found.state_dict().keys() == wanted.keys()
    assert all(torch.equal(value, wanted[name]) for name, value in found.state_dict().items())
    assert (found.process.T, found.process.schedule, found.process.clamp) == (1000, "scaled_linear", False)
    with pytest.raises(InputError, match="do not fit ccsr x4: it lacks key 'decoder"):
        load_weights(path, model="ccsr", scale=4, hyper=latent_parts | {"tuned_decoder": True})
    sizes = {name: value for name, value in latent_parts.items() if name in LatentUNetHyper.model_fields}
    alone = load_weights(path, model="latent_unet", scale=4, hyper=sizes).state_dict()
    steered = make().steered(torch.zeros(1)).state_dict()
    assert alone.keys() == {f"unet.{name}" for name in steered}
    assert all(torch.equal(alone[f"unet.{name}"], value) for name, value in steered.items())


@pytest.mark.parametrize("recipe", ["ddpm", "dream", "min_snr", "nutl"])
def test_every_diffusion_objective_takes_a_step(tiny, recipe):
    net = stirred(tiny())
    objective = DiffusionObjective(resolve(recipe), None, net.process)
    lr, hr = torch.rand(2, 3, 4, 8), torch.rand(2, 3, 16, 32)
    batch = Batch(lr=lr, hr=hr, seed=0, step=0, sample_ids=np.arange(2))
    for update in objective.updates():
        before = [parameter.detach().clone() for parameter in net.control.parameters()]
        terms = update.loss(net, batch, 0.0, SampleRng(0, 0, np.arange(2)))
        assert terms.per_sample.shape == (2,) and terms.per_sample.isfinite().all()
        terms.per_sample.mean().backward()
        torch.optim.SGD(net.control.parameters(), 0.1).step()
        assert any(not torch.equal(one, other) for one, other in zip(before, net.control.parameters(), strict=True))


def test_pictures_of_any_size_are_drawn(tiny):
    net = stirred(tiny())
    net.process = ProcessParams(T=3, beta_end=0.99, clamp=False)
    for tile in (None, 8):
        options = Options(sampling=Sampling(), tile=tile, overlap=2)
        drawn = [super_resolve(net, torch.rand(1, 3, 9, 13), seeds=(seed,), options=options).sr for seed in (0, 1)]
        assert drawn[0].shape == (1, 3, 36, 52) and drawn[0].isfinite().all()
        assert not torch.equal(*drawn)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"channels": 48}, "multiple of 32"),
        ({"head": 48}, "channels must be a multiple of head"),
        ({"vae_mults": (1, 0)}, "vae_mults must be from 1 to 64"),
        ({"attention": (4,)}, r"attention names levels 0 to 3, got \[4\]"),
        ({"unet_sha256": "abc"}, "pattern"),
    ],
)
def test_impossible_networks_are_refused(values, said):
    with pytest.raises(InputError, match=said):
        CCSRHyper.parse(values, "ccsr")


@pytest.mark.parametrize("changed", [{}, {"mults": (1, 2, 1), "blocks": 2, "attention": (0, 2)}])
def test_a_plan_knows_the_cost_of_a_call(latent_parts, changed):
    """Of all convolutions and of what attends at each place of a latent, not of a prompt or a step."""
    totals = []
    for model, skipped in (("latent_unet", ("unet", "unet_sha256")), ("ccsr", ())):
        given = {name: value for name, value in (latent_parts | changed).items() if name not in skipped}
        with torch.device("meta"):
            net = sr_models.build(model, 4, **given)
        total, x = 0.0, torch.zeros(1, 4, 16, 16, device="meta")

        def count(layer: nn.Module, _: object, output: Tensor) -> None:
            nonlocal total
            places = output.numel() // (layer.weight.shape[0] if isinstance(layer, nn.Conv2d) else output.shape[-1])
            total += layer.weight.numel() * places

        for name, layer in net.named_modules():
            linear = isinstance(layer, nn.Linear) and ".emb" not in name and "time_emb" not in name
            if isinstance(layer, nn.Conv2d) or (linear and not name.endswith(("attn2.to_k", "attn2.to_v"))):
                layer.register_forward_hook(count)
        t, context = torch.zeros(1, device="meta"), torch.zeros(1, 5, 12, device="meta")
        if isinstance(net, CCSR):
            net.controls(x, x, t, context)
        else:
            net.unet(x, t, context)
        totals.append(total / 16**2 * (4 / 2) ** 2)
        assert sr_models.multiply_adds(model, 4, given) == pytest.approx(sum(totals))


@pytest.mark.parametrize("whole", [False, True])
def test_a_plan_knows_that_frozen_weights_have_no_gradients(latent_parts, whole):
    """Each layer's pass back: once for weights that learn, once for inputs that lead to some."""
    net, total = sr_models.build("ccsr", 4, **latent_parts, encoder_in_gradient=whole), 0.0

    def count(layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        places = output.numel() // (layer.weight.shape[0] if isinstance(layer, nn.Conv2d) else output.shape[-1])
        total += layer.weight.numel() * places * (layer.weight.requires_grad + given[0].requires_grad)

    state = torch.rand(1, 4, 16, 16, requires_grad=whole)
    layers = [*net.control.named_modules(), *net.steered(state).named_modules()]
    hooks = [
        layer.register_forward_hook(count)
        for name, layer in layers
        if isinstance(layer, nn.Conv2d)
        or (isinstance(layer, nn.Linear) and "emb" not in name and not name.endswith(("attn2.to_k", "attn2.to_v")))
    ]
    try:
        net.denoise(state, torch.rand(1, 4, 16, 16), torch.zeros(1), torch.zeros(1, 5, 12))
    finally:
        for hook in hooks:
            hook.remove()  # the frozen part is shared
    wanted = CCSRHyper.parse(latent_parts | {"encoder_in_gradient": whole}, "ccsr").backward_multiply_adds(4)
    assert total / 16**2 * (4 / 2) ** 2 == pytest.approx(wanted, rel=0.02)
