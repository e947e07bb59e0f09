"""What every source of frames offers, and sources that hold their frames already."""

from __future__ import annotations

import warnings as python_warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from itertools import islice
from types import TracebackType
from typing import Self

from ..errors import VideoError
from ..types import Frame


class VideoWarning(UserWarning):
    """A source is readable, but not as it should be: cut off, damaged, without timestamps, or interrupted."""


class Source(ABC):
    """An iterable of `Frame`s whose times (seconds from the start of the stream) strictly ascend.

    live: frames come at their own pace, whether they are read or not, and can be read once; any other source can be
    iterated again from its start. duration: seconds, None where unknown. warnings: what was found wrong so far, also
    issued as `VideoWarning`s in the thread that reads. dropped: samples that a live source let go unread.
    """

    live: bool = False
    duration: float | None = None

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.closed = False

    @property
    def dropped(self) -> int:
        """Samples that were never read, because newer ones took their place."""
        return 0

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]: ...

    def batches(self, size: int) -> Iterator[list[Frame]]:
        """Frames in lists of exactly `size` (the last may be shorter), so that batching never depends on timing.

        A live source gives what is ready instead: at least one frame, at most `size`.
        """
        check_size(size)
        frames = iter(self)
        while batch := list(islice(frames, size)):
            yield batch

    def close(self) -> None:
        """Stop reading and let go of the file or connection. Closing twice is fine."""
        self.closed = True

    def _open_or_raise(self) -> None:
        if self.closed:
            raise VideoError("this source is closed: open it again with open_video()")

    def _warn(self, texts: Iterable[str]) -> None:
        for text in texts:
            if text not in self.warnings:
                self.warnings.append(text)
                python_warnings.warn(text, VideoWarning, stacklevel=3)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class FrameSource(Source):
    """A plain iterable of frames as a source; a list can be iterated again, a generator once."""

    def __init__(self, frames: Iterable[Frame], duration: float | None = None) -> None:
        super().__init__()
        self._frames = frames
        self.duration = duration

    def __iter__(self) -> Iterator[Frame]:
        self._open_or_raise()
        return iter(self._frames)


def as_source(frames: Source | Iterable[Frame]) -> Source:
    """The frames as a `Source`: a source as it is, any other iterable of `Frame`s wrapped."""
    return frames if isinstance(frames, Source) else FrameSource(frames)


def check_size(size: int) -> None:
    """Raise `ValueError` for a batch of nothing."""
    if size < 1:
        raise ValueError(f"a batch holds at least 1 frame, not {size}")
