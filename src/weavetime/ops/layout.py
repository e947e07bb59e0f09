"""Where tokens stand: the layout of one block, and the positions of a view made of blocks (docs/method.md §2).

A position has one axis (plain rotary) or three (time, height, width). A block carries positions relative to its own
start; the view gives each block its start. Text that follows stands at 1 + the maximum over all axes of everything
before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class BlockLayout:
    """The tokens of one block; blocks of one kind share one instance, and identity is what 'same layout' means.

    positions: int64 (axes, tokens), relative to the block's start. visual: the span of visual tokens.
    moves: one flag an axis: whether a block's start moves along it. advance: how far the next block starts from this.
    """

    positions: Tensor
    visual: slice
    moves: tuple[bool, ...]
    advance: int

    @property
    def tokens(self) -> int:
        """Tokens in the block."""
        return self.positions.shape[1]

    @property
    def axes(self) -> int:
        """1, or 3 for (time, height, width)."""
        return self.positions.shape[0]

    @cached_property
    def tops(self) -> tuple[int, ...]:
        """Largest relative position on each axis."""
        return tuple(int(p) for p in self.positions.amax(1))


@dataclass(frozen=True, eq=False)
class Placement:
    """Blocks in a row: positions int64 (axes, tokens); starts along the moving axes; end, where text goes on."""

    positions: Tensor
    starts: tuple[int, ...]
    end: int


def place(layouts: Sequence[BlockLayout], origin: int, axes: int) -> Placement:
    """Lay blocks out one after another from `origin`, the position after the sink (docs/method.md §2).

    layouts: one entry a block, in time order. Returns positions for all their tokens and the position of the next text
    token: 1 + the maximum over all axes.
    """
    parts, starts, end, start = [], [], origin, 0
    for layout, run in groupby(layouts, key=lambda x: x):
        count = sum(1 for _ in run)
        steps = start + layout.advance * torch.arange(count)
        moves = torch.tensor(layout.moves, dtype=torch.int64)
        offset = origin + steps[None, :, None] * moves[:, None, None]
        parts.append((layout.positions[:, None, :] + offset).flatten(1))
        starts += steps.tolist()
        tops = (origin + moving * starts[-1] + top for moving, top in zip(layout.moves, layout.tops, strict=True))
        end = max(end, 1 + max(tops))
        start = starts[-1] + layout.advance
    positions = torch.cat(parts, 1) if parts else torch.empty(axes, 0, dtype=torch.int64)
    return Placement(positions, tuple(starts), end)


def text_positions(start: int, count: int, axes: int) -> Tensor:
    """Positions of `count` text tokens from `start`: the same on every axis; int64 (axes, count)."""
    return torch.arange(start, start + count).expand(axes, count)
