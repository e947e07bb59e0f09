"""Rows of a measurement in a JSONL file that a killed run goes on with: a first line of settings, then a row a line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from ..errors import DataError

try:
    import fcntl
except ImportError:  # a system without such locks
    fcntl = None  # type: ignore[assignment]


class RowFile:
    """An open results file. head: what must agree for rows to belong together. about: what is worth knowing of the
    run that began the file (versions, card), and need not agree. rows: those of earlier runs.

    A last line that a kill cut short is dropped. One process at a time has it open; reading it is free. Raises
    DataError where the file is of other settings, damaged, open elsewhere or cannot be written; it stays as it is then.
    """

    def __init__(self, path: Path, head: Mapping[str, Any], about: Mapping[str, Any] | None = None) -> None:
        self.path, self._about = path, about or {}
        if path.exists() and not path.is_file():
            raise DataError(f"{path} is no file: name a file for the rows")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b")
        except OSError as e:
            raise DataError(f"{path} cannot be written ({e.strerror}): name another file") from e
        try:
            _lock(self._file, path)
            self.rows = self._read(json.loads(json.dumps(head)))
        except BaseException:
            self._file.close()
            raise

    def _read(self, head: dict[str, Any]) -> list[dict[str, Any]]:
        self._file.seek(0)
        *lines, rest = self._file.read().split(b"\n")
        found = [self._line(number, line) for number, line in enumerate(lines, 1)]
        there = {key: value for key, value in found[0].items() if key != "about"} if found else head
        if there != head:
            raise DataError(f"{self.path} holds rows of another run ({difference(there, head)}): name another file")
        begun = _line({**head, "about": self._about} if self._about else head)
        if not found and rest[:_KNOWN] != begun[: min(_KNOWN, len(rest))]:
            raise DataError(f"{self.path} holds something else than rows: name another file")
        if rest:  # written to its end or not at all: a line ends with a line feed
            self._file.truncate(self._file.tell() - len(rest))
        if not found:
            self._write(begun)
        return found[1:]

    def _line(self, number: int, line: bytes) -> dict[str, Any]:
        return _parsed(self.path, number, line)

    def add(self, row: Mapping[str, Any]) -> None:
        """Write a row at once: it is there when this returns, whatever happens to the process then."""
        self._write(_line(row))

    def _write(self, line: bytes) -> None:
        self._file.write(line + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


_KNOWN = 16  # bytes by which a first line that was cut short is told from another file


def _lock(file: IO[bytes], path: Path) -> None:
    """Refuse a file that another process writes; the lock goes with the process. Raises DataError."""
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DataError(f"{path} is being written by another process: wait for it, or name another file") from None
    except OSError:  # a file system without locks
        pass


def _line(row: Mapping[str, Any]) -> bytes:
    """A row as a line of JSON, without its end."""
    with suppress(UnicodeEncodeError):  # half a surrogate pair, which only an escape can hold
        return json.dumps(row, ensure_ascii=False).encode()
    return json.dumps(row).encode()


def write_rows(path: Path, head: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> None:
    """A results file of these rows, whole or not at all. Raises DataError where there is one already."""
    if path.exists():
        raise DataError(f"{path} is there already: name another file")
    part = path.with_name(f".{path.name}.part{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.writelines(_line(row) + b"\n" for row in (head, *rows))
        part.replace(path)
    except OSError as e:
        raise DataError(f"{path} cannot be written ({e.strerror}): name another file") from e
    finally:
        with suppress(OSError):
            part.unlink()


def _parsed(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as e:
        raise DataError(f"{path}, line {number}: no JSON ({e}): name another file") from e
    if not isinstance(row, dict):
        raise DataError(f"{path}, line {number}: no row: name another file")
    return row


def read_rows(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The head and the rows of a results file; a last line that a kill cut short is left out. Raises DataError."""
    try:
        *lines, _ = path.read_bytes().split(b"\n")
    except OSError as e:
        raise DataError(f"{path} cannot be read: {e.strerror}") from e
    if not lines:
        raise DataError(f"{path} is empty: name a results file")
    head, *rows = (_parsed(path, number, line) for number, line in enumerate(lines, 1))
    return head, rows


def difference(a: dict[str, Any], b: dict[str, Any]) -> str:
    """The first few settings that differ, as `key: VALUE there, VALUE here`."""
    one, two = _flat(a), _flat(b)
    keys = [key for key in {**one, **two} if one.get(key) != two.get(key)]
    said = [f"{key}: {one.get(key)!r} there, {two.get(key)!r} here" for key in keys[:3]]
    return "; ".join(said + (["…"] if len(keys) > 3 else []))


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found
