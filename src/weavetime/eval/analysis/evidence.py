"""What an answer read of the annotated evidence, where reading nothing counts as having found none of it."""

from __future__ import annotations

from dataclasses import replace

from ..row import Row
from ..scores import EvidenceScores, evidence_scores


def evidence_read(row: Row) -> EvidenceScores | None:
    """`evidence_scores` of an answered question; None where nothing is annotated, or the question had no answer."""
    return None if row.problem else evidence_scores(row if row.read else replace(row, read=((),)))
