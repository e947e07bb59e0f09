"""StreamingBench's annotation files: where questions, times and videos stand in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..annotation import Entry, load_json
from ..base import Example, Span

SHOWN = "ABCD"
"""Letters of the options that the official prompt has room for."""
LATE = 4
"""Seconds after the true moment at which a proactive question is polled for the last time."""


def questions(path: Path) -> Iterator[tuple[str, Entry, tuple[Entry, ...]]]:
    """Every question of a file, with its video below `videos/` and the earlier questions about that video.

    An entry is a stretch of a video, or in the `_stream` files a whole one; in questions_sqa.json, a list for each
    video holds them.
    """
    rows = load_json(path)
    if not isinstance(rows, list):
        raise Entry({}, str(path)).wrong("must be a list: is it another version?")
    before: dict[str, list[Entry]] = {}
    for i, row in enumerate(rows):
        for k, found in enumerate(row if isinstance(row, list) else [row]):
            entry = Entry.of(found, f"{path}, row {i}" + (f", {k}" if isinstance(row, list) else ""))
            video = entry.text("video_path").removeprefix("./").removeprefix("videos/")
            earlier = before.setdefault(video, [])
            for question in entry.entries("questions"):
                yield video, question, tuple(earlier)
                earlier.append(question)


def seconds(entry: Entry, name: str) -> int:
    """A time text as the official code reads it: base 60 from the right, however many digits and parts there are."""
    said = entry.text(name)
    try:
        value = sum(int(x) * 60**i for i, x in enumerate(reversed(said.split(":"))))
    except ValueError as e:
        raise entry.wrong(f"{name!r} is {said!r}, and must be a time as in 00:03:10") from e
    if value < 0:
        raise entry.wrong(f"{name!r} is {said!r}: no time is before the video's start")
    return value


def choice(video: str, question: Entry, earlier: Sequence[Entry], context: float | None, *, history: bool) -> Example:
    """A multiple choice. context: seconds seen before it; None for all. history: the prompt holds the earlier ones."""
    at = float(seconds(question, "time_stamp"))
    options, gold = question.texts("options"), question.text("answer")
    if len(options) < len(SHOWN):
        raise question.wrong(f"'options' holds {len(options)}, and the official prompt takes {len(SHOWN)}")
    if len(gold) != 1 or gold not in SHOWN:
        raise question.wrong(f"'answer' is {gold!r}, and must be one of {', '.join(SHOWN)}")
    span: Span = (0.0 if context is None else max(0.0, at - context), at)
    extra: dict[str, Any] = {"time_stamp": question.text("time_stamp")}
    if history:
        names = ("time_stamp", "question", "answer")
        extra["history"] = [{**{n: q.text(n) for n in names}, "options": list(q.texts("options"))} for q in earlier]
    return _example(video, question, earlier, options=options, gold=gold, at=at, span=span, extra=extra)


def proactive(video: str, question: Entry, earlier: Sequence[Entry]) -> Example:
    """A question whose answer is due at a later moment; whatever the context, it is seen from when it is asked."""
    names = ("time_stamp", "ground_truth_time_stamp")
    at, due = (float(seconds(question, name)) for name in names)
    if due < at:
        raise question.wrong(f"its output is due at {due:g} s, before it is asked at {at:g} s")
    gold, extra = (due, question.text("ground_truth_output")), {n: question.text(n) for n in names}
    return _example(video, question, earlier, options=(), gold=gold, at=at, span=(at, due + LATE), extra=extra)


def _example(video: str, question: Entry, earlier: Sequence[Entry], **rest: Any) -> Example:
    # The files hold no ids: the video's name and the number of the question about it.
    stem = video.removesuffix(".mp4").replace("/", "_")
    return Example(
        id=f"{stem}_{len(earlier) + 1}",
        video=video,
        task=question.text("task_type"),
        question=question.text("question"),
        **rest,
    )
