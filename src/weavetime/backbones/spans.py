"""Vision towers in which pictures, or windows of a picture, attend each to itself: those of one length in one call.

Left alone, the host calls attention for every one of them: 24 windows a picture of 640 x 360, in 28 layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.weak import WeakTensorKeyDictionary
from transformers import AttentionInterface

from .attach import swapped

NAME = "weavetime_flash_spans"  # the host leaves spans uncut for what has `flash` in its name

Places = list[tuple[int, Tensor]]
_known = WeakTensorKeyDictionary()  # of the ends that a forward gives to all its layers


def _places(ends: Tensor) -> Places:
    """For every length of a span: that length, and where the tokens of such spans are, (spans x length,)."""
    found: Places | None = _known.get(ends)
    if found is None:
        starts, lengths = ends[:-1], ends.diff()
        found = [
            (n, (starts[lengths == n][:, None] + torch.arange(n, device=ends.device)).flatten())
            for n in lengths.unique().tolist()
        ]
        _known[ends] = found
    return found


def _attention(
    module: Any, q: Tensor, k: Tensor, v: Tensor, attention_mask: Tensor | None, scaling: float, **kwargs: Any
) -> tuple[Tensor, None]:
    """q, k, v (1, heads, tokens, dim). `cu_seq_lens_q`: 0 and the end of every span. (1, tokens, heads, dim)."""
    places = _places(kwargs["cu_seq_lens_q"])
    if len(places) == 1:
        return _attend(places[0][0], (q[0], k[0], v[0]), scaling)[None], None
    parts = [_attend(n, tuple(x[0].index_select(1, at) for x in (q, k, v)), scaling) for n, at in places]
    order = torch.cat([at for _, at in places]).argsort()
    return torch.cat(parts).index_select(0, order)[None], None


def _attend(length: int, qkv: tuple[Tensor, ...], scaling: float) -> Tensor:
    """Spans of one length, one after another: (heads, tokens, dim) each; returns (tokens, heads, dim)."""
    q, k, v = (x.unflatten(1, (-1, length)).transpose(0, 1) for x in qkv)
    return functional.scaled_dot_product_attention(q, k, v, scale=scaling).transpose(1, 2).flatten(0, 1)


AttentionInterface.register(NAME, _attention)


@contextmanager
def together(config: Any) -> Iterator[None]:
    """Run a tower of this config so; the last to leave puts back what was there.

    A model that kept the name could not be made again from its config: the host would look for a kernel package.
    """
    with swapped((config, "_attn_implementation", NAME)):
        yield
