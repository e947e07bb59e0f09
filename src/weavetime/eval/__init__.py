"""Measuring answers: a benchmark a file, rows that survive a kill, and figures with intervals."""

from .base import Benchmark, Example, Grade, Score, Summary
from .registry import load, names
from .rows import RowFile
from .scores import EvidenceScores, evidence_scores, paired, wilson

__all__ = [
    "Benchmark",
    "EvidenceScores",
    "Example",
    "Grade",
    "RowFile",
    "Score",
    "Summary",
    "evidence_scores",
    "load",
    "names",
    "paired",
    "wilson",
]
