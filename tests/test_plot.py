"""Plots as SVG: points lie where they belong, and words are words."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from weavetime.pictures import Axis, Bar, Line, bars, lines
from weavetime.pictures.plot import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH

SVG = "{http://www.w3.org/2000/svg}"


def points(svg: str) -> list[list[tuple[float, ...]]]:
    found = ElementTree.fromstring(svg).findall(f"{SVG}polyline")
    return [[tuple(map(float, p.split(","))) for p in (line.get("points") or "").split()] for line in found]


def words(svg: str) -> list[str]:
    return [text.text or "" for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_points_lie_where_they_belong() -> None:
    [drawn] = points(lines(Axis("x"), "y", [Line("a", [(0, 0.2), (0.5, 0.3), (1, 0.4)])]))
    right, bottom, middle = WIDTH - RIGHT, HEIGHT - BOTTOM, (TOP + HEIGHT - BOTTOM) / 2
    assert drawn == [(LEFT, bottom), ((LEFT + right) / 2, middle), (right, TOP)]
    [drawn] = points(lines(Axis("x", logarithmic=True), "y", [Line("a", [(1, 0.2), (4, 0.2), (16, 0.2)])]))
    assert [x for x, _ in drawn] == [LEFT, (LEFT + right) / 2, right]


def test_bars_have_their_heights() -> None:
    svg = bars(Axis("gate"), "questions", [Bar(0.0, 0.5, 3, 7), Bar(0.5, 1.0, 0, 0)], (0.3, "δ"))
    tall = HEIGHT - BOTTOM - TOP
    boxes = ElementTree.fromstring(svg).findall(f"{SVG}rect")[:2]
    assert [float(box.get("height") or 0) for box in boxes] == pytest.approx([tall * 0.3, tall * 0.7], abs=0.1)
    assert {"0", "2", "10", "δ", "right", "wrong"} <= set(words(svg))
    assert len(ElementTree.fromstring(svg).findall(f"{SVG}rect")) == 4  # none for what is empty; two of the key
    assert "0" in words(bars(Axis("gate"), "questions", []))


def test_names_are_text_and_fit() -> None:
    svg = lines(Axis("a<b", [(0.0, "0–4 & more"), (1.0, "≥")]), "y", [Line("x" * 40, [(0, 0.5)], flat=True)])
    assert {"a<b", "0–4 & more", "≥", "x" * 21 + "…"} <= set(words(svg))
    assert not ElementTree.fromstring(svg).findall(f"{SVG}circle")  # flat ones have no marks


def test_intervals_are_inside() -> None:
    root = ElementTree.fromstring(lines(Axis("x"), "y", [Line("a", [(0, 0.5)], spread=[(0.05, 0.95)])]))
    heights = [float(text.get("y") or 0) for text in root.iter(f"{SVG}text") if text.text in ("0.0", "1.0")]
    assert len(heights) == 2
    with pytest.raises(ValueError, match="at least one point"):
        lines(Axis("x"), "y", [])
