"""What a benchmark is to the rest: examples read from its published files, a prompt, a grade, a summary.

A benchmark is one file in `benchmarks/`: a subclass that reads the official annotation as published and holds the
official prompt, visible span, parse rule and aggregation.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import torch

from ..config import Decoding
from ..errors import DataError
from ..types import Answer, Frame, Question

Span = tuple[float, float]
"""Seconds [start, end]."""


@dataclass(frozen=True, slots=True)
class Example:
    """One graded question.

    id: unique in its benchmark. video: path below `videos/`. options: () where the answer is free. gold: a letter, or
    what the benchmark's own rule compares with. at: when it is asked, seconds; None where it is asked about the whole
    video. span: what may be seen, seconds; None for the whole video. evidence: where the answer shows, as annotated.
    extra: what else the official prompt or rule needs, as JSON values.
    """

    id: str
    video: str
    task: str
    question: str
    options: tuple[str, ...]
    gold: Any
    at: float | None = None
    span: Span | None = None
    evidence: tuple[Span, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Grade:
    """What the official rule makes of a response. value: 0 to 1. counted: whether it is in the official denominator.

    parts: further results that the benchmark reports, by name. task, parsed: of the example, and what the rule read
    out of the response; neither is part of what two grades are compared by.
    """

    value: float
    counted: bool = True
    parts: Mapping[str, float] = field(default_factory=dict)
    task: str = field(default="", compare=False)
    parsed: Any = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Score:
    """A figure of a summary. value: 0 to 1, None where nothing counted. n: the official denominator, rows counted;
    rows: all of them, also those that the official scorer skips.
    """

    name: str
    value: float | None
    n: int
    rows: int


@dataclass(frozen=True, slots=True)
class Summary(Mapping[str, float | None]):
    """Figures by name, in the order in which they are printed. total: the name of the headline figure."""

    scores: tuple[Score, ...]
    total: str = "total"

    def __getitem__(self, name: str) -> float | None:
        return self.score(name).value

    def __iter__(self) -> Iterator[str]:
        return (score.name for score in self.scores)

    def __len__(self) -> int:
        return len(self.scores)

    def score(self, name: str) -> Score:
        """The figure of a name, with its counts. Raises KeyError."""
        for score in self.scores:
            if score.name == name:
                return score
        raise KeyError(name)


Ask = Callable[[Question, float | None, Decoding], Answer]
"""Ask the stream as of a moment (None: the end of the visible span)."""


class Benchmark(ABC):
    """One benchmark. Fields of a subclass that is a dataclass are its published variants, as in `context=60`.

    counts: rows to expect by task, as published; "total" alone where no more is known, nothing where not even that.
    max_tokens: longest response. prefix: what every reply is made to begin with; it is no part of the response.
    unverified: the original annotation could not be compared with. open_answers: gold and response are free text,
    which a judge (judge.py) may grade too.
    """

    name: ClassVar[str]
    counts: ClassVar[Mapping[str, int]]
    max_tokens: ClassVar[int] = 16
    prefix: ClassVar[str] = ""
    unverified: ClassVar[bool] = False
    open_answers: ClassVar[bool] = False

    # The questions

    def examples(self, root: str | Path, *, partial: bool = False) -> list[Example]:
        """Every example of the annotation files in `root`, in their order.

        Raises DataError where a file is missing or not as published, an id stands twice, or the numbers of rows are
        not the published ones. partial: files may be missing and rows fewer; the report says so.
        """
        folder = Path(root)
        if not folder.is_dir():
            raise DataError(f"{folder} is no folder: give the one with the annotation of {self.name} and videos/")
        found = list(self.read(folder, partial))
        if not found:
            raise DataError(f"{folder} holds no question of {self.name}")
        if outside := next((e for e in found if _leaves(e.video)), None):
            raise DataError(f"{folder}: the video of {outside.id}, {outside.video}, lies outside of the folder")
        if twice := [i for i, n in Counter(e.id for e in found).items() if n > 1]:
            raise DataError(f"{folder}: the id {twice[0]} stands {Counter(e.id for e in found)[twice[0]]} times")
        rows = {"total": len(found)} if self.counts.keys() == {"total"} else Counter(e.task for e in found)
        if not partial and self.counts and (wrong := differences(self.counts, rows)):
            raise DataError(
                f"{folder}: not the annotation of {self.name} as published ({wrong}): "
                "fetch it again, or say partial to go on with what there is"
            )
        return found

    @abstractmethod
    def read(self, root: Path, partial: bool) -> Iterator[Example]:
        """The examples of the files in a folder. partial: files may be missing."""

    def videos(self, root: Path, example: Example) -> tuple[Path, ...]:
        """Where the video of an example may lie, the published place first."""
        return (root / "videos" / example.video,)

    def spans(self, example: Example) -> tuple[Span, ...]:
        """What may be seen of the video, in time order: seconds; an end of infinity is the video's own."""
        return ((0.0, math.inf) if example.span is None else example.span,)

    def duration(self, example: Example) -> float | None:
        """How long its video is, seconds, where the annotation says so."""
        said = example.extra.get("duration")
        return float(said) if isinstance(said, int | float) else None

    def frames(self, video: str, batch: int, device: torch.device) -> Iterator[Sequence[Frame]] | None:
        """A generated video's frames in batches, their pixels on the device or the CPU; None where videos are files."""
        return None

    # How it is asked

    @abstractmethod
    def prompt(self, example: Example) -> str:
        """The official prompt, without what the model's own template puts around it."""

    def question(self, example: Example) -> Question:
        """The question as the stream is asked it."""
        return Question(self.prompt(example), query=example.question)

    def decoding(self, example: Example) -> Decoding:
        """How the response is decoded: greedily."""
        return Decoding(max_tokens=self.max_tokens, prefix=self.prefix)

    def response(self, answer: Answer) -> Any:
        """What of an answer is graded."""
        return answer.text

    def converse(self, example: Example, ask: Ask) -> tuple[Any, Answer] | None:
        """The response and the last answer where one question takes several turns; None where it is asked once."""
        return None

    # How it is scored

    @abstractmethod
    def grade(self, example: Example, response: Any) -> Grade:
        """The official rule, its oddities included. Where the official scorer raises, 0 and counted; where it skips,
        not counted. None is a response that is not there.
        """

    def tolerant(self, example: Example, response: Any) -> float | None:
        """What a lenient reader makes of the response; a second column, never the first. None where there is none."""
        return None

    @abstractmethod
    def summarize(self, grades: Iterable[Grade]) -> Summary:
        """The official aggregation."""

    def submission(self, pairs: Iterable[tuple[Example, Any]], *, fill: int | None = None) -> Any:
        """What a server that scores takes, as JSON values, of questions and their responses. Raises DataError."""
        raise DataError(f"{self.name} has no server that scores it: its answers are public")


def _leaves(video: str) -> bool:
    path = PurePosixPath(video)
    return path.is_absolute() or ".." in path.parts


def differences(expected: Mapping[str, int], found: Mapping[str, int]) -> str:
    """Where two counts differ, as `task: 3 of 5`."""
    names = [name for name in {**expected, **found} if expected.get(name, 0) != found.get(name, 0)]
    return ", ".join(f"{name}: {found.get(name, 0)} of {expected.get(name, 0)}" for name in names)


def by_task(grades: Iterable[Grade], tasks: Iterable[str]) -> dict[str, list[Grade]]:
    """Grades by task in the given order, tasks without any left out. Raises DataError for a grade of another task."""
    found: dict[str, list[Grade]] = {task: [] for task in tasks}
    for grade in grades:
        if grade.task not in found:
            raise DataError(f"a grade is of the task {grade.task!r}: known are {', '.join(found)}")
        found[grade.task].append(grade)
    return {task: mine for task, mine in found.items() if mine}


def mean(name: str, grades: Sequence[Grade], part: str | None = None) -> Score:
    """The mean over counted grades; of a part where one is named, over those that have it."""
    values = [
        g.value if part is None else g.parts[part] for g in grades if g.counted and (part is None or part in g.parts)
    ]
    return Score(name, math.fsum(values) / len(values) if values else None, len(values), len(grades))


def macro(name: str, scores: Sequence[Score]) -> Score:
    """The mean of scores that have a value, each of the same weight."""
    values = [s.value for s in scores if s.value is not None]
    value = math.fsum(values) / len(values) if values else None
    return Score(name, value, sum(s.n for s in scores), sum(s.rows for s in scores))
