"""Plain plots as SVG, readable on a light and a dark page: lines over one pair of axes, and stacked bars."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 560, 320, 56, 50, 20, 194
GREY, GRID = "#757d85", "#80808040"
COLOURS = ("#d9622b", "#2f7ed8", "#3a9d5d", "#9b59b6", "#b8860b", GREY)
RIGHT_COLOUR, WRONG_COLOUR = "#2f7ed8", "#d9622b"
LONGEST = 22  # letters of a name that fit beside the plot
Place = Callable[[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """A name and its points (x, y), in order of x. flat: one to compare with, drawn broken and without marks.

    spread: the interval (low, high) of each point.
    """

    name: str
    points: Sequence[tuple[float, float]]
    flat: bool = False
    spread: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Axis:
    """The x axis. ticks: (x, what it says); by default quarters from 0 to 1, or each point where it is logarithmic."""

    name: str
    ticks: Sequence[tuple[float, str]] = ()
    logarithmic: bool = False


@dataclass(frozen=True)
class Bar:
    """A bar from `start` to `stop`: so many right below, so many wrong on top."""

    start: float
    stop: float
    right: int
    wrong: int


def lines(x: Axis, y_name: str, drawn: Sequence[Line]) -> str:
    """Lines over one pair of axes. Raises ValueError where there is no point."""
    xs = sorted({point[0] for line in drawn for point in line.points})
    ys = [value for line in drawn for value in (*(p[1] for p in line.points), *(v for s in line.spread for v in s))]
    if not xs:
        raise ValueError("a plot needs at least one point")
    low, high = math.floor(min(ys) * 10 + 1e-9) / 10, math.ceil(max(ys) * 10 - 1e-9) / 10
    high = max(high, low + 0.1)
    ticks = x.ticks or [(v, f"{v:g}") for v in (xs if x.logarithmic else (0.0, 0.25, 0.5, 0.75, 1.0))]
    ends = min(ticks[0][0], xs[0]), max(ticks[-1][0], xs[-1])
    at = _place(ends, (low, high), logarithmic=x.logarithmic)
    parts = _axes(at, x.name, y_name, ticks, [(i / 10, f"{i / 10:.1f}") for i in _tenths(low, high)])
    places = sorted(range(len(drawn)), key=lambda i: -drawn[i].points[-1][1] if drawn[i].points else math.inf)
    for place, i in enumerate(places):
        parts += _line(drawn[i], i, at, TOP + 14 + 18 * place)
    return _svg(parts, f"{y_name} against {x.name}")


def bars(x: Axis, y_name: str, drawn: Sequence[Bar], mark: tuple[float, str] | None = None) -> str:
    """Stacked bars of right and wrong. mark: a place on the x axis, and what it is called."""
    most = max((bar.right + bar.wrong for bar in drawn), default=0) or 1
    step = next(s for s in (m * 10**e for e in range(10) for m in (1, 2, 5)) if most / s <= 6)
    top = math.ceil(most / step) * step
    ticks = x.ticks or [(v, f"{v:g}") for v in (0.0, 0.25, 0.5, 0.75, 1.0)]
    at = _place((ticks[0][0], ticks[-1][0]), (0, top))
    parts = _axes(at, x.name, y_name, ticks, [(i * step, f"{i * step:,}") for i in range(top // step + 1)])
    for bar in drawn:
        parts += _box(at, bar.start, bar.stop, (0, bar.right), RIGHT_COLOUR)
        parts += _box(at, bar.start, bar.stop, (bar.right, bar.right + bar.wrong), WRONG_COLOUR)
    for i, (name, colour) in enumerate((("wrong", WRONG_COLOUR), ("right", RIGHT_COLOUR))):
        parts.append(f'<rect x="{WIDTH - RIGHT + 10}" y="{TOP + 5 + 18 * i}" width="10" height="10" fill="{colour}"/>')
        parts.append(_text(WIDTH - RIGHT + 26, TOP + 14 + 18 * i, name))
    if mark is not None:
        across, up = at(mark[0], top)
        parts.append(f'<path d="M{across:.1f} {up:.1f}V{HEIGHT - BOTTOM}" stroke="{GREY}" stroke-dasharray="5 4"/>')
        parts.append(_text(across, up - 4, mark[1], anchor="middle"))
    return _svg(parts, f"{y_name} by {x.name}")


def _tenths(low: float, high: float) -> range:
    return range(round(low * 10), round(high * 10) + 1)


def _place(xs: tuple[float, float], ys: tuple[float, float], *, logarithmic: bool = False) -> Place:
    """Where a point lies, pixels."""
    first, last = map(math.log, xs) if logarithmic else xs

    def at(x: float, y: float) -> tuple[float, float]:
        along = ((math.log(x) if logarithmic else x) - first) / (last - first or 1)
        up = (y - ys[0]) / (ys[1] - ys[0])
        return LEFT + along * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - BOTTOM - TOP)

    return at


def _axes(
    at: Place, x_name: str, y_name: str, xs: Sequence[tuple[float, str]], ys: Sequence[tuple[float, str]]
) -> list[str]:
    parts = []
    for value, said in ys:
        y = at(xs[0][0], value)[1]
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="{GRID}"/>')
        parts.append(_text(LEFT - 6, y + 4, said, anchor="end"))
    parts += [_text(at(value, ys[0][0])[0], HEIGHT - BOTTOM + 16, said, anchor="middle") for value, said in xs]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_name, anchor="middle"))
    turned = f"translate(14 {(HEIGHT - BOTTOM) / 2:g}) rotate(-90)"
    parts.append(f'<text transform="{turned}" text-anchor="middle" fill="{GREY}">{escape(y_name)}</text>')
    return parts


def _line(line: Line, number: int, at: Place, beside: float) -> list[str]:
    """A line, its marks and intervals, and its name at a height beside the plot."""
    colour = COLOURS[number % len(COLOURS)]
    places = [at(*point) for point in line.points]
    broken = ' stroke-dasharray="5 4"' if line.flat else ""
    stroke = f'fill="none" stroke="{colour}" stroke-width="2"{broken}'
    parts = [f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}" {stroke}/>']
    for (x, _), (low, high) in zip(line.points, line.spread, strict=False):
        (across, bottom), (_, top) = at(x, low), at(x, high)
        across += 3 * number  # those of several lines side by side
        parts.append(f'<path d="M{across:.1f} {bottom:.1f}V{top:.1f}" stroke="{colour}" opacity="0.45"/>')
    if not line.flat:
        parts += [_mark(number, x, y, colour) for x, y in places]
    start = WIDTH - RIGHT + 10
    parts.append(f'<path d="M{start} {beside - 4:g}h14" {stroke}/>')
    if not line.flat:
        parts.append(_mark(number, start + 7, beside - 4, colour))
    return [*parts, _text(start + 20, beside, line.name, colour)]


def _mark(number: int, x: float, y: float, colour: str) -> str:
    """A disc, a square, a triangle or a rhombus: colours are never the only sign."""
    corners = (((-3, -3), (3, -3), (3, 3), (-3, 3)), ((0, -4), (4, 3), (-4, 3)), ((0, -4), (4, 0), (0, 4), (-4, 0)))
    if number % 4 == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners[number % 4 - 1])
    return f'<polygon points="{points}" fill="{colour}"/>'


def _box(at: Place, start: float, stop: float, ys: tuple[float, float], colour: str) -> list[str]:
    (left, bottom), (right, top) = at(start, ys[0]), at(stop, ys[1])
    if bottom - top <= 0:
        return []
    size = f'width="{right - left - 2:.1f}" height="{bottom - top:.1f}"'
    return [f'<rect x="{left + 1:.1f}" y="{top:.1f}" {size} fill="{colour}"/>']


def _text(x: float, y: float, said: str, colour: str = GREY, *, anchor: str = "start") -> str:
    short = said if anchor != "start" or len(said) <= LONGEST else f"{said[: LONGEST - 1]}…"
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(short)}</text>'


def _svg(parts: Sequence[str], title: str) -> str:
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}>'
    return "\n".join([head, f"<title>{escape(title)}</title>", *parts, "</svg>", ""])


__all__ = ["Axis", "Bar", "Line", "bars", "lines"]
