"""Does a model notice in which order it sees? The same questions with frames shuffled, clips shuffled, reversed.

Grades stay those of the untouched video: a model that reads a video as a bag of pictures loses nothing.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from ...errors import DataError
from ..base import Example, Span
from .arranged import Arrange, Condition

UNTOUCHED = "in order"


def orders(clip: int = 4, seed: int = 0) -> tuple[Condition, ...]:
    """The conditions, the untouched one first. clip: frames of a clip, whose order within stays. seed: of the draws."""
    if clip < 1:
        raise DataError(f"a clip has at least 1 frame, got {clip}")
    return (
        Condition(UNTOUCHED),
        Condition("frames shuffled", _shuffled(1, seed)),
        Condition(f"clips of {clip} shuffled", _shuffled(clip, seed)),
        Condition("reversed", lambda example, times: range(len(times))[::-1]),
    )


def _shuffled(clip: int, seed: int) -> Arrange:
    def arrange(example: Example, times: Sequence[Span]) -> Sequence[int]:
        rng = random.Random(f"{seed}/{example.video}/{len(times)}/{clip}")
        clips = [list(range(i, min(i + clip, len(times)))) for i in range(0, len(times), clip)]
        drawn = clips
        while drawn == clips and len(clips) > 1:
            drawn = rng.sample(clips, len(clips))
        return [i for piece in drawn for i in piece]

    return arrange
