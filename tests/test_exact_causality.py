"""An answer as of t knows nothing of what came later."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import weavetime as wt
from tiny import each_layout, look, shared, shown

pytestmark = pytest.mark.exact

QUESTION = "What happened before?"
MODES = (
    "weavetime",
    wt.WeaveTime(k=3, delta=0),
    wt.ReKV(k=3),
    "window",
    "recent:2",
    "uniform:4",
    "frames:1,4",
    "blind",
)
T = 5


@each_layout
@pytest.mark.parametrize("window", [2, None])
def test_later_frames_changed_or_absent(family: str, segments: bool, window: int | None) -> None:
    engine, past = shared(family, segments), shown(family, T + 1)
    streams = [engine.stream(window=window, batch=4) for _ in range(3)]
    streams[0].feed([*past, *shown(family, 5, seed=1, start=T + 1.0)])
    streams[1].feed([*past, *shown(family, 5, seed=2, start=T + 1.0)])
    streams[2].feed(past)
    modes = (*MODES, "full") if window is None else MODES
    for at in (float(T), T + 0.5, 3.0, 0.0):
        for mode in modes:
            if at == 0.0 and mode == "frames:1,4":
                continue
            if at == 3.0 and mode == "frames:1,4":
                mode = "frames:1,3"
            rows = [look(s, QUESTION, at=at, mode=mode, max_tokens=6) for s in streams]
            answers = []
            for row in rows:
                row.run()
                answers.append(row.answers()[0])
            a, b, c = answers
            assert torch.equal(rows[0].draft.logits, rows[1].draft.logits)
            assert replace(a, timings={}) == replace(b, timings={})
            torch.testing.assert_close(rows[0].draft.logits, rows[2].draft.logits, atol=1e-5, rtol=0)
            assert (a.tokens, a.recalled, a.evidence.blocks) == (c.tokens, c.recalled, c.evidence.blocks)
            assert all(time <= at for time in a.evidence.times)


@each_layout
def test_the_frame_at_t_is_seen_and_the_next_is_not(family: str, segments: bool) -> None:
    stream = shared(family, segments).stream(window=3)
    stream.feed(shown(family, 8))
    for at, blocks in ((4.0, (2, 3, 4)), (4.999, (2, 3, 4)), (3.999, (1, 2, 3)), (0.0, (0,)), (None, (5, 6, 7))):
        assert look(stream, QUESTION, at=at, mode="window").draft.view.choice.blocks == (blocks,) * 3


@each_layout
@pytest.mark.parametrize("mode", ["frames:2.5", "frames:7", "frames:99"])
def test_frames_after_the_time_asked_about_are_not_told_apart(family: str, segments: bool, mode: str) -> None:
    """Naming a time beyond `at` ends the same way whether or not frames came after `at`."""
    engine = shared(family, segments)
    streams = [engine.stream(window=2), engine.stream(window=2)]
    streams[0].feed(shown(family, 3))
    streams[1].feed(shown(family, 9))
    ends = []
    for stream in streams:
        try:
            ends.append(look(stream, QUESTION, at=2.0, mode=mode).draft.view.choice.blocks)
        except wt.QuestionError as e:
            ends.append(str(e))
    assert ends[0] == ends[1]
