"""A results file as a report reads it: what the run says of itself, and its rows under the rule as it is now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ...config import BASELINES
from ...errors import DataError
from ..base import Benchmark, differences
from ..intervals import Interval, intervals
from ..registry import load
from ..row import Row
from ..scoring import by_mode, load_rows, rescored, summary


@dataclass(frozen=True)
class Results:
    """One results file. head, about: its first line. modes: rows by mode, those that may stay out left in.

    missing: rows that could not be answered are left out of the figures.
    """

    path: Path
    head: Mapping[str, Any]
    benchmark: Benchmark
    modes: Mapping[str, list[Row]]
    missing: bool = False

    @property
    def about(self) -> Mapping[str, Any]:
        """What the run that began the file says of itself."""
        found = self.head.get("about")
        return found if isinstance(found, Mapping) else {}

    @property
    def name(self) -> str:
        """How a heading calls it."""
        model = self.about.get("model") or self.head.get("model", {}).get("family", "another system")
        adapter = f" with {self.about['adapter']}" if self.about.get("adapter") else ""
        return f"{self.benchmark.name}: {model}{adapter}"

    def kept(self, mode: str) -> list[Row]:
        """The rows of a mode that are in its figures."""
        return [row for row in self.modes[mode] if not (self.missing and row.problem)]

    @cached_property
    def answered(self) -> list[str]:
        """Modes that have a row in the figures, baselines last."""
        found = [mode for mode in self.modes if self.kept(mode)]
        return sorted(found, key=lambda mode: mode in BASELINES)

    @cached_property
    def summaries(self) -> dict[str, Any]:
        """The official summary of every mode."""
        return {mode: summary(self.benchmark, self.kept(mode)) for mode in self.answered}

    @cached_property
    def intervals(self) -> dict[str, dict[str, Interval]]:
        """The interval of every figure of every mode."""
        return {mode: intervals(self.benchmark, self.kept(mode)) for mode in self.answered}

    def settings(self, mode: str) -> Mapping[str, Any]:
        """What the file says of a mode's settings."""
        modes = self.head.get("modes")
        found = modes.get(mode) if isinstance(modes, Mapping) else None
        return found if isinstance(found, Mapping) else {}

    def delta(self, mode: str) -> float | None:
        """The threshold of a mode's gate: its own, else the model's."""
        own = self.settings(mode).get("delta")
        return own if own is not None else self.head.get("model", {}).get("delta")

    @property
    def asked(self) -> int:
        """How many questions the run was to ask."""
        said = self.head.get("questions")
        return said if isinstance(said, int) else max(map(len, self.modes.values()))

    @property
    def lacking(self) -> str:
        """Where the run's questions are not the published ones, task by task; "" where they are, or none can say."""
        counts = self.benchmark.counts
        if not counts:
            return ""
        rows = max(self.modes.values(), key=len)
        tasks = [row.task for row in rows]
        found = {"total": len(rows)} if counts.keys() == {"total"} else {t: tasks.count(t) for t in set(tasks)}
        return differences(counts, found)

    @property
    def whole(self) -> bool:
        """Whether every mode has a row for every question, and no question was left out by wish."""
        limited = self.about.get("limit") is not None or self.about.get("partial") or self.lacking
        return not limited and all(len(rows) >= self.asked for rows in self.modes.values())


def read(path: Path, *, allow_missing: bool = False) -> Results:
    """A results file. Raises DataError where it is none, or holds no row."""
    head, rows = load_rows(path)
    if not isinstance(head.get("benchmark"), str):
        raise DataError(f"{path} does not say which benchmark it is of: name a results file of `weavetime eval`")
    variants = head.get("variants", {})
    benchmark = load(head["benchmark"], **(variants if isinstance(variants, dict) else {}))
    if not rows:
        raise DataError(f"{path} holds no row yet")
    found = Results(path, head, benchmark, by_mode(rescored(benchmark, rows)), allow_missing)
    if not found.answered:
        raise DataError(f"{path}: no question could be answered, so nothing is left with --allow-missing")
    return found


def problems(rows: Sequence[Row], what: str = "problem") -> dict[str, int]:
    """How often each problem, or note, of a video came, the commonest first."""
    found: dict[str, int] = {}
    for row in rows:
        if said := getattr(row, what):
            found[f"{row.video}: {said}"] = found.get(f"{row.video}: {said}", 0) + 1
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))
