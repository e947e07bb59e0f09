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
def _rotate_kernel(
    x, cos, sin, out, rows, tokens, heads, x_batch, x_head, x_token, o_batch, o_head, o_token, a_batch,
    HALF: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    i = tl.arange(0, WIDE)[None, :]
    live = (row < rows)[:, None] & (i < HALF)
    token = row % tokens
    head = ((row // tokens) % heads).to(tl.int64)
    batch = (row // (tokens * heads)).to(tl.int64)
    source = (batch * x_batch + head * x_head + token.to(tl.int64) * x_token)[:, None] + i
    target = (batch * o_batch + head * o_head + token.to(tl.int64) * o_token)[:, None] + i
    angle = (batch * a_batch + token)[:, None] * (2 * HALF) + i
    a = tl.load(x + source, mask=live, other=0.0).to(tl.float32)
    b = tl.load(x + source + HALF, mask=live, other=0.0).to(tl.float32)
    c0 = tl.load(cos + angle, mask=live, other=0.0).to(tl.float32)
    c1 = tl.load(cos + angle + HALF, mask=live, other=0.0).to(tl.float32)
    s0 = tl.load(sin + angle, mask=live, other=0.0).to(tl.float32)
    s1 = tl.load(sin + angle + HALF, mask=live, other=0.0).to(tl.float32)
    tl.store(out + target, (a * c0 - b * s0).to(out.dtype.element_ty), mask=live)
    tl.store(out + target + HALF, (b * c1 + a * s1).to(out.dtype.element_ty), mask=live)


def rotate(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor) -> None:
    """Rotate x (batch, heads, tokens, dim) into out, any strides with a dense last axis.

    Angles are dense, (tokens, dim) or (batch, tokens, dim).
    """
    batch, heads, tokens, dim = x.shape
    rows, block, half = batch * heads * tokens, 16, dim // 2
    with torch.cuda.device(x.device):
        _rotate_kernel[(triton.cdiv(rows, block),)](
            x, cos, sin, out, rows, tokens, heads, *x.stride()[:3], *out.stride()[:3],
            tokens if cos.dim() == 3 else 0, HALF=half, WIDE=triton.next_power_of_2(half), BLOCK=block,
        )  # fmt: skip


@triton.jit
def _merge_kernel(
    o0, o1, o2, l0, l1, l2, out, rows, tokens, heads, group,
    a0, b0, c0, d0, a1, b1, c1, d1, a2, b2, c2, d2,
    e0, f0, g0, h0, e1, f1, g1, h1, e2, f2, g2, h2,
    PARTS: tl.constexpr, DIM: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)  # (batch, token, head), as the output lies
    i = tl.arange(0, WIDE)[None, :]
    live = row < rows
    mask = live[:, None] & (i < DIM)
    head = row % heads
    b, t = (row // (heads * tokens)).to(tl.int64), ((row // heads) % tokens).to(tl.int64)
    k, g = (head // group).to(tl.int64), (head % group).to(tl.int64)
    w0 = tl.load(l0 + b * e0 + k * f0 + g * g0 + t * h0, mask=live, other=0.0)
    w1 = tl.load(l1 + b * e1 + k * f1 + g * g1 + t * h1, mask=live, other=0.0)
    top = tl.maximum(w0, w1)
    if PARTS == 3:
        w2 = tl.load(l2 + b * e2 + k * f2 + g * g2 + t * h2, mask=live, other=0.0)
        top = tl.maximum(top, w2)
    w0, w1 = tl.exp(w0 - top), tl.exp(w1 - top)
    total = w0 + w1
    x0 = tl.load(o0 + (b * a0 + k * b0 + g * c0 + t * d0)[:, None] + i, mask=mask, other=0.0).to(tl.float32)
    x1 = tl.load(o1 + (b * a1 + k * b1 + g * c1 + t * d1)[:, None] + i, mask=mask, other=0.0).to(tl.float32)
    acc = x0 * w0[:, None] + x1 * w1[:, None]
    if PARTS == 3:
        w2 = tl.exp(w2 - top)
        total += w2
        x2 = tl.load(o2 + (b * a2 + k * b2 + g * c2 + t * d2)[:, None] + i, mask=mask, other=0.0).to(tl.float32)
        acc += x2 * w2[:, None]
    tl.store(out + row.to(tl.int64)[:, None] * DIM + i, (acc / total[:, None]).to(out.dtype.element_ty), mask=mask)


def merge(parts: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Merge two or three parts, out (batch, kv_heads, group, tokens, dim) and lse without dim, of any strides.

    Returns (batch, heads, tokens, dim) that lies in memory as (batch, tokens, heads, dim), as the host wants it next.
    """
    batch, kv_heads, group, tokens, dim = parts[0][0].shape
    heads = kv_heads * group
    out = torch.empty(batch, tokens, heads, dim, dtype=parts[0][0].dtype, device=parts[0][0].device)
    three = [*parts, parts[0]][:3]
    rows, block = batch * tokens * heads, 16
    with torch.cuda.device(out.device):
        _merge_kernel[(triton.cdiv(rows, block),)](
            *(o for o, _ in three), *(e for _, e in three), out, rows, tokens, heads, group,
            *(s for o, _ in three for s in o.stride()[:4]), *(s for _, e in three for s in e.stride()),
            PARTS=len(parts), DIM=dim, WIDE=triton.next_power_of_2(dim), BLOCK=block,
        )  # fmt: skip
    return out.transpose(1, 2)


@triton.jit
def _decode_kernel(
    q, k, v, length, out, lse, scaling, s_head, s_token, split_keys,
    GROUP: tl.constexpr, ROWS: tl.constexpr, DIM: tl.constexpr, WIDE: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    head, split, splits = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    used = tl.load(length)
    row, i = tl.arange(0, ROWS), tl.arange(0, WIDE)
    live_q = (row < GROUP)[:, None] & (i < DIM)[None, :]
    queries = tl.load(q + (head * GROUP + row)[:, None] * DIM + i[None, :], mask=live_q, other=0.0)
    top = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    acc = tl.zeros([ROWS, WIDE], tl.float32)
    start = split * split_keys
    stop = tl.minimum(start + split_keys, used)
    for at in range(start, stop, KEYS):
        token = at + tl.arange(0, KEYS)
        live = token < stop
        source = head.to(tl.int64) * s_head + token.to(tl.int64)[:, None] * s_token + i[None, :]
        mask = live[:, None] & (i < DIM)[None, :]
        keys = tl.load(k + source, mask=mask, other=0.0)
        values = tl.load(v + source, mask=mask, other=0.0)
        scores = tl.dot(queries, tl.trans(keys), input_precision="ieee") * scaling
        scores = tl.where(live[None, :], scores, float("-inf"))
        new_top = tl.maximum(top, tl.max(scores, 1))
        weights = tl.exp(scores - new_top[:, None])
        kept = tl.exp(top - new_top)
        total = total * kept + tl.sum(weights, 1)
        acc = acc * kept[:, None] + tl.dot(weights.to(values.dtype), values, input_precision="ieee")
        top = new_top
    where = (head * splits + split) * GROUP + row
    live_row = row < GROUP
    tl.store(lse + where, tl.where(total > 0, top + tl.log(total), float("-inf")), mask=live_row)
    some = tl.where(total > 0, total, 1.0)[:, None]
    tl.store(out + where[:, None] * DIM + i[None, :], acc / some, mask=live_q)


@triton.jit
def _combine_kernel(
    part, lse, out, splits,
    GROUP: tl.constexpr, DIM: tl.constexpr, WIDE: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    head, row = tl.program_id(0) // GROUP, tl.program_id(0) % GROUP
    i, split = tl.arange(0, WIDE), tl.arange(0, SPLITS)
    where = (head * splits + split) * GROUP + row
    live = split < splits
    found = tl.load(lse + where, mask=live, other=float("-inf"))
    weights = tl.exp(found - tl.max(found, 0))
    parts = tl.load(part + where[:, None] * DIM + i[None, :], mask=live[:, None] & (i < DIM)[None, :], other=0.0)
    result = tl.sum(parts * weights[:, None], 0) / tl.sum(weights, 0)
    tl.store(out + tl.program_id(0) * DIM + i, result.to(out.dtype.element_ty), mask=i < DIM)


def decode_attention(q: Tensor, k: Tensor, v: Tensor, length: Tensor, scaling: float) -> Tensor:
    """One query per head over the first `length` keys of a buffer.

    q (1, heads, 1, dim); k, v (1, kv_heads, capacity, dim) with equal strides; length int32 (1,) on the device, read
    there, so that one captured graph serves any length. The keys are split over programs, and the parts merged.
    """
    _, heads, _, dim = q.shape
    kv_heads, capacity = k.shape[1], k.shape[2]
    group, keys = heads // kv_heads, 64
    splits = max(1, min(64, capacity // (4 * keys)))
    split_keys = (-(-capacity // splits) + keys - 1) // keys * keys
    part = torch.empty(kv_heads, splits, group, dim, dtype=torch.float32, device=q.device)
    lse = torch.empty(kv_heads, splits, group, dtype=torch.float32, device=q.device)
    out = torch.empty_like(q)
    wide = triton.next_power_of_2(dim)
    with torch.cuda.device(q.device):
        _decode_kernel[(kv_heads, splits)](
            q, k, v, length, part, lse, scaling, k.stride(1), k.stride(2), split_keys,
            GROUP=group, ROWS=max(16, triton.next_power_of_2(group)), DIM=dim, WIDE=wide, KEYS=keys,
        )  # fmt: skip
        _combine_kernel[(heads,)](
            part, lse, out, splits, GROUP=group, DIM=dim, WIDE=wide, SPLITS=triton.next_power_of_2(splits)
        )
    return out


@triton.jit
def _fetch_kernel(addresses, out, words, CHUNK: tl.constexpr):
    row = tl.program_id(0)
    i = tl.program_id(1) * CHUNK + tl.arange(0, CHUNK)
    source = tl.load(addresses + row).to(tl.pointer_type(tl.int64))
    data = tl.load(source + i, mask=i < words)
    tl.store(out + row.to(tl.int64) * words + i, data, mask=i < words)


def fetch(addresses: Tensor, out: Tensor) -> None:
    """Copy rows of pinned host memory, one address each (int64 (rows,), on the device), into out (rows, …), dense.

    One launch instead of one copy a row: scattered blocks travel at the bus's speed however slow the host's launches.
    A row's bytes must be a multiple of 8.
    """
    words, chunk = out[0].nbytes // 8, 2048
    with torch.cuda.device(out.device):
        _fetch_kernel[(out.shape[0], -(-words // chunk))](addresses, out.view(torch.int64), words, CHUNK=chunk)
