"""The device tier: keys and values of the newest blocks, one run of tokens per layer."""

from __future__ import annotations

import torch
from torch import Tensor

from ..ops import BlockLayout
from .blocks import Cells, Table


class Window:
    """Blocks [first, len(table)) on each layer's own device, plus room for the call that is being encoded.

    Tokens lie one after another, so a stretch of blocks is a slice. New tokens go behind the last; when the end of the
    buffer is reached the live part moves to the front. `size=None` evicts nothing and grows by doubling.
    """

    def __init__(self, cells: Cells, table: Table, size: int | None, batch: int) -> None:
        self.cells, self.table, self.size, self.batch = cells, table, size, batch
        self.first = 0
        self._base = 0  # the stream's token index of buffer position 0
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []

    @property
    def capacity(self) -> int:
        """Tokens that fit the buffer."""
        return self._keys[0].shape[2] if self._keys else 0

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(t.nbytes for t in (*self._keys, *self._values))

    def reserve(self, count: int, layout: BlockLayout) -> None:
        """Make room for `count` more blocks behind the last; nothing that is held changes."""
        tokens = count * layout.tokens
        live = self.table.offsets[-1] - self.table.offsets[self.first]
        if self.table.offsets[-1] - self._base + tokens <= self.capacity:
            return
        if live + tokens > self.capacity:
            self._grow(live + tokens, layout.tokens)
        else:
            self._move(self._keys, self._values)

    def _grow(self, needed: int, per_block: int) -> None:
        room = 2 * needed if self.size is None else (self.size + 3 * self.batch) * per_block
        shape = (1, self.cells.kv_heads, max(needed, room), self.cells.dim)
        keys, values = (
            [torch.empty(shape, dtype=self.cells.dtype, device=d) for d in self.cells.devices] for _ in range(2)
        )
        self._move(keys, values)

    def _move(self, keys: list[Tensor], values: list[Tensor]) -> None:
        start = self.table.offsets[self.first] - self._base
        stop = self.table.offsets[-1] - self._base
        for old, new in ((self._keys, keys), (self._values, values)):
            for source, target in zip(old, new, strict=False):
                part = source[:, :, start:stop]
                target[:, :, : stop - start] = part.clone() if source is target else part
        self._keys, self._values = keys, values
        self._base = self.table.offsets[self.first]

    def write(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Put a call's tokens behind the last block; they count once the table knows their blocks."""
        start = self.table.offsets[-1] - self._base
        stop = start + keys.shape[2]
        self._keys[layer][:, :, start:stop] = keys
        self._values[layer][:, :, start:stop] = values

    def read(self, layer: int, first: int, stop: int, extra: int = 0) -> tuple[Tensor, Tensor]:
        """Keys and values of blocks [first, stop) and `extra` tokens behind, (1, kv_heads, tokens, dim), no copy."""
        offsets = self.table.offsets
        span = slice(offsets[first] - self._base, offsets[stop] - self._base + extra)
        return self._keys[layer][:, :, span], self._values[layer][:, :, span]
