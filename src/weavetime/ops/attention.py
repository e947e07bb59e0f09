"""Attention in parts: each part gives its output and its log-sum-exp, and parts over disjoint keys are merged exactly.

Shapes: queries (batch, heads, queries, dim); keys and values (batch, kv_heads, keys, dim); query head j belongs to KV
head j // (heads / kv_heads). All of these are dense on the last axis; any other stride is allowed, overlaps included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class Part:
    """Attention over some of the keys: out (batch, heads, queries, dim) and lse fp32 (batch, heads, queries)."""

    out: Tensor
    lse: Tensor


def attention_reference(q: Tensor, k: Tensor, v: Tensor, scaling: float, mask: Tensor | None = None) -> Part:
    """Plain attention, softmax in fp32. mask: bool, True where a query may look, broadcast to (batch, heads, q, k)."""
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scores = (q @ k.mT).float() * scaling
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    lse = scores.logsumexp(-1)
    weights = (scores - lse[..., None]).exp().to(v.dtype)
    return Part(weights @ v, lse)


def attend(q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Part:
    """Every query looks at every key. Query heads of a KV group are folded into the query axis: keys are read once."""
    batch, heads, length, dim = q.shape
    folded = q.reshape(batch, k.shape[1], -1, dim)
    part = _fused(folded, k, v, scaling, causal=False)
    return Part(part.out.reshape(batch, heads, length, dim), part.lse.reshape(batch, heads, length))


def attend_causal(q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Part:
    """As many queries as keys; query i looks at keys 0..i."""
    group = q.shape[1] // k.shape[1]
    return _fused(q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1), scaling, causal=True)


def _fused(q: Tensor, k: Tensor, v: Tensor, scaling: float, *, causal: bool) -> Part:
    # These are the operators under `scaled_dot_product_attention`; that public form does not give the log-sum-exp.
    if q.is_cuda and q.dtype in HALF and q.shape[-1] % 8 == 0:
        out, lse, *_ = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, 0.0, causal, False, scale=scaling)
        return Part(out, lse)
    if not q.is_cuda:
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal, scale=scaling)
        return Part(out, lse)
    mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril() if causal else None
    return attention_reference(q, k, v, scaling, mask)


def merge(parts: Sequence[Part]) -> Part:
    """Exact attention over the union of the parts' keys; at least one part must hold a key for every query."""
    if len(parts) == 1:
        return parts[0]
    lse = parts[0].lse
    for part in parts[1:]:
        lse = torch.logaddexp(lse, part.lse)
    out = torch.zeros_like(parts[0].out, dtype=torch.float32)
    for part in parts:
        out.addcmul_(part.out.float(), (part.lse - lse).exp()[..., None])
    return Part(out.to(parts[0].out.dtype), lse)


def windows(x: Tensor, count: int, width: int, step: int) -> Tensor:
    """`count` overlapping windows of `width` tokens, `step` apart, of x (1, kv_heads, tokens, dim), without a copy.

    Returns (count, kv_heads, width, dim).
    """
    _, heads, _, dim = x.shape
    _, sh, st, sd = x.stride()
    return x.as_strided((count, heads, width, dim), (step * st, sh, st, sd), x.storage_offset())
