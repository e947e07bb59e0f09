"""One answer, closely: what its row says, and the question asked again on a freshly fed stream as the run did."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from ...config import StreamConfig
from ...errors import DataError
from ...focus import Mode, parse_mode
from ...types import Answer, Frame
from ..asking import ORACLE, Asker, Read, called, last_frames
from ..base import Benchmark, Example
from ..registry import load
from ..row import Row
from ..run import Group, Run, groups, moments
from .haystack import Haystack
from .needle import Needle

if TYPE_CHECKING:
    from ...loading import Engine
    from ...stream import Stream

SMALL = 320  # pixels across, of the pictures that are kept
SAME = ("response", "recalled", "read", "seen")


def row_of(rows: Sequence[Row], name: str, mode: str | None = None) -> Row:
    """The last row of a question, in a mode where it was asked in several. Raises DataError."""
    mine = {row.mode: row for row in rows if row.id == name}
    if not rows:
        raise DataError("the file holds no row yet")
    if not mine:
        raise DataError(f"no row is of the question {name}: the file holds {_some({row.id: None for row in rows})}")
    if mode is None and len(mine) > 1:
        raise DataError(f"{name} was asked in several modes: say --mode with one of {'; '.join(mine)}")
    if mode is None:
        return next(iter(mine.values()))
    if (mode := called(mode, mine)) not in mine:
        raise DataError(f"{name} was not asked in the mode {mode!r}: there are {'; '.join(mine)}")
    return mine[mode]


def _some(names: Mapping[str, None], most: int = 5) -> str:
    return ", ".join(list(names)[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def benchmark_of(head: Mapping[str, Any]) -> Benchmark:
    """The benchmark that a results file is of, with its variants. Raises DataError."""
    name, variants = str(head.get("benchmark")), dict(head.get("variants", {}))
    own: dict[str, type[Benchmark]] = {Needle.name: Needle, Haystack.name: Haystack}
    return own[name](**variants) if name in own else load(name, **variants)


def run_of(head: Mapping[str, Any], benchmark: Benchmark, examples: Sequence[Example], row: Row, root: Path) -> Run:
    """The run that a row came of, in the row's mode alone. Raises DataError where its pictures were changed."""
    said = head.get("modes", ())
    if row.mode not in said:
        raise DataError(f"mode {row.mode!r}: pictures were changed on their way, so the question is not asked again")
    settings = said[row.mode] if isinstance(said, Mapping) else {}
    known = {f.name for f in fields(StreamConfig)}
    config = StreamConfig(**{k: v for k, v in head.get("stream", {}).items() if k in known})
    return Run(benchmark, root, examples[: head.get("questions")], config, (_mode(row.mode, settings),))


def _mode(name: str, settings: Mapping[str, Any]) -> str | Mode:
    """A mode from what rows call it and what the head says of it: what the model then said of it is among that."""
    if not settings:
        return name
    kind = parse_mode(name)
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
    found: Mode = replace(kind, **values)  # type: ignore[type-var]
    return found


@dataclass
class Again:
    """A question asked again. delta: the gate's threshold, None in a mode that has no gate. pictures: small ones of
    every frame fed, by time. blocks: each one's (start, end), seconds.
    """

    row: Row
    answer: Answer
    window: int | None
    delta: float | None
    blocks: Sequence[tuple[float, float]] = ()
    pictures: Mapping[float, np.ndarray] = field(default_factory=dict)

    def differs(self, row: Row) -> list[str]:
        """What is not as in the row of the run, as `field: there, here`."""
        one, two = (json.loads(json.dumps(r.to_dict())) for r in (row, self.row))  # no difference of list and tuple
        pairs = {name: (one[name], two[name]) for name in SAME}
        if row.gate is not None and self.row.gate is not None and abs(row.gate - self.row.gate) > 1e-3:
            pairs["gate"] = round(row.gate, 4), round(self.row.gate, 4)
        return [f"{name}: {there} there, {here} here" for name, (there, here) in pairs.items() if there != here]


def ask_again(engine: Engine, run: Run, name: str) -> Again:
    """Feed the stream of a question as the run did, ask what the run asked with it, and keep what came of it.

    Raises DataError for a question that the run has not, VideoError for a video that cannot be read.
    """
    album = _Album()
    run = replace(run, wrap=album)
    group = next((g for g in groups(run) if any(e.id == name for _, e in g.asked)), None)
    if group is None:
        raise DataError(f"the benchmark has no question {name} now")
    for feed, end, examples, _ in moments(engine, run, _until(group, name)):
        if any(e.id == name for e in examples):
            asker = _Keeping(engine, run, feed, run.modes[0], end)
            [row] = [row for row in asker.rows(examples) if row.id == name]
            if row.problem:
                raise DataError(f"{name} cannot be asked: {row.problem}")
            stream = asker.streams[name]
            memory = stream.memory
            blocks = list(zip(memory.times, [*memory.table.ends, memory.now], strict=False))
            pictures = {t: album.pictures[t] for t in memory.times}
            delta = _delta(run.modes[0], stream)
            return Again(row, asker.answers[name], stream.config.window, delta, blocks, pictures)
    raise AssertionError("a group's moments hold its questions")


def _delta(mode: str | Mode, stream: Stream) -> float | None:
    """The gate's threshold, where a mode has a gate."""
    return None if mode == ORACLE or last_frames(mode) else parse_mode(mode).of(stream.record).threshold


def _until(group: Group, name: str) -> Group:
    """The group without the moments after a question's."""
    last = next(end for end, e in group.asked if e.id == name)
    return replace(group, asked=tuple((end, e) for end, e in group.asked if end <= last))


class _Album:
    """Keeps a small picture of every frame that comes by."""

    def __init__(self) -> None:
        self.pictures: dict[float, np.ndarray] = {}

    def __call__(self, batches: Iterator[Sequence[Frame]]) -> Iterator[Sequence[Frame]]:
        for batch in batches:
            self.pictures.update((frame.time, _small(frame)) for frame in batch)
            yield batch


def _small(frame: Frame) -> np.ndarray:
    pixels = frame.pixels.cpu().numpy() if isinstance(frame.pixels, torch.Tensor) else frame.pixels
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((SMALL, SMALL))
    return np.asarray(image)


class _Keeping(Asker):
    """Asks as a run does, and keeps each answer with the stream that gave it."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.answers: dict[str, Answer] = {}
        self.streams: dict[str, Stream] = {}
        self._last: Stream | None = None

    @contextmanager
    def _stream(self, moment: float) -> Iterator[Stream]:
        with super()._stream(moment) as stream:
            self._last = stream
            yield stream

    def _row(self, example: Example, response: Any, answer: Answer, read: Read) -> Row:
        assert self._last is not None
        self.answers[example.id], self.streams[example.id] = answer, self._last
        return super()._row(example, response, answer, read)
