"""A thread that runs a generator of frames ahead of whoever reads them, by a bounded number of frames."""

from __future__ import annotations

import threading
import weakref
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing

from ..types import Frame
from .source import Source, check_size

Frames = Generator[Frame, None, None]


class Ahead:
    """Frames made in a thread, at most `size` of them waiting.

    When `size` wait, a producer that must not lose any pauses; with `newest_wins` the oldest waiting frame is dropped
    and counted. An exception in the thread is raised in the reader, after the frames that came before it.
    """

    def __init__(self, produce: Callable[[Ahead], Frames], size: int, *, newest_wins: bool = False) -> None:
        if size < 1:
            raise ValueError(f"lookahead is at least 1 frame, not {size}")
        self.dropped = 0
        self._size, self._newest_wins = size, newest_wins
        self._waiting: deque[Frame] = deque()
        self._notes: deque[str] = deque()
        self._error: BaseException | None = None
        self._over = False
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(produce,), name="weavetime-video", daemon=True)
        self.thread.start()

    def stopped(self) -> bool:
        """Whether the reader has gone; a producer then returns."""
        return self._stop.is_set()

    def pause(self, seconds: float) -> None:
        """For the producer: sleep, but wake at once when the reader goes."""
        self._stop.wait(max(0.0, seconds))

    def note(self, text: str) -> None:
        """For the producer: something that the reader should be warned of."""
        self._notes.append(text)

    def notes(self) -> Iterator[str]:
        """For the reader: what was noted since the last call."""
        while self._notes:
            yield self._notes.popleft()

    def take(self, most: int) -> list[Frame]:
        """Wait for a frame, then give what is ready, at most `most`; an empty list is the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._over)
            taken = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
            self._changed.notify_all()
            if not taken and self._error is not None:
                raise self._error
            return taken

    def stop(self) -> None:
        """End the thread; readers see the end of the frames."""
        self._stop.set()
        with self._changed:
            self._over = True
            self._waiting.clear()
            self._changed.notify_all()

    def join(self, seconds: float) -> None:
        """Wait for the thread to end, at most `seconds`."""
        if self.thread is not threading.current_thread():
            self.thread.join(seconds)

    def _run(self, produce: Callable[[Ahead], Frames]) -> None:
        try:
            with closing(produce(self)) as frames:
                for frame in frames:
                    if not self._put(frame):
                        return
        except BaseException as error:  # noqa: BLE001  (raised again where the frames are read)
            self._error = None if self.stopped() else error
        finally:
            with self._changed:
                self._over = True
                self._changed.notify_all()

    def _put(self, frame: Frame) -> bool:
        with self._changed:
            if self._newest_wins and len(self._waiting) == self._size:
                self._waiting.popleft()
                self.dropped += 1
            self._changed.wait_for(lambda: len(self._waiting) < self._size or self._over)
            if self._over:
                return False
            self._waiting.append(frame)
            self._changed.notify_all()
            return True


class DecodedSource(Source):
    """Frames made in a thread, afresh for each iteration: nothing is lost, the thread waits for the reader.

    The thread ends with the iteration, also where the iterator is abandoned, or when the source is closed.
    """

    def __init__(self, lookahead: int) -> None:
        super().__init__()
        self._lookahead = lookahead
        self._running: set[Ahead] = set()

    @abstractmethod
    def produce(self, ahead: Ahead) -> Frames:
        """The frames, one by one, in the decoding thread; `ahead` takes notes and says when to stop."""

    def __iter__(self) -> Iterator[Frame]:
        self._open_or_raise()
        ahead = Ahead(self.produce, self._lookahead)
        self._running.add(ahead)
        try:
            while taken := ahead.take(1):
                self._warn(ahead.notes())
                yield taken[0]
            self._warn(ahead.notes())
        finally:
            ahead.stop()
            self._running.discard(ahead)

    def close(self) -> None:
        super().close()
        for ahead in list(self._running):
            ahead.stop()
            ahead.join(1.0)


class LiveSource(Source):
    """Frames that come at their own pace from the moment of opening, read once.

    **What is dropped**: at most `lookahead` samples wait; when another comes, the oldest unread one is dropped (the
    newest wins) and counted in `dropped`. Times stay true, so what was dropped shows as a gap.
    `close()` returns at once; a thread that waits for a silent network ends with the source's `timeout`.
    """

    live = True

    def __init__(self, produce: Callable[[Ahead], Frames], lookahead: int, duration: float | None = None):
        super().__init__()
        self.duration = duration
        self._ahead = Ahead(produce, lookahead, newest_wins=True)
        weakref.finalize(self, self._ahead.stop)

    @property
    def dropped(self) -> int:
        return self._ahead.dropped

    def __iter__(self) -> Iterator[Frame]:
        return (frame for batch in self.batches(1) for frame in batch)

    def batches(self, size: int) -> Iterator[list[Frame]]:
        check_size(size)
        self._open_or_raise()
        return self._batches(size)

    def _batches(self, size: int) -> Iterator[list[Frame]]:
        while taken := self._ahead.take(size):
            self._warn(self._ahead.notes())
            yield taken
        self._warn(self._ahead.notes())

    def close(self) -> None:
        super().close()
        self._ahead.stop()
        self._ahead.join(0.2)
