"""A stream: frames go in, questions come out answered. The path of a frame and of a question, top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch

from .backbones import FAMILIES, Backbone, Grid, Prompt, build
from .config import Decoding, Record, StreamConfig
from .engine import Draft, Runner, check_decoding
from .errors import ModelError, QuestionError, StreamError, VideoError
from .focus import Mode, parse_mode
from .memory import Memory, Past
from .types import Answer, Choice, Evidence, Frame, Question
from .video import Source

DELTA = 0.6  # the paper's threshold, where a model's record names none


class Stream:
    """One video or camera, remembered. Feed frames in time order; ask at any moment, about any moment.

    Many threads may feed and ask; the engine's lock lets one forward run at a time.
    """

    def __init__(self, engine: Engine, config: StreamConfig) -> None:
        self.engine, self.config = engine, config
        self.memory: Memory = engine.runner.memory(config)
        self._grid: Grid | None = None
        self._closed = False

    # Frames

    def feed(self, frames: Frame | Iterable[Frame]) -> int:
        """Encode frames, in batches, and remember them; returns how many.

        frames: one Frame, any iterable of them, or a source from `open_video` (a live one is encoded as it comes).
        Raises StreamError on frames that are out of order or after close(), VideoError on unusable pixels.
        """
        batches = frames.batches(self.config.batch) if isinstance(frames, Source) else _batches(frames, self.config)
        count = 0
        for batch in batches:
            self._append(batch)
            count += len(batch)
        return count

    def _append(self, batch: Sequence[Frame]) -> None:
        runner, backbone = self.engine.runner, self.engine.backbone
        with runner.lock, torch.inference_mode():
            self._check(batch)
            grid = self._grid or backbone.grid(*batch[0].pixels.shape[:2])
            with runner.guarded():
                steps = backbone.steps(batch, grid, self.config.fps)
            self._grid = grid
            for step in steps:
                runner.append(self.memory, step)

    def _check(self, batch: Sequence[Frame]) -> None:
        if self._closed:
            raise StreamError("the stream is closed: frames cannot be added; open another with engine.stream()")
        last = self.memory.table.times[-1] if len(self.memory.table) else -math.inf
        for frame in batch:
            shape = tuple(getattr(frame.pixels, "shape", ()))
            if len(shape) != 3 or shape[2] != 3 or 0 in shape or frame.pixels.dtype not in (np.uint8, torch.uint8):
                raise VideoError(f"a frame's pixels must be uint8 (height, width, 3), got {shape} at {frame.time} s")
            if not (math.isfinite(frame.time) and frame.time >= 0):
                raise StreamError(f"a frame's time must be a number of seconds from 0, got {frame.time}")
            if frame.time <= last:
                raise StreamError(f"frames must come in time order: {frame.time} s came after {last} s")
            if frame.until is not None and not frame.until > frame.time:
                raise StreamError(f"a frame's end must be after its time {frame.time} s, got {frame.until}")
            last = frame.time

    @property
    def now(self) -> float:
        """The end of the last step, seconds; 0 before the first frame."""
        return self.memory.table.ends[-1] if len(self.memory.table) else 0.0

    def __len__(self) -> int:
        """Blocks remembered."""
        return len(self.memory.table)

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
        """Answer one question as of `at` seconds (None: now). Reads the memory and changes nothing in it."""
        asked = Question(question, tuple(options), tuple((q, a) for q, a in history))
        return self.ask_all([asked], at=at, mode=mode, decoding=decoding)[0]

    def ask_all(
        self,
        questions: Sequence[Question],
        *,
        at: float | None = None,
        mode: str | Mode = "weavetime",
        decoding: Decoding | None = None,
    ) -> list[Answer]:
        """Answer several questions about one moment: those that read the same blocks are run as a batch."""
        drafts = self._drafts(questions, at, parse_mode(mode), decoding or Decoding())
        answers: dict[int, Answer] = {}
        for rows in drafts:
            rows.run()
            answers.update(rows.answers())
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
        asked = Question(question, tuple(options), tuple((q, a) for q, a in history))
        [draft] = self._drafts([asked], at, parse_mode(mode), decoding or Decoding())
        return Reply(draft)

    def _drafts(
        self, questions: Sequence[Question], at: float | None, mode: Mode, decoding: Decoding
    ) -> list[_Decoding]:
        """Prefill every question; those that need the past look again, each with its own blocks (METHOD §3)."""
        wrong = check_decoding(decoding)
        if wrong or not questions:
            raise QuestionError(wrong or "no question was asked")
        clock = _Clock()
        runner, memory = self.engine.runner, self.memory
        prompts = [self.engine.backbone.prompt(q, decoding) for q in questions]
        with runner.lock, torch.inference_mode():
            past = self._past(at, mode)
            moment = self.now if at is None else at
            rows = list(range(len(questions)))
            first = mode.first(past)
            if first is None:  # rekv: layers pick inside a pass over each question's text
                picked = [(row, runner.pick(memory, past, prompts[row], mode)) for row in rows]
                clock.mark("choose")
                return [
                    self._draft([row], choice, prompts, None, mode, moment, decoding, clock.fork(), recalled=True)
                    for row, choice in picked
                ]
            head = self._draft(rows, first, prompts, None, mode, moment, decoding, clock, recalled=False)
            delta = self.engine.delta
            unsure = [row for row in rows if mode.needs_past(head.draft.gate[row], past, delta)]
            if not unsure:
                return [head]
            drafts = []
            for row in unsure:
                own = clock.fork()
                choice = mode.choose(head.draft.queries_of(row), past)
                own.mark("choose")
                gate = head.draft.gate[row]
                drafts.append(self._draft([row], choice, prompts, gate, mode, moment, decoding, own, recalled=True))
            sure = [row for row in rows if row not in unsure]
            if sure:
                drafts.append(self._draft(sure, first, prompts, None, mode, moment, decoding, clock, recalled=False))
            return drafts

    def _draft(
        self,
        rows: Sequence[int],
        choice: Choice,
        prompts: Sequence[Prompt],
        gate: float | None,
        mode: Mode,
        moment: float,
        decoding: Decoding,
        clock: _Clock,
        *,
        recalled: bool,
    ) -> _Decoding:
        view = self.memory.view(choice)
        layers = 0 if recalled else mode.gate_layers
        draft = self.engine.runner.prefill(view, [prompts[r] for r in rows], decoding.max_tokens, layers)
        if recalled:
            draft.gate = (gate,)
        clock.mark("recall" if recalled else "prefill")
        asked = [prompts[r] for r in rows]
        return _Decoding(self.engine, draft, rows, asked, decoding, clock, mode.name, moment, recalled)

    def _past(self, at: float | None, mode: Mode) -> Past:
        if at is not None:
            if not (math.isfinite(at) and at >= 0):
                raise QuestionError(f"at must be a number of seconds from 0, got {at}")
            if at > self.now and not self._closed:
                raise QuestionError(
                    f"at {at:g} s is after the stream's now, {self.now:g} s: ask about what was seen, or close() it"
                )
        past = self.memory.index(at)
        if past.count == 0 and mode.name != "blind":
            when = "yet" if at is None else f"at or before {at:g} s"
            raise QuestionError(f"there is no frame {when}: feed the stream first, or ask with mode='blind'")
        return past

    # Life

    def close(self) -> None:
        """Say that no more frames come: from then on any `at` may be asked about. Questions go on being answered."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _batches(frames: Frame | Iterable[Frame], config: StreamConfig) -> Iterator[list[Frame]]:
    rest = iter([frames] if isinstance(frames, Frame) else frames)
    while batch := list(islice(rest, config.batch)):
        yield batch


class _Clock:
    """Seconds by phase, from the moment the question was asked."""

    def __init__(self) -> None:
        self.start = self._last = time.perf_counter()
        self.phases: dict[str, float] = {}

    def mark(self, phase: str) -> None:
        """What ran since the last mark was this phase."""
        now = time.perf_counter()
        self.phases[phase] = self.phases.get(phase, 0.0) + now - self._last
        self._last = now

    def fork(self) -> _Clock:
        """The same past, a future of its own."""
        other = _Clock()
        other.start, other._last, other.phases = self.start, self._last, dict(self.phases)
        return other

    def since_start(self) -> float:
        return time.perf_counter() - self.start


class _Decoding:
    """Questions of one draft while their answers are written."""

    def __init__(
        self,
        engine: Engine,
        draft: Draft,
        rows: Sequence[int],
        prompts: Sequence[Prompt],
        decoding: Decoding,
        clock: _Clock,
        mode: str,
        at: float,
        recalled: bool,
    ) -> None:
        self.engine, self.draft, self.rows, self.prompts, self.decoding = engine, draft, rows, prompts, decoding
        self.clock, self.mode, self.at, self.recalled = clock, mode, at, recalled
        self.tokens: list[list[int]] = [[] for _ in rows]
        self.finish = ["length"] * len(rows)
        self.open = set(range(len(rows)))

    def steps(self) -> Iterator[None]:
        """Decode token by token until every row has stopped."""
        stops = self.engine.backbone.stops
        ids = self.engine.runner.decode(self.draft, self.decoding)
        for n, found in enumerate(islice(ids, self.decoding.max_tokens)):
            if n == 0:
                self.clock.phases["first_token"] = self.clock.since_start()
            for row in sorted(self.open):
                if found[row] in stops:
                    self._stop(row)
                    continue
                self.tokens[row].append(found[row])
                if any(s in self.text(row, whole=True) for s in self.decoding.stop):
                    self._stop(row)
            yield
            if not self.open:
                return

    def _stop(self, row: int) -> None:
        self.finish[row] = "stop"
        self.open.discard(row)

    def run(self) -> None:
        """Decode to the end."""
        for _ in self.steps():
            pass

    def text(self, row: int, *, whole: bool = False) -> str:
        """What a row says so far, cut before the first stop string (unless `whole`)."""
        text: str = self.engine.backbone.tokenizer.decode(self.tokens[row], skip_special_tokens=True)
        if not whole:
            for stop in self.decoding.stop:
                text = text.split(stop, 1)[0]
        return text

    def answers(self) -> dict[int, Answer]:
        """The finished answers by the question's number."""
        self.clock.mark("decode")
        self.clock.phases["total"] = self.clock.since_start()
        choice, view = self.draft.view.choice, self.draft.view
        evidence = Evidence(view.times, choice.blocks, choice.scores)
        found = {}
        for i, row in enumerate(self.rows):
            logits = self.draft.logits[i, list(self.prompts[i].letters)].tolist()
            found[row] = Answer(
                text=self.text(i).strip(),
                choice=logits.index(max(logits)) if logits else None,
                gate=self.draft.gate[i],
                recalled=self.recalled,
                evidence=evidence,
                at=self.at,
                mode=self.mode,
                tokens=tuple(self.tokens[i]),
                logits=tuple(logits),
                finish=self.finish[i],
                timings=dict(self.clock.phases),
            )
        return found


class Reply(AbstractContextManager["Reply"]):
    """An answer in pieces: iterate for text as it is decoded, then read `answer`. Leaving early ends the decoding."""

    def __init__(self, decoding: _Decoding) -> None:
        self._decoding = decoding
        self._answer: Answer | None = None
        self._pieces = self._run()

    def _run(self) -> Iterator[str]:
        said = ""
        for _ in self._decoding.steps():
            text = self._decoding.text(0)
            held = max((_overlap(text, stop) for stop in self._decoding.decoding.stop), default=0)
            ready = text[: len(text) - held] if self._decoding.open else text
            if ready.startswith(said) and len(ready) > len(said) and not ready.endswith("\N{REPLACEMENT CHARACTER}"):
                yield ready[len(said) :]
                said = ready
        text = self._decoding.text(0)
        if len(text) > len(said):
            yield text[len(said) :]

    def __iter__(self) -> Iterator[str]:
        return self._pieces

    @property
    def answer(self) -> Answer:
        """The answer; what was not read yet is decoded first."""
        if self._answer is None:
            for _ in self._pieces:
                pass
            [self._answer] = self._decoding.answers().values()
        return self._answer

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if kind is None:
            return
        self._pieces = iter(())


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` may be the start of `stop`."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)


@dataclass(frozen=True)
class Loading:
    """How a model is loaded; see `load`."""

    adapter: str | Path | None = None
    time_prompts: bool | None = None
    dtype: torch.dtype | str | None = None
    device: str | torch.device | None = None
    device_map: Any = None
    max_pixels: int | None = None


class Engine:
    """A loaded model, ready to remember streams."""

    def __init__(self, backbone: Backbone, record: Record | None = None) -> None:
        self.backbone = backbone
        self.record = record or Record()
        self._runner: Runner | None = Runner(backbone)

    @property
    def runner(self) -> Runner:
        """What runs the model."""
        if self._runner is None:
            raise ModelError("the engine is closed: load the model again")
        return self._runner

    @property
    def delta(self) -> float:
        """The gate's threshold: the model's own record, else the paper's."""
        return DELTA if self.record.delta is None else self.record.delta

    def stream(self, config: StreamConfig | None = None, **settings: Any) -> Stream:
        """Open a stream. Settings are the fields of StreamConfig: window, fps, batch, cache, index_pages, visual_only.

        The window defaults to the model's own record, else 80 blocks; None never evicts.
        """
        if config is None:
            own = {"window": self.record.window} if self.record.window is not None else {}
            known = {f.name for f in fields(StreamConfig)}
            if unknown := set(settings) - known:
                raise StreamError(f"unknown setting {', '.join(sorted(unknown))}: use {', '.join(sorted(known))}")
            config = StreamConfig(**{**own, **settings})
        else:
            config = replace(config, **settings)
        _check_config(config)
        return Stream(self, config)

    def close(self) -> None:
        """Let go of the model: streams of this engine can no longer be fed or asked."""
        self._runner = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _check_config(config: StreamConfig) -> None:
    if config.window is not None and config.window < 1:
        raise StreamError(f"a window holds at least 1 block, got {config.window} (None never evicts)")
    if not (config.fps > 0 and math.isfinite(config.fps)):
        raise StreamError(f"fps must be more than 0, got {config.fps}")
    for name in ("batch", "cache", "index_pages"):
        if getattr(config, name) < (1 if name == "batch" else 0):
            raise StreamError(f"{name} is too small: {getattr(config, name)}")


def load(model: str | Path, **how: Any) -> Engine:
    """Load a model: `mini`, a folder, a hub id (OWNER/NAME), or modelscope:OWNER/NAME.

    adapter: a LoRA to merge (folder, training output, hf:ID, modelscope:ID). time_prompts: on for models tuned with
    them; default the model's or adapter's own record, else off. dtype, device, device_map: as in transformers; by
    default the checkpoint's dtype on CUDA where there is a card, float32 on the CPU. max_pixels: largest frame, for
    families with native resolution. Raises ModelError, AdapterError.
    """
    from .backbones import checkpoints

    try:
        settings = Loading(**how)
    except TypeError as e:
        raise ModelError(f"load: {e}; it takes {', '.join(f.name for f in fields(Loading))}") from e
    checkpoint = checkpoints.open_checkpoint(model, FAMILIES)
    if settings.max_pixels is not None:
        checkpoint = replace(checkpoint, preprocessor={**checkpoint.preprocessor, "max_pixels": settings.max_pixels})
    host = checkpoints.load_model(
        checkpoint, dtype=settings.dtype, device=settings.device, device_map=settings.device_map
    )
    record = checkpoint.record
    if settings.adapter is not None:
        from .backbones.adapters import load_adapter

        record = load_adapter(host, settings.adapter, family=checkpoint.family, time_prompts=settings.time_prompts)
    prompts = record.time_prompts if settings.time_prompts is None else settings.time_prompts
    backbone = build(host, checkpoints.load_tokenizer(checkpoint), checkpoint, time_prompts=bool(prompts))
    return Engine(backbone, record)
