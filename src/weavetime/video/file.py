"""Video files, and streams over the network that have an end: read in order, every sampled frame is given."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..errors import VideoError
from ..types import Frame
from .ahead import Ahead, DecodedSource, Frames
from .clock import FileClock
from .container import Container
from .pixels import to_rgb
from .sampling import Timed, sample

SEEK_FROM = Fraction(5)  # seconds: below, reading on is as quick
SEEK_MARGIN = Fraction(2)  # seconds: containers index by decoding time, which may lie ahead of presentation
INDEXED = {"mov", "matroska"}  # an index by time; elsewhere a jump lands where it likes


class FileSource(DecodedSource):
    """A recording, decoded in order in a thread. Only sampled frames become RGB.

    A file that is cut off gives what is readable, with a warning that says how far it got.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        fps: Fraction,
        lookahead: int,
        start: Fraction = Fraction(0),
        end: Fraction | None = None,
        options: Mapping[str, str] | None = None,
        timeout: tuple[float, float] | None = None,
    ) -> None:
        super().__init__(lookahead)
        self._name, self._url, self._options, self._timeout = name, url, options, timeout
        self._fps, self._start, self._end = fps, start, end
        with self._open() as video:
            duration = video.duration
            if next(video.pictures(), None) is None:
                raise VideoError(f"{name} holds no readable pictures: check that it plays, or copy it again")
        self.duration = None if duration is None else float(duration)
        if duration is not None and start >= duration:
            raise VideoError(f"{name} lasts {float(duration):.1f} s: start={float(start):g} is beyond its end")

    def produce(self, ahead: Ahead) -> Frames:
        """The sampled frames, in the decoding thread."""
        with self._open() as video:
            if self._start < SEEK_FROM or not (video.formats & INDEXED):
                yield from self._frames(video, self._clock(video), ahead, video.pictures())
                return
            clock, pictures = self._clock(video), video.pictures()
            if (landed := self._jump(video, clock, pictures)) is not None:
                yield from self._frames(video, clock, ahead, landed)
                return
        with self._open() as video:
            yield from self._frames(video, self._clock(video), ahead, video.pictures())

    def _open(self) -> Container:
        return Container(self._name, self._url, options=self._options, timeout=self._timeout)

    def _clock(self, video: Container) -> FileClock:
        return FileClock(self._name, rate=video.rate, avi="avi" in video.formats)

    def _jump(self, video: Container, clock: FileClock, pictures: Iterator[Any]) -> Iterator[Any] | None:
        """Pictures from a key frame before `start`, or None where the container cannot get there."""
        opening = next(pictures, None)
        origin = None if opening is None else clock.raw(opening)
        if origin is None:
            return None
        ticks = (origin + self._start - SEEK_MARGIN) / video.stream.time_base
        video.av.seek(int(ticks), stream=video.stream)
        landed = video.pictures()
        first = next(landed, None)
        raw = None if first is None else clock.raw(first)
        if raw is None or raw - origin > self._start:
            return None
        clock.start_at(origin)
        return _chain(first, landed)

    def _frames(self, video: Container, clock: FileClock, ahead: Ahead, pictures: Iterator[Any]) -> Frames:
        timed, given = self._timed(video, clock, ahead, pictures), 0
        for time, _, picture in sample(timed, self._fps, self._start, self._end):
            given += 1
            yield Frame(to_rgb(picture), float(time), float(time + 1 / self._fps))
        if not given and not ahead.stopped():
            raise VideoError(f"{self._name} is readable up to {float(clock.end):.1f} s only: start before that")

    def _timed(self, video: Container, clock: FileClock, ahead: Ahead, pictures: Iterator[Any]) -> Iterator[Timed]:
        for picture in pictures:
            if ahead.stopped():
                return
            time = clock.time(picture)
            if time is not None:
                yield Timed(time, clock.lasts(picture), picture)
        for text in self._findings(video, clock):
            ahead.note(f"{self._name}: {text}")

    def _findings(self, video: Container, clock: FileClock) -> Iterator[str]:
        """What was wrong with a recording that was read to its end."""
        got, stated = clock.end, video.duration
        margin = max(Fraction(1, 2), 2 / (video.rate or 25))
        if video.states_length and stated is not None and got < stated - margin:
            yield f"readable up to {float(got):.1f} s of {float(stated):.1f} s"
        elif video.broken:
            yield f"readable up to {float(got):.1f} s, where reading failed"
        elif video.damaged:
            yield f"{video.damaged} damaged packets were left out"
        if clock.filled:
            yield f"{clock.filled} pictures have no timestamp: placed by the frame rate"
        if clock.restarts:
            yield f"timestamps start again {clock.restarts} times: times go on from there"


def check_file(path: Path) -> str:
    """The address of a readable, non-empty file for FFmpeg."""
    try:
        if path.stat().st_size == 0:
            raise VideoError(f"{path} is empty: check that it was copied in full")
    except FileNotFoundError as e:
        raise VideoError(f"no such file: {path}") from e
    except OSError as e:
        raise VideoError(f"{path} may not be read: {e.strerror}") from e
    if not os.access(path, os.R_OK):
        raise VideoError(f"{path} may not be read: give yourself permission to read it")
    return f"file:{path}"  # a bare name with a colon would be taken for a protocol


def _chain(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest
