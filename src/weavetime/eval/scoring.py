"""From rows to an official summary, with and without a model: rows of a run, or another system's responses."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import NoneType
from typing import Any

from ..errors import DataError
from .base import Benchmark, Example, Grade, Score, Summary
from .judge import Judge, judged
from .row import Row, regrade
from .rows import read_rows
from .rows import write_rows as write

JUDGED = "judge"  # what the names of a judge's parts begin with
OTHER = "responses"
"""The mode of rows that another system answered."""


def by_mode(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows by mode, in the order in which modes first come. Of rows with one key the last stands: a later try."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        found.setdefault(row.mode, {})[row.id] = row
    return {mode: list(mine.values()) for mode, mine in found.items()}


def summary(benchmark: Benchmark, rows: Sequence[Row], *, allow_missing: bool = False) -> Summary:
    """The official summary of one mode's rows. allow_missing: leave out rows that could not be answered."""
    return benchmark.summarize(row.grade for row in rows if not (allow_missing and row.problem))


def tolerant(rows: Sequence[Row], *, allow_missing: bool = False) -> Score | None:
    """The mean of the lenient reading over the rows that have one; None where none has."""
    values = [row.tolerant for row in rows if row.tolerant is not None and not (allow_missing and row.problem)]
    return Score("tolerant", sum(values) / len(values), len(values), len(rows)) if values else None


def rescored(benchmark: Benchmark, rows: Iterable[Row]) -> Iterator[Row]:
    """The same responses under the rule as it is now. Parts that a judge added stay."""
    for row in rows:
        grade = regrade(benchmark, row.example, row.response, row.problem)
        kept = {name: value for name, value in row.parts.items() if name.startswith(JUDGED)}
        yield _regraded(benchmark, row, replace(grade, parts={**grade.parts, **kept}))


def judged_rows(benchmark: Benchmark, rows: Sequence[Row], judge: Judge) -> Iterator[Row]:
    """The same rows with a judge's parts, those of an earlier judge gone. Raises JudgeError (judge.py)."""
    pairs = ((row.example, None if row.problem else row.response) for row in rows)
    for row, grade in zip(rows, judged(benchmark, pairs, judge), strict=True):
        yield _regraded(benchmark, row, replace(grade, counted=True) if row.problem else grade)


def _regraded(benchmark: Benchmark, row: Row, grade: Grade) -> Row:
    found = {"value": grade.value, "counted": grade.counted, "parsed": grade.parsed, "parts": dict(grade.parts)}
    return replace(row, **found, tolerant=benchmark.tolerant(row.example, row.response))


def write_rows(path: Path, head: Mapping[str, Any], rows: Iterable[Row]) -> None:
    """A results file of these rows, whole or not at all. Raises DataError where there is one already."""
    write(path, head, (row.to_dict() for row in rows))


def load_rows(path: Path, benchmark: str | None = None) -> tuple[dict[str, Any], list[Row]]:
    """Head and rows of a results file. Raises DataError where it is of another benchmark, or none."""
    head, rows = read_rows(path)
    check_head(head, path)
    if benchmark is not None and head.get("benchmark") != benchmark:
        raise DataError(f"{path} holds rows of {head.get('benchmark', 'no benchmark')}, not of {benchmark}")
    return head, [Row.of(row, f"{path}, line {number}: ") for number, row in enumerate(rows, 2)]


_HEAD: dict[str, tuple[type, ...]] = {
    "benchmark": (str, NoneType),
    "variants": (dict,),
    "model": (dict,),
    "model.family": (str,),
    "model.delta": (int, float),
    "model.layers": (int,),
    "stream": (dict,),
    "stream.window": (int, NoneType),
    "modes": (dict, list),
    "questions": (int,),
    "prompts": (dict,),
    "about": (dict,),
    "about.model": (str, NoneType),
    "about.limit": (int, NoneType),
    "about.parameters": (int,),
    "about.versions": (dict,),
}
"""What a results file may say in its first line, as far as others read it."""


def check_head(head: Mapping[str, Any], path: Path) -> None:
    """Refuse a first line in which something is not what it must be. Raises DataError."""
    for name, kinds in _HEAD.items():
        outer, _, inner = name.partition(".")
        within = head.get(outer) if inner else head
        if isinstance(within, Mapping) and (inner or outer) in within:
            value = within[inner or outer]
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                raise DataError(f"{path}, line 1: {name} is {value!r}: not a results file, or a damaged one")


def from_responses(benchmark: Benchmark, examples: Sequence[Example], path: Path) -> list[Row]:
    """Another system's responses as rows: a line `{"id": …, "response": …}` each, as JSONL.

    An example without a response is a row that says so and counts as wrong. Raises DataError for lines that are none,
    ids that the benchmark has not, and ids that come twice.
    """
    said = dict(_responses(path))
    if unknown := said.keys() - {e.id for e in examples}:
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        raise DataError(f"{path}: {benchmark.name} has no question {min(unknown)}{more}")
    return [
        Row.graded(benchmark, e, OTHER, said[e.id])
        if e.id in said
        else Row.graded(benchmark, e, OTHER, None, problem="no response")
        for e in examples
    ]


def _responses(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # other ends of lines may stand in a text
    except (OSError, UnicodeDecodeError) as e:
        raise DataError(f"{path} cannot be read: {getattr(e, 'strerror', None) or e}") from e
    seen: set[str] = set()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as e:
            raise DataError(f"{path}, line {number}: no JSON ({e})") from e
        named = isinstance(row, Mapping) and isinstance(row.get("id"), str | int) and not isinstance(row["id"], bool)
        if not (named and "response" in row):
            raise DataError(f'{path}, line {number}: must be {{"id": …, "response": …}}')
        name = str(row["id"])
        if name in seen:
            raise DataError(f"{path}, line {number}: the id {name} comes twice")
        seen.add(name)
        yield name, row["response"]
