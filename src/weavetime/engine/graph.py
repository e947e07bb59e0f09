"""Decoding as one CUDA graph a token: buffers that stay, lengths and positions as tensors, one launch on the host.

A graph is tied to its buffers, so a reply borrows a slot (buffers and graph) and gives it back. Results equal the eager
pass within rounding; `gpu` tests compare them.
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor

from ..backbones import Backbone, attached
from ..ops import kernels, rotate, text_positions
from .prefill import Draft

STEP = 4096  # tokens; capacities are multiples of this, so that few graphs serve views of any size
_capturing = threading.Lock()  # a process captures one graph at a time
ROOM = 1024  # angles kept for the tokens of one answer


class Slot:
    """Buffers for one answer being written, and the graph that writes its next token.

    Keys (rotated) and values of view, prompt and answer lie in one run of `capacity` tokens a layer.
    """

    def __init__(self, backbone: Backbone, layers: int, capacity: int, like: Tensor) -> None:
        self.backbone, self.capacity = backbone, capacity
        shape = (1, backbone.kv_heads, capacity, backbone.head_dim)
        self.keys, self.values = ([like.new_zeros(shape) for _ in range(layers)] for _ in range(2))
        device = like.device
        self.cos, self.sin = (like.new_zeros(ROOM, backbone.head_dim) for _ in range(2))
        self.ids = torch.zeros(1, 1, dtype=torch.int64, device=device)
        self.step = torch.zeros(1, dtype=torch.int64, device=device)
        self.slot = torch.zeros(1, dtype=torch.int64, device=device)
        self.length = torch.zeros(1, dtype=torch.int32, device=device)
        self.logits: Tensor = torch.empty(0)
        self._graph: torch.cuda.CUDAGraph | None = None

    @property
    def nbytes(self) -> int:
        """Bytes held by the buffers."""
        return sum(t.nbytes for t in (*self.keys, *self.values, self.cos, self.sin))

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
        """One layer of the captured forward."""
        cos, sin = self.cos.index_select(0, self.step), self.sin.index_select(0, self.step)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        self.keys[layer].index_copy_(2, self.slot, k)
        self.values[layer].index_copy_(2, self.slot, v.contiguous())
        return kernels.decode_attention(q, self.keys[layer], self.values[layer], self.length, scaling)

    def fill(self, draft: Draft) -> None:
        """Take over a prefill: its view, then its prompt."""
        prompt = draft.lengths[0]
        for layer, own in enumerate(draft.own):
            view = draft.view.layer(layer)
            size = view.keys.shape[2]
            for target, seen, said in ((self.keys, view.keys, own[0]), (self.values, view.values, own[1])):
                target[layer][:, :, :size] = seen
                target[layer][:, :, size : size + prompt] = said[:, :, :prompt]
        used = draft.view.layer(0).keys.shape[2] + prompt
        rotary = self.backbone.rotary
        positions = text_positions(draft.view.layer(0).end + prompt, ROOM, rotary.axes)
        cos, sin = rotary.angles(positions, self.keys[0])
        self.cos.copy_(cos)
        self.sin.copy_(sin)
        self.step.zero_()
        self.slot.fill_(used)
        self.length.fill_(used + 1)

    def next(self, token: int) -> Tensor:
        """Logits fp32 (1, vocabulary) after one more token."""
        self.ids.fill_(token)
        if self._graph is None:
            self._capture()
        assert self._graph is not None
        self._graph.replay()
        return self.logits

    def _forward(self) -> Tensor:
        embeds = self.backbone.decoder.embed_tokens(self.ids)
        out = self.backbone.decoder(inputs_embeds=embeds, memory=self, use_cache=False)
        logits = self.backbone.logits(out.last_hidden_state[:, -1])
        for counter in (self.step, self.slot, self.length):
            counter.add_(1)
        return logits

    def _capture(self) -> None:
        before = [t.clone() for t in (self.step, self.slot, self.length)]
        device = self.ids.device
        with attached(self.backbone.decoder, self.backbone.head_dim), _capturing, torch.cuda.device(device):
            self._forward()  # compiles kernels, and takes workspaces, outside the graph
            torch.cuda.synchronize(device)
            graph = torch.cuda.CUDAGraph()
            # torch's own capture stream belongs to the card it was first used on. Another thread may be pinning memory
            # meanwhile: only this thread's calls count.
            stream = torch.cuda.Stream(device)
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                self.logits = self._forward()
        for counter, value in zip((self.step, self.slot, self.length), before, strict=True):
            counter.copy_(value)
        self._graph = graph


class Slots:
    """Slots to borrow; at most `most` are there at once, in use or not."""

    def __init__(self, most: int = 2) -> None:
        self.most = most
        self._free: list[Slot] = []
        self._used: list[Slot] = []

    @property
    def nbytes(self) -> int:
        """Bytes held by all slots."""
        return sum(slot.nbytes for slot in (*self._free, *self._used))

    def fits(self, draft: Draft, backbone: Backbone) -> bool:
        """Whether a graph can serve this draft: one question, one card with all weights, one layout in every layer."""
        layers = [draft.view.layer(i) for i in range(len(draft.own))]
        first = layers[0]
        return (
            kernels.AVAILABLE
            and len(draft.lengths) == 1
            and all(p.device == first.keys.device for p in backbone.decoder.parameters())
            and draft.logits.device == first.keys.device
            and draft.own[0][0].shape[2] - draft.lengths[0] <= ROOM
            and all(
                v.keys.is_cuda
                and v.keys.device == first.keys.device
                and v.keys.shape == first.keys.shape
                and v.end == first.end
                for v in layers
            )
        )

    def borrow(self, draft: Draft, backbone: Backbone) -> Slot | None:
        """A slot filled with the draft; None where all are in use, none can serve it, or there is no memory for one."""
        if not self.fits(draft, backbone):
            return None
        keys = draft.view.layer(0).keys
        needed = keys.shape[2] + draft.own[0][0].shape[2]
        slot = next((s for s in self._free if s.capacity >= needed), None)
        if slot is None:
            self._free.clear()  # too small: their memory goes first
            if len(self._used) == self.most:
                return None
        try:
            slot = slot or Slot(backbone, len(draft.own), -(-needed // STEP) * STEP, keys)
            slot.fill(draft)
        except torch.OutOfMemoryError:  # without a graph it is slower, and takes no memory of its own
            self._free.clear()
            return None
        self._free = [s for s in self._free if s is not slot]
        self._used.append(slot)
        return slot

    def give_back(self, slot: Slot) -> None:
        """The next answer may use it, where the engine still stands."""
        self._used.remove(slot)
        self._free.append(slot)

    def clear(self) -> None:
        """Free the slots that are not in use."""
        self._free.clear()
