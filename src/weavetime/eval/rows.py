"""Rows of a measurement in a JSONL file that a killed run goes on with: a first line of settings, then a row a line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..errors import DataError


class RowFile:
    """An open results file. head: what must agree for rows to belong together. about: what is worth knowing of the
    run that began the file (versions, card), and need not agree. rows: those of earlier runs.

    A last line that a kill cut short is dropped. Raises DataError where the file is of other settings or damaged.
    """

    def __init__(self, path: Path, head: Mapping[str, Any], about: Mapping[str, Any] | None = None) -> None:
        self.path, self._about = path, about or {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        try:
            self.rows = self._read(json.loads(json.dumps(head)))
        except BaseException:
            self._file.close()
            raise

    def _read(self, head: dict[str, Any]) -> list[dict[str, Any]]:
        self._file.seek(0)
        *lines, rest = self._file.read().split(b"\n")
        if rest:  # written to its end or not at all: a line ends with a line feed
            self._file.truncate(self._file.tell() - len(rest))
        found = [self._line(number, line) for number, line in enumerate(lines, 1)]
        if not found:
            self.add({**head, **({"about": self._about} if self._about else {})})
            return []
        there = {key: value for key, value in found[0].items() if key != "about"}
        if there != head:
            raise DataError(f"{self.path} holds rows of another run ({difference(there, head)}): name another file")
        return found[1:]

    def _line(self, number: int, line: bytes) -> dict[str, Any]:
        return _parsed(self.path, number, line)

    def add(self, row: Mapping[str, Any]) -> None:
        """Write a row at once: it is there when this returns, whatever happens to the process then."""
        self._file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _parsed(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as e:
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
