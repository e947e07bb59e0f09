"""What an answer read of the annotated evidence, in seconds: of any benchmark, at any number of frames a second."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..base import Span
from ..row import Row
from ..scores import EvidenceScores


def evidence_read(row: Row) -> EvidenceScores | None:
    """Recall: share of the evidence's spans of which something was read. Precision: share of the time read that lies in
    one. None where nothing is annotated, or the question had no answer.
    """
    if not row.evidence or row.problem:
        return None
    layers = row.read or ((),)
    each = [_score(row.evidence, layer) for layer in layers]
    whole = _score(row.evidence, joined(span for layer in layers for span in layer))
    precisions = [p for _, p in each if p is not None]
    return EvidenceScores(
        recall=sum(r for r, _ in each) / len(each),
        precision=sum(precisions) / len(precisions) if precisions else None,
        recall_union=whole[0],
        precision_union=whole[1],
    )


def _score(evidence: Sequence[Span], read: Sequence[Span]) -> tuple[float, float | None]:
    recall = sum(any(meets(span, other) for other in read) for span in evidence) / len(evidence)
    whole = sum(b - a for a, b in read)
    gold = joined(evidence)
    shared = sum(max(0.0, min(b, d) - max(a, c)) for a, b in read for c, d in gold)
    return recall, shared / whole if whole else None


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
