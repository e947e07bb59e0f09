"""A row: one question answered in one mode, with everything that scoring it again needs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ..errors import DataError
from .base import Benchmark, Example, Grade, Span

Key = tuple[str, str]
"""Which question, in which mode."""


@dataclass(frozen=True, slots=True)
class Row:
    """The fields of an Example, then what came of it.

    response: as given, before any rule. value, counted, parts, parsed: of the official rule; tolerant: of a lenient
    one. seen: time of the newest frame that was there to be read, seconds. read: per layer the stretches of time read,
    seconds, one entry where all layers read the same. problem: why there is no answer; the row counts as wrong.
    note: what was wrong with the video though it could be read. timings: seconds.
    """

    id: str
    mode: str
    video: str
    task: str
    question: str
    options: tuple[str, ...]
    gold: Any
    at: float | None
    span: Span | None
    evidence: tuple[Span, ...]
    extra: Mapping[str, Any]
    response: Any = None
    value: float = 0.0
    counted: bool = True
    parts: Mapping[str, float] = field(default_factory=dict)
    parsed: Any = None
    tolerant: float | None = None
    gate: float | None = None
    recalled: bool = False
    seen: float | None = None
    read: tuple[tuple[Span, ...], ...] = ()
    problem: str = ""
    note: str = ""
    timings: Mapping[str, float] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """Which question in which mode."""
        return self.id, self.mode

    @property
    def right(self) -> bool:
        """Whether the official rule found it right."""
        return self.value > 0.5

    @property
    def example(self) -> Example:
        """What was asked."""
        return Example(**{f.name: getattr(self, f.name) for f in fields(Example)})

    @property
    def grade(self) -> Grade:
        """What the official rule made of the response."""
        return Grade(self.value, self.counted, self.parts, self.task, self.parsed)

    @property
    def distance(self) -> float | None:
        """Seconds from the moment of the question back to the end of the piece of evidence farthest back."""
        when = self.at if self.at is not None else self.seen
        return None if when is None else max((max(0.0, when - end) for _, end in self.evidence), default=None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def of(cls, said: Mapping[str, Any], where: str = "") -> Row:
        """A row back from JSON. where: its place, for the error. Raises DataError where it is not one."""
        names = {f.name for f in fields(cls)}
        if odd := [*sorted(_ASKED - said.keys()), *(k for k, v in said.items() if k not in names or not _fits(k, v))]:
            shown = f"{odd[0]!r} is {_short(said[odd[0]])}" if odd[0] in said else f"{odd[0]!r} is missing"
            raise DataError(f"{where}not a row of a benchmark ({shown}): name another file")
        return cls(**{k: _tuples(v) if k in _TUPLES else v for k, v in said.items()})

    @classmethod
    def graded(cls, benchmark: Benchmark, example: Example, mode: str, response: Any, **came: Any) -> Row:
        """A row with the benchmark's grade of a response; one with a `problem` is wrong and counted."""
        asked = {f.name: getattr(example, f.name) for f in fields(Example)}
        grade = regrade(benchmark, example, response, came.get("problem", ""))
        scored = {"value": grade.value, "counted": grade.counted, "parts": dict(grade.parts), "parsed": grade.parsed}
        return cls(
            **asked, mode=mode, response=response, **scored, tolerant=benchmark.tolerant(example, response), **came
        )


_TUPLES = ("options", "gold", "span", "evidence", "read")
_ASKED = {f.name for f in fields(Example)} | {"mode"}
_TEXTS = {"id", "mode", "video", "task", "question", "problem", "note"}
_NUMBERS = {"at", "value", "tolerant", "gate", "seen"}
_OPEN = {"at", "span", "tolerant", "gate", "seen"}  # may be None


def _fits(name: str, value: Any) -> bool:
    """Whether a field from JSON is what it must be; gold, response and parsed are the benchmark's own."""
    if value is None and name in _OPEN:
        return True
    if name in _TEXTS:
        return isinstance(value, str)
    if name in _NUMBERS:
        return _number(value)
    if name in ("counted", "recalled"):
        return isinstance(value, bool)
    if name in ("parts", "timings"):
        return isinstance(value, Mapping) and all(map(_number, value.values()))
    if name == "extra":
        return isinstance(value, Mapping)
    if name == "options":
        return _list(value) and all(isinstance(x, str) for x in value)
    if name == "span":
        return _span(value)
    if name == "evidence":
        return _list(value) and all(map(_span, value))
    if name == "read":
        return _list(value) and all(_list(layer) and all(map(_span, layer)) for layer in value)
    return True


def _list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _span(value: Any) -> bool:
    """[start, end]; the end of a video that is read to its own end is infinite."""
    return _list(value) and len(value) == 2 and all(x == math.inf or _number(x) for x in value)


def _short(value: Any) -> str:
    said = repr(value)
    return said if len(said) <= 40 else f"{said[:37]}..."


def _tuples(x: Any) -> Any:
    return tuple(map(_tuples, x)) if isinstance(x, list) else x


def regrade(benchmark: Benchmark, example: Example, response: Any, problem: str = "") -> Grade:
    """The official grade; of a row that could not be answered, wrong and counted whatever the rule says of silence.

    An example whose answer is not public is never counted.
    """
    grade = benchmark.grade(example, None if problem else response)
    if not problem:
        return grade
    return Grade(0.0, example.gold is not None, dict.fromkeys(grade.parts, 0.0), grade.task)


def spans_read(blocks: Sequence[Sequence[int]], spans: Sequence[Span]) -> Any:
    """Per layer the stretches of time that its blocks cover; one entry where all layers read the same.

    spans: start and end of each block, seconds.
    """
    layers = blocks[:1] if len(set(map(tuple, blocks))) == 1 else blocks
    return tuple(tuple(_joined(spans[b] for b in layer)) for layer in layers)


def _joined(spans: Iterable[Span]) -> list[Span]:
    """Ascending stretches of time, those that touch joined."""
    found: list[Span] = []
    for start, end in spans:
        if found and abs(found[-1][1] - start) < 1e-6:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found
