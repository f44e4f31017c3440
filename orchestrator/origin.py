"""What a run is made of, written beside its results: a run goes on only with what it was started with."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from eval.benchmarks import Benchmark
from orchestrator import report
from orchestrator.config import NUMERICS_VERSION
from orchestrator.plan import Plan
from orchestrator.rundir import RunDir, read_json, write_json
from sr_models.errors import InputError


def write_plan(
    run: RunDir,
    plan: Plan,
    *,
    data_hash: str,
    benchmarks: Mapping[tuple[str, int], Benchmark],
    inits: Mapping[tuple[str, int], str],
    teachers: Mapping[int, str],
) -> None:
    """Write RUN/plan.json: the combinations, and the hashes of everything that they are computed from.

    Args:
        inits: (model's label, scale) -> sha256 of the weights that it starts from.
        teachers: scale -> sha256 of the weights; {} before they are known, which keeps what is written.

    Raises:
        InputError: images, benchmarks, weights or the numbers' meaning have changed since the run started.
    """
    metric = plan.config.search.metric
    origin = {
        "data_hash": data_hash,
        "benchmarks": {f"{name} x{scale}": bench.hash for (name, scale), bench in benchmarks.items()},
        "numerics_version": NUMERICS_VERSION,
        "inits": {f"{label} x{scale}": sha for (label, scale), sha in inits.items()},
        "teachers": {f"x{scale}": sha for scale, sha in teachers.items()},
    }
    before = read_json(run.plan) if run.plan.exists() else {}
    for key, now in origin.items():
        if before.get(key) and now and before[key] != now:
            what = key.replace("_", " ")
            raise InputError(f"{what} changed since {run.name} was started; take another name or --output")
    origin["teachers"] = origin["teachers"] or before.get("teachers", {})
    write_json(
        run.plan,
        {
            **origin,
            "name": plan.config.name,
            "run": run.name,
            "config_hash": plan.config.hash,
            "git_commit": git_commit(),
            "metric": {"name": metric, "higher_is_better": report.higher_is_better(metric)},
            "protocol": plan.config.evaluation.protocol,
            "combinations": [
                {
                    "id": one.id,
                    "model": one.label,
                    "objective": one.objective_label,
                    "target": one.spec.target.kind,
                    "loss": one.spec.loss.kind,
                    "scale": one.scale,
                    "trials": one.trials,
                    "searched": [*one.axes.search, *one.axes.grid],
                    "parameters": report.parameters(one),
                }
                for one in plan.combinations
            ],
        },
    )


def git_commit() -> str | None:
    """The commit of the code that runs, with `+changes` if files differ from it; None outside a checkout of ours."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False).stdout.strip()

    commit = git("rev-parse", "HEAD")
    return f"{commit}{'+changes' if git('status', '--porcelain', '--untracked-files=no') else ''}" if commit else None
