"""A canvas on which lines and letters are smooth, the palette, and the font that comes with Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Point = tuple[float, float]
FINE = 2  # everything is drawn so many times larger, then reduced


@dataclass(frozen=True, slots=True)
class Palette:
    """Told apart with any colour vision (Okabe and Ito), and never the only sign: bars have heights, marks shapes."""

    ink: Colour = (33, 37, 41)
    soft: Colour = (96, 104, 112)
    rule: Colour = (214, 219, 224)
    panel: Colour = (246, 247, 249)
    paper: Colour = (255, 255, 255)
    right: Colour = (0, 114, 178)
    wrong: Colour = (213, 94, 0)
    evidence: Colour = (230, 159, 0)
    tint: Colour = (253, 241, 214)
    read: Colour = (0, 114, 178)
    curve: Colour = (0, 120, 90)


PALETTE = Palette()


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Aileron, which Pillow carries: ASCII and Latin letters, so the same everywhere."""
    found = ImageFont.load_default(size)
    assert isinstance(found, ImageFont.FreeTypeFont), "Pillow without FreeType cannot draw text of a size"
    return found


class Pen:
    """Draws in pixels of the finished picture, with fractions where wanted."""

    def __init__(self, width: int, height: int, paper: Colour = PALETTE.paper) -> None:
        self.width, self.height = width, height
        self._image = Image.new("RGB", (width * FINE, height * FINE), paper)
        self._draw = ImageDraw.Draw(self._image)

    def box(
        self, corner: Point, size: Point, fill: Colour | None = None, *, edge: Colour | None = None, line: float = 0,
        radius: float = 0,
    ) -> None:  # fmt: skip
        """A rectangle from its upper left corner; `edge` is drawn inside it, `line` pixels wide."""
        x, y = round(corner[0] * FINE), round(corner[1] * FINE)
        ends = (max(x, round((corner[0] + size[0]) * FINE) - 1), max(y, round((corner[1] + size[1]) * FINE) - 1))
        self._draw.rounded_rectangle((x, y, *ends), radius * FINE, fill, edge, round(line * FINE))

    def line(self, points: Sequence[Point], colour: Colour, width: float = 1) -> None:
        """A line through points."""
        self._draw.line([(x * FINE, y * FINE) for x, y in points], colour, round(width * FINE), joint="curve")

    def dashes(self, start: Point, end: Point, colour: Colour, width: float = 1, dash: float = 6) -> None:
        """A broken line, straight up or across."""
        (x0, y0), (x1, y1) = start, end
        length = max(abs(x1 - x0), abs(y1 - y0))
        for i in range(0, int(length / dash), 2):
            a, b = i * dash / length, min(1, (i + 1) * dash / length)
            ends = [(x0 + (x1 - x0) * share, y0 + (y1 - y0) * share) for share in (a, b)]
            self.line(ends, colour, width)

    def dot(self, centre: Point, radius: float, fill: Colour, edge: Colour = PALETTE.paper) -> None:
        """A disc with an edge that sets it off."""
        x, y, r = centre[0] * FINE, centre[1] * FINE, radius * FINE
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill, edge, 2 * FINE)

    def text(
        self, at: Point, text: str, size: int, colour: Colour = PALETTE.ink, *, anchor: str = "lm", bold: bool = False,
        most: float | None = None,
    ) -> float:  # fmt: skip
        """One line, cut with an ellipsis where it is wider than `most` pixels; returns its width."""
        while most is not None and length(text, size) > most and text.rstrip("…"):
            text = text.rstrip("…")[:-1].rstrip() + "…"
        place = (at[0] * FINE, at[1] * FINE)
        self._draw.text(place, text, colour, font(size * FINE), anchor=anchor, stroke_width=int(bold))
        return length(text, size)

    def paste(self, picture: Image.Image, corner: tuple[int, int]) -> None:
        """A picture as it is, pixel for pixel."""
        large = picture.convert("RGB").resize((picture.width * FINE, picture.height * FINE), Image.Resampling.NEAREST)
        self._image.paste(large, (corner[0] * FINE, corner[1] * FINE))

    def done(self) -> Image.Image:
        """The finished picture, RGB."""
        return self._image.reduce(FINE)


def length(text: str, size: int) -> float:
    """Width of a line of text, pixels."""
    return font(size * FINE).getlength(text) / FINE


__all__ = ["PALETTE", "Colour", "Palette", "Pen", "Point", "length"]
