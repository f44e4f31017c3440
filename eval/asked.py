"""What the options of `python -m eval --model` name, loaded: network, test set, and whose rows they will leave."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sr_models
from eval import benchmarks
from eval.benchmarks import Benchmark
from eval.protocol import Protocol
from eval.rows import Identity, Subject
from sr_models.images import sha256_file
from sr_models.inference import Options
from sr_models.network import SRNetwork
from sr_models.published import load_weights
from sr_models.sigma import WithSigma
from sr_models.weights import Info


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What --model and the options that go with it name, loaded."""

    model: SRNetwork | WithSigma
    benchmark: Benchmark
    subject: Subject
    """Whose rows these will be; a network that no trial of ours need have made has objective "-" and seed -1."""


def load(given: argparse.Namespace, hyper: Mapping[str, Any], protocol: Protocol) -> Asked:
    """Load the network, on the CPU, and list the test set, as checked options say.

    Raises:
        InputError: weights or folders that cannot be used.
    """
    options = Options(
        precision=given.precision or "fp32",
        channels_last=given.channels_last,
        compile=given.compile,
        tile=protocol.tile if given.tile is None else given.tile,
        overlap=Options.overlap if given.overlap is None else given.overlap,
        self_ensemble=given.self_ensemble,
    )
    benchmark = benchmarks.load(set_name(given.hr), given.scale, given.hr, given.lr)
    held, sha256 = sr_models.check(given.model, given.scale, hyper).model_dump(), None
    weights, fingerprint = "none", ""
    model: SRNetwork | WithSigma
    if given.weights is None:
        model = sr_models.build(given.model, given.scale, **hyper)
    else:
        model = load_weights(given.weights, model=given.model, scale=given.scale, hyper=hyper)
        weights, sha256 = "released", sha256_file(_weights_file(given.weights))
        if given.weights.is_dir():
            info = Info.read(given.weights)
            weights, fingerprint, held = "ema" if info.ema else "raw", info.fingerprint or "", info.hyper
    name = given.model
    identity = Identity(
        combination=name, model=name, objective="-", target="-", loss="-", scale=given.scale, fingerprint=fingerprint,
        seed=-1, weights=weights, network=name,
    )  # fmt: skip
    subject = Subject(
        identity=identity, weights_sha256=sha256, hyper=json.dumps(held, sort_keys=True), benchmark=benchmark.name,
        kernel=benchmark.kernel, protocol=protocol.id(given.scale), seed=given.seed or 0, options=options,
    )  # fmt: skip
    return Asked(model=model, benchmark=benchmark, subject=subject)


def _weights_file(path: Path) -> Path:
    return path / "model.safetensors" if path.is_dir() else path


def set_name(hr: Path) -> str:
    """What a test set is called: Set5 in Set5/X4/HR."""
    names = [part for part in hr.resolve().parts if not re.fullmatch(r"hr|gt|x?\d+", part.lower())]
    return names[-1]
