"""StreamWorld: generated streams with questions whose answers and evidence are known; nothing is fetched.

Multiple choice by default, graded by the option whose letter has the largest logit; `open` compares short answers as
words. An example's id is SEED:NUMBER. Accuracy is the share of right answers, by family and in all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any, ClassVar

import torch

from ...config import Decoding
from ...errors import WorldError
from ...types import Answer, Frame, Question
from ...world import FAMILIES, SPLITS, Asked, Script, questions
from ..base import Benchmark, Example, Grade, Summary, by_task, mean
from ..pictures import pictures

PATIENCE = 50  # streams in a row without one question
SMALLEST = 16  # pixels across: of less there is nothing left to see


@dataclass(frozen=True, kw_only=True)
class StreamWorld(Benchmark):
    """What is asked of which streams.

    seed: of the first stream; the next have the next. limit: questions, over as many streams as they take. steps:
    seconds of each. since: no question before this share of its stream. open: short answers compared as text, in place
    of options. size: pixels.
    """

    seed: int = 0
    limit: int = 256
    steps: int = 256
    per_stream: int = 32
    since: float = 0.0
    split: str = "test"
    families: tuple[str, ...] = tuple(FAMILIES)
    open: bool = False
    size: int = 112

    name: ClassVar[str] = "streamworld"
    counts: ClassVar[dict[str, int]] = {}

    def __post_init__(self) -> None:
        object.__setattr__(self, "families", tuple(self.families))
        if unknown := [f for f in self.families if f not in FAMILIES]:
            raise WorldError(f"no family {', '.join(unknown)}: there are {', '.join(FAMILIES)}")
        if self.split not in SPLITS:
            raise WorldError(f"a split is one of {', '.join(SPLITS)}, got {self.split!r}")
        for name, least in (("limit", 1), ("per_stream", 1), ("size", SMALLEST)):
            if getattr(self, name) < least:
                raise WorldError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not 0 <= self.since < 1:
            raise WorldError(f"since is a share of the stream from 0 and below 1, got {self.since}")
        if not self.families:
            raise WorldError("name at least one family")

    def plan(self) -> list[tuple[Script, list[Asked]]]:
        """The streams and their questions, `limit` questions in all. The same settings give the same."""
        found: list[tuple[Script, list[Asked]]] = []
        left, seed, empty = self.limit, self.seed, 0
        while left:
            script = self.script(seed)
            turn = (seed - self.seed) * self.per_stream % len(self.families)  # few a stream: others each time
            families = self.families[turn:] + self.families[:turn]
            asked = questions(script, min(left, self.per_stream), families, int(self.since * self.steps))
            empty = 0 if asked else empty + 1
            if empty == PATIENCE:
                said = ", ".join(self.families)
                raise WorldError(f"streams of {self.steps} steps hold no question of {said}: use more steps")
            if asked:
                found.append((script, asked))
            left, seed = left - len(asked), seed + 1
        return found

    def script(self, seed: int) -> Script:
        """The stream of a seed."""
        return Script(seed, self.steps, self.split)  # type: ignore[arg-type]

    def examples(self, root: str | Path = ".", *, partial: bool = False) -> list[Example]:
        """Every question of the plan; `root` is not looked at."""
        return list(self.read(Path(root), partial))

    def read(self, root: Path, partial: bool) -> Iterator[Example]:
        """The questions, stream after stream."""
        for script, asked in self.plan():
            for i, a in enumerate(asked):
                yield self.example(f"{script.seed}:{i}", str(script.seed), a)

    def example(self, name: str, video: str, asked: Asked, **extra: Any) -> Example:
        """A question as an example, with its options or open."""
        return Example(
            id=name,
            video=video,
            task=asked.family,
            question=asked.text,
            options=() if self.open else asked.options,
            gold=asked.answer if self.open else ascii_uppercase[asked.gold],
            at=asked.at,
            span=(0.0, asked.at),
            evidence=asked.evidence,
            extra=extra,
        )

    def frames(self, video: str, batch: int, device: torch.device) -> Iterator[Sequence[Frame]]:
        """The stream of a seed, drawn."""
        return pictures(self.script(int(video)), self.size, batch, device)

    def prompt(self, example: Example) -> str:
        """The question, its options a line each."""
        lines = (f"({letter}) {text}" for letter, text in zip(ascii_uppercase, example.options, strict=False))
        return "\n".join((example.question, *lines))

    def question(self, example: Example) -> Question:
        """The question with its options, which the model's own template puts into words."""
        return Question(example.question, example.options)

    def decoding(self, example: Example) -> Decoding:
        """One token for a letter."""
        return Decoding(max_tokens=1 if example.options else 24)

    def response(self, answer: Answer) -> Any:
        """The letter with the largest logit, or what was said."""
        return answer.text if answer.choice is None else ascii_uppercase[answer.choice]

    def grade(self, example: Example, response: Any) -> Grade:
        """The same letter; of an open answer the same words, whatever their case."""
        said = response.strip() if isinstance(response, str) else None
        right = said is not None and (said == example.gold if example.options else fold(said) == fold(example.gold))
        return Grade(float(right), task=example.task, parsed=said)

    def summarize(self, grades: Iterable[Grade]) -> Summary:
        """Accuracy by family and in all."""
        every = list(grades)
        return Summary((*(mean(f, mine) for f, mine in by_task(every, FAMILIES).items()), mean("all", every)), "all")


def fold(text: str) -> str:
    """Text as it is compared."""
    return text.strip().casefold()
