"""Writing the answer: one token a forward, over the view and the tokens so far."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..config import Decoding
from ..ops import attend, attention_reference, merge, rotate
from .prefill import Draft


class DecodePass:
    """One token of each question: step 0 is the first after the prompt. Written over the padding, row by row."""

    def __init__(self, draft: Draft, step: int) -> None:
        self.draft = draft
        self.slots = torch.tensor(draft.lengths) + step
        self._angles: dict[tuple[int, torch.device], tuple[Tensor, Tensor]] = {}

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
        """One layer; q (batch, heads, 1, dim)."""
        view = self.draft.view.layer(layer)
        keys, values = self.draft.own[layer]
        cos, sin = self._angle(view.end, q)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        rows, slots = torch.arange(len(self.slots), device=q.device), self.slots.to(q.device)
        keys[rows, :, slots] = k[:, :, 0]
        values[rows, :, slots] = v[:, :, 0]
        if len(self.slots) == 1:
            used = int(self.slots[0]) + 1
            own = attend(q, keys[:, :, :used], values[:, :, :used], scaling)
        else:
            mask = torch.arange(keys.shape[2], device=q.device) <= slots[:, None]
            own = attention_reference(q, keys, values, scaling, mask[:, None, None])
        return merge([attend(q, view.keys, view.values, scaling), own])

    def _angle(self, end: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin, (batch, 1, dim): each row at its own position, the same on every axis."""
        key = (end, like.device)
        if key not in self._angles:
            rotary = self.draft.view.memory.rotary
            positions = (end + self.slots).expand(rotary.axes, -1)
            cos, sin = rotary.angles(positions, like)
            self._angles[key] = cos[:, None], sin[:, None]
        return self._angles[key]


class Sampler:
    """The next token from logits: greedy, or by temperature and top-p with one generator a question."""

    def __init__(self, decoding: Decoding, batch: int) -> None:
        self.decoding = decoding
        seed = decoding.seed
        self._generators = [torch.Generator() for _ in range(batch)]
        for generator in self._generators:
            if seed is None:
                generator.seed()
            else:
                generator.manual_seed(seed)

    def __call__(self, logits: Tensor) -> list[int]:
        """logits fp32 (batch, vocabulary) to one id a row."""
        if self.decoding.temperature == 0:
            return logits.argmax(-1).tolist()
        # From the top down, and not by less than fp32 can tell from greedy: a very small temperature must not overflow.
        from_top = logits - logits.amax(-1, keepdim=True)
        p = torch.softmax((from_top / max(self.decoding.temperature, 1e-6)).cpu(), -1)
        sorted_p, ids = p.sort(-1, descending=True)
        # A token stays while the mass before it is under top_p, so the most likely one always does.
        before = sorted_p.cumsum(-1) - sorted_p
        sorted_p[before >= self.decoding.top_p] = 0
        picked = [
            int(torch.multinomial(row, 1, generator=g)) for row, g in zip(sorted_p, self._generators, strict=True)
        ]
        return [int(row[i]) for row, i in zip(ids, picked, strict=True)]


def check_decoding(decoding: Decoding) -> str | None:
    """What is wrong with these settings, or None."""
    if not isinstance(decoding, Decoding):
        return f"decoding takes a wt.Decoding(...) value, got {decoding!r}"
    for name in ("temperature", "top_p"):
        if not isinstance(getattr(decoding, name), int | float):
            return f"{name} must be a number, got {getattr(decoding, name)!r}"
    if not isinstance(decoding.prefix, str) or not all(isinstance(text, str) for text in decoding.stop):
        return "prefix and stop are texts"
    if not (isinstance(decoding.max_tokens, int) and decoding.max_tokens >= 1):
        return f"max_tokens must be a whole number from 1, got {decoding.max_tokens!r}"
    if decoding.seed is not None and not isinstance(decoding.seed, int):
        return f"seed must be a whole number, got {decoding.seed!r}"
    if decoding.seed is not None and not 0 <= decoding.seed < 2**63:
        return f"seed must lie between 0 and 2**63, got {decoding.seed}"
    if isinstance(decoding.stop, str):
        return f"stop must be a list of texts, got the one text {decoding.stop!r}"
    if not (decoding.temperature >= 0 and math.isfinite(decoding.temperature)):
        return f"temperature must be 0 (greedy) or more, got {decoding.temperature}"
    if not 0 < decoding.top_p <= 1:
        return f"top_p must lie in (0, 1], got {decoding.top_p}"
    if "" in decoding.stop:
        return "a stop string is empty: leave it out"
    return None
