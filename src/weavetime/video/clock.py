"""From a decoder's timestamps to seconds from the start of the stream, as fractions, strictly ascending."""

from __future__ import annotations

import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from ..errors import VideoError

JUMP_BACK = Fraction(1)  # seconds: less is a stray frame, more a clock that started again
JUMP_AHEAD = Fraction(10)  # seconds beyond the wall clock, on a live source


class FileClock:
    """Times of a recording: its first picture is 0, whatever offset the container gives it.

    A missing timestamp is filled from the picture before it and its duration, or the average rate; a clock that jumps
    back goes on from there. Both are counted, for a warning. AVI keeps no presentation times, only a place in a
    constant rate: its pictures take the decoder's own time in presentation order.
    """

    def __init__(self, name: str, *, rate: Fraction | None, avi: bool = False) -> None:
        self.filled = self.restarts = 0
        self.end = Fraction(0)
        self._name, self._rate, self._avi = name, rate, avi
        self._last: Fraction | None = None
        self._origin: Fraction | None = None

    def start_at(self, origin: Fraction) -> None:
        """Say what the container's time of the first picture was, when reading does not begin with it."""
        self._origin = origin

    def raw(self, frame: Any) -> Fraction | None:
        """The container's own time of a picture, seconds, None where missing."""
        ticks = frame.dts if self._avi else frame.pts
        return None if ticks is None else Fraction(ticks * frame.time_base)

    def lasts(self, frame: Any) -> Fraction:
        """How long a picture is on screen, seconds, as far as the container says."""
        if frame.duration:
            return Fraction(frame.duration * frame.time_base)
        if not self._rate:
            raise VideoError(f"{self._name} has neither timestamps nor a frame rate: convert it to MP4 first")
        return 1 / self._rate

    def time(self, frame: Any) -> Fraction | None:
        """The time of the next picture, or None for one that is out of order and must not be shown."""
        raw, lasts = self.raw(frame), self.lasts(frame)
        follows = Fraction(0) if self._last is None else self.end
        if raw is None:
            self.filled += not self._avi
            now = follows
        elif self._origin is None:
            self._origin, now = raw - follows, follows
        else:
            now = raw - self._origin
        if self._last is not None and now <= self._last:
            if self._last - now < JUMP_BACK or raw is None:
                return None
            self.restarts += 1
            self._origin, now = Fraction(raw - follows), follows
        self._last, self.end = now, now + lasts
        return now


class LiveClock:
    """Times of a live source: its own timestamps, tied to the wall clock at the start and after each interruption.

    The first picture is 0. After a reconnection, or where the source's timestamps jump, times go on from the seconds
    of monotonic clock since the first picture, so that a gap shows as long as it was.
    """

    def __init__(self, wall: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._started: float | None = None
        self._last = self._last_wall = Fraction(0)
        self._origin: Fraction | None = None
        self._lasts = Fraction(1, 25)

    @property
    def now(self) -> Fraction:
        """Seconds of wall clock since the first picture."""
        return Fraction(0) if self._started is None else Fraction(self._wall() - self._started)

    @property
    def last(self) -> Fraction:
        """Time of the latest picture."""
        return self._last

    def reconnected(self) -> None:
        """The next picture comes from a new connection, whose timestamps start anywhere."""
        self._origin = None

    def lasts(self, frame: Any) -> Fraction:
        """How long a picture is on screen, seconds: what the source says, else the latest spacing."""
        return Fraction(frame.duration * frame.time_base) if frame.duration else self._lasts

    def time(self, frame: Any) -> Fraction | None:
        """The time of the next picture, or None for one that is out of order and must not be shown."""
        raw = None if frame.pts is None else Fraction(frame.pts * frame.time_base)
        if self._started is None:
            self._started, self._origin = self._wall(), raw
            return self._last
        wall, lasts = self.now, self.lasts(frame)
        resumed = max(wall, self._last + lasts)
        if raw is None:
            now = resumed
        elif self._origin is None or self._jumped(raw - self._origin, wall):
            self._origin, now = raw - resumed, resumed
        else:
            now = raw - self._origin
            if now <= self._last:
                return None
            lasts = now - self._last
        self._lasts, self._last, self._last_wall = lasts, now, wall
        return now

    def _jumped(self, now: Fraction, wall: Fraction) -> bool:
        step = now - self._last
        return step < -JUMP_BACK or step > max(Fraction(0), wall - self._last_wall) + JUMP_AHEAD
