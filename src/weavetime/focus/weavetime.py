"""PCDF-Cache (docs/method.md §3): look at the present; when unsure, choose from the past coarse to fine, look again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..config import Record
from ..errors import ModeError, NumericsError
from ..ops import newest_first_topk, question_vectors
from ..types import Choice
from .base import Mode, Past
from .plain import at_least_one

USUAL: dict[str, float] = {"k": 64, "delta": 0.6, "coarse": 3}
"""The paper's settings."""


@dataclass(frozen=True)
class WeaveTime(Mode):
    """The method.

    k: blocks recalled. delta: recall when the gate reaches it; 0 always recalls, above 1 never. coarse: candidates are
    the `coarse * k` best by mean key. None of these is the model's own record, else the paper's (64, 0.6, 3).
    gate_layers: the gate is averaged over the last so many layers. cosine: compare directions only, as the paper
    writes; the published code does not. chunk: neighbours chosen together. vote: one selection for all layers, by how
    many layers chose a block. newest: the last r blocks are always among the k.
    """

    k: int | None = None
    delta: float | None = None
    coarse: int | None = None
    gate_layers: int = 1
    cosine: bool = False
    chunk: int = 1
    vote: bool = False
    newest: int = 0
    name: ClassVar[str] = "weavetime"

    def __post_init__(self) -> None:
        for what in ("k", "coarse", "gate_layers", "chunk"):
            if getattr(self, what) is not None:
                at_least_one(f"weavetime's {what}", getattr(self, what))
        if self.newest < 0 or (self.k is not None and self.newest > self.k):
            most = "k" if self.k is None else f"k = {self.k}"
            raise ModeError(f"weavetime's newest must lie between 0 and {most}, got {self.newest}")
        if self.k is not None and self.chunk > self.k:
            raise ModeError(f"weavetime's chunk must be at most k = {self.k}, got {self.chunk}")
        if self.delta is not None and not self.delta >= 0:
            raise ModeError(f"weavetime's delta must be 0 (always recall) or more, got {self.delta}")

    @property
    def threshold(self) -> float | None:
        """delta."""
        return self.delta

    def of(self, record: Record) -> WeaveTime:
        """With k, delta and coarse of the model's record, else the paper's, where they are left open.

        The record's coarse goes with its k: a question that says a k of its own has the paper's candidates for each.
        """
        if self.k is not None:
            record = replace(record, coarse=None)
        left = {name: usual if (own := getattr(record, name)) is None else own for name, usual in USUAL.items()}
        return replace(self, **{name: value for name, value in left.items() if getattr(self, name) is None})  # type: ignore[arg-type]

    def first(self, past: Past) -> Choice:
        """The present first."""
        return Choice.same(past.recent, past.layers)

    def needs_past(self, gate: float | None, past: Past) -> bool:
        """Unsure, and there is a past: a visible block outside the window."""
        assert gate is not None
        assert self.delta is not None
        return gate >= self.delta and past.recent.start > 0

    def choose(self, queries: Sequence[Tensor], past: Past) -> Choice:
        """Coarse to fine, layer by layer."""
        assert self.k is not None
        assert self.coarse is not None
        questions = [question_vectors(q, past.kv_heads) for q in queries]
        means = past.coarse([q.mean(0) for q in questions], cosine=self.cosine)
        if not bool(torch.isfinite(means).all()):
            raise NumericsError("a block's coarse score is not finite: the model's keys or queries overflowed")
        candidates = newest_first_topk(means, self.coarse * self.k).tolist()
        scores = [
            past.fine(layer, question, found, cosine=self.cosine).to(means.device)
            for layer, (question, found) in enumerate(zip(questions, candidates, strict=True))
        ]
        table = torch.stack(scores).cpu()
        if not bool(torch.isfinite(table).all()):
            raise NumericsError("a block's late-interaction score is not finite: the model's keys overflowed")
        known = [dict(zip(found, row, strict=True)) for found, row in zip(candidates, table.tolist(), strict=True)]
        picked = [self._best(layer, past.count, self.k) for layer in known]
        if self.vote:
            picked = [self._vote(picked)] * past.layers
        # A block taken for its neighbours' or other layers' sake may have no score of its own in this layer.
        per_layer = (tuple(k.get(b) for b in p) for k, p in zip(known, picked, strict=True))
        return Choice(tuple(map(tuple, picked)), tuple(per_layer))

    def _best(self, scores: dict[int, float], count: int, k: int) -> list[int]:
        """At most k blocks: the newest r, then the best groups of `chunk` neighbours; ties to the more recent."""
        always = set(range(max(0, count - self.newest), count))
        groups: dict[int, list[float]] = {}
        for block, score in scores.items():
            groups.setdefault(block // self.chunk, []).append(score)
        ranked = sorted(groups, key=lambda g: (sum(groups[g]) / len(groups[g]), g), reverse=True)
        picked = set(always)
        for group in ranked:
            added = [b for b in range(group * self.chunk, min(count, (group + 1) * self.chunk)) if b not in picked]
            if len(picked) + len(added) > k:
                break
            picked.update(added)
        return sorted(picked)

    def _vote(self, picked: Sequence[Sequence[int]]) -> list[int]:
        votes = Counter(block for blocks in picked for block in blocks)
        size = max(len(blocks) for blocks in picked)
        return sorted(sorted(votes, key=lambda b: (votes[b], b), reverse=True)[:size])


@dataclass(frozen=True)
class ReKV(Mode):
    """ReKV, faithfully: one pass over the question's text in which each layer picks k blocks by mean key."""

    k: int = 64
    cosine: bool = False
    name: ClassVar[str] = "rekv"

    def __post_init__(self) -> None:
        at_least_one("rekv's k", self.k)

    def first(self, past: Past) -> None:
        """Layers pick for themselves."""
        return

    def pick(self, layer: int, queries: Tensor, past: Past) -> tuple[list[int], list[float]]:
        """The k best by mean key."""
        question = question_vectors(queries, past.kv_heads).mean(0)
        scores = past.coarse_layer(layer, question, cosine=self.cosine)
        if not bool(torch.isfinite(scores).all()):
            raise NumericsError("a block's coarse score is not finite: the model's keys or queries overflowed")
        found = newest_first_topk(scores, self.k)
        return found.tolist(), scores[found].tolist()
