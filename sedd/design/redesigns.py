"""Redesigns of a parent: draws until enough differ, and what each of them is beside it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sedd.design.mutations import substitutions
from sedd.design.parents import Parent
from sedd.units import counted

TRIES = 10
"""Draws for each redesign that is wanted, at most."""
_IDLE = 256
"""A search does not end before this many draws in a row have brought nothing new."""

Tokens = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Redesign:
    """A protein that a parent was turned into."""

    name: str
    parent: str
    mutations: str
    """`A24G:K30R`."""
    count: int
    """Of mutations."""
    identity: float
    """Share of the parent's residues that are still there."""
    score: float
    """An estimate of ln p(redesign) - ln p(parent) in nats: above 0 the network prefers the redesign."""
    standard_error: float
    """Of `score`."""


@dataclass(frozen=True, slots=True)
class Distinct:
    """Proteins that differ from their parent and from each other, in the order in which they were drawn."""

    found: list[Tokens]
    tries: int
    possible: int
    """How many there are; what was wanted where there are more."""


def count_possible(parent: Parent, letters: Collection[int], most: int | None, *, enough: int) -> int:
    """How many redesigns there are with at most this many mutations, each to one of `letters`; `enough` if more."""
    free = parent.tokens[~parent.kept].tolist()
    ways = [1] + [0] * (len(free) if most is None else min(most, len(free)))
    """By the number of mutations."""
    for place, residue in enumerate(free):
        others = len(set(letters) - {residue})
        for mutations in range(min(place + 1, len(ways) - 1), 0, -1):
            ways[mutations] = min(enough, ways[mutations] + others * ways[mutations - 1])
        if sum(ways[1:]) >= enough:
            return enough
    return sum(ways[1:])


def draw_distinct(
    parent: Parent, wanted: int, draw: Callable[[int, int], Sequence[Tokens]], *, possible: int | None = None
) -> Distinct:
    """Draw until this many redesigns, or all that are possible, differ from the parent and from each other.

    `draw(first, count)` gives the draws of a parent with these numbers. Each round asks for what is missing, at least
    for an eighth of all; what is drawn beyond need is left out. It ends after `TRIES` times as many draws as are
    wanted, or when nothing new has come for as many as are wanted.
    """
    seen, tries, newest = {parent.tokens.tobytes()}, 0, 0
    enough = min(wanted, wanted if possible is None else possible)
    found: list[Tokens] = []
    while len(found) < enough and tries < TRIES * wanted and tries - newest < max(_IDLE, wanted):
        count = min(max(enough - len(found), -(-wanted // 8)), TRIES * wanted - tries)
        for number, tokens in enumerate(draw(tries, count), tries + 1):
            if (key := tokens.tobytes()) not in seen:
                seen.add(key)
                found.append(tokens)
                newest = number
        tries += count
    return Distinct(found[:wanted], tries, enough)


def redesigns_of(
    parent: Parent, found: Sequence[Tokens], scores: Sequence[float], errors: Sequence[float]
) -> list[Redesign]:
    """What each of the found proteins is beside its parent."""
    return [
        Redesign(
            name=f"{parent.name}_{number}",
            parent=parent.name,
            mutations=substitutions(parent.tokens, tokens),
            count=int((tokens != parent.tokens).sum()),
            identity=float((tokens == parent.tokens).mean()),
            score=float(score),
            standard_error=float(error),
        )
        for number, (tokens, score, error) in enumerate(zip(found, scores, errors, strict=True))
    ]


def shortfall(parent: Parent, wanted: int, found: Distinct) -> str | None:
    """What to tell where fewer were found than were wanted."""
    if len(found.found) >= wanted:
        return None
    named = f"{counted(len(found.found), 'distinct redesign')} of '{parent.name}'"
    if len(found.found) == found.possible:
        return f"{named}, {wanted} were wanted: there are no others with what is kept, omitted and how much may mutate"
    return (
        f"{named} in {counted(found.tries, 'draw')}, {wanted} were wanted: more come with more noise, more mutations "
        "or fewer kept positions"
    )


def columns(redesigns: Sequence[Redesign], sequences: Sequence[str]) -> Mapping[str, Sequence[Any]]:
    """A table with a row a redesign."""
    return {
        "name": [r.name for r in redesigns],
        "parent": [r.parent for r in redesigns],
        "mutations": [r.mutations for r in redesigns],
        "count": [r.count for r in redesigns],
        "identity": [round(r.identity, 6) for r in redesigns],
        "score": [round(r.score, 6) for r in redesigns],
        "score_se": [round(r.standard_error, 6) for r in redesigns],
        "sequence": sequences,
    }
