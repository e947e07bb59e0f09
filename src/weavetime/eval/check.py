"""`weavetime data check NAME DIR`: whether a folder holds what an evaluation of a benchmark needs.

The rows of the annotation against the published numbers; every video: that it is there, opens, decodes as far as a
question sees, and lasts as long as the annotation and its questions say.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..data.check import TOLERANCE, CheckSettings, Problem, Told, look_at
from ..data.probe import Facts, Need
from ..errors import DataError
from .base import Benchmark, Example

DURATION_SECONDS, DURATION_SHARE = 1.0, 0.02  # a video may differ from its annotated duration by the larger of the two
KINDS = {
    "annotation": "annotations that cannot be used as they are",
    "count": "tasks whose number of questions is not the published one",
    "missing": "videos that are not there",
    "unreadable": "videos that cannot be read where they are needed",
    "duration": "videos that do not last as annotated",
    "question": "questions asked beyond the end of their video",
    "evidence": "questions with evidence beyond the end of their video",
}


@dataclass(slots=True)
class BenchmarkReport:
    """What was found. rows: by task, how many and how many are published, None where no number is."""

    benchmark: str
    folder: str
    rows: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    questions: int = 0
    videos: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """Problems of each kind that there are."""
        found = Counter(p.kind for p in self.problems)
        return {kind: found[kind] for kind in KINDS if found[kind]}

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values for JSON."""
        rows = {task: {"found": n, "published": published} for task, (n, published) in self.rows.items()}
        return {**asdict(self), "rows": rows, "counts": self.counts}


def check(
    benchmark: Benchmark, folder: Path, settings: CheckSettings, told: Told = lambda what, n, of: None
) -> BenchmarkReport:
    """Check the folder that an evaluation would read. Generated videos are not looked at."""
    report = BenchmarkReport(benchmark.name, str(folder))
    examples = _read(benchmark, folder, report)
    if type(benchmark).frames is not Benchmark.frames:
        return report
    asked: dict[str, list[Example]] = {}
    for example in examples:
        asked.setdefault(str(_place(benchmark, folder, example)), []).append(example)
    report.videos = len(asked)
    facts: dict[str, Facts] = {}
    for video, found in look_at({video: _need(benchmark, mine) for video, mine in asked.items()}, settings):
        facts[video] = found
        told("videos", len(facts), len(asked))
    for video, mine in asked.items():
        report.problems += _of_video(benchmark, video, facts[video], mine)
    for video, mine in asked.items():
        report.problems += (p for example in mine for p in _beyond(example, facts[video]))
    return report


def _read(benchmark: Benchmark, folder: Path, report: BenchmarkReport) -> list[Example]:
    """The questions that there are; what is wrong with them as a whole goes into the report."""
    try:
        examples = benchmark.examples(folder, partial=True)
    except DataError as e:
        report.problems.append(Problem("annotation", str(folder), str(e), 0))
        return []
    report.questions = len(examples)
    report.rows = _rows(benchmark.counts, examples)
    wrong = {task: pair for task, pair in report.rows.items() if benchmark.counts and pair[0] != (pair[1] or 0)}
    report.problems += (
        Problem("count", task, f"{n} questions, and {published or 0} are published", n)
        for task, (n, published) in wrong.items()
    )
    if not wrong:
        try:
            benchmark.examples(folder)
        except DataError as e:
            report.problems.append(Problem("annotation", str(folder), str(e), 0))
    return examples


def _rows(published: Mapping[str, int], examples: Sequence[Example]) -> dict[str, tuple[int, int | None]]:
    if published.keys() == {"total"}:
        return {"total": (len(examples), published["total"])}
    found = Counter(e.task for e in examples)
    return {task: (found[task], published.get(task)) for task in {**published, **found}}


def _place(benchmark: Benchmark, folder: Path, example: Example) -> Path:
    places = benchmark.videos(folder, example)
    return next((place for place in places if place.exists()), places[0])


def _need(benchmark: Benchmark, asked: Sequence[Example]) -> Need:
    """How far a video must be readable for all questions about it."""
    end = max((end for example in asked for _, end in benchmark.spans(example)), default=0.0)
    return Need(0.0, None if math.isinf(end) else end)


def _of_video(benchmark: Benchmark, video: str, facts: Facts, asked: Sequence[Example]) -> Iterator[Problem]:
    if facts.missing:
        yield Problem("missing", video, "no such file", len(asked))
    elif facts.wrong is not None:
        yield Problem("unreadable", video, facts.wrong, len(asked))
    elif facts.duration is not None:
        for said in dict.fromkeys(benchmark.duration(example) for example in asked):
            if said and abs(said - facts.duration) > max(DURATION_SECONDS, DURATION_SHARE * said):
                what = f"lasts {facts.duration:.2f} s, and {said:.2f} s are annotated"
                yield Problem("duration", video, what, len(asked))
                return


def _beyond(example: Example, facts: Facts) -> Iterator[Problem]:
    """What of a question lies after the end of its video."""
    if not facts.usable or facts.duration is None:
        return
    of, last = f"{example.video}, which lasts {facts.duration:.2f} s", facts.duration + TOLERANCE
    if example.at is not None and example.at > last:
        yield Problem("question", example.id, f"asked at {example.at:g} s of {of}")
    if late := [end for _, end in example.evidence if end > last]:
        yield Problem("evidence", example.id, f"evidence up to {max(late):g} s of {of}")
