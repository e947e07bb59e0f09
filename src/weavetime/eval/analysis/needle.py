"""A needle in a stream: how far back, in how long a stream, does a model find one card that was shown once?

For each length and depth `per_cell` streams of StreamWorld, each with one question about its needle, asked at the end.
The same streams, cards and places serve all depths of a length.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from PIL.Image import Image

from ...errors import DataError
from ...pictures import Map, heat_maps
from ...types import Frame
from ...world import Asked, Script, with_needle
from ...world.needle import ASKS, STAY
from ..base import Example
from ..benchmarks.streamworld import StreamWorld
from ..pictures import pictures
from ..row import Row
from ..scoring import by_mode

Cell = tuple[float, int]
"""A depth from 0, the start, to 1, and a length in steps."""


@dataclass(frozen=True, kw_only=True)
class Needle(StreamWorld):
    """StreamWorld with a needle in each stream. An example's id is LENGTH:DEPTH:NUMBER.

    lengths: steps of the streams, one a second. depths: where in the stream, from 0 to 1. per_cell: streams of each.
    Of the fields of StreamWorld, seed, split, open and size are looked at.
    """

    lengths: tuple[int, ...] = (64, 256, 1024)
    depths: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    per_cell: int = 8

    name: ClassVar[str] = "needle"

    def __post_init__(self) -> None:
        object.__setattr__(self, "lengths", tuple(self.lengths))
        object.__setattr__(self, "depths", tuple(self.depths))
        super().__post_init__()
        if not (self.lengths and self.depths) or self.per_cell < 1:
            raise DataError("a needle test needs a length, a depth and a stream of each")
        if short := [n for n in self.lengths if n < 4 * STAY]:
            raise DataError(f"a stream with a needle has at least {4 * STAY} steps, got {short[0]}")
        if wrong := [d for d in self.depths if not 0 <= d <= 1]:
            raise DataError(f"a depth is a share of the stream from 0 to 1, got {wrong[0]}")

    def read(self, root: Path, partial: bool) -> Iterator[Example]:
        """A question for each stream."""
        for length in self.lengths:
            for depth in self.depths:
                for i in range(self.per_cell):
                    name = f"{length}:{depth:g}:{i}"
                    yield self.example(name, name, self.hidden(name)[1], depth=depth, length=length)

    def hidden(self, name: str) -> tuple[Script, Asked]:
        """The stream and the question of an id."""
        length, depth, number = name.split(":")
        script = Script(self.seed + int(number), int(length), self.split)  # type: ignore[arg-type]
        rng = random.Random(f"needle/{self.split}/{script.seed}/{length}")  # the same needle at every depth
        return with_needle(script, float(depth), ASKS[int(number) % len(ASKS)], rng)

    def frames(self, video: str, batch: int, device: torch.device) -> Iterator[Sequence[Frame]]:
        """The stream of an id, drawn."""
        return pictures(self.hidden(video)[0], self.size, batch, device)


def found(rows: Sequence[Row]) -> dict[Cell, tuple[int, int]]:
    """Of rows of one mode: right answers and answers, by depth and length."""
    counts: dict[Cell, tuple[int, int]] = {}
    for row in rows:
        cell = row.extra["depth"], row.extra["length"]
        right, n = counts.get(cell, (0, 0))
        counts[cell] = right + row.right, n + 1
    return counts


def needle_picture(rows: Sequence[Row]) -> Image:
    """A heat map for each mode: depth down, length across; share of right answers."""
    modes = {mode: found(mine) for mode, mine in by_mode(rows).items()}
    depths = sorted({depth for cells in modes.values() for depth, _ in cells})
    lengths = sorted({length for cells in modes.values() for _, length in cells})
    maps = [
        Map(mode, {(depths.index(d), lengths.index(n)): (a / b, f"{a} of {b}") for (d, n), (a, b) in cells.items()})
        for mode, cells in modes.items()
    ]
    return heat_maps(maps, [f"{d:g}" for d in depths], [f"{n:,} s" for n in lengths], ("depth", "length of the stream"))
