"""Which frames of a video a sample shows, by presentation time."""

from __future__ import annotations

import gc
import math
import os
import random
import warnings
from collections.abc import Iterable, Iterator
from fractions import Fraction
from heapq import heappush, heappushpop
from itertools import chain, islice
from typing import TypeVar

from ..data import Record
from ..errors import DataError
from ..types import Frame
from ..video import VideoWarning, open_video
from ..video.container import Container
from ..video.file import check_file

T = TypeVar("T")

SLACK = 1.0  # seconds by which an annotation's end may lie after the video's own
AHEAD = 4  # decoded frames that wait

# A decoder that was read here and lies in a reference cycle must not be freed in a forked worker: it would wait there
# for its threads, which only this process has.
os.register_at_fork(before=gc.collect)


def read_frames(record: Record, *, fps: float, most: int | None, beta: float, rng: random.Random) -> list[Frame]:
    """The frames of a sample, ascending in time, at most `most` (or the record's own number).

    Candidates are what is on screen every 1/fps seconds of the record's span. Where they are too many, beta 0 spaces
    frames evenly over the span, and each stands for the time up to the next; beta > 0 draws candidates without
    replacement, one at x in [0, 1] of the span with weight e^(beta x). The record's key frames are always among them.
    Raises DataError, VideoError: also where the video is cut off, damaged, or without true times.
    """
    if record.video.is_dir():
        raise DataError(f"{record.video} is a folder: pictures without times teach no time")
    with Container(str(record.video), check_file(record.video)) as video:
        start, end = _span(record, video.duration)
        moments = _moments(record, video, start, end)
    most = record.nframes or most
    room = None if most is None else most - len(moments)
    if room is not None and room < 0:
        raise DataError(f"{len(moments)} key frames, but a sample shows at most {most} frames")
    with warnings.catch_warnings():  # each becomes an error
        warnings.simplefilter("ignore", VideoWarning)
        keys = [_read_one(record, fps, moment) for moment in moments]
        if room is None:
            found = list(_read(record, fps, start, record.end))
        elif room == 0:
            found = []
        elif end is None:
            raise DataError(f"{record.video} does not say how long it lasts: give video_end")
        elif beta == 0:
            found = list(islice(_read(record, min(fps, room / (end - start)), start, record.end), room))
        else:
            held = {key.time for key in keys}
            rest = (f for f in _read(record, fps, start, record.end) if f.time not in held)
            found = draw(((f, (f.time - start) / (end - start)) for f in rest), room, beta, rng)
    return [by_time[1] for by_time in sorted({f.time: f for f in chain(found, keys)}.items())]


def draw(items: Iterable[tuple[T, float]], most: int, beta: float, rng: random.Random) -> list[T]:
    """At most `most` items in their order, drawn one after another without replacement with weights e^(beta x).

    items: each with its x. Every item runs a race of its own, exponential in its weight, and the first `most` win:
    the same as drawing in turn, with no more than `most` items in memory.
    """
    kept: list[tuple[float, int, T]] = []
    for place, (item, x) in enumerate(items):
        entry = (-rng.expovariate(1.0) * math.exp(-beta * x), place, item)
        if len(kept) < most:
            heappush(kept, entry)
        else:
            heappushpop(kept, entry)
    return [item for _, _, item in sorted(kept, key=lambda entry: entry[1])]


def _span(record: Record, duration: Fraction | None) -> tuple[float, float | None]:
    start, end = record.start or 0.0, record.end
    if duration is None:
        return start, end
    if start >= duration:
        raise DataError(f"video_start {start:g} lies beyond the video's end at {float(duration):.1f} s")
    if end is not None and end > duration + SLACK:
        raise DataError(f"video_end {end:g} lies beyond the video's end at {float(duration):.1f} s")
    return start, float(duration) if end is None else min(end, float(duration))


def _moments(record: Record, video: Container, start: float, end: float | None) -> list[float]:
    """For each key frame, a moment within the time that it is on screen, seconds."""
    if not record.key_frames:
        return []
    stamps = [p.pts for p in video.av.demux(video.stream) if p.size and not p.is_discard]
    if not stamps or None in stamps:
        raise DataError(f"{record.video} has no presentation times: its key frames cannot be found by number")
    times = [float((pts - min(stamps)) * video.stream.time_base) for pts in sorted(stamps)]
    moments = []
    for number in record.key_frames:
        if number >= len(times):
            raise DataError(f"key frame {number} is missing: {record.video} has {len(times)} pictures")
        if not start <= times[number] < (math.inf if end is None else end):
            raise DataError(f"key frame {number} at {times[number]:.2f} s lies outside {start:g} to {end} s")
        following = times[number + 1] if number + 1 < len(times) else times[number] + 1e-3
        moments.append((times[number] + following) / 2)
    return moments


def _read_one(record: Record, fps: float, moment: float) -> Frame:
    """What is on screen at a moment."""
    return next(_read(record, fps, moment, moment + 0.5 / fps))


def _read(record: Record, fps: float, start: float, end: float | None) -> Iterator[Frame]:
    with open_video(record.video, fps=fps, start=start, end=end, lookahead=AHEAD) as video:
        yield from video
        if video.warnings:
            raise DataError(f"the video is damaged: {video.warnings[0]}")
