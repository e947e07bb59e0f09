"""A row: one question answered in one mode, with everything that scoring it again needs."""

from __future__ import annotations

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
    def of(cls, said: Mapping[str, Any]) -> Row:
        """A row back from JSON. Raises DataError where it is not one."""
        try:
            return cls(**{k: _tuples(v) if k in _TUPLES else v for k, v in said.items()})
        except TypeError as e:
            raise DataError(f"not a row of a benchmark ({e}): name another file") from e

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


def spans_read(blocks: Sequence[Sequence[int]], times: Sequence[float], ends: Sequence[float]) -> Any:
    """Per layer the stretches of time that its blocks cover; one entry where all layers read the same."""
    layers = blocks[:1] if len(set(map(tuple, blocks))) == 1 else blocks
    return tuple(tuple(_joined((times[b], ends[b]) for b in layer)) for layer in layers)


def _joined(spans: Iterable[Span]) -> list[Span]:
    """Ascending stretches of time, those that touch joined."""
    found: list[Span] = []
    for start, end in spans:
        if found and abs(found[-1][1] - start) < 1e-6:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found
