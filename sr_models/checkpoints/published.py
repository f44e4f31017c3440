"""Weights from anywhere: released checkpoints in their own formats and key names become ours, or a one-line refusal.

Our keys are those of the official releases, so only other people's names need a map: BasicSR's for EDSR and RCAN
(https://github.com/XPixelGroup/BasicSR, commit 8d56e3a), the two older ones of https://github.com/xinntao/ESRGAN, and
diffusers' of networks that are a part of ours here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

import sr_models
from sr_models.checkpoints import zoo
from sr_models.checkpoints.folder import CheckpointInfo, load_checkpoint
from sr_models.checkpoints.schedule import recorded_process, without_schedule
from sr_models.checkpoints.tensors import tensors
from sr_models.command import say
from sr_models.diffusion.base import Denoiser
from sr_models.errors import InputError
from sr_models.hyper.process import AnyProcess, ProcessParams, ShiftParams
from sr_models.networks.base import Network
from sr_models.networks.sigma import WithSigma, without_head


@dataclass(frozen=True, kw_only=True)
class Naming:
    """Someone else's names for the layers of a network of ours.

    Attributes:
        mark: a key that only this naming has.
        layers: pattern of a whole layer name -> our name; {blocks} and {inner} stand for the number of blocks in the
            body and in a group of the body, which our names count on from.
        implied: prefixes of our keys that such a file does not hold, because their values are constants there.
        unused: patterns of layer names that such a file holds and its code computes nothing with; {last} stands for the
            last level of IDM's pyramid.
    """

    mark: str
    layers: dict[str, str]
    implied: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


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
_IDM = Naming(
    mark="denoise_fn.downs.0.weight",
    layers={r"denoise_fn\.(.+)": r"\1"},
    unused=(
        r"denoise_fn\.final_(down1|down2|styleconv)\.\d",
        r"denoise_fn\.final_linear",
        r"denoise_fn\.ups\.\d+\.style(\.modulated_conv(\.modulation)?)?",
        r"denoise_fn\.conv_body_down\.{last}\.\d",
        r"denoise_fn\.condition_(scale1|scale2)\.0",
        r"denoise_fn\.condition_shift\.0\.0",
        r"encoder\.(sub|add)_mean",
        r"imnet(\.\w+)*",
    ),
)
_UNET = Naming(mark="conv_in.weight", layers={r"(.+)": r"unet.\1"})
_ADAPTER = Naming(mark="conv_in.weight", layers={r"(.+)": r"control.\1"})
NAMINGS: dict[str, tuple[Naming, ...]] = {
    "latent_unet": (_UNET,),
    "ccsr": (_ADAPTER,),
    "idm": (_IDM,),
    "edsr_baseline": (_BASICSR_EDSR,),
    "edsr": (_BASICSR_EDSR,),
    "noisy_edsr": (_BASICSR_EDSR,),
    "rcan": (_BASICSR_RCAN,),
    "rrdb": (_ESRGAN_NEW, _ESRGAN_OLD),
}

_UPSAMPLERS = ("tail.0.", "upsample.", "upsampler.", "upconv", "conv_up")  # what depends on the scale


def load_weights(
    path: Path | str,
    *,
    model: str,
    scale: float,
    hyper: Mapping[str, Any],
    key: str | None = None,
    parts: Mapping[str, Path] = MappingProxyType({}),
    sampler: str | None = None,
) -> Network | WithSigma:
    """The network that a released file or a checkpoint folder of ours holds, on the CPU, in training mode.

    Args:
        path: a `.pth`, `.pt` or `.safetensors` file (its content decides), or a folder that `save_checkpoint` wrote.
        model, scale: the network; a folder must hold the same one, but for a scale that its weights know nothing of
            (`ModelSpec.any_scale`).
        hyper: its hyperparameters, those left out are as published, in a folder as they were saved.
        key: where in the file the network's state dict is; None finds it under the names that training codes use,
            averaged weights first, and says which of several it took. Given, it belongs to the name of the weights.
        parts: as in `load_checkpoint`.
        sampler: by which pictures are to be drawn. Of a file without a schedule, ResShift's are its own steps by
            "resshift" and by "ancestral" or None, which are what nobody has chosen, and DDPM's by any other.

    Raises:
        InputError: the file cannot be read, needs code to be run, or does not hold exactly this network: the first key
            without a place, missing, or of another shape is named.

    A diffusion network gets the noise process that the file's schedule buffers tell of; its default without them, said.
    """
    values = dict(sr_models.check(model, scale, hyper))
    if Path(path).is_dir():
        if key is not None:
            raise InputError(f"checkpoint {str(path)!r} is a folder of ours, which has no key {key!r} to choose by")
        info = CheckpointInfo.read(path)
        found = {"model": info.model, **dict(sr_models.check(info.model, info.scale, info.hyper))}
        for name, asked in ({"model": model} | {name: values[name] for name in hyper}).items():
            if found[name] != asked:
                raise InputError(f"checkpoint {str(path)!r} holds {name} {found[name]!r}, not {asked!r}")
        return load_checkpoint(path, scale=scale, parts=parts)[0]
    with torch.random.fork_rng(devices=[]):  # the initial weights are drawn and thrown away
        net = sr_models.build(model, scale, parts=parts, **hyper)
    if model == sr_models.ZOO.name:
        net.load_state_dict(zoo.read(path, key)[1])
        return net
    wanted, state = net.state_dict(), tensors(path, key)
    if isinstance(net, Denoiser):
        recorded = recorded_process(state, f"weights {str(path)!r}")
        if recorded is None:
            if sr_models.check(model, scale, hyper).shifts and sampler in (None, "ancestral", "resshift"):
                net.process = ShiftParams()
            say(f"weights {str(path)!r} hold no noise schedule (no betas); {model}'s is assumed: {_told(net.process)}")
            if "condition" in values and "condition" not in hyper:
                say(f"{model}: told the latent of enlarged LR; the released x4 weights see LR (--hyper condition=lr)")
        else:  # whether guesses are clamped is a network's, and in no buffer
            clamp = isinstance(net.process, ProcessParams) and net.process.clamp
            net.process = recorded.model_copy(update={"clamp": clamp})
        try:
            state = net.renamed(without_schedule(state))
        except KeyError as error:
            raise InputError(f"weights {str(path)!r} do not fit {model} x{scale}: they lack key {error}") from None
    naming, names = _names(state, model, path)
    state, implied = {key: state[key] for key in names}, naming.implied if naming else ()
    lacking = wanted.keys() - names.values()
    problems = _misfits(state, wanted, names)
    problems += [f"it lacks key {key!r}" for key in wanted if key in lacking and not key.startswith(implied)]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        hint = _multi_scale(names.values()) if values.get("scales") == () else ""
        raise InputError(f"weights {str(path)!r} do not fit {model} x{scale}: {problems[0]}{more}{hint}")
    net.load_state_dict(wanted | {names[key]: value for key, value in state.items()})
    return net


def _told(process: AnyProcess) -> str:
    """What a process is, for people."""
    if isinstance(process, ShiftParams):
        return f"residual shifting, {process.T} steps, kappa {process.kappa:g}"
    return f"T={process.T}, beta {process.beta_start:g} to {process.beta_end:g}"


def read(path: Path | str, *, model: str) -> dict[str, Tensor]:
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
    if model == sr_models.ZOO.name:
        return zoo.read(path)[1]
    state = tensors(path)
    if sr_models.spec(model).family == "diffusion":
        state = without_schedule(state)
    _, names = _names(state, model, path)
    return {name: state[key] for key, name in names.items()}


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

    They may lack what the network has from elsewhere (`Network.begun`).

    Args:
        net: changed in place.
        state: tensors under our keys, as `read` gives them.

    Raises:
        InputError: as `warm_start`.
    """
    wanted = net.state_dict()
    missing = tuple(key for key in wanted if key not in state)
    fits = all(key in wanted and wanted[key].shape == value.shape for key, value in state.items())
    if not fits or any(not key.startswith((*_MEAN_SHIFTS, *net.begun)) for key in missing):
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
    """The naming a file uses (None: the release's, ours) and our key for each of its keys that is not `unused` there.

    An unknown key is kept.
    """
    bare = _without_wrappers(list(keys), {naming.mark for naming in NAMINGS.get(model, ())})
    naming = next((n for n in NAMINGS.get(model, ()) if n.mark in bare.values()), None)
    if naming is None:
        return None, bare
    blocks = _count(r"body\.(\d+)\.", bare.values())
    inner = _count(r"body\.\d+\.residual_group\.(\d+)\.", bare.values())
    layers = {pattern: ours.format(blocks=blocks, inner=inner) for pattern, ours in naming.layers.items()}
    last = str(_count(r"denoise_fn\.conv_body_down\.(\d+)\.", bare.values()) - 1)
    unused = [pattern.replace("{last}", last) for pattern in naming.unused]
    names: dict[str, str] = {}
    for key, name in bare.items():
        layer, _, kind = name.rpartition(".")
        if any(re.fullmatch(pattern, layer) for pattern in unused):
            continue
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
