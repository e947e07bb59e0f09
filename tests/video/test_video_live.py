"""Live sources without a network: their clock, what is dropped, and how they reconnect."""

import time
from fractions import Fraction

import av
import numpy as np
import pytest
from made_clips import make_clip, number, numbered, steady

from clips import clip
from weavetime.errors import VideoError
from weavetime.types import Frame
from weavetime.video import VideoWarning, open_video
from weavetime.video import live as live_module
from weavetime.video.ahead import Ahead, LiveSource
from weavetime.video.clock import LiveClock
from weavetime.video.live import Connection


def picture(seconds: float | None, lasts: float = 0.04, value: int = 0) -> av.VideoFrame:
    """What a decoder gives."""
    frame = av.VideoFrame.from_ndarray(numbered(value), format="rgb24")
    frame.pts = None if seconds is None else round(seconds * 1000)
    frame.time_base, frame.duration = Fraction(1, 1000), round(lasts * 1000)
    return frame


class Wall:
    """A wall clock that tests set."""

    def __init__(self) -> None:
        self.now = 500.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("begins", [3, 70.2, 72, 9000])
def test_live_times_follow_the_source_then_the_wall_after_a_gap(begins: float) -> None:
    wall = Wall()
    clock = LiveClock(wall)
    assert [clock.time(picture(70 + t)) for t in (0, 0.04, 0.08)] == [0, Fraction(1, 25), Fraction(2, 25)]
    wall.now += 7
    clock.reconnected()
    assert [clock.time(picture(begins + t)) for t in (0, 0.04)] == [7, 7 + Fraction(1, 25)]


def test_live_times_never_go_back_when_the_source_ran_ahead_of_the_wall() -> None:
    wall = Wall()
    clock = LiveClock(wall)
    for t in range(10):  # as HLS does: the first segments come at once
        clock.time(picture(t, lasts=1))
    wall.now += 4
    clock.reconnected()
    assert clock.time(picture(100, lasts=1)) > 9


@pytest.mark.parametrize("jump", [-50.0, 5000.0])
def test_a_jump_of_the_source_is_bridged_by_the_wall(jump: float) -> None:
    wall = Wall()
    clock = LiveClock(wall)
    clock.time(picture(60))
    wall.now += 2
    clock.time(picture(62))
    wall.now += 1
    assert clock.time(picture(63 + jump)) == 3
    assert clock.time(picture(63.04 + jump)) == 3 + Fraction(1, 25)


def test_a_connection_may_begin_without_a_stamp() -> None:
    wall = Wall()
    clock = LiveClock(wall)
    assert [clock.time(picture(t)) for t in (None, 0.04)] == [0, Fraction(1, 25)]
    wall.now += 5
    clock.reconnected()
    assert [clock.time(picture(t)) for t in (None, 0.04, 0.08)] == [5, Fraction(126, 25), Fraction(127, 25)]


def test_stray_and_stampless_pictures() -> None:
    wall = Wall()
    clock = LiveClock(wall)
    clock.time(picture(60))
    clock.time(picture(60.1))
    assert clock.time(picture(60.05)) is None
    assert clock.time(picture(60.1)) is None
    wall.now += 1.5
    assert clock.time(picture(None)) == Fraction(3, 2)


def hundred(ahead: Ahead):
    for i in range(100):
        yield Frame(np.zeros((2, 2, 3), np.uint8), float(i))


def test_the_newest_win_and_the_dropped_are_counted() -> None:
    source = LiveSource(hundred, 8)
    source._ahead.join(2)
    assert source.dropped == 92
    assert [[f.time for f in b] for b in source.batches(5)] == [[92, 93, 94, 95, 96], [97, 98, 99]]
    assert source.dropped == 92


def test_live_batches_give_what_is_ready() -> None:
    def slowly(ahead: Ahead):
        for i in range(6):
            ahead.pause(0.05)
            yield Frame(np.zeros((2, 2, 3), np.uint8), float(i))

    assert [len(b) for b in LiveSource(slowly, 8).batches(4)] == [1] * 6


def test_a_file_played_live_keeps_its_own_pace(tmp_path) -> None:
    path, begun = make_clip(tmp_path / "a.mp4", steady(2)), time.monotonic()
    with open_video(path, fps=5, live=True) as video:
        assert (video.live, video.duration) == (True, 2.0)
        came = [(f.time, time.monotonic() - begun) for f in video]
    assert [t for t, _ in came] == pytest.approx([0.2 * i for i in range(10)])
    assert all(-0.1 < at - t - came[0][1] < 0.25 for t, at in came)
    assert video.dropped == 0


def test_a_slow_reader_of_a_live_file_sees_the_newest() -> None:
    with open_video(clip("bikes.mp4"), fps=25, lookahead=3, live=True, end=2) as video:
        frames = iter(video)
        next(frames)
        time.sleep(1)
        late = next(frames)
        assert 0.6 < late.time < 1.4
        assert video.dropped > 10


def test_arrays_and_lists_can_be_live() -> None:
    pixels = np.stack([numbered(i) for i in range(4)])
    frames = [Frame(p, 0.1 * i) for i, p in enumerate(pixels)]
    for what in (pixels, frames):
        begun, source = time.monotonic(), open_video(what, fps=10, live=True)
        assert [number(f.pixels) for f in source] == [0, 1, 2, 3]
        assert time.monotonic() - begun > 0.15
        assert source.live


class Fake:
    """A container of a connection that gives some pictures and ends."""

    def __init__(self, pictures, formats=("rtsp",), duration=None, broken=True) -> None:
        self._pictures, self.formats, self.duration, self.broken = pictures, set(formats), duration, broken
        self.closed = False

    def pictures(self):
        yield from self._pictures

    def close(self) -> None:
        self.closed = True

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def second(begin: float, value: int) -> list:
    return [picture(begin + 0.1 * i, 0.1, value) for i in range(10)]


def connection(tries, first, reconnect=5.0, fps=Fraction(10)):
    made = iter(tries)

    def connect():
        container = next(made)
        if isinstance(container, Exception):
            raise container
        return container

    return LiveSource(Connection("cam", connect, first, fps=fps, reconnect=reconnect).produce, 100)


def test_reconnecting_shows_the_gap(monkeypatch) -> None:
    monkeypatch.setattr(live_module, "FIRST_WAIT", 0.2)
    first, later = Fake(second(40, 1)), Fake(second(7, 2), broken=False, duration=Fraction(1))
    refused = [VideoError("refused"), VideoError("refused")]
    source = connection([*refused, later], first)
    with pytest.warns(VideoWarning, match="cam: lost at 0.9 s, back"):
        frames = list(source)
    assert first.closed
    assert later.closed
    times = [f.time for f in frames]
    assert [number(f.pixels) for f in frames] == [1] * 10 + [2] * 10
    assert times == sorted(set(times))
    assert times[10] == pytest.approx(1.4, abs=0.3)  # 0.2 + 0.4 + 0.8 s of waiting
    assert np.diff(times)[10:] == pytest.approx(0.1)


def test_giving_up_is_an_error_after_the_frames() -> None:
    source = connection([VideoError("refused")] * 100, Fake(second(0, 1)), reconnect=0.6)
    begun, frames = time.monotonic(), iter(source)
    assert [next(frames).time for _ in range(10)] == pytest.approx([0.1 * i for i in range(10)])
    with pytest.raises(VideoError, match=r"cam: lost at 0\.9 s and not back after 0\.6 s \(refused\)"):
        next(frames)
    assert time.monotonic() - begun < 1.5


def test_a_sender_that_ends_is_the_end_without_reconnecting() -> None:
    assert len(list(connection([], Fake(second(0, 1), broken=False), reconnect=0))) == 10


def test_a_finished_broadcast_is_the_end(monkeypatch) -> None:
    monkeypatch.setattr(live_module, "FIRST_WAIT", 0.01)
    over = Fake([], formats=("hls",), duration=Fraction(60))
    assert len(list(connection([over], Fake(second(0, 1), formats=("hls",))))) == 10
    assert over.closed
