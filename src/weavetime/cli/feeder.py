"""Frames going into a stream at their own pace, in a thread, while questions are asked in another."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from .show import size

if TYPE_CHECKING:
    from ..stream import Stream
    from ..video import Source

SPAN = 10.0  # seconds over which frames per second are counted
PATIENCE = 30.0  # seconds for the last forward to end


class Feeder:
    """Feeds until the source ends or is closed; then the stream is closed, and any moment may be asked about."""

    def __init__(self, stream: Stream, source: Source) -> None:
        self.stream, self.source = stream, source
        self.error: BaseException | None = None
        self.ended = False
        self._recent: deque[tuple[float, int]] = deque()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="weavetime-feed", daemon=True)

    def __enter__(self) -> Feeder:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.source.close()
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        try:
            for batch in self.source.batches(self.stream.config.batch):
                self.stream.feed(batch)
                with self._changed:
                    self._recent.append((time.monotonic(), len(batch)))
                    self._changed.notify_all()
        except BaseException as e:  # noqa: BLE001  (raised again by `check`)
            self.error = e
        finally:
            self.stream.close()
            with self._changed:
                self.ended = True
                self._changed.notify_all()

    def wait(self, until: float | None) -> None:
        """Wait for the stream to pass a second (None: its first frame), or to end: that second's frame is in, too."""
        with self._changed:
            self._changed.wait_for(lambda: self.ended or self.stream.now > (until or 0))

    def check(self) -> None:
        """Raise what ended the feeding, if it was an error."""
        if self.error is not None:
            raise self.error

    @property
    def fps(self) -> float:
        """Frames encoded per second of late."""
        with self._changed:
            now = time.monotonic()
            while self._recent and self._recent[0][0] < now - SPAN:
                self._recent.popleft()
            if len(self._recent) < 2:
                return 0.0
            (first, before), (last, _) = self._recent[0], self._recent[-1]
            return (sum(count for _, count in self._recent) - before) / max(last - first, 1e-3)

    def status(self) -> str:
        """Time, frames a second, blocks, memory, dropped, and what became of the source."""
        stream = self.stream
        parts = [
            f"{stream.now:.1f} s",
            f"{self.fps:.1f} frames/s",
            f"{len(stream)} blocks",
            size(stream.memory.nbytes),
            f"{self.source.dropped} dropped",
        ]
        if self.error is not None:
            parts.append(str(self.error))
        elif self.ended:
            parts.append("the video has ended, questions go on")
        return " · ".join(parts)
