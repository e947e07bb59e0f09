"""Which frames are given, and with which times."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_clips import make_clip, number, on_screen, own_times, steady

from clips import clip
from weavetime.video import VideoWarning, open_video
from weavetime.video.sampling import Timed, exact, sample

RATES = [0.5, 1.0, 2.0]
UNEVEN = [0, 0.04, 0.5, 0.9, 1.0, 1.7, 1.72, 1.98, 2.6, 4.9, 5.0, 5.1, 7.51, 7.52, 8.2]


@given(
    steps=st.lists(st.integers(1, 400), min_size=1, max_size=60),
    lasts=st.integers(1, 300),
    fps=st.sampled_from([Fraction(1, 3), Fraction(1, 2), Fraction(1), Fraction(2), Fraction(7), Fraction(30000, 1001)]),
    start=st.integers(0, 300),
)
def test_sample_is_what_is_on_screen(steps: list[int], lasts: int, fps: Fraction, start: int) -> None:
    times = [Fraction(sum(steps[:i]), 100) for i in range(len(steps))]
    begin, end = Fraction(start, 100), times[-1] + Fraction(lasts, 100)
    shown = sample([Timed(t, Fraction(lasts, 100), i) for i, t in enumerate(times)], fps, begin)
    assert [s.picture for s in shown] == on_screen(times, end, fps, begin)


@given(stop=st.integers(1, 3000), fps=st.sampled_from([Fraction(1, 2), Fraction(1), Fraction(3)]))
def test_end_cuts_the_grid_and_reads_no_further(stop: int, fps: Fraction) -> None:
    times, end = steady(20, 10), Fraction(stop, 100)
    read = []

    def frames():
        for i, t in enumerate(times):
            read.append(t)
            yield Timed(t, Fraction(1, 10), i)

    shown = [s.picture for s in sample(frames(), fps, end=end)]
    assert shown == on_screen(times, min(end, Fraction(20)), fps)
    assert read[-1] <= end + Fraction(1, 10)


def test_rates_are_read_as_written() -> None:
    assert exact(0.1) == Fraction(1, 10)
    assert exact(1 / 3) == Fraction(1, 3)
    assert exact(29.97) == Fraction(2997, 100)


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("name", ["bikes.mp4", "bigbuckbunny.mp4", "vtest.avi"])
def test_real_clips_by_their_own_times(name: str, fps: float) -> None:
    times, end = own_times(clip(name))
    with open_video(clip(name), fps=fps) as video:
        frames = list(video)
    assert [f.time for f in frames] == [float(times[i]) for i in on_screen(times, end, exact(fps))]
    assert all(f.until == pytest.approx(f.time + 1 / fps) for f in frames)
    assert all(f.pixels.dtype == np.uint8 and f.pixels.shape == frames[0].pixels.shape for f in frames)


@pytest.mark.parametrize("fps", [*RATES, 10.0])
@pytest.mark.parametrize(
    ("name", "times", "options"),
    [
        ("uneven.mp4", UNEVEN, {"bf": "0"}),
        ("uneven-b.mp4", UNEVEN, {"bf": "3", "g": "50"}),
        ("uneven.mkv", UNEVEN, {"bf": "2"}),
        ("b.mp4", steady(5), {"bf": "3", "b-pyramid": "normal", "g": "30"}),
        ("offset.mkv", steady(5, start=10), {"bf": "2"}),
        ("offset.mp4", steady(5, start=10), {"bf": "2"}),
        ("offset.ts", steady(5, start=1000), {"bf": "3"}),
        ("slow.mp4", steady(20, rate=1, start=0.3), {"bf": "2"}),
        ("29.97.mp4", [Fraction(1001 * i, 30000) for i in range(150)], {"bf": "2"}),
    ],
)
def test_picture_and_time_belong_together(tmp_path, name: str, times: list, options: dict, fps: float) -> None:
    path = make_clip(tmp_path / name, times, options=options)
    with open_video(path, fps=fps) as video:
        frames = list(video)
    told = [Fraction(t) - Fraction(times[0]) for t in times]
    assert [f.time for f in frames] == pytest.approx([float(told[number(f.pixels)]) for f in frames], abs=1e-3)
    assert all(a.time < b.time for a, b in pairwise(frames))
    kept, end = own_times(path)
    assert [number(f.pixels) for f in frames] == on_screen(kept, end, exact(fps))


@pytest.mark.parametrize("fps", RATES)
def test_avi_with_b_frames_keeps_presentation_order(tmp_path, fps: float) -> None:
    path = make_clip(tmp_path / "b.avi", steady(6), options={"bf": "3", "g": "30"}, ticks=Fraction(1, 25))
    with open_video(path, fps=fps) as video:
        frames = list(video)
    assert [number(f.pixels) for f in frames] == on_screen(steady(6), Fraction(6), exact(fps))
    assert [f.time for f in frames] == [number(f.pixels) / 25 for f in frames]
    assert not video.warnings


def test_missing_timestamps_are_filled_and_told(tmp_path) -> None:
    path = make_clip(tmp_path / "bare.h264", steady(4), form="h264", options={"bf": "2"})
    with open_video(path, fps=2) as video, pytest.warns(VideoWarning, match="100 pictures have no timestamp"):
        frames = list(video)
    assert [f.time for f in frames] == pytest.approx([0, 0.48, 1, 1.48, 2, 2.48, 3, 3.48])
    assert [number(f.pixels) / 25 for f in frames] == pytest.approx([f.time for f in frames])


@pytest.mark.filterwarnings("ignore:.*damaged")  # where the two halves meet
def test_a_clock_that_starts_again_goes_on(tmp_path) -> None:
    halves = [make_clip(tmp_path / f"{i}.ts", steady(4), options={"bf": "0"}, first=100 * i) for i in range(2)]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(p.read_bytes() for p in halves))
    with open_video(joined, fps=1) as video, pytest.warns(VideoWarning, match="start again 1 times"):
        frames = list(video)
    assert [number(f.pixels) for f in frames] == [0, 25, 50, 75, 100, 125, 150, 175]
    assert [f.time for f in frames] == pytest.approx(range(8), abs=0.05)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi"])
def test_a_later_start_gives_the_same_pictures(tmp_path, name: str) -> None:
    ticks = Fraction(1, 25) if name.endswith("avi") else Fraction(1, 90000)
    path = make_clip(tmp_path / name, steady(30), options={"bf": "3", "g": "100"}, ticks=ticks)
    with open_video(path, fps=1) as video:
        whole = [f for f in video if 11 <= f.time < 17]
    with open_video(path, fps=1, start=11, end=17) as video:
        part = list(video)
    assert [f.time for f in part] == [f.time for f in whole] == [11, 12, 13, 14, 15, 16]
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(part, whole, strict=True))
    with open_video(path, fps=1, start=11.5, end=13.5) as video:
        assert [number(f.pixels) for f in video] == [287, 312]


def test_a_jump_that_lands_too_late_is_not_used(tmp_path, monkeypatch) -> None:
    path = make_clip(tmp_path / "a.mp4", steady(30), options={"g": "50", "bf": "2"})
    monkeypatch.setattr("weavetime.video.file.SEEK_MARGIN", Fraction(-9))
    with open_video(path, fps=1, start=11, end=14) as video:
        assert [number(f.pixels) for f in video] == [275, 300, 325]


def test_a_later_start_jumps_instead_of_decoding_all(tmp_path, monkeypatch) -> None:
    from weavetime.video.container import Container

    path = make_clip(tmp_path / "long.mp4", steady(120), options={"bf": "2", "g": "50"})
    decoded, pictures = [], Container.pictures
    monkeypatch.setattr(Container, "pictures", lambda self: (decoded.append(p) or p for p in pictures(self)))
    with open_video(path, fps=1, start=100, end=102) as video:
        assert [f.time for f in video] == [100, 101]
    assert len(decoded) < 250
