"""Released diffusion files: weights below `denoise_fn.`, schedule buffers of any length, which tell the process."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import sr_models
from sr_models.checkpoints.published import load_weights, read
from sr_models.checkpoints.schedule import recorded_process
from sr_models.diffusion import unet
from sr_models.diffusion.resshift import ResShift
from sr_models.diffusion.sr3 import SR3
from sr_models.errors import InputError
from sr_models.hyper.process import ProcessParams, ShiftParams

KEYS = Path(__file__).resolve().parents[4] / "shared" / "spec" / "checkpoint_keys"
HYPER: dict[str, Any] = {"channels": 8, "mults": (1, 2), "attention": (1,), "blocks": 1, "groups": 4}


def buffers(betas: np.ndarray) -> dict[str, Tensor]:
    """As the released code registers them, in float32."""
    bar = np.cumprod(1 - betas)
    before = np.append(1.0, bar[:-1])
    variance = betas * (1 - before) / (1 - bar)
    made = {
        "betas": betas, "alphas_cumprod": bar, "alphas_cumprod_prev": before, "sqrt_alphas_cumprod": np.sqrt(bar),
        "sqrt_one_minus_alphas_cumprod": np.sqrt(1 - bar), "log_one_minus_alphas_cumprod": np.log(1 - bar),
        "sqrt_recip_alphas_cumprod": np.sqrt(1 / bar), "sqrt_recipm1_alphas_cumprod": np.sqrt(1 / bar - 1),
        "posterior_variance": variance, "posterior_log_variance_clipped": np.log(np.maximum(variance, 1e-20)),
        "posterior_mean_coef1": betas * np.sqrt(before) / (1 - bar),
        "posterior_mean_coef2": (1 - before) * np.sqrt(1 - betas) / (1 - bar),
    }  # fmt: skip
    return {name: torch.tensor(value, dtype=torch.float32) for name, value in made.items()}


def released(betas: np.ndarray | None, prefix: str = "denoise_fn.") -> dict[str, Tensor]:
    net = sr_models.build("sr3", 8, **HYPER)
    schedule = {} if betas is None else buffers(betas)
    return {f"{prefix}{key}": value for key, value in net.state_dict().items()} | schedule


@pytest.mark.parametrize(
    ("betas", "process"),
    [
        (np.linspace(1e-6, 1e-2, 2000), ProcessParams()),
        (np.linspace(1e-6, 1e-2, 1000), ProcessParams(T=1000)),
        (np.linspace(1e-6, 1e-2, 200), ProcessParams(T=200, allow_terminal_signal=True)),
        (
            np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2,
            ProcessParams(T=1000, schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
        ),
        (None, ProcessParams()),
    ],
)
def test_a_released_file_loads_with_the_process_that_it_tells_of(tmp_path: Path, betas, process, capsys) -> None:
    state = released(betas)
    torch.save(state, tmp_path / "gen.pth")
    net = load_weights(tmp_path / "gen.pth", model="sr3", scale=8, hyper=HYPER)
    assert isinstance(net, SR3) and net.process == process
    assumed = "hold no noise schedule (no betas); sr3's is assumed: T=2000, beta 1e-06 to 0.01"
    assert (assumed in capsys.readouterr().err) == (betas is None)
    assert all(torch.equal(value, state[f"denoise_fn.{key}"]) for key, value in net.state_dict().items())
    assert read(tmp_path / "gen.pth", model="sr3").keys() == net.state_dict().keys()


@pytest.mark.parametrize(
    ("sheet", "scale", "hyper"), [("SR3_face16_128", 8, {}), ("SR3_div2k_160", 4, {"attention": ()})]
)
def test_a_file_of_the_released_keys_loads(tmp_path, monkeypatch, sheet, scale, hyper) -> None:
    if not KEYS.is_dir():
        pytest.skip("needs ../shared/spec/checkpoint_keys")
    monkeypatch.setattr(unet, "orthogonal", lambda module: None)  # half a minute of what is thrown away
    rows = [row.split(" ", 1) for row in (KEYS / f"{sheet}.txt").read_text().splitlines()]
    shapes = {f"denoise_fn.{key}": tuple(map(int, re.findall(r"\d+", shape))) for key, shape in rows}
    state = {key: torch.rand(1).view([1] * len(shape)).expand(shape) for key, shape in shapes.items()}
    torch.save(state | buffers(np.linspace(1e-6, 1e-2, 1000)), tmp_path / "gen.pth")
    net = load_weights(tmp_path / "gen.pth", model="sr3", scale=scale, hyper=hyper)
    assert isinstance(net, SR3) and net.process.T == 1000
    assert all(torch.equal(value, state[f"denoise_fn.{key}"]) for key, value in net.state_dict().items())


SHIFTED = "resshift's is assumed: residual shifting, 15 steps, kappa 2"
ASSUMED = "resshift's is assumed: T=2000, beta 1e-06 to 0.01"


@pytest.mark.parametrize(
    ("sampler", "process", "said"),
    [
        (None, ShiftParams(), SHIFTED),
        ("ancestral", ShiftParams(), SHIFTED),  # which is what nobody has chosen
        ("resshift", ShiftParams(), SHIFTED),
        ("ddim", ProcessParams(kept=50, clamp=False), ASSUMED),
    ],
)
def test_a_released_resshift_is_one_of_residual_shifting(tmp_path, sampler, process, said, capsys) -> None:
    hyper = {
        "channels": 8, "mults": (1, 1), "blocks": 1, "embed": 8, "heads": 2, "mlp_ratio": 2, "attention_window": 2,
        "side": 8, "groups": 4,
    }  # fmt: skip
    torch.save(sr_models.build("resshift", 4, **hyper).state_dict(), tmp_path / "net.pth")
    about: dict[str, Any] = {"model": "resshift", "scale": 4, "sampler": sampler}
    net = load_weights(tmp_path / "net.pth", hyper=hyper, **about)
    assert isinstance(net, ResShift) and net.process == process
    err, which = capsys.readouterr().err, "the released x4 weights see LR (--hyper condition=lr)"
    assert said in err and which in err
    load_weights(tmp_path / "net.pth", hyper=hyper | {"condition": "lr"}, **about)
    assert which not in capsys.readouterr().err


def test_a_wrapped_or_bare_file_loads_too(tmp_path: Path) -> None:
    for prefix in ("", "module.denoise_fn."):
        torch.save(released(np.linspace(1e-6, 1e-2, 1000), prefix), tmp_path / "gen.pth")
        net = load_weights(tmp_path / "gen.pth", model="sr3", scale=8, hyper=HYPER)
        assert isinstance(net, SR3) and net.process.T == 1000


def test_a_schedule_that_is_none_is_refused() -> None:
    for betas, said in (
        (torch.linspace(0.01, 0.1, 50) ** 3, "rise neither linearly nor by squares"),
        (torch.full((5,), 2.0), "no noise schedule"),
    ):
        with pytest.raises(InputError, match=f"weights 'x': its .*{said}"):
            recorded_process({"betas": betas}, "weights 'x'")


def test_a_regression_network_has_no_place_for_a_schedule(tmp_path: Path) -> None:
    net = sr_models.build("edsr_baseline", 2, channels=8, blocks=1)
    torch.save(net.state_dict() | {"betas": torch.ones(3)}, tmp_path / "net.pth")
    with pytest.raises(InputError, match="its key 'betas' has no place"):
        load_weights(tmp_path / "net.pth", model="edsr_baseline", scale=2, hyper={"channels": 8, "blocks": 1})
