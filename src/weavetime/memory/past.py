"""The memory as of one time, as modes read it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import QuestionError
from ..ops import coarse, late_interaction
from ..types import Choice
from .blocks import Provisional
from .views import View

if TYPE_CHECKING:
    from .memory import Memory


class Past:
    """The memory as of one time, as focus reads it: how many blocks, which are recent, and how near each is.

    provisional: the last of them, where the memory holds no such block.
    """

    def __init__(self, memory: Memory, count: int, at: float, provisional: Provisional | None = None) -> None:
        self._memory, self.count, self.at, self.provisional = memory, count, at, provisional

    def joined(self, provisional: Provisional) -> Past:
        """With one block more."""
        return Past(self._memory, self.count + 1, self.at, provisional)

    def view(self, choice: Choice) -> View:
        """The view that a choice of these blocks makes."""
        return self._memory.view(choice, self.provisional)

    @property
    def _kept(self) -> int:
        return self.count if self.provisional is None else self.provisional.number

    @property
    def layers(self) -> int:
        """Layers of the model."""
        return self._memory.cells.layers

    @property
    def kv_heads(self) -> int:
        """KV heads of the model."""
        return self._memory.cells.kv_heads

    @property
    def window(self) -> int | None:
        """Blocks that count as the present; None where nothing is ever evicted."""
        return self._memory.config.window

    @property
    def recent(self) -> range:
        """The blocks of the window at this time."""
        return range(0 if self.window is None else max(0, self.count - self.window), self.count)

    def coarse(self, queries: Sequence[Tensor], *, cosine: bool = False) -> Tensor:
        """Mean-key scores of every visible block: fp32 (layers, count). queries: per layer fp32 (width,)."""
        scores = [self._memory.means.scores(queries, self._kept, cosine=cosine)] if self._kept else []
        if self.provisional is not None:
            own = [coarse(q, m, cosine=cosine) for q, m in zip(queries, self.provisional.means, strict=True)]
            scores.append(torch.stack([row.to(self._memory.cells.devices[0]) for row in own]))
        return torch.cat(scores, 1)

    def coarse_layer(self, layer: int, query: Tensor, *, cosine: bool = False) -> Tensor:
        """Mean-key scores of every visible block in one layer: fp32 (count,)."""
        scores = [self._memory.means.layer_scores(layer, query, self._kept, cosine=cosine)] if self._kept else []
        if self.provisional is not None:
            scores.append(coarse(query, self.provisional.means[layer], cosine=cosine))
        return torch.cat(scores)

    def fine(self, layer: int, question: Tensor, blocks: Sequence[int], *, cosine: bool = False) -> Tensor:
        """Late interaction of question vectors fp32 (tokens, width) with blocks, in their order: fp32 (blocks,)."""
        kept = [b for b in blocks if b < self._kept]
        scores = [late_interaction(question, keys, cosine=cosine) for keys in self._memory.block_keys(layer, kept)]
        found = torch.cat(scores) if scores else question.new_empty(0)
        if len(kept) == len(blocks):
            return found
        assert self.provisional is not None
        keys, layout = self.provisional.keys[layer], self.provisional.layout
        keys = keys[:, :, layout.visual] if self._memory.config.visual_only else keys
        own = late_interaction(question, keys.transpose(1, 2).flatten(2), cosine=cosine)
        order = list(blocks).index(self._kept)  # candidates come by their coarse score
        return torch.cat((found[:order], own, found[order:]))

    def at_times(self, times: Sequence[float]) -> list[int]:
        """The block shown at each time: the last whose time is not later."""
        found = set()
        for t in times:
            block = bisect_right(self._memory.table.times, t, hi=self._kept) - 1
            if self.provisional is not None and self.provisional.time <= t:
                block = self.provisional.number
            if block < 0 or t > self.at:  # whatever was fed since: an answer knows nothing of what came later
                wrong = "has no frame at or before it" if block < 0 else f"is after {self.at:g} s, the time asked about"
                raise QuestionError(f"frames: {t:g} s {wrong}; name times of frames that were seen")
            found.add(block)
        return sorted(found)
