"""Our checkpoint of a network: `model.safetensors` (https://github.com/huggingface/safetensors) beside `model.json`.

No pickle anywhere. `model.json` is written last and holds the weights' hash: without it, or with another hash, the
folder is not a checkpoint.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Self

import safetensors
import safetensors.torch
import torch
from pydantic import Field

import sr_models
from sr_models.diffusion.base import Denoiser
from sr_models.errors import InputError
from sr_models.files import replacing
from sr_models.hyper.base import SigmaHyper
from sr_models.hyper.process import AnyProcess
from sr_models.hyper.sampling import Sampling
from sr_models.networks.base import Network, SRNetwork
from sr_models.networks.sigma import SigmaHead, WithSigma
from sr_models.params import Params
from sr_models.plugins import absent


class CheckpointInfo(Params):
    """What `model.json` holds: enough to rebuild the module around its weights."""

    model: str = Field(description="a key of sr_models.MODELS")
    scale: int = Field(description="upscaling factor")
    hyper: dict[str, Any] = Field(description="the model's hyperparameters, complete")
    sigma: dict[str, Any] | None = Field(description="the σ head's hyperparameters, complete; none without a head")
    ema: bool = Field(description="whether these are averaged weights")
    output: Literal["sr", "noise"] = Field(
        default="sr",
        exclude_if=lambda output: output == "sr",
        description="what it gives: SR, or the noise between HR and a teacher's SR",
    )
    process: AnyProcess | None = Field(
        default=None,
        exclude_if=lambda process: process is None,
        description="the noise process of a diffusion network, complete; none of others",
    )
    sampling: Sampling | None = Field(
        default=None,
        exclude_if=lambda sampling: sampling is None,
        description="how pictures are drawn on the noise levels that a diffusion network has practised, where these "
        "are not all of its process; none of others, and of what was written before this was said",
    )
    plugins: dict[str, str] = Field(
        default={},
        exclude_if=lambda stamps: not stamps,
        description="whose plug-in the model is, as a trial's",
    )
    fingerprint: str | None = Field(description="the trial that made them")
    weights_sha256: str = Field(description="hash of model.safetensors: the identity of a teacher or an initialisation")

    @classmethod
    def read(cls, folder: Path | str) -> Self:
        """Of a checkpoint's folder.

        Raises:
            InputError: no such file, not JSON, a key too many or too few, a network of a plug-in that is not here.
        """
        where, path = f"checkpoint {str(folder)!r}", Path(folder) / "model.json"
        try:
            values = json.loads(path.read_bytes())
        except OSError as error:
            raise _unreadable(where, error) from None
        except ValueError as error:
            raise InputError(f"{where}: model.json is corrupt ({error})") from None
        info = cls.parse(values, f"{where}, model.json")
        if lines := absent(info.plugins, exact=False):
            raise InputError(f"{where}: {lines[0]} (docs/extending.md)")
        return info

    def write(self, folder: Path | str) -> None:
        """Into a checkpoint's folder, whole or not at all."""
        text = json.dumps(self.model_dump(), indent=2, sort_keys=True) + "\n"
        _write(Path(folder) / "model.json", text.encode())


def save_checkpoint(
    folder: Path | str,
    module: Network | WithSigma,
    *,
    model: str,
    scale: int,
    hyper: Mapping[str, Any],
    sigma: Mapping[str, Any] | None,
    ema: bool,
    fingerprint: str | None,
    output: Literal["sr", "noise"] = "sr",
    sampling: Sampling | None = None,
) -> CheckpointInfo:
    """Write a network, with its σ head or its noise process if it has one; each file appears whole or not at all.

    Args:
        hyper, sigma: hyperparameters that differ from the defaults, or all of them; `sigma` is None without a head.
        ema: whether the weights are averaged ones.
        fingerprint: of the trial that made them, if one did.
        output: what it gives; what gives noise is loaded by those who ask for it alone.
        sampling: as in `CheckpointInfo`.

    Raises:
        InputError: names or values that no module can be rebuilt from.
    """
    if isinstance(module, WithSigma) != (sigma is not None):
        raise ValueError(f"sigma must be given exactly with a σ head, got {sigma!r} for {type(module).__name__}")
    head = None if sigma is None else SigmaHyper.parse(sigma, "sigma")
    if isinstance(module, WithSigma) and head is not None and head.detail_unit != module.head.detail_unit:
        raise ValueError(f"the σ head has the detail_unit {module.head.detail_unit}, sigma says {head.detail_unit}")
    state = {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
    payload = safetensors.torch.save(state)
    info = CheckpointInfo(
        model=model,
        scale=scale,
        hyper=sr_models.check(model, scale, hyper).model_dump(),
        sigma=None if head is None else head.model_dump(),
        ema=ema,
        output=output,
        process=module.process if isinstance(module, Denoiser) else None,
        sampling=sampling,
        plugins=sr_models.MODELS.stamp(model),
        fingerprint=fingerprint,
        weights_sha256=hashlib.sha256(payload).hexdigest(),
    )
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    _write(target / "model.safetensors", payload)
    info.write(target)
    return info


def load_checkpoint(
    folder: Path | str,
    *,
    output: Literal["sr", "noise"] = "sr",
    scale: float | None = None,
    parts: Mapping[str, Path] = MappingProxyType({}),
) -> tuple[Network | WithSigma, CheckpointInfo]:
    """Rebuild what `save_checkpoint` wrote, on the CPU, in training mode.

    Args:
        output: what it must give.
        scale: at which the network is to work; None: the checkpoint's own, which the info that is returned has.
        parts: the files of frozen parts that it stands on, of which it knows the hashes alone; without them it has its
            weights, and can draw no picture.

    Raises:
        InputError: its weights are of another scale alone, it gives something else, a file is missing, corrupt or of
            another checkpoint, or the weights do not fit the network.
    """
    where, info = f"checkpoint {str(folder)!r}", CheckpointInfo.read(folder)
    if info.output != output:
        raise InputError(f"{where} gives {info.output}, where {output} is expected (an objective's target decides)")
    if scale is not None and scale != info.scale and not sr_models.spec(info.model).any_scale:
        raise InputError(f"{where} holds scale {info.scale}, not {scale}: weights of {info.model} are of one scale")
    try:
        payload = (Path(folder) / "model.safetensors").read_bytes()
    except OSError as error:
        raise _unreadable(where, error) from None
    if (found := hashlib.sha256(payload).hexdigest()) != info.weights_sha256:
        hashes = f"sha256 is {found[:12]}, model.json says {info.weights_sha256[:12]}"
        raise InputError(f"{where}: model.safetensors is corrupt or of another checkpoint ({hashes})")
    with torch.random.fork_rng(devices=[]):  # the initial weights are drawn and thrown away
        module = _module(info, info.scale if scale is None else scale, where, parts)
    try:
        module.load_state_dict(safetensors.torch.load(payload))
    except (RuntimeError, safetensors.SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{where}: the weights do not fit {info.model} x{info.scale}: {reason}") from None
    return module, info


def _module(info: CheckpointInfo, scale: float, where: str, parts: Mapping[str, Path]) -> Network | WithSigma:
    net = sr_models.build(info.model, scale, parts=parts, **info.hyper)
    if isinstance(net, Denoiser) != (info.process is not None):
        has = "no" if info.process is None else "a"
        raise InputError(f"{where}: {has} process in model.json, for a {sr_models.spec(info.model).family} network")
    if isinstance(net, Denoiser) and info.process is not None:
        net.process = info.process
    if info.sigma is None:
        return net
    if not isinstance(net, SRNetwork):
        raise InputError(f"{where}: {info.model} has no features that a sigma head could read")
    sigma = SigmaHyper.parse(info.sigma, f"{where}, sigma")
    return WithSigma(net, SigmaHead(net.feature_channels, net.feature_scale_to_go, **sigma.model_dump()))


def _unreadable(where: str, error: OSError) -> InputError:
    return InputError(f"{where}: {error.filename!r} cannot be read: {error.strerror}")


def _write(path: Path, payload: bytes) -> None:
    with replacing(path) as part:
        part.write_bytes(payload)
