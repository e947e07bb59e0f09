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


@dataclass(frozen=True)
class Shape:
    """How a batch is laid out: streams of sink tokens, steps of `tokens` each, questions of `length` each, padded."""

    streams: int
    sink: int
    steps: int
    tokens: int
    questions: int
    length: int

    @property
    def asked(self) -> int:
        """Where the questions of a stream begin."""
        return self.sink + self.steps * self.tokens


@dataclass(frozen=True)
class Runs:
    """Queries in runs of one length, each over `slots of blocks | sink | itself`.

    A run fills its last slots; those before are a gap that it does not read. So a block stands where its slot does and
    the run behind the last slot, whatever their number, and only the sink, which stands before the first block, moves.

    queries: a run. slots: keys before the sink. gaps: (runs,) keys of those that are not read. near: cos and sin (1,
    slots + queries, 1, dim), far: of the sink (runs, sink, 1, dim). begins: (2, 2 * runs + 1) int32, where gaps and
    runs begin in turn and the last ends, among all queries, of which a gap has none, and among all keys.
    """

    queries: int
    slots: int
    gaps: Tensor
    near: tuple[Tensor, Tensor]
    far: tuple[Tensor, Tensor]
    begins: Tensor

    @classmethod
    def of(cls, s: Shape, counts: Tensor, most: int, queries: int, angles: tuple[Tensor, Tensor]) -> Runs:
        """For runs that see `counts` blocks (runs,), at most `most`; angles: cos and sin (positions, dim)."""
        runs, slots = len(counts), most * s.tokens
        gaps = slots - counts * s.tokens
        at = gaps[:, None] + torch.arange(s.sink, device=counts.device)
        near, far = (
            [a[None, s.sink : s.sink + slots + queries, None] for a in angles],
            [a[at][:, :, None] for a in angles],
        )
        each = torch.arange(runs + 1, device=counts.device)
        keys = each * (slots + s.sink + queries)
        begins = [torch.stack([each, each], 1).flatten() * queries]
        begins.append(torch.stack([keys, keys + functional.pad(gaps, (0, 1))], 1).flatten())
        return cls(queries, slots, gaps, (near[0], near[1]), (far[0], far[1]), torch.stack(begins)[:, :-1].int())


@dataclass(frozen=True)
class Places:
    """What does not differ between batches of one shape.

    steps: the runs that steps are, over their windows. angles: cos and sin (positions, dim). fused: compile the
    arithmetic.
    """

    shape: Shape
    window: int
    steps: Runs
    angles: tuple[Tensor, Tensor]
    fused: bool = False

    @classmethod
    def of(cls, s: Shape, window: int, angles: tuple[Tensor, Tensor], *, fused: bool = False) -> Places:
        """For a shape, from cos and sin of every position."""
        counts = torch.arange(s.steps, device=angles[0].device).clamp_max(window).repeat(s.streams)
        return cls(s, window, Runs.of(s, counts, window, s.tokens, angles), angles, fused)


class StreamPass:
    """The plan of one training forward, for models with one axis of positions.

    views: int64 (batch, questions, layers, most), the steps of each layer's view in order, as many in every layer, -1
    after the last. chooser: int64 (batch, questions), the question by whose late-interaction scores each layer chooses
    this one's view, of the size that `views` has and among the first `before` steps; -1 where the view is given.
    prompts: bool (batch, questions, length), tokens that were asked (answers and pads left out). similarities: coarse
    and late-interaction scores (batch, questions, steps) of each layer, filled by the pass where `retrieval` is on;
    without it every view is a given one.
    """

    def __init__(
        self, places: Places, views: Tensor, chooser: Tensor, before: Tensor, prompts: Tensor, *, retrieval: bool = True
    ) -> None:
        s = places.shape
        self.places, self.retrieval = places, retrieval
        self.weight = prompts / prompts.sum(-1, keepdim=True).clamp_min(1)
        self.similarities: list[tuple[Tensor, Tensor]] = []
        self.most, self.chooser, self.given = views.shape[-1], chooser, members(views, s.steps)
        self.counts = (views[:, :, 0] >= 0).sum(-1)
        self.late = torch.arange(s.steps, device=views.device) >= before[..., None]
        self.questions = Runs.of(s, self.counts.flatten(), self.most, s.length, places.angles)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
        """q (batch, heads, tokens, dim), k and v (batch, kv_heads, tokens, dim), un-rotated; returns q's shape."""
        p = self.places
        s, wrap = p.shape, compiled if p.fused else _as_is
        q, k, v = (x.to(v.dtype).transpose(1, 2) for x in (q, k, v))  # under autocast, v alone is what attention takes
        steps = wrap(_steps)(s, p.steps, p.window, q, k, v)
        seen = self.given[:, :, layer]
        if self.retrieval:
            self.similarities.append(wrap(_similarity)(s, self.weight, q, k))
            seen = torch.where(self.chooser[..., None] < 0, seen, self._choose(self.similarities[-1][1]))
        questions = wrap(_questions)(s, self.questions, self._slots(seen), q, k, v)
        found = [_sink(s, p.angles, q, k, v, scaling)]
        found += [_attend(p.steps, steps, scaling), _attend(self.questions, questions, scaling)]
        return torch.cat([x.unflatten(0, (s.streams, -1)).flatten(1, 2) for x in found], 1).transpose(1, 2)

    def _choose(self, scores: Tensor) -> Tensor:
        """The best blocks by the chooser's scores, bool (batch, questions, steps)."""
        mine = self.chooser.clamp_min(0)[..., None].expand_as(scores)
        found = scores.detach().float().gather(1, mine).masked_fill(self.late, -torch.inf)
        rank = found.flip(-1).argsort(dim=-1, descending=True, stable=True).argsort(-1).flip(-1)  # ties: the newer
        return rank < self.counts[..., None]

    def _slots(self, seen: Tensor) -> Tensor:
        """The block of each slot, bool (batch, questions, slots * steps), of those seen (batch, questions, steps)."""
        slot = seen.cumsum(-1) + (self.most - 1 - self.counts[..., None])
        slots = torch.arange(self.most, device=seen.device)[:, None]
        return (seen[..., None, :] & (slot[..., None, :] == slots)).flatten(2)


def members(views: Tensor, steps: int) -> Tensor:
    """Which steps views hold: bool (..., steps), of steps in any order (..., most), -1 for none."""
    found = torch.zeros(*views.shape[:-1], steps + 1, dtype=torch.bool, device=views.device)
    return found.scatter_(-1, torch.where(views < 0, steps, views), True)[..., :-1]


Laid = tuple[Tensor, Tensor, Tensor]
"""Queries (runs, queries, heads, dim), keys and values (runs, slots + sink + queries, kv_heads, dim), rotated."""


def _rotated(x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """In float32: in bfloat16 places far apart would blur."""
    return rotate_reference(x.float(), *angles).to(x.dtype)


def _sink(s: Shape, angles: tuple[Tensor, Tensor], q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
    at = angles[0][None, : s.sink, None], angles[1][None, : s.sink, None]
    q, k, v = (x.transpose(1, 2) for x in (_rotated(q[:, : s.sink], at), _rotated(k[:, : s.sink], at), v[:, : s.sink]))
    out = functional.scaled_dot_product_attention(q, _repeat(k, q), _repeat(v, q), is_causal=True, scale=scaling)
    return out.transpose(1, 2)


def _steps(s: Shape, runs: Runs, window: int, q: Tensor, k: Tensor, v: Tensor) -> Laid:
    """Each step over its window."""

    def own(x: Tensor) -> Tensor:
        return x[:, s.sink : s.asked].unflatten(1, (s.steps, s.tokens))

    def windows(x: Tensor) -> Tensor:
        blocks = functional.pad(own(x), (0, 0, 0, 0, 0, 0, window, 0))
        return blocks.unfold(1, window, 1)[:, : s.steps].movedim(-1, 2)

    return _laid_out(s, runs, (own(q), own(k), own(v)), windows(k), windows(v), k, v)


def _questions(s: Shape, runs: Runs, chosen: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Laid:
    """Each question over its view. chosen: bool (batch, questions, slots * steps), the block of each slot."""
    one = chosen.unflatten(2, (-1, s.steps)).flatten(1, 2).to(k.dtype)

    def own(x: Tensor) -> Tensor:
        return x[:, s.asked :].unflatten(1, (s.questions, s.length))

    def views(x: Tensor) -> Tensor:
        """As a product with ones and zeros: the backward of that is a product too, that of indexing adds in turns."""
        blocks = x[:, s.sink : s.asked].unflatten(1, (s.steps, s.tokens))
        found = one @ blocks.flatten(2)
        return found.unflatten(1, (s.questions, -1)).unflatten(3, blocks.shape[2:])

    return _laid_out(s, runs, (own(q), own(k), own(v)), views(k), views(v), k, v)


def _laid_out(s: Shape, runs: Runs, own: Laid, slots_k: Tensor, slots_v: Tensor, k: Tensor, v: Tensor) -> Laid:
    """own: of each run (batch, its runs, queries, heads, dim). slots: (batch, its runs, blocks, tokens, heads, dim)."""
    each = own[0].shape[1]
    read = (torch.arange(runs.slots, device=k.device) >= runs.gaps[:, None])[..., None, None]
    near = [(a[:, : runs.slots], a[:, runs.slots :]) for a in runs.near]

    def slots(x: Tensor) -> Tensor:
        x = x.flatten(2, 3).flatten(0, 1)
        return torch.where(read, x, torch.zeros_like(x))  # what none reads has no gradient, whatever is found there

    def sinks(x: Tensor) -> Tensor:
        return x[:, None, : s.sink].expand(-1, each, -1, -1, -1).flatten(0, 1)

    q_own, k_own, v_own = (x.flatten(0, 1) for x in own)
    at, behind = (near[0][0], near[1][0]), (near[0][1], near[1][1])
    keys = torch.cat([_rotated(slots(slots_k), at), _rotated(sinks(k), runs.far), _rotated(k_own, behind)], 1)
    return _rotated(q_own, behind), keys, torch.cat([slots(slots_v), sinks(v), v_own], 1)


def _attend(runs: Runs, laid: Laid, scaling: float) -> Tensor:
    """Each run over its own keys but the gap, causally to itself; the shape of its queries.

    By FlashAttention where it runs: it reads no gap, repeats no head and needs no mask.
    """
    q, k, v = laid
    if q.is_cuda and q.dtype != torch.float32 and _flash_runs(q.device, q.shape[-1]):
        flash = torch.ops.aten._flash_attention_forward  # the public call of it differs from release to release
        most = k.shape[1]
        q_all, k_all, v_all = (x.flatten(0, 1) for x in (q, k, v))
        begins = runs.begins.unbind()
        found: Tensor = flash(q_all, k_all, v_all, *begins, runs.queries, most, 0.0, True, False, scale=scaling)[0]
        return found.view_as(q)
    key = torch.arange(k.shape[1], device=q.device)
    last = k.shape[1] - runs.queries + torch.arange(runs.queries, device=q.device)
    mask = (key >= runs.gaps[:, None, None]) & (key <= last[:, None])
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    out = functional.scaled_dot_product_attention(
        q, _repeat(k, q), _repeat(v, q), attn_mask=mask[:, None], scale=scaling
    )
    return out.transpose(1, 2)


@cache
def _flash_runs(device: torch.device, dim: int) -> bool:
    return torch.cuda.get_device_capability(device) >= (8, 0) and dim % 8 == 0 and dim <= 256


def _similarity(s: Shape, weight: Tensor, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """How near each question is to each step, as the focus measures it: by mean keys, and by late interaction."""
    kv = k.shape[2]
    asked = q[:, s.asked :].unflatten(2, (kv, -1)).mean(3).flatten(2).unflatten(1, (s.questions, s.length))
    keys = k[:, s.sink : s.asked].flatten(2).unflatten(1, (s.steps, s.tokens))
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
