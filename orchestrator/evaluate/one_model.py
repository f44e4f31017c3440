"""`python -m orchestrator.evaluate --model`: one set of weights on one test set, its rows kept in a folder.

Beside that folder lies what it shares with others, as with run folders: by default both are in the output of sweeps.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import sr_models
from eval import command
from eval.benchmarks import joined
from eval.request import ModelRequest
from eval.rows import read_keys
from orchestrator.evaluate.on_cluster import PROG, PoolOptions, bring_rows, one_at_a_time, report
from orchestrator.plan.services import output_folder
from orchestrator.plan.sources import BenchmarkSource
from orchestrator.run.folder import RunDir
from sr_models.errors import InputError
from sr_models.files import replacing, write_text


def score_model(request: ModelRequest, output: Path | None, pool: PoolOptions) -> None:
    """Score a model's pictures on workers, leave the rows in `output` and print the report.

    Raises:
        InputError: what workers cannot do, or cannot read; no image could be scored.
    """
    for option, folder in (("--save-images", request.save_images), ("--pictures", request.pictures)):
        if folder is not None:
            raise InputError(f"{option} goes with python -m eval, not with workers")
    if request.kernel is not None:
        raise InputError("--kernel goes with python -m eval; for workers, give LR files with --lr")
    if request.weights_key is not None:
        raise InputError("--weights-key goes with python -m eval; for workers, save that part as a file of its own")
    if request.hr is None:
        raise InputError("--hr is needed; python -m eval measures a network's pictures of --lr without HR images")
    command.prepare_outputs(request)
    command.caution(request)
    from eval.asked import load as load_asked

    asked = load_asked(request)
    bench, subject = asked.benchmark, asked.subject
    assert bench is not None
    name = f"eval-{request.model}-x{request.scale}-{bench.name}"
    run = RunDir((output_folder(output) / ("" if output else name)).absolute())
    if run.plan.exists():
        raise InputError(f"--output: {run.path} is the run folder of a sweep; score its trials with --run")

    from orchestrator.evaluate.work import Job, plan, weights_folder
    from orchestrator.run.access import LocalAccess
    from sr_models.networks.base import parameters

    try:
        run.make()
    except OSError as error:
        raise InputError(f"--output: {run.path} cannot be written ({error.strerror})") from None
    run.refuse_links()
    with one_at_a_time(run, "--output"):
        if not run.config.exists():
            write_text(run.config, f"# rows of {PROG}\n")
        for sha256, file in asked.parts.items():
            with replacing(run.init(sha256)) as part:
                shutil.copyfile(file, part)
        access = LocalAccess(run.path)
        job = Job(
            subject=subject,
            checkpoint=str(request.weights.absolute()) if request.weights else None,
            source=BenchmarkSource(
                hr=str(request.hr.absolute()),
                lr=str(request.lr.absolute()) if request.lr else None,
                include=request.include,
                exclude=request.exclude,
            ),
            protocol=request.protocol,
            metrics=request.metrics,
            weights_dir=weights_folder(request.weights_dir),
        )
        planned = plan([job], {(bench.name, request.scale): bench}, access, strict=request.strict)
        refused = bring_rows(planned, access, pool, strict=request.strict)
        lr_sha256 = None if planned[0].refused else joined({one.name: one.lr_sha256 for one in planned[0].pictures})
        there, size = read_keys(run.evaluation), parameters(asked.model)
        called = sr_models.called(request.model, json.loads(subject.hyper))
        result = report(planned[0], access, there, request.metrics, called, size, refused, lr_sha256)
    command.show(request, result, subject)
