"""What a video is, as far as training needs it: how long, how many pictures, and whether its needed end decodes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import VideoError
from ..video import open_video
from ..video.container import Container
from ..video.file import check_file
from ..video.pictures import folder_images
from .record import Record

TAIL = 1.0  # seconds before the end that are decoded
TAIL_FPS = 4.0


@dataclass(frozen=True, slots=True)
class Need:
    """What all samples together want of a video. end: seconds, None for its own end. counted: its pictures."""

    start: float = 0.0
    end: float | None = 0.0
    counted: bool = False

    def and_for(self, record: Record) -> Need:
        """What is needed with one more sample."""
        ends = (self.end, record.end)
        start = max(self.start, record.start or 0.0)
        end = None if None in ends else max(e for e in ends if e is not None)
        return replace(self, start=start, end=end, counted=self.counted or bool(record.key_frames))


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found. duration: seconds, None where the video does not say. pictures: their number, where it was
    needed. missing: no such file. wrong: why it cannot be used.
    """

    duration: float | None = None
    pictures: int | None = None
    missing: bool = False
    wrong: str | None = None

    @property
    def usable(self) -> bool:
        return not self.missing and self.wrong is None


def look(video: Path, need: Need, *, quick: bool) -> Facts:
    """Open a video, and unless `quick` decode its first picture and those before the end that is needed.

    Raises VideoError where that fails.
    """
    if not video.exists():
        return Facts(missing=True)
    if video.is_dir():
        images = folder_images(video)
        if not quick:
            with open_video(images) as source:
                sum(1 for _ in source)
        return Facts(pictures=len(images))
    with Container(str(video), check_file(video)) as container:
        duration = None if container.duration is None else float(container.duration)
        pictures = _count(container) if need.counted else None
    return Facts(duration, pictures, wrong=None if quick else _tail(video, need, duration))


def _count(container: Container) -> int:
    """Pictures, as the container says; where it does not, its packets that hold one."""
    stated = int(container.stream.frames)
    return stated or sum(1 for packet in container.av.demux(container.stream) if packet.size)


def _tail(video: Path, need: Need, duration: float | None) -> str | None:
    """Decode the end; what is wrong with it. A video that does not say how long it is is read whole."""
    end = duration if need.end is None else need.end if duration is None else min(need.end, duration)
    start = 0.0 if end is None or duration is None else max(0.0, end - TAIL)
    to_the_end = end is None or duration is None or end >= duration
    with open_video(video, fps=TAIL_FPS, start=start, end=None if to_the_end or not end else end) as source:
        if not sum(1 for _ in source):
            raise VideoError(f"{video} has no picture from {start:.1f} s on")
        cut = [text for text in source.warnings if "readable up to" in text]
    return cut[0] if cut else None
