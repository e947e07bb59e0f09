"""Pictures without a clock of their own: arrays, and folders of image files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import VideoError
from ..types import Frame
from .ahead import Ahead, DecodedSource, Frames
from .container import Container
from .file import check_file
from .pixels import to_rgb
from .sampling import exact
from .source import FrameSource, Source

IMAGES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".gif", ".avif"}
ONE_IMAGE = {"pattern_type": "none"}  # a name such as %03d.png is that file, not a series


def array_video(
    array: NDArray[np.uint8] | Sequence[NDArray[np.uint8]],
    fps: float = 1.0,
    times: Sequence[float] | None = None,
    *,
    start: float = 0.0,
    end: float | None = None,
) -> Source:
    """Pictures in memory, uint8, (frames, height, width, 3), RGB, as a source that gives every one of them.

    Picture i is at times[i] seconds, or, without times, at i / fps: an array has no clock but the one given here.
    start, end: seconds; only pictures with start ≤ time < end are given. Raises `VideoError` for another shape or
    type, for no pictures, and for times that do not ascend from 0 or later.
    """
    every = 1 / exact(fps)
    pictures = [_checked(np.asarray(picture)) for picture in array]
    if not pictures:
        raise VideoError("the array holds no pictures: give at least one, (frames, height, width, 3)")
    if times is None:
        times = [float(i * every) for i in range(len(pictures))]
    if len(times) != len(pictures):
        raise VideoError(f"{len(pictures)} pictures but {len(times)} times: give one time for each")
    if not np.isfinite(times).all() or times[0] < 0 or any(b <= a for a, b in pairwise(times)):
        raise VideoError("times must be finite, from 0 on and strictly ascending, in seconds")
    chosen = [(p, float(t)) for p, t in zip(pictures, times, strict=True) if start <= t and (end is None or t < end)]
    frames = [Frame(p, t, float(exact(t) + every)) for p, t in chosen]
    if not frames:
        raise VideoError(f"no picture lies between start={start:g} and end={end}: the last is at {times[-1]:g} s")
    return FrameSource(frames, duration=float(times[-1]) + float(every))


class FolderSource(DecodedSource):
    """Image files, one a sample: image i is at i / fps seconds. Each is decoded when its turn comes."""

    def __init__(
        self, paths: Sequence[Path], *, fps: Fraction, lookahead: int, start: Fraction, end: Fraction | None
    ) -> None:
        super().__init__(lookahead)
        timed = [(path, i / fps) for i, path in enumerate(paths)]
        self._timed = [(p, t) for p, t in timed if start <= t and (end is None or t < end)]
        self._fps = fps
        self.duration = float(len(paths) / fps)
        if not self._timed:
            raise VideoError(f"no image lies between start={float(start):g} and end={end and float(end)}")
        read_image(self._timed[0][0])

    def produce(self, ahead: Ahead) -> Frames:
        """The images, in the decoding thread."""
        for path, time in self._timed:
            yield Frame(read_image(path), float(time), float(time + 1 / self._fps))


def folder_images(folder: Path) -> list[Path]:
    """The image files of a folder, by name, numbers in names compared as numbers (2.jpg before 10.jpg)."""
    try:
        paths = [p for p in folder.iterdir() if p.suffix.lower() in IMAGES and not p.name.startswith(".")]
    except PermissionError as e:
        raise VideoError(f"{folder} may not be read: give yourself permission to read it") from e
    if not paths:
        raise VideoError(f"{folder} holds no images: it should hold files such as 0001.jpg or 0001.png")
    return sorted(paths, key=_natural)


def read_image(path: Path) -> NDArray[np.uint8]:
    """One image file as (height, width, 3) uint8 RGB, turned as its metadata says."""
    with Container(str(path), check_file(path), options=ONE_IMAGE) as image:
        picture = next(image.pictures(), None)
        if picture is None:
            raise VideoError(f"{path} holds no readable picture: remove it from the folder, or copy it again")
        return to_rgb(picture)


def _natural(path: Path) -> tuple[list[tuple[bool, int, str]], str]:
    parts = re.split(r"(\d+)", path.name)
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part.lower()) for part in parts if part], path.name


def _checked(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        raise VideoError(f"a picture is (height, width, 3) of uint8, RGB, not {picture.shape} of {picture.dtype}")
    return picture
