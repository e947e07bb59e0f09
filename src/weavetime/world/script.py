"""What happens in a world: which cards come, move, change colour, leave and come back, and which signs hang when.

A script is drawn from (seed, split) alone by `random.Random`, whose sequences Python keeps from version to version.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from ..errors import WorldError
from .sprites import COLOURS, KINDS, TEXTS

Split = Literal["train", "test", "new"]
SPLITS: tuple[Split, ...] = ("train", "test", "new")

PLACES: dict[str, tuple[float, float]] = {
    "left": (0.2, 0.5),
    "right": (0.8, 0.5),
    "top": (0.5, 0.2),
    "bottom": (0.5, 0.8),
    "middle": (0.5, 0.5),
}
CORNERS = ((0.17, 0.1), (0.83, 0.1), (0.17, 0.9), (0.83, 0.9))
ENTER, CROWD = 0.34, 3  # chance that a card comes at a step; most cards at once
MOVE, RECOLOUR = 0.2, 0.2  # chance, per visit, that the card moves and that it changes colour
STAY = (2, 8)  # steps of a visit
HANG, PAUSE = (3, 9), (0, 6)  # steps that a sign hangs, and that none does
LONGEST = 36_000  # steps: ten hours at one step a second


def held_out(kind: int, colour: int) -> bool:
    """Whether this card is never shown in the splits train and test: one colour in eight of each kind."""
    return colour == 3 * kind % len(COLOURS)


@dataclass(frozen=True, slots=True)
class Visit:
    """A card on screen in the steps [start, end). places, colours: (step from which, which), the first at start."""

    kind: int
    start: int
    end: int
    places: tuple[tuple[int, int], ...]
    colours: tuple[tuple[int, int], ...]
    jitter: tuple[float, float]

    def place(self, step: int) -> int:
        """Which of PLACES at a step of the visit."""
        return _latest(self.places, step)

    def colour(self, step: int) -> int:
        """Which of COLOURS at a step of the visit."""
        return _latest(self.colours, step)


@dataclass(frozen=True, slots=True)
class Sign:
    """TEXTS[text] in a corner in the steps [start, end)."""

    text: int
    corner: int
    start: int
    end: int


def _latest(changes: tuple[tuple[int, int], ...], step: int) -> int:
    return next(value for since, value in reversed(changes) if since <= step)


@dataclass(frozen=True)
class Script:
    """A stream's events. At most one card comes at a step, so that coming has an order.

    seed, split: a split is a set of seeds of its own; `new` alone shows held-out cards (half of its cards). times:
    each step's start in seconds, ascending from 0; by default its number.
    """

    seed: int
    steps: int
    split: Split = "test"
    times: Sequence[float] = ()
    visits: tuple[Visit, ...] = field(init=False)
    signs: tuple[Sign, ...] = field(init=False)

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= LONGEST:
            raise WorldError(f"a world has 1 to {LONGEST} steps (ten hours), got {self.steps}")
        if self.split not in SPLITS:
            raise WorldError(f"a split is one of {', '.join(SPLITS)}, got {self.split!r}")
        if self.times and len(self.times) != self.steps:
            raise WorldError(f"{len(self.times)} times were given for {self.steps} steps")
        rng = random.Random(f"streamworld/{self.split}/{self.seed}/{self.steps}")
        object.__setattr__(self, "visits", tuple(_visits(rng, self.steps, self.split)))
        object.__setattr__(self, "signs", tuple(_signs(rng, self.steps)))

    def time(self, step: int) -> float:
        """A step's start, seconds."""
        return self.times[step] if self.times else float(step)

    def end(self, step: int) -> float:
        """A step's end, seconds."""
        return self.time(step) + 1.0

    @cached_property
    def _starts(self) -> list[int]:
        return [v.start for v in self.visits]

    def shown(self, step: int) -> list[Visit]:
        """The cards on screen at a step, oldest first."""
        last = bisect_right(self._starts, step)
        near = self.visits[max(0, last - 4 * STAY[1]) : last]
        return [v for v in near if step < v.end]

    def sign(self, step: int) -> Sign | None:
        """The sign on screen at a step."""
        i = bisect_right(self.signs, step, key=lambda s: s.start) - 1
        return self.signs[i] if i >= 0 and step < self.signs[i].end else None

    def seen(self, step: int) -> Sequence[Visit]:
        """Every visit that began at or before a step."""
        return self.visits[: bisect_right(self._starts, step)]


def _visits(rng: random.Random, steps: int, split: Split) -> Iterator[Visit]:
    """Guests come one to three times in the whole stream, wherever; regulars fill the rest, again and again."""
    entries = [s for s in range(steps) if s == 0 or rng.random() < ENTER]
    kinds = rng.sample(range(len(KINDS)), len(KINDS))
    pool = max(3, min(24, len(entries) // 6))
    regulars, guests = kinds[:pool], kinds[pool:]
    roster: list[int | None] = [None] * len(entries)
    free = rng.sample(range(len(entries)), len(entries))
    for guest in guests:
        often = rng.choice((1, 1, 2, 3))
        if len(free) - often < len(entries) // 3:
            break
        for _ in range(often):
            roster[free.pop()] = guest
    here: list[Visit] = []
    for start, kind in zip(entries, roster, strict=True):
        near = [v for v in here if v.end >= start]  # a card that has just gone does not come back at once: at whole
        here = [v for v in near if v.end > start]  # steps that would look as if it had stayed
        kind = rng.choice(regulars) if kind is None else kind
        if len(here) >= CROWD or any(v.kind == kind for v in near):
            continue
        visit = _visit(rng, kind, start, steps, here, split)
        here.append(visit)
        yield visit


def _visit(rng: random.Random, kind: int, start: int, steps: int, here: list[Visit], split: Split) -> Visit:
    end = min(steps, start + rng.randint(*STAY))
    taken = {place for v in here for _, place in v.places}
    free = [p for p in range(len(PLACES)) if p not in taken]
    rng.shuffle(free)
    places = [(start, free[0])]
    colours = [(start, _colour(rng, kind, split, None))]
    if end - start >= 4:
        if rng.random() < MOVE and len(free) > 1 and len(here) < 2:
            places.append((rng.randint(start + 2, end - 2), free[1]))
        if rng.random() < RECOLOUR:
            colours.append((rng.randint(start + 2, end - 2), _colour(rng, kind, split, colours[0][1])))
    jitter = (rng.uniform(-0.03, 0.03), rng.uniform(-0.03, 0.03))
    return Visit(kind, start, end, tuple(places), tuple(colours), jitter)


def _colour(rng: random.Random, kind: int, split: Split, other: int | None) -> int:
    if split == "new" and other is None and rng.random() < 0.5:
        return next(c for c in range(len(COLOURS)) if held_out(kind, c))
    return rng.choice([c for c in range(len(COLOURS)) if c != other and (split == "new" or not held_out(kind, c))])


def _signs(rng: random.Random, steps: int) -> Iterator[Sign]:
    step, last = rng.randint(*PAUSE), -1
    while step < steps:
        text = rng.choice([t for t in range(len(TEXTS)) if t != last])
        end = min(steps, step + rng.randint(*HANG))
        yield Sign(text, rng.randrange(len(CORNERS)), step, end)
        step, last = end + rng.randint(*PAUSE), text
