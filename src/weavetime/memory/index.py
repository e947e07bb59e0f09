"""The coarse index: each block's mean key per layer, in pages on the host, a fixed number of them on the device."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
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
        self.cells, self.count = cells, 0
        self._pin = any(d.type == "cuda" for d in cells.devices)
        self._pages: list[Tensor] = []
        self._slots: OrderedDict[int, int] = OrderedDict()  # page -> slot, oldest use first; full pages only
        # One more slot than asked for: the last page changes while it fills, so it is brought anew each time.
        self._data = [
            torch.empty(pages + 1, len(list(layers)), PAGE, cells.width, dtype=cells.dtype, device=device)
            for device, layers in groupby(cells.devices)
        ]

    @property
    def nbytes(self) -> int:
        """Bytes held, on the host and on the device."""
        return sum(t.nbytes for t in (*self._pages, *self._data))

    def reserve(self, blocks: int) -> None:
        """Have room for `blocks` more."""
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
        for slot, rows in self._pages_of(count):
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
        parts = [coarse(query, data[slot, row, :rows], cosine=cosine) for slot, rows in self._pages_of(count)]
        return torch.cat(parts)

    def _pages_of(self, count: int) -> Iterator[tuple[int, int]]:
        """(slot, rows) of each page that blocks [0, count) touch; a slot is good until the next one is asked for."""
        for page in range(-(-count // PAGE)):
            yield self._load(page), min(PAGE, count - page * PAGE)

    def _load(self, page: int) -> int:
        """The slot that holds a page, brought from the host where it is not there yet."""
        full = (page + 1) * PAGE <= self.count
        spare = self._data[0].shape[0] - 1
        if full and page in self._slots:
            self._slots.move_to_end(page)
            return self._slots[page]
        slot = spare
        if full and spare:
            slot = len(self._slots) if len(self._slots) < spare else self._slots.popitem(last=False)[1]
            self._slots[page] = slot
        first = 0
        for data in self._data:
            last = first + data.shape[1]
            data[slot].copy_(self._pages[page][first:last], non_blocking=self._pin)
            first = last
        return slot

    def means(self, layer: int, count: int) -> Tensor:
        """Mean keys of blocks [0, count) of one layer, on the host: (count, width)."""
        none = torch.empty(0, self.cells.width, dtype=self.cells.dtype)
        return torch.cat([none, *(page[layer] for page in self._pages)])[:count]
