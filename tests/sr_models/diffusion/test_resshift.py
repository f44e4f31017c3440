"""ResShift's network on a tiny autoencoder of seeded weights: sizes, keys, its spaces, and all diffusion objectives."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from objectives import resolve
from objectives.batch import Batch
from objectives.diffusion import DiffusionObjective
from sr_models.checkpoints.tensors import tensors
from sr_models.diffusion.autoencoder import VQAutoencoder
from sr_models.diffusion.frozen import vq_autoencoder
from sr_models.diffusion.process import Level
from sr_models.diffusion.resshift import ResShift
from sr_models.errors import InputError
from sr_models.hyper.latent import ResShiftHyper
from sr_models.hyper.process import ProcessParams
from sr_models.hyper.sampling import Sampling
from sr_models.inference.sampling import one_call
from sr_models.inference.super_resolve import Options, super_resolve
from sr_models.networks.base import parameters
from sr_models.rng import SampleRng

SPEC = Path(__file__).resolve().parents[4] / "shared" / "spec"
TINY: dict[str, Any] = {
    "channels": 8, "mults": (1, 1), "blocks": 1, "embed": 8, "heads": 2, "mlp_ratio": 2, "attention_window": 2,
    "side": 8, "groups": 4,
}  # fmt: skip


def tiny(file: Path | None, scale: int = 4, **changed: Any) -> ResShift:
    torch.manual_seed(0)
    values = ResShiftHyper.parse(TINY | {"autoencoder": file and str(file)} | changed, "resshift")
    return ResShift(scale, **dict(values))


def level(*steps: int) -> Level:
    return Level(torch.full((len(steps),), 0.5), torch.tensor(steps))


def test_size_and_keys_are_the_published_ones():
    with torch.device("meta"):
        net = ResShift(4, **dict(ResShiftHyper()))
    assert parameters(net) == 118_593_583 and net.window == ResShiftHyper().window(4) == 64
    if not SPEC.is_dir():
        pytest.skip("needs ../shared/spec")
    rows = (SPEC / "checkpoint_keys" / "ResShift_unet.txt").read_text().splitlines()
    listed = dict(row.split(" ", 1) for row in rows)
    computed = {key for key in listed if key.endswith(("attn_mask", "relative_position_index"))}
    assert {key: str(tuple(value.shape)) for key, value in net.state_dict().items()} == {
        key: shape for key, shape in listed.items() if key not in computed
    }


def test_a_released_file_loads_without_its_buffers(tmp_path):
    net = tiny(None)
    swin = [name for name, part in net.named_modules() if name.endswith("blocks.1") and hasattr(part, "attn")]
    buffers = {f"{name}.attn.relative_position_index": torch.zeros(4, 4, dtype=torch.long) for name in swin}
    buffers |= {f"{name}.attn_mask": torch.zeros(4, 4, 4) for name in swin}
    assert {name.split(".")[0] for name in swin} == {"input_blocks", "middle_block", "output_blocks"}
    torch.save(net.state_dict() | buffers, tmp_path / "net.pth")
    state = tensors(tmp_path / "net.pth")
    tiny(None).load_state_dict(state)
    assert state.keys() == net.state_dict().keys()


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_states_are_latents_of_pictures_that_need_not_be_square(stand_in, scale):
    net = tiny(stand_in, scale)
    lr = torch.rand(2, 3, net.window, 2 * net.window)
    size = (net.window * scale, 2 * net.window * scale)
    condition = net.encode(lr, size)
    assert condition.shape[1:] == net.state_shape(size) == (3, size[0] // 4, size[1] // 4)
    state = net.state(torch.rand(2, 3, *size))
    assert state.shape == condition.shape and not state.requires_grad
    assert net(condition, state, level(1, 50)).shape == state.shape
    assert net.decode(state).shape == (2, 3, *size)


def test_latents_are_the_autoencoders(stand_in):
    net, coder, picture = tiny(stand_in), vq_autoencoder(str(stand_in), None, "cpu"), torch.rand(1, 3, 16, 24)
    latent = coder.encode(2 * picture - 1)
    assert torch.equal(net.state(picture), latent)
    torch.testing.assert_close(net.decode(latent), (coder.decode(latent) + 1) / 2)


def test_the_condition_may_be_lr_itself_at_x4(stand_in):
    lr = torch.rand(1, 3, 8, 12)
    assert torch.equal(tiny(stand_in, condition="lr").encode(lr, (32, 48)), 2 * lr - 1)
    with pytest.raises(InputError, match="condition lr is for x4, not for x2"):
        ResShiftHyper(condition="lr").check_scale(2)
    with pytest.raises(InputError, match="condition lr is for x4"):
        tiny(stand_in, 2, condition="lr").encode(lr, (16, 24))


def test_what_a_picture_takes_is_measured_down_to_its_pixels(stand_in):
    """The decoder works at full size, where it may take more than all calls."""
    net, lr = tiny(stand_in), torch.rand(1, 3, 8, 12)
    assert one_call(net, lr).shape == (1, 3, 32, 48)


def test_the_frozen_part_is_in_no_state_and_is_told_apart_by_its_hash(stand_in):
    net = tiny(stand_in)
    net.state(torch.rand(1, 3, 8, 8))
    assert not any("encoder" in key or "quant" in key for key in net.state_dict())
    sha256 = hashlib.sha256(stand_in.read_bytes()).hexdigest()
    assert tiny(stand_in, autoencoder_sha256=sha256).state(torch.rand(1, 3, 8, 8)).shape == (1, 3, 2, 2)
    with pytest.raises(InputError, match=f"its sha256 is {sha256[:12]}, and the network was trained with 0000"):
        tiny(stand_in, autoencoder_sha256="0" * 64).state(torch.rand(1, 3, 8, 8))


def test_files_that_are_no_such_autoencoder_are_refused(tmp_path):
    picture = torch.rand(1, 3, 8, 8)
    with pytest.raises(InputError, match="give its file, autoencoder=FILE"):
        tiny(None).state(picture)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        tiny(tmp_path / "none").state(picture)
    (tmp_path / "text").write_text("no weights")
    with pytest.raises(InputError, match="no safetensors file"):
        tiny(tmp_path / "text").state(picture)
    other = VQAutoencoder(channels=32, mults=(1, 1), blocks=1, codes=16)
    safetensors.torch.save_file(other.state_dict(), tmp_path / "other")
    with pytest.raises(InputError, match="latents of 3 channels and 1/2 of the sides; needed: 3 and 1/4"):
        tiny(tmp_path / "other").state(picture)


@pytest.mark.parametrize("recipe", ["ddpm", "drm", "dream", "min_snr", "nutl", "dream+nutl"])
def test_every_diffusion_objective_takes_a_step_in_latent_space(stand_in, recipe):
    net = tiny(stand_in)
    process = ProcessParams(kept=20, clamp=False, prediction="x0" if "nutl" in recipe else "eps")
    objective = DiffusionObjective(resolve(recipe), None, process)
    lr, hr = torch.rand(2, 3, 4, 8), torch.rand(2, 3, 16, 32)
    batch = Batch(lr=lr, hr=hr, seed=0, step=0, sample_ids=np.arange(2))
    for update in objective.updates():
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        before = [parameter.detach().clone() for parameter in net.parameters()]
        terms = update.loss(net, batch, 0.0, SampleRng(0, 0, np.arange(2)))
        assert terms.per_sample.shape == (2,) and terms.per_sample.isfinite().all()
        terms.per_sample.mean().backward()
        optimizer.step()
        assert any(not torch.equal(one, other) for one, other in zip(before, net.parameters(), strict=True))


def test_training_draws_the_levels_of_steps_alone(stand_in):
    net, seen = tiny(stand_in), []
    net.register_forward_hook(lambda module, given, out: seen.append(given[2]))
    process = ProcessParams(kept=20, clamp=False)
    batch = Batch(lr=torch.rand(2, 3, 4, 4), hr=torch.rand(2, 3, 16, 16), seed=0, step=0, sample_ids=np.arange(2))
    DiffusionObjective(resolve("ddpm"), None, process).loss(net, batch, 0.0, SampleRng(0, 0, np.arange(2)))
    expected = torch.from_numpy(process.alpha_bar())[seen[0].t].sqrt()
    assert torch.equal(seen[0].gamma, expected) and seen[0].t.max() <= 20


@pytest.mark.parametrize("tile", [None, 8])
def test_pictures_of_any_size_are_drawn(stand_in, tile):
    net = tiny(stand_in)
    net.process = ProcessParams(kept=3, clamp=False)
    nn.init.normal_(net.out[-1].weight, std=0.1)
    options = Options(sampling=Sampling(), tile=tile, overlap=2)
    drawn = [super_resolve(net, torch.rand(1, 3, 9, 13), seeds=(seed,), options=options).sr for seed in (0, 0, 1)]
    assert drawn[0].shape == (1, 3, 36, 52) and drawn[0].isfinite().all()
    assert drawn[1].shape == drawn[2].shape and not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"channels": 48}, "channels and embed must be multiples of groups"),
        ({"heads": 5}, "and embed of heads"),
        ({"side": 48}, "side must be whole windows at every level, a multiple of 64, got 48"),
        ({"mults": (1, 0)}, "mults must be from 1 to 64"),
        ({"autoencoder_sha256": "abc"}, "pattern"),
    ],
)
def test_impossible_networks_are_refused(values, said):
    with pytest.raises(InputError, match=said):
        ResShiftHyper.parse(values, "resshift")


@pytest.mark.parametrize("hyper", [{}, {"mults": (1, 2, 1), "blocks": 2, "side": 16}])
def test_a_plan_knows_the_cost_of_a_call(hyper):
    net, values, total = tiny(None, **hyper), ResShiftHyper.parse(TINY | hyper, "resshift"), 0

    def count(layer: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal total
        places = output.numel() // (layer.weight.shape[0] if isinstance(layer, nn.Conv2d) else output.shape[-1])
        total += layer.weight.numel() * places

    for name, layer in net.named_modules():
        if isinstance(layer, nn.Conv2d) or (name.endswith(("qkv", "proj")) and isinstance(layer, nn.Linear)):
            layer.register_forward_hook(count)
    state = torch.zeros(1, 3, 16, 16)
    net(state, state, level(1))
    assert values.multiply_adds(4) == pytest.approx(total / 16**2)
    assert values.multiply_adds(8) == pytest.approx(4 * values.multiply_adds(4))
