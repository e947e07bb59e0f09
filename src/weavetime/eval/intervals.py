"""95 % intervals of official figures. Answers about one video are not independent, so videos are drawn, not questions.

A figure's interval is that of its official aggregation over videos drawn with replacement. Where the figure is a plain
share of right answers it is at least Wilson's, which also holds where all are right, or all of one video.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from .base import Benchmark, Score
from .row import Row
from .scores import wilson

DRAWS = 1000
Interval = tuple[float, float]


def resampled(videos: Sequence[str], draws: int = DRAWS) -> Iterator[list[int]]:
    """Numbers of questions, `draws` times: those of as many videos as there are, drawn with replacement.

    videos: of each question. The same videos give the same draws.
    """
    _, cluster = np.unique(np.asarray(videos), return_inverse=True)
    members = [np.flatnonzero(cluster == i) for i in range(int(cluster.max()) + 1)]
    random = np.random.RandomState(0)
    for _ in range(draws):
        yield np.concatenate([members[i] for i in random.randint(len(members), size=len(members))]).tolist()


def intervals(benchmark: Benchmark, rows: Sequence[Row], draws: int = DRAWS) -> dict[str, Interval]:
    """The interval of every figure of the summary of one mode's rows that has a value."""
    grades = [row.grade for row in rows]
    drawn: dict[str, list[float]] = defaultdict(list)
    for picked in resampled([row.video for row in rows], draws):
        for score in benchmark.summarize(grades[i] for i in picked).scores:
            if score.value is not None:
                drawn[score.name].append(score.value)
    found: dict[str, Interval] = {}
    for score in benchmark.summarize(grades).scores:
        if score.value is not None:
            low, high = _middle(drawn[score.name] or [score.value])
            bounds = [(low, high), *([wilson(right, score.n)] if (right := shared(score, rows)) is not None else [])]
            found[score.name] = min(b[0] for b in bounds), max(b[1] for b in bounds)
    return found


def shared(score: Score, rows: Sequence[Row]) -> int | None:
    """How many answers were right, where a figure is their plain share: of a task, or of all; None where it is not."""
    mine = [row for row in rows if row.counted and row.task == score.name] or [row for row in rows if row.counted]
    right = sum(row.value for row in mine)
    plain = len(mine) == score.n and all(row.value in (0, 1) for row in mine)
    return int(right) if plain and score.value is not None and abs(right - score.value * score.n) < 1e-6 else None


def difference(benchmark: Benchmark, a: Sequence[Row], b: Sequence[Row]) -> tuple[float, float, float] | None:
    """The official total of a minus that of b on the same questions in the same order, with its interval.

    None where either has none.
    """
    one, other = [row.grade for row in a], [row.grade for row in b]

    def apart(picked: Sequence[int]) -> float | None:
        first, second = (benchmark.summarize(grades[i] for i in picked) for grades in (one, other))
        x, y = first[first.total], second[second.total]
        return None if x is None or y is None else x - y

    whole = apart(range(len(a)))
    drawn = [apart(picked) for picked in resampled([row.video for row in a])]
    return None if whole is None else (whole, *_middle([d for d in drawn if d is not None] or [whole]))


def _middle(values: Sequence[float]) -> Interval:
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)
