"""What a condition changes: accuracy with its interval, and the paired difference to the untouched condition."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..base import Span
from ..row import Row
from ..scores import paired, wilson
from .evidence import evidence_read


@dataclass(frozen=True, slots=True)
class Effect:
    """Rows of one condition. spread: 95 % interval of the accuracy (Wilson). difference: to the same questions
    untouched, with its 95 % interval (a bootstrap over videos, which says nothing where there is one); None of the
    untouched itself. recall: share of the evidence read, mean over layers; None where none is annotated.
    """

    name: str
    n: int
    right: int
    spread: Span
    difference: tuple[float, float, float] | None
    recall: float | None
    videos: int

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return self.right / self.n


def effect(name: str, rows: Sequence[Row], untouched: Sequence[Row] | None = None) -> Effect:
    """The figures of counted rows, at least one, of which every question is among the untouched ones too."""
    mine = {row.id: row for row in rows if row.counted}
    right = sum(row.right for row in mine.values())
    recalls = [found.recall for found in map(evidence_read, mine.values()) if found is not None]
    recall = sum(recalls) / len(recalls) if recalls else None
    change, videos = _difference(mine, untouched), len({row.video for row in mine.values()})
    return Effect(name, len(mine), right, wilson(right, len(mine)), change, recall, videos)


def _difference(mine: dict[str, Row], untouched: Sequence[Row] | None) -> tuple[float, float, float] | None:
    if untouched is None:
        return None
    base = {row.id: row for row in untouched}
    videos = {video: i for i, video in enumerate(dict.fromkeys(row.video for row in mine.values()))}
    return paired(
        [row.right for row in mine.values()],
        [base[i].right for i in mine],
        [videos[row.video] for row in mine.values()],
    )


def common(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows by mode, of the questions alone that were answered in every mode."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        found.setdefault(row.mode, {})[row.id] = row
    ids = set.intersection(*({i for i, row in mine.items() if not row.problem} for mine in found.values()))
    return {mode: [row for i, row in mine.items() if i in ids] for mode, mine in found.items()}
