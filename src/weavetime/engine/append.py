"""Encoding steps: each attends to the sink, to exactly the `window` blocks before it, and causally to itself.

However many steps one call holds, the result is the same (docs/method.md §1): projections and MLP run over the whole
call, and attention runs per step, the steps as a batch of overlapping windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..memory import Memory
from ..ops import BlockLayout, attend, attend_causal, merge, rotate, windows


@dataclass(frozen=True, slots=True)
class Band:
    """Consecutive steps whose windows have one width: step i of the call on, `count` of them.

    start: the first window's first token, counted from the first token of the context. width: tokens of one window.
    """

    step: int
    count: int
    start: int
    width: int


class AppendPass:
    """The plan of one call that appends steps of one layout, at these times (seconds), to a memory."""

    def __init__(self, memory: Memory, layout: BlockLayout, times: Sequence[float]) -> None:
        self.memory, self.layout, self.count = memory, layout, len(times)
        count = self.count
        table, size = memory.table, memory.window.size
        self.seen = len(table)
        self.first = 0 if size is None else max(0, self.seen - size)
        context = [*table.layouts[self.first :], *[layout] * count]
        self.placement = memory.place(context, [*table.times[self.first :], *times], memory.sink.tokens)
        self.past = table.offsets[self.seen] - table.offsets[self.first]  # tokens of context before the call
        # Steps that see everything so far are one causal run; the others each have a window of their own.
        self.plain = count if size is None else min(count, max(0, size + 1 - self.seen))
        self.bands = [] if size is None else self._bands(context, size)
        self.sink_positions = self._positions_seen_from_sink(size)
        self.means: list[Tensor] = []
        self._angles: dict[tuple[str, torch.device], tuple[Tensor, Tensor]] = {}

    def _bands(self, context: list[BlockLayout], size: int) -> list[Band]:
        starts = [0]
        for layout in context:
            starts.append(starts[-1] + layout.tokens)
        bands: list[Band] = []
        for step in range(self.plain, self.count):
            own = self.seen - self.first + step
            window = context[own - size : own]
            band = Band(step, 1, starts[own - size], starts[own] - starts[own - size])
            uniform = all(layout is self.layout for layout in window)
            if bands and uniform and bands[-1].width == band.width and self._follows(bands[-1], context, own, size):
                bands[-1] = Band(bands[-1].step, bands[-1].count + 1, bands[-1].start, band.width)
            else:
                bands.append(band)
        return bands

    def _follows(self, band: Band, context: list[BlockLayout], own: int, size: int) -> bool:
        """Whether this step's window starts one step's tokens after the window of the step before."""
        return context[own - size - 1] is self.layout and band.step + band.count == own - (self.seen - self.first)

    def _positions_seen_from_sink(self, size: int | None) -> Tensor:
        """Where the call's tokens stand in their own step's view: windows are nearer to the sink than the context."""
        own = self.placement.positions[:, self.past :]
        if self.plain == self.count or size is None:
            return own
        shift = torch.zeros(self.count, dtype=torch.int64)
        for step in range(self.plain, self.count):
            shift[step] = self.placement.starts[self.seen - self.first + step - size]
        moves = torch.tensor(self.layout.moves, dtype=torch.int64)
        return own - moves[:, None] * shift.repeat_interleave(self.layout.tokens)[None]

    def _angle(self, which: str, like: Tensor) -> tuple[Tensor, Tensor]:
        key = (which, like.device)
        if key not in self._angles:
            positions = self.placement.positions if which == "context" else self.sink_positions
            self._angles[key] = self.memory.rotary.angles(positions, like)
        return self._angles[key]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
        """One layer of the call; also keeps its keys and values, and each step's mean key."""
        memory = self.memory
        memory.window.write(layer, k, v)
        self.means.append(mean_keys(k, self.layout, self.count, visual_only=memory.config.visual_only))
        keys, values = memory.window.read(layer, self.first, self.seen, extra=k.shape[2])
        cos, sin = self._angle("context", keys)
        keys = rotate(keys, cos, sin)
        sink = (memory.sink_rotated[layer], memory.sink.values[layer])
        out = [self._causal(q, keys, values, sink, scaling)] if self.plain else []
        out += [self._band(band, q, keys, values, sink, scaling) for band in self.bands]
        return torch.cat(out, 2) if len(out) > 1 else out[0]

    def _causal(self, q: Tensor, keys: Tensor, values: Tensor, sink: tuple[Tensor, Tensor], scaling: float) -> Tensor:
        """Steps with nothing evicted yet: plain causal attention over `sink | context | own`."""
        past, length = self.past, self.plain * self.layout.tokens
        own = slice(past, past + length)
        cos, sin = self._angle("context", keys)
        q = rotate(q[:, :, :length], cos[own], sin[own])
        parts = [attend(q, *sink, scaling), attend_causal(q, keys[:, :, own], values[:, :, own], scaling)]
        if past:
            parts.append(attend(q, keys[:, :, :past], values[:, :, :past], scaling))
        return merge(parts)

    def _band(
        self, band: Band, q: Tensor, keys: Tensor, values: Tensor, sink: tuple[Tensor, Tensor], scaling: float
    ) -> Tensor:
        """Steps as a batch: each over the sink, over its own window, and causally over itself."""
        tokens, count = self.layout.tokens, band.count
        span = slice(band.step * tokens, (band.step + count) * tokens)
        own_start = self.past + span.start
        steps = windows(q[:, :, span], count, tokens, tokens)
        cos, sin = (x[self.past :][span].unflatten(0, (count, tokens)) for x in self._angle("context", keys))
        near_q = rotate(steps, cos, sin)
        cos, sin = (x[span].unflatten(0, (count, tokens)) for x in self._angle("sink", q))
        far_q = rotate(steps, cos, sin)
        own_keys, own_values = (windows(x[:, :, own_start:], count, tokens, tokens) for x in (keys, values))
        old_keys, old_values = (windows(x[:, :, band.start :], count, band.width, tokens) for x in (keys, values))
        sink_keys, sink_values = (x.expand(count, -1, -1, -1) for x in sink)
        far = attend(far_q, sink_keys, sink_values, scaling)
        near = attend(near_q, old_keys, old_values, scaling)
        own = attend_causal(near_q, own_keys, own_values, scaling)
        return merge([far, near, own]).transpose(0, 1).flatten(1, 2)[None]


def mean_keys(k: Tensor, layout: BlockLayout, count: int, *, visual_only: bool) -> Tensor:
    """Mean key of each of `count` steps, k (1, kv_heads, tokens, dim): (count, kv_heads x dim)."""
    tokens = layout.visual if visual_only else slice(None)
    by_step = k[0].unflatten(1, (count, -1))[:, :, tokens]
    return by_step.mean(2, dtype=torch.float32).transpose(0, 1).flatten(1).to(k.dtype)
