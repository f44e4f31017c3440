"""Whether pictures fit what one may take of a worker's memory (`resources.max_bytes`), before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import torch

import sr_models
from cluster import capacity, ray_runtime
from cluster.ray_runtime import Resources
from orchestrator.plan.combination import Combination
from orchestrator.plan.evaluation import EvaluationConfig
from orchestrator.plan.teacher import TeacherConfig
from sr_models.checkpoints.folder import CheckpointInfo
from sr_models.errors import InputError
from sr_models.hyper.sampling import Sampling
from sr_models.inference.bound import Bound
from sr_models.inference.super_resolve import Options
from sr_models.networks.base import SRNetwork
from sr_models.networks.sigma import SigmaHead, WithSigma


def most_bytes(asked: Literal["auto"] | int | None, cluster: Resources, cpus: int, gpus: float) -> int | None:
    """`resources.max_bytes` as a number: for auto what a worker of so many CPUs and GPUs has of its node or GPU.

    Raises:
        InputError: no node that is up says its memory.
    """
    if asked != "auto":
        return asked
    found = ray_runtime.gpu_bytes(gpus) if gpus else capacity.bytes_of_worker(cluster, cpus, gpus)
    if not found:
        raise InputError("resources.max_bytes: no node that is up says its memory; give a number of bytes, or null")
    return found


@dataclass(frozen=True, kw_only=True)
class Network:
    """What decides how much memory a pass takes."""

    name: str
    scale: float
    hyper: str
    """JSON, its keys sorted."""
    sigma_width: int | None = None
    """Of the σ head; None without one."""
    parts: tuple[tuple[str, Path], ...] = ()
    """Frozen parts that it stands on, and their files."""

    @classmethod
    def of(cls, one: Combination, parts: Mapping[str, Path] = MappingProxyType({})) -> Network:
        """That of a combination; `parts`: the files of what it stands on."""
        width, hyper = one.spec.sigma.width if one.spec.sigma else None, json.dumps(one.hyper, sort_keys=True)
        return cls(name=one.network, scale=one.scale, hyper=hyper, sigma_width=width, parts=tuple(parts.items()))

    @classmethod
    def of_teacher(cls, teacher: TeacherConfig, scale: int, folder: Path | None) -> Network:
        """That of a folder of ours, or else of the config. Raises InputError: the folder cannot be read."""
        if folder is None or not folder.is_dir():
            return cls(name=teacher.model, scale=scale, hyper=json.dumps(teacher.hyper, sort_keys=True))
        info = CheckpointInfo.read(folder)
        width = int(info.sigma["width"]) if info.sigma else None
        return cls(name=info.model, scale=info.scale, hyper=json.dumps(info.hyper, sort_keys=True), sigma_width=width)

    def bound(self, max_bytes: int) -> Bound:
        """What it may take, and does."""
        with torch.random.fork_rng(devices=[]):  # its weights are drawn and thrown away
            net = sr_models.build(self.name, self.scale, parts=dict(self.parts), **json.loads(self.hyper))
            exact = sr_models.tile_exact(self.name, json.loads(self.hyper))
            if self.sigma_width is None or not isinstance(net, SRNetwork):
                return Bound.of(net, max_bytes, tile_exact=exact)
            head = SigmaHead(net.feature_channels, net.feature_scale_to_go, width=self.sigma_width)
            return Bound.of(WithSigma(net, head), max_bytes, tile_exact=exact)


def check(
    network: Network,
    sizes: Mapping[str, tuple[int, int]],
    tiles: EvaluationConfig | TeacherConfig,
    section: str,
    max_bytes: int,
    whole_bytes: int | None = None,
) -> None:
    """Refuse the largest picture if it takes too much and nothing else can be done about it.

    Args:
        sizes: name -> height and width of each LR image.
        tiles: what the config's `section` declares.
        whole_bytes: what a picture takes that is not cut for that reason alone (`centroids.WHOLE_BYTES`); None: what it
            may take.

    Raises:
        InputError: it does not fit, neither as declared nor in tiles that change nothing; says which tile would.
    """
    if not sizes:
        return
    bound, overlap = network.bound(whole_bytes or max_bytes), tiles.tile_overlap
    if whole_bytes is not None:
        overlap = max(overlap, bound.overlap or 0)
    options = Options(tile=tiles.tile, overlap=overlap)
    crops = tiles.crops if isinstance(tiles, EvaluationConfig) else None
    if crops is not None and sr_models.spec(network.name).family == "diffusion":
        options = replace(options, crops=crops, sampling=Sampling())
    name, (height, width) = max(sizes.items(), key=lambda item: item[1][0] * item[1][1])
    try:
        chosen = bound.options(height, width, options)
    except InputError:  # not even one pixel, with all that it looks at around it
        chosen = options
    if (takes := bound.takes(height, width, chosen)) <= max_bytes:
        return
    what = f"image {name!r} ({width}x{height} LR pixels)" if tiles.tile is None else f"a tile of {tiles.tile} pixels"
    what = what if options.crops is None else f"a tile of {options.crops}"
    if not isinstance(network.scale, int):
        raise InputError(
            f"{what} takes about {takes / 1e6:,.0f} MB of {network.name} at x{network.scale}, more than "
            f"resources.max_bytes allows ({max_bytes / 1e6:,.0f} MB), and at a fraction pictures are computed whole: "
            "leave it out"
        )
    if bound.overlap is None:
        why = f"{network.name} looks at all of a picture, so tiles change what it computes"
    elif whole_bytes is None:
        why = f"tiles that change nothing would see {bound.overlap} pixels further, which does not fit either"
    else:
        why = "what a teacher makes must not depend on the memory of a machine"
    try:
        tile = replace(bound, max_bytes=max_bytes).tile(overlap)
    except InputError as error:
        raise InputError(f"resources.max_bytes: {network.name} at x{network.scale}: {error}") from None
    if crops is None:
        where = ""
    elif options.crops is None:
        where = f" in a sweep without {section}.crops, which are tiles of diffusion networks alone"
    else:
        where = f" in the place of {section}.crops"
    raise InputError(
        f"{what} takes about {takes / 1e6:,.0f} MB of {network.name} at x{network.scale}, more than "
        f"resources.max_bytes allows ({max_bytes / 1e6:,.0f} MB); {why}: declare {section}.tile={tile}{where}"
    )
