"""Measuring answers: a benchmark a file, rows that survive a kill, and figures with intervals."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .registry import load, names

if TYPE_CHECKING:
    from .base import Benchmark, Example, Grade, Score, Summary
    from .judge import Judge, JudgeError, Verdict, judged
    from .row import Row
    from .rows import RowFile
    from .run import Run, measure
    from .scores import EvidenceScores, evidence_scores, paired, wilson

# Imported when first used: naming the benchmarks loads no torch.
_ROOMS = {
    "base": ("Benchmark", "Example", "Grade", "Score", "Summary"),
    "judge": ("Judge", "JudgeError", "Verdict", "judged"),
    "row": ("Row",),
    "rows": ("RowFile",),
    "run": ("Run", "measure"),
    "scores": ("EvidenceScores", "evidence_scores", "paired", "wilson"),
}
_FILE_OF = {name: file for file, every in _ROOMS.items() for name in every}


def __getattr__(name: str) -> Any:
    if name not in _FILE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_FILE_OF[name]}", __name__), name)
    globals()[name] = value
    return value


__all__ = [
    "Benchmark",
    "EvidenceScores",
    "Example",
    "Grade",
    "Judge",
    "JudgeError",
    "Row",
    "RowFile",
    "Run",
    "Score",
    "Summary",
    "Verdict",
    "evidence_scores",
    "judged",
    "load",
    "measure",
    "names",
    "paired",
    "wilson",
]
