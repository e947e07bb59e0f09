"""Which frames a sample shows: even over time, later ones preferred, key frames kept. Pictures carry numbers."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from written import make_clip, make_sound, number, on_screen, own_times, steady

from weavetime.data import Record
from weavetime.errors import DataError, VideoError
from weavetime.train.sampling import draw, read_frames
from weavetime.types import Frame

TURNS = (("a", "b"),)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """20 s at 10 a second."""
    return Record(make_clip(tmp_path_factory.mktemp("clips") / "steady.mp4", steady(20, 10), rate=10), TURNS)


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """Pictures at irregular times up to 19 s."""
    rng = random.Random(0)
    times = sorted({Fraction(rng.randrange(0, 19_000), 1000) for _ in range(120)} | {Fraction(0)})
    return Record(make_clip(tmp_path_factory.mktemp("clips") / "uneven.mp4", times), TURNS)


def read(record: Record, *, fps: float = 1.0, most: int | None = 32, beta: float = 0.0, seed: int = 0) -> list[Frame]:
    return read_frames(record, fps=fps, most=most, beta=beta, rng=random.Random(seed))


def numbers(frames: list[Frame]) -> list[int]:
    return [number(f.pixels) for f in frames]


def test_all_candidates_where_they_are_few(clip: Record) -> None:
    frames = read(clip)
    assert numbers(frames) == list(range(0, 200, 10))
    assert [(f.time, f.until) for f in frames] == [(i, i + 1) for i in range(20)]
    assert numbers(read(clip, beta=3.0)) == list(range(0, 200, 10))
    assert numbers(read(clip, fps=0.5, most=None)) == list(range(0, 200, 20))


@pytest.mark.parametrize("most", [1, 3, 7, 16])
def test_evenly_over_the_span(clip: Record, uneven: Record, most: int) -> None:
    for record, span in ((clip, (None, None)), (uneven, (2.5, 14.0))):
        record = replace(record, start=span[0], end=span[1])
        frames = read(record, most=most)
        times, end = own_times(record.video)
        start = Fraction(record.start or 0)
        end = Fraction(record.end) if record.end else end
        wanted = on_screen(times, end, min(Fraction(1), most / (end - start)), start)[:most]
        assert numbers(frames) == wanted
        assert [f.time for f in frames] == [float(times[i]) for i in wanted]
        assert all(f.until is not None and f.until > f.time for f in frames)


def test_the_records_own_span_and_number(clip: Record) -> None:
    record = replace(clip, start=4.0, end=12.0)
    assert numbers(read(record)) == list(range(40, 120, 10))
    assert numbers(read(replace(record, nframes=2))) == [40, 80]
    assert len(read(replace(record, nframes=5, start=0.0), beta=2.0)) == 5
    assert numbers(read(replace(record, end=20.9)))[-1] == 190  # a little beyond the end is an annotation's rounding


@pytest.mark.parametrize("beta", [0.0, 1.5])
def test_key_frames_are_kept_by_number(clip: Record, uneven: Record, beta: float) -> None:
    for record in (clip, uneven):
        count = len(own_times(record.video)[0])
        keys = (0, 1, 37, 38, 71, count - 2, count - 1)
        frames = read(replace(record, key_frames=keys), most=10, beta=beta)
        assert set(keys) <= set(numbers(frames))
        assert 7 < len(frames) <= 10
        times = own_times(record.video)[0]
        assert [f.time for f in frames] == [float(times[i]) for i in numbers(frames)]
        assert numbers(frames) == sorted(set(numbers(frames)))
        assert numbers(read(replace(record, key_frames=keys), most=7, beta=beta)) == list(keys)
    assert set(keys) <= set(numbers(read(replace(record, key_frames=keys), most=None, beta=beta)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"key_frames": (200,)}, "key frame 200 is missing: .* has 200 pictures"),
        ({"key_frames": (5,), "start": 1.0}, "key frame 5 at 0.50 s lies outside 1 to 20.0 s"),
        ({"key_frames": (80,), "end": 8.0}, "key frame 80 at 8.00 s lies outside 0 to 8.0 s"),
        ({"key_frames": (1, 2, 3), "nframes": 2}, "3 key frames, but a sample shows at most 2"),
        ({"start": 20.5}, "video_start 20.5 lies beyond"),
        ({"end": 21.5}, "video_end 21.5 lies beyond"),
    ],
)
def test_what_the_video_does_not_have(clip: Record, change: dict[str, object], said: str) -> None:
    with pytest.raises(DataError, match=said):
        read(replace(clip, **change))  # type: ignore[arg-type]


def test_broken_videos(clip: Record, tmp_path: Path) -> None:
    data = make_clip(tmp_path / "a.mkv", steady(10, 10), rate=10).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) * 6 // 10])
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.mp4").touch()
    make_sound(tmp_path / "sound.mp4")
    for name, said in {
        "cut.mkv": "damaged: .*readable up to",
        "text.mp4": "not a video",
        "empty.mp4": "is empty",
        "none.mp4": "no such file",
        "sound.mp4": "only sound",
        ".": "is a folder",
    }.items():
        for beta in (0.0, 1.0):
            with pytest.raises((DataError, VideoError), match=said):
                read(Record(tmp_path / name, TURNS), most=9, beta=beta)
    assert numbers(read(Record(tmp_path / "cut.mkv", TURNS, end=3.0))) == [0, 10, 20]  # it is whole so far


def test_a_video_that_does_not_say_how_long_it_is(tmp_path: Path) -> None:
    record = Record(make_clip(tmp_path / "a.h264", steady(3, 10), rate=10, form="h264"), TURNS)
    with pytest.raises(DataError, match="does not say how long it lasts"):
        read(record, most=2)


def plainly(count: int, most: int, beta: float, rng: np.random.Generator) -> list[int]:
    """One after another, each draw among those that are left."""
    left, drawn = list(range(count)), []
    for _ in range(most):
        weights = np.array([math.exp(beta * i / count) for i in left])
        drawn.append(left.pop(rng.choice(len(left), p=weights / weights.sum())))
    return drawn


def test_later_frames_are_preferred_as_the_weights_say() -> None:
    count, most, beta, rounds = 12, 4, 3.0, 3000
    rng, found, wanted = np.random.default_rng(0), Counter[int](), Counter[int]()
    for i in range(rounds):
        chosen = draw(((k, k / count) for k in range(count)), most, beta, random.Random(i))
        assert chosen == sorted(set(chosen))
        assert len(chosen) == most
        found.update(chosen)
        wanted.update(plainly(count, most, beta, rng))
    assert found[11] > 6 * found[0]
    for k in range(count):
        share = wanted[k] / rounds
        assert abs(found[k] - wanted[k]) / rounds < 5 * math.sqrt(2 * share * (1 - share) / rounds)


def test_later_frames_of_a_video(clip: Record) -> None:
    drawn = [numbers(read(clip, most=5, beta=4.0, seed=seed)) for seed in range(12)]
    assert all(n == sorted(n) and len(n) == 5 and all(i % 10 == 0 for i in n) for n in drawn)
    assert len({tuple(n) for n in drawn}) > 6
    assert np.mean(drawn) > 125  # evenly: 80
    assert drawn[0] == numbers(read(clip, most=5, beta=4.0, seed=0))
