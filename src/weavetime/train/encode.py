"""A sample as tokens, laid out as a stream lays them out: sink, steps, conversation (docs/method.md §1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..backbones import Backbone, Grid
from ..backbones.values import resized
from ..ops import place, text_positions
from ..types import Frame
from .losses import IGNORED

VISUAL = -2
"""Stands among token ids for a visual token."""
RECONSTRUCTION, ANSWER = 1, 2
"""Parts of the loss."""
GRID = 1000.0
"""Times a second that steps may stand at: a sample's frames have no rate of their own."""


@dataclass(frozen=True, slots=True)
class Step:
    """What is shown at once: one frame, or two where a temporal patch holds two. start, end: seconds, its true time."""

    frames: tuple[Frame, ...]
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Turn:
    """A question, its answer, and the part of the loss that the answer belongs to."""

    question: str
    answer: str
    part: int = ANSWER


@dataclass(frozen=True, slots=True)
class Encoded:
    """A sample ready for the model, L tokens.

    ids: int64 (L,), with NEWLINE and VISUAL. labels: int64 (L,), ids where a token is learnt, else -100; not shifted.
    parts: int8 (L,), which part of the loss a label counts in, 0 for none. positions: int64 (axes, L). pixels: uint8
    (steps, 3, height, width) as displayed, resized to the grid; (steps, 2, 3, height, width) with two frames a step.
    """

    ids: Tensor
    labels: Tensor
    parts: Tensor
    positions: Tensor
    pixels: Tensor
    grid: Grid


def encode(
    backbone: Backbone, steps: Sequence[Step], order: Sequence[int], turns: Sequence[Turn], most: float | None = None
) -> Encoded:
    """Show `steps`, ascending in time, in `order`, under their times as they ascend; then the conversation.

    most: pixels of a picture (`Backbone.grid`).
    """
    height, width, _ = steps[0].frames[0].pixels.shape
    grid = backbone.grid(height, width, most)
    sink = backbone.sink[0].tolist()
    ids, layouts = list(sink), []
    for step in steps:
        prompt = backbone.encode(stamp(backbone, step) + backbone.opening) if backbone.time_prompts else []
        closing = backbone.closing if backbone.time_prompts else ()
        ids += [*prompt, *[VISUAL] * grid.tokens, *closing]
        layouts.append(backbone.block(grid, len(prompt)))
    text, parts = _conversation(backbone, turns)
    timeline = backbone.timeline(GRID)
    at = None if timeline is None else timeline.starts([step.start for step in steps])
    placed = place(layouts, len(sink), backbone.axes, at)
    where = [text_positions(0, len(sink), backbone.axes), placed.positions]
    where.append(text_positions(placed.end, len(text), backbone.axes))
    parts = [0] * len(ids) + parts
    ids += text
    learnt = [token if part else IGNORED for token, part in zip(ids, parts, strict=True)]
    return Encoded(
        torch.tensor(ids),
        torch.tensor(learnt),
        torch.tensor(parts, dtype=torch.int8),
        torch.cat(where, 1),
        _pixels([steps[i] for i in order], grid),
        grid,
    )


def stamp(backbone: Backbone, step: Step) -> str:
    """The time prompt of a step."""
    return backbone.strings.time.format(start=step.start, end=step.end)


def _conversation(backbone: Backbone, turns: Sequence[Turn]) -> tuple[list[int], list[int]]:
    """Tokens after the steps, and the part of the loss of each: answers and the mark that ends them."""
    words = backbone.strings
    asked, said = words.turn.split("{a}")
    ids = [] if backbone.time_prompts else list(backbone.closing)
    parts, between, learnt = [0] * len(ids), "", 0
    for i, turn in enumerate(turns):
        last = i == len(turns) - 1
        # One text from answer to answer, as in the stream's prompt: a tokenizer merges across the seam of two turns.
        before, answer = _seam(
            backbone, between + (words.question if last else asked).format(q=turn.question), turn.answer
        )
        ids += before + answer
        parts += [learnt] * bool(i) + [0] * (len(before) - bool(i)) + [turn.part] * len(answer)
        between, learnt = said, turn.part  # begins with the mark that ends the answer
    return ids + backbone.encode(between)[:1], [*parts, learnt]


def _seam(backbone: Backbone, before: str, answer: str) -> tuple[list[int], list[int]]:
    """Tokens up to an answer, and its own. A space between the two begins the answer's first token, as in a stream."""
    if before.endswith(" "):
        stem, whole = backbone.encode(before.rstrip(" ")), backbone.encode(before + answer)
        if whole[: len(stem)] == stem:
            return stem, whole[len(stem) :]
    return backbone.encode(before), backbone.encode(answer)


def _pixels(steps: Sequence[Step], grid: Grid) -> Tensor:
    """Pictures as the stream resizes them: 8-bit values."""
    shown = [torch.cat([resized([frame], grid).to(torch.uint8) for frame in step.frames]) for step in steps]
    pixels = torch.stack(shown)
    return pixels[:, 0] if pixels.shape[1] == 1 else pixels
