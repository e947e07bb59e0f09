"""Is anything after the visible span ever seen? Each question again, with noise in place of every later picture.

The run is the runner's own, up to the question: the same group, the same moments before it. A response, gate or
stretch read that differs in one bit was touched by what came later.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from ...types import Frame
from ..row import Row
from ..run import Fed, Group, Run, answered, groups

if TYPE_CHECKING:
    from ...loading import Engine

SAME = ("response", "parsed", "gate", "recalled", "read", "seen")


class Noise:
    """Frames of which every picture after `limit` seconds is noise. later: how many such came by."""

    def __init__(self, limit: float) -> None:
        self.limit, self.later = limit, 0

    def __call__(self, batches: Iterator[Sequence[Frame]]) -> Iterator[Sequence[Frame]]:
        for batch in batches:
            yield [frame if frame.time <= self.limit else self._noise(frame) for frame in batch]

    def _noise(self, frame: Frame) -> Frame:
        self.later += 1
        drawn = np.random.RandomState(self.later).randint(0, 256, frame.pixels.shape, dtype=np.uint8)
        if isinstance(frame.pixels, torch.Tensor):
            return replace(frame, pixels=torch.from_numpy(drawn).to(frame.pixels.device))
        return replace(frame, pixels=drawn)


@dataclass(frozen=True, slots=True)
class Compared:
    """One answer with and without noise after its span. later: noisy frames within the runner's reach at that time.

    differs: fields that are not the same to the bit, and `seen` where a frame after the limit was.
    """

    row: Row
    limit: float
    later: int
    differs: tuple[str, ...]


def compared(engine: Engine, run: Run, *, on_fed: Fed = lambda n: None) -> Iterator[Compared]:
    """Every answer of a run, but for those about whole videos, after which nothing comes."""
    for group in groups(run):
        true = {row.key: row for row in answered(engine, run, group, on_fed)}
        for limit in dict.fromkeys(end for end, _ in group.asked if math.isfinite(end)):
            noise = Noise(limit)
            for row in _upto(engine, replace(run, wrap=noise), group, limit, on_fed):
                found = true[row.key]
                if found.problem or row.problem:
                    continue
                differs = [name for name in SAME if getattr(found, name) != getattr(row, name)]
                if row.seen is not None and row.seen > limit and "seen" not in differs:
                    differs.append("seen")
                yield Compared(row, limit, noise.later, tuple(differs))


def _upto(engine: Engine, run: Run, group: Group, limit: float, on_fed: Fed) -> Iterator[Row]:
    """The rows of the questions whose span ends at the limit, from a run that goes no further."""
    ends = {e.id: end for end, e in group.asked}
    left = Counter(ends.values())[limit] * len(run.modes)
    rows = answered(engine, run, group, on_fed)
    for row in rows:
        if ends[row.id] == limit:
            yield row
            left -= 1
        if not left:
            return
