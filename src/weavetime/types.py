"""The values that cross rooms: what goes in (frames, questions) and what comes out (answers with their evidence)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a stream.

    pixels: uint8, (height, width, 3), RGB. time: seconds from the start of the stream (the decoder's presentation
    time, never index / fps). until: end of the moment this frame stands for; None means time + 1 / fps of the stream.
    """

    pixels: np.ndarray | torch.Tensor
    time: float
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: text, the options of a multiple choice, and earlier (question, answer) turns.

    query: what ReKV's own pass over the question alone reads, where `text` holds instructions too; "" for `text`.
    """

    text: str
    options: tuple[str, ...] = ()
    history: tuple[tuple[str, str], ...] = ()
    query: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the view that the answer was decoded from had read.

    times: presentation times, seconds, ascending, of every block read by any layer. blocks: per layer, the indices of
    the blocks read, ascending. scores: per layer, the score that chose each of `blocks` (late interaction for
    weavetime, mean key for rekv); None where blocks were not chosen by score, or one was taken without one.

    With STAR there are no blocks: times are those of the frames that were read whole, retrieved ones and the last; its
    other tokens stand for every frame so far.
    """

    times: tuple[float, ...]
    blocks: tuple[tuple[int, ...], ...]
    scores: tuple[tuple[float | None, ...], ...] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with how it came about.

    choice: index of the option whose letter has the largest logit (None without options). logits: those option
    logits. gate: normalised entropy of the first prefill, in [0, 1] (None where the mode has no gate). recalled:
    whether the past was read. at: the time asked about, seconds. tokens: ids decoded. finish: 'stop', 'length', or
    'cut' where a reply was left early. timings: seconds by phase ('prefill', 'choose', 'recall', 'first_token',
    'decode', 'total').
    """

    text: str
    choice: int | None
    gate: float | None
    recalled: bool
    evidence: Evidence
    at: float
    mode: str
    tokens: tuple[int, ...] = ()
    logits: tuple[float, ...] = ()
    finish: str = "stop"
    timings: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The answer as plain values for JSON."""
        return {
            "text": self.text,
            "choice": self.choice,
            "gate": self.gate,
            "recalled": self.recalled,
            "at": self.at,
            "mode": self.mode,
            "finish": self.finish,
            "logits": list(self.logits),
            "evidence": {
                "times": list(self.evidence.times),
                "blocks": [list(b) for b in self.evidence.blocks],
                "scores": None if self.evidence.scores is None else [list(s) for s in self.evidence.scores],
            },
            "timings": dict(self.timings),
        }


@dataclass(frozen=True, slots=True)
class Choice:
    """Which blocks a view reads: per layer, block indices in ascending order.

    scores: per layer, the score of each chosen block, where blocks were chosen by score. bare: leave out the wrapper
    around a video too (the view of a question without pictures).
    """

    blocks: tuple[tuple[int, ...], ...]
    scores: tuple[tuple[float | None, ...], ...] | None = None
    bare: bool = False

    @classmethod
    def same(cls, blocks: Iterable[int], layers: int, *, bare: bool = False) -> Choice:
        """The same blocks in every layer."""
        return cls((tuple(blocks),) * layers, bare=bare)
