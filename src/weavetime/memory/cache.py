"""Recalled blocks that stay on the device: a fixed number of slots per layer, the least recently used go first."""

from __future__ import annotations

import ctypes
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from ..ops import BlockLayout, kernels
from .archive import Archive
from .blocks import Cells


class BlockCache:
    """Keys (part 0) or values (part 1) of archived blocks, `slots` a layer, all of one layout."""

    def __init__(self, archive: Archive, cells: Cells, part: int, slots: int) -> None:
        self.archive, self.cells, self.part, self.slots = archive, cells, part, slots
        self._layout: BlockLayout | None = None
        self._data: list[Tensor] = []
        self._used: list[OrderedDict[int, int]] = []  # block -> slot, oldest use first

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(t.nbytes for t in self._data)

    def prepare(self, layout: BlockLayout) -> None:
        """Take the slots' memory now, for blocks of this layout, so that later questions do not grow the device."""
        if layout is self._layout or self.slots == 0:
            return
        cells = self.cells
        shape = (self.slots, cells.kv_heads, layout.tokens, cells.dim)
        self._layout, self._data = None, []  # free the old slots first
        self._data = [torch.empty(shape, dtype=cells.dtype, device=d) for d in cells.devices]
        self._used = [OrderedDict() for _ in range(cells.layers)]
        self._layout = layout

    def get(self, layer: int, blocks: Sequence[int], layout: BlockLayout) -> Tensor:
        """Blocks of one layout, on the layer's device: (blocks, kv_heads, tokens, dim); a copy."""
        cells = self.cells
        shape = (len(blocks), cells.kv_heads, layout.tokens, cells.dim)
        out = torch.empty(shape, dtype=cells.dtype, device=cells.devices[layer])
        used = self._used[layer] if layout is self._layout else OrderedDict[int, int]()
        hits = [(row, used[b]) for row, b in enumerate(blocks) if b in used]
        misses = [row for row, b in enumerate(blocks) if b not in used]
        if hits:
            rows, slots = (torch.tensor(x).to(out.device, non_blocking=True) for x in zip(*hits, strict=True))
            out[rows] = self._data[layer][slots]
        self._bring(layer, blocks, misses, out)
        if layout is self._layout:
            self._keep(layer, blocks, misses, out)
        return out

    def _bring(self, layer: int, blocks: Sequence[int], misses: Sequence[int], out: Tensor) -> None:
        """Copy rows from the host."""
        if not misses:
            return
        where, size = self.archive.addresses(layer, [blocks[row] for row in misses], self.part), out[0].nbytes
        if out.is_cuda and kernels.AVAILABLE and size % 8 == 0:
            addresses = torch.tensor(where).to(out.device, non_blocking=True)
            whole = out if len(misses) == len(out) else torch.empty_like(out[: len(misses)])
            kernels.fetch(addresses, whole)
            if whole is not out:
                out[torch.tensor(misses).to(out.device, non_blocking=True)] = whole
        elif out.device.type == "cpu":
            first = out.data_ptr()
            for row, address in zip(misses, where, strict=True):
                ctypes.memmove(first + row * size, address, size)
        else:
            for row in misses:
                out[row].copy_(self.archive.part(layer, blocks[row], self.part), non_blocking=True)

    def forget(self) -> None:
        """Give up every block; the slots' memory stays."""
        for used in self._used:
            used.clear()

    def _keep(self, layer: int, blocks: Sequence[int], misses: Sequence[int], out: Tensor) -> None:
        used = self._used[layer]
        for block in blocks:
            if block in used:
                used.move_to_end(block)
        kept = misses[-self.slots :]
        slots = []
        for row in kept:
            slot = len(used) if len(used) < self.slots else used.popitem(last=False)[1]
            used[blocks[row]] = slot
            slots.append(slot)
        if slots:
            rows = torch.tensor(kept).to(out.device, non_blocking=True)
            self._data[layer][torch.tensor(slots).to(out.device, non_blocking=True)] = out[rows]
