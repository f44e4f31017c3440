"""Every released key list loads strictly, other people's names find their places, and nothing in a file is executed."""

import os
import pickle
import re
import shlex
import subprocess
import sys
import types
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import sr_models
from sr_models.checkpoints import published
from sr_models.checkpoints.folder import save_checkpoint
from sr_models.checkpoints.published import initialise, load_weights, read, warm_start
from sr_models.errors import InputError
from sr_models.networks.sigma import SigmaHead, WithSigma

KEYS = Path(__file__).resolve().parents[4] / "shared" / "spec" / "checkpoint_keys"

MULTI = {"scales": (2, 3, 4)}
LISTS: list[tuple[str, str, int, dict[str, Any]]] = [  # file, model, scale, hyperparameters
    ("VDSR_any", "vdsr", 3, {"color": "y", "bias": False}),
    *((f"CARN_x{s}_single", "carn", s, {}) for s in (2, 3, 4, 8)),
    ("CARN_multi", "carn", 2, MULTI),
    *((f"CARN-M_x{s}_single", "carn_m", s, {}) for s in (2, 3, 4)),
    ("CARN-M_multi", "carn_m", 4, MULTI),
    *((f"MSRResNet_x{s}", "srresnet", s, {}) for s in (2, 3, 4)),
    *((f"EDSR-baseline_x{s}", "edsr_baseline", s, {}) for s in (2, 3, 4, 8)),
    *((f"EDSR_x{s}", "edsr", s, {}) for s in (2, 3, 4, 8)),
    *((f"RCAN_x{s}", "rcan", s, {}) for s in (2, 3, 4, 8)),
    ("RRDBNet_x4", "rrdb", 4, {}),
    ("RRDBNet_x2", "rrdb", 2, {"unshuffle": True}),
    ("RRDBNet-6B_x4", "rrdb", 4, {"blocks": 6}),
    *((f"SwinIR-light_x{s}", "swinir_light", s, {}) for s in (2, 3, 4)),
    *((f"SwinIR-classical_x{s}", "swinir", s, {}) for s in (2, 3, 4, 8)),
    ("SwinIR-realM_x4", "swinir", 4, {"tail": "nearest+conv"}),
    *((f"IMDN_x{s}", "imdn", s, {}) for s in (2, 3, 4, 8)),
    ("IMDN_AS_x4_any_", "imdn_as", 4, {}),
    ("SR3_face16_128", "sr3", 8, {}),
    ("SR3_div2k_160", "sr3", 4, {"attention": ()}),
]
WRAPPERS = ("params", "params_ema", "state_dict", "model", "module.", "")
SMALL = {"channels": 16, "blocks": 2}
TINY: dict[str, dict[str, Any]] = {
    "rcan": {"groups": 2},
    "sr3": {"channels": 8, "mults": (1, 2), "attention": (1,), "groups": 4},
    "idm": {"channels": 8, "mults": (1, 2), "attention": (1,), "groups": 4},
    **{key: {"channels": 32, "mults": (1,), "attention": (), "head": 16} for key in ("latent_unet", "ccsr")},
    "vq_autoencoder": {"channels": 32, "mults": (1,), "blocks": 1, "codes": 4},
    "kl_autoencoder": {"channels": 32, "mults": (1,), "blocks": 1},
    "resshift": {"channels": 8, "embed": 8, "heads": 2, "groups": 4},
    "swinir": {"channels": 12, "heads": 2, "layers": 2},
    "swinir_light": {"channels": 12, "heads": 2, "layers": 2},
}


def random_state(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """One random number a tensor, repeated to its shape: a file of the real keys and shapes that takes no room."""
    return {key: torch.rand(1).view([1] * len(shape)).expand(shape) for key, shape in shapes.items()}


def listed(name: str) -> dict[str, Tensor]:
    if not KEYS.is_dir():
        pytest.skip("needs ../shared/spec/checkpoint_keys")
    rows = (line.split(" ", 1) for line in (KEYS / f"{name}.txt").read_text().splitlines())
    return random_state({key: tuple(map(int, re.findall(r"\d+", shape))) for key, shape in rows})


@pytest.mark.parametrize("model", ["carn", "carn_m"])
def test_a_multi_scale_file_says_how_it_is_asked_for(tmp_path: Path, model: str) -> None:
    net = sr_models.build(model, 2, channels=8, scales=(2, 3, 4))
    torch.save(net.state_dict(), tmp_path / "net.pth")
    with pytest.raises(
        InputError, match=r"'upsample\.up2\..*; the file is a multi-scale one: give the hyperparameter sc"
    ) as no:
        load_weights(tmp_path / "net.pth", model=model, scale=2, hyper={"channels": 8})
    assert str(no.value).endswith("scales=[2, 3, 4]")
    load_weights(tmp_path / "net.pth", model=model, scale=2, hyper={"channels": 8, "scales": [2, 3, 4]})


@pytest.mark.parametrize(("name", "kind"), [("IDN_x4.caffemodel", "a Caffe model"), ("x.ONNX", "an ONNX model")])
def test_files_of_other_libraries_are_called_so(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).write_bytes(b"\n\x03IDN")
    with pytest.raises(InputError, match=rf"{kind}.*, which nothing here converts; PyTorch and safetensors"):
        load_weights(tmp_path / name, model="idn", scale=4, hyper={})


def wrap(state: dict[str, Tensor], wrapper: str) -> dict[str, Any]:
    if wrapper == "module.":
        return {f"module.{key}": value for key, value in state.items()}
    return {"epoch": 50, wrapper: state} if wrapper else state


@pytest.mark.parametrize(("number", "row"), list(enumerate(LISTS)), ids=[row[0] for row in LISTS])
def test_a_released_list_of_keys_loads_strictly(
    tmp_path: Path, number: int, row: tuple[str, str, int, dict[str, Any]]
) -> None:
    name, model, scale, hyper = row
    state = listed(name)
    torch.save(wrap(state, WRAPPERS[number % len(WRAPPERS)]), tmp_path / "net.pth")
    net = load_weights(tmp_path / "net.pth", model=model, scale=scale, hyper=hyper)
    kept = {key: value for key, value in state.items() if not key.endswith(("position_index", "attn_mask"))}
    found = net.state_dict()
    renamed = read(tmp_path / "net.pth", model=model)
    assert all(torch.equal(found[key], value) for key, value in renamed.items())
    assert [value.flatten()[0] for value in renamed.values()] == [value.flatten()[0] for value in kept.values()]
    constants = {key for key in found if key.startswith(("sub_mean", "add_mean"))} if model in BASICSR else set()
    assert found.keys() - renamed.keys() == constants


BASICSR = {
    "edsr_baseline": {
        "conv_first.weight": "head.0.weight",
        "body.0.conv1.bias": "body.0.body.0.bias",
        "body.15.conv2.weight": "body.15.body.2.weight",
        "conv_after_body.weight": "body.16.weight",
        "upsample.0.weight": "tail.0.0.weight",
        "upsample.2.bias": "tail.0.2.bias",
        "conv_last.bias": "tail.1.bias",
    },
    "rcan": {
        "conv_first.bias": "head.0.bias",
        "body.3.residual_group.19.rcab.0.weight": "body.3.body.19.body.0.weight",
        "body.3.residual_group.0.rcab.2.weight": "body.3.body.0.body.2.weight",
        "body.9.residual_group.7.rcab.3.attention.1.weight": "body.9.body.7.body.3.conv_du.0.weight",
        "body.9.residual_group.7.rcab.3.attention.3.bias": "body.9.body.7.body.3.conv_du.2.bias",
        "body.9.conv.weight": "body.9.body.20.weight",
        "conv_after_body.bias": "body.10.bias",
        "upsample.2.weight": "tail.0.2.weight",
        "conv_last.weight": "tail.1.weight",
    },
}
BASICSR["edsr"] = {key: ours.replace("body.16.", "body.32.") for key, ours in BASICSR["edsr_baseline"].items()}


@pytest.mark.parametrize(("name", "model"), [("EDSR-baseline", "edsr_baseline"), ("EDSR", "edsr"), ("RCAN", "rcan")])
def test_basicsr_names_map_one_to_one(tmp_path: Path, name: str, model: str) -> None:
    state = listed(f"{name}_x4")
    torch.save(state, tmp_path / "net.pth")
    ours = read(tmp_path / "net.pth", model=model)
    assert len(ours) == len(state)
    assert all(torch.equal(ours[BASICSR[model][key]], state[key]) for key in BASICSR[model])


def test_basicsr_weights_compute_what_basicsr_computes(tmp_path: Path) -> None:
    """EDSR written out on the other names: a check of the map and of the mean shift, which such files leave out."""
    shapes = {"conv_first": (8, 3), "conv_after_body": (8, 8), "upsample.0": (32, 8), "conv_last": (3, 8)}
    shapes |= {f"body.{i}.conv{j}": (8, 8) for i in (0, 1) for j in (1, 2)}
    state = {f"{key}.weight": torch.randn(*shape, 3, 3) * 0.1 for key, shape in shapes.items()}
    state |= {f"{key}.bias": torch.randn(shape[0]) for key, shape in shapes.items()}
    torch.save({"params": state}, tmp_path / "net.pth")

    def layer(key: str, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, state[f"{key}.weight"], state[f"{key}.bias"], padding=1)

    lr, mean = torch.rand(1, 3, 6, 5), torch.tensor([0.4488, 0.4371, 0.4040])[None, :, None, None]
    x = first = layer("conv_first", (lr - mean) * 255)
    for i in (0, 1):
        x = x + layer(f"body.{i}.conv2", layer(f"body.{i}.conv1", x).relu())
    x = nn.functional.pixel_shuffle(layer("upsample.0", first + layer("conv_after_body", x)), 2)
    expected = layer("conv_last", x) / 255 + mean
    net = load_weights(tmp_path / "net.pth", model="edsr_baseline", scale=2, hyper={"channels": 8, "blocks": 2})
    torch.testing.assert_close(net(lr), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", ["edsr", "rcan"])
def test_official_files_hold_their_mean_shifts(tmp_path: Path, model: str) -> None:
    hyper = SMALL | ({"groups": 2} if model == "rcan" else {})
    state = sr_models.build(model, 2, **hyper).state_dict()
    state["sub_mean.bias"] = state["sub_mean.bias"] + 1  # trained, as RCAN's are
    torch.save(state, tmp_path / "net.pt")
    net = load_weights(tmp_path / "net.pt", model=model, scale=2, hyper=hyper)
    assert torch.equal(net.state_dict()["sub_mean.bias"], state["sub_mean.bias"])
    del state["sub_mean.bias"]
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(InputError, match=r"it lacks key 'sub_mean\.bias'$"):
        load_weights(tmp_path / "net.pt", model=model, scale=2, hyper=hyper)


NEW_ARCH = {"conv_body": "trunk_conv", "conv_up": "upconv", "conv_hr": "HRconv", "body": "RRDB_trunk", "rdb": "RDB"}
OLD_ARCH = {
    "conv_first": "model.0", "conv_body": "model.1.sub.23", "conv_up1": "model.3", "conv_up2": "model.6",
    "conv_hr": "model.8", "conv_last": "model.10",
}  # fmt: skip


def esrgan_name(key: str, arch: str) -> str:
    layer, kind = key.rsplit(".", 1)
    block = re.fullmatch(r"body\.(\d+)\.rdb(\d)\.conv(\d)", layer)
    if arch == "new":
        if block:
            return "RRDB_trunk.{}.RDB{}.conv{}.{}".format(*block.groups(), kind)
        for ours, theirs in NEW_ARCH.items():
            layer = re.sub(f"^{ours}", theirs, layer)
        return f"{layer}.{kind}"
    return "model.1.sub.{}.RDB{}.conv{}.0.{}".format(*block.groups(), kind) if block else f"{OLD_ARCH[layer]}.{kind}"


@pytest.mark.parametrize("arch", ["new", "old"])
def test_both_esrgan_namings_load(tmp_path: Path, arch: str) -> None:
    state = listed("RRDBNet_x4")
    torch.save({esrgan_name(key, arch): value for key, value in state.items()}, tmp_path / "net.pth")
    net = load_weights(tmp_path / "net.pth", model="rrdb", scale=4, hyper={})
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


def save_small(path: Path, **changes: Any) -> dict[str, Tensor]:
    state = sr_models.build("imdn", 2, **SMALL).state_dict()
    torch.save({key: value for key, value in (state | changes).items() if value is not None}, path)
    return dict(state)


def load_small(path: Path, **asked: Any) -> nn.Module:
    return load_weights(path, **({"model": "imdn", "scale": 2, "hyper": SMALL} | asked))


def test_safetensors_and_legacy_files_load_whatever_they_are_called(tmp_path: Path) -> None:
    state = save_small(tmp_path / "zip.safetensors")
    torch.save(state, tmp_path / "legacy.bin", _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(state, tmp_path / "tensors.pth")
    rng = torch.get_rng_state()
    for path in tmp_path.iterdir():
        found = load_small(path).state_dict()
        assert all(torch.equal(found[key], value) for key, value in state.items()), path
    assert torch.equal(torch.get_rng_state(), rng)


@pytest.mark.parametrize(
    ("raw", "mean"), [("params", "params_ema"), ("g", "g_ema"), ("model", "ema"), ("params", "params-ema")]
)
def test_averaged_weights_are_preferred_and_the_line_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], raw: str, mean: str
) -> None:
    path, state = tmp_path / "net.pth", sr_models.build("imdn", 2, **SMALL).state_dict()
    averaged = {key: value + 1 for key, value in state.items()}
    torch.save({raw: state, mean: averaged, "epoch": 3}, path)
    for key, wanted in ((None, averaged), (raw, state), (mean, averaged)):
        found = load_small(path, key=key).state_dict()
        assert all(torch.equal(found[name], wanted[name]) for name in state)
    assert capsys.readouterr().err == (
        f"weights {str(path)!r}: {mean!r} was taken (averaged), and not {raw!r}; --weights-key chooses\n"
    )


SHAPES_OF_FILES: dict[str, Callable[[dict[str, Tensor]], dict[str, Any]]] = {  # what training codes leave of a state
    "compiled": lambda state: {f"_orig_mod.{key}": value for key, value in state.items()},
    "ddp_compiled": lambda state: {f"module._orig_mod.{key}": value for key, value in state.items()},
    "compiled_ddp": lambda state: {f"_orig_mod.module.{key}": value for key, value in state.items()},
    "lightning": lambda state: {"state_dict": {f"net_g.{key}": value for key, value in state.items()}},
    "resume": lambda state: {"epoch": 3, "state_dict": state, "optimizer": {"state": {}, "param_groups": [{"lr": 1}]}},
    "generator": lambda state: {"generator": state, "discriminator": {"w": torch.zeros(1)}},
    "best_so_far": lambda state: {"best": np.float64(30.1), "epoch": np.int64(2), "state_dict": state},
}
WRAPPERS_OF_OTHERS = ("net_g", "net", "network", "weight", "weights", "model_state_dict", "params-ema", "G", "any name")


@pytest.mark.parametrize("shape", [*SHAPES_OF_FILES, *WRAPPERS_OF_OTHERS])
def test_checkpoints_as_training_codes_leave_them_load(tmp_path: Path, shape: str) -> None:
    state = sr_models.build("imdn", 2, **SMALL).state_dict()
    made = SHAPES_OF_FILES[shape](state) if shape in SHAPES_OF_FILES else {"epoch": 1, shape: state}
    torch.save(made, tmp_path / "net.pth")
    found = load_small(tmp_path / "net.pth").state_dict()
    assert all(torch.equal(found[key], state[key]) for key in state)
    assert read(tmp_path / "net.pth", model="imdn").keys() == state.keys()


def test_no_network_has_all_its_layers_below_one_so_a_common_word_is_a_wrapper() -> None:
    for name, row in sr_models.MODELS.items():
        if find_spec("diffusers") is None and name in ("latent_unet", "ccsr", "kl_autoencoder"):
            continue
        keys = list(sr_models.build(name, row.scales[0], **TINY.get(name, {})).state_dict())
        assert published._names(keys, name, "file")[1] == {key: key for key in keys}, name


def test_several_state_dicts_under_unknown_names_are_listed_and_a_key_chooses(tmp_path: Path) -> None:
    path, state = tmp_path / "net.pth", sr_models.build("imdn", 2, **SMALL).state_dict()
    torch.save({"epoch": 1, "up": state, "judge": {"w": torch.zeros(1)}}, path)
    with pytest.raises(InputError, match="holds several state dicts, 'up', 'judge'; --weights-key chooses one"):
        load_small(path)
    assert torch.equal(load_small(path, key="up").state_dict()["c.0.bias"], state["c.0.bias"])
    with pytest.raises(InputError, match=r"has no key 'upp'; keys that hold a state dict: 'up', 'judge'$"):
        load_small(path, key="upp")
    with pytest.raises(InputError, match=r"holds no state dict, but int 1$"):
        load_small(path, key="epoch")
    with pytest.raises(InputError, match=r"has no key 'up' to choose by"):
        load_small(tmp_path, key="up")


def convert(folder: Path, message: str, **replaced: str) -> None:
    """Do what a refusal advises, beside the file."""
    command = message[message.index("python -c ") :].replace("python", shlex.quote(sys.executable), 1)
    for old, new in replaced.items():
        command = command.replace(old, new)
    done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_named_as_such_and_the_advice_converts_it(tmp_path: Path) -> None:
    net = sr_models.build("edsr_baseline", 2, channels=4, blocks=1)
    torch.jit.save(torch.jit.trace(net, torch.rand(1, 3, 8, 8)), tmp_path / "net.pt")
    with pytest.raises(
        InputError, match="TorchScript, a program and not only tensors, which is not run here"
    ) as caught:
        load_weights(tmp_path / "net.pt", model="edsr_baseline", scale=2, hyper={})
    convert(tmp_path, str(caught.value))
    found = load_weights(tmp_path / "OUT.pth", model="edsr_baseline", scale=2, hyper={"channels": 4, "blocks": 1})
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in found.state_dict().items())


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("container", ["zip", "legacy", "plain pickle"])
def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path: Path, container: str) -> None:
    trace, path = tmp_path / "trace", tmp_path / "net.pth"
    content = {"params": {"fea_conv.weight": Malicious(trace)}}
    if container == "plain pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=container == "zip")
    with pytest.raises(InputError, match=r"would run code \((posix|nt)\.mkdir\).*convert it") as caught:
        load_small(path)
    assert not trace.exists()
    assert "\n" not in str(caught.value)
    if container == "plain pickle":
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert trace.exists()  # the control: it was malicious


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
@pytest.mark.parametrize(("zipped", "module"), [(True, "vdsr"), (False, "vdsr"), (True, "__main__")])
def test_a_pickled_module_is_refused_and_the_advice_converts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool, module: str
) -> None:
    """VDSR's release: {epoch, model: a pickled Net}, of the module vdsr or of the script that trained it."""
    path = tmp_path / "model_epoch_50.pth"
    (tmp_path / "vdsr.py").write_text("import torch\nclass Net(torch.nn.Module):\n    pass\n")
    home = types.ModuleType(module)
    home.Net = type("Net", (nn.Module,), {"__module__": module})  # type: ignore[attr-defined]
    hyper = {"channels": 4, "blocks": 2}
    net, ours = home.Net(), sr_models.build("vdsr", 2, **hyper)
    for key, value in ours.state_dict().items():
        *layers, last = key.split(".")
        place = net
        for layer in layers:
            if layer not in dict(place.named_children()):
                place.add_module(layer, nn.Module())
            place = getattr(place, layer)
        place.register_parameter(last, nn.Parameter(value))
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, module, home)
        torch.save({"epoch": 50, "model": net}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=rf"would run code \({module}\.Net\).*weights_only=False") as caught:
        load_weights(path, model="vdsr", scale=2, hyper=hyper)
    assert "\n" not in str(caught.value)
    convert(tmp_path, str(caught.value), MODULE_OF_NET="vdsr")
    found = load_weights(tmp_path / "OUT.pth", model="vdsr", scale=2, hyper=hyper).state_dict()
    assert all(torch.equal(found[key], value) for key, value in ours.state_dict().items())


def spoil(path: Path, how: str) -> dict[str, Any]:
    """Write a file with one thing wrong; what to ask for differently, if the request is what is wrong."""
    state = save_small(path)
    whole = path.read_bytes()
    wrong_shape = {"c.0.bias": torch.zeros(3)}
    requests: dict[str, dict[str, Any]] = {
        "scale": {"scale": 3},
        "model": {"model": "edsr", "hyper": {}},
        "depth": {"hyper": {"channels": 16, "blocks": 3}},
        "no such model": {"model": "imdnn"},
    }
    contents: dict[str, Any] = {
        "shape": state | wrong_shape,
        "missing": {key: value for key, value in state.items() if key != "c.0.bias"},
        "no place": state | {"extra.weight": torch.zeros(1)},
        "half prefixed": {("module." if "IMDB" in key else "") + key: value for key, value in state.items()},
        "optimiser": {"step": 3, "lr": 0.1},
        "list": [state],
        "empty dict": {},
        "wrapped empty": {"params": {}},
        "text": {"params": {"fea_conv.weight": "hello"}},
        "number keys": {3: torch.zeros(1)},
        "sparse": state | {"c.0.bias": torch.zeros(16).to_sparse()},
        "diverged": state | {"c.0.bias": torch.full((16,), float("nan"))},
        "float8": state | {"c.0.bias": torch.zeros(16, dtype=torch.float8_e4m3fn)},
        "finite float8": state | {"c.0.bias": torch.zeros(16, dtype=torch.float8_e5m2)},
        "four bits": state | {"c.0.bias": torch.empty(16, dtype=torch.float4_e2m1fn_x2)},
        "complex": state | {"c.0.bias": torch.zeros(16, dtype=torch.complex64)},
        "no numbers": state | {"c.0.bias": torch.zeros(16, device="meta")},
    }
    files: dict[str, bytes] = {
        "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 1\n",
        "web page": b"<!DOCTYPE html><html><body>404</body></html>",
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "cut short": whole[:10],
        "other zip": b"PK\x03\x04" + bytes(100),
        "other pickle": pickle.dumps(3, protocol=4),
        "cut safetensors": safetensors.torch.save(state)[:500],
        "script": b"cos\nsystem\n(S'true'\ntR.",
    }
    if how in contents:
        torch.save(contents[how], path)
    elif how in files:
        path.write_bytes(files[how])
    elif how == "cut legacy":
        torch.save(state, path, _use_new_zipfile_serialization=False)
        path.write_bytes(path.read_bytes()[:-100])
    elif how in ("gone", "pipe"):
        path.unlink()
        if how == "pipe":
            os.mkfifo(path)
    return requests.get(how, {})


@pytest.mark.filterwarnings("ignore:Detected pickle protocol 4", "ignore:Sparse invariant checks")
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("scale", r"do not fit imdn x3: its key 'upsampler\.0\.weight' has shape \(12, 16, 3, 3\) where \(27, 16"),
        ("model", r"do not fit edsr x2: its key 'fea_conv\.weight' has no place \(and \d+ more\)"),
        ("depth", r"do not fit imdn x2: its key 'c\.0\.weight' has shape \(16, 32, 1, 1\) where \(16, 48, 1, 1\)"),
        ("no such model", "unknown model 'imdnn'; did you mean 'imdn'"),
        ("shape", r"its key 'c\.0\.bias' has shape \(3,\) where \(16,\) is needed$"),
        ("missing", r"it lacks key 'c\.0\.bias'$"),
        ("no place", r"its key 'extra\.weight' has no place$"),
        ("half prefixed", r"its key 'module\.IMDB1"),
        ("optimiser", r"its key 'step' holds no tensor, but int \(its keys: step, lr\)$"),
        ("diverged", "its key 'c.0.bias' holds inf or nan: a training that diverged"),
        ("lfs", "a pointer of Git LFS and not the file itself"),
        ("list", "holds no state dict, but list"),
        ("empty dict", "holds no state dict, but dict {}"),
        ("wrapped empty", "holds no state dict, but dict {}"),
        ("text", "its key 'fea_conv.weight' holds no tensor, but str"),
        ("number keys", "its key 3 holds no tensor"),
        ("sparse", "its key 'c.0.bias' holds no dense tensor"),
        ("float8", r"its key 'c\.0\.bias' holds torch\.float8_e4m3fn \(allowed: torch\.float64, .*torch\.bool\)$"),
        ("finite float8", r"its key 'c\.0\.bias' holds torch\.float8_e5m2 \(allowed: "),
        ("four bits", r"its key 'c\.0\.bias' holds torch\.float4_e2m1fn_x2 \(allowed: "),
        ("complex", r"its key 'c\.0\.bias' holds torch\.complex64 \(allowed: "),
        ("no numbers", "its key 'c.0.bias' holds no dense tensor"),
        ("web page", "no PyTorch or safetensors file; it begins with b'<!DOCTYPE html>.*a saved web page"),
        ("empty", "the file is empty"),
        ("cut", "damaged, or no state dict"),
        ("cut short", "damaged, or no state dict"),
        ("cut legacy", "damaged, or no state dict"),
        ("other zip", "damaged, or no state dict"),
        ("other pickle", "damaged, or no state dict"),
        ("cut safetensors", "damaged, or no state dict"),
        ("script", "no PyTorch or safetensors file"),
        ("gone", "no such file, or a link to none"),
        ("pipe", "cannot be read: not a regular file"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(tmp_path: Path, how: str, message: str) -> None:
    asked = spoil(tmp_path / "net.pth", how)
    with pytest.raises(InputError, match=message) as caught:
        load_small(tmp_path / "net.pth", **asked)
    assert "\n" not in str(caught.value)
    assert "imdnn" in message or "net.pth" in str(caught.value)


def test_two_keys_for_one_place_are_refused(tmp_path: Path) -> None:
    state = sr_models.build("edsr", 2, **SMALL).state_dict()
    torch.save(state | {"conv_first.weight": state["head.0.weight"]}, tmp_path / "net.pth")
    with pytest.raises(InputError, match=r"both mean 'head\.0\.weight'"):
        load_weights(tmp_path / "net.pth", model="edsr", scale=2, hyper=SMALL)


@pytest.mark.parametrize("sigma", [False, True])
def test_our_own_folders_load(tmp_path: Path, sigma: bool) -> None:
    net = sr_models.build("imdn", 2, **SMALL)
    module = WithSigma(net, SigmaHead(16, 2, width=4)) if sigma else net
    save_checkpoint(
        tmp_path, module, model="imdn", scale=2, hyper=SMALL, sigma={"width": 4} if sigma else None,
        ema=True, fingerprint=None,
    )  # fmt: skip
    for hyper in ({}, SMALL):
        found = load_small(tmp_path, hyper=hyper).state_dict()
        assert all(torch.equal(found[key], value) for key, value in module.state_dict().items())
    assert read(tmp_path, model="imdn").keys() == net.state_dict().keys()
    for asked, message in (
        ({"scale": 4}, "holds scale 2, not 4"),
        ({"model": "edsr", "hyper": {}}, "holds model 'imdn', not 'edsr'"),
        ({"hyper": {"blocks": 6}}, "holds blocks 2, not 6"),
    ):
        with pytest.raises(InputError, match=message):
            load_small(tmp_path, **asked)
    with pytest.raises(InputError, match="holds model 'imdn', not 'edsr'"):
        read(tmp_path, model="edsr")
    with pytest.raises(InputError, match=r"model\.json' cannot be read"):
        load_small(tmp_path.parent)


REGRESSION = [row for row in sr_models.MODELS.values() if row.trainable and row.family == "regression"]
STARTS = [(row.name, scale) for row in REGRESSION for scale in row.scales if scale > 2]


@pytest.mark.parametrize(("model", "scale"), STARTS)
def test_warm_start_takes_all_but_the_upsampler(model: str, scale: int) -> None:
    hyper = SMALL | TINY.get(model, {})
    start, net = sr_models.build(model, 2, **hyper), sr_models.build(model, scale, **hyper)
    first = {key: value + 1 for key, value in start.state_dict().items()}
    before = {key: value.clone() for key, value in net.state_dict().items()}
    result = warm_start(net, first)
    after = net.state_dict()
    assert {*result.taken, *result.left} == after.keys()
    assert all(torch.equal(after[key], first[key]) for key in result.taken)
    assert all(torch.equal(after[key], before[key]) for key in result.left)
    assert all(key.startswith(("tail.0.", "ups", "upconv", "conv_up")) for key in result.left)
    assert bool(result.left) == (net.feature_scale_to_go > 1)


def test_warm_start_from_a_basicsr_file_keeps_the_mean_shifts(tmp_path: Path) -> None:
    torch.save({"params": listed("EDSR-baseline_x2")}, tmp_path / "net.pth")
    net = sr_models.build("edsr_baseline", 3)
    result = warm_start(net, read(tmp_path / "net.pth", model="edsr_baseline"))
    assert {key.rsplit(".", 1)[0] for key in result.left} == {"tail.0.0", "sub_mean", "add_mean"}


@pytest.mark.parametrize(
    ("model", "hyper", "message"),
    [
        ("edsr", SMALL, r"its key 'fea_conv\.weight' has no place"),
        ("imdn", {"channels": 32, "blocks": 2}, r"its key 'fea_conv\.weight' has shape \(16, 3, 3, 3\)"),
        ("imdn", {"channels": 16, "blocks": 3}, r"its key 'c\.0\.weight' has shape"),
    ],
)
def test_warm_start_from_another_network_is_refused(model: str, hyper: dict[str, Any], message: str) -> None:
    net = sr_models.build(model, 4, **hyper)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(InputError, match=f"warm start: the weights are of another network: {message}"):
        warm_start(net, sr_models.build("imdn", 2, **SMALL).state_dict())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


IDM_UNUSED = """
    conv_body_down.1.1.weight condition_scale1.0.bias condition_scale2.0.weight condition_shift.0.0.weight
    final_down1.0.weight final_down1.1.bias final_down2.1.weight final_linear.bias final_styleconv.0.weight
    ups.3.style.weight ups.3.style.modulated_conv.weight ups.3.style.modulated_conv.modulation.bias
"""


def test_the_released_layout_of_idm_loads_without_the_layers_that_nothing_is_computed_with(tmp_path: Path) -> None:
    net = sr_models.build("idm", 4, **TINY["idm"])
    own = {key if key.startswith("encoder.") else f"denoise_fn.{key}": value for key, value in net.state_dict().items()}
    held = [*(f"denoise_fn.{key}" for key in IDM_UNUSED.split()), "imnet.layers.0.weight"]
    held += [f"encoder.{name}_mean.{kind}" for name in ("sub", "add") for kind in ("weight", "bias")]
    state = (
        own
        | {key: torch.rand(1) for key in held}
        | {"betas": torch.linspace(1e-6, 1e-2, 2000), "ddim_c1": torch.rand(2000)}
    )

    def load(state: dict[str, Tensor]) -> nn.Module:
        torch.save(state, tmp_path / "gen.pth")
        return load_weights(tmp_path / "gen.pth", model="idm", scale=2.5, hyper=TINY["idm"])

    found = load(state).state_dict()
    assert all(torch.equal(value, found[key]) for key, value in net.state_dict().items())
    assert read(tmp_path / "gen.pth", model="idm").keys() == found.keys()
    for key in ("denoise_fn.final_thing.weight", "encoder.head.1.weight"):
        with pytest.raises(InputError, match=f"key '{key}' has no place"):
            load(state | {key: torch.rand(1)})
    with pytest.raises(InputError, match=r"it lacks key 'condition_shift\.1\.0\.weight'"):
        load({key: value for key, value in state.items() if "condition_shift.1" not in key})


def test_the_released_keys_of_idm_are_ours_or_named_as_unused() -> None:
    with torch.device("meta"):
        own = set(sr_models.build("idm", 8).state_dict())
    listed_keys = [f"denoise_fn.{key}" for key in listed("IDM_unet")] + [f"encoder.{key}" for key in listed("IDM_edsr")]
    naming, names = published._names(listed_keys, "idm", "gen.pth")
    assert naming is published.NAMINGS["idm"][0] and set(names.values()) == own


def test_namings_belong_to_models_of_the_table() -> None:
    assert published.NAMINGS.keys() <= sr_models.MODELS.keys()


def test_initialise_takes_all_of_the_same_scale_and_all_but_the_upsampler_of_another() -> None:
    x2, again, x4 = (sr_models.build("edsr_baseline", scale, channels=8, blocks=1) for scale in (2, 2, 4))
    state = {k: v for k, v in x2.state_dict().items() if not k.startswith(("sub_mean.", "add_mean."))}  # as BasicSR's
    initialise(again, state)
    assert all(torch.equal(value, x2.state_dict()[key]) for key, value in again.state_dict().items())
    fresh = x4.state_dict()["tail.0.0.weight"].clone()
    report = initialise(x4, x2.state_dict())
    assert torch.equal(x4.state_dict()["body.0.body.0.weight"], x2.state_dict()["body.0.body.0.weight"])
    assert torch.equal(x4.state_dict()["tail.0.0.weight"], fresh) and "tail.0.0.weight" in report.left
    with pytest.raises(InputError, match="weights are of another network"):
        initialise(sr_models.build("edsr_baseline", 2, channels=16, blocks=1), x2.state_dict())
