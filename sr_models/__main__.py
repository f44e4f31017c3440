"""`python -m sr_models list`: every network with its size beside the papers', and its cost; imports no torch.

`python -m sr_models prompt`: a frozen part that no file of Stable Diffusion's holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import sr_models
from sr_models import MODELS
from sr_models.command import EXIT_DONE, Parser, run_command
from sr_models.prompt import write_prompt
from sr_models.published_counts import SIZES, Size, agrees
from sr_models.text_table import aligned

PROG = "python -m sr_models"
PIXELS_720P = 1280 * 720
COLUMNS = ("name", "variant", "family", "scale", "parameters", "printed", "mult-adds 720p", "paper")


def rows() -> Iterator[dict[str, Any]]:
    """One row per model, variant and scale, in the order of `MODELS`.

    `multiply_adds_720p` is of one forward pass that gives 1280x720 pixels; `agrees` is None where nothing is printed,
    `parameters` where a plug-in does not count them. `plugin`: its distribution and version, of a plug-in's alone.
    """
    for name, spec in MODELS.sound()[0].items():
        for size in [size for size in SIZES if size.model == name] or [Size(model=name)]:
            for scale, count in (size.counts or spec.counts or dict.fromkeys(spec.scales)).items():
                printed = size.printed.get(scale)
                same = None if printed is None or count is None else agrees(count, printed)
                yield {
                    "name": name,
                    "variant": dict(size.hyper),
                    "family": spec.family,
                    "scale": scale,
                    "parameters": count,
                    "printed": printed,
                    "agrees": same,
                    "differs": size.differs if same is False else None,
                    "multiply_adds_720p": sr_models.multiply_adds(name, scale, size.hyper) * PIXELS_720P / scale**2,
                    "paper": spec.paper,
                    **({"plugin": MODELS.added[name]} if name in MODELS.added else {}),
                }


def table() -> str:
    """The rows as text; what repeats from the line above is left out, a printed count that disagrees gets a `*`."""
    lines: list[tuple[str, ...]] = [COLUMNS]
    notes: dict[str, None] = {}
    last: tuple[str, str] | None = None
    for row in rows():
        variant = ", ".join(f"{key}={_text(value)}" for key, value in row["variant"].items())
        new_model = last is None or last[0] != row["name"]
        new_variant = new_model or last != (row["name"], variant)
        last = row["name"], variant
        if row["agrees"] is False:
            notes[f"* {' '.join(filter(None, last))}: {row['differs']}"] = None
        if "plugin" in row:
            notes[f"{row['name']}: by the plug-in {row['plugin']}"] = None
        lines.append((
            row["name"] if new_model else "",
            variant if new_variant else "",
            row["family"] if new_model else "",
            f"x{row['scale']}",
            "-" if row["parameters"] is None else f"{row['parameters']:,}",
            (row["printed"] or "-") + ("*" if row["agrees"] is False else ""),
            f"{row['multiply_adds_720p'] / 1e9:,.1f} G" if row["multiply_adds_720p"] else "-",
            row["paper"] if new_model else "",
        ))  # fmt: skip
    words = {i for i, name in enumerate(COLUMNS) if name not in ("parameters", "printed", "mult-adds 720p")}
    return "\n".join([*aligned(lines, left=words), "", *notes, *MODELS.sound()[1]])


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return "+".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, or 2 for input that cannot be used."""
    return run_command(PROG, _run, argv)


def _run(argv: Sequence[str]) -> int:
    parser = Parser(prog=PROG, description="The networks of sr_models.")
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="every network: scales, parameters, multiply-adds, paper")
    listing.add_argument("--json", action="store_true", help="one JSON list, a row per model, variant and scale")
    prompt = commands.add_parser("prompt", help="the empty prompt's embedding, a part of latent_unet and ccsr")
    prompt.add_argument("folder", type=Path, metavar="SD_FOLDER", help="of diffusers': tokenizer/, text_encoder/")
    prompt.add_argument("out", type=Path, metavar="OUT", help="safetensors file to write")
    given = parser.parse_args(argv)
    if given.command == "prompt":
        shape, sha256 = write_prompt(given.folder, given.out)
        print(f"{given.out}: {shape}, sha256 {sha256}")
        return EXIT_DONE
    print(json.dumps(list(rows()), indent=2) if given.json else table())
    return EXIT_DONE


if __name__ == "__main__":
    raise SystemExit(main())
