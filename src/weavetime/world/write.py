"""A world written down: its pictures as H.264 video, its questions as lines of JSON. Same libraries, same bytes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..errors import WorldError
from .questions import Asked
from .render import Renderer
from .script import Script

SIZES, RATES = (64, 1024), (1, 60)  # pixels across, which H.264 wants even; pictures a second
# One thread, so that bytes do not depend on the machine's cores; no macroblock tree, whose choices x264 makes now and
# then otherwise in one run than in the next.
CODING = {"preset": "veryfast", "crf": "18", "threads": "1", "x264-params": "mbtree=0"}


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A file beside `path` that takes its place when all went well, and is gone when not."""
    if path.is_dir():
        raise WorldError(f"{path} is a folder: name a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part{os.getpid()}{path.suffix}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_video(
    script: Script, path: Path, *, size: int = 448, fps: int = 12, on_frame: Callable[[int], None] | None = None
) -> None:
    """Write an MP4 file, `size` pixels square, in which things move smoothly; one step lasts a second.

    on_frame: told how many pictures are written. Raises WorldError on a size or rate that cannot be, or without PyAV.
    """
    if not (SIZES[0] <= size <= SIZES[1] and size % 2 == 0):
        raise WorldError(f"size must be an even number of pixels from {SIZES[0]} to {SIZES[1]}, got {size}")
    if not RATES[0] <= fps <= RATES[1]:
        raise WorldError(f"fps must be {RATES[0]} to {RATES[1]} pictures a second, got {fps}")
    try:
        import av
    except ImportError as e:
        raise WorldError("writing video needs PyAV: pip install weavetime[video]") from e
    renderer = Renderer(script, size)
    with whole(path) as part, av.open(str(part), "w", format="mp4", options={"movflags": "faststart"}) as out:
        stream = out.add_stream("libx264", rate=fps, options={**CODING, "g": str(10 * fps)})
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, fps)
        for i in range(script.steps * fps):
            frame = av.VideoFrame.from_ndarray(renderer.picture(i / fps), format="rgb24")
            frame.pts = i
            out.mux(stream.encode(frame))
            if on_frame is not None:
                on_frame(i + 1)
        out.mux(stream.encode())


def record(script: Script, number: int, asked: Asked, *, choice: bool = True) -> dict[str, Any]:
    """One question as plain values; an open one has no options."""
    return {
        "id": f"{script.split}-{script.seed}-{number}",
        "family": asked.family,
        "question": asked.text,
        "options": list(asked.options) if choice else [],
        "answer": asked.answer,
        "gold": asked.gold if choice else None,
        "at": asked.at,
        "evidence": [list(span) for span in asked.evidence],
        "kinds": list(asked.kinds),
    }


def write_questions(script: Script, asked: Sequence[Asked], path: Path, *, choice: bool = True) -> None:
    """Write one line of JSON a question. Times are seconds of the video."""
    with whole(path) as part:
        lines = (json.dumps(record(script, i, a, choice=choice)) + "\n" for i, a in enumerate(asked))
        part.write_text("".join(lines))
