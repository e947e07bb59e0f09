"""The fast forms against their plain references, on a CUDA card."""

from __future__ import annotations

import pytest
import torch

from weavetime.memory.archive import host_memory
from weavetime.ops import (
    attend,
    attend_causal,
    attention_reference,
    kernels,
    merge,
    merge_reference,
    rotate,
    rotate_reference,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card"),
]
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}


def near(found: torch.Tensor, wanted: torch.Tensor, dtype: torch.dtype) -> None:
    assert bool(torch.isfinite(found).all())
    error = (found.float() - wanted.float()).norm() / wanted.float().norm()
    assert error < TOLERANCE[dtype], error


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("batch", "heads", "tokens", "dim"), [(1, 4, 37, 128), (3, 2, 5, 64), (1, 1, 1, 16)])
def test_rotate(dtype: torch.dtype, batch: int, heads: int, tokens: int, dim: int) -> None:
    x = torch.randn(batch, tokens, heads, dim, device="cuda", dtype=dtype).transpose(1, 2)
    cos, sin = (torch.randn(tokens, dim, device="cuda", dtype=dtype) for _ in range(2))
    near(rotate(x, cos, sin), rotate_reference(x.double(), cos.double(), sin.double()), dtype)
    rows = cos.expand(batch, -1, -1) * torch.randn(batch, 1, 1, device="cuda", dtype=dtype)
    wide = torch.full((batch, heads, tokens + 3, dim), 7.0, device="cuda", dtype=dtype)
    rotate(x, rows.contiguous(), rows.contiguous(), out=wide[:, :, :tokens])
    near(wide[:, :, :tokens], rotate_reference(x.double(), rows.double(), rows.double()), dtype)
    assert bool((wide[:, :, tokens:] == 7).all())


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("heads", "kv", "dim"), [(28, 4, 128), (14, 2, 64), (4, 2, 16), (4, 4, 80)])
@pytest.mark.parametrize(("capacity", "length"), [(4096, 1), (4096, 4096), (8192, 5000), (100, 63)])
def test_decode_attention(dtype: torch.dtype, heads: int, kv: int, dim: int, capacity: int, length: int) -> None:
    q = torch.randn(1, heads, 1, dim, device="cuda", dtype=dtype)
    k, v = (torch.randn(1, kv, capacity, dim, device="cuda", dtype=dtype) for _ in range(2))
    k[:, :, length:] = float("nan")  # what lies behind the length must not be read
    v[:, :, length:] = float("nan")
    used = torch.tensor([length], device="cuda", dtype=torch.int32)
    found = kernels.decode_attention(q, k, v, used, dim**-0.5)
    wanted = attention_reference(q.double(), k[:, :, :length].double(), v[:, :, :length].double(), dim**-0.5)
    near(found, wanted.out.flatten(1, 2), dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_attention_in_parts(dtype: torch.dtype) -> None:
    q = torch.randn(2, 8, 33, 64, device="cuda", dtype=dtype)
    k, v = (torch.randn(2, 2, 133, 64, device="cuda", dtype=dtype) for _ in range(2))
    mask = torch.ones(33, 133, dtype=torch.bool, device="cuda").tril(100)
    wanted = attention_reference(q.double(), k.double(), v.double(), 0.125, mask)
    parts = [
        attend(q, k[:, :, :60], v[:, :, :60], 0.125),
        attend(q, k[:, :, 60:100], v[:, :, 60:100], 0.125),
        attend_causal(q, k[:, :, 100:], v[:, :, 100:], 0.125),
    ]
    near(merge(parts), wanted.out.flatten(1, 2), dtype)
    near(merge(parts), merge_reference(parts), dtype)
    near(merge(parts[:2]), merge_reference(parts[:2]), dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_several_questions_over_one_view(dtype: torch.dtype) -> None:
    q = torch.randn(3, 8, 5, 64, device="cuda", dtype=dtype)
    k, v = (torch.randn(1, 2, 70, 64, device="cuda", dtype=dtype) for _ in range(2))
    parts = [attend(q, k[:, :, :40], v[:, :, :40], 0.125), attend(q, k[:, :, 40:], v[:, :, 40:], 0.125)]
    wide_k, wide_v = (x.double().expand(3, -1, -1, -1) for x in (k, v))
    near(merge(parts), attention_reference(q.double(), wide_k, wide_v, 0.125).out.flatten(1, 2), dtype)


def test_fetch_brings_scattered_rows_of_pinned_memory() -> None:
    host = host_memory(9 * 3 * 5 * 1000 * 2, pinned=True).view(torch.int16).view(9, 3, 5, 1000)
    host.random_()
    rows = [7, 0, 3]
    addresses = torch.tensor([host[r, 1].data_ptr() for r in rows], device="cuda")
    out = torch.zeros(3, 5, 1000, dtype=torch.int16, device="cuda")
    kernels.fetch(addresses, out)
    assert torch.equal(out.cpu(), host[rows, 1])
