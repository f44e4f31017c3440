"""How to run a network on pictures of any size: window padding, tiles, self-ensemble, arithmetic, clamping.

The eight-fold self-ensemble ("+") is that of EDSR (https://arxiv.org/abs/1707.02921, Sec. 3.3); the rest is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sr_models.diffusion.base import Denoiser
from sr_models.diffusion.process import Level
from sr_models.errors import InputError
from sr_models.hyper.crops import CROP_RULES, CropRule, rule_of
from sr_models.hyper.sampling import Sampling
from sr_models.images.operators import check_images, pad_to_window
from sr_models.inference.canvas import off_canvas, on_canvas
from sr_models.inference.colour import fix_colour
from sr_models.inference.cropping import adaptive_crops, cut, paste
from sr_models.inference.sampling import sample
from sr_models.inference.tiling import run_tiles
from sr_models.networks.base import Network, SRNetwork
from sr_models.networks.sigma import WithSigma, without_head
from sr_models.rng import noise_field
from sr_models.scales import sr_side, whole_scale

Forward = Callable[[Tensor], tuple[Tensor, ...]]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a picture is computed; each choice may change its last digits, so scores record them.

    Attributes:
        precision: arithmetic of convolutions and matrix products; "fp32" never means TF32. The result is float32.
        channels_last: memory layout of the activations, faster on recent GPUs.
        compile: through `torch.compile`; the first picture of a size waits for the compiler.
        tile: side, in LR pixels, of the parts that a picture is computed in, one at a time, and gathered on the CPU;
            None computes it whole. `sr_models.inference.bound` finds one that fits a memory bound.
        overlap: LR pixels that a tile looks beyond its part, on each side. There is no seam where the network looks no
            further; one that pools over the whole picture (IMDN's attention) sees the tile instead.
        self_ensemble: the mean over the eight flips and quarter turns of the input; eight times the work.
        sampling: how a diffusion network draws the picture; None for one that has no use for it.
        crops: a paper's own tiles of a diffusion network, by their name in `CROP_RULES`, in the place of `tile`.
    """

    precision: Literal["fp32", "bf16"] = "fp32"
    channels_last: bool = False
    compile: bool = False
    tile: int | None = None
    overlap: int = 32
    self_ensemble: bool = False
    sampling: Sampling | None = None
    crops: str | None = None

    def __post_init__(self) -> None:
        if self.precision not in ("fp32", "bf16"):
            raise InputError(f"precision must be 'fp32' or 'bf16', got {self.precision!r}")
        if (self.tile is not None and self.tile < 1) or self.overlap < 0:
            raise InputError(f"a tile needs a side >= 1 and an overlap >= 0, got {self.tile} and {self.overlap}")
        if self.sampling is not None and self.self_ensemble:
            raise InputError("self_ensemble is for networks of one pass: of drawn pictures the mean is another picture")
        if self.crops is not None and (self.crops not in CROP_RULES or self.sampling is None or self.tile is not None):
            names = ", ".join(CROP_RULES)
            raise InputError(f"crops is one of {names}, of a diffusion network without a tile, got {self.crops!r}")

    @property
    def marks(self) -> str:
        """What a score's protocol id ends with: `+tile96o8+x8+bf16`; "" for whole pictures, once, in fp32.

        Two words tell rows from older ones: `lrtiles`, where an enlarged LR is cut and tiles were counted in
        its own pixels, and `symmetric`, where the plain name had the released weights.
        """
        tiles = "" if self.tile is None else f"+tile{self.tile}o{self.overlap}"
        if self.crops is not None:
            tiles += f"+{self.crops}" + "symmetric" * (CROP_RULES[self.crops].fused == "gaussian")
        drawn = "" if self.sampling is None else f"+{self.sampling.mark}"
        if tiles and self.sampling is not None and self.sampling.canvas is not None:
            drawn += "lrtiles"
        precision = "" if self.precision == "fp32" else f"+{self.precision}"
        return drawn + tiles + "+x8" * self.self_ensemble + precision

    @property
    def columns(self) -> dict[str, Any]:
        """As rows have them: each choice, and those of `sampling` beside them where there is one."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        sampling, crops = own.pop("sampling"), own.pop("crops")
        return own if sampling is None else own | {"crops": crops} | sampling.model_dump()

    @property
    def crop_rule(self) -> CropRule | None:
        """How a diffusion network's picture is cut, if it is.

        In LR pixels: on a canvas each is as many of the enlarged LR's as the scale says.
        """
        return rule_of(self.crops, self.tile, self.overlap)


@dataclass(frozen=True)
class Output:
    """What a network makes of LR images.

    sr: (B, 3, H * scale, W * scale), by `sr_side`, float32 in [0, 1]. sigma: the predicted spread at the same size, or
    None. sigma_constant: the best constant in sigma's place on the training images, or None where it is not known.
    """

    sr: Tensor
    sigma: Tensor | None = None
    sigma_constant: float | None = None


@torch.no_grad()
def super_resolve(
    model: Network | WithSigma, lr_BCHW: Tensor, *, seeds: Sequence[int] = (0,), options: Options = Options()
) -> Output:
    """Enlarge a batch of LR images; the model's training mode is restored afterwards.

    Args:
        model: on the device where `lr_BCHW` lies.
        lr_BCHW: (B, 3, H, W) float RGB in [0, 1], any H and W.
        seeds: of a stochastic network's noise: one for each image of the batch, or one for all. An image's noise
            depends on its seed and its size alone, whatever the batch, the tiles or the ensemble. Deterministic
            networks ignore them.
        options: arithmetic, tiles, self-ensemble; how to sample, which a diffusion network must be told. Tiled results
            lie on the CPU, others where the input does.

    Raises:
        ValueError: `lr_BCHW` is not a batch of float RGB images, `seeds` is neither one nor one an image, or sampling
            is missing or out of place.
        InputError: of a diffusion network, as `sr_models.inference.sampling.sample`; of any, tiles at a fraction.
    """
    check_images(lr_BCHW, "lr")
    if len(seeds) not in (1, len(lr_BCHW)):
        raise ValueError(f"super_resolve needs one seed, or one for each of {len(lr_BCHW)} images, got {len(seeds)}")
    net = without_head(model)
    if isinstance(net, Denoiser) != (options.sampling is not None):
        raise ValueError(f"sampling goes with diffusion networks, got {options.sampling!r} for {type(net).__name__}")
    bf16 = torch.autocast(lr_BCHW.device.type, torch.bfloat16, enabled=options.precision == "bf16")
    if isinstance(net, Denoiser):
        with eval_mode(model), exact_arithmetic(), bf16:
            return Output(_drawn(net, lr_BCHW, seeds, options))
    assert isinstance(net, SRNetwork)
    x_BCHW = with_noise(lr_BCHW, seeds, net.noise_channels) if net.noise_channels else lr_BCHW
    run = torch.compile(model) if options.compile else model
    forward: Forward = partial(_forward, run, net, channels_last=options.channels_last)
    if options.self_ensemble:
        forward = partial(_self_ensemble, forward)
    whole = partial(_clamped, forward)
    with eval_mode(model), exact_arithmetic(), bf16:
        if options.tile is None:
            sr, *sigma = whole(x_BCHW)
        else:
            tiling = {"tile": options.tile, "overlap": options.overlap, "step": net.window}
            sr, *sigma = run_tiles(whole, x_BCHW, scale=whole_scale(net.scale), **tiling)
    if not isinstance(model, WithSigma):
        return Output(sr)
    return Output(sr, sigma[0], sigma_constant=model.head.constant)


def _drawn(net: Denoiser, lr_BCHW: Tensor, seeds: Sequence[int], options: Options) -> Tensor:
    """A diffusion network's pictures, clamped."""
    module = torch.compile(net) if options.compile else net
    layout = torch.channels_last if options.channels_last else torch.contiguous_format

    def run(condition: Tensor, state_BCHW: Tensor, level: Level) -> Tensor:
        out: Tensor = module(condition, state_BCHW.contiguous(memory_format=layout), level)
        return out

    assert options.sampling is not None
    own, x, scale = [sr_side(side, net.scale) for side in lr_BCHW.shape[2:]], lr_BCHW, net.scale
    crops = options.crop_rule
    if options.sampling.canvas is not None:
        x, scale = on_canvas(lr_BCHW, net.scale), 1
        crops = None if crops is None else crops.times(whole_scale(net.scale))
    sr = sample(net, run, x, seeds=seeds, sampling=options.sampling, crops=crops, scale=scale)
    if options.sampling.colour_fix is not None:
        sr = fix_colour(options.sampling.colour_fix, sr, x)
    sr = sr.clamp(0, 1).contiguous()
    return sr if options.sampling.canvas is None else off_canvas(sr, *own)


def with_noise(lr_BCHW: Tensor, seeds: Sequence[int], channels: int) -> Tensor:
    """Whole pictures with their noise behind the colours: padding, tiles and the self-ensemble treat both alike.

    Args:
        seeds: one for each picture, or one for all.

    Returns:
        (B, 3 + channels, H, W).
    """
    fields = [torch.from_numpy(noise_field(seed, (channels, *lr_BCHW.shape[2:]))) for seed in seeds]
    noise_BCHW = torch.stack(fields).to(lr_BCHW).expand(len(lr_BCHW), -1, -1, -1)
    return torch.cat([lr_BCHW, noise_BCHW], 1)


def _forward(
    run: Callable[[Tensor], Tensor | tuple[Tensor, Tensor]], net: SRNetwork, lr_BCHW: Tensor, *, channels_last: bool
) -> tuple[Tensor, ...]:
    """One pass on a picture made to fit as `net.fit` says: (sr,) or (sr, sigma), float32, not clamped."""
    height, width = lr_BCHW.shape[2:]
    crops = adaptive_crops(height, width, multiple=net.window) if net.fit == "crop" else []
    x = cut(lr_BCHW, crops) if crops else pad_to_window(lr_BCHW, net.window, always=net.fit == "pad_more")
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    result = run(x)
    parts = [part.float() for part in (result if isinstance(result, tuple) else (result,))]
    if crops:
        return tuple(paste(part, crops, whole_scale(net.scale)) for part in parts)
    return tuple(part[..., : sr_side(height, net.scale), : sr_side(width, net.scale)] for part in parts)


def _self_ensemble(forward: Forward, lr_BCHW: Tensor) -> tuple[Tensor, ...]:
    """The mean of eight passes, each on a flipped or turned picture and turned back."""
    sums: list[Tensor] = []
    for turns in range(4):
        for flip in ([], [3]):
            parts = forward(lr_BCHW.flip(flip).rot90(turns, (2, 3)))
            upright = [part.rot90(-turns, (2, 3)).flip(flip) for part in parts]
            sums = [a + b for a, b in zip(sums, upright, strict=True)] if sums else upright
    return tuple(total / 8 for total in sums)


def _clamped(forward: Forward, lr_BCHW: Tensor) -> tuple[Tensor, ...]:
    sr, *sigma = forward(lr_BCHW)
    return sr.clamp(0, 1).contiguous(), *(each.contiguous() for each in sigma)


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """On a GPU: fp32 means fp32 (TF32 turns 1e-5 differences into 1e-2), and cuDNN adds in a fixed order."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic
    matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic = False, False, True
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic = before


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; every submodule gets its own mode back, also after an error."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
