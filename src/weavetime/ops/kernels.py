"""Triton forms of the plain operations beside this file; each is compared with its reference in tests marked `gpu`."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor

AVAILABLE = importlib.util.find_spec("triton") is not None and torch.cuda.is_available()

if AVAILABLE:
    import triton
    import triton.language as tl
else:  # the names below exist so that this file imports anywhere; nothing calls them

    class _Absent:
        constexpr: Any = None

        def jit(self, fn: Any) -> Any:
            return fn

    triton = _Absent()
    tl = _Absent()


@triton.jit
def _rotate_kernel(x, cos, sin, out, rows, tokens, s_b, s_h, s_t, heads, HALF: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = (row < rows)[:, None]
    token = row % tokens
    head = (row // tokens) % heads
    batch = row // (tokens * heads)
    i = tl.arange(0, HALF)[None, :]
    source = (batch.to(tl.int64) * s_b + head.to(tl.int64) * s_h + token.to(tl.int64) * s_t)[:, None] + i
    angle = token[:, None] * (2 * HALF) + i
    target = row.to(tl.int64)[:, None] * (2 * HALF) + i
    a = tl.load(x + source, mask=live, other=0.0)
    b = tl.load(x + source + HALF, mask=live, other=0.0)
    c0 = tl.load(cos + angle, mask=live, other=0.0).to(tl.float32)
    c1 = tl.load(cos + angle + HALF, mask=live, other=0.0).to(tl.float32)
    s0 = tl.load(sin + angle, mask=live, other=0.0).to(tl.float32)
    s1 = tl.load(sin + angle + HALF, mask=live, other=0.0).to(tl.float32)
    fa, fb = a.to(tl.float32), b.to(tl.float32)
    tl.store(out + target, (fa * c0 - fb * s0).to(out.dtype.element_ty), mask=live)
    tl.store(out + target + HALF, (fb * c1 + fa * s1).to(out.dtype.element_ty), mask=live)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate x (batch, heads, tokens, dim), any strides with a dense last axis, by angles (tokens, dim)."""
    batch, heads, tokens, dim = x.shape
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    rows, block = batch * heads * tokens, 16
    grid = ((rows + block - 1) // block,)
    with torch.cuda.device(x.device):
        _rotate_kernel[grid](
            x, cos, sin, out, rows, tokens, x.stride(0), x.stride(1), x.stride(2), heads, HALF=dim // 2, BLOCK=block
        )
    return out
