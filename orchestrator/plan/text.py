"""What a plan says of itself before anything starts: its rows, its scoring and its cost, as `--dry-run` prints them."""

from __future__ import annotations

import itertools
from fractions import Fraction

import sr_models
from orchestrator.plan.config import SweepConfig
from orchestrator.plan.cost import (
    FORWARDS,
    GPU_FLOPS,
    Network,
    calls_of_step,
    duration,
    forwards,
    gpu_hours,
    passes,
    wall_seconds,
)
from orchestrator.plan.plan import Plan, only_at, teacher_train
from orchestrator.plan.plugins import used
from orchestrator.plan.space import STEPS
from sr_models.plugins import plugins_text
from sr_models.text_table import counted

_SIDE = 128
"""Of the picture that shows what drawing one takes, in HR pixels: how large test images are is not known yet."""


def plan_text(plan: Plan, cores: int, gpus: float = 0) -> str:
    """The plan in lines.

    Args:
        cores, gpus: in use at a time, that the wall time is estimated for: on CPU where there are no GPUs.
    """
    config, lines = plan.config, []
    lines.append(
        f"sweep {config.run_name}: {counted(len(plan.combinations), 'combination')}, "
        f"{counted(plan.trials, 'search trial')}, {counted(len(plan.combinations) * config.seeds, 'full run')} with "
        f"{counted(config.seeds, 'other seed')}"
    )
    lines.append(
        f"  a full run: {config.train.steps} steps, {counted(config.train.batch_size, 'patch', 'patches')} of "
        f"{_patches(config)}; rungs at {', '.join(map(str, plan.rungs)) or 'none'}"
    )
    if plan.trials and len(config.search.metrics) > 1:
        first, halved_by = config.search.metrics[0], config.search.halved_by
        stopped = f"trials are stopped by {halved_by}" if halved_by else "no trial is stopped early"
        lines.append(
            f"  searches are for the front of {', '.join(config.search.metrics)}; {stopped}; the best by {first} runs "
            "in full"
        )
    if plan.teacher_scales and config.teacher is not None:
        given = [weights.shown for s in plan.teacher_scales if (weights := config.teacher.at(s))]
        steps = 0 if given else teacher_train(config, plan.teacher_scales[0]).steps
        source = ", ".join(dict.fromkeys(given)) or f"{config.teacher.model}, trained here for {steps} steps"
        lines.append(f"  teacher at {', '.join(f'x{s}' for s in plan.teacher_scales)}: {source}")
    parts = {(c.label, name, weights.shown): None for c in plan.combinations for name, weights in c.parts.items()}
    lines += [f"  {label} stands on the {name} {shown}" for label, name, shown in parts]
    lines += [
        f"  {label} has no prompt: a seeded stand-in takes its place, which means nothing"
        for label in dict.fromkeys(c.label for c in plan.combinations if c.lacks_prompt)
    ]
    lines += [f"  by plug-ins: {plugins_text(stamps)}"] if (stamps := used(plan)) else []
    width = max(len(c.id) for c in plan.combinations) if plan.combinations else 0
    for c in plan.combinations:
        searched = f"{c.trials} trials of {', '.join(c.axes.ranges)}" if c.trials else "nothing to search"
        searched += "" if c.gives_sr else "; gives no SR, so it is trained and not scored"
        if c.train.scales is not None:
            searched += f"; steps at x{c.train.scales.low:g} to x{c.train.scales.high:g}, LR made from HR in each"
        if sr_models.spec(c.network).hyper.parse(c.hyper, c.label).latents is not None:
            why = c.train.encodes(c.spec)
            searched += f"; each step encodes ({why})" if why else "; on latents that are made once"
        searched += f"; after {' and '.join(c.after)}, fingerprints known once trained" if c.after else ""
        lines.append(f"  {c.id:{width}}  {searched}")
    lines += [f"  skipped {name}: {reason}" for name, reason in plan.skipped]
    lines += [
        f"  not scored on {name} x{scale}: {', '.join(ids)}, whose weights {only_at(scale)}"
        for (name, scale), ids in plan.unscored.items()
    ]
    lines += [
        f"  {c.id} on {name}: {beyond}"
        for c in plan.combinations
        for name, source in config.data.test.items()
        if c.gives_sr and c.takes(source)
        if (beyond := sr_models.check(c.network, c.scale, c.hyper).beyond(source.scale or c.scale))
    ]
    tile, overlap = config.evaluation.tile, config.evaluation.tile_overlap
    tiles = f" in tiles of {tile} px that see {overlap} further" if tile else ""
    tiles += f", drawn in tiles of {config.evaluation.crops}" if config.evaluation.crops else ""
    ceilings = (
        " and the ceiling of each autoencoder"
        if any(c.gives_sr and "autoencoder" in c.parts for c in plan.combinations)
        else ""
    )
    lines.append(
        f"  scored on {', '.join(_tests(config))} by {', '.join(config.evaluation.metrics)} "
        f"({config.evaluation.protocol} protocol{tiles}), beside bicubic{ceilings}"
    )
    lines += _sampling(plan)
    lines += _time(plan, cores, gpus)
    if config.paper:
        lines.append(f"  printed numbers beside them: {_printed(plan)}, of {config.paper.source}")
    return "\n".join(lines)


def _time(plan: Plan, cores: int, gpus: float) -> list[str]:
    """How long all trials take on what there is, in lines."""
    hours = gpu_hours(plan)
    shown = "under 0.1" if hours < 0.1 else f"{hours:,.0f}" if hours >= 10 else f"{hours:.1f}"
    speed = (
        f"one that sustains {GPU_FLOPS / 1e12:.0f} TFLOP/s, as a Titan RTX does (good to a factor of 3; newer ones are "
        "not measured, and may be faster)"
    )
    if gpus:
        wall = f"{duration(hours * 3600 / gpus)} on {gpus:g} GPU{'s'[: gpus != 1]}"
        return [f"  estimated {wall} if no trial is stopped early: {shown} GPU-hours on {speed}"]
    seconds = wall_seconds(plan, cores)
    return [
        f"  estimated {duration(seconds)} on {cores} CPU core{'s'[: cores != 1]} if no trial is stopped early (good to "
        "a factor of 2)",
        f"  or {shown} GPU-hours on {speed}",
    ]


def _tests(config: SweepConfig) -> list[str]:
    """The test sets, each with its scale where it has one of its own."""
    return [name if s.scale is None else f"{name} x{s.scale}" for name, s in config.data.test.items()]


def _patches(config: SweepConfig) -> str:
    """The side of the patches that `train` cuts."""
    side = config.train.hr_patch
    if side is None:
        return f"{config.train.patch} px"
    return f"{side} HR px ({', '.join(f'{side // scale} at x{scale}' for scale in config.scales)})"


def _sampling(plan: Plan) -> list[str]:
    """What a step and drawing pictures take, where there are diffusion networks."""
    lines: dict[str, None] = {}
    measured = plan.config.validation.measured
    for c in (c for c in plan.combinations if c.process):
        scored, seen = passes(plan, c, evaluated=True), passes(plan, c)
        name = f"{c.label}/{c.objective}" + (f"[{STEPS}={c.steps}]" if c.steps else "")
        seconds = Network.of(plan, c).picture_flops(scored, _SIDE) / GPU_FLOPS
        forward, backward = calls_of_step(c.spec)
        if c.spec.chain is not None:
            lines[f"  a step of {name} takes {forward} forward of a frozen chain, and two updates behind it"] = None
        elif forwards(c.spec) != FORWARDS:
            cost = Fraction(forwards(c.spec), FORWARDS)
            lines[f"  a step of {name} takes {forward} forward and {backward} backward, {cost} of a plain one"] = None
        lines[
            f"  {name} draws a picture in {counted(scored, 'pass', 'passes')}, in {seen} for a validation; evaluation, "
            f"which is in no estimate, takes about {seconds:.2g} GPU-seconds for one of {_SIDE}x{_SIDE} HR pixels"
        ] = None
    if lines and (measured.images is None or measured.crop is None):
        lines["  validations are not in the estimate: give validation.images and validation.crop"] = None
    return list(lines)


def _printed(plan: Plan) -> int:
    """How many of the paper's numbers stand beside a number of this plan."""
    config, paper = plan.config, plan.config.paper
    if paper is None:
        return 0
    rows = [*(c.id for c in plan.combinations), *(f"x{scale}/bicubic/-" for scale in config.scored_scales)]
    cells = itertools.product(rows, config.data.test, config.evaluation.metrics)
    costs = sum((row in paper.parameters) + (row in paper.seconds) for row in rows)
    return sum(paper.score(*cell) is not None for cell in cells) + costs
