"""Reading a question over a view: one or more prompts at once, all over the same blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..focus import Mode
from ..memory import LayerView, Memory, Past, View
from ..ops import attend, attend_causal, merge, rotate, text_positions
from ..types import Choice


@dataclass
class Draft:
    """A prefill, ready to be decoded from or judged.

    logits fp32 (batch, vocabulary) after the last prompt token. gate: per question, None where the mode has none.
    queries: per layer (batch, heads, tokens, dim), un-rotated. own: per layer keys (rotated) and values of the
    prompt's tokens and of those to come, (batch, kv_heads, room, dim). lengths: prompt tokens of each question.
    """

    view: View
    lengths: tuple[int, ...]
    own: list[tuple[Tensor, Tensor]]
    queries: list[Tensor]
    logits: Tensor
    gate: tuple[float | None, ...]

    def only(self, rows: Sequence[int]) -> Draft:
        """The draft of some of the questions."""
        index = list(rows)
        return Draft(
            self.view,
            tuple(self.lengths[r] for r in rows),
            [(k[index], v[index]) for k, v in self.own],
            [q[index] for q in self.queries],
            self.logits[index],
            tuple(self.gate[r] for r in rows),
        )

    def queries_of(self, row: int) -> list[Tensor]:
        """One question's queries, per layer (heads, tokens, dim), padding left out."""
        return [q[row, :, : self.lengths[row]] for q in self.queries]


class PrefillPass:
    """Prompt tokens attend to the view and causally to themselves. Padding on the right is never looked at."""

    def __init__(self, view: View, room: int) -> None:
        self.view, self.room = view, room
        self.own: list[tuple[Tensor, Tensor]] = []
        self.queries: list[Tensor] = []
        self._angles: dict[tuple[int, int, torch.device], tuple[Tensor, Tensor]] = {}

    def layer_view(self, layer: int, q: Tensor) -> LayerView:
        """What this layer reads."""
        return self.view.layer(layer)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
        """One layer."""
        view = self.layer_view(layer, q)
        cos, sin = self._angle(view.end, q)
        self.queries.append(q)
        q = rotate(q, cos, sin)
        k, v = self._keep(k, v, cos, sin)
        return merge([attend(q, view.keys, view.values, scaling), attend_causal(q, k, v, scaling)])

    def _angle(self, start: int, like: Tensor) -> tuple[Tensor, Tensor]:
        key = (start, like.shape[2], like.device)
        if key not in self._angles:
            rotary = self.view.memory.rotary
            self._angles[key] = rotary.angles(text_positions(start, like.shape[2], rotary.axes), like)
        return self._angles[key]

    def _keep(self, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Rotate and keep the prompt's keys and values, with room behind them; returns the prompt's."""
        batch, heads, length, dim = k.shape
        keys, values = (k.new_zeros(batch, heads, length + self.room, dim) for _ in range(2))
        self.own.append((keys, values))
        values[:, :, :length] = v
        return rotate(k, cos, sin, keys[:, :, :length]), values[:, :, :length]


class PickPass(PrefillPass):
    """ReKV's first pass: each layer picks its blocks with this pass's own queries, then reads them."""

    def __init__(self, memory: Memory, past: Past, mode: Mode, check: Callable[[View], None]) -> None:
        super().__init__(memory.view(Choice.same((), memory.cells.layers)), 0)
        self.past, self.mode, self.check = past, mode, check
        self.picked: list[tuple[list[int], list[float]]] = []

    def layer_view(self, layer: int, q: Tensor) -> LayerView:
        """Pick, then lay out."""
        blocks, scores = self.mode.pick(layer, q[0], self.past)
        self.picked.append((blocks, scores))
        view = self.past.view(Choice.same(blocks, self.past.layers))
        self.check(view)
        return view.layer(layer)

    @property
    def choice(self) -> Choice:
        """What the layers picked."""
        blocks, scores = zip(*self.picked, strict=True)
        return Choice(tuple(map(tuple, blocks)), tuple(map(tuple, scores)))


class ProvisionalPass:
    """One step, encoded as an append would encode it after the view's blocks, with its keys and values kept apart."""

    def __init__(self, view: View, positions: Tensor) -> None:
        self.view, self.positions = view, positions
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
        """One layer."""
        self.keys.append(k.contiguous())
        self.values.append(v.contiguous())
        cos, sin = self.view.memory.rotary.angles(self.positions, q)
        q, k, view = rotate(q, cos, sin), rotate(k, cos, sin), self.view.layer(layer)
        return merge([attend(q, view.keys, view.values, scaling), attend_causal(q, k, v, scaling)])


def pad(rows: Sequence[Tensor]) -> Tensor:
    """Token ids of several prompts, padded on the right: (batch, longest)."""
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
