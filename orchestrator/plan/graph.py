"""Which combinations need winners of others first: those that start from one, are taught by it, or stand on it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

import sr_models
from orchestrator.plan.combination import Combination
from sr_models.errors import InputError
from sr_models.params import nearest


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


def check_references(combinations: Sequence[Combination]) -> None:
    """Refuse references to combinations that could not be followed.

    Raises:
        InputError: no such combination, one of another network to start from, one that learns no SR, a teacher of
            another scale or that draws from noise, no network that trains such a part, combinations that need each
            other.
    """
    known = {combination.id: combination for combination in combinations}
    for one in combinations:
        parts = {f"models.{one.label}.{name}": weights for name, weights in one.parts.items()}
        for where, weights in [(f"models.{one.label}.init", one.init), ("teacher", one.teacher), *parts.items()]:
            if weights is None or weights.kind != "from":
                continue
            if weights.name not in known:
                hint = nearest(weights.name, list(known))
                raise InputError(f"{where}: no combination {weights.name!r} in this sweep{hint}")
            source = known[weights.name]
            if where in parts:
                _check_part(where, one, source)
                continue
            if source.spec.target.output != "sr" or (weights is one.teacher and not source.gives_sr):
                raise InputError(f"{where}: {source.id} learns no SR, so its weights start and teach nothing")
            if weights is one.init and source.network != one.network:
                raise InputError(
                    f"{where}: {source.id} trains {source.network}, whose weights start no {one.network} ({one.id})"
                )
            if weights is one.teacher:
                refuse_drawn(source.network)
            if weights is one.teacher and source.scale != one.scale:
                raise InputError(f"{where}: {source.id} makes no x{one.scale} pictures, which {one.id} needs")
    levels({name: combination.after for name, combination in known.items()})


def _check_part(where: str, one: Combination, source: Combination) -> None:
    """Raises InputError: what a combination trains is no such part as another one stands on."""
    part = where.rpartition(".")[2]
    asked = sr_models.spec(one.network).hyper.parse(one.hyper, where).stands_on(part)
    if asked is None:
        raise InputError(f"{where}: {part} is a file, and nothing here trains one (got from: {source.id})")
    network, sizes = asked
    if source.network != network:
        raise InputError(
            f"{where}: {one.network} stands on a {network}, and {source.id} trains {source.network}; name a "
            f"combination of {network}"
        )
    trained = sr_models.spec(network).hyper.parse(source.hyper, source.id)
    for name, wanted in sizes.items():
        if (found := getattr(trained, name)) != wanted:
            raise InputError(f"{where}: {one.network} stands on one of {name} {wanted}, and {source.id} has {found}")


def refuse_drawn(network: str) -> None:
    """Raises InputError: a teacher that draws its pictures from noise, where it is to give one; an unknown network."""
    if sr_models.spec(network).family == "diffusion":
        raise InputError(f"teacher: {network} draws its pictures from noise, and a teacher gives one; name another")
