"""How the memory meets the model: transformers classes stay as they are, and are switched for the length of a `with`.

Inside, the decoder's rotary module gives angle zero, so keys reach the attention function un-rotated, and the attention
function hands each layer's work to the pass given as the forward's `memory=` argument.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

NAME = "weavetime"


class Pass(Protocol):
    """One forward's plan: what each layer attends to."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
        """q (batch, heads, tokens, dim), k and v (batch, kv_heads, tokens, dim), un-rotated; returns q's shape."""


def _attention(
    module: Any, q: Tensor, k: Tensor, v: Tensor, attention_mask: Tensor | None, scaling: float, **kwargs: Any
) -> tuple[Tensor, None]:
    plan = kwargs.get("memory")
    if plan is None:
        raise RuntimeError("this model is attached to a weavetime memory: call it with memory=, or after the `with`")
    return plan.attend(module.layer_idx, q, k, v, scaling).transpose(1, 2), None


AttentionInterface.register(NAME, _attention)


class _NoRotation(nn.Module):
    """Angle zero at every position."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor, position_ids: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x.new_ones(1, 1, self.dim), x.new_zeros(1, 1, self.dim)


_lock = threading.Lock()
_inside: dict[int, tuple[int, list[Any]]] = {}  # by the first owner's id: how many are inside, and what to put back


@contextmanager
def swapped(*changes: tuple[Any, str, Any]) -> Iterator[None]:
    """Set attributes, as (owner, name, value); the last to leave puts everything back."""
    key = id(changes[0][0])
    with _lock:
        count, before = _inside.get(key, (0, [getattr(owner, name) for owner, name, _ in changes]))
        _inside[key] = count + 1, before
        if not count:
            for owner, name, value in changes:
                setattr(owner, name, value)
    try:
        yield
    finally:
        with _lock:
            count, before = _inside.pop(key)
            if count > 1:
                _inside[key] = count - 1, before
            else:
                for (owner, name, _), value in zip(changes, before, strict=True):
                    setattr(owner, name, value)


@contextmanager
def switched(decoder: Any, head_dim: int) -> Iterator[None]:
    """Switch a decoder (`model.model.language_model`) to memory passes; the last to leave puts everything back.

    Models made from one config object share its attention setting: switching one switches the other too.
    """
    with swapped((decoder, "rotary_emb", _NoRotation(head_dim)), (decoder.config, "_attn_implementation", NAME)):
        yield


@contextmanager
def attached(decoder: Any, head_dim: int) -> Iterator[None]:
    """`switched`, without gradients: how the engine runs a model."""
    with switched(decoder, head_dim), torch.inference_mode():
        yield
