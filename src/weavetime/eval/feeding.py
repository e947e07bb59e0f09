"""Frames of the visible spans of a video into a stream, up to a moment and no further."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..errors import VideoError
from ..stream import Stream
from ..types import Frame
from ..video import Source, open_video
from .base import Example, Span

if TYPE_CHECKING:
    from ..loading import Engine
    from .run import Run


class Batches:
    """Frames of a video in batches. warnings: what was found wrong with it so far."""

    def __init__(self, batches: Iterator[Sequence[Frame]], sources: Sequence[Source] = ()) -> None:
        self.batches, self.sources = batches, sources

    @property
    def warnings(self) -> list[str]:
        """What was found wrong, each once."""
        return list(dict.fromkeys(text for source in self.sources for text in source.warnings))


@contextmanager
def source_of(run: Run, example: Example, spans: Sequence[Span], engine: Engine) -> Iterator[Batches]:
    """The video of an example, open: frames whose times lie in the spans. Raises VideoError."""
    size = run.config.batch
    wrap = run.wrap or (lambda frames: frames)
    generated = run.benchmark.frames(example.video, size, engine.backbone.vision_device)
    if generated is not None:
        yield Batches(wrap(generated))
        return
    places = run.benchmark.videos(run.root, example)
    path = next((place for place in places if place.exists()), None)
    if path is None:
        raise VideoError(f"{places[0]} is not there")
    fps, sources = run.config.fps, []
    try:
        for start, end in spans:
            # A frame shown at a later sampling time may have come before the end: Feed looks at its own time.
            until = None if math.isinf(end) else end + 1 / fps
            sources.append(open_video(path, fps=fps, start=start, end=until))
        yield Batches(_within([wrap(source.batches(size)) for source in sources], spans), sources)
    finally:
        for source in sources:
            source.close()


def _within(stretches: Sequence[Iterator[Sequence[Frame]]], spans: Sequence[Span]) -> Iterator[Sequence[Frame]]:
    last = -math.inf
    for stretch, (_, end) in zip(stretches, spans, strict=True):
        for batch in stretch:
            kept = [frame for frame in batch if last < frame.time <= end]  # spans may overlap
            if kept:
                yield kept
                last = kept[-1].time


class Feed:
    """A stream and the frames that go into it. recent: the newest `keep` frames that went in."""

    def __init__(self, stream: Stream, source: Batches, on_fed: Callable[[int], None], keep: int) -> None:
        self.stream, self._source, self._on_fed = stream, source.batches, on_fed
        self.recent: deque[Frame] = deque(maxlen=keep)
        self._waiting: Sequence[Frame] = ()

    def newest(self, moment: float = math.inf) -> float | None:
        """Time of the newest frame that went in, seconds; of those that were there at a moment."""
        memory = self.stream.memory
        last = memory.newest
        if last is None or last <= moment:
            return last
        shown = (*memory.table.whole, *(frame.time for frame in memory.firsts))
        return max((t for t in shown if t <= moment), default=None)

    def upto(self, end: float) -> None:
        """Feed every frame whose time is at most `end`, seconds."""
        while True:
            ready = [frame for frame in self._waiting if frame.time <= end]
            if ready:
                self.stream.feed(ready)
                self.recent.extend(ready)
                self._on_fed(len(ready))
            self._waiting = self._waiting[len(ready) :]
            if self._waiting:
                return
            batch = next(self._source, None)
            if batch is None:
                return
            self._waiting = batch
