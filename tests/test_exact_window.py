"""A narrow window, and scattered recall, against the slow reference: every key and value, then the answers."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor

import weavetime as wt
from reference import CLIP, Reference
from reference import Choice as Blocks
from tiny import FAMILY_NAMES, each_layout, features, host, look, shared, shown, times, tokenizer, unstopped
from weavetime.types import Choice

pytestmark = pytest.mark.exact

QUESTION = "Which came first?"
COUNT = 11
CHUNKS = (1, 2, 4, 9)


@cache
def slow(family: str, segments: bool, window: int, start: float = 0.0) -> Reference:
    reference = Reference(host(family), tokenizer(), family, segments=segments, window=window)
    seen = shown(family, COUNT, start=start)
    reference.feed(features(family, seen), times(seen))
    return reference


def fed(family: str, segments: bool, window: int, batch: int, start: float = 0.0) -> wt.Stream:
    stream = shared(family, segments).stream(window=window, batch=batch, cache=4)
    seen = shown(family, COUNT, start=start)
    assert stream.feed(seen) == len(seen)
    return stream


def close(found: Tensor, expected: Tensor) -> None:
    """1e-5 of the largest number there is."""
    expected = expected.float()
    bound = 1e-5 * max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(found, expected, atol=bound, rtol=0)


@torch.inference_mode()
def check_blocks(stream: wt.Stream, reference: Reference) -> None:
    assert len(stream) == len(reference.blocks)
    for layer in range(3):
        for number, block in enumerate(reference.blocks):
            for _ in range(2):  # brought from the archive, then out of the cache
                keys, values = stream.memory.read(layer, [number])
                close(keys[0], block.keys[layer])
                close(values[0], block.values[layer])
            mean = stream.memory.means.means(layer, COUNT)[number]
            close(mean, block.keys[layer].mean(1).flatten())


@torch.inference_mode()
def logits(stream: wt.Stream, choice: Blocks) -> Tensor:
    prompt = stream.runner.backbone.prompt(wt.Question(QUESTION), wt.Decoding())
    view = stream.memory.view(Choice(tuple(map(tuple, choice))))
    return stream.runner.prefill(view, [prompt], 1).logits[0]


SCATTERED = [[0, 3, 4, 9], [1, 2, 7, 10], [5, 6, 8, 9]]
UNEVEN = [[0], [2, 3, 4, 5, 10], [1, 7, 9]]


@each_layout
@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("batch", CHUNKS)
def test_window_equals_the_slow_reference(family: str, segments: bool, window: int, batch: int) -> None:
    reference, stream = slow(family, segments, window), fed(family, segments, window, batch)
    check_blocks(stream, reference)
    prompt = reference.prompt_ids(QUESTION)
    recent = list(range(COUNT - window, COUNT))
    close(
        look(stream, QUESTION, mode="window").draft.logits[0], reference.read(prompt, reference.same(recent)).logits[-1]
    )
    for choice in (SCATTERED, UNEVEN):
        close(logits(stream, choice), reference.read(prompt, choice).logits[-1])


@each_layout
def test_chunks_answer_alike(family: str, segments: bool) -> None:
    streams = [fed(family, segments, 3, batch) for batch in CHUNKS]
    for mode in (wt.Window(), wt.WeaveTime(k=4, delta=0), wt.ReKV(k=4), wt.Uniform(5)):
        rows = [look(s, QUESTION, mode=mode, max_tokens=24) for s in streams]
        answers = []
        for row in rows:
            close(row.draft.logits, rows[0].draft.logits)
            row.run()
            answers.append(row.answers()[0])
        assert len({a.tokens for a in answers}) == 1
        assert len({a.evidence.blocks for a in answers}) == 1


@each_layout
def test_greedy_tokens_after_recall_equal_the_slow_reference(family: str, segments: bool) -> None:
    reference, stream = slow(family, segments, 3), fed(family, segments, 3, 4)
    row = look(stream, QUESTION, mode=wt.WeaveTime(k=4, delta=0), max_tokens=12)
    choice = [list(blocks) for blocks in row.draft.view.choice.blocks]
    assert unstopped(row) == reference.greedy(reference.prompt_ids(QUESTION), choice, 12)


WIDENS = 99_994.0  # frames 0..4 have seven-digit ends, frame 5 ends at 100,000, the rest begin there


@pytest.mark.parametrize("family", FAMILY_NAMES)
@pytest.mark.parametrize("batch", CHUNKS)
def test_time_prompts_that_grow_wider(family: str, batch: int) -> None:
    reference, stream = slow(family, True, 3, WIDENS), fed(family, True, 3, batch, WIDENS)
    widths = [b.before for b in reference.blocks]
    assert [w - widths[0] for w in widths] == [0] * 5 + [1] + [2] * 5
    assert [layout.tokens for layout in stream.memory.table.layouts] == [len(b.embeds) for b in reference.blocks]
    check_blocks(stream, reference)
    for choice in (SCATTERED, UNEVEN):
        close(logits(stream, choice), reference.read(reference.prompt_ids(QUESTION), choice).logits[-1])
    mode = wt.WeaveTime(k=4, delta=0)
    first = reference.read(reference.prompt_ids(QUESTION), reference.same([8, 9, 10]))
    chosen = reference.coarse_to_fine(first.queries, COUNT, 4)
    row = look(stream, QUESTION, mode=mode)
    assert [list(b) for b in row.draft.view.choice.blocks] == chosen
    close(row.draft.logits[0], reference.read(reference.prompt_ids(QUESTION), chosen).logits[-1])


@each_layout
@pytest.mark.parametrize("batch", CHUNKS)
@torch.inference_mode()
def test_frames_of_another_size_take_the_first_ones(family: str, segments: bool, batch: int) -> None:
    """A later frame of another size is resized to the grid of the first: the layout of the stream stays."""
    seen = shown(family, 4)
    other = shown(family, 3, seed=1, size=(60, 30), start=4.0) + shown(family, 2, seed=2, start=7.0)
    stream = shared(family, segments).stream(window=2, batch=batch)
    stream.feed(seen + other)
    assert len({id(layout) for layout in stream.memory.table.layouts}) == 1
    size = seen[0].pixels.shape[:2]
    resized = []
    for f in seen + other:
        x = f.pixels.permute(2, 0, 1)[None].float()
        if f.pixels.shape[:2] != size:
            whole = (56, 28) if family in CLIP else size  # 60 x 30 by its shorter side, of which the middle is taken
            x = torch.nn.functional.interpolate(x, size=whole, mode="bicubic", antialias=True).round().clamp(0, 255)
            x = x[:, :, 14:42] if family in CLIP else x
        resized.append(wt.Frame(x[0].permute(1, 2, 0).to(torch.uint8), f.time, f.until))
    reference = Reference(host(family), tokenizer(), family, segments=segments, window=2)
    reference.feed(features(family, resized), times(resized))
    for layer in range(3):
        for number, block in enumerate(reference.blocks):
            close(stream.memory.read(layer, [number])[0][0], block.keys[layer])
