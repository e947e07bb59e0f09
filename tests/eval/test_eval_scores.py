"""Figures from rows, beside slow or published values."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from weavetime.eval import evidence_scores, paired, wilson


@dataclass
class Rowlike:
    evidence: tuple[tuple[float, float], ...]
    read: tuple[tuple[tuple[float, float], ...], ...]


def test_evidence_by_hand() -> None:
    row = Rowlike(evidence=((2, 4), (10, 11)), read=(((0, 3),), ((3, 5), (10, 11))))
    found = evidence_scores(row)
    assert found is not None
    assert found.recall == pytest.approx((1 / 2 + 1) / 2)
    assert found.precision == pytest.approx((1 / 3 + 2 / 3) / 2)
    assert (found.recall_union, found.precision_union) == (1.0, pytest.approx(3 / 6))
    assert evidence_scores(Rowlike((), row.read)) is None
    blind = evidence_scores(Rowlike(row.evidence, ((),)))
    assert blind is not None
    assert (blind.recall, blind.precision) == (0.0, None)


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662), (10, 10, 0.7225, 1.0)],
)  # 81 of 263: Newcombe 1998, method 3
def test_wilson(right: int, n: int, low: float, high: float) -> None:
    assert wilson(right, n) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_pairs() -> None:
    a, b = [True] * 60 + [False] * 40, [True] * 30 + [False] * 70
    mean, low, high = paired(a, b, list(range(100)))
    assert mean == pytest.approx(0.3)
    assert low == pytest.approx(0.21, abs=0.02)  # 0.3 ± 1.96 · sqrt(0.3 · 0.7 / 100)
    assert high == pytest.approx(0.39, abs=0.02)
    together = paired(a, b, [i // 10 for i in range(100)])
    assert together[0] == mean
    assert together[2] - together[1] > 1.5 * (high - low)  # ten streams know less than a hundred
    assert paired(a, a, list(range(100))) == (0, 0, 0)
    with pytest.raises(ValueError, match="same questions"):
        paired(a, b[1:], list(range(100)))


def test_evidence_in_seconds() -> None:
    """Half a second of one span read, and a moment; time that two layers read counts once in what any read."""
    row = Rowlike(evidence=((1.5, 3.0), (9.0, 9.0)), read=(((2.5, 4.5),), ((2.5, 3.5), (9.0, 10.0))))
    found = evidence_scores(row)
    assert found is not None
    assert found.recall == pytest.approx((1 / 2 + 1) / 2)
    assert found.precision == pytest.approx((0.5 / 2 + 0.5 / 2) / 2)
    assert (found.recall_union, found.precision_union) == (1.0, pytest.approx(0.5 / 3))
    touching = evidence_scores(Rowlike(((1.0, 2.0),), (((2.0, 3.0), (0.0, 1.0)),)))
    assert touching is not None
    assert (touching.recall, touching.precision) == (0.0, 0.0)
    twice = evidence_scores(Rowlike(((1.0, 3.0), (2.0, 4.0)), (((0.0, 4.0),),)))
    assert twice is not None
    assert twice.precision == 0.75  # spans that overlap are one stretch
    assert evidence_scores(Rowlike(row.evidence, ())) is None  # nothing is known of the view
