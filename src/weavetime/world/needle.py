"""A needle in a stream: one card of a kind that comes nowhere else, hidden at a depth of an otherwise usual world."""

from __future__ import annotations

import random
from copy import copy

from ..errors import WorldError
from .questions import Asked, Moment, about
from .script import CROWD, PLACES, Script, Visit, held_out
from .sprites import COLOURS, KINDS

STAY = 4  # steps that the needle is on screen
ASKS = ("past_attribute", "past_position")


def with_visit(script: Script, visit: Visit) -> Script:
    """The same script with a visit put in. Others of its kind, those in its place or coming with it, and those that
    would make a crowd leave the script; the look of the pictures and the signs stay.
    """
    kept, beside = [], 0
    for other in script.visits:
        meets = other.start < visit.end and visit.start < other.end
        same_place = {p for _, p in other.places} & {p for _, p in visit.places}
        if other.kind == visit.kind or other.start == visit.start or (meets and (same_place or beside == CROWD - 1)):
            continue
        beside += meets
        kept.append(other)
    found = copy(script)
    vars(found).pop("_starts", None)  # what the other script had worked out of its own visits
    object.__setattr__(found, "visits", tuple(sorted((*kept, visit), key=lambda v: v.start)))
    return found


def hidden(script: Script, depth: float, rng: random.Random) -> tuple[Script, Visit]:
    """The script with a needle at a depth from 0, the start, to 1, over just before the last step.

    The needle is of a kind that the script shows least, hence mostly never. Raises WorldError for a stream too short.
    """
    if script.steps < 2 * STAY:
        raise WorldError(f"a stream with a needle has at least {2 * STAY} steps, got {script.steps}")
    kinds = rng.sample(range(len(KINDS)), len(KINDS))
    kind = min(kinds, key=[v.kind for v in script.visits].count)
    start = round(depth * (script.steps - 1 - STAY))
    colours = [c for c in range(len(COLOURS)) if script.split == "new" or not held_out(kind, c)]
    place, colour = rng.randrange(len(PLACES)), rng.choice(colours)
    jitter = (rng.uniform(-0.03, 0.03), rng.uniform(-0.03, 0.03))
    needle = Visit(kind, start, start + STAY, ((start, place),), ((start, colour),), jitter)
    return with_visit(script, needle), needle


def with_needle(script: Script, depth: float, family: str, rng: random.Random) -> tuple[Script, Asked]:
    """A stream that hides a needle, and the question that it alone answers, asked at the last step.

    family: one of ASKS. The wrong options are colours or places of cards that came at about the same time.
    """
    found, visit = hidden(script, depth, rng)
    return found, about(Moment(found, found.steps - 1, rng), family, visit)
