"""A stream: frames go in, questions come out answered. The path of a frame and of a question, top to bottom."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from types import TracebackType
from typing import Self

import numpy as np
import torch

from .backbones import Grid
from .config import Decoding, StreamConfig
from .engine import Runner, check_decoding
from .errors import QuestionError, StreamError, VideoError
from .focus import Mode, parse_mode
from .memory import Memory, Past
from .reply import Asked, Clock, Reply, Writing
from .types import Answer, Choice, Frame, Question
from .video import Source


class Stream:
    """One video or camera, remembered. Feed frames in time order; ask at any moment, about any moment.

    Many threads may feed and ask; the runner's lock lets one forward run at a time. delta: the gate's threshold where
    the mode names none.
    """

    def __init__(self, runner: Runner, config: StreamConfig, delta: float) -> None:
        self.runner, self.config, self.delta = runner, config, delta
        self.memory: Memory = runner.memory(config)
        self._grid: Grid | None = None
        self._closed = False

    # Frames

    def feed(self, frames: Frame | Iterable[Frame]) -> int:
        """Encode frames, in batches, and remember them; returns how many.

        frames: one Frame, any iterable of them, or a source from `open_video` (a live one is encoded as it comes).
        Raises StreamError on frames that are out of order or after close(), VideoError on unusable pixels.
        """
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
            for steps in self.runner.embed(batch, grid, self.config.fps):
                self.runner.append(self.memory, steps)
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
    ) -> list[Writing]:
        """Read every question over its first view; those that need the past look again, each with its own blocks."""
        with self.runner.lock, torch.inference_mode():
            asked = self._asked(questions, at, parse_mode(mode), decoding or Decoding())
            past = self._past(at, asked.mode)
            rows = range(len(questions))
            first = asked.mode.first(past)
            if first is None:  # layers pick for themselves, in a pass over each question's text
                picked = [self.runner.pick(self.memory, past, prompt, asked.mode) for prompt in asked.prompts]
                return [self._recall(asked, row, choice, None) for row, choice in enumerate(picked)]
            present = self._prefill(asked, first, rows, asked.clock, "prefill")
            gates = present.draft.gate
            unsure = [row for row in rows if asked.mode.needs_past(gates[row], past, self.delta)]
            if not unsure:
                return [present]
            found = []
            for row in unsure:
                choice = asked.mode.choose(present.draft.queries_of(row), past)
                found.append(self._recall(asked, row, choice, gates[row]))
            sure = [row for row in rows if row not in unsure]
            if sure:
                found.append(Writing(self.runner, asked, present.draft.only(sure), sure, asked.clock))
            return found

    def _prefill(self, asked: Asked, choice: Choice, rows: Sequence[int], clock: Clock, phase: str) -> Writing:
        prompts = [asked.prompts[row] for row in rows]
        layers = asked.mode.gate_layers if phase == "prefill" else 0
        draft = self.runner.prefill(self.memory.view(choice), prompts, asked.decoding.max_tokens, layers)
        clock.mark(phase)
        return Writing(self.runner, asked, draft, rows, clock)

    def _recall(self, asked: Asked, row: int, choice: Choice, gate: float | None) -> Writing:
        clock = asked.clock.fork()
        clock.mark("choose")
        writing = self._prefill(asked, choice, [row], clock, "recall")
        writing.draft.gate = (gate,)
        writing.recalled = True
        return writing

    # Checks

    def _asked(self, questions: Sequence[Question], at: float | None, mode: Mode, decoding: Decoding) -> Asked:
        wrong = check_decoding(decoding)
        if wrong or not questions:
            raise QuestionError(wrong or "no question was asked")
        if at is not None and not (math.isfinite(at) and at >= 0):
            raise QuestionError(f"at must be a number of seconds from 0, got {at}")
        if at is not None and at > self.now and not self._closed:
            raise QuestionError(
                f"at {at:g} s is after the stream's now, {self.now:g} s: ask about what was seen, or close() it"
            )
        prompts = tuple(self.runner.backbone.prompt(q, decoding) for q in questions)
        return Asked(prompts, mode, decoding, self.now if at is None else at)

    def _past(self, at: float | None, mode: Mode) -> Past:
        past = self.memory.index(at)
        if past.count == 0 and mode.name != "blind":
            when = "yet" if at is None else f"at or before {at:g} s"
            raise QuestionError(f"there is no frame {when}: feed the stream first, or ask with mode='blind'")
        return past

    def _check(self, batch: Sequence[Frame]) -> None:
        if self._closed:
            raise StreamError("the stream is closed: frames cannot be added; open another with engine.stream()")
        last = self.memory.table.times[-1] if len(self) else -math.inf
        for frame in batch:
            shape = tuple(getattr(frame.pixels, "shape", ()))
            if len(shape) != 3 or shape[2] != 3 or 0 in shape or frame.pixels.dtype not in (np.uint8, torch.uint8):
                got = f"{getattr(frame.pixels, 'dtype', type(frame.pixels).__name__)} {shape}"
                raise VideoError(f"a frame's pixels must be uint8 (height, width, 3), got {got} at {frame.time} s")
            if not (math.isfinite(frame.time) and frame.time >= 0):
                raise StreamError(f"a frame's time must be a number of seconds from 0, got {frame.time}")
            if frame.time <= last:
                raise StreamError(f"frames must come in time order: {frame.time} s came after {last} s")
            if frame.until is not None and not (math.isfinite(frame.until) and frame.until > frame.time):
                raise StreamError(f"a frame's end must be after its time {frame.time} s, got {frame.until}")
            last = frame.time

    # Life

    @property
    def now(self) -> float:
        """The end of the last step, seconds; 0 before the first frame."""
        return self.memory.table.ends[-1] if len(self) else 0.0

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


def _question(text: str, options: Sequence[str], history: Sequence[tuple[str, str]]) -> Question:
    if isinstance(options, str):
        raise QuestionError(f"options must be a list of texts, got the one text {options!r}")
    return Question(text, tuple(options), tuple((q, a) for q, a in history))


def _batches(frames: Frame | Iterable[Frame], size: int) -> Iterator[list[Frame]]:
    rest = iter([frames] if isinstance(frames, Frame) else frames)
    while batch := list(islice(rest, size)):
        yield batch
