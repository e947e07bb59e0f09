"""What is known of each block without its keys and values: integers, times and its layout. No tensor work here."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from ..ops import BlockLayout


@dataclass(frozen=True)
class Cells:
    """The shape of one token's memory: what keys and values of this model look like, and where each layer lives."""

    kv_heads: int
    dim: int
    dtype: torch.dtype
    devices: tuple[torch.device, ...]

    @property
    def layers(self) -> int:
        """Layers, one device each."""
        return len(self.devices)

    @property
    def width(self) -> int:
        """Numbers in one key of one layer: KV heads x dim."""
        return self.kv_heads * self.dim

    @property
    def token_bytes(self) -> int:
        """Bytes of one token's keys and values over all layers."""
        return 2 * self.layers * self.width * self.dtype.itemsize


@dataclass(frozen=True)
class Sink:
    """The tokens that open every view and are never evicted; per layer, un-rotated (1, kv_heads, tokens, dim).

    text: how many of them are text; the rest open the wrapper around a video, and a view without pictures drops them.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    text: int

    @property
    def tokens(self) -> int:
        """Tokens in the sink."""
        return self.keys[0].shape[2]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(t.nbytes for t in (*self.keys, *self.values))


@dataclass(frozen=True)
class Provisional:
    """A step that lacks a frame, encoded for one question and not kept: to that question it is block `number`.

    keys, values: per layer (1, kv_heads, tokens, dim), un-rotated. means: per layer, its mean key (1, width).
    shown: where it stands for many frames, and is no step of the stream, the times of those it shows whole, seconds.
    """

    number: int
    time: float
    layout: BlockLayout
    keys: Sequence[Tensor]
    values: Sequence[Tensor]
    means: Sequence[Tensor]
    shown: tuple[float, ...] | None = None


@dataclass
class Table:
    """Append-only list of blocks: times, ends (seconds), layouts, and the token each block starts at in the stream.

    whole: the time of each block's last frame, from which on it may be seen.
    """

    times: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    layouts: list[BlockLayout] = field(default_factory=list)
    offsets: list[int] = field(default_factory=lambda: [0])

    def __len__(self) -> int:
        return len(self.times)

    def add(self, time: float, end: float, layout: BlockLayout, whole: float | None = None) -> None:
        """Append one block."""
        self.ends.append(end)
        self.whole.append(time if whole is None else whole)
        self.layouts.append(layout)
        self.offsets.append(self.offsets[-1] + layout.tokens)
        self.times.append(time)  # last: a reader in another thread counts blocks by their times

    def truncate(self, count: int) -> None:
        """Forget blocks from `count` on: an append that failed."""
        del self.times[count:], self.ends[count:], self.whole[count:], self.layouts[count:], self.offsets[count + 1 :]

    def visible(self, at: float) -> int:
        """How many blocks have all their frames at or before a time."""
        return bisect_right(self.whole, at)


def runs(layouts: Sequence[BlockLayout], first: int) -> list[tuple[int, int]]:
    """Cut consecutive blocks, numbered from `first`, into (start, stop) stretches of one layout."""
    cuts = [i for i in range(1, len(layouts)) if layouts[i] is not layouts[i - 1]]
    edges = [0, *cuts, len(layouts)]
    return [(first + a, first + b) for a, b in pairwise(edges) if a < b]
