"""Measuring answers: a benchmark a file, rows that survive a kill, and figures with intervals."""

from .rows import RowFile
from .scores import EvidenceScores, evidence_scores, paired, wilson

__all__ = ["EvidenceScores", "RowFile", "evidence_scores", "paired", "wilson"]
