"""The append-only memory of a stream: blocks in tiers, the coarse index over them, and views as of any time."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from ..config import StreamConfig
from ..ops import BlockLayout, Placement, Rotary, Timeline, place, rotate, text_positions
from ..types import Choice, Frame
from .archive import Archive
from .blocks import Cells, Provisional, Sink, Table, runs
from .cache import BlockCache
from .index import Index
from .past import Past
from .views import View
from .window import Window


class Memory:
    """Keys before rotary and values of every block, once. Positions are given when a view is laid out.

    timeline: where blocks stand by the clock; None where each follows the one before. See docs/method.md §2.
    """

    def __init__(
        self, cells: Cells, sink: Sink, rotary: Rotary, config: StreamConfig, timeline: Timeline | None = None
    ) -> None:
        self.cells, self.sink, self.rotary, self.config, self.timeline = cells, sink, rotary, config, timeline
        self.table = Table()
        # First frames of blocks of two, as resized, for questions as of a moment between the two; at their end, that of
        # a pair that is not whole yet.
        self.firsts: list[Frame] = []
        self.window = Window(cells, self.table, config.window, config.batch)
        self.archive = Archive(cells, self.table, config.batch)
        self.means = Index(cells, config.index_pages)
        slots = config.cache
        if slots is None:
            slots = 0 if all(device.type == "cpu" for device in cells.devices) else config.CACHE
        self.key_cache = BlockCache(self.archive, cells, 0, slots)
        self.value_cache = BlockCache(self.archive, cells, 1, slots // 2)
        self.sink_rotated = tuple(self._rotate_sink(k) for k in sink.keys)

    def _rotate_sink(self, keys: Tensor) -> Tensor:
        positions = text_positions(0, keys.shape[2], self.rotary.axes)
        return rotate(keys, *self.rotary.angles(positions, keys))

    # Accounting

    @property
    def tiers(self) -> dict[str, int]:
        """Bytes held by each tier: nothing is held elsewhere."""
        firsts = {"firsts": sum(f.pixels.nbytes for f in self.firsts)} if self.firsts else {}
        return {
            "sink": self.sink.nbytes + sum(t.nbytes for t in self.sink_rotated),
            "window": self.window.nbytes,
            "archive": self.archive.nbytes,
            "spare": self.archive.spare_nbytes,
            "index": self.means.nbytes,
            "cache": self.key_cache.nbytes + self.value_cache.nbytes,
            **firsts,
        }

    @property
    def nbytes(self) -> int:
        """All bytes held."""
        return sum(self.tiers.values())

    def digest(self) -> str:
        """A hash of the whole archive: blocks, times and index."""
        for device in {d for d in self.cells.devices if d.type == "cuda"}:
            torch.cuda.synchronize(device)
        table = self.table
        h = hashlib.sha256(repr((table.times, table.ends, table.whole, table.offsets)).encode())
        for frame in self.firsts:
            h.update(repr((frame.time, frame.until)).encode() + _raw(torch.as_tensor(frame.pixels)))
        for layer in range(self.cells.layers):
            h.update(_raw(self.means.means(layer, len(self.table))))
            for block in range(len(self.table)):
                for x in self._raw(layer, block):
                    h.update(_raw(x))
        return h.hexdigest()

    def _raw(self, layer: int, block: int) -> tuple[Tensor, ...]:
        if block < self.archive.stop:
            return tuple(self.archive.part(layer, block, part) for part in (0, 1))
        return self.window.read(layer, block, block + 1)

    # Growing

    def reserve(self, count: int, layout: BlockLayout) -> None:
        """Have room in every tier for `count` more blocks; may raise OutOfMemoryError, and then nothing has changed."""
        size = self.window.size
        self.window.reserve(count, layout)
        self.means.reserve(count)
        if size is None or len(self.table) + count <= size:
            return
        self.key_cache.prepare(layout)
        self.value_cache.prepare(layout)
        self.archive.reserve(len(self.table) + count - size, layout)

    def commit(
        self,
        times: Sequence[tuple[float, float]],
        layout: BlockLayout,
        means: Sequence[Tensor],
        firsts: Sequence[Frame] = (),
        whole: Sequence[float] = (),
    ) -> None:
        """Make blocks of the tokens just written: (time, end) of each, and per layer their mean keys.

        firsts, whole: of blocks of two frames, the first and the time of the last. All of them or, on any error, none.
        """
        before, kept = len(self.table), list(self.firsts)
        try:
            for i, (time, end) in enumerate(times):
                self.table.add(time, end, layout, whole[i] if whole else None)
            self.firsts[before:] = firsts
            self.means.add(means)
            if self.window.size is not None and len(self.table) - self.window.size > self.archive.stop:
                stop = len(self.table) - self.window.size
                self.archive.put(stop, self.window)
                self.window.first = stop
        except BaseException:
            self.table.truncate(before)
            self.means.count, self.firsts = before, kept
            raise

    def hold(self, first: Frame) -> None:
        """Keep the first frame of a pair until the second comes."""
        self.firsts.append(first)

    # Reading

    @property
    def odd(self) -> Frame | None:
        """The frame that waits for its partner, if one does."""
        return self.firsts[-1] if len(self.firsts) > len(self.table) else None

    @property
    def times(self) -> list[float]:
        """When what can be read was shown, seconds: every block's first frame, and one that waits for its partner."""
        odd = self.odd
        return [*self.table.times, *([odd.time] if odd else [])]

    @property
    def frames(self) -> int:
        """How many frames went in: one a block, two where it has a first."""
        return len(self.table) + len(self.firsts)

    @property
    def newest(self) -> float | None:
        """Time of the newest frame, seconds."""
        odd = self.odd  # once: another thread may bring its partner meanwhile
        return odd.time if odd else self.table.whole[-1] if len(self.table) else None

    @property
    def now(self) -> float:
        """The end of the newest frame, seconds; 0 before the first."""
        odd = self.odd
        if odd is not None:
            assert odd.until is not None
            return odd.until
        return self.table.ends[-1] if len(self.table) else 0.0

    def index(self, at: float | None = None) -> Past:
        """What may be read as of a time, seconds; None is now."""
        if at is None:
            return Past(self, len(self.table), self.now)
        return Past(self, self.table.visible(at), at)

    def half(self, past: Past) -> Frame | None:
        """The first frame of a pair whose second was not there yet at the time asked about."""
        frame = self.firsts[past.count] if past.count < len(self.firsts) else None
        return frame if frame is not None and frame.time <= past.at else None

    def spans(self, at: float | None = None) -> list[tuple[float, float]]:
        """Start and end of each block as of a time, seconds; of a pair that was not whole then, of its first frame."""
        past = self.index(at)
        half, seen = self.half(past), slice(past.count)
        found = list(zip(self.table.times[seen], self.table.ends[seen], strict=True))
        if half is not None:
            assert half.until is not None
            found.append((half.time, half.until))
        return found

    def view(self, choice: Choice, provisional: Provisional | None = None) -> View:
        """The view that a choice of blocks makes."""
        return View(self, choice, provisional)

    def place(self, layouts: Sequence[BlockLayout], times: Sequence[float], origin: int) -> Placement:
        """Where blocks stand that follow one another from `origin`; times in seconds, ascending."""
        at = None if self.timeline is None else self.timeline.starts(times)
        return place(layouts, origin, self.rotary.axes, at)

    @torch.inference_mode()
    def read(self, layer: int, blocks: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Keys (un-rotated) and values of blocks, ascending, on the layer's device: (1, kv_heads, tokens, dim)."""
        parts = self.parts(layer, blocks)
        keys, values = (torch.cat([p[i].transpose(0, 1).flatten(1, 2) for p in parts], 1)[None] for i in (0, 1))
        return keys, values

    def parts(self, layer: int, blocks: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """`read` in pieces, without moving them together: keys and values (rows, kv_heads, tokens, dim), in order."""
        old = [b for b in blocks if b < self.archive.stop]
        found = [
            (self.key_cache.get(layer, group, layout), self.value_cache.get(layer, group, layout))
            for group, layout in self._groups(old)
        ]
        return found + [self.window.read(layer, *stretch) for stretch in _stretches(blocks[len(old) :])]

    def _groups(self, blocks: Sequence[int]) -> list[tuple[list[int], BlockLayout]]:
        """Cut a list of blocks into stretches of one layout."""
        layouts = [self.table.layouts[b] for b in blocks]
        return [(list(blocks[a:b]), layouts[a]) for a, b in runs(layouts, 0)]

    def block_keys(self, layer: int, blocks: Sequence[int]) -> list[Tensor]:
        """Un-rotated keys for late interaction, in pieces that follow one another: (blocks, tokens, width) each."""
        found = []
        for group, layout in self._groups(blocks):
            old = [b for b in group if b < self.archive.stop]
            parts = [self.key_cache.get(layer, old, layout)] if old else []
            new = [
                self.window.read(layer, *stretch)[0][0].unflatten(1, (stretch[1] - stretch[0], -1)).transpose(0, 1)
                for stretch in _stretches(group[len(old) :])
            ]
            parts += [torch.cat(new)] if new else []
            scored = layout.visual if self.config.visual_only else slice(None)
            found += [keys[:, :, scored].transpose(1, 2).flatten(2) for keys in parts]
        return found

    def forget(self) -> None:
        """Give up the recalled blocks that the device still holds; the next recall brings them from the host."""
        self.key_cache.forget()
        self.value_cache.forget()


def _stretches(blocks: Sequence[int]) -> list[tuple[int, int]]:
    """Consecutive numbers as (start, stop)."""
    found: list[tuple[int, int]] = []
    for b in blocks:
        if found and found[-1][1] == b:
            found[-1] = (found[-1][0], b + 1)
        else:
            found.append((b, b + 1))
    return found


def _raw(x: Tensor) -> bytes:
    return x.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
