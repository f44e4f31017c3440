"""What the options of `python -m eval --model` name, loaded: network, test set, and whose rows they will leave."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import sr_models
from eval import benchmarks
from eval.benchmarks import Benchmark
from eval.request import ModelRequest
from eval.rows import Identity, Subject, plugins_of
from sr_models.checkpoints.folder import CheckpointInfo
from sr_models.checkpoints.parts import check_parts, packed_file
from sr_models.checkpoints.published import load_weights
from sr_models.command import say
from sr_models.diffusion.base import Denoiser
from sr_models.diffusion.samplers import settled
from sr_models.images.files import sha256_file
from sr_models.images.matlab import KERNEL
from sr_models.inference.super_resolve import Options
from sr_models.networks.base import Network
from sr_models.networks.sigma import WithSigma


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What --model and the options that go with it name, loaded."""

    model: Network | WithSigma
    benchmark: Benchmark | None
    """None without HR images."""
    subject: Subject
    """Whose rows these will be; a network that no trial of ours need have made has objective "-" and seed -1."""
    parts: Mapping[str, Path]
    """Files of the frozen parts that the network stands on, by sha256."""


def load(request: ModelRequest) -> Asked:
    """Load the network, on the CPU, and list the test set; what its folders hold and is not used is said.

    Raises:
        InputError: weights or folders that cannot be used.
    """
    options = Options(
        precision=request.precision,
        channels_last=request.channels_last,
        compile=request.compile,
        tile=request.tile,
        overlap=Options.overlap if request.overlap is None else request.overlap,
        self_ensemble=request.self_ensemble,
        sampling=request.sampling,
        crops=request.crops,
    )
    name, scale, hyper = request.model, request.scale, request.hyper
    benchmark = _benchmark(request)
    packed = {part: packed_file(path, part) for part, path in request.parts.items()}
    parts = {part: file for part, (_, file) in packed.items()}
    hashes = {part: found for part, (found, _) in packed.items()}
    complete, sha256 = sr_models.check(name, scale, hyper).model_dump(), None
    complete |= {f"{part}_sha256": found for part, found in hashes.items()}
    weights, fingerprint, sigma, trained_scale = "none", "", "", None
    model: Network | WithSigma
    if request.weights is None:
        model = sr_models.build(name, scale, **hyper)
    else:
        model = load_weights(
            request.weights, model=name, scale=scale, hyper=hyper, key=request.weights_key, parts=parts,
            sampler=request.sampling.sampler if request.sampling else None,
        )  # fmt: skip
        weights, sha256 = "released", sha256_file(_weights_file(request.weights))
        if request.weights_key is not None:  # other weights of the same file have another name
            sha256 += f":{request.weights_key}"
        if request.weights.is_dir():
            info = CheckpointInfo.read(request.weights)
            weights, fingerprint, complete = "ema" if info.ema else "raw", info.fingerprint or "", info.hyper
            sigma = json.dumps(info.sigma, sort_keys=True) if info.sigma else ""
            trained_scale = None if info.scale == scale else info.scale
    check_parts(name, complete, hashes)
    if beyond := sr_models.check(name, scale, complete).beyond(scale):
        say(f"caution: {beyond}")
    process = ""
    if isinstance(model, Denoiser) and options.sampling is not None:
        options = replace(options, sampling=settled(model.process, options.sampling))
        process = model.process.model_dump_json()
    identity = Identity(
        combination=name, model=name, objective="-", target="-", loss="-", scale=scale, fingerprint=fingerprint,
        seed=-1, weights=weights, network=name, trained_scale=trained_scale,
    )  # fmt: skip
    subject = Subject(
        identity=identity, weights_sha256=sha256, hyper=json.dumps(complete, sort_keys=True),
        benchmark=set_name(request.hr or request.lr), kernel=benchmark.kernel if benchmark else "files",
        protocol=request.protocol.id(scale) + options.marks, seed=request.seed, options=options, sigma=sigma,
        process=process, plugins=plugins_of(name, request.metrics),
    )  # fmt: skip
    return Asked(model=model, benchmark=benchmark, subject=subject, parts=dict(packed.values()))


def _benchmark(request: ModelRequest) -> Benchmark | None:
    """The test set, if there are HR images; what its folders hold and is not used is said."""
    if request.hr is None:
        return None
    found = benchmarks.load(
        set_name(request.hr), request.scale, request.hr, request.lr,
        kernel=request.kernel or KERNEL, include=request.include, exclude=request.exclude,
    )  # fmt: skip
    for line in found.left_out:
        say(line)
    return found


def _weights_file(path: Path) -> Path:
    return path / "model.safetensors" if path.is_dir() else path


def set_name(folder: Path | None) -> str:
    """What a test set is called: Set5 in Set5/X4/HR, and in Set5/X4/LR."""
    assert folder is not None, "a request has one of HR and LR"
    parts = folder.resolve().parts
    parts = parts[:-1] if parts[-1].lower() == "lr" else parts
    names = [part for part in parts if not re.fullmatch(r"hr|gt|x?\d+", part.lower())]
    return names[-1]
