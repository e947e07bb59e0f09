"""The memory itself: what a question may not change, what it holds, and that every byte is counted."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import weavetime as wt
from tiny import each_layout, engine, look, shared, shown
from weavetime.memory import Memory
from weavetime.ops import BlockLayout
from weavetime.types import Choice

exact = pytest.mark.exact
QUESTION = "Where was the cup?"
MODES = (
    "weavetime",
    wt.WeaveTime(k=3, delta=0),
    wt.WeaveTime(k=4, delta=0, cosine=True, vote=True, chunk=2, newest=1, gate_layers=2),
    wt.ReKV(k=3),
    "window",
    "recent:2",
    "uniform:4",
    "frames:1,4",
    "blind",
)


# A question is a read


@exact
@each_layout
def test_questions_change_nothing(family: str, segments: bool) -> None:
    stream = shared(family, segments).stream(window=2, batch=3, cache=3, index_pages=0)
    stream.feed(shown(family, 9))
    memory = stream.memory
    before, size, count = memory.digest(), memory.nbytes, len(stream)
    for at in (8.0, 4.5, None):
        for mode in MODES:
            stream.ask(QUESTION, mode=mode, at=at, options=("a", "b"), decoding=wt.Decoding(max_tokens=2))
            assert memory.digest() == before
    stream.ask_all([wt.Question("One?"), wt.Question("And another one?")], decoding=wt.Decoding(max_tokens=2))
    with stream.reply(QUESTION, mode=wt.WeaveTime(k=3, delta=0)) as reply:
        next(iter(reply))
    assert (memory.digest(), memory.nbytes, len(stream)) == (before, size, count)


@exact
@each_layout
def test_digest_tells_streams_apart(family: str, segments: bool) -> None:
    made = shared(family, segments)
    streams = [made.stream(window=2, batch=b) for b in (3, 3, 3, 3)]
    streams[0].feed(shown(family, 5))
    streams[1].feed(shown(family, 5))
    streams[2].feed([*shown(family, 4), *shown(family, 1, seed=1, start=4.0)])
    streams[3].feed([*shown(family, 4), wt.Frame(shown(family, 5)[4].pixels, 4.5)])
    a, b, c, d = (s.memory.digest() for s in streams)
    assert a == b
    assert len({a, c, d}) == 3


def test_an_empty_memory_has_a_digest_and_a_size() -> None:
    stream = shared("llava_onevision", True).stream(window=2)
    empty = stream.memory.digest()
    assert stream.memory.nbytes > 0
    stream.feed(shown("llava_onevision", 1))
    assert stream.memory.digest() != empty


@exact
@each_layout
def test_what_the_cache_holds_changes_no_answer(family: str, segments: bool) -> None:
    """No cache, a cache that turns over, a cache for all; asked twice, in both orders."""
    answers = set()
    for slots, pages in ((0, 0), (1, 1), (3, 0), (5, 0), (64, 4)):
        stream = shared(family, segments).stream(window=2, batch=4, cache=slots, index_pages=pages)
        stream.feed(shown(family, 9))
        asked = [("What is it?", 8.0), ("Which came first of all?", 6.0), ("What is it?", 8.0)]
        for order in (asked, asked[::-1]):
            for text, at in order:
                found = stream.ask(text, at=at, mode=wt.WeaveTime(k=4, delta=0), decoding=wt.Decoding(max_tokens=6))
                answers.add((text, at, found.tokens, found.evidence.blocks, found.gate))
    assert len(answers) == 2


# Bounded, and counted


def reachable(root: Any) -> Iterator[Tensor]:
    """Every tensor of a memory: the host's modules and the layouts, which all streams share, left out."""
    seen, todo = set(), [root]
    while todo:
        x = todo.pop()
        if id(x) in seen or isinstance(x, nn.Module | BlockLayout | type):
            continue
        seen.add(id(x))
        if isinstance(x, Tensor):
            yield x
        elif isinstance(x, dict | list | tuple | set) or type(x).__module__.startswith(("weavetime", "collections")):
            todo += gc.get_referents(x)


def held(memory: Memory) -> int:
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in reachable(memory)}
    return sum(storages.values())


@each_layout
def test_every_byte_is_counted(family: str, segments: bool) -> None:
    for window in (3, None):
        stream = shared(family, segments).stream(window=window, batch=4, cache=6)
        assert stream.memory.nbytes == held(stream.memory)
        for start in range(0, 12, 3):
            stream.feed(shown(family, 3, start=float(start)))
            look(stream, QUESTION, mode=wt.WeaveTime(k=4, delta=0))
            assert stream.memory.nbytes == held(stream.memory) == sum(stream.memory.tiers.values())
        assert stream.memory.tiers["archive"] > 0 or window is None


def commit(memory: Memory, layout: BlockLayout, start: int, count: int) -> None:
    """Blocks of random keys and values, as an append would leave them."""
    cells = memory.cells
    memory.reserve(count, layout)
    k, v = (torch.randn(1, cells.kv_heads, count * layout.tokens, cells.dim) for _ in range(2))
    for layer in range(cells.layers):
        memory.window.write(layer, k, v)
    means = [k[0].unflatten(1, (count, -1)).mean(2).transpose(0, 1).flatten(1)] * cells.layers
    memory.commit([(float(start + i), start + i + 1.0) for i in range(count)], layout, means)


@torch.inference_mode()
def test_ten_thousand_blocks_leave_the_device_as_it_was() -> None:
    stream = shared("qwen2_vl", False).stream(window=4, batch=16, cache=8, index_pages=2)
    memory, layout = stream.memory, BlockLayout(torch.zeros(3, 2, dtype=torch.int64), slice(0, 2), (True,) * 3, 2)
    device = []
    for start in range(0, 10_000, 16):
        commit(memory, layout, start, 16)
        if start % 1600 == 0 or start > 9_970:
            past = memory.index()
            scores = past.coarse([torch.randn(memory.cells.width) for _ in range(3)])
            assert scores.shape == (3, len(memory.table))
            past.fine(0, torch.randn(5, memory.cells.width), range(0, len(memory.table), 3))
            memory.view(Choice.same([0, 1, len(memory.table) - 1], 3)).layer(1)
            index = sum(t.nbytes for t in memory.means._data)
            tiers = memory.tiers
            device.append((tiers["sink"], tiers["window"], tiers["cache"], index))
            assert memory.nbytes == held(memory)
    assert len(memory.table) == 10_000
    assert len(set(device)) == 1, device
    tokens = 10_000 - 4
    assert tokens * layout.tokens * memory.cells.token_bytes <= memory.tiers["archive"]
    assert memory.tiers["archive"] <= 1.01 * tokens * layout.tokens * memory.cells.token_bytes


@pytest.mark.parametrize("segments", [True, False])
def test_archive_of_a_thousand_blocks_holds_nothing_twice(segments: bool) -> None:
    stream = shared("llava_onevision", segments).stream(window=80, batch=16)
    backbone = stream.runner.backbone
    layout = backbone.block(backbone.grid(35, 35), 22 if segments else 0)
    with torch.inference_mode():
        for start in range(0, 1024, 16):
            commit(stream.memory, layout, start, 16)
    exact_bytes = (1024 - 80) * layout.tokens * 2 * 3 * 2 * 16 * 4  # K and V, layers, KV heads, dim, fp32
    assert exact_bytes <= stream.memory.tiers["archive"] <= 1.01 * exact_bytes


def test_host_keeps_no_second_copy_of_what_is_recalled() -> None:
    for cache, held in ((None, False), (0, False), (2, True)):
        stream = shared("qwen2_vl", False).stream(window=2, cache=cache)
        stream.feed(shown("qwen2_vl", 4))
        assert (stream.memory.tiers["cache"] > 0) is held


@torch.inference_mode()
def test_window_keeps_what_was_written_while_its_buffer_turns_over() -> None:
    memory = shared("llava_onevision", False).stream(window=5, batch=4, cache=0).memory
    layouts = [BlockLayout(torch.arange(n)[None], slice(0, n), (True,), n) for n in (3, 3, 5, 2)]
    written: list[Tensor] = []
    generator = torch.Generator().manual_seed(0)
    for call in range(60):
        layout = layouts[(call // 7) % 4]
        count = 1 + call % 4
        memory.reserve(count, layout)
        k = torch.randn(1, 2, count * layout.tokens, 16, generator=generator)
        for layer in range(3):
            memory.window.write(layer, k + layer, -k - layer)
        start = float(len(memory.table))
        memory.commit([(start + i, start + i + 1) for i in range(count)], layout, [torch.zeros(count, 32)] * 3)
        written += list(k.unflatten(2, (count, -1)).unbind(2))
        for layer in range(3):
            expected = torch.cat(written, 2) + layer
            keys, values = memory.read(layer, range(len(written)))
            assert torch.equal(keys, expected)
            assert torch.equal(values, -expected)


# What fails leaves nothing behind


class Full:
    """An allocator that is out of memory from its n-th call on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
        self.left, self._empty = after, torch.empty
        monkeypatch.setattr(torch, "empty", self)

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        self.left -= 1
        if self.left < 0:
            raise torch.OutOfMemoryError("simulated")
        return self._empty(*args, **kwargs)


@pytest.mark.parametrize("after", range(0, 16))
def test_no_memory_for_new_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Wherever the allocation of room fails, earlier blocks are read as before and the stream goes on."""
    family, wide = "qwen2_vl", 99_996.0
    expected = shared(family, True).stream(window=2, batch=4, cache=4)
    stream = shared(family, True).stream(window=2, batch=4, cache=4)
    for s in (expected, stream):
        s.feed(shown(family, 4, start=wide - 6))
        look(s, QUESTION, mode=wt.WeaveTime(k=3, delta=0))
    before = stream.memory.digest()
    layout = stream.runner.backbone.block(stream._grid, 23)
    with monkeypatch.context() as patch, torch.inference_mode():
        Full(patch, after)
        try:
            stream.memory.reserve(9, layout)
        except (torch.OutOfMemoryError, wt.OutOfMemoryError):
            assert after < 12
    assert stream.memory.digest() == before
    rows = [look(s, QUESTION, mode=wt.WeaveTime(k=3, delta=0)).draft for s in (expected, stream)]
    assert torch.equal(rows[0].logits, rows[1].logits)
    for s in (expected, stream):  # seven digits, then eight: other layouts than the one that room was made for
        s.feed(shown(family, 9, seed=1, start=wide))
    assert stream.memory.digest() == expected.memory.digest()
    assert stream.memory.nbytes == held(stream.memory)


@each_layout
def test_values_that_are_not_finite_are_not_kept(family: str, segments: bool) -> None:
    made = engine(family, time_prompts=segments)
    stream, expected = made.stream(window=2, batch=8), made.stream(window=2, batch=8)
    for s in (stream, expected):
        s.feed(shown(family, 4, start=99_990.0))
    before, layer = stream.memory.digest(), made.backbone.decoder.layers[1].mlp.down_proj
    kept = layer.weight.clone()
    layer.weight.fill_(float("nan"))
    with pytest.raises(wt.NumericsError, match="not finite"):
        stream.feed(shown(family, 8, seed=1, start=99_994.0))
    with pytest.raises(wt.NumericsError, match="not finite"):
        stream.ask(QUESTION)
    layer.weight.copy_(kept)
    assert (stream.memory.digest(), len(stream), stream.now) == (before, 4, 99_994.0)
    for s in (stream, expected):  # later, and with wider time prompts than the call that failed
        s.feed(shown(family, 8, seed=2, start=100_000.0))
    assert stream.memory.digest() == expected.memory.digest()
