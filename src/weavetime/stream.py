"""A stream: frames go in, questions come out answered. The path of a frame and of a question, top to bottom."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch

from .backbones import Grid
from .config import Decoding, Record, StreamConfig
from .engine import Runner, check_decoding, observe, recollect
from .errors import QuestionError, StreamError, VideoError
from .focus import Mode, parse_mode
from .memory import Memory, Past, StarMemory, View
from .reply import Asked, Clock, Reply, Writing
from .types import Answer, Frame, Question
from .video import Source


class Stream:
    """One video or camera, remembered. Feed frames in time order; ask at any moment, about any moment.

    Many threads may feed and ask; the runner's lock lets one forward run at a time. record: what the model says of
    itself, for settings that a mode leaves open.
    """

    def __init__(self, runner: Runner, config: StreamConfig, record: Record) -> None:
        self.runner, self.config, self.record = runner, config, record
        self.memory: Memory = runner.memory(config)
        self._grid: Grid | None = None
        self._closed = False

    # Frames

    def feed(self, frames: Frame | Iterable[Frame]) -> int:
        """Encode frames, in batches, and remember them; returns how many.

        frames: one Frame, any iterable of them, or a source from `open_video` (a live one is encoded as it comes).
        Raises StreamError on frames that are out of order or after close(), VideoError on unusable pixels. What was
        encoded before an error stays: `now` says how far.
        """
        if isinstance(frames, str | bytes | Path | np.ndarray | torch.Tensor):
            raise StreamError("feed takes frames: open a video with open_video(...), or make wt.Frame(pixels, time)")
        size = self.config.batch
        batches = frames.batches(size) if isinstance(frames, Source) else _batches(frames, size)
        count = 0
        for batch in batches:
            self._append(batch)
            count += len(batch)
        return count

    def _append(self, batch: Sequence[Frame]) -> None:
        with self.runner.lock:
            self._check(batch)
            grid = self._grid or self.runner.backbone.grid(*batch[0].pixels.shape[:2])
            if isinstance(self.memory, StarMemory):
                observe(self.runner, self.memory, batch, grid)
                self._grid = grid
                return
            frames = [*([self.memory.odd] if self.memory.odd else []), *batch]
            whole = len(frames) - len(frames) % self.runner.backbone.frames_per_step
            for steps in self.runner.embed(frames[:whole], grid, self.config.fps):
                self.runner.append(self.memory, steps)
                self._grid = grid  # with the first block, not before: a picture that failed fixes nothing
            if whole < len(frames):
                self.memory.hold(self.runner.first(frames[whole], grid, self.config.fps))
                self._grid = grid

    # Questions

    def ask(
        self,
        question: str,
        *,
        options: Sequence[str] = (),
        at: float | None = None,
        history: Sequence[tuple[str, str]] = (),
        mode: str | Mode = "weavetime",
        decoding: Decoding | None = None,
    ) -> Answer:
        """Answer one question as of `at` seconds (None: now). Reads the memory and changes nothing in it.

        history: earlier (question, answer) turns. Raises QuestionError, ModeError, CapacityError, NumericsError.
        """
        return self.ask_all([_question(question, options, history)], at=at, mode=mode, decoding=decoding)[0]

    def ask_all(
        self,
        questions: Sequence[Question],
        *,
        at: float | None = None,
        mode: str | Mode = "weavetime",
        decoding: Decoding | None = None,
    ) -> list[Answer]:
        """Answer several questions about one moment: those that read the same blocks are run as a batch."""
        answers: dict[int, Answer] = {}
        for writing in self._look(questions, at, mode, decoding):
            writing.run()
            answers.update(writing.answers())
        return [answers[i] for i in range(len(questions))]

    def reply(
        self,
        question: str,
        *,
        options: Sequence[str] = (),
        at: float | None = None,
        history: Sequence[tuple[str, str]] = (),
        mode: str | Mode = "weavetime",
        decoding: Decoding | None = None,
    ) -> Reply:
        """Answer in pieces of text as they are decoded; `reply.answer` afterwards."""
        [writing] = self._look([_question(question, options, history)], at, mode, decoding)
        return Reply(writing)

    def _look(
        self, questions: Sequence[Question], at: float | None, mode: str | Mode, decoding: Decoding | None
    ) -> Iterator[Writing]:
        """Read every question over its first view; those that need the past look again, each with its own blocks.

        Each is to be decoded before the next is asked for: a recalled view is large.
        """
        with self.runner.reading():
            asked = self._asked(questions, at, parse_mode(mode).of(self.record), decoding or Decoding())
            past = self._past(at, asked.mode)
            rows = range(len(questions))
            first = asked.mode.first(past)
            if first is not None:
                present = self._prefill(asked, past.view(first), rows, asked.clock, "prefill")
                gates = present.draft.gate
                unsure = [row for row in rows if asked.mode.needs_past(gates[row], past)]
        if first is None:  # layers pick for themselves, in a pass over each question's text
            for row, prompt in enumerate(asked.prompts):
                with self.runner.reading():
                    view = past.view(self.runner.pick(self.memory, past, prompt, asked.mode))
                    writing = self._recall(asked, row, view, None)
                yield writing
            return
        if not unsure:
            yield present
            return
        if sure := [row for row in rows if row not in unsure]:
            yield Writing(self.runner, asked, present.draft.only(sure), sure, asked.clock.fork())
        for row in unsure:
            with self.runner.reading():
                view = past.view(asked.mode.choose(present.draft.queries_of(row), past))
                writing = self._recall(asked, row, view, gates[row])
            yield writing

    def _prefill(self, asked: Asked, view: View, rows: Sequence[int], clock: Clock, phase: str) -> Writing:
        prompts = [asked.prompts[row] for row in rows]
        layers = asked.mode.gate_layers if phase == "prefill" else 0
        draft = self.runner.prefill(view, prompts, asked.decoding.max_tokens, layers)
        clock.mark(phase)
        return Writing(self.runner, asked, draft, rows, clock, recalled=phase == "recall")

    def _recall(self, asked: Asked, row: int, view: View, gate: float | None) -> Writing:
        clock = asked.clock.fork()
        clock.mark("choose")
        writing = self._prefill(asked, view, [row], clock, "recall")
        writing.draft.gate = (gate,)
        return writing

    # Checks

    def _asked(self, questions: Sequence[Question], at: float | None, mode: Mode, decoding: Decoding) -> Asked:
        wrong = check_decoding(decoding)
        if wrong or not all(isinstance(q, Question) for q in questions):
            raise QuestionError(wrong or "ask_all takes wt.Question values; ask takes one text")
        if not questions:
            raise QuestionError("no question was asked")
        if at is not None and not _seconds(at):
            raise QuestionError(f"at must be a number of seconds from 0, got {at!r}")
        if at is not None and at > self.now and not self._closed:
            raise QuestionError(
                f"at {at:g} s is after the stream's now, {self.now:g} s: ask about what was seen, or close() it"
            )
        prompts = tuple(self.runner.backbone.prompt(q, decoding) for q in questions)
        return Asked(prompts, mode, decoding, self.now if at is None else float(at))

    def _past(self, at: float | None, mode: Mode) -> Past:
        if isinstance(self.memory, StarMemory):
            return recollect(self.runner, self.memory, at, mode)
        past = self.memory.index(at)
        half = self.memory.half(past)
        if half is not None and mode.name != "blind":  # as the family pads a video of an odd number of frames
            assert self._grid is not None
            [steps] = self.runner.embed([half, half], self._grid, self.config.fps)
            return past.joined(self.runner.provisional(self.memory, past, steps))
        if past.count == 0 and mode.name != "blind":
            when = "yet" if at is None else f"at or before {at:g} s"
            raise QuestionError(f"there is no frame {when}: feed the stream first, or ask with mode='blind'")
        return past

    def _check(self, batch: Sequence[Frame]) -> None:
        if self._closed:
            raise StreamError("the stream is closed: frames cannot be added; open another with engine.stream()")
        last = -math.inf if self.memory.newest is None else self.memory.newest
        for frame in batch:
            if not isinstance(frame, Frame):
                raise StreamError(f"feed takes wt.Frame(pixels, time) values, got a {type(frame).__name__}")
            shape = tuple(getattr(frame.pixels, "shape", ()))
            if len(shape) != 3 or shape[2] != 3 or 0 in shape or frame.pixels.dtype not in (np.uint8, torch.uint8):
                got = f"{getattr(frame.pixels, 'dtype', type(frame.pixels).__name__)} {shape}"
                raise VideoError(f"a frame's pixels must be uint8 (height, width, 3), got {got} at {frame.time} s")
            if not _seconds(frame.time):
                raise StreamError(f"a frame's time must be a number of seconds from 0, got {frame.time!r}")
            if frame.time <= last:
                raise StreamError(f"frames must come in time order: {frame.time} s came after {last} s")
            if frame.until is not None and not (_seconds(frame.until) and frame.until > frame.time):
                raise StreamError(f"a frame's end must be after its time {frame.time} s, got {frame.until}")
            last = frame.time

    # Life

    @property
    def now(self) -> float:
        """The end of the last frame, seconds; 0 before the first."""
        return self.memory.now

    def __len__(self) -> int:
        """Blocks remembered."""
        return len(self.memory.table)

    def __bool__(self) -> bool:
        return True

    def close(self) -> None:
        """Say that no more frames come: from then on any `at` may be asked about. Questions go on being answered."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _seconds(x: Any) -> bool:
    number = isinstance(x, int | float | np.integer | np.floating) and not isinstance(x, bool)
    return number and math.isfinite(x) and bool(x >= 0)


def _question(text: str, options: Sequence[str], history: Sequence[tuple[str, str]]) -> Question:
    if isinstance(options, str) or options is None:
        raise QuestionError(f"options must be a list of texts, got {options!r}")
    for turn in history:
        if not (isinstance(turn, tuple | list) and len(turn) == 2 and all(isinstance(part, str) for part in turn)):
            raise QuestionError(f"history must be a list of (question, answer) texts, got {turn!r} in it")
    return Question(text, tuple(options), tuple((q, a) for q, a in history))


def _batches(frames: Frame | Iterable[Frame], size: int) -> Iterator[list[Frame]]:
    """Full batches, the last maybe short; where the frames end in an error, those before it first."""
    batch: list[Frame] = []
    try:
        for frame in [frames] if isinstance(frames, Frame) else frames:
            batch.append(frame)
            if len(batch) == size:
                yield batch
                batch = []
    except Exception:
        if batch:
            yield batch
        raise
    if batch:
        yield batch
