"""What one run tells of every threshold of the gate, and of how far back the evidence lies."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, TypeVar

from .row import Row

DELTAS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.01)
BINS = 10


class Gated(Protocol):
    """An answer that says how unsure the first look was, and whether the past was read."""

    @property
    def gate(self) -> float | None: ...
    @property
    def recalled(self) -> bool: ...


K = TypeVar("K", bound=Hashable)
R = TypeVar("R", bound=Gated)


def at_delta(always: Mapping[K, R], window: Mapping[K, R], delta: float) -> dict[K, R]:
    """What weavetime answers at a threshold, of two runs: its second look where the gate reaches it, else the window's.

    always: answers at a threshold of 0, or any below `delta`. window: of the mode `window`. The confident path is the
    window's, token for token, which is why this is what a run at that threshold gives.
    """
    sure = {key for key, row in always.items() if not (row.recalled and row.gate is not None and row.gate >= delta)}
    return {key: window[key] if key in sure else always[key] for key in always.keys() & window.keys()}


@dataclass(frozen=True)
class Bin:
    """Rows whose number lies in [low, high)."""

    low: float
    high: float
    rows: tuple[Row, ...]

    @property
    def right(self) -> int:
        """How many were right."""
        return sum(row.right for row in self.rows)


def gate_bins(rows: Sequence[Row], bins: int = BINS) -> list[Bin]:
    """Rows by their gate, in steps from 0 to 1; 1 is in the last."""
    found: list[list[Row]] = [[] for _ in range(bins)]
    for row in rows:
        if row.gate is not None:
            found[min(bins - 1, max(0, int(row.gate * bins)))].append(row)
    return [Bin(i / bins, (i + 1) / bins, tuple(mine)) for i, mine in enumerate(found)]


def distance_bins(rows: Sequence[Row], edges: Sequence[float]) -> list[Bin]:
    """Rows by how far back their evidence lies, seconds. edges: ascending, of the bins from 0 on; the last is open."""
    ends = [0.0, *edges, math.inf]
    known = [(row.distance, row) for row in rows if row.distance is not None]
    return [Bin(a, b, tuple(row for d, row in known if a <= d < b)) for a, b in pairwise(ends)]


def doublings(window: float, farthest: float) -> list[float]:
    """Edges at the window's length, then at twice the edge before, up to the farthest, seconds."""
    found = [window]
    while found[-1] < farthest:
        found.append(found[-1] * 2)
    return found[:-1] or [window]
