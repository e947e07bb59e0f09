"""Running a benchmark: each distinct visible span is encoded once, questions are asked in the order of their times.

Questions whose spans start together share one stream, which is fed up to a question's span's end and no further before
that question is asked: causal by construction. Several modes answer over the same fed stream.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..backbones.identity import fingerprint
from ..config import StreamConfig
from ..errors import CapacityError, DataError, ModeError, NumericsError, VideoError
from ..focus import Mode, WeaveTime
from ..types import Frame
from .asking import Asker, check_mode, kept, label
from .base import Benchmark, Example, Span
from .feeding import Batches, Feed, source_of
from .protocol import pixels, prompts, settings
from .row import Key, Row

if TYPE_CHECKING:
    from ..loading import Engine

Fed = Callable[[int], None]
"""Told how many frames were encoded."""
Wrap = Callable[[Iterator[Sequence[Frame]]], Iterator[Sequence[Frame]]]
"""Batches of frames as they come out of a video, changed on their way to the runner."""


@dataclass(frozen=True)
class Run:
    """What is asked of whom. modes: names, values, or baselines (asking.py). root: the published files and videos/.
    wrap: changes the frames of every stretch before what may be seen is cut out of them (analysis/).
    """

    benchmark: Benchmark
    root: Path
    examples: Sequence[Example]
    config: StreamConfig
    modes: tuple[str | Mode, ...] = ("weavetime",)
    wrap: Wrap | None = None

    def __post_init__(self) -> None:
        if not self.modes:
            raise ModeError("name at least one mode")
        for mode in self.modes:
            check_mode(mode, self.config)
        if len({*map(label, self.modes)}) != len(self.modes):
            twice = next(name for i, name in enumerate(self.names) if name in self.names[:i])
            raise ModeError(f"the mode {twice} was named twice: leave one out")

    @property
    def names(self) -> tuple[str, ...]:
        """How rows call the modes."""
        return tuple(map(label, self.modes))

    def head(self, engine: Engine) -> dict[str, Any]:
        """What must agree for rows to belong to one run."""
        backbone, kept = engine.backbone, ("batch", "cache", "index_pages")  # these change no answer
        model = {
            "family": backbone.family,
            "weights": fingerprint(backbone.model),
            "dtype": str(next(backbone.model.parameters()).dtype).removeprefix("torch."),
            "time_prompts": backbone.time_prompts,
            "delta": WeaveTime().of(engine.record).delta,
            "layers": len(backbone.decoder.layers),
            "pixels": pixels(backbone),
        }
        stream = {k: v for k, v in asdict(self.config).items() if k not in kept}
        modes = {label(mode): settings(mode, engine.record) for mode in self.modes}
        variants: dict[str, Any] = asdict(self.benchmark) if is_dataclass(self.benchmark) else {}
        return {
            "benchmark": self.benchmark.name,
            "variants": variants,
            "model": model,
            "stream": stream,
            "modes": modes,
            "questions": len(self.examples),
            "prompts": prompts(self.benchmark, self.examples),
        }


@dataclass(frozen=True)
class Group:
    """Questions that one stream answers: of one video, with the same stretches before, from the same start on.

    asked: (end of the visible span, example) in the order of the ends. missing: rows to be made.
    """

    video: str
    before: tuple[Span, ...]
    start: float
    asked: tuple[tuple[float, Example], ...]
    missing: frozenset[Key]

    @property
    def end(self) -> float:
        """Where the last question's span ends, seconds; infinity for the end of the video."""
        return self.asked[-1][0]


def groups(run: Run, done: Collection[Key] = frozenset()) -> list[Group]:
    """The groups that rows are still missing of, in the order of their first example."""
    found: dict[tuple[str, tuple[Span, ...], float], list[tuple[float, Example]]] = {}
    for example in run.examples:
        *before, (start, end) = run.benchmark.spans(example)
        found.setdefault((example.video, tuple(before), start), []).append((end, example))
    there = frozenset(done)
    every = (
        Group(
            video,
            before,
            start,
            tuple(sorted(asked, key=lambda pair: pair[0])),
            frozenset((e.id, name) for _, e in asked for name in run.names) - there,
        )
        for (video, before, start), asked in found.items()
    )
    return [group for group in every if group.missing]


def check_rows(run: Run, rows: Iterable[Row], path: Path) -> None:
    """Refuse rows, kept in a file, of questions or modes that a run does not ask. Raises DataError."""
    asked = {e.id: json.loads(json.dumps(asdict(e))) for e in run.examples}
    for row in rows:
        if row.id not in asked or row.mode not in run.names:
            raise DataError(
                f"{path} holds a row of {row.id} in {row.mode}, which this run does not ask: name another file"
            )
        if json.loads(json.dumps(asdict(row.example))) != asked[row.id]:
            raise DataError(f"{path}: the question {row.id} is not as annotated now: name another file")


def answered(engine: Engine, run: Run, group: Group, on_fed: Fed = lambda n: None) -> Iterator[Row]:
    """A row for each missing (question, mode) of a group. A video that cannot be read makes rows that say so."""
    given: set[Key] = set()
    try:
        for row in _answers(engine, run, group, on_fed):
            given.add(row.key)
            yield row
    except VideoError as e:
        for _, example in group.asked:
            for name in run.names:
                if (example.id, name) in group.missing - given:
                    yield Row.graded(run.benchmark, example, name, None, problem=str(e))
    except (CapacityError, NumericsError) as e:  # of the model and the settings: no row may hide it
        raise type(e)(f"{group.video}: {e}") from e


def _answers(engine: Engine, run: Run, group: Group, on_fed: Fed) -> Iterator[Row]:
    for feed, end, examples, source in moments(engine, run, group, on_fed):
        for mode in run.modes:
            missing = [e for e in examples if (e.id, label(mode)) in group.missing]
            for row in Asker(engine, run, feed, mode, end).rows(missing):
                yield replace(row, note="; ".join(source.warnings))


def moments(
    engine: Engine, run: Run, group: Group, on_fed: Fed = lambda n: None
) -> Iterator[tuple[Feed, float, list[Example], Batches]]:
    """A group's stream as it stands at the end of each visible span of which rows are missing: what was fed, that end,
    the questions of it, and the video.
    """
    asked = [(end, e) for end, e in group.asked if any((e.id, name) in group.missing for name in run.names)]
    spans = (*group.before, (group.start, asked[-1][0]))
    turns = max((end - e.at for end, e in asked if e.at is not None and math.isfinite(end)), default=0.0)
    keep = kept(run.modes, run.config.fps, turns)
    with source_of(run, asked[0][1], spans, engine) as source, engine.stream(run.config) as stream:
        feed = Feed(stream, source, on_fed, keep)
        for end, moment in groupby(asked, key=lambda pair: pair[0]):
            feed.upto(end)
            yield feed, end, [example for _, example in moment], source


def measure(
    engine: Engine, run: Run, *, done: Collection[Key] = frozenset(), on_fed: Fed = lambda n: None
) -> Iterator[Row]:
    """Every missing row of a run. done: keys of rows that are there already. on_fed: told of frames encoded."""
    for group in groups(run, done):
        yield from answered(engine, run, group, on_fed)
