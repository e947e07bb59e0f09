"""Live sources: cameras and network streams that reconnect, and recordings played at their own pace."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from fractions import Fraction

from ..errors import VideoError
from ..types import Frame
from .ahead import Ahead, Frames
from .clock import LiveClock
from .container import Container
from .pixels import to_rgb
from .sampling import Timed, sample

FIRST_WAIT, LONGEST_WAIT = 0.25, 5.0  # seconds between attempts to reconnect, doubling
NEAR_END = Fraction(1)  # seconds


class Connection:
    """A live stream that is opened again when it breaks.

    `connect` makes a new container or raises `VideoError` in bounded time; `first` is one that is open already.
    Attempts follow each other after 0.25, 0.5, 1, 2, 4, 5, 5 … s. After `reconnect` seconds without a picture, reading
    ends with a `VideoError`; with reconnect=0 a stream that its sender ends is over, without an error.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], Container],
        first: Container,
        *,
        fps: Fraction,
        reconnect: float,
        start: Fraction = Fraction(0),
        end: Fraction | None = None,
    ) -> None:
        self._name, self._connect, self._first, self._reconnect = name, connect, first, reconnect
        self._fps, self._start, self._end = fps, start, end
        self._clock = LiveClock()
        self._lost_at = time.monotonic()
        self._lost_time: Fraction | None = None
        self._over = False

    def produce(self, ahead: Ahead) -> Frames:
        """The sampled frames of one connection after another, in the decoding thread."""
        container: Container | None = self._first
        while container is not None and not ahead.stopped():
            with container:
                # sampled per connection: what was on screen when it broke is not shown through the gap
                for moment, _, picture in sample(self._timed(container, ahead), self._fps, self._start, self._end):
                    yield Frame(to_rgb(picture), float(moment), float(moment + 1 / self._fps))
            if ahead.stopped() or self._over or self._past_end():
                return
            container = self._again(ahead)

    def _timed(self, container: Container, ahead: Ahead) -> Iterator[Timed]:
        """Pictures of one connection until it breaks."""
        for picture in container.pictures():
            if ahead.stopped():
                return
            if self._lost_time is not None:
                gap = self._clock.now - self._lost_time
                ahead.note(f"{self._name}: lost at {float(self._lost_time):.1f} s, back {float(gap):.1f} s later")
                self._lost_time = None
            moment = self._clock.time(picture)
            self._lost_at = time.monotonic()
            if moment is not None:
                yield Timed(moment, self._clock.lasts(picture), picture)
        whole = container.duration
        finished = whole is not None and self._clock.last >= whole - NEAR_END
        self._over = not container.broken and (finished or self._reconnect == 0)

    def _past_end(self) -> bool:
        return self._end is not None and self._clock.last >= self._end - 1 / self._fps

    def _again(self, ahead: Ahead) -> Container | None:
        """A new connection; None where the reader has gone, or the stream turns out to have ended."""
        self._clock.reconnected()
        self._lost_time = self._clock.last if self._lost_time is None else self._lost_time
        wait, reason = FIRST_WAIT, "it ended"
        while not ahead.stopped():
            left = self._lost_at + self._reconnect - time.monotonic()
            if left <= 0:
                raise VideoError(
                    f"{self._name}: lost at {float(self._lost_time):.1f} s and not back after {self._reconnect:g} s "
                    f"({reason}): check that it is running, or wait longer with reconnect="
                )
            ahead.pause(min(wait, left))
            wait = min(2 * wait, LONGEST_WAIT)
            if ahead.stopped():
                break
            try:
                container = self._connect()
            except VideoError as e:
                reason = str(e)
                continue
            if "hls" in container.formats and container.duration is not None:
                container.close()  # its playlist was closed meanwhile: the broadcast is over
                break
            return container
        return None


class Played:
    """A recording played as if live: each frame comes when its time has come, counted from the first one."""

    def __init__(self, produce: Callable[[Ahead], Frames]) -> None:
        self._produce = produce

    def produce(self, ahead: Ahead) -> Frames:
        """The frames at their own pace, in the decoding thread."""
        begun: float | None = None
        for frame in self._produce(ahead):
            if begun is None:
                begun = time.monotonic() - frame.time
            ahead.pause(begun + frame.time - time.monotonic())
            if ahead.stopped():
                return
            yield frame
