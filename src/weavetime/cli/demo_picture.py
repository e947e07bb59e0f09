"""The demo's questions, and the picture of those that looked back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import track

from ..config import Decoding
from .show import option, threshold

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from ..focus import Mode
    from ..stream import Stream
    from ..types import Answer

CARDS, FRAMES = 3, 12  # questions of a picture; frames of each
WIDTH = 1520  # pixels
TITLE = "The present first; the past when the model is unsure"
LEGEND = (
    "Every frame is read once and remembered. A question first sees only the newest {window} frames. Where the model",
    "is unsure, it recalls the frames that fit the question, {k} in each of its layers, and answers from them.",
)


@dataclass(frozen=True, slots=True)
class Item:
    """A question of the demo with its right answer, and when what it asks about was on screen."""

    question: str
    options: tuple[str, ...]
    answer: str
    at: float
    evidence: tuple[tuple[float, float], ...]

    @classmethod
    def read(cls, found: dict[str, Any]) -> Item:
        """From demo.json."""
        evidence = tuple((float(a), float(b)) for a, b in found["evidence"])
        return cls(found["question"], tuple(found["options"]), found["answer"], float(found["at"]), evidence)

    def shown(self, start: float, stop: float) -> bool:
        """Whether the evidence was on screen at some time in [start, stop)."""
        return any(a < stop and start < b for a, b in self.evidence)

    def said(self, answer: Answer) -> str:
        """The option chosen, or what was said where there are no options."""
        return answer.text if answer.choice is None else self.options[answer.choice]

    def is_right(self, answer: Answer) -> bool:
        """Whether an answer is the right one: the same option, or the same words."""
        return self.said(answer).casefold() == self.answer.casefold()

    def offered(self, said: str) -> str:
        """An answer as it is shown: with its letter where there are options."""
        return option(self.options.index(said), self.options) if said in self.options else said


@dataclass(frozen=True, slots=True)
class Told:
    """A question with each mode's answer; the first is the one whose picture is drawn."""

    item: Item
    answers: tuple[Answer, ...]

    @property
    def back(self) -> float:
        """How long before the question all the evidence was over, seconds."""
        return self.item.at - max((b for _, b in self.item.evidence), default=self.item.at)


def picture_of(told: Sequence[Told], stream: Stream, mode: Mode, pictures: Mapping[float, np.ndarray]) -> Image | None:
    """The questions that looked back furthest, in order of time; None where none looked back.

    mode: that of the first answers. pictures: every frame by its time.
    """
    from ..pictures import page

    unsure = [t for t in told if t.answers[0].recalled]
    chosen = sorted(sorted(unsure, key=lambda t: t.back, reverse=True)[:CARDS], key=lambda t: t.item.at)
    if not chosen:
        return None
    limit = threshold(mode, stream)
    curves = _gates([t.item for t in chosen], stream)
    cards = [_card(t, stream, pictures, points, limit) for t, points in zip(chosen, curves, strict=True)]
    lines = [text.format(window=stream.config.window, k=mode.k) for text in LEGEND]  # type: ignore[attr-defined]
    return page(TITLE, lines, cards)


def _gates(items: Sequence[Item], stream: Stream) -> list[list[tuple[float, float]]]:
    """Each question's gate, had it been asked at every moment of the stream."""
    from ..focus import WeaveTime
    from ..types import Question

    questions = [Question(item.question, item.options) for item in items]
    curves: list[list[tuple[float, float]]] = [[] for _ in items]
    console, never = Console(stderr=True), WeaveTime(delta=2.0)
    moments = track(
        stream.memory.table.times, "drawing", console=console, transient=True, disable=not console.is_terminal
    )
    for time in moments:
        found = stream.ask_all(questions, at=time, mode=never, decoding=Decoding(max_tokens=1))
        for points, answer in zip(curves, found, strict=True):
            assert answer.gate is not None
            points.append((time, answer.gate))
    return curves


def _card(
    told: Told, stream: Stream, pictures: Mapping[float, np.ndarray], gates: Sequence[tuple[float, float]],
    limit: float | None,
) -> Image:  # fmt: skip
    from ..pictures import Answered, Curve, Lane, card, contact_sheet, timeline

    item, table = told.item, stream.memory.table
    read = Counter(block for layer in told.answers[0].evidence.blocks for block in layer)
    most = sorted(sorted(read, key=lambda b: (read[b], b), reverse=True)[:FRAMES])
    times = [table.times[b] for b in most]
    marked = [table.times[b] for b in most if item.shown(table.times[b], table.ends[b])]
    sheet = contact_sheet([pictures[t] for t in times], times, marked=marked, width=WIDTH, columns=FRAMES)
    curve = Curve("gate", gates, limit, "looks back from here up")
    lanes = [Lane(a.mode, _shares(a, stream)) for a in told.answers]
    line = timeline(stream.now, evidence=item.evidence, at=item.at, curve=curve, lanes=lanes, width=WIDTH)
    spans = " and ".join(f"{a:g} to {b:g} s" for a, b in item.evidence)
    seen = f"Outlined: the evidence was on screen, {spans}." if spans else "What was asked about was never on screen."
    recalled = f"{len(read)} frames that {told.answers[0].mode} recalled"
    some = f"Of the {recalled}, the {len(most)} that most layers chose."
    shown = some if len(most) < len(read) else f"The {recalled}."
    captions = (
        f"{shown} {seen}",
        "The whole stream. Gate: how unsure the model would be if asked at each moment, from the present alone. "
        "Bars: share of the layers that read it.",
    )
    answers = [Answered(a.mode, item.offered(item.said(a)) or "(no text)", item.is_right(a)) for a in told.answers]
    parts = tuple(zip(captions, (sheet, line), strict=True))
    return card(f"At {item.at:g} s: {item.question}", item.offered(item.answer), answers, parts, WIDTH)


def _shares(answer: Answer, stream: Stream) -> list[tuple[float, float, float]]:
    """Each block that was read: its times, and the share of the layers that read it."""
    table, layers = stream.memory.table, answer.evidence.blocks
    read = Counter(block for layer in layers for block in layer)
    return [(table.times[b], table.ends[b], n / len(layers)) for b, n in sorted(read.items())]
