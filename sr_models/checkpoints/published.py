"""Weights from anywhere: released checkpoints in their own formats and key names become ours, or a one-line refusal.

Our keys are those of the official releases, so only other people's names need a map: BasicSR's for EDSR and RCAN
(https://github.com/XPixelGroup/BasicSR, commit 8d56e3a) and the two older ones of https://github.com/xinntao/ESRGAN.
Files are read with `weights_only=True`: tensors and plain containers, never code.
"""

from __future__ import annotations

import json
import re
import shlex
import zipfile
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

import sr_models
from sr_models.checkpoints.folder import load_checkpoint
from sr_models.checkpoints.schedule import recorded_process, without_schedule
from sr_models.command import say
from sr_models.diffusion.base import Denoiser
from sr_models.errors import InputError
from sr_models.files import unreadable
from sr_models.networks.base import Network
from sr_models.networks.sigma import WithSigma, without_head

State = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Naming:
    """Someone else's names for the layers of a network of ours.

    Attributes:
        mark: a key that only this naming has.
        layers: pattern of a whole layer name -> our name; {blocks} and {inner} stand for the number of blocks in the
            body and in a group of the body, which our names count on from.
        implied: prefixes of our keys that such a file does not hold, because their values are constants there.
    """

    mark: str
    layers: dict[str, str]
    implied: tuple[str, ...] = ()


_MEAN_SHIFTS = ("sub_mean.", "add_mean.")
_BASICSR_ENDS = {
    r"conv_first": "head.0",
    r"conv_after_body": "body.{blocks}",
    r"upsample\.(\d+)": r"tail.0.\1",
    r"conv_last": "tail.1",
}
_BASICSR_EDSR = Naming(
    mark="conv_first.weight",
    layers={
        r"body\.(\d+)\.conv1": r"body.\1.body.0",
        r"body\.(\d+)\.conv2": r"body.\1.body.2",
        **_BASICSR_ENDS,
    },
    implied=_MEAN_SHIFTS,
)
_BASICSR_RCAN = Naming(
    mark="conv_first.weight",
    layers={
        r"body\.(\d+)\.residual_group\.(\d+)\.rcab\.(0|2)": r"body.\1.body.\2.body.\3",
        r"body\.(\d+)\.residual_group\.(\d+)\.rcab\.3\.attention\.1": r"body.\1.body.\2.body.3.conv_du.0",
        r"body\.(\d+)\.residual_group\.(\d+)\.rcab\.3\.attention\.3": r"body.\1.body.\2.body.3.conv_du.2",
        r"body\.(\d+)\.conv": r"body.\1.body.{inner}",
        **_BASICSR_ENDS,
    },
    implied=_MEAN_SHIFTS,
)
_ESRGAN_NEW = Naming(
    mark="trunk_conv.weight",
    layers={
        r"RRDB_trunk\.(\d+)\.RDB(\d)\.conv(\d)": r"body.\1.rdb\2.conv\3",
        r"trunk_conv": "conv_body",
        r"upconv(\d)": r"conv_up\1",
        r"HRconv": "conv_hr",
    },
)
_ESRGAN_OLD = Naming(  # x4 only
    mark="model.0.weight",
    layers={
        r"model\.0": "conv_first",
        r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0": r"body.\1.rdb\2.conv\3",
        r"model\.1\.sub\.(\d+)": "conv_body",
        r"model\.3": "conv_up1",
        r"model\.6": "conv_up2",
        r"model\.8": "conv_hr",
        r"model\.10": "conv_last",
    },
)
NAMINGS: dict[str, tuple[Naming, ...]] = {
    "edsr_baseline": (_BASICSR_EDSR,),
    "edsr": (_BASICSR_EDSR,),
    "noisy_edsr": (_BASICSR_EDSR,),
    "rcan": (_BASICSR_RCAN,),
    "rrdb": (_ESRGAN_NEW, _ESRGAN_OLD),
}

_AVERAGED = (
    "params_ema", "params-ema", "g_ema", "net_g_ema", "generator_ema", "model_ema", "state_dict_ema", "ema_state_dict",
    "ema",
)  # fmt: skip
_RAW = (
    "params", "state_dict", "model", "model_state_dict", "generator", "net_g", "netG", "g", "G", "net", "network",
    "weights", "weight",
)  # fmt: skip
_WRAPPERS = _AVERAGED + _RAW
"""Where training codes keep a network's state dict in a file; the first one there is used."""

_SCALAR = np.float64(0).__reduce__()[0]  # what NumPy pickles a number as; a training code's best PSNR is often one
_NUMBERS: list[Any] = [
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    np.dtype,
    *(type(np.dtype(kind)) for kind in "?bBhHiIlLqQefd"),
]
_OTHER_KINDS = {
    ".caffemodel": "a Caffe model (as IDN's authors released it)", ".prototxt": "a Caffe network without weights",
    ".onnx": "an ONNX model", ".pb": "a TensorFlow graph", ".h5": "a Keras file", ".keras": "a Keras file",
    ".tflite": "a TensorFlow Lite model", ".mat": "a MATLAB file", ".npz": "a file of NumPy arrays",
}  # fmt: skip
_DTYPES = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
)  # fmt: skip
"""Of tensors that hold the values themselves; those of float8 need a factor, which has a key of no common name."""
_RECOMPUTED = re.compile(r"(.+\.)?layers\.\d+\..*\.(attn\.relative_position_index|attn_mask)$")
_UPSAMPLERS = ("tail.0.", "upsample.", "upsampler.", "upconv", "conv_up")  # what depends on the scale


def load_weights(
    path: Path | str, *, model: str, scale: int, hyper: Mapping[str, Any], key: str | None = None
) -> Network | WithSigma:
    """The network that a released file or a checkpoint folder of ours holds, on the CPU, in training mode.

    Args:
        path: a `.pth`, `.pt` or `.safetensors` file (its content decides), or a folder that `save_checkpoint` wrote.
        model, scale: the network; a folder must hold the same one.
        hyper: its hyperparameters, those left out are as published, in a folder as they were saved.
        key: where in the file the network's state dict is; None finds it under the names that training codes use,
            averaged weights first, and says which of several it took. Given, it belongs to the name of the weights.

    Raises:
        InputError: the file cannot be read, needs code to be run, or does not hold exactly this network: the first key
            without a place, missing, or of another shape is named.

    A diffusion network gets the noise process that the file's schedule buffers tell of, its default without them.
    """
    values = dict(sr_models.check(model, scale, hyper))
    if Path(path).is_dir():
        if key is not None:
            raise InputError(f"checkpoint {str(path)!r} is a folder of ours, which has no key {key!r} to choose by")
        module, info = load_checkpoint(path)
        found = {"model": info.model, "scale": info.scale}
        found |= dict(sr_models.check(info.model, info.scale, info.hyper))
        for name, asked in ({"model": model, "scale": scale} | {name: values[name] for name in hyper}).items():
            if found[name] != asked:
                raise InputError(f"checkpoint {str(path)!r} holds {name} {found[name]!r}, not {asked!r}")
        return module
    with torch.random.fork_rng(devices=[]):  # the initial weights are drawn and thrown away
        net = sr_models.build(model, scale, **hyper)
    wanted, state = net.state_dict(), _tensors(path, key)
    if isinstance(net, Denoiser):
        net.process = recorded_process(state, f"weights {str(path)!r}") or net.process
        state = without_schedule(state)
    naming, names = _names(state, model, path)
    implied = naming.implied if naming else ()
    lacking = wanted.keys() - names.values()
    problems = _misfits(state, wanted, names)
    problems += [f"it lacks key {key!r}" for key in wanted if key in lacking and not key.startswith(implied)]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        hint = _multi_scale(names.values()) if values.get("scales") == () else ""
        raise InputError(f"weights {str(path)!r} do not fit {model} x{scale}: {problems[0]}{more}{hint}")
    net.load_state_dict(wanted | {names[key]: value for key, value in state.items()})
    return net


def read(path: Path | str, *, model: str) -> State:
    """The tensors of a file or of a checkpoint folder of ours (there without its σ head), under our keys for `model`.

    Raises:
        InputError: it cannot be read, needs code to be run, or is a folder of another model.
    """
    sr_models.spec(model)
    if Path(path).is_dir():
        module, info = load_checkpoint(path)
        if info.model != model:
            raise InputError(f"checkpoint {str(path)!r} holds model {info.model!r}, not {model!r}")
        return dict(without_head(module).state_dict())
    state = _tensors(path)
    if sr_models.spec(model).family == "diffusion":
        state = without_schedule(state)
    _, names = _names(state, model, path)
    return {names[key]: value for key, value in state.items()}


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """Keys of the network that were taken from the checkpoint, and those left as they were."""

    taken: tuple[str, ...]
    left: tuple[str, ...]


def warm_start(net: Network, state: Mapping[str, Tensor]) -> WarmStart:
    """Start a network from one of another scale, as the papers train x3, x4 and x8 from x2: all but the upsampler.

    Args:
        net: changed in place.
        state: the other network's tensors under our keys, as `read` gives them; an upsampler in it is ignored.

    Raises:
        InputError: outside the upsampler a key has no place, is missing or has another shape; nothing is changed then.
    """
    wanted = net.state_dict()
    given = {key: value for key, value in state.items() if not key.startswith(_UPSAMPLERS)}
    left = tuple(key for key in wanted if key not in given)
    problems = _misfits(given, wanted, {key: key for key in given})
    problems += [f"it lacks key {key!r}" for key in left if not key.startswith((*_UPSAMPLERS, *_MEAN_SHIFTS))]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise InputError(f"warm start: the weights are of another network: {problems[0]}{more}")
    net.load_state_dict(wanted | given)
    return WarmStart(taken=tuple(given), left=left)


def initialise(net: Network, state: Mapping[str, Tensor]) -> WarmStart:
    """Start a network from weights of its own kind: all of them where they fit, `warm_start` where the scale differs.

    Args:
        net: changed in place.
        state: tensors under our keys, as `read` gives them.

    Raises:
        InputError: as `warm_start`.
    """
    wanted = net.state_dict()
    missing = tuple(key for key in wanted if key not in state)
    fits = all(key in wanted and wanted[key].shape == value.shape for key, value in state.items())
    if not fits or any(not key.startswith(_MEAN_SHIFTS) for key in missing):
        return warm_start(net, state)
    net.load_state_dict(wanted | dict(state))
    return WarmStart(taken=tuple(state), left=missing)


def _misfits(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], names: Mapping[str, str]) -> list[str]:
    """What is wrong with each tensor of a file, in its own words; `names` maps its keys to ours."""
    found = []
    for key, value in state.items():
        if (place := wanted.get(names[key])) is None:
            found.append(f"its key {key!r} has no place")
        elif place.shape != value.shape:
            found.append(f"its key {key!r} has shape {tuple(value.shape)} where {tuple(place.shape)} is needed")
    return found


def _names(keys: Iterable[str], model: str, path: Path | str) -> tuple[Naming | None, dict[str, str]]:
    """The naming a file uses (None: the release's, ours) and our key for each of its keys; an unknown key is kept."""
    bare = _without_wrappers(list(keys), {naming.mark for naming in NAMINGS.get(model, ())})
    naming = next((n for n in NAMINGS.get(model, ()) if n.mark in bare.values()), None)
    if naming is None:
        return None, bare
    blocks = _count(r"body\.(\d+)\.", bare.values())
    inner = _count(r"body\.\d+\.residual_group\.(\d+)\.", bare.values())
    layers = {pattern: ours.format(blocks=blocks, inner=inner) for pattern, ours in naming.layers.items()}
    names: dict[str, str] = {}
    for key, name in bare.items():
        layer, _, kind = name.rpartition(".")
        pattern = next((p for p in layers if re.fullmatch(p, layer)), None)
        ours = name if pattern is None else re.sub(pattern, layers[pattern], layer) + f".{kind}"
        if ours in names.values():
            raise InputError(f"weights {str(path)!r}: keys {key!r} and another both mean {ours!r} of {model}")
        names[key] = ours
    return naming, names


def _multi_scale(names: Iterable[str]) -> str:
    """How a multi-scale CARN is asked for, if these are the names of one."""
    found = sorted({int(match[1]) for name in names if (match := re.match(r"upsample\.up(\d)\.", name))})
    return f"; the file is a multi-scale one: give the hyperparameter scales={found}" if found else ""


def _without_wrappers(keys: Sequence[str], marks: Set[str]) -> dict[str, str]:
    """Each key without the first words that all share: module. of DataParallel, _orig_mod. of torch.compile, net_g. ...

    No network of ours has all its layers below one; a naming that has is known by its mark.
    """
    bare = list(keys)
    while bare and not marks & set(bare):
        first = bare[0].partition(".")[0] + "."
        if not all(key.startswith(first) for key in bare):
            break
        bare = [key.removeprefix(first) for key in bare]
    return dict(zip(keys, bare, strict=True))


def _count(pattern: str, keys: Iterable[str]) -> int:
    return 1 + max((int(found[1]) for key in keys if (found := re.match(pattern, key))), default=-1)


def _tensors(path: Path | str, key: str | None = None) -> State:
    """The state dict in a file, unwrapped, without SwinIR's index buffers: they are for one image size."""
    where = f"weights {str(path)!r}"
    loaded = _unwrapped(_load(Path(path), where), key, where)
    if not isinstance(loaded, Mapping) or not loaded:
        raise InputError(f"{where}: holds no state dict, but {type(loaded).__name__} {_brief(repr(loaded))}")
    kept = {name: value for name, value in loaded.items() if not _RECOMPUTED.match(str(name))}
    for name, value in kept.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise InputError(
                f"{where}: no state dict: its key {name!r} holds no tensor, but {type(value).__name__} "
                f"(its keys: {_brief(', '.join(map(str, loaded)))})"
            )
        if value.layout != torch.strided or value.device.type != "cpu":
            raise InputError(f"{where}: its key {name!r} holds no dense tensor")
        if value.dtype not in _DTYPES:
            allowed = ", ".join(map(str, _DTYPES))
            raise InputError(f"{where}: its key {name!r} holds {value.dtype} (allowed: {allowed})")
        if not value.isfinite().all():
            raise InputError(f"{where}: its key {name!r} holds inf or nan: a training that diverged")
    return kept


def _unwrapped(loaded: Any, key: str | None, where: str) -> Any:
    """What a file holds under `key`, or under the first of the `_WRAPPERS` that is there, else as it is.

    Raises:
        InputError: no such key, or state dicts under other keys alone, several of them.
    """
    if not isinstance(loaded, Mapping):
        return loaded
    states = [name for name, value in loaded.items() if _is_state(value)]
    if key is not None:
        if key not in loaded:
            raise InputError(f"{where}: has no key {key!r}; keys that hold a state dict: {_listed(states) or 'none'}")
        return loaded[key]
    known = [name for name in _WRAPPERS if name in states]
    known += [name for name in _WRAPPERS if isinstance(loaded.get(name), Mapping) and name not in states]
    if not known and len(states) > 1:
        raise InputError(f"{where}: holds several state dicts, {_listed(states)}; --weights-key chooses one")
    chosen = next(iter(known or states), None)
    if chosen is None:
        return loaded
    if len(states) > 1:
        kind = "averaged" if chosen in _AVERAGED else "as trained"
        others = _listed([name for name in states if name != chosen])
        say(f"{where}: {chosen!r} was taken ({kind}), and not {others}; --weights-key chooses")
    return loaded[chosen]


def _is_state(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(v, Tensor) for v in value.values())


def _listed(names: Sequence[Any]) -> str:
    return ", ".join(map(repr, names))


def _load(path: Path, where: str) -> Any:
    """What a safetensors or PyTorch file holds; nothing in it is executed."""
    if fault := unreadable(path):
        raise InputError(f"{where}: {fault}")
    try:
        with path.open("rb") as stream:
            head = stream.read(16)
    except OSError as error:
        raise InputError(f"{where}: cannot be read: {error.strerror}") from None
    if not head:
        raise InputError(f"{where}: the file is empty")
    if (kind := _OTHER_KINDS.get(path.suffix.lower())) is not None:
        raise InputError(f"{where}: {kind}, which nothing here converts; PyTorch and safetensors files are read")
    if head.startswith(b"version https://"):
        raise InputError(f"{where}: a pointer of Git LFS and not the file itself; `git lfs pull` brings it")
    is_safetensors = head[8:9] == b"{"
    if not is_safetensors and not head.startswith((b"PK\x03\x04", b"\x80")):
        raise InputError(f"{where}: no PyTorch or safetensors file; it begins with {head!r} (a saved web page?)")
    try:
        if is_safetensors:
            return safetensors.torch.load_file(path)
        if _is_torchscript(path):
            code = f'torch.save(torch.jit.load({json.dumps(path.name)}, map_location="cpu").state_dict(), "OUT.pth")'
            reason = "TorchScript, a program and not only tensors, which is not run here"
            raise InputError(f"{where}: {reason}; {_by(code)}")
        with torch.serialization.safe_globals(_NUMBERS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # both decoders raise almost anything on damaged files
        cause = str(error).partition("WeightsUnpickler error:")[2] or str(error) or type(error).__name__
        if named := re.search(r"GLOBAL (\S+)", cause):
            raise InputError(
                f"{where}: refused, because opening it would run code ({named[1]}) and not only read tensors; "
                + _by(_conversion(path.name, named[1]))
            ) from None
        raise InputError(f"{where}: damaged, or no state dict that torch.save wrote ({_brief(cause)})") from None


def _by(code: str) -> str:
    return (
        "if you trust its source, convert it once in a throwaway container without network, in the folder of the code "
        f"that made it: python -c {shlex.quote(f'import torch; {code}')}"
    )


def _conversion(file: str, named: str) -> str:
    """Python that turns a file of pickled objects, which need the class `named`, into one of state dicts."""
    module, _, name = named.rpartition(".")
    imported = f"from MODULE_OF_{name.upper()} import {name}; " if module == "__main__" else ""
    return (
        f'{imported}x = torch.load({json.dumps(file)}, map_location="cpu", weights_only=False); '
        'x = x if isinstance(x, dict) else {"model": x}; '
        "torch.save({k: v if isinstance(v, dict) else v.state_dict() for k, v in x.items() "
        'if isinstance(v, dict) or hasattr(v, "state_dict")}, "OUT.pth")'
    )


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.partition("/")[2] == "constants.pkl" for name in archive.namelist())


def _brief(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 160 else f"{line[:160]}..."
