"""What `--may-add` leaves to come when some of it is up."""

from cluster.ray_runtime import Node, parse_growth, still_to_come


def test_nodes_that_are_up_do_not_come_again() -> None:
    growth = parse_growth("2x16+1,1x64")
    up = Node(address="10.0.0.7", cpus=16, gpus=1)
    head = Node(address="10.0.0.1", cpus=64, gpus=0, head=True)
    assert still_to_come(growth, [head]) == growth, "no autoscaler starts the head"
    assert still_to_come(growth, [head, up]) == growth[1:]
    assert still_to_come(growth, [head, up, up, up]) == growth[2:]
