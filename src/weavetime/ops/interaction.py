"""How near a question is to a block (paper §3): by its mean key, and by late interaction with each of its keys.

A question token is one vector: query heads averaged per KV group, KV heads concatenated, width kv_heads x dim; a key is
its KV heads concatenated. Both un-rotated.
"""

from __future__ import annotations

import torch
from torch import Tensor


def question_vectors(q: Tensor, kv_heads: int) -> Tensor:
    """q (heads, tokens, dim), un-rotated, to fp32 (tokens, kv_heads x dim)."""
    heads, tokens, dim = q.shape
    grouped = q.float().view(kv_heads, heads // kv_heads, tokens, dim).mean(1)
    return grouped.transpose(0, 1).reshape(tokens, kv_heads * dim)


def coarse(query: Tensor, means: Tensor, *, cosine: bool = False) -> Tensor:
    """Mean question vector fp32 (..., width) against mean keys (..., blocks, width): fp32 (..., blocks)."""
    keys = means.float()
    if cosine:
        query, keys = (torch.nn.functional.normalize(x, dim=-1) for x in (query, keys))
    return (keys @ query[..., None])[..., 0]


def late_interaction(question: Tensor, keys: Tensor, *, cosine: bool = False) -> Tensor:
    """MaxSim: for each question token the best of a block's keys, then the mean over question tokens.

    question fp32 (tokens, width), keys (blocks, block_tokens, width); fp32 (blocks,).
    """
    keys = keys.float()
    if cosine:
        question, keys = (torch.nn.functional.normalize(x, dim=-1) for x in (question, keys))
    return (keys @ question.mT).amax(1).mean(-1)


def newest_first_topk(scores: Tensor, k: int) -> Tensor:
    """Indices of the k largest scores along the last axis, ties to the more recent, sorted by time."""
    count = scores.shape[-1]
    order = scores.flip(-1).sort(dim=-1, descending=True, stable=True).indices[..., :k]
    return (count - 1 - order).sort(-1).values
