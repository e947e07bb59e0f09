"""What files hold besides pictures in order: rotation, damage, and nothing at all."""

import gc
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from contextlib import contextmanager
from fractions import Fraction
from math import floor
from pathlib import Path

import av
import numpy as np
import pytest
from made_clips import HEIGHT, SQUARE, WIDTH, make_clip, make_sound, number, steady

from clips import clip
from weavetime.errors import VideoError
from weavetime.video import VideoWarning, open_video
from weavetime.video.pixels import oriented


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_rotation_is_applied_to_the_pixels(tmp_path, turns: int) -> None:
    path = make_clip(tmp_path / "turned.mp4", steady(0.2), rotation=90 * turns if turns < 3 else -90)
    (frame,) = open_video(path)
    assert frame.pixels.shape == ((HEIGHT, WIDTH, 3) if turns % 2 == 0 else (WIDTH, HEIGHT, 3))
    upright = np.rot90(frame.pixels, -turns)  # FFmpeg's angle is how far the picture is turned counterclockwise
    assert number(upright) == 0
    assert upright[-SQUARE // 2, SQUARE // 2] == pytest.approx([255, 0, 0], abs=40)
    assert frame.pixels.flags.c_contiguous


@pytest.mark.parametrize("rotation", [None, 90])
def test_pictures_and_their_decoder_go_when_the_video_does(tmp_path, rotation: int | None) -> None:
    path = make_clip(tmp_path / "clip.mp4", steady(4), rotation=rotation)
    list(open_video(path))  # what is made once, on first use
    gc.collect()
    gc.disable()
    try:
        assert len(list(open_video(path))) == 4
        before = {id(x) for x in gc.get_objects()}
        assert len(list(open_video(path))) == 4
        left = [x for x in gc.get_objects() if id(x) not in before and type(x).__module__.startswith("av.")]
        assert left == []
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_every_quarter_turn_and_mirror() -> None:
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    for a, b, c, d in [(1, 0, 0, 1), (-1, 0, 0, 1), (1, 0, 0, -1), (-1, 0, 0, -1)] + [
        (0, b, c, 0) for b in (1, -1) for c in (1, -1)
    ]:
        turned = oriented(pixels, np.array([a, b, 0, c, d, 0, 0, 0, 0], np.int32) * 65536)
        for y in range(2):
            for x in range(3):
                across, down = a * (x + 0.5) + c * (y + 0.5), b * (x + 0.5) + d * (y + 0.5)
                there = turned[floor(down) % turned.shape[0], floor(across) % turned.shape[1]]
                assert np.array_equal(there, pixels[y, x])


@pytest.mark.parametrize("name", ["cut.mp4", "cut.mkv", "cut.avi"])
def test_a_truncated_file_gives_what_is_readable_and_says_so(tmp_path, name: str) -> None:
    ticks = Fraction(1, 25) if name.endswith("avi") else Fraction(1, 90000)
    whole = make_clip(
        tmp_path / f"whole.{name[-3:]}",
        steady(20),
        options={"bf": "0" if name.endswith("avi") else "2", "g": "25"},
        muxer={"movflags": "faststart"} if name.endswith("mp4") else None,
        ticks=ticks,
    )
    data = whole.read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) * 6 // 10])
    with (
        open_video(tmp_path / name) as video,
        pytest.warns(VideoWarning, match=r"readable up to \d+\.\d s of 20\.0 s"),
    ):
        frames = list(video)
    assert 5 < len(frames) < 18
    assert [number(f.pixels) for f in frames] == [25 * i for i in range(len(frames))]
    (text,) = video.warnings
    assert float(text.split("up to ")[1].split()[0]) == pytest.approx(frames[-1].time, abs=1.05)


def test_a_real_truncated_file(tmp_path) -> None:
    data = clip("vtest.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: len(data) // 4])
    with open_video(tmp_path / "cut.avi") as video, pytest.warns(VideoWarning, match=r"of 79\.5 s"):
        assert 10 < len(list(video)) < 30


def test_damage_inside_is_counted_not_shown(tmp_path) -> None:
    path = make_clip(tmp_path / "hurt.mp4", steady(10), options={"g": "25", "bf": "0"})
    data = bytearray(path.read_bytes())
    middle = data.index(b"mdat") + 4 + (len(data) // 3)
    data[middle : middle + 60] = b"\xff" * 60
    path.write_bytes(data)
    with open_video(path) as video, pytest.warns(VideoWarning, match="damaged packets were left out"):
        assert len(list(video)) >= 8


def test_a_whole_file_gives_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with open_video(clip("bigbuckbunny.mp4")) as video:
            assert len(list(video)) == 6
    assert video.warnings == []


def bad_file(folder, kind: str):
    path = folder / f"{kind}.mp4"
    if kind == "text":
        path = folder / "notes.txt"
        path.write_text("not a video\n" * 50)
    elif kind == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(5000))
    elif kind == "empty":
        path.touch()
    elif kind == "sound":
        make_sound(path)
    elif kind == "cover":
        make_sound(path)
        path = with_cover(path, folder / "cover.m4a")
    elif kind == "headless":
        data = make_clip(folder / "whole.mp4", steady(2)).read_bytes()
        path.write_bytes(data[: len(data) // 2])
    elif kind == "pictureless":
        data = make_clip(folder / "whole.mp4", steady(2), muxer={"movflags": "faststart"}).read_bytes()
        path.write_bytes(data[: data.index(b"mdat") + 4])
    elif kind == "folder":
        path = folder / "no-images"
        path.mkdir()
    return path


def with_cover(sound, path):
    """The sound with a picture beside it, as music files have: still no video."""
    with av.open(str(sound)) as source, av.open(str(path), "w", format="mp4") as out:
        copied = out.add_stream_from_template(source.streams.audio[0])
        cover = out.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        out.mux(cover.encode(av.VideoFrame(64, 64, "yuvj420p")))
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = copied
                out.mux(packet)
    return path


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("missing", "no such file"),
        ("text", "not a video"),
        ("noise", "not a video|holds"),
        ("empty", "is empty"),
        ("sound", "holds only sound"),
        ("cover", "holds only sound"),
        ("headless", "cut off before its index"),
        ("pictureless", "not a video|no readable pictures"),
        ("folder", "holds no images"),
    ],
)
def test_bad_files_are_one_clear_line(tmp_path, kind: str, says: str) -> None:
    path = bad_file(tmp_path, kind)
    with pytest.raises(VideoError, match=says) as caught:
        open_video(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@contextmanager
def no_privileges():
    """Root may read everything: give that up for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("kind", ["file", "folder", "image"])
def test_no_permission(kind: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        path = place / "locked"
        if kind == "file":
            make_clip(path, steady(0.2), form="mp4")
        elif kind == "image":
            (place / "a.png").touch()
            path = place / "a.png"
            path.write_bytes(b"x")
        else:
            path.mkdir()
        path.chmod(0)
        with no_privileges(), pytest.raises(VideoError, match="may not be read"):
            open_video(place if kind == "image" else path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"fps": 0},
        {"fps": -1},
        {"fps": float("nan")},
        {"start": -1},
        {"start": 3, "end": 3},
        {"start": 99},
        {"lookahead": 0},
        {"timeout": 0},
        {"reconnect": -1},
    ],
)
def test_bad_settings(wrong: dict) -> None:
    with pytest.raises(VideoError):
        open_video(clip("bikes.mp4"), **wrong)


def test_names_that_look_like_something_else(tmp_path, monkeypatch) -> None:
    path = make_clip(tmp_path / "a.mp4", steady(0.4))
    monkeypatch.chdir(tmp_path)
    for name in ["rtsp:x.mp4", "100%03d.mp4", "0", "-i.mp4"]:
        shutil.copy(path, tmp_path / name)
        assert len(list(open_video(name))) == 1
    assert len(list(open_video(f"file://{path}"))) == 1


def test_pyav_is_needed_only_to_open() -> None:
    code = (
        "import sys; sys.modules['av'] = None\n"
        "import weavetime.video as v, numpy as np\n"
        "assert len(list(v.array_video(np.zeros((2, 4, 4, 3), np.uint8)))) == 2\n"
        "try: v.open_video(sys.argv[1])\n"
        "except v.source.VideoError as e: print(e)\n"
    )
    command = [sys.executable, "-c", code, str(clip("bikes.mp4"))]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "pip install weavetime[video]" in out.stdout
