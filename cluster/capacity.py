"""How much work fits on a cluster, nodes that may still come included: pure functions of what its nodes have."""

from __future__ import annotations

from cluster.ray_runtime import LOCAL_SLOTS, TRIAL_SLOT, Resources
from sr_models.errors import InputError
from sr_models.text_table import counted


def workers_that_fit(cluster: Resources, cpus: int, gpus: float) -> int:
    """How many processes of so many CPUs and GPUs the cluster's nodes hold at a time."""
    return sum(node.holds(cpus, gpus) for node in cluster.may_have)


def trials_at_a_time(
    cluster: Resources, *, cpus: int, gpus: float, workers: int, min_workers: int | None, most: int | None
) -> int:
    """How many trials the cluster holds at a time, at least 1.

    Args:
        cpus, gpus: of one worker.
        workers: of one trial.
        min_workers: with how many of them a trial goes on; None: with all.
        most: a bound that the user set; None: none.

    Raises:
        InputError: a trial that the nodes could never hold would wait for ever; no slots for trials of several workers.
    """
    fit, needed = workers_that_fit(cluster, cpus, gpus), min_workers or workers
    if fit < needed:
        many, each = (f"{needed} workers with ", " each, and each") if needed > 1 else ("", "")
        raise InputError(
            f"resources: a trial needs {many}{counted(cpus, 'CPU')} and {counted(gpus, 'GPU')}{each} "
            f"on one node; the cluster's nodes ({len(cluster.may_have)}) have {shapes(cluster)}; name nodes that an "
            "autoscaler may start with --may-add"
        )
    trials = max(fit // workers, 1)
    if workers > 1:
        if not cluster.slots:
            raise InputError(
                f"resources.workers_per_trial: the cluster offers no {TRIAL_SLOT}; start its head with "
                f"""`ray start --head --resources='{{"{TRIAL_SLOT}": {LOCAL_SLOTS}}}'`"""
            )
        trials = min(trials, cluster.slots)
    return min(trials, most or trials)


def cores_of_largest(cluster: Resources, cpus: int, gpus: float) -> int:
    """CPUs of the largest node that holds such a worker; of those still to come only if none is up."""
    up, to_come = (
        [node.cpus for node in nodes if node.holds(cpus, gpus)] for nodes in (cluster.nodes, cluster.may_add)
    )
    return max(up or to_come)


def bytes_of_worker(cluster: Resources, cpus: int, gpus: float) -> int:
    """The least memory that a worker has of a node that is up, shared among all that it holds; 0: not known."""
    return min((node.memory // held for node in cluster.nodes if (held := node.holds(cpus, gpus))), default=0)


def shapes(cluster: Resources) -> str:
    """What the nodes have, in words, each kind once."""
    kinds = {f"{counted(node.cpus, 'CPU')} and {counted(node.gpus, 'GPU')}" for node in cluster.may_have}
    return ", ".join(sorted(kinds)) or "nothing"
