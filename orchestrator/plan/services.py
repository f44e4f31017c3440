"""What a sweep talks to besides its run folder, and how to speak of it without giving away a password."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sr_models.errors import InputError

OUTPUT_IN_A_JOB = "~/sr-runs"
"""Where run folders go in a Ray job, whose own folder is a copy that the next job does not see."""


@dataclass(frozen=True, kw_only=True)
class Services:
    """Cluster, shared storage and databases of one sweep; None stands for the local default."""

    address: str | None = None
    """Ray cluster: host:port or auto."""
    tracking_uri: str
    """MLflow store."""
    storage: str | None = None
    """URI below which runs live when nodes share no disk."""
    studies_uri: str | None = None
    """Optuna storage."""
    may_add: str | None = None
    """Nodes that an autoscaler may start (`cluster.ray_runtime.parse_growth`)."""
    allow_anonymous: bool = False


def add_cluster_options(made: argparse._ActionsContainer) -> None:
    """The options that say which Ray cluster a command runs on; `cluster_of` reads them."""
    made.add_argument(
        "--address", metavar="HOST:PORT", help="a Ray cluster, or auto (default: $RAY_ADDRESS, else start a local one)"
    )
    made.add_argument(
        "--may-add", metavar="NxCPUS+GPUS", help="nodes an autoscaler may start, such as 8x16+1 ($SR_MAY_ADD)"
    )
    made.add_argument("--allow-anonymous", action="store_true", help="join a cluster that asks nobody for a token")


def cluster_of(given: argparse.Namespace) -> dict[str, Any]:
    """What `add_cluster_options` was given, and the environment where it was not: arguments of `connect`."""
    return {
        "address": from_environment(given.address, "RAY_ADDRESS"),
        "may_add": from_environment(given.may_add, "SR_MAY_ADD"),
        "allow_anonymous": given.allow_anonymous,
    }


def in_ray_job() -> bool:
    """Whether this process runs in the folder that `ray job submit --working-dir` unpacked."""
    return "/runtime_resources/working_dir_files/" in str(Path.cwd())


def output_folder(given: Path | None) -> Path:
    """Where run folders go.

    Raises:
        InputError: in a Ray job, a folder that would be gone with the job's files.
    """
    if not in_ray_job():
        return given or Path("runs")
    if given is None:
        return Path(OUTPUT_IN_A_JOB).expanduser()
    if not given.expanduser().is_absolute():
        raise InputError(
            f"--output: {str(given)!r} lies in the job's own copy of the working directory, which the next job does "
            f"not see; give an absolute folder (default in a job: {OUTPUT_IN_A_JOB})"
        )
    return given.expanduser()


def from_environment(given: str | None, name: str) -> str | None:
    """An option's value, or what the environment says where it was not given; an empty one counts as none."""
    return given or os.environ.get(name) or None
