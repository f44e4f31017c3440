"""The tensors of a PyTorch or safetensors file, out of whatever the code that wrote it has packed around them.

Files are read with `weights_only=True`: tensors and plain containers, never code. Ours, no paper.
"""

from __future__ import annotations

import json
import re
import shlex
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from sr_models.command import say
from sr_models.errors import InputError
from sr_models.files import unreadable

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
_RECOMPUTED = re.compile(
    r"(.+\.)?(layers\.\d+|(in|out)put_blocks\.\d+|middle_block)\..*\.(attn\.relative_position_index|attn_mask)$"
)


def tensors(path: Path | str, key: str | None = None, *, whole: bool = False) -> dict[str, Tensor]:
    """The state dict in a file, under its own keys, without SwinIR's and ResShift's index buffers.

    These are for one image size, and computed here.

    Args:
        key: where in the file it is; None finds it under the names that training codes use, averaged weights first,
            and says which of several it took.
        whole: with those index buffers, by which other codes recognise a network.

    Raises:
        InputError: the file cannot be read, needs code to be run, or holds no state dict of finite, dense tensors.
    """
    where = f"weights {str(path)!r}"
    loaded = _unwrapped(_load(Path(path), where), key, where)
    if not isinstance(loaded, Mapping) or not loaded:
        raise InputError(f"{where}: holds no state dict, but {type(loaded).__name__} {_brief(repr(loaded))}")
    kept = {name: value for name, value in loaded.items() if whole or not _RECOMPUTED.match(str(name))}
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
