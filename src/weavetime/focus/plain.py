"""The rivals of the PCDF-Cache that need no score: fixed choices of blocks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..errors import ModeError
from ..types import Choice
from .base import Mode, Past


@dataclass(frozen=True)
class Window(Mode):
    """The blocks of the window at the time asked about."""

    name: ClassVar[str] = "window"

    def first(self, past: Past) -> Choice:
        """The present."""
        return Choice.same(past.recent, past.layers)


@dataclass(frozen=True)
class Recent(Mode):
    """The last n blocks. They still carry what they attended to when they were encoded."""

    n: int = 4
    name: ClassVar[str] = "recent"

    def __post_init__(self) -> None:
        at_least_one("recent", self.n)

    def first(self, past: Past) -> Choice:
        """The newest n."""
        return Choice.same(range(max(0, past.count - self.n), past.count), past.layers)


@dataclass(frozen=True)
class Uniform(Mode):
    """n blocks spread evenly over all that is visible, the first and the last among them."""

    n: int = 64
    name: ClassVar[str] = "uniform"

    def __post_init__(self) -> None:
        at_least_one("uniform", self.n)

    def first(self, past: Past) -> Choice:
        """round(linspace(0, count - 1, min(n, count))), as numpy computes it."""
        spread = np.round(np.linspace(0, past.count - 1, min(self.n, past.count)))
        return Choice.same((int(i) for i in spread), past.layers)


@dataclass(frozen=True)
class Full(Mode):
    """Every visible block; only on a stream that evicts nothing."""

    name: ClassVar[str] = "full"

    def first(self, past: Past) -> Choice:
        """All."""
        if past.window is not None:
            raise ModeError(f"full reads every block, and this stream has a window of {past.window}: use window=None")
        return Choice.same(range(past.count), past.layers)


@dataclass(frozen=True)
class Chosen(Mode):
    """The blocks on screen at given times, seconds: an oracle, or a retriever from outside."""

    times: tuple[float, ...]
    name: ClassVar[str] = "frames"

    def __post_init__(self) -> None:
        object.__setattr__(self, "times", tuple(float(t) for t in self.times))
        if not self.times or not all(map(math.isfinite, self.times)):
            raise ModeError("frames needs at least one time, and each a number of seconds, as in frames:12,40")

    def first(self, past: Past) -> Choice:
        """The last block at or before each time."""
        return Choice.same(past.at_times(self.times), past.layers)


@dataclass(frozen=True)
class Blind(Mode):
    """No pictures at all, and no wrapper around them: what the question alone gives away."""

    name: ClassVar[str] = "blind"

    def first(self, past: Past) -> Choice:
        """Nothing."""
        return Choice.same((), past.layers, bare=True)


def at_least_one(what: str, n: int) -> None:
    """Refuse a count below 1."""
    if not (isinstance(n, int) and n >= 1):
        raise ModeError(f"{what} must be a whole number from 1, got {n!r}")
