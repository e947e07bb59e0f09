"""A stream from start to end: when the evidence was on screen, how unsure the model was, what each mode read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .heat import blend
from .pen import PALETTE, Colour, Pen
from .sheet import seconds

Span = tuple[float, float]
GUTTER, CURVE, LANE, GAP, AXIS, EDGE, SHADE = 150, 112, 32, 9, 36, 28, 20  # pixels
NAME, NOTE = 21, 18  # sizes of letters


@dataclass(frozen=True, slots=True)
class Curve:
    """A value in [0, 1] over time. points: (seconds, value). limit: a line to compare with, and what it is called."""

    name: str
    points: Sequence[tuple[float, float]]
    limit: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Lane:
    """What one mode or one layer read. shares: (start, end, share of the layers, in [0, 1]), seconds."""

    name: str
    shares: Sequence[tuple[float, float, float]]


def timeline(
    length: float,
    *,
    evidence: Sequence[Span] = (),
    at: float | None = None,
    curve: Curve | None = None,
    lanes: Sequence[Lane] = (),
    shades: Sequence[Lane] = (),
    width: int = 1600,
) -> Image.Image:
    """Stacked rows over one axis of `length` seconds, RGB, `width` pixels wide.

    evidence: spans tinted through all rows. at: the moment of the question, seconds. shades: thin rows below the
    lanes whose shares are drawn as depth of colour, such as scores.
    Raises ValueError on a length that is not positive.
    """
    if not length > 0:
        raise ValueError(f"a timeline needs a length of more than 0 s, got {length}")
    rows = [("evidence", None), *((lane.name, lane) for lane in lanes)]
    top = EDGE + (CURVE + GAP if curve else 0)
    strip = top + len(rows) * (LANE + GAP)
    bottom = strip + len(shades) * SHADE + (GAP if shades else 0)
    pen = Pen(width, bottom + AXIS)
    drawn = _Drawn(pen, length, width, bottom)
    drawn.ground(evidence)
    if curve is not None:
        drawn.curve(curve, EDGE, at)
    for i, (name, lane) in enumerate(rows):
        shares = [(a, b, 1.0) for a, b in evidence] if lane is None else lane.shares
        drawn.lane(name, shares, top + i * (LANE + GAP), PALETTE.evidence if lane is None else PALETTE.read)
    for i, lane in enumerate(shades):
        drawn.shades(lane, strip + i * SHADE)
    drawn.axis()
    if at is not None:
        drawn.moment(at)
    return pen.done()


class _Drawn:
    """A timeline being drawn: knows where a second lies."""

    def __init__(self, pen: Pen, length: float, width: int, bottom: float) -> None:
        self.pen, self.length, self.bottom = pen, length, bottom
        self.left, self.right = float(GUTTER), float(width - 60)

    def x(self, time: float) -> float:
        """Where a time lies, pixels."""
        return self.left + (self.right - self.left) * min(max(time / self.length, 0), 1)

    def ground(self, evidence: Sequence[Span]) -> None:
        self.pen.box((self.left, EDGE), (self.right - self.left, self.bottom - EDGE), PALETTE.panel)
        for a, b in evidence:
            self.pen.box((self.x(a), EDGE), (self.x(b) - self.x(a), self.bottom - EDGE), PALETTE.tint)

    def curve(self, curve: Curve, top: float, at: float | None) -> None:
        pen = self.pen

        def place(time: float, value: float) -> tuple[float, float]:
            return self.x(time), top + 6 + (CURVE - 12) * (1 - value)

        pen.text((self.left - 16, top + CURVE / 2), curve.name, NAME, PALETTE.curve, anchor="rm", bold=True)
        for value in (0, 1):
            pen.text((self.left - 16, place(0, value)[1]), str(value), NOTE, PALETTE.soft, anchor="rm")
        if curve.limit is not None:
            level = place(0, min(curve.limit, 1))[1]
            pen.dashes((self.left, level), (self.right, level), PALETTE.soft, 1.5)
            pen.text((self.right + 6, level), f"{curve.limit:g}", NOTE, PALETTE.soft)
            pen.text((self.left + 8, level - 13), curve.note, NOTE, PALETTE.soft)
        points = [place(t, v) for t, v in curve.points]
        if len(points) > 1:
            pen.line(points, PALETTE.curve, 2.5)
        if at is not None and points:
            times, values = zip(*curve.points, strict=True)
            pen.dot(place(at, float(np.interp(at, times, values))), 8, PALETTE.curve)

    def lane(self, name: str, shares: Sequence[tuple[float, float, float]], top: float, colour: Colour) -> None:
        self.pen.text((self.left - 16, top + LANE / 2), name, NAME, anchor="rm", most=GUTTER - 20)
        self.pen.line([(self.left, top + LANE), (self.right, top + LANE)], PALETTE.rule, 1)
        for a, b, share in shares:
            high = LANE * share
            self.pen.box((self.x(a), top + LANE - high), (self.x(b) - self.x(a), high), colour)

    def shades(self, lane: Lane, top: float) -> None:
        self.pen.text((self.left - 16, top + SHADE / 2), lane.name, NOTE, anchor="rm", most=GUTTER - 20)
        for a, b, share in lane.shares:
            corner, size = (self.x(a), top + 1), (max(1.0, self.x(b) - self.x(a)), SHADE - 2)
            self.pen.box(corner, size, blend(share))

    def axis(self) -> None:
        step = next((s for s in STEPS if self.length / s <= 12), STEPS[-1])
        for i in range(int(self.length / step) + 1):
            x = self.x(i * step)
            self.pen.line([(x, self.bottom), (x, self.bottom + 6)], PALETTE.soft, 1)
            self.pen.text((x, self.bottom + 20), seconds(i * step), NOTE, PALETTE.soft, anchor="mm")

    def moment(self, at: float) -> None:
        x = self.x(at)
        self.pen.line([(x, EDGE - 4), (x, self.bottom)], PALETTE.ink, 2)
        anchor = "rm" if x > (self.left + self.right) / 2 else "lm"
        self.pen.text((x, EDGE - 14), f"asked at {seconds(at)}", NOTE, anchor=anchor)


STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)  # seconds between two marks

__all__ = ["Curve", "Lane", "timeline"]
