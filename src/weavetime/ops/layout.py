"""Where tokens stand: the layout of one block, and the positions of a view made of blocks (docs/method.md §2).

A position has one axis (plain rotary) or three (time, height, width). A block carries positions relative to its own
start; the view gives each block its start. Text that follows stands at 1 + the maximum over all axes of everything
before it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, groupby, pairwise

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class BlockLayout:
    """The tokens of one block; blocks of one kind share one instance, and identity is what 'same layout' means.

    positions: int64 (axes, tokens), relative to the block's start. visual: the span of visual tokens.
    moves: one flag an axis: whether a block's start moves along it. advance: how far the next block starts from this;
    on a Timeline, the least it does.
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

    def fitting(self, positions: int) -> int:
        """How many such blocks, one after another, stand within so many positions."""
        last = positions - 1
        moving = (top for top, moves in zip(self.tops, self.moves, strict=True) if moves)
        return 1 + min((last - top) // self.advance for top in moving) if max(self.tops) <= last else 0


@dataclass(frozen=True, eq=False)
class Placement:
    """Blocks in a row: positions int64 (axes, tokens); starts along the moving axes; end, where text goes on."""

    positions: Tensor
    starts: tuple[int, ...]
    end: int


@dataclass(frozen=True)
class Timeline:
    """Starts by the clock: a gap in time is a gap in positions (docs/method.md §2).

    per_second: positions a second. fps: steps a second, the stream's grid of times. limit: how far apart the first and
    the last block of a view may start; wider views have their widest gaps shortened.
    """

    per_second: float
    fps: float
    limit: int

    def tick(self, time: float) -> int:
        """Absolute position of a time, seconds: floor of its grid time x per_second.

        The grid time is the sampling time for which a frame at `time` stands: the first at or after it.
        """
        index = math.ceil(time * self.fps - 1e-6)  # slack of a microstep: times are sums of binary fractions
        return math.floor(index * self.per_second / self.fps + 1e-6)

    def fits(self, first: float, last: float) -> bool:
        """Whether a view from one time to another keeps its gaps."""
        return self.tick(last) - self.tick(first) <= self.limit

    def starts(self, times: Sequence[float]) -> list[int]:
        """Where blocks at ascending times start, the first at 0.

        Where they end beyond the limit, no gap is wider than the largest width with which they do not (at least 1).
        """
        ticks = [self.tick(t) for t in times]
        gaps = [b - a for a, b in pairwise(ticks)]
        if sum(gaps) > self.limit:
            low, high = 1, max(gaps)
            while low < high:
                middle = (low + high + 1) // 2
                low, high = (middle, high) if sum(min(g, middle) for g in gaps) <= self.limit else (low, middle - 1)
            gaps = [min(g, low) for g in gaps]
        return list(accumulate(gaps, initial=0)) if ticks else []


def place(layouts: Sequence[BlockLayout], origin: int, axes: int, at: Sequence[int] | None = None) -> Placement:
    """Lay blocks out one after another from `origin`, the position after the sink (docs/method.md §2).

    layouts: one entry a block, in time order. at: where each starts from the origin; by default each after its
    predecessor's advance. Returns positions for all their tokens and the position of the next text token: 1 + the
    maximum over all axes.
    """
    parts: list[Tensor] = []
    starts: list[int] = []
    end, start = origin, 0
    for layout, run in groupby(layouts, key=lambda x: x):
        count = sum(1 for _ in run)
        steps = start + layout.advance * torch.arange(count)
        if at is not None:
            steps = torch.tensor(at[len(starts) : len(starts) + count])
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
