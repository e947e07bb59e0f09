"""The host tier: blocks that left the window, in pages of pinned memory. A disk tier would take the same calls."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from ..errors import OutOfMemoryError
from ..ops import BlockLayout
from .blocks import Cells, Table, runs
from .window import Window

PAGE = 4  # blocks; small, so that the unused end of the last page stays under 1 % of a thousand blocks


class Archive:
    """Blocks [0, stop). One page holds PAGE blocks of one layout: (layers, blocks, 2, kv_heads, tokens, dim).

    A block's keys (or values) of one layer are dense, so recall moves them in one copy. Pinned pages take long to make:
    a thread makes those of the next call while this one is computed.
    """

    def __init__(self, cells: Cells, table: Table, ahead: int) -> None:
        self.cells, self.table = cells, table
        self.stop = 0
        self._pages: list[Tensor] = []
        self._where: list[tuple[int, int]] = []  # (page, row) of each block that is held or has room reserved
        self._pin = any(d.type == "cuda" for d in cells.devices)
        self._maker = ThreadPoolExecutor(1, thread_name_prefix="weavetime-pages") if self._pin else None
        self._most = -(-ahead // PAGE) + 1
        self._ahead: deque[tuple[BlockLayout, Future[Tensor]]] = deque()

    @property
    def nbytes(self) -> int:
        """Bytes held for blocks."""
        return sum(p.nbytes for p in self._pages)

    @property
    def spare_nbytes(self) -> int:
        """Bytes of the pages made ahead."""
        return sum(self._page_bytes(layout) for layout, _ in tuple(self._ahead))

    def _page_bytes(self, layout: BlockLayout) -> int:
        return PAGE * layout.tokens * self.cells.token_bytes

    def reserve(self, stop: int, coming: BlockLayout) -> None:
        """Have room for blocks up to `stop`, before anything is computed that would have to be undone.

        coming: the layout of blocks that the table does not know yet.
        """
        known = self.table.layouts
        if len(self._where) > len(known):  # room that a call took which then failed; other blocks come now
            del self._where[len(known) :]
            del self._pages[self._where[-1][0] + 1 if self._where else 0 :]
        while len(self._where) < stop:
            block = len(self._where)
            before, layout = (known[i] if i < len(known) else coming for i in (max(block - 1, 0), block))
            page, row = self._where[-1] if self._where else (-1, PAGE - 1)
            if row + 1 == PAGE or before is not layout:
                self._pages.append(self._take(layout))
                page, row = page + 1, -1
            self._where.append((page, row + 1))

    def _take(self, layout: BlockLayout) -> Tensor:
        if self._maker is None:
            return self._make(layout)
        while self._ahead and self._ahead[0][0] is not layout:
            self._ahead.popleft()
        try:
            page = self._ahead.popleft()[1].result() if self._ahead else self._make(layout)
        except OutOfMemoryError:
            self._ahead.clear()  # the others failed or will; the next call tries anew
            raise
        while len(self._ahead) < self._most:
            self._ahead.append((layout, self._maker.submit(self._make, layout)))
        return page

    def _make(self, layout: BlockLayout) -> Tensor:
        cells = self.cells
        page = host_memory(self._page_bytes(layout), pinned=self._pin).view(cells.dtype)
        return page.view(cells.layers, PAGE, 2, cells.kv_heads, layout.tokens, cells.dim)

    def put(self, stop: int, window: Window) -> None:
        """Copy blocks [self.stop, stop) out of the window; room was reserved."""
        for first, last in runs(self.table.layouts[self.stop : stop], self.stop):
            for layer in range(self.cells.layers):
                k, v = (self._by_block(t, last - first) for t in window.read(layer, first, last))
                both = torch.stack((k, v), 1)
                for page, rows, blocks in self._spans(first, last):
                    self._pages[page][layer, rows].copy_(both[blocks], non_blocking=self._pin)
        self.stop = stop

    @staticmethod
    def _by_block(x: Tensor, count: int) -> Tensor:
        """(1, kv_heads, count x tokens, dim) to (count, kv_heads, tokens, dim)."""
        return x[0].unflatten(1, (count, -1)).transpose(0, 1)

    def _spans(self, first: int, stop: int) -> Iterator[tuple[int, slice, slice]]:
        """(page, rows in it, blocks counted from first) for each page that [first, stop) touches."""
        at = first
        while at < stop:
            page, row = self._where[at]
            count = min(PAGE - row, stop - at)
            yield page, slice(row, row + count), slice(at - first, at - first + count)
            at += count

    def part(self, layer: int, block: int, part: int) -> Tensor:
        """One block's keys (part 0) or values (part 1) of one layer, on the host: (kv_heads, tokens, dim)."""
        page, row = self._where[block]
        return self._pages[page][layer, row, part]

    def addresses(self, layer: int, blocks: Sequence[int], part: int) -> list[int]:
        """Where `part` of each block begins; all of one layout. A tensor for each would cost more than its copy."""
        places = [self._where[b] for b in blocks]
        first = self._pages[places[0][0]]
        sl, sr, sp = (stride * first.itemsize for stride in first.stride()[:3])
        offset, bases = layer * sl + part * sp, {page: self._pages[page].data_ptr() for page, _ in places}
        return [bases[page] + row * sr + offset for page, row in places]


def host_memory(nbytes: int, *, pinned: bool) -> Tensor:
    """Host memory of exactly this size, uint8. torch's own pinned allocator rounds sizes up to a power of two.

    Pinned memory is mapped in huge pages and touched first: pinning is then many times faster, and holds the driver's
    lock, which a launching thread would wait for, as briefly as can be. Raises OutOfMemoryError.
    """
    try:
        return _pinned(nbytes) if pinned else torch.empty(nbytes, dtype=torch.uint8)
    except (RuntimeError, OSError, MemoryError) as e:
        raise OutOfMemoryError(
            f"no host memory for another {nbytes / 2**20:.0f} MiB: use a shorter stream, a lower fps or a smaller model"
        ) from e


def _pinned(nbytes: int) -> Tensor:
    area = mmap.mmap(-1, nbytes)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        area.madvise(mmap.MADV_HUGEPAGE)
    buffer = (ctypes.c_char * nbytes).from_buffer(area)
    memory = torch.frombuffer(buffer, dtype=torch.uint8).zero_()
    code = int(torch.cuda.cudart().cudaHostRegister(memory.data_ptr(), nbytes, 0))
    if code != 0:
        with contextlib.suppress(RuntimeError):  # CUDA keeps the error for the next launch: this one takes it
            torch.zeros(1, device="cuda")
        raise RuntimeError(f"pinning {nbytes} bytes failed (CUDA error {code})")
    # The finalizer holds the mapping: it must still be there when it is unregistered.
    weakref.finalize(buffer, _unpin, memory.data_ptr(), area)
    return memory


def _unpin(pointer: int, area: mmap.mmap) -> None:
    with contextlib.suppress(RuntimeError):  # at interpreter exit the driver may be gone, and the memory with it
        torch.cuda.cudart().cudaHostUnregister(pointer)
