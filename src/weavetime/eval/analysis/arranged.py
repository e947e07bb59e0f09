"""The same questions with the pictures of their visible span in another order, while times go on ascending.

Each question has a stream of its own: pictures change places within what may be seen of it, and never beyond. All of
them are held in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

from ...errors import ModeError
from ...types import Frame
from ..asking import ORACLE
from ..base import Example, Span
from ..row import Key, Row
from ..run import Fed, Run, measure
from ..scores import joined, meets

if TYPE_CHECKING:
    from ...loading import Engine

Arrange = Callable[[Example, Sequence[Span]], Sequence[int]]
"""Of a question and the times of its frames, [start, end) each: whose picture is shown at each of them."""


@dataclass(frozen=True)
class Condition:
    """A way to show the pictures. name: how rows call it. arrange: None leaves them as they are."""

    name: str
    arrange: Arrange | None = None


class Arranged:
    """Frames up to `end`, pictures rearranged, in batches of `size`. times: of every frame; shown: whose picture."""

    def __init__(self, condition: Condition, example: Example, run: Run) -> None:
        self.condition, self.example, self.run = condition, example, run
        [(_, self.end)] = run.benchmark.spans(example)
        self.times: list[Span] = []
        self.shown: Sequence[int] = ()

    def __call__(self, batches: Iterator[Sequence[Frame]]) -> Iterator[Sequence[Frame]]:
        frames = list(self._visible(batches))
        self.times = [(f.time, f.time + 1 / self.run.config.fps if f.until is None else f.until) for f in frames]
        arrange = self.condition.arrange
        self.shown = range(len(frames)) if arrange is None else arrange(self.example, self.times)
        shown = [replace(frame, pixels=frames[i].pixels) for frame, i in zip(frames, self.shown, strict=True)]
        size = self.run.config.batch
        return (shown[i : i + size] for i in range(0, len(shown), size))

    def _visible(self, batches: Iterator[Sequence[Frame]]) -> Iterator[Frame]:
        for frame in chain.from_iterable(batches):
            if frame.time > self.end:
                return
            yield frame

    def moved(self, evidence: Sequence[Span]) -> tuple[Span, ...]:
        """When what showed the answer is shown now."""
        there = {i for i, time in enumerate(self.times) if any(meets(time, span) for span in evidence)}
        return joined(time for time, i in zip(self.times, self.shown, strict=True) if i in there)


def usable(run: Run) -> list[Example]:
    """The questions that are about one stretch of their video: only there is an order to change."""
    return [e for e in run.examples if len(run.benchmark.spans(e)) == 1]


def check(run: Run) -> None:
    """Refuse what would look where the evidence no longer is. Raises ModeError."""
    if ORACLE in run.modes:
        raise ModeError("oracle reads the annotated times, at which other pictures are shown here: leave it out")


def under(
    engine: Engine, run: Run, condition: Condition, *, done: Collection[Key] = frozenset(), on_fed: Fed = lambda n: None
) -> Iterator[Row]:
    """A row for each question that can be used, in each mode; `MODE, CONDITION` is what the rows call their mode.

    Their evidence is where the pictures that show the answer are now. done: keys of rows that are there already.
    """
    check(run)
    together: dict[object, list[Example]] = {}
    for e in usable(run):
        together.setdefault((e.video, run.benchmark.spans(e), e.evidence), []).append(e)
    for examples in together.values():
        wrap = Arranged(condition, examples[0], run)
        mine = replace(run, examples=examples, wrap=wrap)
        there = {(e.id, name) for e in examples for name in run.names if (e.id, labelled(name, condition)) in done}
        for row in measure(engine, mine, done=there, on_fed=on_fed):
            evidence = wrap.moved(row.evidence) if condition.arrange is not None and wrap.times else row.evidence
            yield replace(row, mode=labelled(row.mode, condition), evidence=evidence)


def labelled(mode: str, condition: Condition) -> str:
    """What rows call a mode under a condition."""
    return f"{mode}, {condition.name}"


__all__ = ["Arrange", "Arranged", "Condition", "check", "labelled", "under", "usable"]
