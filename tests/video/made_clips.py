"""Clips made on the spot. Each picture carries its own number as 12 black and white squares, so that a test can tell
which picture it was given, whatever its time says."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

BITS, SQUARE = 12, 16
WIDTH, HEIGHT = BITS * SQUARE, 64
TICKS = Fraction(1, 90000)


def numbered(number: int) -> np.ndarray:
    """A picture that says its number: one square a bit in the top row, and a red corner at the bottom left."""
    pixels = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    for bit in range(BITS):
        pixels[:SQUARE, bit * SQUARE : (bit + 1) * SQUARE] = 255 if number >> bit & 1 else 0
    pixels[-SQUARE:, :SQUARE] = (255, 0, 0)
    return pixels


def number(pixels: Any) -> int:
    """The number that a picture carries."""
    middle = np.asarray(pixels)[SQUARE // 2, SQUARE // 2 :: SQUARE].mean(-1)
    return sum(1 << bit for bit in range(BITS) if middle[bit] > 128)


def make_clip(
    path: Path,
    times: Sequence[Fraction | float],
    *,
    codec: str = "libx264",
    form: str | None = None,
    rotation: int | None = None,
    options: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
    ticks: Fraction = TICKS,
    rate: int = 25,
    first: int = 0,
) -> Path:
    """A clip whose picture i carries the number first + i and is shown at times[i], seconds."""
    with av.open(str(path), "w", format=form, options=muxer or {}) as out:
        stream = out.add_stream(codec, rate=rate, options={"crf": "12", **(options or {})})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = stream.time_base = ticks
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for i, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(numbered(first + i), format="rgb24")
            frame.pts, frame.time_base = round(Fraction(time) / ticks), ticks
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def steady(seconds: float, rate: int = 25, start: float = 0) -> list[Fraction]:
    """Times of a constant frame rate."""
    return [Fraction(start) + Fraction(i, rate) for i in range(round(seconds * rate))]


def make_sound(path: Path, seconds: float = 1.0) -> Path:
    """A file that holds sound alone."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=16000)
        for i in range(int(seconds * 16000) // 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, i * 1024
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def own_times(path: Path) -> tuple[list[Fraction], Fraction]:
    """A clip's presentation times from its first picture, read packet by packet, and where its last picture ends."""
    with av.open(str(path)) as video:
        packets = [p for p in video.demux(video.streams.video[0]) if p.pts is not None]
        stamps = sorted((p.pts, p.duration) for p in packets)
        base = video.streams.video[0].time_base
    first = stamps[0][0]
    return [(pts - first) * base for pts, _ in stamps], (stamps[-1][0] - first + stamps[-1][1]) * base


def on_screen(times: Sequence[Fraction], end: Fraction, fps: Fraction, start: Fraction = Fraction(0)) -> list[int]:
    """Which pictures are on screen at start, start + 1/fps, …: looked up one by one, as slowly as the rule reads."""
    shown: list[int] = []
    moment = start
    while moment < end:
        latest = max(i for i, time in enumerate(times) if time <= moment)
        if latest not in shown:
            shown.append(latest)
        moment += 1 / fps
    return shown
