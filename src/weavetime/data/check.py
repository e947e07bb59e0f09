"""`weavetime data check`: whether every sample of training files can be used, and its video read where it must be."""

from __future__ import annotations

import math
import multiprocessing
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import DataError, VideoError
from ..video import VideoWarning
from .probe import Facts, Need, look
from .record import Record, parse
from .records import FORMATS, decoded, raw

TOLERANCE = 0.5  # seconds that a span may end after its video: durations are written rounded
KINDS = {
    "file": "files that cannot be read to their end",
    "sample": "samples that cannot be read",
    "empty": "samples without a conversation, or with a blank turn",
    "missing": "videos that are not there",
    "unreadable": "videos that cannot be read where they are needed",
    "span": "spans beyond the end of their video",
    "key frames": "key frames that their video does not have",
}

Told = Callable[[str, int, int], None]
"""What is counted, how many so far, of how many (0 where that is not known)."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. kind: one of `KINDS`. where: the sample, or the video. samples: how many it spoils."""

    kind: str
    where: str
    what: str
    samples: int = 1


@dataclass(slots=True)
class Report:
    """What was found in `files`."""

    files: tuple[str, ...]
    samples: int = 0
    videos: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """Problems of each kind that there are."""
        found = Counter(p.kind for p in self.problems)
        return {kind: found[kind] for kind in KINDS if found[kind]}

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values for JSON."""
        return {**asdict(self), "counts": self.counts}


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """video_root: the folder that relative video paths start from; None for each training file's own. quick: only open
    videos, decode nothing. jobs: videos read at once.
    """

    video_root: Path | None = None
    quick: bool = False
    jobs: int = 1


def check(path: Path, settings: CheckSettings, told: Told = lambda what, n, of: None) -> Report:
    """Check a training file, or every one in a folder. Raises DataError where there is none."""
    files = training_files(path)
    report = Report(tuple(str(f) for f in files))
    needs: dict[str, Need] = {}
    for where, record in _samples(files, settings, report):
        report.samples += 1
        told("samples", report.samples, 0)
        if isinstance(record, Problem):
            report.problems.append(record)
        else:
            video = str(record.video)
            needs[video] = needs.get(video, Need()).and_for(record)
            report.problems += [Problem("empty", where, "a question or answer is blank")] * _is_blank(record)
    report.videos = len(needs)
    facts: dict[str, Facts] = {}
    for video, found in look_at(needs, settings):
        facts[video] = found
        told("videos", len(facts), len(needs))
    spoilt = Counter[str]()
    for where, record in _samples(files, settings, Report(())):
        if isinstance(record, Record):
            found = facts[str(record.video)]
            spoilt[str(record.video)] += not found.usable
            report.problems += _compare(where, record, found)
    report.problems += [_of_video(v, f, spoilt[v]) for v, f in facts.items() if not f.usable]
    return report


def training_files(path: Path) -> list[Path]:
    """The file itself, or the training files of a folder and of those below it, hidden ones left out."""
    if not path.is_dir():
        return [path]
    every = (p for p in sorted(path.rglob("*")) if p.suffix.lower() in FORMATS and p.is_file())
    found = [p for p in every if not any(part.startswith(".") for part in p.relative_to(path).parts)]
    if not found:
        raise DataError(f"{path} holds no training file: none ends in {' or '.join(FORMATS)}")
    return found


def _samples(files: Iterable[Path], settings: CheckSettings, report: Report) -> Iterator[tuple[str, Record | Problem]]:
    for file in files:
        root = file.parent if settings.video_root is None else settings.video_root
        try:
            for where, data in raw(file):
                yield where, _sample(where, data, root)
        except DataError as e:
            what = str(e).removeprefix(str(file)).lstrip(":, ")
            report.problems.append(Problem("file", str(file), what, 0))


def _sample(where: str, data: bytes, root: Path) -> Record | Problem:
    try:
        value = decoded(data, where)
        said = value.get("messages", value.get("conversations")) if isinstance(value, dict) else value
        if said == []:
            return Problem("empty", where, "the conversation is empty")
        record = parse(value)
    except DataError as e:
        return Problem("sample", where, str(e).removeprefix(f"{where}: "))
    return replace(record, video=root / record.video)


def _is_blank(record: Record) -> bool:
    return any(not text.strip() for turn in record.turns for text in turn)


def _compare(where: str, record: Record, facts: Facts) -> Iterator[Problem]:
    """What a sample asks of its video that it does not have."""
    last = math.inf if facts.duration is None else facts.duration
    start, end = record.start or 0.0, record.end
    if start >= last or (end is not None and end > last + TOLERANCE):
        until = "its end" if end is None else f"{end:g} s"
        yield Problem("span", where, f"{start:g} s to {until} of {record.video}, which lasts {last:.2f} s")
    if record.key_frames and facts.pictures is not None and record.key_frames[-1] >= facts.pictures:
        what = f"picture {record.key_frames[-1]} of {record.video}, which has {facts.pictures}, counted from 0"
        yield Problem("key frames", where, what)


def _of_video(video: str, facts: Facts, samples: int) -> Problem:
    if facts.missing:
        return Problem("missing", video, "no such file", samples)
    return Problem("unreadable", video, facts.wrong or "", samples)


# Videos, in processes of their own


def look_at(needs: dict[str, Need], settings: CheckSettings) -> Iterator[tuple[str, Facts]]:
    """Facts of every video. A video whose reading kills its process is found out alone, and the others go on."""
    todo = list(needs.items())
    while todo:
        context = multiprocessing.get_context(_method())
        done: set[str] = set()
        with ProcessPoolExecutor(settings.jobs, mp_context=context) as pool:
            try:
                for (video, _), facts in zip(todo, pool.map(_quietly, todo, [settings.quick] * len(todo)), strict=True):
                    done.add(video)
                    yield video, facts
            except BrokenProcessPool:
                pass
        todo = [(video, need) for video, need in todo if video not in done]
        suspects, todo = todo[: 2 * settings.jobs + 2], todo[2 * settings.jobs + 2 :]
        for suspect in suspects:
            yield suspect[0], _alone(suspect, settings.quick)


def _alone(item: tuple[str, Need], quick: bool) -> Facts:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(_method())) as pool:
        try:
            return pool.submit(_quietly, item, quick).result()
        except BrokenProcessPool:
            return Facts(wrong="reading it kills the process that reads it")


def _method() -> str:
    """Threads of a bar and of the decoder make a plain fork unsafe; a server that forks has none and starts fast."""
    known = multiprocessing.get_all_start_methods()
    if "forkserver" not in known:
        return "spawn"
    multiprocessing.set_forkserver_preload([__name__])
    return "forkserver"


def _quietly(item: tuple[str, Need], quick: bool) -> Facts:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VideoWarning)
        try:
            return look(Path(item[0]), item[1], quick=quick)
        except (VideoError, OSError) as e:
            return Facts(wrong=str(e))
