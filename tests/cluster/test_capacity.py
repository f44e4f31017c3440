"""What fits on a cluster: arithmetic on the shapes of nodes, no Ray."""

import pytest

from cluster.capacity import bytes_of_worker, cores_of_largest, shapes, trials_at_a_time, workers_that_fit
from cluster.ray_runtime import Node, Resources
from sr_models.errors import InputError


def cluster(*shapes: tuple[int, int], may_add: tuple[tuple[int, int], ...] = (), slots: int = 64) -> Resources:
    """A cluster of nodes with so many (CPUs, GPUs)."""
    up, to_come = (
        tuple(Node(address=f"192.0.2.{i}", cpus=cpus, gpus=gpus) for i, (cpus, gpus) in enumerate(side))
        for side in (shapes, may_add)
    )
    total = [sum(side) for side in zip(*shapes, strict=True)] or [0, 0]
    return Resources(cpus=total[0], gpus=total[1], nodes=up, may_add=to_come, slots=slots)


@pytest.mark.parametrize(
    ("nodes", "cpus", "gpus", "fit"),
    [
        (cluster((8, 0)), 1, 0, 8),
        (cluster((8, 0)), 3, 0, 2),
        (cluster((8, 0), (4, 0)), 3, 0, 3),
        (cluster((8, 2)), 1, 1, 2),
        (cluster((8, 2)), 1, 0.5, 4),
        (cluster((8, 2)), 1, 0.3, 6),
        (cluster((2, 4)), 2, 1, 1),
        (cluster((8, 1), (8, 1)), 1, 2, 0),
        (cluster((1, 0), may_add=((4, 0), (4, 0))), 2, 0, 4),
        (cluster(), 1, 0, 0),
    ],
)
def test_workers_fit_node_by_node(nodes: Resources, cpus: int, gpus: float, fit: int) -> None:
    assert workers_that_fit(nodes, cpus, gpus) == fit


def test_a_worker_has_its_share_of_the_poorest_node_that_takes_it() -> None:
    nodes = (Node(address="a", cpus=8, gpus=0, memory=800), Node(address="b", cpus=2, gpus=0, memory=100))
    found = Resources(cpus=10, gpus=0, nodes=nodes)
    assert [bytes_of_worker(found, cpus, 0) for cpus in (1, 2, 4, 9)] == [50, 100, 400, 0]


@pytest.mark.parametrize(
    ("nodes", "cpus", "workers", "min_workers", "most", "trials"),
    [
        (cluster((8, 0)), 2, 1, None, None, 4),
        (cluster((8, 0)), 2, 1, None, 3, 3),
        (cluster((8, 0)), 2, 1, None, 9, 4),
        (cluster((8, 0), (8, 0)), 2, 4, None, None, 2),
        (cluster((8, 0), (8, 0), slots=1), 2, 4, None, None, 1),
        (cluster((4, 0)), 2, 4, 2, None, 1),  # fewer than its full number, and it goes on with them
        (cluster((8, 0), slots=0), 2, 1, None, None, 4),  # trials of one worker need no slot
    ],
)
def test_trials_at_a_time(
    nodes: Resources, cpus: int, workers: int, min_workers: int | None, most: int | None, trials: int
) -> None:
    found = trials_at_a_time(nodes, cpus=cpus, gpus=0, workers=workers, min_workers=min_workers, most=most)
    assert found == trials


@pytest.mark.parametrize(
    ("nodes", "workers", "said"),
    [
        (
            cluster((2, 0), (2, 0), (1, 1)),
            1,
            "resources: a trial needs 4 CPUs and 0 GPUs on one node; the cluster's nodes (3) have 1 CPU and 1 GPU, "
            "2 CPUs and 0 GPUs; name nodes that an autoscaler may start with --may-add",
        ),
        (
            cluster((4, 0)),
            2,
            "resources: a trial needs 2 workers with 4 CPUs and 0 GPUs each, and each on one node; the cluster's nodes "
            "(1) have 4 CPUs and 0 GPUs; name nodes that an autoscaler may start with --may-add",
        ),
        (
            cluster((8, 0), slots=0),
            2,
            "resources.workers_per_trial: the cluster offers no trial_slot; start its head with "
            "`ray start --head --resources='{\"trial_slot\": 64}'`",
        ),
    ],
)
def test_a_trial_that_could_never_start_is_refused(nodes: Resources, workers: int, said: str) -> None:
    with pytest.raises(InputError) as refused:
        trials_at_a_time(nodes, cpus=4, gpus=0, workers=workers, min_workers=None, most=None)
    assert str(refused.value) == said


def test_the_largest_node_that_is_up_comes_before_larger_ones_to_come() -> None:
    assert cores_of_largest(cluster((4, 0), (8, 1), (16, 0), may_add=((64, 1),)), 2, 1) == 8
    assert cores_of_largest(cluster((4, 0), may_add=((64, 1), (32, 1))), 2, 1) == 64


def test_each_shape_is_named_once() -> None:
    assert shapes(cluster((2, 0), (2, 0), (4, 1))) == "2 CPUs and 0 GPUs, 4 CPUs and 1 GPU"
    assert shapes(cluster()) == "nothing"
