"""The decoding thread: bounded, overlapping, never left behind; and batches."""

import gc
import threading
import time
from itertools import islice

import numpy as np
import pytest
from made_clips import make_clip, number, steady

from clips import clip
from weavetime.errors import VideoError
from weavetime.types import Frame
from weavetime.video import Source, as_source, open_video
from weavetime.video.ahead import Ahead, DecodedSource, LiveSource

PIXELS = np.zeros((2, 2, 3), np.uint8)


def threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("weavetime")]


def gone(seconds: float = 2.0) -> bool:
    until = time.monotonic() + seconds
    while threads() and time.monotonic() < until:
        time.sleep(0.01)
    return not threads()


class Counting(DecodedSource):
    """Frames 0, 1, 2 …; `made` says how many were decoded."""

    def __init__(self, count: int, lookahead: int = 4, fail_at: int | None = None, cost: float = 0.0) -> None:
        super().__init__(lookahead)
        self.count, self.made, self.fail_at, self.cost, self.ended = count, 0, fail_at, cost, 0

    def produce(self, ahead: Ahead):
        try:
            for i in range(self.count):
                if i == self.fail_at:
                    raise VideoError("broke")
                time.sleep(self.cost)
                self.made += 1
                yield Frame(PIXELS, float(i))
        finally:
            self.ended += 1


def test_look_ahead_is_bounded() -> None:
    source = Counting(100, lookahead=4)
    frames = iter(source)
    next(frames)
    time.sleep(0.2)
    assert source.made <= 1 + 4 + 1  # read, waiting, and one in hand
    frames.close()
    assert gone()
    assert source.ended == 1


def test_decoding_overlaps_with_reading() -> None:
    source, begun = Counting(10, cost=0.03), time.monotonic()
    for _ in source:
        time.sleep(0.03)
    assert time.monotonic() - begun < 0.5  # one after the other takes 0.6 s


def test_an_error_comes_after_the_frames_before_it() -> None:
    frames = iter(Counting(10, fail_at=3))
    assert [next(frames).time for _ in range(3)] == [0, 1, 2]
    with pytest.raises(VideoError, match="broke"):
        next(frames)
    assert gone()


def test_abandoned_iterators_leave_no_thread() -> None:
    source = open_video(clip("vtest.avi"), fps=10, lookahead=2)
    for _ in range(3):
        assert next(iter(source)).time == 0
    del source
    gc.collect()
    assert gone()


def test_an_abandoned_live_source_leaves_no_thread() -> None:
    source = open_video(clip("vtest.avi"), fps=10, live=True)
    next(iter(source))
    assert threads()
    del source
    gc.collect()
    assert gone()


def test_close_ends_a_reader_that_waits() -> None:
    def never(ahead: Ahead):
        while not ahead.stopped():
            ahead.pause(10)
        yield from ()

    source = LiveSource(never, 2)
    threading.Timer(0.1, source.close).start()
    begun = time.monotonic()
    assert list(source) == []
    assert time.monotonic() - begun < 1
    assert gone()


def test_close_stops_a_file_at_once() -> None:
    source = open_video(clip("vtest.avi"), fps=10, lookahead=2)
    frames = iter(source)
    next(frames)
    begun = time.monotonic()
    source.close()
    source.close()
    assert time.monotonic() - begun < 1
    assert list(frames) == []
    assert gone()
    with pytest.raises(VideoError, match="closed"):
        next(iter(source))


def test_a_file_can_be_read_again_and_twice_at_once(tmp_path) -> None:
    path = make_clip(tmp_path / "a.mp4", steady(6))
    with open_video(path) as video:
        pairs = [(number(a.pixels), number(b.pixels)) for a, b in zip(video, video, strict=True)]
        assert pairs == [(25 * i, 25 * i) for i in range(6)]
        assert [f.time for f in video] == [0, 1, 2, 3, 4, 5]


def test_batches_of_a_file_never_depend_on_timing() -> None:
    sizes = [len(b) for b in Counting(10, cost=0.005).batches(4)]
    assert sizes == [4, 4, 2]
    assert [len(b) for b in Counting(10, lookahead=1).batches(4)] == [4, 4, 2]
    with pytest.raises(ValueError, match="at least 1"):
        next(Counting(3).batches(0))


def test_plain_frames_work_wherever_a_source_does() -> None:
    frames = [Frame(PIXELS, float(i)) for i in range(5)]
    source = as_source(frames)
    assert isinstance(source, Source)
    assert as_source(source) is source
    assert list(source) == frames == list(source)
    assert [len(b) for b in source.batches(2)] == [2, 2, 1]
    assert (source.live, source.duration, source.warnings, source.dropped) == (False, None, [], 0)
    assert list(as_source(f for f in frames)) == frames
    assert list(islice(as_source(frames), 2)) == frames[:2]


def test_only_sampled_frames_become_rgb(monkeypatch) -> None:
    from weavetime.video import file

    turned, to_rgb = [], file.to_rgb
    monkeypatch.setattr(file, "to_rgb", lambda picture: turned.append(1) or to_rgb(picture))
    assert len(list(open_video(clip("bikes.mp4")))) == len(turned) == 10
