"""Streams over real servers on loopback: RTSP, HLS, plain HTTP, and servers that do not answer."""

import socket
import threading
import time
from contextlib import contextmanager
from itertools import islice, pairwise

import pytest
from made_clips import make_clip, number, steady
from servers import Rtsp, free_port, silent, web

from weavetime.errors import VideoError
from weavetime.video import VideoWarning, open_video


def test_rtsp_frames_come_at_their_times() -> None:
    with Rtsp() as server, open_video(server.url, fps=5) as video:
        assert video.live
        assert video.duration is None
        feed = iter(video)
        frames = list(islice(feed, 12))  # opening takes a second or so, whose pictures wait
        begun = time.monotonic()
        frames += islice(feed, 10)
        took = time.monotonic() - begun
    times = [f.time for f in frames]
    assert times[0] < 0.1
    assert all(0.15 < b - a < 0.25 for a, b in pairwise(times))
    assert took == pytest.approx(2, abs=0.5)
    assert frames[0].pixels.shape == (64, 192, 3)
    assert frames[0].pixels.std() > 5  # a ball, not a grey picture


def test_rtsp_reconnects_and_the_gap_is_in_the_times() -> None:
    with Rtsp() as server, open_video(server.url, fps=5, timeout=1.5) as video:
        frames = iter(video)
        before = [next(frames).time for _ in range(5)]
        server.kill()
        threading.Timer(2.5, server.start).start()
        begun = time.monotonic()
        with pytest.warns(VideoWarning, match="lost at"):
            rest = list(islice(frames, 12))
        times = before + [f.time for f in rest]
        steps = [b - a for a, b in pairwise(times)]
        assert all(step > 0 for step in steps)
        gap = max(steps)
        assert 2.4 < gap < 8
        assert sum(step > 0.3 for step in steps) == 1
        assert times[-1] - before[-1] == pytest.approx(time.monotonic() - begun, abs=1)


def test_rtsp_gone_for_good() -> None:
    with Rtsp() as server, open_video(server.url, fps=5, timeout=1, reconnect=1.5) as video:
        frames = iter(video)
        next(frames)
        server.kill()
        begun = time.monotonic()
        with pytest.raises(VideoError, match=r"not back after 1\.5 s"):
            list(frames)
        assert time.monotonic() - begun < 6


def test_rtsp_with_sound_alone() -> None:
    with Rtsp("sound") as server, pytest.raises(VideoError, match="holds only sound"):
        open_video(server.url)


@pytest.mark.parametrize("address", ["rtsp://u:secret@127.0.0.1:{}/x", "http://127.0.0.1:{}/x.m3u8"])
def test_nobody_there(address: str) -> None:
    with pytest.raises(VideoError, match="cannot be reached") as caught:
        open_video(address.format(free_port()))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("address", ["rtsp://127.0.0.1:{}/x", "http://127.0.0.1:{}/x.mp4", "tcp://127.0.0.1:{}"])
def test_somebody_who_never_answers(address: str) -> None:
    begun = time.monotonic()
    with silent() as port, pytest.raises(VideoError, match=r"did not answer|cannot be reached"):
        open_video(address.format(port), timeout=1)
    assert time.monotonic() - begun < 4


@pytest.mark.parametrize("address", ["http://nowhere.invalid/a.mp4", "nonsense://127.0.0.1/a"])
def test_no_such_host_or_protocol(address: str) -> None:
    with pytest.raises(VideoError, match="cannot be reached"):
        open_video(address)


def segments(folder, seconds: int = 8):
    """One-second MPEG-TS segments of a clip and their names."""
    folder.mkdir()
    make_clip(
        folder / "all.m3u8",
        steady(seconds),
        form="hls",
        options={"g": "25", "bf": "0", "sc_threshold": "0"},
        muxer={"hls_time": "1", "hls_list_size": "0", "hls_segment_filename": str(folder / "s%02d.ts")},
    )
    return sorted(p.name for p in folder.glob("s*.ts"))


def playlist(folder, names, first: int, *, ended: bool = False) -> None:
    """Publish a live playlist that shows some of the segments."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1", f"#EXT-X-MEDIA-SEQUENCE:{first}"]
    lines += [line for name in names for line in ("#EXTINF:1.0,", name)]
    part = folder / "live.part"
    part.write_text("\n".join([*lines, "#EXT-X-ENDLIST"] if ended else lines) + "\n")
    part.rename(folder / "live.m3u8")


def broadcast(folder, names, at: int, until: int, stop: threading.Event) -> None:
    for i in range(at, until + 1):
        playlist(folder, names[max(0, i - 3) : i], max(0, i - 3), ended=i == len(names))
        if stop.wait(1):
            return


def test_hls_recording_is_read_in_full(tmp_path) -> None:
    segments(tmp_path / "hls")
    with web(tmp_path / "hls") as address, open_video(f"{address}/all.m3u8", fps=2) as video:
        frames = list(video)
    assert not video.live
    assert [number(f.pixels) for f in frames] == [int(12.5 * i) for i in range(16)]
    assert [f.time for f in frames] == pytest.approx([number(f.pixels) / 25 for f in frames])


def test_hls_live_from_beginning_to_end(tmp_path) -> None:
    names, stop = segments(tmp_path / "hls"), threading.Event()
    playlist(tmp_path / "hls", names[:3], 0)
    station = threading.Thread(target=broadcast, args=(tmp_path / "hls", names, 3, 8, stop), daemon=True)
    with web(tmp_path / "hls") as address:
        station.start()
        with open_video(f"{address}/live.m3u8", fps=2, reconnect=10) as video:
            assert video.live
            frames = list(video)
        stop.set()
        station.join()
    shown = [number(f.pixels) for f in frames]
    assert [f.time for f in frames] == pytest.approx([(n - shown[0]) / 25 for n in shown])
    assert shown[-1] == 187
    assert len(shown) == 16


def test_hls_server_that_stops_is_found_again(tmp_path) -> None:
    folder, port, stop = tmp_path / "hls", free_port(), threading.Event()
    names = segments(folder, seconds=20)
    playlist(folder, names[:3], 0)
    station = threading.Thread(target=broadcast, args=(folder, names, 3, 20, stop), daemon=True)
    station.start()
    try:
        with web(folder, port) as address:
            video = open_video(f"{address}/live.m3u8", fps=2, timeout=2)
            frames = iter(video)
            before = [next(frames) for _ in range(4)]
        time.sleep(4)
        with web(folder, port), pytest.warns(VideoWarning, match="lost at"), video:
            rest = list(islice(frames, 14))
    finally:
        stop.set()
        station.join()
    together = before + rest
    times = [f.time for f in together]
    gap = max(range(1, len(times)), key=lambda i: times[i] - times[i - 1])
    assert all(b > a for a, b in pairwise(times))
    assert times[gap] - times[gap - 1] > 1
    told = (number(together[gap].pixels) - number(together[gap - 1].pixels)) / 25
    assert times[gap] - times[gap - 1] == pytest.approx(told, abs=2.1)  # two segments, each a second


def test_a_file_over_http(tmp_path) -> None:
    make_clip(tmp_path / "a.mp4", steady(6), options={"bf": "2"}, muxer={"movflags": "faststart"})
    with web(tmp_path) as address:
        with open_video(f"{address}/a.mp4") as video:
            assert [number(f.pixels) for f in video] == [0, 25, 50, 75, 100, 125]
            assert video.duration == 6
        with open_video(f"{address}/a.mp4", live=True, end=1) as video:
            assert video.live
            assert [f.time for f in video] == [0]
        with pytest.raises(VideoError, match="the server refused"):
            open_video(f"{address}/none.mp4")


@contextmanager
def sender(data: bytes, silent_for: float = 0):
    """A port that sends the data to whoever comes first, and may then stay open without a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        over = threading.Event()

        def send() -> None:
            with server.accept()[0] as connection:
                connection.sendall(data)
                over.wait(silent_for)

        threading.Thread(target=send, daemon=True).start()
        try:
            yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        finally:
            over.set()


def test_mpegts_over_tcp(tmp_path) -> None:
    path = make_clip(tmp_path / "a.ts", steady(3), options={"bf": "0"})
    with sender(path.read_bytes()) as address, open_video(address, fps=1, reconnect=0) as video:
        assert [number(f.pixels) for f in video] == [0, 25, 50]


def test_a_stream_that_falls_silent(tmp_path) -> None:
    path = make_clip(tmp_path / "a.ts", steady(9), options={"bf": "0"})
    with (
        sender(path.read_bytes(), silent_for=20) as address,
        open_video(address, fps=1, timeout=1, reconnect=1.5) as video,
    ):
        begun, frames = time.monotonic(), iter(video)
        assert [number(next(frames).pixels) for _ in range(8)] == [25 * i for i in range(8)]
        with pytest.raises(VideoError, match="not back after"):
            list(frames)
        assert time.monotonic() - begun < 8


def test_closing_a_silent_stream_returns_at_once(tmp_path) -> None:
    path = make_clip(tmp_path / "a.ts", steady(9), options={"bf": "0"})
    with sender(path.read_bytes(), silent_for=20) as address:
        video = open_video(address, fps=1, timeout=1)
        next(iter(video))
        begun = time.monotonic()
        video.close()
        assert time.monotonic() - begun < 0.5
        video._ahead.join(2.5)
        assert not video._ahead.thread.is_alive()


@pytest.mark.camera
def test_camera() -> None:
    with open_video(0, fps=5) as video:
        frames = list(islice(video, 5))
    assert frames[0].time < 0.1
    assert all(b.time > a.time for a, b in pairwise(frames))


def test_no_camera() -> None:
    with pytest.raises(VideoError, match="no camera /dev/video97"):
        open_video("97")
    with pytest.raises(VideoError, match="no camera /dev/video97"):
        open_video(97)
    with pytest.raises(VideoError, match="always live"):
        open_video("/dev/video97", live=False)
