"""What every command does first: load the model, open a stream and the source, and feed one from the other."""

from __future__ import annotations

import math
import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from ..errors import QuestionError
from .options import ModelChoice

if TYPE_CHECKING:
    from ..focus import Mode
    from ..loading import Engine
    from ..stream import Stream
    from ..types import Frame
    from ..video import Source

QUIET = 2.0  # seconds: what takes less needs no progress bar


def load_engine(choice: ModelChoice) -> Engine:
    """Load the model; a terminal shows that it takes a while."""
    with waiting(f"loading {choice.model}"):
        from transformers.utils import logging

        from ..loading import load

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        engine = load(choice.model, **choice.settings())
    _spare_threads(engine)
    return engine


def _spare_threads(engine: Engine) -> None:
    """A small model's operations are too short to share: where another program runs, threads wait for each other."""
    import torch

    from ..loading import few_threads

    if few_threads(engine) and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """A spinner on stderr, on a terminal alone."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(Text(f"{text} …", style="dim")):
        yield


def open_source(source: str, **settings: Any) -> Source:
    """Open a source; its warnings are kept on it for the command to say, not shown when they come up."""
    from ..video import VideoWarning, open_video

    warnings.simplefilter("ignore", VideoWarning)
    return open_video(source, **{key: value for key, value in settings.items() if value is not None})


def check_at(at: float | None) -> None:
    """Refuse a moment that no stream has, before anything is read."""
    if at is not None and not (math.isfinite(at) and at >= 0):
        raise QuestionError(f"at must be a number of seconds from 0, got {at:g}")


def check_mode(stream: Stream, mode: Mode) -> None:
    """Refuse a mode that this stream's settings rule out, before an hour of frames went in."""
    from ..engine import check_mode as check

    check(stream.config, mode.of(stream.record))
    if mode.name == "full":
        mode.first(stream.memory.index())


def feed(stream: Stream, source: Source, at: float | None = None) -> None:
    """Encode the frames up to `at` (None: all), with a progress bar where it takes long and somebody looks."""
    whole = source.duration if at is None else min(at, source.duration or at)
    with _Progress(whole) as progress:
        for batch in upto(source, at, stream.config.batch):
            stream.feed(batch)
            progress.update(len(batch), stream.now)


def upto(source: Source, at: float | None, size: int) -> Iterator[Sequence[Frame]]:
    """Batches of a source's frames whose time is at most `at`."""
    for batch in source.batches(size):
        seen = [frame for frame in batch if at is None or frame.time <= at]
        if seen:
            yield seen
        if len(seen) < len(batch):
            return


def warn(text: str) -> None:
    """One line on stderr about something that went on nevertheless."""
    print(f"weavetime: warning: {text}", file=sys.stderr)


class _Progress:
    """Frames, time and speed, shown after a while on a terminal."""

    def __init__(self, whole: float | None) -> None:
        text = TextColumn("[dim]{task.fields[text]}")
        self._bar = Progress(TextColumn("reading"), BarColumn(30), text, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task("", total=whole, text="")
        self._whole, self._frames, self._start, self._shown = whole, 0, time.monotonic(), False

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            self._bar.stop()

    def update(self, frames: int, now: float) -> None:
        """So many more frames are in; the stream has come to `now`, seconds."""
        self._frames += frames
        passed = time.monotonic() - self._start
        if not self._shown and passed > QUIET and self._bar.console.is_terminal:
            self._bar.start()
            self._shown = True
        of = "" if self._whole is None else f" of {self._whole:.0f} s"
        text = f"{self._frames} frames · {now:.0f} s{of} · {self._frames / max(passed, 1e-9):.1f} frames/s"
        self._bar.update(self._task, completed=now, text=text)
