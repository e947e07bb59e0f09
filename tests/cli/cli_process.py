"""The command line as a process, as a user runs it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

import weavetime

DEMO = Path(weavetime.__file__).parent / "assets" / "demo.mp4"


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line of a failed command, which said nothing else."""
        assert self.out == ""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("weavetime: ")
        return lines[0].removeprefix("weavetime: ")


def environment() -> dict[str, str]:
    """Plain output of a known width, one thread, and no look at the network."""
    plain = {"COLUMNS": "100", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}
    return {**os.environ, **plain}


def command(*arguments: object) -> list[str]:
    """The command line that starts weavetime."""
    return [sys.executable, "-m", "weavetime", *map(str, arguments)]


def make_clip(path: Path, count: int, rate: int = 10, form: str | None = None) -> Path:
    """A small clip whose pictures get brighter."""
    with av.open(str(path), "w", format=form) as out:
        stream = out.add_stream("libx264", rate=rate, options={"crf": "18", "g": str(rate)})
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for i in range(count):
            pixels = np.full((96, 160, 3), 255 * i // count, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(stream.encode())
    return path
