"""The coarse index: each block's mean key per layer, in pages on the host, a fixed number of them on the device."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

from ..ops import coarse
from .archive import host_memory
from .blocks import Cells

PAGE = 256  # blocks


class Index:
    """Mean keys of blocks [0, count): pages (layers, PAGE, kv_heads x dim)."""

    def __init__(self, cells: Cells, pages: int) -> None:
        self.cells, self.slots, self.count = cells, pages + 1, 0
        self._pin = any(d.type == "cuda" for d in cells.devices)
        self._pages: list[Tensor] = []
        # Slot i holds page i once that page is full: a question scans all pages, so giving one up for another would
        # only move it twice. All others pass through one more slot, which also serves the last page while it fills.
        self._held: set[int] = set()
        self._data: list[Tensor] = []

    @property
    def nbytes(self) -> int:
        """Bytes held, on the host and on the device."""
        return sum(t.nbytes for t in (*self._pages, *self._data))

    def reserve(self, blocks: int) -> None:
        """Have room for `blocks` more; the device's share is taken with the first of them."""
        if not self._data:
            self._data = [
                torch.empty(
                    self.slots, len(list(layers)), PAGE, self.cells.width, dtype=self.cells.dtype, device=device
                )
                for device, layers in groupby(self.cells.devices)
            ]
        while self.count + blocks > len(self._pages) * PAGE:
            cells = self.cells
            size = cells.layers * PAGE * cells.width * cells.dtype.itemsize
            page = host_memory(size, pinned=self._pin).view(cells.dtype)
            self._pages.append(page.view(cells.layers, PAGE, cells.width))

    def add(self, means: Sequence[Tensor]) -> None:
        """Append blocks: one (blocks, width) a layer. Room was reserved."""
        blocks = means[0].shape[0]
        done = 0
        while done < blocks:
            page, row = divmod(self.count + done, PAGE)
            count = min(PAGE - row, blocks - done)
            for layer, mean in enumerate(means):
                target = self._pages[page][layer, row : row + count]
                target.copy_(mean[done : done + count], non_blocking=self._pin)
            done += count
        self.count += blocks

    def scores(self, queries: Sequence[Tensor], count: int, *, cosine: bool = False) -> Tensor:
        """Coarse scores of blocks [0, count): fp32 (layers, count) on the first layer's device.

        queries: the mean question vector of each layer, fp32 (width,), on the layer's device.
        """
        grouped, first = [], 0
        for data in self._data:
            grouped.append(torch.stack(list(queries[first : first + data.shape[1]])))
            first += data.shape[1]
        columns = []
        for page in range(-(-count // PAGE)):
            slot, rows = self._load(page), min(PAGE, count - page * PAGE)
            parts = [
                coarse(query, data[slot, :, :rows], cosine=cosine)
                for query, data in zip(grouped, self._data, strict=True)
            ]
            columns.append(torch.cat([part.to(self.cells.devices[0]) for part in parts]))
        return torch.cat(columns, 1)

    def layer_scores(self, layer: int, query: Tensor, count: int, *, cosine: bool = False) -> Tensor:
        """The row of `scores` of one layer, on its device: fp32 (count,)."""
        row = layer
        for data in self._data:
            if row < data.shape[1]:
                break
            row -= data.shape[1]
        parts = []
        for page in range(-(-count // PAGE)):
            rows = min(PAGE, count - page * PAGE)
            if self._stays(page):
                keys = data[self._load(page), row, :rows]
            else:
                keys = self._pages[page][layer, :rows].to(data.device, non_blocking=self._pin)
            parts.append(coarse(query, keys, cosine=cosine))
        return torch.cat(parts)

    def _stays(self, page: int) -> bool:
        return page < self._data[0].shape[0] - 1 and (page + 1) * PAGE <= self.count

    def _load(self, page: int) -> int:
        """The slot that holds a page, brought from the host where it is not there yet."""
        if page in self._held:
            return page
        slot = page if self._stays(page) else self._data[0].shape[0] - 1
        first = 0
        for data in self._data:
            last = first + data.shape[1]
            data[slot].copy_(self._pages[page][first:last], non_blocking=self._pin)
            first = last
        if self._stays(page):
            self._held.add(page)
        return slot

    def means(self, layer: int, count: int) -> Tensor:
        """Mean keys of blocks [0, count) of one layer, on the host: (count, width)."""
        none = torch.empty(0, self.cells.width, dtype=self.cells.dtype)
        return torch.cat([none, *(page[layer] for page in self._pages)])[:count]
