"""Files of training samples: chat messages, one sample a line, and LLaVA's JSON, one array of samples.

Neither is held in memory: a file is indexed by where its samples lie, or read in order.
"""

from __future__ import annotations

import json
import os
import re
from array import array
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self

from ..errors import DataError
from .record import Record, parse, to_chat, to_llava

Format = Literal["jsonl", "llava"]
FORMATS: dict[str, Format] = {".jsonl": "jsonl", ".json": "llava"}

CHUNK = 1 << 20
LONGEST = 1 << 28  # characters of a sample in an array: beyond, it is broken
_OFFSETS = re.compile(rb"\s*\[\s*\d")  # published files end with a line of the offsets of lines: no sample
_SPACE = re.compile(r"[ \t\r\n]*")
_SCAN = json.JSONDecoder().raw_decode


class RecordFile:
    """The samples of a file by number, each read when it is asked for. One takes 16 bytes of memory.

    video_root: the folder that relative video paths start from; the file's own by default. Raises DataError for a file
    that cannot be read or is of no known format.
    """

    def __init__(self, path: str | Path, video_root: str | Path | None = None) -> None:
        self.path = Path(path)
        self.format = format_of(self.path)
        self._root = self.path.parent if video_root is None else Path(video_root)
        self._starts, self._ends = array("Q"), array("Q")
        with _opened(self.path) as file:
            for start, end in _SPANS[self.format](file, self.path):
                self._starts.append(start)
                self._ends.append(end)

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> Record:
        """Sample `index`, its video under `video_root`. Raises DataError where it cannot be used."""
        start, end = self._starts[index], self._ends[index]
        with _opened(self.path) as file:
            file.seek(start)
            data = file.read(end - start)
        try:
            record = parse(_json(data))
        except DataError as e:
            raise DataError(f"{self.where(index)}: {e}") from e
        return replace(record, video=self._root / record.video)

    def where(self, index: int) -> str:
        """File and line of a sample; in an array, file and byte."""
        start = self._starts[index]
        if self.format == "llava":
            return f"{self.path}, byte {start}"
        whole, rest = divmod(start, CHUNK)
        with _opened(self.path) as file:
            line = 1 + sum(file.read(size).count(b"\n") for size in [CHUNK] * whole + [rest])
        return f"{self.path}:{line}"


def stream(path: str | Path) -> Iterator[tuple[str, Any]]:
    """Every sample in order: where it stands, and its JSON value for `parse`. Memory holds one sample at a time.

    Raises DataError where the file is broken.
    """
    path = Path(path)
    for where, data in raw(path):
        yield where, decoded(data, where)


def decoded(data: bytes, where: str) -> Any:
    """The JSON value of one sample of `raw`. Raises DataError."""
    try:
        return _json(data)
    except DataError as e:
        raise DataError(f"{where}: {e}") from e


def raw(path: Path) -> Iterator[tuple[str, bytes]]:
    """Every sample in order, where it stands and its bytes: so one that is no JSON does not end the reading."""
    with _opened(path) as file, _opened(path) as again:
        if format_of(path) == "jsonl":
            yield from ((f"{path}:{n}", line) for n, line in enumerate(file, 1) if _is_sample(line))
            return
        for start, end in _array_spans(file, path):
            again.seek(start)
            yield f"{path}, byte {start}", again.read(end - start)


class RecordWriter:
    """Writes samples in one of the formats. The file appears whole when the `with` block ends well, or not at all."""

    def __init__(self, path: str | Path, form: Format | None = None) -> None:
        self.path = Path(path)
        self.format = form or format_of(self.path)
        self.count = 0
        self._part = self.path.with_name(f".{self.path.name}.part")

    def __enter__(self) -> Self:
        self._file = self._part.open("w", encoding="utf-8", newline="\n")
        return self

    def write(self, record: Record) -> None:
        """Add a sample."""
        lines = self.format == "jsonl"
        value = to_chat(record) if lines else to_llava(record)
        text = json.dumps(value, ensure_ascii=False)
        if not text.isprintable() and any("\ud800" <= c <= "\udfff" for c in text):
            text = json.dumps(value)  # half a character, which UTF-8 cannot write
        before = "" if lines else ",\n" if self.count else "[\n"
        self._file.write(before + text + ("\n" if lines else ""))
        self.count += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with self._file:
            if self.format == "llava" and kind is None:
                self._file.write("\n]\n" if self.count else "[]\n")
        if kind is None:
            os.replace(self._part, self.path)
        else:
            self._part.unlink()


def format_of(path: Path) -> Format:
    """The format that a file's name says. Raises DataError for another name."""
    if path.suffix.lower() not in FORMATS:
        raise DataError(f"{path}: a training file is .jsonl (chat messages, a sample a line) or .json (LLaVA's array)")
    return FORMATS[path.suffix.lower()]


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except FileNotFoundError as e:
        raise DataError(f"no such file: {path}") from e
    except OSError as e:
        raise DataError(f"{path} cannot be read: {e.strerror}") from e


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as e:
        raise DataError(f"not JSON ({e})") from e
    except RecursionError as e:
        raise DataError("nested too deeply") from e


# Where samples lie


def _is_sample(line: bytes) -> bool:
    return bool(line.strip()) and not _OFFSETS.match(line)


def _line_spans(file: IO[bytes], path: Path) -> Iterator[tuple[int, int]]:
    """Start and end of each line that is not blank."""
    at = 0
    for line in file:
        if _is_sample(line):
            yield at, at + len(line)
        at += len(line)


def _array_spans(file: IO[bytes], path: Path) -> Iterator[tuple[int, int]]:
    """Start and end of each object of the array that the file is."""
    text, count = _Text(file), 0
    try:
        text.take("[")
        while text.peek() != "]":
            if count:
                text.take(",")
            text.take("{", stay=True)
            start = text.byte
            text.value()
            count += 1
            yield start, text.byte
        text.take("]")
        text.take("")
    except (ValueError, RecursionError) as e:
        raise DataError(f"{path}, byte {text.byte}: this should be a JSON array of objects, copied in full: {e}") from e


class _Text:
    """The text of a file, a piece at a time, with a place in it: `at` in characters, `byte` in the file's bytes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._decode = file, getincrementaldecoder("utf-8")().decode
        self._text, self.at, self.byte = "", 0, 0

    def peek(self) -> str:
        """The next character that is no space; nothing at the end."""
        while True:
            self._move(_SPACE.match(self._text, self.at).end())  # type: ignore[union-attr]
            if self.at < len(self._text) or not self._more():
                return self._text[self.at : self.at + 1]

    def take(self, wanted: str, *, stay: bool = False) -> None:
        """Go over the next character, or stay before it; ValueError where it is another."""
        if (found := self.peek()) != wanted:
            raise ValueError(f"expected {wanted or 'the end'!r}, found {found or 'the end'!r}")
        self._move(self.at + (0 if stay else len(wanted)))

    def value(self) -> None:
        """Go over one JSON value; ValueError where there is none."""
        while True:
            try:
                self._move(_SCAN(self._text, self.at)[1])
                return
            except json.JSONDecodeError as e:
                if len(self._text) - self.at > LONGEST or not self._more():
                    raise ValueError(f"the sample that begins here is not JSON ({e.msg})") from e

    def _more(self) -> bool:
        chunk = self._file.read(max(CHUNK, len(self._text) - self.at))
        self._text, self.at = self._text[self.at :] + self._decode(chunk, not chunk), 0
        return bool(chunk)

    def _move(self, at: int) -> None:
        self.byte += len(self._text[self.at : at].encode())
        self.at = at


_SPANS: dict[Format, Callable[[IO[bytes], Path], Iterator[tuple[int, int]]]] = {
    "jsonl": _line_spans,
    "llava": _array_spans,
}
