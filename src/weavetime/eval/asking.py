"""Asking one question in one mode: the modes of a stream, and baselines that are none.

oracle: the frames of the annotated evidence, or the newest one where there is none. last:N: a fresh stream that is fed
the newest N frames and nothing else, the baseline that papers cite; `recent:N` is not it, for its blocks carry what
they attended to.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from ..config import Decoding, StreamConfig
from ..engine import check_mode as check_blocks
from ..errors import ModeError, QuestionError
from ..focus import Chosen, Mode, parse_mode
from ..types import Answer, Question
from .base import Example, Span
from .row import Row, spans_read

if TYPE_CHECKING:
    from ..loading import Engine
    from ..stream import Stream
    from .feeding import Feed
    from .run import Run

ORACLE, LAST = "oracle", "last"


def check_mode(mode: str | Mode, config: StreamConfig) -> None:
    """Refuse what is neither a mode nor a baseline, and what streams of these settings rule out. Raises ModeError."""
    if last_frames(mode):
        return
    value = Chosen((0.0,)) if mode == ORACLE else parse_mode(mode)
    check_blocks(config, value)
    if value.name == "full" and config.window is not None:
        raise ModeError(
            f"full reads every block, and these streams have a window of {config.window}: use a window of none"
        )


def last_frames(mode: str | Mode) -> int:
    """N of the baseline last:N, 0 for anything else."""
    if not isinstance(mode, str) or mode.partition(":")[0] != LAST:
        return 0
    said = mode.partition(":")[2] or "4"
    if not said.isdecimal() or int(said) < 1:
        raise ModeError(f"{mode!r}: last:N takes a number of frames from 1, as in last:4")
    return int(said)


def label(mode: str | Mode) -> str:
    """How rows call a mode: a name as it was said, a value, or settings, by those that are not the defaults."""
    if isinstance(mode, str) and not re.search("[=(]", mode):
        return f"{LAST}:{n}" if (n := last_frames(mode)) else mode
    mode = parse_mode(mode)
    said = {f.name: getattr(mode, f.name) for f in fields(mode)}  # type: ignore[arg-type]
    usual = {f.name: f.default for f in fields(mode)}  # type: ignore[arg-type]
    other = ",".join(f"{k}={v}" for k, v in said.items() if v != usual[k])
    return f"{mode.name}({other})" if other else mode.name


def called(mode: str, names: Container[str]) -> str:
    """What rows call a mode that is said in another way; as it was said, where rows know that."""
    return mode if mode in names else label(mode)


Read = tuple[tuple[Span, ...], ...]


class Asker:
    """Questions about one fed stream, whose visible span ends at `end`, in one mode."""

    def __init__(self, engine: Engine, run: Run, feed: Feed, mode: str | Mode, end: float) -> None:
        self.engine, self.run, self.feed, self.mode, self.end = engine, run, feed, mode, end

    def rows(self, examples: Sequence[Example]) -> Iterator[Row]:
        """A row for each; those that are asked once, with the same decoding, are asked together."""
        alike: dict[Decoding, list[Example]] = {}
        for example in examples:
            row = self._conversation(example)
            if row is not None:
                yield row
            else:
                alike.setdefault(self.run.benchmark.decoding(example), []).append(example)
        for decoding, group in alike.items():
            for together in [[e] for e in group] if self.mode == ORACLE else [group]:
                yield from self._once(together, decoding)

    def _conversation(self, example: Example) -> Row | None:
        """The row of a question that takes several turns; None for any other."""
        read: Read = ()

        def ask(question: Question, at: float | None, decoding: Decoding) -> Answer:
            nonlocal read
            [(answer, read)] = self._ask([question], example, at, decoding)
            return answer

        try:
            found = self.run.benchmark.converse(example, ask)
        except QuestionError as e:
            return self._problem(example, e)
        if found is None:
            return None
        response, last = found
        return replace(self._row(example, response, last, read), seen=self.feed.newest(last.at))  # may end early

    def _once(self, examples: Sequence[Example], decoding: Decoding) -> Iterator[Row]:
        questions = [self.run.benchmark.question(e) for e in examples]
        try:
            answers = self._ask(questions, examples[0], None, decoding)
        except QuestionError as e:
            if len(examples) == 1:
                yield self._problem(examples[0], e)
            else:  # one that cannot be asked spoils no other
                for example in examples:
                    yield from self._once([example], decoding)
            return
        for example, (answer, read) in zip(examples, answers, strict=True):
            yield self._row(example, self.run.benchmark.response(answer), answer, read)

    def _ask(
        self, questions: Sequence[Question], example: Example, at: float | None, decoding: Decoding
    ) -> list[tuple[Answer, Read]]:
        """Answers as of `at` (None: the end of the span), each with the stretches of time that it read."""
        moment = min(self.end if at is None else at, self.end)
        with self._stream(moment) as stream:
            mode = "full" if last_frames(self.mode) else self.mode
            mode = oracle(example, stream, moment) if mode == ORACLE else mode
            # An `at` after the last frame's end is a time that the stream does not know of.
            when = None if moment >= stream.now else moment
            answers = stream.ask_all(questions, at=when, mode=mode, decoding=decoding)
            spans = stream.memory.spans(when)
            return [(a, spans_read(a.evidence.blocks, spans)) for a in answers]

    @contextmanager
    def _stream(self, moment: float) -> Iterator[Stream]:
        """The stream to ask: the fed one, or for last:N a fresh one."""
        n = last_frames(self.mode)
        if not n:
            yield self.feed.stream
            return
        with self.engine.stream(self.run.config, window=None, memory="blocks") as fresh:
            fresh.feed([frame for frame in self.feed.recent if frame.time <= moment][-n:])
            yield fresh

    def _row(self, example: Example, response: Any, answer: Answer, read: Read) -> Row:
        timings = {k: round(v, 6) for k, v in answer.timings.items()}
        came: dict[str, Any] = {"gate": answer.gate, "recalled": answer.recalled, "read": read, "timings": timings}
        return Row.graded(self.run.benchmark, example, label(self.mode), response, seen=self.feed.newest(), **came)

    def _problem(self, example: Example, error: QuestionError) -> Row:
        return Row.graded(self.run.benchmark, example, label(self.mode), None, problem=str(error))


def kept(modes: Sequence[str | Mode], fps: float, turns: float) -> int:
    """How many of the newest frames the baselines need, where a question may be asked up to `turns` seconds back."""
    most = max(map(last_frames, modes))
    return most + math.ceil(turns * fps) if most else 0


def oracle(example: Example, stream: Stream, moment: float) -> Mode:
    """The frames up to a moment that show the answer; the newest where none does."""
    seen = [t for t in stream.memory.times if t <= moment]
    times = [t for t in seen if any(a <= t < b for a, b in example.evidence)]
    between = [a for a, b in example.evidence if a <= moment and not any(a <= t < b for t in times)]
    return Chosen(tuple(sorted((*times, *between))) or tuple(seen[-1:]))
