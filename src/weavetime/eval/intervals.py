"""95 % intervals of official figures. Answers about one video are not independent, so videos are drawn, not questions.

A figure's interval is that of its official aggregation over videos drawn with replacement. Where the figure is a plain
share of right answers it is at least Wilson's, which also holds where all are right, or all of one video.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np

from .base import Benchmark, Grade, Score
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
    whole = benchmark.summarize(grades)
    drawn = [_valued(benchmark, grades, picked) for picked in resampled([row.video for row in rows], draws)]
    kept = _complete(drawn, _valued(benchmark, grades, range(len(grades))))
    found: dict[str, Interval] = {}
    for score in whole.scores:
        if score.value is not None:
            bounds = [_middle([values[score.name] for values in kept if score.name in values] or [score.value])]
            if (right := shared(score, rows)) is not None:
                bounds.append(wilson(right, score.n))
            found[score.name] = min(low for low, _ in bounds), max(high for _, high in bounds)
    return found


def _valued(benchmark: Benchmark, grades: Sequence[Grade], picked: Iterable[int]) -> dict[str, float]:
    """The figures that have a value."""
    found = benchmark.summarize(grades[i] for i in picked).scores
    return {score.name: score.value for score in found if score.value is not None}


def _complete(drawn: Sequence[dict[str, float]], whole: Collection[str]) -> Sequence[dict[str, float]]:
    """Draws that hold every task: where one is lacking, a mean of tasks is another figure. All, where few are."""
    kept = [values for values in drawn if len(values) == len(whole)]
    return kept if len(kept) >= len(drawn) // 10 else drawn


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

    videos, name = [row.video for row in a], benchmark.summarize(one).total

    def apart(picked: Sequence[int]) -> dict[str, float]:
        first, second = (_valued(benchmark, grades, picked) for grades in (one, other))
        return {key: value - second[key] for key, value in first.items() if key in second}

    whole = apart(range(len(a)))
    if name not in whole:
        return None
    kept = _complete([apart(picked) for picked in resampled(videos)], whole)
    return whole[name], *_middle([values[name] for values in kept if name in values] or [whole[name]])


def _middle(values: Sequence[float]) -> Interval:
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)
