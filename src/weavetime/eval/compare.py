"""Two modes on the same questions, of one results file or of two: paired differences with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import DataError
from .asking import called
from .intervals import difference
from .report.results import Results
from .row import Row
from .scores import paired

Pair = tuple[Row, Row]


@dataclass(frozen=True)
class Line:
    """Figures of the same questions. n: pairs. a, b: mean values. low, high: interval of a - b.

    only_a, only_b: how many questions only one of the two got right; None where questions do not weigh the same.
    """

    name: str
    n: int
    a: float
    b: float
    low: float
    high: float
    only_a: int | None = None
    only_b: int | None = None


@dataclass(frozen=True)
class Comparison:
    """lines: tasks, then all questions, then the official total. only_a, only_b: ids that only one side has.

    uncounted: pairs of which the official rule counts one row, or none. unanswered: pairs left out because one of them
    could not be answered. settings: (which, there, here) where the two runs differ.
    """

    lines: tuple[Line, ...]
    only_a: int
    only_b: int
    uncounted: int
    unanswered: int
    settings: tuple[tuple[str, Any, Any], ...]


def compare(a: Results, b: Results, mode: str, other: str) -> Comparison:
    """The rows of `mode` in one file beside those of `other` in the same or another.

    Raises DataError where the files are not of the same questions, or no question is in both.
    """
    check_same(a, b)
    one, two = ({row.id: row for row in _rows(found, name)} for found, name in ((a, mode), (b, other)))
    both = [(row, two[key]) for key, row in one.items() if key in two]
    if not both:
        raise DataError(f"{a.path} ({mode}) and {b.path} ({other}) have no question in common")
    for first, second in both:
        if first.example != second.example:
            raise DataError(f"the question {first.id} is not the same in {a.path} and {b.path}: another version?")
    pairs = [pair for pair in both if not (a.missing and any(row.problem for row in pair))]
    if not pairs:
        raise DataError("no question was answered on both sides, so nothing is left with --allow-missing")
    counted = [pair for pair in pairs if pair[0].counted and pair[1].counted]
    return Comparison(
        tuple(_lines(a, pairs, counted)),
        len(one) - len(both),
        len(two) - len(both),
        len(pairs) - len(counted),
        len(both) - len(pairs),
        tuple(differing(_run(a, mode), _run(b, other))),
    )


def check_same(one: Results, other: Results) -> None:
    """Refuse files whose questions are not the same ones. Raises DataError."""
    for what in ("benchmark", "variants"):
        there, here = one.head.get(what) or {}, other.head.get(what) or {}
        if there != here:
            said = f"{there} and {here}" if what == "benchmark" else _told(differing(there, here))
            raise DataError(f"{one.path} and {other.path} are not of the same {what} ({said}): nothing to compare")


def pick(found: Results, mode: str | None, otherwise: str | None = None) -> str:
    """A mode of a file: the named one, else another, else its first. Raises DataError where it has no such mode."""
    if mode is None:
        return otherwise if otherwise is not None and otherwise in found.modes else next(iter(found.modes))
    mode = called(mode, found.modes)
    if mode not in found.modes:
        raise DataError(f"{found.path} has no mode {mode}: there are {', '.join(found.modes)}")
    return mode


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Settings that differ, by their path, as (which, in a, in b)."""
    for key in {**a, **b}:
        one, other = a.get(key), b.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from ((f"{key}.{inner}", *pair) for inner, *pair in differing(one, other))
        elif one != other:
            yield key, one, other


def _told(found: Iterator[tuple[str, Any, Any]]) -> str:
    return "; ".join(f"{key} {one} and {other}" for key, one, other in found)


def _rows(found: Results, mode: str) -> list[Row]:
    return found.modes[pick(found, mode)]


def _run(found: Results, mode: str) -> dict[str, Any]:
    """What a file says of the run, with the settings of the mode alone."""
    left = {key: value for key, value in found.head.items() if key not in ("modes", "about")}
    about = {key: value for key, value in found.about.items() if key != "date"}
    return {**left, "mode": mode, "settings": dict(found.settings(mode)), "about": about}


def _lines(a: Results, pairs: Sequence[Pair], counted: Sequence[Pair]) -> Iterator[Line]:
    tasks = {first.task for first, _ in counted}
    known = [name for name in a.summaries[next(iter(a.summaries))] if name in tasks]
    for task in dict.fromkeys((*known, *sorted(tasks))):
        yield _line(task, [pair for pair in counted if pair[0].task == task])
    if counted:
        yield _line("all questions", counted)
    rows, others = ([pair[i] for pair in pairs] for i in (0, 1))
    total = difference(a.benchmark, rows, others)
    if total is not None:
        one, two = (a.benchmark.summarize(row.grade for row in side) for side in (rows, others))
        low, high = total[1:]
        yield Line(f"official {one.total}", len(pairs), one[one.total] or 0.0, two[two.total] or 0.0, low, high)


def _line(name: str, pairs: Sequence[Pair]) -> Line:
    a, b = [one.value for one, _ in pairs], [other.value for _, other in pairs]
    _, low, high = paired(a, b, [one.video for one, _ in pairs])
    only_a = sum(one.right and not other.right for one, other in pairs)
    only_b = sum(other.right and not one.right for one, other in pairs)
    return Line(name, len(pairs), sum(a) / len(a), sum(b) / len(b), low, high, only_a, only_b)
