"""Frames side by side, each with its time; those that matter are outlined."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from PIL import Image

from .pen import PALETTE, Pen

GAP, CAPTION, OUTLINE, LETTERS = 8, 30, 5, 21  # pixels


def contact_sheet(
    frames: Sequence[np.ndarray | Image.Image],
    times: Sequence[float],
    *,
    marked: Collection[float] = (),
    width: int = 1600,
    columns: int = 12,
) -> Image.Image:
    """Thumbnails in rows of `columns`, RGB, `width` pixels wide.

    frames: uint8 (height, width, 3) arrays or images. times: each frame's, seconds. marked: times of those outlined.
    Raises ValueError where frames and times are not as many, or nothing is to be shown.
    """
    if len(frames) != len(times) or not frames:
        raise ValueError(f"a contact sheet needs a time for each of its frames, got {len(frames)} and {len(times)}")
    side = (width - GAP * (columns - 1)) / columns
    images = [f if isinstance(f, Image.Image) else Image.fromarray(f) for f in frames]
    tall = round(side * max(i.height / i.width for i in images))
    rows = -(-len(images) // columns)
    pen = Pen(width, rows * (tall + CAPTION + GAP) - GAP)
    for n, (image, time) in enumerate(zip(images, times, strict=True)):
        left, top = n % columns * (side + GAP), n // columns * (tall + CAPTION + GAP)
        size = max(1, int(side)), max(1, round(int(side) * image.height / image.width))
        pen.paste(image.resize(size, Image.Resampling.LANCZOS), (round(left), top))
        middle = round(left) + size[0] / 2, top + tall + CAPTION / 2 + 1
        if time not in marked:
            pen.text(middle, seconds(time), LETTERS, PALETTE.soft, anchor="mm")
            continue
        pen.box((round(left), top), size, edge=PALETTE.evidence, line=OUTLINE)
        pen.box((round(left), top + tall), (size[0], CAPTION), PALETTE.evidence)
        pen.text(middle, seconds(time), LETTERS, PALETTE.ink, anchor="mm", bold=True)
    return pen.done()


def seconds(time: float) -> str:
    """A time as a caption: 12 s, 12.5 s."""
    return f"{time:.1f}".removesuffix(".0") + " s"


__all__ = ["contact_sheet", "seconds"]
