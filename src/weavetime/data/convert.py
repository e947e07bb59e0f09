"""`weavetime data convert`: training files from one format to the other, with videos under another root."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import DataError
from .record import Record, parse
from .records import Format, RecordWriter, decoded, format_of, raw

PLACED = {"content": {"role", "content"}, "text": {"type", "text"}, "value": {"from", "value"}}

Roots = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Converted:
    """What a conversion did. samples: written. moved: of these, under another root. left_out: samples that could not
    be read, and why (asked for). dropped: what stands beside single turns, which no format has a place for, with the
    number of samples it was dropped from.
    """

    samples: int
    moved: int
    left_out: tuple[str, ...]
    dropped: Mapping[str, int]


def convert(
    source: Path,
    target: Path,
    *,
    form: Format | None = None,
    roots: Roots = (),
    skip_bad: bool = False,
    told: Callable[[int], None] = lambda n: None,
) -> Converted:
    """Write the samples of `source` to `target`, which appears whole or not at all; memory holds one sample.

    form: jsonl or llava; None goes by the name of `target`. roots: (old, new) beginnings of video paths; the first
    that fits is replaced. skip_bad: leave out samples that cannot be read, instead of stopping. told: samples so far.
    Raises DataError: a sample that cannot be read, a target that exists, a root that no video is under.
    """
    format_of(target)
    if target.exists():
        raise DataError(f"{target} exists: choose another name, or delete it")
    used: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    left_out: list[str] = []
    with RecordWriter(target, form) as writer:
        for where, data in raw(source):
            try:
                value = decoded(data, where)
                record = parse(value, where)
            except DataError as e:
                if not skip_bad:
                    raise
                left_out.append(str(e))
                continue
            dropped.update(set(_unplaced(value)))
            writer.write(_moved(record, roots, used))
            told(writer.count)
        if unused := [old for old, _ in roots if not used[old]]:
            raise DataError(f"no video is under {unused[0]!r}: nothing was written; a first one is {_first(source)}")
        return Converted(writer.count, used.total(), tuple(left_out), dict(dropped))


def parse_root(text: str) -> tuple[str, str]:
    """OLD=NEW as a pair; either may be empty. Raises DataError."""
    old, sign, new = text.partition("=")
    if not sign:
        raise DataError(f"{text!r} is no OLD=NEW, as in /old/videos=/data/videos")
    return old, new


def _moved(record: Record, roots: Roots, used: Counter[str]) -> Record:
    for old, new in roots:
        path = PurePosixPath(record.video.as_posix())
        if old or not path.is_absolute():
            if not path.is_relative_to(old):
                continue
            used[old] += 1
            return replace(record, video=Path(new) / path.relative_to(old))
    return record


def _unplaced(value: Any) -> Iterator[str]:
    """Names beside the text of single turns."""
    messages = value if isinstance(value, list) else value.get("messages", value.get("conversations"))
    for message in messages:
        for name, placed in PLACED.items():
            if name in message:
                yield from message.keys() - placed
        if isinstance(message.get("content"), list):
            for part in message["content"]:
                if part["type"] == "text":
                    yield from part.keys() - PLACED["text"]


def _first(source: Path) -> str:
    for where, data in raw(source):
        try:
            return str(parse(decoded(data, where)).video)
        except DataError:
            continue
    return "missing"
