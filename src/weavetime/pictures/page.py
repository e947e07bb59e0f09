"""A page: questions, each with its answers, the frames that were read and its timeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from .pen import PALETTE, Pen

MARGIN, GAP, CELL, CAPTION, LINE = 40, 18, 76, 40, 34  # pixels


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer on a card. right: None where the truth is not known."""

    by: str
    text: str
    right: bool | None = None


def card(
    question: str, truth: str, answers: Sequence[Answered], parts: Sequence[tuple[str, Image.Image]], width: int
) -> Image.Image:
    """A question, the truth and the answers side by side, and pictures below each other, each under its caption."""
    top = 60 + CELL + GAP
    pen = Pen(width, top + sum(CAPTION + picture.height + GAP for _, picture in parts) - GAP)
    pen.text((0, 26), question, 32, bold=True, most=width)
    wide = (width - GAP * len(answers)) / (1 + len(answers))
    for i, answer in enumerate((None, *answers)):
        _cell(pen, (i * (wide + GAP), 60), wide, Answered("truth", truth) if answer is None else answer)
    for caption, picture in parts:
        pen.text((0, top + CAPTION / 2 - 4), caption, 22, PALETTE.soft, most=width)
        pen.paste(picture, (0, top + CAPTION))
        top += CAPTION + picture.height + GAP
    return pen.done()


def _cell(pen: Pen, corner: tuple[float, float], wide: float, answer: Answered) -> None:
    """Who answered, what, and a mark for right or wrong."""
    x, y = corner
    colour = {True: PALETTE.right, False: PALETTE.wrong, None: PALETTE.ink}[answer.right]
    plain = answer.right is None
    fill, edge = (PALETTE.panel, PALETTE.panel) if plain else (PALETTE.paper, colour)
    pen.box(corner, (wide, CELL), fill, edge=edge, line=2, radius=10)
    pen.text((x + 18, y + 23), answer.by, 20, PALETTE.soft)
    pen.text((x + 18, y + 53), answer.text, 24, colour, bold=True, most=wide - 36)
    cx, cy = x + wide - 28, y + 24
    if answer.right is True:
        pen.line([(cx - 10, cy), (cx - 3, cy + 8), (cx + 11, cy - 9)], colour, 5)
    elif answer.right is False:
        pen.line([(cx - 9, cy - 9), (cx + 9, cy + 9)], colour, 5)
        pen.line([(cx - 9, cy + 9), (cx + 9, cy - 9)], colour, 5)


def page(title: str, lines: Sequence[str], cards: Sequence[Image.Image]) -> Image.Image:
    """Cards below each other under a title and what explains them, RGB."""
    width = max(c.width for c in cards) + 2 * MARGIN
    head = MARGIN + 54 + LINE * len(lines)
    pen = Pen(width, head + sum(c.height + 2 * GAP for c in cards) + GAP)
    pen.text((MARGIN, MARGIN + 14), title, 38, bold=True, most=width - 2 * MARGIN)
    for i, text in enumerate(lines):
        pen.text((MARGIN, MARGIN + 64 + LINE * i), text, 24, PALETTE.soft, most=width - 2 * MARGIN)
    top = head + GAP
    for picture in cards:
        pen.line([(MARGIN, top), (width - MARGIN, top)], PALETTE.rule, 2)
        pen.paste(picture, (MARGIN, top + GAP))
        top += picture.height + 2 * GAP
    return pen.done()


__all__ = ["Answered", "card", "page"]
