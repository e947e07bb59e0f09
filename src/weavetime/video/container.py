"""Opening a container with PyAV, which is imported here and only when needed, and saying plainly what went wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from types import ModuleType, TracebackType
from typing import Any, Self, TypeVar

from ..errors import VideoError

T = TypeVar("T")

TEXT_FORMATS = {"tty"}  # FFmpeg renders any text file as a terminal: not a video to anybody else


def pyav() -> ModuleType:
    """PyAV, or a `VideoError` saying how to get it."""
    try:
        import av
    except ImportError as e:
        raise VideoError("reading video needs PyAV: pip install weavetime[video]") from e
    return av


class Container:
    """An open container and its main video stream (not cover art).

    name: how errors call it. url, form, options: what FFmpeg is told. timeout: seconds (to open, for each read), None
    for no limit. low_delay: decode without waiting for further pictures, as a live source needs.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        form: str | None = None,
        options: Mapping[str, str] | None = None,
        timeout: tuple[float, float] | None = None,
        low_delay: bool = False,
    ) -> None:
        self.name, self.damaged, self.broken = name, 0, False
        av = pyav()
        try:
            self.av = av.open(url, format=form, options=dict(options or {}), timeout=timeout)
        except (av.error.FFmpegError, OSError, ValueError) as e:
            raise unreadable(name, e) from e
        try:
            self.stream = self._video_stream()
        except VideoError:
            self.av.close()
            raise
        # frame threads hold back a picture each; slices hold back none
        self.stream.thread_type = "SLICE" if low_delay else "AUTO"

    @property
    def formats(self) -> set[str]:
        """FFmpeg's names of the container format."""
        return set(self.av.format.name.split(","))

    @property
    def rate(self) -> Fraction | None:
        """Pictures per second on average, as far as known."""
        rate: Fraction | None = self.stream.average_rate or self.stream.guessed_rate
        return rate or None

    @property
    def duration(self) -> Fraction | None:
        """Seconds that the container says the video lasts, None where it says nothing."""
        stream, rate = self.stream, self.rate
        if "avi" in self.formats and stream.frames and rate:
            return (
                Fraction(stream.frames) / rate
            )  # the header's count; the stream's duration is guessed from the file's size
        if stream.duration:
            return Fraction(stream.duration * stream.time_base)
        if self.av.duration is None:
            return None
        whole = Fraction(self.av.duration, 1_000_000)
        if "matroska" in self.formats:
            return self._matroska_duration(whole)
        return whole

    @property
    def states_length(self) -> bool:
        """Whether `duration` was written by who made the file, for the video alone, so that less means cut off."""
        if "avi" in self.formats or "matroska" in self.formats:
            return self.duration is not None
        return bool(self.stream.duration) and "mov" in self.formats

    def pictures(self) -> Iterator[Any]:
        """Decoded pictures in presentation order. Damaged packets are left out and counted.

        `broken` tells whether reading ended with an error rather than with the end of the container.
        """
        error = pyav().error
        packets = self.av.demux(self.stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (error.FFmpegError, OSError):
                self.broken = True
                yield from (p for p in self.stream.decode(None) if not p.is_corrupt)
                return
            if packet.is_corrupt:
                self.damaged += 1
                continue
            try:
                pictures = packet.decode()
            except error.InvalidDataError:
                self.damaged += 1
                continue
            yield from (p for p in pictures if not p.is_corrupt)

    def close(self) -> None:
        self.av.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _video_stream(self) -> Any:
        if self.formats & TEXT_FORMATS:
            raise VideoError(f"{self.name} is not a video: it is a text file")
        cover = pyav().stream.Disposition.attached_pic
        streams = [s for s in self.av.streams.video if not s.disposition & cover]
        if not streams:
            what = "holds only sound" if self.av.streams.audio else "holds no video"
            raise VideoError(f"{self.name} {what}: give a file or stream with pictures")
        best = self.av.streams.best("video")
        return best if best in streams else streams[0]

    def _matroska_duration(self, whole: Fraction) -> Fraction | None:
        """Matroska counts from time 0, not from the first picture, and over all tracks unless the track has a tag."""
        tag = self.stream.metadata.get("DURATION", "")
        try:
            hours, minutes, seconds = tag.split(":")
            whole = int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
        except ValueError:
            if len(self.av.streams) > 1:
                return None
        return whole - Fraction((self.stream.start_time or 0) * self.stream.time_base)


def unreadable(name: str, e: Exception) -> VideoError:
    """The one line that a user reads for an error of FFmpeg or the system."""
    error = pyav().error
    if isinstance(e, FileNotFoundError):
        text = f"no such file: {name}"
    elif isinstance(e, PermissionError):
        text = f"{name} may not be read: give yourself permission to read it"
    elif isinstance(e, (error.HTTPClientError, error.HTTPError)):
        text = f"{name}: the server refused ({e.strerror}): check the address and the access rights"
    elif isinstance(e, (error.ExitError, TimeoutError)):
        text = f"{name} did not answer in time: check the address, or wait longer with timeout="
    elif isinstance(e, (ConnectionError, error.ProtocolNotFoundError)) or "://" in name:
        text = f"{name} cannot be reached ({getattr(e, 'strerror', e)}): check the address and that it is running"
    elif isinstance(e, error.InvalidDataError):
        text = f"{name} is not a video, or was cut off before its index: check that it plays, or copy it again"
    else:
        text = f"{name} cannot be read: {getattr(e, 'strerror', None) or e}"
    return VideoError(text)


def bounded(work: Callable[[], T], seconds: float, name: str) -> T:
    """Run `work` for at most `seconds`: looking up a host name, for one, has no time limit of its own."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as e:  # noqa: BLE001  (raised again below)
            errors.append(e)

    thread = threading.Thread(target=run, name="weavetime-open", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise VideoError(f"{name} did not answer within {seconds:g} s: check the address, or wait longer with timeout=")
    return results[0]
