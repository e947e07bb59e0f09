"""Which frames of a stream are looked at: chosen by presentation time, never by counting frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from math import ceil
from typing import NamedTuple, TypeVar

Picture = TypeVar("Picture")


class Timed(NamedTuple):
    """A picture that is on screen from `time` for about `lasts` (seconds, from the start of the stream)."""

    time: Fraction
    lasts: Fraction
    picture: object


def exact(seconds: float | Fraction) -> Fraction:
    """A number as written by a person: 0.1 is one tenth, not the binary fraction beside it."""
    return Fraction(seconds).limit_denominator(1_000_000)


def sample(
    frames: Iterable[Timed], fps: Fraction, start: Fraction = Fraction(0), end: Fraction | None = None
) -> Iterator[Timed]:
    """The frames on screen at the times g = start + k / fps, k = 0, 1, …, g < end.

    On screen at g is the frame with the largest time ≤ g; each frame is given once, with its own time. So times
    strictly ascend, no frame is shown before its time, a source slower than fps gives each of its frames once, and
    the first may lie up to one source frame before `start`. A frame is on screen until the next one comes, the last
    one for as long as it says it lasts. Times must ascend. Each frame is given as soon as its successor is known.
    """
    shown: Timed | None = None
    for frame in frames:
        if shown is not None and _grid(shown.time, fps, start) < frame.time:
            yield shown
        shown = frame
        if end is not None and _grid(frame.time, fps, start) >= end:
            return
    if shown is not None and _grid(shown.time, fps, start) < shown.time + shown.lasts:
        yield shown


def _grid(time: Fraction, fps: Fraction, start: Fraction) -> Fraction:
    """The first sampling time at or after `time`."""
    return start + max(0, ceil((time - start) * fps)) / fps
