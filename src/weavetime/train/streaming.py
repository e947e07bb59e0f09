"""Training a model the way a stream uses it: windows for steps, views of scattered blocks for questions.

One forward holds, for each of several streams, `sink | steps | questions`. A step attends to the sink, to exactly the
`window` steps before it, and causally to itself; a question attends to the sink, to the blocks of its own view laid out
one after another, and causally to itself. Positions are those of docs/method.md §2, so that what is learnt here is what
the engine runs. Keys reach the pass un-rotated, as in the engine; everything is differentiable.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..ops import rotate_reference

CHUNK = 8  # steps whose windows are read together


@dataclass(frozen=True)
class Shape:
    """How one row of a batch is laid out: sink tokens, steps of `tokens` each, questions of `length` each, padded."""

    sink: int
    steps: int
    tokens: int
    questions: int
    length: int

    @property
    def asked(self) -> int:
        """Where the questions begin."""
        return self.sink + self.steps * self.tokens


@dataclass(frozen=True)
class Places:
    """Where tokens stand, and what they may see; the same for every batch of one shape.

    near: positions of step tokens in the stream. far: the same counted from the sink before each step's own window.
    mask: (chunks, 1, queries, keys) of steps. angles: cos and sin (positions, dim). fused: compile the arithmetic.
    """

    shape: Shape
    window: int
    chunks: int
    near: tuple[Tensor, Tensor]
    far: tuple[Tensor, Tensor]
    mask: Tensor
    angles: tuple[Tensor, Tensor]
    fused: bool = False

    @classmethod
    def of(cls, s: Shape, window: int, angles: tuple[Tensor, Tensor], *, fused: bool = False) -> Places:
        """For a shape, from cos and sin of every position."""
        device = angles[0].device
        token = torch.arange(s.steps * s.tokens, device=device)
        near = s.sink + token
        far = near - (token // s.tokens - window).clamp_min(0) * s.tokens
        chunks = -(-s.steps // CHUNK)
        query = torch.arange(chunks * CHUNK * s.tokens, device=device).view(chunks, -1, 1)
        key = torch.arange((window + CHUNK) * s.tokens, device=device).view(1, 1, -1) + (
            query[:, :1] - window * s.tokens
        )
        inside = (key >= 0) & (key <= query) & (key // s.tokens >= query // s.tokens - window)
        mask = functional.pad(inside, (s.sink, 0), value=True)[:, None]
        both = [(angles[0][p], angles[1][p]) for p in (near, far)]
        return cls(s, window, chunks, both[0], both[1], mask, angles, fused)


class StreamPass:
    """The plan of one training forward, for models with one axis of positions.

    views: int64 (batch, questions, layers, most), the steps of each layer's view in order, as many in every layer, -1
    after the last. prompts: bool (batch, questions, length), tokens that were asked (answers and pads left out).
    similarities: coarse and late-interaction scores (batch, questions, steps) of each layer, filled by the pass where
    `retrieval` is on.
    """

    def __init__(self, places: Places, views: Tensor, prompts: Tensor, *, retrieval: bool = True) -> None:
        s = places.shape
        self.places, self.views, self.retrieval = places, views.clamp_min(0), retrieval
        self.weight = prompts / prompts.sum(-1, keepdim=True).clamp_min(1)
        self.similarities: list[tuple[Tensor, Tensor]] = []
        counts = (views[:, :, 0] >= 0).sum(-1).flatten()
        own = s.sink + counts[:, None] * s.tokens + torch.arange(s.length, device=counts.device)
        self.own = places.angles[0][own], places.angles[1][own]
        in_view = torch.arange(views.shape[-1] * s.tokens, device=counts.device) < counts[:, None] * s.tokens
        causal = torch.ones(s.length, s.length, dtype=torch.bool, device=counts.device).tril()
        left = functional.pad(in_view, (s.sink, 0), value=True)[:, None].expand(-1, s.length, -1)
        self.mask = torch.cat([left, causal.expand(len(counts), -1, -1)], -1)[:, None]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
        """q (batch, heads, tokens, dim), k and v (batch, kv_heads, tokens, dim), un-rotated; returns q's shape."""
        p = self.places
        wrap = compiled if p.fused else _as_is
        questions = wrap(_questions)(p, self.own, self.views[:, :, layer], self.mask, q, k, v, scaling)
        parts = [_sink(p, q, k, v, scaling), wrap(_steps)(p, q, k, v, scaling), questions]
        if self.retrieval:
            self.similarities.append(wrap(_similarity)(p.shape, self.weight, q, k))
        return torch.cat(parts, 2)


def _rotated(x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    return rotate_reference(x, *(a.to(x.dtype) for a in angles))


def _at_start(p: Places, x: Tensor) -> Tensor:
    """The sink's tokens of x, rotated to where they stand."""
    n = p.shape.sink
    return _rotated(x[:, :, :n], (p.angles[0][:n], p.angles[1][:n]))


def _sink(p: Places, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
    q, k, v = _at_start(p, q), _at_start(p, k), v[:, :, : p.shape.sink]
    k, v = _repeat(k, q), _repeat(v, q)
    return functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling)


def _steps(p: Places, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
    """Chunks of CHUNK steps over `sink | window | chunk`.

    The sink stands right before each step's own window, so it is met by queries rotated to where they stand in that
    window: both rotations of a query side by side, each over keys that are zero in the other half.
    """
    s, batch, dim = p.shape, q.shape[0], q.shape[-1]
    near = slice(s.sink, s.asked)
    k_sink, k_near = _at_start(p, k), _rotated(k[:, :, near], p.near)
    q_both = torch.cat([_rotated(q[:, :, near], p.near), _rotated(q[:, :, near], p.far)], -1)
    size, front = CHUNK * s.tokens, p.window * s.tokens
    pad = p.chunks * size - s.steps * s.tokens

    def windows(x: Tensor, sink: Tensor) -> Tensor:
        x = functional.pad(x, (0, 0, front, pad)).unfold(2, front + size, size).permute(0, 2, 1, 4, 3)
        x = torch.cat([sink[:, None].expand(-1, p.chunks, -1, -1, -1), x], 3).flatten(0, 1)
        return x.repeat_interleave(q.shape[1] // k.shape[1], 1)

    keys = windows(functional.pad(k_near, (0, dim)), functional.pad(k_sink, (dim, 0)))
    values = windows(v[:, :, near], v[:, :, : s.sink])
    q_both = functional.pad(q_both, (0, 0, 0, pad)).unflatten(2, (p.chunks, size)).transpose(1, 2).flatten(0, 1)
    mask = p.mask[None].expand(batch, -1, -1, -1, -1).flatten(0, 1)
    out = functional.scaled_dot_product_attention(
        q_both, keys, functional.pad(values, (0, dim)), attn_mask=mask, scale=scaling
    )
    out = out[..., :dim].unflatten(0, (batch, p.chunks)).transpose(1, 2).flatten(2, 3)
    return out[:, :, : s.steps * s.tokens]


def _questions(
    p: Places, own: tuple[Tensor, Tensor], views: Tensor, mask: Tensor, q: Tensor, k: Tensor, v: Tensor, scaling: float
) -> Tensor:
    """Each question over `sink | its view | itself`."""
    s, batch, most = p.shape, q.shape[0], views.shape[-1]
    own_q, own_k, own_v = (
        x[:, :, s.asked :].unflatten(2, (s.questions, s.length)).transpose(1, 2).flatten(0, 1) for x in (q, k, v)
    )
    rows = (torch.arange(batch, device=q.device)[:, None, None] * s.steps + views).flatten()

    def view(x: Tensor) -> Tensor:
        blocks = x[:, :, s.sink : s.asked].unflatten(2, (s.steps, s.tokens)).transpose(1, 2).flatten(0, 1)
        found = blocks.index_select(0, rows).unflatten(0, (-1, most))  # its backward adds; that of indexing would sort
        return found.transpose(1, 2).flatten(2, 3)

    def sinks(x: Tensor) -> Tensor:
        return x[:, None].expand(-1, s.questions, -1, -1, -1).flatten(0, 1)

    after = slice(s.sink, s.sink + most * s.tokens)
    in_view = _rotated(view(k), (p.angles[0][after], p.angles[1][after]))
    keys = torch.cat([sinks(_at_start(p, k)), in_view, _rotated(own_k, own)], 2)
    values = torch.cat([sinks(v[:, :, : s.sink]), view(v), own_v], 2)
    own_q = _rotated(own_q, own)
    out = functional.scaled_dot_product_attention(
        own_q, _repeat(keys, own_q), _repeat(values, own_q), attn_mask=mask, scale=scaling
    )
    return out.unflatten(0, (batch, s.questions)).transpose(1, 2).flatten(2, 3)


def _similarity(s: Shape, weight: Tensor, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """How near each question is to each step, as the focus measures it: by mean keys, and by late interaction."""
    kv = k.shape[1]
    asked = q[:, :, s.asked :].unflatten(1, (kv, -1)).mean(2).transpose(1, 2).flatten(2)
    asked = asked.unflatten(1, (s.questions, s.length))
    keys = k[:, :, s.sink : s.asked].transpose(1, 2).flatten(2).unflatten(1, (s.steps, s.tokens))
    weight = weight.to(q.dtype)
    mean = torch.einsum("bnl,bnld->bnd", weight, asked)
    coarse = torch.einsum("bnd,btd->bnt", mean, keys.mean(2))
    near = torch.einsum("bnld,btpd->bnltp", asked, keys).amax(-1)
    return coarse, torch.einsum("bnlt,bnl->bnt", near, weight)


def _as_is(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


@cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function with its arithmetic fused (torch.compile): worth its half minute on a card."""
    return torch.compile(function, dynamic=False)


def _repeat(x: Tensor, q: Tensor) -> Tensor:
    """KV heads repeated to the query's heads (rows, heads, tokens, dim)."""
    return x.repeat_interleave(q.shape[1] // x.shape[1], 1)
