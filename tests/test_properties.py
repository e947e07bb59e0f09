"""Whatever the chunking, window, k, cache and order of questions: the same memory and the same answers."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import weavetime as wt
from reference import Reference
from tiny import LAYOUTS, features, host, look, shared, shown, times, tokenizer
from weavetime.types import Choice

pytestmark = pytest.mark.exact

COUNT = 9
QUESTION = "What came first?"
few = settings(max_examples=12, deadline=None, derandomize=True, database=None)
layouts = st.sampled_from(LAYOUTS)
windows = st.sampled_from([1, 2, 4, 20, None])


@cache
def slow(family: str, segments: bool, window: int | None) -> Reference:
    """The reference with every block of the stream, fed once."""
    reference = Reference(host(family), tokenizer(), family, segments=segments, window=window)
    reference.feed(features(family, shown(family, COUNT)), times(shown(family, COUNT)))
    return reference


def fed(family: str, segments: bool, chunks: list[int], **settings: Any) -> wt.Stream:
    """A stream fed in calls of these sizes."""
    stream = shared(family, segments).stream(**settings)
    frames = shown(family, COUNT)
    while frames:
        for size in chunks:
            stream.feed(frames[:size])
            frames = frames[size:]
    return stream


def logits(reference: Reference, choice: list[list[int]]) -> torch.Tensor:
    return reference.read(reference.prompt_ids(QUESTION), choice).logits[-1]


chunkings = st.lists(st.integers(1, 5), min_size=1, max_size=4)


@few
@given(layouts, windows, chunkings, st.integers(1, 6), st.integers(0, 5))
def test_any_chunking_is_the_reference(
    layout: tuple[str, bool], window: int | None, chunks: list[int], batch: int, cache: int
) -> None:
    stream = fed(*layout, chunks, window=window, batch=batch, cache=cache)
    reference = slow(*layout, window)
    for layer in range(3):
        keys, values = stream.memory.read(layer, range(COUNT))
        for found, expected in (
            (keys[0], torch.cat([b.keys[layer] for b in reference.blocks], 1)),
            (values[0], torch.cat([b.values[layer] for b in reference.blocks], 1)),
        ):
            bound = 1e-5 * max(1.0, float(expected.abs().max()))
            torch.testing.assert_close(found.double(), expected, atol=bound, rtol=0)


@few
@given(layouts, windows, chunkings, st.integers(1, 12), st.integers(1, 4), st.integers(0, COUNT - 1))
def test_any_k_as_of_any_time_is_the_reference(
    layout: tuple[str, bool], window: int | None, chunks: list[int], k: int, factor: int, at: int
) -> None:
    stream, reference = fed(*layout, chunks, window=window), slow(*layout, window)
    mode = wt.WeaveTime(k=k, coarse=factor, delta=0)
    row = look(stream, QUESTION, at=at + 0.5 if at < COUNT - 1 else None, mode=mode)
    recent = list(range(0 if window is None else max(0, at + 1 - window), at + 1))
    first = reference.read(reference.prompt_ids(QUESTION), reference.same(recent))
    recalls = recent[0] > 0
    expected = reference.coarse_to_fine(first.queries, at + 1, k, factor) if recalls else reference.same(recent)
    assert row.recalled == recalls
    assert [list(b) for b in row.draft.view.choice.blocks] == expected
    torch.testing.assert_close(row.draft.logits[0].double(), logits(reference, expected), atol=1e-5, rtol=0)
    assert row.draft.gate[0] == pytest.approx(first.gate(), abs=1e-5)


asked = st.tuples(
    st.sampled_from(["Why?", QUESTION, "What is on the table, and since when?"]),
    st.sampled_from([None, 0.0, 3.0, 6.5]),
    st.sampled_from(
        ["weavetime", wt.WeaveTime(k=2, delta=0), wt.ReKV(k=3), "window", "recent:2", "uniform:3", "blind"]
    ),
)


several = st.lists(asked, min_size=2, max_size=5, unique=True)


@few
@given(layouts, st.integers(1, 4), st.integers(0, 3), several, st.randoms())
def test_any_order_of_questions(
    layout: tuple[str, bool], window: int, cache: int, questions: list[Any], random: Any
) -> None:
    stream = fed(*layout, [4], window=window, cache=cache)
    before = stream.memory.digest()
    how = wt.Decoding(max_tokens=3)

    def ask(text: str, at: float | None, mode: Any) -> Any:
        found = stream.ask(text, at=at, mode=mode, decoding=how)
        return found.tokens, found.gate, found.evidence

    first = {q: ask(*q) for q in questions}
    again = list(questions)
    random.shuffle(again)
    assert {q: ask(*q) for q in again} == first
    assert stream.memory.digest() == before


@few
@given(layouts, st.lists(st.lists(st.booleans(), min_size=COUNT, max_size=COUNT), min_size=3, max_size=3))
def test_any_blocks_in_any_layer(layout: tuple[str, bool], kept: list[list[bool]]) -> None:
    stream, reference = fed(*layout, [4], window=2), slow(*layout, 2)
    choice = [[b for b in range(COUNT) if layer[b]] for layer in kept]
    with torch.inference_mode():
        prompt = stream.runner.backbone.prompt(wt.Question(QUESTION), wt.Decoding())
        view = stream.memory.view(Choice(tuple(map(tuple, choice))))
        found = stream.runner.prefill(view, [prompt], 1).logits[0]
    torch.testing.assert_close(found.double(), logits(reference, choice), atol=1e-5, rtol=0)
