"""The table of networks: published sizes, published keys, one-line refusals, and no torch until something is built."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import sr_models
from sr_models import MODELS
from sr_models.errors import InputError
from sr_models.hyper.base import SigmaHyper
from sr_models.networks.base import parameters

ROOT = Path(__file__).resolve().parents[2]
SPEC = ROOT.parent / "shared" / "spec"

PUBLISHED = {  # trainable parameters, from the releases
    "srresnet": {2: 1369859, 3: 1554499, 4: 1517571},
    "edsr_baseline": {2: 1369859, 3: 1554499, 4: 1517571, 8: 1665283},
    "edsr": {2: 40729603, 3: 43680003, 4: 43089923, 8: 45450243},
    "imdn": {2: 694404, 3: 703059, 4: 715176, 8: 798264},
}
SHEET = {"srresnet": "MSRResNet", "edsr_baseline": "EDSR-baseline", "edsr": "EDSR", "imdn": "IMDN"}
LATENT = ("latent_unet", "ccsr", "kl_autoencoder")
"""Networks that need the extra [latent]."""
CASES = [(name, scale) for name, counts in PUBLISHED.items() for scale in counts]


@pytest.mark.parametrize(("name", "scale"), CASES)
def test_parameter_counts_are_the_published_ones(name: str, scale: int) -> None:
    with torch.device("meta"):
        net = sr_models.build(name, scale)
    assert parameters(net) == PUBLISHED[name][scale] == MODELS[name].counts[scale]


@pytest.mark.parametrize(("name", "scale"), CASES)
def test_counts_agree_with_the_fact_sheet(name: str, scale: int) -> None:
    if not SPEC.is_dir():
        pytest.skip("needs ../shared/spec")
    assert PUBLISHED[name][scale] == json.loads((SPEC / "param_counts.json").read_text())[SHEET[name]][f"x{scale}"]


def basicsr_name(key: str, blocks: int) -> str:
    """EDSR's own key -> the key BasicSR gave the same tensor; the fact sheet lists the latter."""
    layer, kind = key.rsplit(".", 1)
    parts = layer.split(".")
    if layer == "head.0":
        layer = "conv_first"
    elif layer == f"body.{blocks}":
        layer = "conv_after_body"
    elif parts[0] == "body":
        layer = f"body.{parts[1]}.conv{1 if parts[3] == '0' else 2}"
    elif layer == "tail.1":
        layer = "conv_last"
    elif parts[:2] == ["tail", "0"]:
        layer = f"upsample.{parts[2]}"
    return f"{layer}.{kind}"


@pytest.mark.parametrize(("name", "scale"), CASES)
def test_state_dict_is_the_releases(name: str, scale: int) -> None:
    if not SPEC.is_dir():
        pytest.skip("needs ../shared/spec")
    with torch.device("meta"):
        net = sr_models.build(name, scale)
    state = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    if name.startswith("edsr"):
        for key in ("sub_mean", "add_mean"):
            assert (state.pop(f"{key}.weight"), state.pop(f"{key}.bias")) == ((3, 3, 1, 1), (3,))
        blocks = MODELS[name].hyper().blocks  # type: ignore[attr-defined]
        state = {basicsr_name(key, blocks): shape for key, shape in state.items()}
    rows = (SPEC / "checkpoint_keys" / f"{SHEET[name]}_x{scale}.txt").read_text().splitlines()
    listed = {key: tuple(map(int, shape.strip("(),").split(","))) for key, shape in (row.split(" ", 1) for row in rows)}
    assert state == listed


REGRESSION = [name for name, row in MODELS.items() if row.trainable and row.family == "regression"]
SMALL = {name: {"channels": 16, "blocks": 2} for name in REGRESSION}
SMALL["swinir"] = SMALL["swinir_light"] = {"channels": 16, "blocks": 2, "layers": 2, "heads": 4, "drop_path": 0}


@pytest.mark.parametrize("name", SMALL)
def test_forward_is_reconstruct_of_features_at_any_size(name: str) -> None:
    window = MODELS[name].window
    height, width = (7, 10) if window == 1 else (window, 2 * window)
    for scale in MODELS[name].scales:
        net = sr_models.build(name, scale, **SMALL[name])
        lr = torch.rand(2, 3 + net.noise_channels, height, width)
        features = net.features(lr)
        go = net.feature_scale_to_go
        assert features.shape == (2, net.feature_channels, height * scale // go, width * scale // go)
        sr = net(lr)
        assert sr.shape == (2, 3, height * scale, width * scale)
        torch.testing.assert_close(sr, net.reconstruct(features, lr), rtol=0, atol=0)
        sr.square().mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters() if p.requires_grad)


@pytest.mark.parametrize(("name", "skips"), [("edsr_baseline", False), ("imdn", False), ("srresnet", True)])
def test_only_srresnet_sees_the_input_past_its_features(name: str, skips: bool) -> None:
    net = sr_models.build(name, 2, channels=16, blocks=1)
    features = torch.rand(1, 16, 6, 6)
    black, white = (net.reconstruct(features, torch.full((1, 3, 6, 6), value)) for value in (0.0, 1.0))
    torch.testing.assert_close(white - black, torch.full_like(white, float(skips)))


@pytest.mark.parametrize(
    ("name", "scale", "values", "message"),
    [
        ("edrs", 2, {}, "unknown model 'edrs'; did you mean 'edsr'"),
        ("srresnet", 8, {}, r"model 'srresnet' has no scale 8 \(it has 1, 2, 3, 4\)"),
        ("imdn", 2, {"chanels": 3}, "model 'imdn': unknown key 'chanels'; did you mean 'channels'"),
        ("imdn", 2, {"channels": 40}, "model 'imdn'.channels: .*multiple of 16.*40"),
        ("edsr", 2, {"blocks": 0}, "model 'edsr'.blocks: .*greater than or equal to 1.*0"),
        ("edsr", 2, {"res_scale": float("nan")}, "model 'edsr'.res_scale"),
        ("bicubic", 2, {"blocks": 1}, "model 'bicubic': unknown key 'blocks'"),
    ],
)
def test_bad_requests_are_refused_in_one_line(name: str, scale: int, values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        sr_models.check(name, scale, values)
    assert "\n" not in str(caught.value)


def test_check_completes_the_hyperparameters() -> None:
    assert sr_models.check("edsr", 4, {"blocks": 4}).model_dump() == {"channels": 256, "blocks": 4, "res_scale": 0.1}


@pytest.mark.parametrize("name", [row.name for row in MODELS.values() if row.any_scale])
def test_weights_that_know_nothing_of_the_scale_serve_every_other(name: str) -> None:
    if name in LATENT:
        pytest.importorskip("diffusers", reason="needs the extra [latent]")
    unet = {"channels": 8, "mults": [1], "blocks": 1, "groups": 4}
    latent = {"channels": 32, "mults": [1], "attention": [], "blocks": 1, "head": 16}
    values = {
        "bicubic": {}, "vdsr": {"channels": 8, "blocks": 1}, "imdn_as": {"channels": 16, "blocks": 1},
        "resshift": unet | {"embed": 8, "heads": 2}, "latent_unet": latent, "ccsr": latent,
    }.get(name, unet | {"attention": []})  # fmt: skip
    of_two, of_five = (sr_models.build(name, scale, **values) for scale in (2, 5))
    assert of_five.load_state_dict(of_two.state_dict()) and of_five.scale == 5
    assert {key: value.shape for key, value in of_two.state_dict().items()} == {
        key: value.shape for key, value in of_five.state_dict().items()
    }


def test_rows_are_complete() -> None:
    for name, row in MODELS.items():
        assert row.name == name
        assert set(row.counts) == set(row.scales)
        assert "https://" in row.paper
        assert row.load().__name__ == row.cls


def test_every_hyperparameter_is_described() -> None:
    classes = [row.hyper for row in MODELS.values()] + [SigmaHyper]
    assert all(field.description for cls in classes for field in cls.model_fields.values())


def test_the_table_is_read_without_torch() -> None:
    code = "import sys, sr_models; sr_models.check('edsr', 2, {}); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_networks_whose_batches_hang_together_say_so() -> None:
    for name, row in MODELS.items():
        if name in LATENT and find_spec("diffusers") is None:
            continue
        fields = row.hyper.model_fields
        smaller = (
            {"mults": (1,), "attention": ()} if "attention" in fields else {"mults": (1,)} if "mults" in fields else {}
        )
        with torch.device("meta"):
            net = sr_models.build(name, 2, **SMALL.get(name, smaller))
        found = any(isinstance(part, torch.nn.modules.batchnorm._NormBase) for part in net.modules())
        assert row.batch_statistics == found, name
