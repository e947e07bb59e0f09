"""The arithmetic under the memory, against plain forms of it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from weavetime.ops import (
    BlockLayout,
    Rotary,
    attend,
    attend_causal,
    attention_reference,
    coarse,
    late_interaction,
    merge,
    newest_first_topk,
    place,
    question_vectors,
    rotate,
    text_positions,
    windows,
)

pytestmark = pytest.mark.exact


def draw(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


def plain(q: Tensor, k: Tensor, v: Tensor, scaling: float, sees: Tensor | None = None) -> Tensor:
    """Attention in float64, one query and head at a time."""
    out = torch.zeros(*q.shape, dtype=torch.float64)
    group = q.shape[1] // k.shape[1]
    for b in range(q.shape[0]):
        kb = b if k.shape[0] > 1 else 0
        for h in range(q.shape[1]):
            for i in range(q.shape[2]):
                keys, values = k[kb, h // group].double(), v[kb, h // group].double()
                if sees is not None:
                    keys, values = keys[sees[i]], values[sees[i]]
                weights = torch.softmax(keys @ q[b, h, i].double() * scaling, 0)
                out[b, h, i] = weights @ values
    return out


def close(found: Tensor, expected: Tensor, atol: float = 2e-6) -> None:
    torch.testing.assert_close(found.double(), expected.double(), atol=atol, rtol=0)


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (6, 2), (4, 1)])
@pytest.mark.parametrize("batch", [1, 3])
def test_attention_in_parts(heads: int, kv_heads: int, batch: int) -> None:
    q = draw(batch, heads, 5, 8, scale=3)
    far, near, own = ((draw(1, kv_heads, n, 8, seed=n), draw(1, kv_heads, n, 8, seed=n + 50)) for n in (3, 7, 1))
    own_k, own_v = draw(batch, kv_heads, 5, 8, seed=9), draw(batch, kv_heads, 5, 8, seed=10)
    parts = [attend(q, *far, 0.3), attend(q, *near, 0.3), attend_causal(q, own_k, own_v, 0.3)]
    for b in range(batch):
        k = torch.cat((far[0], near[0], own_k[b : b + 1]), 2)
        v = torch.cat((far[1], near[1], own_v[b : b + 1]), 2)
        sees = torch.ones(5, 15, dtype=torch.bool)
        sees[:, 10:] = torch.ones(5, 5, dtype=torch.bool).tril()
        close(merge(parts)[b : b + 1], plain(q[b : b + 1], k, v, 0.3, sees))
    close(merge(parts[:1]), plain(q, *far, 0.3))
    del own


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_reference_attention_under_a_mask(dtype: torch.dtype) -> None:
    q, k, v = draw(2, 4, 3, 8).to(dtype), draw(2, 2, 6, 8, seed=1).to(dtype), draw(2, 2, 6, 8, seed=2).to(dtype)
    sees = torch.tensor([[1, 0, 0, 0, 0, 1], [1, 1, 1, 1, 1, 1], [0, 0, 0, 1, 0, 0]], dtype=torch.bool)
    close(merge([attention_reference(q, k, v, 0.4, sees[None, None])]), plain(q, k, v, 0.4, sees))


def test_merging_holds_for_scores_far_apart() -> None:
    """Log-sum-exp, not exp: one part's scores may be hundreds above another's."""
    q, k, v = draw(1, 2, 4, 8, scale=40), draw(1, 2, 9, 8, seed=1, scale=10), draw(1, 2, 9, 8, seed=2)
    parts = [attend(q, k[:, :, a:b], v[:, :, a:b], 1.0) for a, b in ((0, 4), (4, 5), (5, 9))]
    assert merge(parts).isfinite().all()
    close(merge(parts), plain(q, k, v, 1.0), atol=1e-4)


@pytest.mark.parametrize("step", [1, 3, 4])
def test_windows_overlap_without_a_copy(step: int) -> None:
    x = draw(1, 2, 40, 4)[:, :, 2:]
    found = windows(x, 5, 7, step)
    assert found.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    for i in range(5):
        assert torch.equal(found[i], x[0, :, i * step : i * step + 7])


def test_rotation_turns_pairs_by_position() -> None:
    """Against complex numbers, at positions of one axis and of three."""

    class Angles(torch.nn.Module):
        sections = (1, 2, 1)

        def forward(self, x: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
            speeds = 100.0 ** (-torch.arange(4) / 4)
            if ids.dim() == 2:
                angle = ids[..., None] * speeds
            else:
                parts = (ids[..., None] * speeds).split(self.sections, -1)
                angle = torch.cat([part[axis] for axis, part in enumerate(parts)], -1)
            return torch.cat((angle, angle), -1).cos().to(x), torch.cat((angle, angle), -1).sin().to(x)

    x = draw(2, 3, 5, 8)
    for axes in (1, 3):
        where = torch.tensor([[0, 1, 5, 9, 700], [0, 4, 5, 2, 3], [0, 1, 8, 2, 6]])[:axes]
        cos, sin = Rotary(Angles(), axes).angles(where, x)
        assert cos.shape == sin.shape == (5, 8)
        found = rotate(x, cos, sin)
        axis = [0] * 4 if axes == 1 else [0, 1, 1, 2]
        for token in range(5):
            for pair in range(4):
                angle = int(where[axis[pair], token]) * 100.0 ** (-pair / 4)
                z = torch.complex(x[:, :, token, pair].double(), x[:, :, token, pair + 4].double())
                z = z * complex(math.cos(angle), math.sin(angle))
                close(found[:, :, token, pair], z.real, atol=1e-4)
                close(found[:, :, token, pair + 4], z.imag, atol=1e-4)
        out = torch.full((2, 3, 9, 8), 7.0)
        assert rotate(x, cos, sin, out[:, :, 2:7]).data_ptr() == out[:, :, 2:].data_ptr()
        assert torch.equal(out[:, :, 2:7], found)
        assert (out[:, :, :2] == 7).all()
        assert (out[:, :, 7:] == 7).all()
        rows = rotate(x, torch.stack((cos, cos.flip(0))), torch.stack((sin, sin.flip(0))))
        assert torch.equal(rows[0], found[0])
        assert torch.equal(rows[1], rotate(x[1:], cos.flip(0), sin.flip(0))[0])


def layout(before: int, rows: int, columns: int, after: int, *, moves_all: bool) -> BlockLayout:
    """A step of three axes, written out."""
    if not moves_all:
        grid = [(0, y, x) for y in range(rows) for x in range(columns)]
        return BlockLayout(torch.tensor(grid).T, slice(0, len(grid)), (True, False, False), 1)
    where = [(i,) * 3 for i in range(before)]
    where += [(before, before + y, before + x) for y in range(rows) for x in range(columns)]
    end = before + max(rows, columns)
    where += [(end + i,) * 3 for i in range(after)]
    span = slice(before, before + rows * columns)
    return BlockLayout(torch.tensor(where).T, span, (True,) * 3, end + after)


def test_blocks_of_different_layouts_in_a_row() -> None:
    a, b = layout(2, 2, 3, 1, moves_all=True), layout(3, 2, 3, 1, moves_all=True)
    placed = place([a, a, b, a], 4, 3)
    starts = [0, 6, 12, 19]
    assert list(placed.starts) == starts
    assert placed.end == 4 + 25
    parts = [block.positions + 4 + s for block, s in zip((a, a, b, a), starts, strict=True)]
    assert torch.equal(placed.positions, torch.cat(parts, 1))


@pytest.mark.parametrize(("rows", "columns"), [(2, 3), (3, 2), (4, 4)])
@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_one_video_moves_in_time_only(rows: int, columns: int, count: int) -> None:
    block = layout(0, rows, columns, 0, moves_all=False)
    placed = place([block] * count, 10, 3)
    expected = [(10 + i, 10 + y, 10 + x) for i in range(count) for y in range(rows) for x in range(columns)]
    assert placed.positions.T.tolist() == [list(p) for p in expected]
    assert placed.end == 10 + max(count, rows, columns)
    assert text_positions(placed.end, 3, 3).tolist() == [[placed.end + i for i in range(3)]] * 3


def test_question_vectors_average_each_groups_heads() -> None:
    q = draw(6, 4, 5)
    found = question_vectors(q, 2)
    assert found.shape == (4, 10)
    for token in range(4):
        close(found[token, :5], (q[0, token] + q[1, token] + q[2, token]) / 3)
        close(found[token, 5:], (q[3, token] + q[4, token] + q[5, token]) / 3)


@pytest.mark.parametrize("cosine", [False, True])
def test_scores(cosine: bool) -> None:
    words, keys = draw(4, 10), draw(6, 7, 10, seed=1)

    def dot(a: Tensor, b: Tensor) -> float:
        size = float(a.norm() * b.norm()) if cosine else 1.0
        return float(a @ b) / size

    fine = late_interaction(words, keys, cosine=cosine)
    for block in range(6):
        expected = sum(max(dot(word, key) for key in keys[block]) for word in words) / 4
        assert float(fine[block]) == pytest.approx(expected, abs=1e-5)
    means = keys.mean(1)
    for block, score in enumerate(coarse(words.mean(0), means, cosine=cosine)):
        assert float(score) == pytest.approx(dot(words.mean(0), means[block]), abs=1e-5)


def test_topk_prefers_the_more_recent_among_equals() -> None:
    scores = torch.tensor([[1.0, 3, 1, 3, 2, 1], [0, 0, 0, 0, 0, 0]])
    assert newest_first_topk(scores, 1).tolist() == [[3], [5]]
    assert newest_first_topk(scores, 2).tolist() == [[1, 3], [4, 5]]
    assert newest_first_topk(scores, 4).tolist() == [[1, 3, 4, 5], [2, 3, 4, 5]]
    assert newest_first_topk(scores, 9).tolist() == [[0, 1, 2, 3, 4, 5]] * 2
