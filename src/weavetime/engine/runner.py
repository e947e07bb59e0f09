"""The only code that runs a model: one method a pass. What was computed lives in the memory and in drafts, not here."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..backbones import Backbone, Grid, Prompt, Steps, attached
from ..config import Decoding, StreamConfig
from ..errors import CapacityError, ModelError, NumericsError, OutOfMemoryError
from ..focus import Mode, entropy_gate
from ..memory import Cells, Memory, Past, Provisional, Sink, View
from ..ops import attend_causal, rotate, text_positions
from ..types import Choice, Frame
from .append import AppendPass, mean_keys
from .decode import DecodePass, Sampler
from .graph import Slot, Slots
from .prefill import Draft, PickPass, PrefillPass, ProvisionalPass, pad
from .star import star_memory


class _SinkPass:
    """The tokens that open every view, encoded once; plain causal attention, keys and values kept un-rotated."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
        self.keys.append(k.contiguous())
        self.values.append(v.contiguous())
        rotary = self.backbone.rotary
        cos, sin = rotary.angles(text_positions(0, q.shape[2], rotary.axes), q)
        return attend_causal(rotate(q, cos, sin), rotate(k, cos, sin), v, scaling).out.flatten(1, 2)


class Runner:
    """A loaded model and its passes. One lock: one forward at a time, whoever asks.

    What it keeps between calls is the buffers of decode graphs; their contents belong to one answer at a time.
    """

    def __init__(self, backbone: Backbone) -> None:
        self._backbone: Backbone | None = backbone
        self.lock = threading.RLock()
        self._slots = Slots()

    @property
    def backbone(self) -> Backbone:
        """The model and its family."""
        if self._backbone is None:
            raise ModelError("the engine is closed: load the model again")
        return self._backbone

    def close(self) -> None:
        """Let go of the model, for every stream that uses this runner."""
        with self.lock:
            self._backbone = None
            self._slots.clear()

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Out of memory becomes our own error."""
        try:
            yield
        except RuntimeError as e:
            if not isinstance(e, torch.OutOfMemoryError) and "can't allocate memory" not in str(e):
                raise
            raise OutOfMemoryError(
                "the device is out of memory: use a smaller window, batch, cache or k, or a smaller model"
            ) from e

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold the lock, compute without gradients; raises ModelError where the engine is closed."""
        with self.lock, torch.inference_mode(), self.guarded():
            _ = self.backbone
            yield

    @contextmanager
    def running(self) -> Iterator[None]:
        """Hold the lock with the model attached."""
        with self.lock, attached(self.backbone.decoder, self.backbone.head_dim), self.guarded():
            yield

    def _forward(self, embeds: Tensor, plan: Any, **more: Any) -> Any:
        out = self.backbone.decoder(inputs_embeds=embeds, memory=plan, use_cache=False, **more)
        if not bool(torch.isfinite(out.last_hidden_state).all()):
            raise NumericsError(
                "the model produced values that are not finite, so nothing was kept: try dtype bfloat16 or float32"
            )
        return out

    @cached_property
    def sink(self) -> Sink:
        """The tokens that open every view."""
        ids, text = self.backbone.sink
        plan = _SinkPass(self.backbone)
        with self.running():
            self._forward(self.backbone.embed_ids(ids[None]), plan)
        return Sink(tuple(plan.keys), tuple(plan.values), text)

    @cached_property
    def cells(self) -> Cells:
        """The shape of a token's memory; each layer lives where the model runs it."""
        b, keys = self.backbone, self.sink.keys
        return Cells(b.kv_heads, b.head_dim, keys[0].dtype, tuple(k.device for k in keys))

    def memory(self, config: StreamConfig) -> Memory:
        """An empty memory for one stream."""
        with self.reading():
            if config.memory != "blocks":
                return star_memory(self, config)
            timeline = self.backbone.timeline(config.fps)
            return Memory(self.cells, self.sink, self.backbone.rotary, config, timeline)

    def embed(self, frames: Sequence[Frame], grid: Grid, fps: float) -> list[Steps]:
        """Pictures to steps ready to be appended, cut into stretches of one layout."""
        with self.reading():
            return self.backbone.steps(frames, grid, fps)

    def first(self, frame: Frame, grid: Grid, fps: float) -> Frame:
        """The first frame of a step of two as it is kept until the second comes, and after."""
        with self.reading():
            return self.backbone.kept(frame, grid, fps)

    def append(self, memory: Memory, steps: Steps) -> None:
        """Encode steps of one layout and commit them as blocks, all or, on any error, none.

        Where the call's context is too wide for its gaps in time to be kept, each step has gaps of its own, and the
        steps are encoded and committed one by one.
        """
        count = len(steps.times)
        self._check_window(memory, steps, count)
        if count > 1 and not self._keeps_gaps(memory, steps):
            for one in steps.singles():
                self.append(memory, one)
            return
        with self.running():
            memory.reserve(count, steps.layout)
            plan = AppendPass(memory, steps.layout, [time for time, _ in steps.times])
            self._forward(steps.embeds, plan, **steps.more)
            memory.commit(steps.times, steps.layout, plan.means, steps.firsts, steps.whole)

    @staticmethod
    def _keeps_gaps(memory: Memory, steps: Steps) -> bool:
        times, size = memory.table.times, memory.window.size
        seen = times if size is None else times[-size:]
        first = seen[0] if seen else steps.times[0][0]
        return memory.timeline is None or memory.timeline.fits(first, steps.times[-1][0])

    def provisional(self, memory: Memory, past: Past, steps: Steps) -> Provisional:
        """Encode one step as it would stand after the blocks of `past`; the memory stays as it is."""
        self._check_window(memory, steps, 1)
        [(time, _)], layout = steps.times, steps.layout
        before = list(past.recent)
        table, view = memory.table, memory.view(Choice.same(before, past.layers))
        layouts, times = [table.layouts[b] for b in before], [table.times[b] for b in before]
        placed = memory.place([*layouts, layout], [*times, time], memory.sink.tokens)
        plan = self.aside(view, placed.positions[:, -layout.tokens :], steps.embeds, **steps.more)
        visual = memory.config.visual_only
        means = [mean_keys(k, layout, 1, visual_only=visual) for k in plan.keys]
        return Provisional(past.count, time, layout, plan.keys, plan.values, means)

    def aside(self, view: View, positions: Tensor, embeds: Tensor, **more: Any) -> ProvisionalPass:
        """Encode tokens behind a view, their keys and values kept apart from every memory."""
        plan = ProvisionalPass(view, positions)
        with self.running():
            self._forward(embeds, plan, **more)
        return plan

    def _check_window(self, memory: Memory, steps: Steps, count: int) -> None:
        size, layout = memory.window.size, steps.layout
        most = layout.fitting(self.backbone.max_positions - memory.sink.tokens)
        if (len(memory.table) + count if size is None else size + 1) > most:
            fits = max(0, most if size is None else most - 1)  # a window stands before the step that looks at it
            raise CapacityError(
                f"a window of {'every block' if size is None else f'{size} blocks'} does not fit the model's "
                f"{self.backbone.max_positions} positions at {layout.tokens} tokens a block: at most {fits} blocks do"
            )

    def pick(self, memory: Memory, past: Past, prompt: Prompt, mode: Mode) -> Choice:
        """One pass over the question's text in which each layer picks its blocks (ReKV)."""
        longest = max(len(prompt.ids), len(prompt.text))  # the prompt will be read over what is picked
        plan = PickPass(memory, past, mode, lambda view: self._check_view(view, longest))
        with self.running():
            self._forward(self.backbone.embed_ids(prompt.text[None]), plan)
        return plan.choice

    def prefill(self, view: View, prompts: Sequence[Prompt], room: int, gate_layers: int = 0) -> Draft:
        """Read prompts over a view, with room for `room` tokens more; gate_layers 0 computes no gate."""
        rows = [p.ids[p.head :] if view.choice.bare else p.ids for p in prompts]
        lengths = tuple(len(r) for r in rows)
        self._check_view(view, max(lengths))
        room = min(room, self.backbone.max_positions - view.end - max(lengths))
        plan = PrefillPass(view, room)
        with self.running():
            more = {"output_hidden_states": True} if gate_layers > 1 else {}
            out = self._forward(self.backbone.embed_ids(pad(rows)), plan, **more)
            last = torch.tensor(lengths, device=out.last_hidden_state.device) - 1
            logits = self._logits(_at(out.last_hidden_state, last))
            gate: tuple[float | None, ...] = (None,) * len(rows)
            if gate_layers:
                gate = tuple(self._gate(out, last, logits, gate_layers).tolist())
        return Draft(view, lengths, plan.own, plan.queries, logits, gate)

    def _check_view(self, view: View, text: int) -> None:
        """text: tokens that follow the view."""
        end, most = view.end + text, self.backbone.max_positions
        if end > most:
            raise CapacityError(
                f"the view and the question take {end} positions and the model has {most}: at most "
                f"{view.fitting(most - text)} blocks fit before this question; use fewer blocks (k, window) or a "
                "shorter question"
            )

    def _gate(self, out: Any, last: Tensor, logits: Tensor, layers: int) -> Tensor:
        gates = [entropy_gate(logits)]
        # The host's last hidden state is normed already, the ones before it are not.
        for hidden in out.hidden_states[1:][-layers:-1] if layers > 1 else ():  # the first is no layer's
            normed = self.backbone.decoder.norm(_at(hidden, last))
            gates.append(entropy_gate(self._logits(normed)).to(gates[0].device))
        return torch.stack(gates).mean(0)

    def _logits(self, hidden: Tensor) -> Tensor:
        return self._finite(self.backbone.logits(hidden))

    @staticmethod
    def _finite(logits: Tensor) -> Tensor:
        if not bool(torch.isfinite(logits).all()):
            raise NumericsError("the model's logits are not finite: try another dtype (bfloat16, float32)")
        return logits

    def decode(self, draft: Draft, decoding: Decoding) -> Iterator[list[int]]:
        """One id a question at a time, until the caller has enough or the room is used up.

        The lock is held for one forward at a time: frames and other questions go on in between.
        """
        sample = Sampler(decoding, len(draft.lengths))
        ids = sample(draft.logits)
        yield ids
        room = draft.own[0][0].shape[2] - max(draft.lengths)
        if room <= 1:
            return
        with self.reading():
            slot = self._slots.borrow(draft, self.backbone)
        try:
            for step in range(room - 1):
                ids = sample(self._next(draft, slot, ids, step))
                yield ids
        finally:
            if slot is not None:
                with self.lock:
                    self._slots.give_back(slot)
                    if self._backbone is None:
                        self._slots.clear()

    def _next(self, draft: Draft, slot: Slot | None, ids: list[int], step: int) -> Tensor:
        if slot is not None:  # a captured forward needs no attaching
            with self.reading():
                return self._finite(slot.next(ids[0]).clone())
        with self.running():
            embeds = self.backbone.embed_ids(torch.tensor(ids)[:, None])
            return self._logits(self._forward(embeds, DecodePass(draft, step)).last_hidden_state[:, -1])


def _at(hidden: Tensor, last: Tensor) -> Tensor:
    """Hidden states (batch, hidden) at each row's last prompt token."""
    return hidden[torch.arange(len(last), device=hidden.device), last.to(hidden.device)]
