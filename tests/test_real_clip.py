"""A real clip, the shipped model, the whole path: 79 s of pedestrians, asked about while and after they walk by."""

from __future__ import annotations

import pytest
from tests.clips import clip

import weavetime as wt

SHORT = wt.Decoding(max_tokens=8)
QUESTION, OPTIONS = "How many people are there now?", ["one", "two", "three", "more"]


@pytest.fixture(scope="module")
def engine() -> wt.Engine:
    return wt.load("mini", device="cpu")


@pytest.fixture(scope="module")
def stream(engine: wt.Engine) -> wt.Stream:
    stream = engine.stream(window=12, fps=1.0, cache=16)
    with wt.open_video(clip("vtest.avi"), fps=1.0) as video:
        assert stream.feed(video) == len(stream) == 80
    return stream


def test_every_mode_answers_with_its_evidence(stream: wt.Stream) -> None:
    for mode in ("weavetime", "rekv:8", "window", "recent:3", "uniform:8", "frames:3,40", "blind"):
        answer = stream.ask(QUESTION, options=OPTIONS, mode=mode, decoding=SHORT)
        assert answer.choice in range(4)
        assert set(answer.evidence.times) <= set(stream.memory.table.times), mode
        assert (answer.gate is not None) == (mode == "weavetime")
        assert answer.timings["total"] >= answer.timings["first_token"] > 0


def test_the_past_asked_about_later_is_what_was_seen_then(engine: wt.Engine, stream: wt.Stream) -> None:
    for at in (5.0, 31.4):
        early = engine.stream(window=12, fps=1.0, cache=16)
        early.feed(f for f in wt.open_video(clip("vtest.avi"), fps=1.0) if f.time <= at)
        for mode in ("window", wt.WeaveTime(k=8, delta=0.0)):
            then = early.ask(QUESTION, options=OPTIONS, mode=mode, decoding=SHORT)
            now = stream.ask(QUESTION, options=OPTIONS, mode=mode, at=at, decoding=SHORT)
            assert now.evidence.times == then.evidence.times
            assert now.logits == pytest.approx(then.logits, abs=1e-3)
            assert max(now.evidence.times) <= at


def test_questions_leave_no_trace_and_memory_is_bounded(stream: wt.Stream) -> None:
    before, tiers = stream.memory.digest(), dict(stream.memory.tiers)
    stream.ask(QUESTION, mode=wt.WeaveTime(k=8, delta=0.0), decoding=SHORT)
    assert stream.memory.digest() == before
    assert stream.memory.tiers == tiers
    held = stream.memory.table.offsets[stream.memory.archive.stop] * stream.memory.cells.token_bytes
    assert held <= stream.memory.archive.nbytes < held + 4 * 24 * stream.memory.cells.token_bytes
