"""What a question reads: the sink and chosen blocks, laid out and rotated, one run of tokens per layer."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..ops import BlockLayout, Placement, rotate, windows
from ..types import Choice, Evidence
from .blocks import Provisional

if TYPE_CHECKING:
    from .memory import Memory


@dataclass(frozen=True, slots=True)
class LayerView:
    """Keys (rotated) and values, (1, kv_heads, tokens, dim); end: the position of the text token that follows."""

    keys: Tensor
    values: Tensor
    end: int


Key = tuple[tuple[int, ...], tuple[float, ...]]
"""What positions follow from: which layouts, and where positions follow the clock, when."""


class View:
    """`sink | blocks in time order`, per layer. A layer is built when it is first read, and owns its memory.

    provisional: what stands for the block of its number, which is the last.
    """

    def __init__(self, memory: Memory, choice: Choice, provisional: Provisional | None = None) -> None:
        self.memory, self.choice, self.provisional = memory, choice, provisional
        self._layers: list[LayerView | None] = [None] * memory.cells.layers
        self._placements: dict[Key, Placement] = {}
        self._angles: dict[tuple[Key, torch.device], tuple[Tensor, Tensor]] = {}

    def layer(self, i: int) -> LayerView:
        """The view of layer i."""
        built = self._layers[i]
        if built is None:
            built = self._layers[i] = self._build(i)
        return built

    @property
    def end(self) -> int:
        """Position where text may go on in every layer: the largest over layers."""
        return max(self._place(blocks)[1].end for blocks in set(self.choice.blocks))

    def fitting(self, end: int) -> int:
        """How many of the first blocks, of the layer that reaches furthest, let text go on at or before `end`."""
        blocks = max(set(self.choice.blocks), key=lambda blocks: self._place(blocks)[1].end)
        counts = range(len(blocks) + 1)
        return max(0, bisect_right(counts, end, key=lambda count: self._place(blocks[:count])[1].end) - 1)

    @property
    def tokens(self) -> int:
        """Tokens of the largest layer."""
        return self._sink_tokens + max(
            sum(self._layout(b).tokens for b in blocks) for blocks in set(self.choice.blocks)
        )

    @property
    def times(self) -> tuple[float, ...]:
        """Presentation times of all blocks that any layer reads, ascending, seconds."""
        return tuple(self._time(b) for b in sorted(set().union(*self.choice.blocks)))

    @property
    def evidence(self) -> Evidence:
        """What an answer over this view has read."""
        shown = None if self.provisional is None else self.provisional.shown
        if shown is None or not any(self.choice.blocks):
            return Evidence(self.times, self.choice.blocks, self.choice.scores)
        return Evidence(shown, ((),) * len(self.choice.blocks))

    @property
    def _sink_tokens(self) -> int:
        sink = self.memory.sink
        return sink.text if self.choice.bare else sink.tokens

    def _layout(self, block: int) -> BlockLayout:
        if self.provisional is not None and block == self.provisional.number:
            return self.provisional.layout
        return self.memory.table.layouts[block]

    def _time(self, block: int) -> float:
        if self.provisional is not None and block == self.provisional.number:
            return self.provisional.time
        return self.memory.table.times[block]

    def _place(self, blocks: Sequence[int]) -> tuple[Key, Placement]:
        layouts, times = [self._layout(b) for b in blocks], tuple(self._time(b) for b in blocks)
        key = tuple(map(id, layouts)), () if self.memory.timeline is None else times
        if key not in self._placements:
            self._placements[key] = self.memory.place(layouts, times, self._sink_tokens)
        return key, self._placements[key]

    def _parts(self, layer: int, blocks: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        if self.provisional is None or not blocks or blocks[-1] != self.provisional.number:
            return self.memory.parts(layer, blocks)
        own = self.provisional.keys[layer], self.provisional.values[layer]
        return [*self.memory.parts(layer, blocks[:-1]), own]

    def _build(self, i: int) -> LayerView:
        memory, blocks = self.memory, self.choice.blocks[i]
        key, placement = self._place(blocks)
        count = self._sink_tokens
        sink_keys, sink_values = memory.sink_rotated[i][:, :, :count], memory.sink.values[i][:, :, :count]
        if not blocks:
            return LayerView(sink_keys, sink_values, placement.end)
        if (key, sink_keys.device) not in self._angles:
            self._angles[key, sink_keys.device] = memory.rotary.angles(placement.positions, sink_keys)
        cos, sin = self._angles[key, sink_keys.device]
        batch, heads, _, dim = sink_keys.shape
        keys, values = (sink_keys.new_empty(batch, heads, count + len(cos), dim) for _ in range(2))
        keys[:, :, :count] = sink_keys
        values[:, :, :count] = sink_values
        at = 0
        for k, v in self._parts(i, blocks):
            rows, tokens = k.shape[0], k.shape[2]
            stop = at + rows * tokens
            by_row = (rows, tokens)
            out = windows(keys[:, :, count + at :], rows, tokens, tokens)
            rotate(k, cos[at:stop].unflatten(0, by_row), sin[at:stop].unflatten(0, by_row), out)
            windows(values[:, :, count + at :], rows, tokens, tokens).copy_(v)
            at = stop
        return LayerView(keys, values, placement.end)
