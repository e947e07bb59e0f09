"""From rows to figures: accuracy with intervals, what was read of the evidence, differences of paired answers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..world import FAMILIES

Run = tuple[int, int]
"""Steps [first, stop)."""
Z = 1.959964  # of a 95 % interval
RESAMPLES = 4000


class Read(Protocol):
    """What is needed of a row here."""

    @property
    def family(self) -> str: ...
    @property
    def right(self) -> bool: ...
    @property
    def recalled(self) -> bool: ...
    @property
    def evidence(self) -> tuple[tuple[float, float], ...]: ...
    @property
    def read(self) -> tuple[tuple[Run, ...], ...]: ...


@dataclass(frozen=True, slots=True)
class EvidenceScores:
    """recall: share of the evidence's spans of which a step was read. precision: share of the steps read that lie in
    one; None where nothing was read. Each as the mean over layers, and for what any layer read (union).
    """

    recall: float
    precision: float | None
    recall_union: float
    precision_union: float | None


def runs(steps: Iterable[int]) -> tuple[Run, ...]:
    """Ascending numbers as stretches [first, stop)."""
    found: list[Run] = []
    for i in steps:
        if found and found[-1][1] == i:
            found[-1] = (found[-1][0], i + 1)
        else:
            found.append((i, i + 1))
    return tuple(found)


def evidence_scores(row: Read) -> EvidenceScores | None:
    """What a row's view held of its evidence; None where nothing shows the answer. One step is one second."""
    if not row.evidence:
        return None
    spans = [set(range(math.floor(a), math.ceil(b))) for a, b in row.evidence]
    layers = [{i for first, stop in layer for i in range(first, stop)} for layer in row.read]
    each = [_score(spans, layer) for layer in layers]
    union = _score(spans, set().union(*layers))
    precisions = [p for _, p in each if p is not None]
    return EvidenceScores(
        recall=sum(r for r, _ in each) / len(each),
        precision=sum(precisions) / len(precisions) if precisions else None,
        recall_union=union[0],
        precision_union=union[1],
    )


def _score(spans: Sequence[set[int]], read: set[int]) -> tuple[float, float | None]:
    recall = sum(bool(span & read) for span in spans) / len(spans)
    return recall, len(read & set().union(*spans)) / len(read) if read else None


@dataclass(frozen=True, slots=True)
class Line:
    """A family's figures. recalled: share that looked back. recall, precision: means over layers; None where no
    question of the family has evidence.
    """

    family: str
    n: int
    right: int
    recalled: float
    recall: float | None
    precision: float | None

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return self.right / self.n


def line(family: str, rows: Sequence[Read]) -> Line:
    """The figures of rows, at least one."""
    scores = [s for s in map(evidence_scores, rows) if s is not None]
    precisions = [s.precision for s in scores if s.precision is not None]
    return Line(
        family=family,
        n=len(rows),
        right=sum(row.right for row in rows),
        recalled=sum(row.recalled for row in rows) / len(rows),
        recall=sum(s.recall for s in scores) / len(scores) if scores else None,
        precision=sum(precisions) / len(precisions) if precisions else None,
    )


def by_family(rows: Sequence[Read]) -> list[Line]:
    """A line for each family, in the order of FAMILIES, then one for all."""
    found = [[row for row in rows if row.family == family] for family in FAMILIES]
    return [*(line(mine[0].family, mine) for mine in found if mine), line("all", rows)]


def wilson(right: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    if n == 0:
        return 0.0, 1.0
    p, z2 = right / n, Z * Z
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def paired(a: Sequence[bool], b: Sequence[bool], streams: Sequence[int]) -> tuple[float, float, float]:
    """Accuracy of a minus that of b on the same questions, with its 95 % interval: a bootstrap over whole streams.

    streams: which stream each question is of; answers about one stream are not independent.
    """
    if not len(a) == len(b) == len(streams) or not len(a):
        raise ValueError("answers must be of the same questions, at least one")
    names, cluster = np.unique(np.asarray(streams), return_inverse=True)
    difference = np.asarray(a, int) - np.asarray(b, int)
    sums = np.bincount(cluster, difference, len(names))
    sizes = np.bincount(cluster, minlength=len(names))
    drawn = np.random.RandomState(0).randint(len(names), size=(RESAMPLES, len(names)))
    means = sums[drawn].sum(1) / sizes[drawn].sum(1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(difference.mean()), float(low), float(high)
