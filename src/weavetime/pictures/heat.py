"""Shades for shares, and heat maps: a table whose cells are darker where the share is larger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from .pen import PALETTE, Colour, Pen

CELL, TALL, GUTTER, HEAD, FOOT, BETWEEN = 104, 52, 92, 44, 72, 36  # pixels
LIGHT: Colour = (222, 232, 240)
DARK: Colour = (0, 68, 116)


def blend(share: float) -> Colour:
    """The colour of a share, from light for 0 to dark for 1."""
    share = min(max(share, 0.0), 1.0)
    r, g, b = (round(light + (dark - light) * share) for light, dark in zip(LIGHT, DARK, strict=True))
    return r, g, b


@dataclass(frozen=True, slots=True)
class Map:
    """A named table. cells: by (row, column) a share in [0, 1] and a small note; others stay empty."""

    name: str
    cells: Mapping[tuple[int, int], tuple[float, str]]


def heat_maps(maps: Sequence[Map], rows: Sequence[str], columns: Sequence[str], axes: tuple[str, str]) -> Image.Image:
    """Tables side by side with the same rows and columns, RGB. axes: what goes down and what goes across.

    Raises ValueError where there is nothing to draw.
    """
    if not (maps and rows and columns):
        raise ValueError("a heat map needs a table, a row and a column at least")
    wide = CELL * len(columns)
    pen = Pen(GUTTER + len(maps) * (wide + BETWEEN), HEAD + TALL * len(rows) + FOOT)
    pen.text((GUTTER - 14, HEAD - 20), axes[0], 20, PALETTE.soft, anchor="rm")
    for i, text in enumerate(rows):
        pen.text((GUTTER - 14, HEAD + TALL * (i + 0.5)), text, 20, anchor="rm")
    for n, table in enumerate(maps):
        left = GUTTER + n * (wide + BETWEEN)
        pen.text((left, HEAD - 20), table.name, 21, bold=True, most=wide)
        _cells(pen, table, left, len(rows), len(columns))
        below = HEAD + TALL * len(rows)
        for j, text in enumerate(columns):
            pen.text((left + CELL * (j + 0.5), below + 18), text, 20, anchor="mm")
        pen.text((left + wide / 2, below + 48), axes[1], 20, PALETTE.soft, anchor="mm")
    return pen.done()


def _cells(pen: Pen, table: Map, left: float, rows: int, columns: int) -> None:
    for i in range(rows):
        for j in range(columns):
            corner, size = (left + CELL * j + 1, HEAD + TALL * i + 1), (CELL - 2, TALL - 2)
            if (i, j) not in table.cells:
                pen.box(corner, size, PALETTE.panel)
                continue
            share, note = table.cells[i, j]
            ink = PALETTE.paper if share > 0.45 else PALETTE.ink
            pen.box(corner, size, blend(share))
            middle = left + CELL * (j + 0.5)
            pen.text((middle, HEAD + TALL * i + (18 if note else TALL / 2)), f"{share:.2f}", 20, ink, anchor="mm")
            pen.text((middle, HEAD + TALL * i + 38), note, 14, ink, anchor="mm")


__all__ = ["Map", "blend", "heat_maps"]
