"""Arrays, lists and folders of images."""

import av
import numpy as np
import pytest
from made_clips import number, numbered

from weavetime.errors import VideoError
from weavetime.types import Frame
from weavetime.video import array_video, open_video

ARRAY = np.stack([numbered(i) for i in range(6)])


def save(pixels: np.ndarray, path) -> None:
    with av.open(str(path), "w", format="image2", options={"update": "1"}) as out:
        stream = out.add_stream("png", rate=1)
        stream.height, stream.width, stream.pix_fmt = *pixels.shape[:2], "rgb24"
        out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(stream.encode())


@pytest.fixture
def folder(tmp_path):
    for i, name in enumerate(["a1.png", "a2.png", "A10.png", "b1.png", "b02.png", "b%03d.png"]):
        save(numbered(i), tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden.png").write_text("no picture")
    return tmp_path


def test_array_is_given_as_it_is() -> None:
    for source in (array_video(ARRAY, fps=2), open_video(ARRAY, fps=2), open_video(list(ARRAY), fps=2)):
        frames = list(source)
        assert [f.time for f in frames] == [0, 0.5, 1, 1.5, 2, 2.5]
        assert [f.until for f in frames] == [0.5, 1, 1.5, 2, 2.5, 3]
        assert all(np.array_equal(f.pixels, p) for f, p in zip(frames, ARRAY, strict=True))
        assert source.duration == 3


def test_array_with_times_and_a_range() -> None:
    times = [0.0, 0.3, 2.0, 7.5, 8.0, 11.0]
    assert [f.time for f in array_video(ARRAY, times=times)] == times
    assert [number(f.pixels) for f in array_video(ARRAY, times=times, start=2, end=8)] == [2, 3]
    assert [number(f.pixels) for f in open_video(ARRAY, start=2, end=4)] == [2, 3]


def test_thirds_are_exact() -> None:
    assert [f.time for f in array_video(ARRAY, fps=3)][3] == 1.0


def test_list_of_frames() -> None:
    frames = [Frame(p, 2.0 * i) for i, p in enumerate(ARRAY)]
    assert list(open_video(frames)) == frames


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((0, 4, 4, 3), np.uint8),
        np.zeros((2, 4, 4, 4), np.uint8),
        np.zeros((2, 4, 4), np.uint8),
        np.zeros((2, 0, 4, 3), np.uint8),
        np.zeros((2, 4, 4, 3), np.float32),
        [],
    ],
)
def test_bad_arrays(bad) -> None:
    with pytest.raises(VideoError):
        open_video(bad)


@pytest.mark.parametrize(
    "times", [[0, 1], [0, 1, 2, 3, 4, 4], [0, 2, 1, 3, 4, 5], [-1, 0, 1, 2, 3, 4], [0, 1, 2, 3, 4, float("nan")]]
)
def test_bad_times(times) -> None:
    with pytest.raises(VideoError):
        array_video(ARRAY, times=times)


def test_folder_in_natural_order(folder) -> None:
    with open_video(folder, fps=0.5) as video:
        frames = list(video)
    assert [number(f.pixels) for f in frames] == [0, 1, 2, 3, 4, 5]
    assert [f.time for f in frames] == [0, 2, 4, 6, 8, 10]
    assert video.duration == 12
    assert np.array_equal(frames[1].pixels, numbered(1))


def test_list_of_images(folder) -> None:
    with open_video([folder / "b1.png", str(folder / "a1.png")], start=1) as video:
        assert [(f.time, number(f.pixels)) for f in video] == [(1, 0)]


def test_folder_with_a_broken_image(folder) -> None:
    (folder / "a3.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 100)
    with open_video(folder) as video, pytest.raises(VideoError, match=r"a3\.png"):
        list(video)
