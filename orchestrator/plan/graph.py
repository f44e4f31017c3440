"""Which combinations must have a winner before others can be trained: those that start from it, or are taught by it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from graphlib import CycleError, TopologicalSorter

from sr_models.errors import InputError


def levels(after: Mapping[str, Collection[str]]) -> list[list[str]]:
    """Names in the order of their needs: those of a level need only such of the levels before it.

    Args:
        after: name -> the names that it needs, each of them a key too.

    Returns:
        The levels, the names of each in the order of `after`.

    Raises:
        InputError: names that need each other; the circle is named.
    """
    graph = TopologicalSorter(after)
    try:
        graph.prepare()
    except CycleError as error:
        circle = list(reversed(error.args[1]))  # graphlib names what is needed before what needs it
        raise InputError(
            f"{circle[0]} needs its own weights: {' needs '.join(circle)}; name other weights, or those of one scale "
            "alone, as in init: {4: {from: 'x2/LABEL/OBJECTIVE'}}"
        ) from None
    found = []
    while graph.is_active():
        ready = set(graph.get_ready())
        graph.done(*ready)
        found.append([name for name in after if name in ready])
    return found
