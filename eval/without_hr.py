"""A network's pictures of LR images that have no HR: metrics that need none, in the same report. Ours, no paper."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from eval.benchmarks import joined
from eval.metrics.scorer import Scorer
from eval.report import Evaluation, model_report
from eval.rows import Subject
from eval.score import Row, sample, score_pixels
from sr_models.command import say
from sr_models.errors import InputError
from sr_models.images.files import files_below, find_images, read_image, unread_text
from sr_models.networks.base import Network, parameters
from sr_models.networks.sigma import WithSigma, without_head


def score_lr(
    model: Network | WithSigma,
    lr: Path,
    *,
    subject: Subject,
    globs: tuple[Sequence[str], Sequence[str]],
    name: str,
    scorer: Scorer,
    metrics: Sequence[str],
    save_in: Path | None,
    strict: bool,
) -> Evaluation:
    """Super-resolve every image of a folder, on the device that holds the model, and measure what can be without HR.

    Args:
        subject: whose rows these are: name of the set, seed, options, weights.
        globs: (include, exclude) on LR's file names.
        name: what the report calls the model.
        scorer, metrics, save_in: as for `eval.report.score_model`.
        strict: a refused picture is an error; else it is named in the report, and the rest goes on.

    Raises:
        InputError: a folder that is missing or empty; no picture that can be measured.
    """
    files = find_images(lr, *globs)
    if line := unread_text(files_below(lr), *globs):
        say(f"{lr}: {line}")
    scale, draws, seed, options = scorer.scale, scorer.protocol.draws, subject.seed, subject.options
    run = partial(sample, model, draws=draws, seed=seed, options=options, lr_noise=scorer.protocol.lr_noise)
    rows: list[Row] = []
    refused: list[str] = []
    for index, file in enumerate(files):
        image = file.relative_to(lr).with_suffix("").as_posix()
        about = {"benchmark": subject.benchmark, "image": image, "index": index, "images": len(files), "scale": scale}
        try:
            scored = score_pixels(
                run, read_image(file), None, about={**about, "kernel": "files"}, where=str(file), scorer=scorer,
                draws=draws, seed=seed, options=options, save_in=save_in,
            )  # fmt: skip
        except InputError as error:
            if strict:
                raise
            refused.append(str(error))
            continue
        rows.append(scored.row)
    if not rows:
        more = f" (and {len(refused) - 1} more refused; nothing was measured)" if len(refused) > 1 else ""
        raise InputError(refused[0] + more)
    return model_report(
        rows,
        metrics,
        name=name,
        parameters=parameters(without_head(model)),
        weights_sha256=subject.weights_sha256,
        lr_sha256=None if refused else joined({row["image"]: row["lr_sha256"] for row in rows}),
        options=options,
        refused=refused,
        trained_scale=subject.identity.trained_scale,
    )
