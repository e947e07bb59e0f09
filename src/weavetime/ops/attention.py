"""Attention in parts: each part gives its output and its log-sum-exp, and parts over disjoint keys are merged exactly.

Shapes: queries (batch, heads, queries, dim); keys and values (batch, kv_heads, keys, dim); query head j belongs to KV
head j // (heads / kv_heads). All of these are dense on the last axis; any other stride is allowed, overlaps included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from . import kernels

HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class Part:
    """Attention over some of the keys, by KV head and the group of query heads that share it.

    out (batch, kv_heads, group, queries, dim), lse fp32 (batch, kv_heads, group, queries); any strides.
    """

    out: Tensor
    lse: Tensor


def attention_reference(q: Tensor, k: Tensor, v: Tensor, scaling: float, mask: Tensor | None = None) -> Part:
    """Plain attention, softmax in fp32. mask: bool, True where a query may look, broadcast to (batch, heads, q, k)."""
    kv_heads = k.shape[1]
    group = q.shape[1] // kv_heads
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scores = (q @ k.mT).to(torch.promote_types(q.dtype, torch.float32)) * scaling
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    lse = scores.logsumexp(-1)
    weights = (scores - lse[..., None]).exp().to(v.dtype)
    return Part((weights @ v).unflatten(1, (kv_heads, group)), lse.unflatten(1, (kv_heads, group)))


def attend(q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Part:
    """Every query looks at every key, and keys are read once.

    Query heads of a KV group are folded into the query axis; where keys have batch 1 and queries more, so is the batch.
    """
    batch, heads, length, _ = q.shape
    rows, kv_heads = k.shape[:2]
    group = heads // kv_heads
    folded = q.unflatten(1, (kv_heads, group))
    if rows == batch:
        out, lse = _fused(folded.flatten(2, 3), k, v, scaling, causal=False)
        return Part(out.unflatten(2, (group, length)), lse.unflatten(2, (group, length)))
    out, lse = _fused(folded.transpose(0, 1).flatten(1, 3)[None], k, v, scaling, causal=False)
    shape = (batch, group, length)
    return Part(out[0].unflatten(1, shape).transpose(0, 1), lse[0].unflatten(1, shape).transpose(0, 1))


def attend_causal(q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Part:
    """As many queries as keys; query i looks at keys 0..i."""
    kv_heads = k.shape[1]
    group = q.shape[1] // kv_heads
    out, lse = _fused(q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1), scaling, causal=True)
    return Part(out.unflatten(1, (kv_heads, group)), lse.unflatten(1, (kv_heads, group)))


def _fused(q: Tensor, k: Tensor, v: Tensor, scaling: float, *, causal: bool) -> tuple[Tensor, Tensor]:
    # These are the operators under `scaled_dot_product_attention`; that public form does not give the log-sum-exp.
    if q.is_cuda and q.dtype in HALF and q.shape[-1] % 8 == 0 and _has_flash(q.device):
        out, lse, *_ = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, 0.0, causal, False, scale=scaling)
        return out, lse
    if not q.is_cuda:
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal, scale=scaling)
        return out, lse
    mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril() if causal else None
    part = attention_reference(q, k, v, scaling, mask)
    return part.out.flatten(1, 2), part.lse.flatten(1, 2)


@cache
def _has_flash(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= (8, 0)


def merge_reference(parts: Sequence[Part]) -> Tensor:
    """Exact attention over the union of the parts' keys: (batch, heads, queries, dim).

    At least one part must hold a key for every query.
    """
    lse = torch.stack([p.lse for p in parts]).logsumexp(0)
    out = sum(p.out.to(lse.dtype) * (p.lse - lse).exp()[..., None] for p in parts)
    assert isinstance(out, Tensor)
    return out.to(parts[0].out.dtype).flatten(1, 2)


def merge(parts: Sequence[Part]) -> Tensor:
    """`merge_reference`, in one pass over memory where a kernel is there."""
    first = parts[0].out
    if first.is_cuda and kernels.AVAILABLE and 2 <= len(parts) <= 3 and first.dtype is not torch.float64:
        return kernels.merge([(p.out, p.lse) for p in parts])
    return merge_reference(parts)


def windows(x: Tensor, count: int, width: int, step: int) -> Tensor:
    """`count` overlapping windows of `width` tokens, `step` apart, of x (1, kv_heads, tokens, dim), without a copy.

    Returns (count, kv_heads, width, dim).
    """
    _, heads, _, dim = x.shape
    _, sh, st, sd = x.stride()
    return x.as_strided((count, heads, width, dim), (step * st, sh, st, sd), x.storage_offset())
