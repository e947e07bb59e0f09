"""From a draft to an answer: tokens decoded, text cut at its stop, evidence and timings put beside it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import islice
from types import TracebackType

from .backbones import Prompt
from .config import Decoding
from .engine import Draft, Runner
from .errors import WeaveTimeError
from .focus import Mode
from .types import Answer, Evidence


class Clock:
    """Seconds by phase, from the moment the question was asked."""

    def __init__(self) -> None:
        self.start = self._last = time.perf_counter()
        self.phases: dict[str, float] = {}

    def mark(self, phase: str) -> None:
        """What ran since the last mark was this phase."""
        now = time.perf_counter()
        self.phases[phase] = self.phases.get(phase, 0.0) + now - self._last
        self._last = now

    def fork(self) -> Clock:
        """The same past, a future of its own."""
        other = Clock()
        other.start, other._last, other.phases = self.start, self._last, dict(self.phases)
        return other

    def since_start(self) -> float:
        """Seconds since the question was asked."""
        return time.perf_counter() - self.start


@dataclass(frozen=True)
class Asked:
    """Questions about one moment: what is the same for all of them. at: seconds."""

    prompts: tuple[Prompt, ...]
    mode: Mode
    decoding: Decoding
    at: float
    clock: Clock = field(default_factory=Clock)


class Writing:
    """Answers being written from one draft. rows: which of the questions these are."""

    def __init__(
        self, runner: Runner, asked: Asked, draft: Draft, rows: Sequence[int], clock: Clock, *, recalled: bool = False
    ) -> None:
        self.runner, self.asked, self.draft, self.rows, self.clock = runner, asked, draft, rows, clock
        self.recalled = recalled
        self.tokens: list[list[int]] = [[] for _ in rows]
        self.open = set(range(len(rows)))
        self.done = False

    def steps(self) -> Iterator[None]:
        """Decode token by token until every row has stopped."""
        decoding, stops = self.asked.decoding, self.runner.backbone.stops
        ids = self.runner.decode(self.draft, decoding)
        for n, found in enumerate(islice(ids, decoding.max_tokens)):
            if n == 0:
                self.clock.phases["first_token"] = self.clock.since_start()
            for row in sorted(self.open):
                if found[row] in stops:
                    self.open.discard(row)
                    continue
                self.tokens[row].append(found[row])
                if any(stop in self._decoded(row) for stop in decoding.stop):
                    self.open.discard(row)
            if not self.open:
                break
            yield
        self.done = True
        yield

    def run(self) -> None:
        """Decode to the end."""
        for _ in self.steps():
            pass

    def _decoded(self, row: int) -> str:
        text: str = self.runner.backbone.tokenizer.decode(self.tokens[row], skip_special_tokens=True)
        return text

    def text(self, row: int) -> str:
        """What a row says so far, cut before the first stop string."""
        text = self._decoded(row)
        for stop in self.asked.decoding.stop:
            text = text.split(stop, 1)[0]
        return text

    def answers(self) -> dict[int, Answer]:
        """The answers by the question's number."""
        self.clock.mark("decode")
        self.clock.phases["total"] = self.clock.since_start()
        evidence = self.draft.view.evidence
        return {row: self._answer(i, self.asked.prompts[row], evidence) for i, row in enumerate(self.rows)}

    def _answer(self, i: int, prompt: Prompt, evidence: Evidence) -> Answer:
        logits = self.draft.logits[i, list(prompt.letters)].tolist()
        return Answer(
            text=self.text(i).strip(),
            choice=logits.index(max(logits)) if logits else None,
            gate=self.draft.gate[i],
            recalled=self.recalled,
            evidence=evidence,
            at=self.asked.at,
            mode=self.asked.mode.name,
            tokens=tuple(self.tokens[i]),
            logits=tuple(logits),
            finish="stop" if i not in self.open else "length" if self.done else "cut",
            timings=dict(self.clock.phases),
        )


class Reply(AbstractContextManager["Reply"]):
    """An answer in pieces: iterate for text as it is decoded, then read `answer`.

    Leaving by an error ends it early: the answer then says finish = 'cut'. An error of the decoding itself is raised
    again where the answer is read.
    """

    def __init__(self, writing: Writing) -> None:
        self._writing = writing
        self._answer: Answer | None = None
        self._failed: BaseException | None = None
        self._pieces = self._guarded()

    def _guarded(self) -> Iterator[str]:
        try:
            yield from self._run()
        except WeaveTimeError as e:
            self._failed = e
            raise

    def _run(self) -> Iterator[str]:
        said = ""
        for _ in self._writing.steps():
            text = self._writing.text(0)
            stops = self._writing.asked.decoding.stop if self._writing.open else ()
            ready = text[: len(text) - max((_overlap(text, stop) for stop in stops), default=0)]
            # Half of a character is not text yet, and a tokenizer may still change the last one.
            if ready.startswith(said) and len(ready) > len(said) and not ready.endswith("\N{REPLACEMENT CHARACTER}"):
                yield ready[len(said) :]
                said = ready
        rest = self._writing.text(0)[len(said) :]
        if rest:
            yield rest

    def __iter__(self) -> Iterator[str]:
        return self._pieces

    @property
    def answer(self) -> Answer:
        """The answer; what was not read yet is decoded first."""
        if self._failed is not None:
            raise self._failed
        if self._answer is None:
            for _ in self._pieces:
                pass
            [self._answer] = self._writing.answers().values()
        return self._answer

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if kind is not None:
            self._pieces = iter(())


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` may be the start of `stop`."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
