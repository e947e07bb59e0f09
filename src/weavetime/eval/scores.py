"""From rows to figures: accuracy with intervals, what was read of the evidence, differences of paired answers."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

Span = tuple[float, float]
"""Seconds [start, end)."""
Z = 1.959964  # of a 95 % interval
RESAMPLES = 4000


class Seen(Protocol):
    """A row that says what was read, in seconds."""

    @property
    def evidence(self) -> tuple[Span, ...]: ...
    @property
    def read(self) -> Sequence[Sequence[Span]]: ...


@dataclass(frozen=True, slots=True)
class EvidenceScores:
    """recall: share of the evidence's spans of which something was read. precision: share of the time read that lies
    in one; None where nothing was read. Each as the mean over layers, and for what any layer read (union).
    """

    recall: float
    precision: float | None
    recall_union: float
    precision_union: float | None


def evidence_scores(row: Seen) -> EvidenceScores | None:
    """What a row's view held of its evidence; None where nothing shows the answer, or nothing is known of the view."""
    if not row.evidence or not row.read:
        return None
    each = [_score(row.evidence, layer) for layer in row.read]
    union = _score(row.evidence, [span for layer in row.read for span in layer])
    precisions = [p for _, p in each if p is not None]
    return EvidenceScores(
        recall=sum(r for r, _ in each) / len(each),
        precision=sum(precisions) / len(precisions) if precisions else None,
        recall_union=union[0],
        precision_union=union[1],
    )


def _score(spans: Sequence[Span], read: Sequence[Span]) -> tuple[float, float | None]:
    recall = sum(any(meets(span, other) for other in read) for span in spans) / len(spans)
    gold, seen = joined(spans), joined(read)
    whole = math.fsum(b - a for a, b in seen)
    inside = math.fsum(max(0.0, min(b, d) - max(a, c)) for a, b in seen for c, d in gold)
    return recall, inside / whole if whole else None


def meets(a: Span, b: Span) -> bool:
    """Whether two stretches share a time; one of no length is a moment, and ends are not part of a stretch."""
    start, end = max(a[0], b[0]), min(a[1], b[1])
    return start < end or (start == end and (a[0] == a[1] < b[1] or b[0] == b[1] < a[1]))


def joined(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Stretches in any order as ascending ones that do not touch."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1] + 1e-6:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return tuple(found)


def wilson(right: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    if n == 0:
        return 0.0, 1.0
    p, z2 = right / n, Z * Z
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def paired(a: Sequence[float], b: Sequence[float], streams: Sequence[Hashable]) -> tuple[float, float, float]:
    """Mean of a minus that of b on the same questions, with its 95 % interval: a bootstrap over whole streams.

    a, b: a value for each question, or whether it was right. streams: which stream or video each question is of;
    answers about one are not independent.
    """
    if not len(a) == len(b) == len(streams) or not len(a):
        raise ValueError("answers must be of the same questions, at least one")
    names, cluster = np.unique(np.asarray(streams), return_inverse=True)
    difference = np.asarray(a, float) - np.asarray(b, float)
    sums = np.bincount(cluster, difference, len(names))
    sizes = np.bincount(cluster, minlength=len(names))
    drawn = np.random.RandomState(0).randint(len(names), size=(RESAMPLES, len(names)))
    means = sums[drawn].sum(1) / sizes[drawn].sum(1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(difference.mean()), float(low), float(high)
