"""A plain line plot as SVG, readable on a light and a dark page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 460, 300, 52, 44, 16, 130
COLOURS = ("#d9622b", "#2f7ed8", "#7a7a7a", "#3a9d5d", "#8e44ad")


@dataclass(frozen=True)
class Line:
    """A name and its points (x, y), in order of x."""

    name: str
    points: Sequence[tuple[float, float]]


def plot(path: Path, x_name: str, y_name: str, lines: Sequence[Line], *, logarithmic: bool = False) -> None:
    """Write lines over one pair of axes. logarithmic: the x axis, with a tick at each point."""
    xs = sorted({x for line in lines for x, _ in line.points})
    ys = [y for line in lines for _, y in line.points]
    low, high = math.floor(min(ys) * 10) / 10, math.ceil(max(ys) * 10) / 10
    high = max(high, low + 0.1)
    ends = [math.log(x) for x in (xs[0], xs[-1])] if logarithmic else [0.0, 1.0]

    def at(x: float, y: float) -> tuple[float, float]:
        along = ((math.log(x) if logarithmic else x) - ends[0]) / (ends[1] - ends[0] or 1)
        up = (y - low) / (high - low)
        return LEFT + along * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - BOTTOM - TOP)

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">']
    parts.append("<style>text { font-size: 11px; fill: #808080 }</style>")
    for tick in range(round(low * 10), round(high * 10) + 1):
        _, y = at(xs[0], tick / 10)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#80808040"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick / 10:.1f}</text>')
    for value in xs if logarithmic else (0.0, 0.25, 0.5, 0.75, 1.0):
        x, _ = at(value, low)
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{value:g}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{x_name}</text>')
    turned = f"translate(14 {(HEIGHT - BOTTOM) / 2}) rotate(-90)"
    parts.append(f'<text transform="{turned}" text-anchor="middle">{y_name}</text>')
    names = sorted(range(len(lines)), key=lambda i: -lines[i].points[-1][1])
    for place, i in enumerate(names):
        line, colour = lines[i], COLOURS[i % len(COLOURS)]
        places = [at(*point) for point in line.points]
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        y = TOP + 14 + 16 * place
        parts.append(f'<text x="{WIDTH - RIGHT + 10}" y="{y}" style="fill: {colour}">{line.name}</text>')
    path.write_text("\n".join([*parts, "</svg>", ""]))
