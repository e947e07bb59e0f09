"""Annotation files as published: found, read, and every field of them checked before it is used."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError
from .base import Span


def place(root: Path, *names: str, partial: bool = False) -> Path | None:
    """The first of these files that is there, relative to root. None where there is none and partial is set.

    Raises DataError where there is none and partial is not set.
    """
    for name in names:
        if (root / name).is_file():
            return root / name
    if partial:
        return None
    raise DataError(f"{root} holds no {names[0]}: fetch it, or say partial to go on without it")


def load_json(path: Path) -> Any:
    """What a JSON file holds. Raises DataError where it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as e:
        raise DataError(f"{path} cannot be read as JSON ({e}): fetch it again") from e


def load_rows(path: Path) -> list[Entry]:
    """The objects of a JSON file that is a list of them. Raises DataError."""
    found = load_json(path)
    if not isinstance(found, list):
        raise DataError(f"{path} holds {_kind(found)}, and must hold a list: is it another version?")
    return [Entry.of(row, f"{path}, row {i}") for i, row in enumerate(found)]


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of an annotation file. where: its file and place, for errors. Every method raises DataError where the
    field is missing or not what it should be.
    """

    data: Mapping[str, Any]
    where: str

    @classmethod
    def of(cls, found: Any, where: str) -> Entry:
        """An entry of what must be an object."""
        if not isinstance(found, dict):
            raise DataError(f"{where}: {_kind(found)}, and must be an object")
        return cls(found, where)

    def wrong(self, what: str) -> DataError:
        """The error that says what is wrong with this entry."""
        return DataError(f"{self.where}: {what}")

    def field(self, name: str, *kinds: type) -> Any:
        """A field of one of these types; True and False are no numbers."""
        if name not in self.data:
            raise self.wrong(f"{name!r} is missing: is the file another version?")
        value = self.data[name]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise self.wrong(f"{name!r} is {_shown(value)}, and must be {' or '.join(k.__name__ for k in kinds)}")
        return value

    def text(self, name: str, *, empty: bool = False) -> str:
        """A text; an empty one only where that is said."""
        value: str = self.field(name, str)
        if not value and not empty:
            raise self.wrong(f"{name!r} is empty")
        if not _written(value):
            raise self.wrong(f"{name!r} is {_shown(value)}, and holds half a character: fetch the file again")
        return value

    def whole(self, name: str) -> int:
        """A whole number."""
        return int(self.field(name, int))

    def number(self, name: str) -> float:
        """A finite number."""
        value = self.field(name, int, float)
        if not finite(value):
            raise self.wrong(f"{name!r} is {_shown(value)}, and must be finite")
        return float(value)

    def duration(self, name: str = "duration") -> float:
        """Seconds, more than 0."""
        value = self.number(name)
        if value <= 0:
            raise self.wrong(f"{name!r} is {value:g} s: no video is that short")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts, with at least one in it; each may be empty."""
        value = self.field(name, list)
        if not value or not all(isinstance(x, str) and _written(x) for x in value):
            raise self.wrong(f"{name!r} is {_shown(value)}, and must be a list of texts")
        return tuple(value)

    def entries(self, name: str) -> Iterator[Entry]:
        """The objects of a list."""
        for i, found in enumerate(self.field(name, list)):
            yield Entry.of(found, f"{self.where}, {name} {i}")

    def spans(self, name: str) -> tuple[Span, ...]:
        """A list of [start, end], seconds, none of which starts below 0 or ends before it starts."""
        return tuple(self._span(name, found) for found in self.field(name, list))

    def _span(self, name: str, found: Any) -> Span:
        numbers = found if isinstance(found, list) and len(found) == 2 else []
        match [x for x in numbers if finite(x)]:
            case [start, end] if 0 <= start <= end:
                return float(start), float(end)
        raise self.wrong(f"{name!r} holds {_shown(found)}, and must hold [start, end] in seconds")


def finite(x: Any) -> bool:
    """Whether this is a number that a time can be."""
    try:
        return isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x)
    except OverflowError:
        return False


def _written(text: str) -> bool:
    """Whether a text can be written: JSON may hold half a surrogate pair."""
    return not any("\ud800" <= x <= "\udfff" for x in text)


def _kind(found: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "nothing"}
    return names.get(type(found), "a number")


def _shown(value: Any) -> str:
    said = repr(value)
    return said if len(said) <= 60 else f"{said[:57]}..."
