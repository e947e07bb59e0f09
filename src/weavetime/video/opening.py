"""`open_video`: one way to open every source."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import VideoError
from ..types import Frame
from .ahead import Ahead, DecodedSource, Frames, LiveSource
from .container import Container, bounded
from .file import FileSource, check_file
from .live import Connection, Played
from .pictures import FolderSource, array_video, folder_images
from .sampling import exact
from .source import FrameSource, Source, as_source

ALWAYS_LIVE = {"rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "srt", "tcp", "unix"}
HLS_SILENCE = 30.0  # seconds: nothing is sent between two segments, which may be 10 s long

Pictures = NDArray[np.uint8] | Sequence[NDArray[np.uint8]] | Sequence[Frame] | Sequence[str | Path]


@dataclass(frozen=True, slots=True)
class _Wish:
    """What the caller asked for, checked."""

    fps: Fraction
    lookahead: int
    start: Fraction
    end: Fraction | None
    live: bool | None
    timeout: float
    reconnect: float
    options: Mapping[str, str]


def open_video(
    source: str | Path | int | Pictures,
    *,
    fps: float = 1.0,
    lookahead: int = 32,
    start: float = 0.0,
    end: float | None = None,
    live: bool | None = None,
    timeout: float = 5.0,
    reconnect: float = 60.0,
    options: Mapping[str, str] | None = None,
) -> Source:
    """Open a video, a camera or a stream, and give its frames at `fps` a second with their true times.

    source: a video file; a folder of images, or a list of image files (image i is at i / fps); an array of uint8
    (frames, height, width, 3) or a list of such pictures (picture i at i / fps) or of `Frame`s; a camera by its number
    (`0`, `"0"` or `/dev/video0`; Linux); an address (rtsp://, http://…/x.m3u8 and whatever else FFmpeg opens).

    fps: samples per second. The frames given are those on screen at start + k / fps: for each such time g < end, the
    frame with the largest presentation time ≤ g, once, with its own time in seconds from the stream's first picture.
    lookahead: sampled frames that may wait to be read; a file waits for its reader, a live source drops the oldest.
    start, end: seconds; the stream's times stay as they are.
    live: play at its own pace and drop what is not read in time. None: cameras and streams without an end are live.
    timeout: seconds without an answer or data after which a stream counts as unreachable or lost. Opening is two such
    steps, so it may take twice as long; HLS sends nothing between two segments and is given at least 30 s.
    reconnect: seconds for which a lost live stream is tried again; the gap shows in the times.
    options: further options for FFmpeg; RTSP goes over TCP unless `{"rtsp_transport": "udp"}` is given here.

    Raises `VideoError` where there is nothing to see: no such file, no pictures, only sound, not a video, no
    permission, unreachable, PyAV not installed; and while reading, where a stream is lost for good.
    """
    wish = _checked(fps, lookahead, start, end, live, timeout, reconnect, options)
    if isinstance(source, Path):
        return _local(source, wish)
    if isinstance(source, int):
        return _camera(f"/dev/video{source}", wish)
    if not isinstance(source, str):
        return _pictures(source, wish)
    if not source or "\0" in source:
        raise VideoError(f"{source!r} names no video: give a file, a folder, a camera's number or an address")
    if re.fullmatch(r"\d+", source) and not Path(source).exists():
        return _camera(f"/dev/video{int(source)}", wish)
    if re.match(r"/dev/video\d+$", source):
        return _camera(source, wish)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", source):
        return _address(source, wish)
    return _local(Path(source), wish)


def _checked(
    fps: float,
    lookahead: int,
    start: float,
    end: float | None,
    live: bool | None,
    timeout: float,
    reconnect: float,
    options: Mapping[str, str] | None,
) -> _Wish:
    if not (np.isfinite(fps) and fps > 0 and exact(fps) > 0):
        raise VideoError(f"fps is the samples per second, above 0, not {fps}")
    if lookahead < 1:
        raise VideoError(f"lookahead is at least 1 frame, not {lookahead}")
    if not (np.isfinite(start) and start >= 0):
        raise VideoError(f"start is in seconds from the beginning, 0 or more, not {start}")
    if end is not None and not end > start:
        raise VideoError(f"end={end} must lie after start={start}, in seconds")
    if not (timeout > 0 and reconnect >= 0):
        raise VideoError(f"timeout={timeout} must be above 0 and reconnect={reconnect} 0 or more, in seconds")
    last = exact(end) if end is not None and np.isfinite(end) else None
    return _Wish(exact(fps), lookahead, exact(start), last, live, timeout, reconnect, options or {})


def _local(path: Path, wish: _Wish) -> Source:
    if path.is_dir():
        return _folder(folder_images(path), wish)
    return _recording(str(path), check_file(path), wish)


def _folder(paths: Sequence[Path], wish: _Wish) -> Source:
    folder = FolderSource(paths, fps=wish.fps, lookahead=wish.lookahead, start=wish.start, end=wish.end)
    return _paced(folder, wish)


def _recording(name: str, url: str, wish: _Wish, timeout: tuple[float, float] | None = None) -> Source:
    file = FileSource(
        name,
        url,
        fps=wish.fps,
        lookahead=wish.lookahead,
        start=wish.start,
        end=wish.end,
        options=_options(name, wish),
        timeout=timeout,
    )
    return _paced(file, wish)


def _paced(source: DecodedSource, wish: _Wish) -> Source:
    return LiveSource(Played(source.produce).produce, wish.lookahead, source.duration) if wish.live else source


def _camera(device: str, wish: _Wish) -> Source:
    if wish.live is False:
        raise VideoError(f"{device} is a camera, which is always live")
    try:
        connect = _connector(device, device, wish, form="v4l2")
        return _connected(device, connect, connect(), wish)
    except VideoError as e:
        if Path(device).exists():
            raise
        raise VideoError(f"no camera {device}: plug one in, or choose one of those that ls /dev/video* lists") from e


def _address(url: str, wish: _Wish) -> Source:
    if url.startswith("file://"):
        return _local(Path(url.removeprefix("file://")), wish)
    name = re.sub(r"//[^/@]*@", "//", url)  # errors and logs carry no passwords
    connect = _connector(name, url, wish)
    container = connect()
    endless = url.split("://")[0].lower() in ALWAYS_LIVE or container.duration is None
    if endless and wish.live is not False:
        return _connected(name, connect, container, wish)
    container.close()
    limits = _limits(url, wish)
    return bounded(lambda: _recording(name, url, wish, limits), 2 * sum(limits), name)


def _limits(url: str, wish: _Wish) -> tuple[float, float]:
    hls = ".m3u8" in url
    return wish.timeout, max(wish.timeout, HLS_SILENCE) if hls else wish.timeout


def _options(name: str, wish: _Wish) -> Mapping[str, str]:
    return {"rtsp_transport": "tcp", **wish.options} if name.startswith("rtsp") else wish.options


def _connector(name: str, url: str, wish: _Wish, form: str | None = None) -> Callable[[], Container]:
    limits, options = _limits(url, wish), _options(name, wish)

    def connect() -> Container:
        return bounded(
            lambda: Container(name, url, form=form, options=options, timeout=limits, low_delay=True),
            2 * wish.timeout + 1,
            name,
        )

    return connect


def _connected(name: str, connect: Callable[[], Container], container: Container, wish: _Wish) -> Source:
    connection = Connection(
        name, connect, container, fps=wish.fps, reconnect=wish.reconnect, start=wish.start, end=wish.end
    )
    return LiveSource(connection.produce, wish.lookahead)


def _pictures(source: Pictures, wish: _Wish) -> Source:
    items: Any = source
    if not len(items):
        raise VideoError("there are no pictures in this list: give at least one")
    if isinstance(items[0], (str, Path)):
        return _folder([Path(p) for p in items], wish)
    if isinstance(items[0], Frame):
        found = as_source([f for f in items if wish.start <= f.time and (wish.end is None or f.time < wish.end)])
    else:
        end = None if wish.end is None else float(wish.end)
        found = array_video(items, float(wish.fps), start=float(wish.start), end=end)
    if not wish.live:
        return found
    frames = list(found)

    def produce(_: Ahead) -> Frames:
        yield from frames

    return LiveSource(
        Played(produce).produce, wish.lookahead, found.duration if isinstance(found, FrameSource) else None
    )
