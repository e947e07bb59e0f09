"""Plain values of a YAML file into frozen dataclasses: an unknown key or a wrong kind is one line that names it."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ..errors import RecipeError

T = TypeVar("T")


def build(cls: type[T], values: Any, where: str) -> T:
    """An instance of the dataclass `cls`; `where` stands in front of a complaint. Raises RecipeError."""
    if not isinstance(values, Mapping):
        raise RecipeError(f"{where} must be a section of names and values, it is {values!r}")
    hints = get_type_hints(cls)
    known = {f.name: f for f in fields(cls) if f.init}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise RecipeError(f"{where}: unknown {key!r}{nearest(str(key), known)}")
    needed = [n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING]
    if missing := [name for name in needed if name not in values]:
        raise RecipeError(f"{where} lacks {', '.join(missing)}")
    return cls(**{key: convert(hints[key], value, f"{where}.{key}") for key, value in values.items()})


def nearest(word: str, known: Any) -> str:
    """`: do you mean …?`, or all that is known where nothing is near."""
    close = get_close_matches(word, list(known), 1)
    return f": do you mean {close[0]!r}?" if close else f": known are {', '.join(sorted(known))}"


def convert(kind: Any, value: Any, where: str) -> Any:
    """`value` as `kind`: a plain type, Path, Literal, X | None, tuple[X, ...], Mapping or dataclass."""
    if kind is Any:
        return value
    if is_dataclass(kind):
        return build(kind, value, where)  # type: ignore[arg-type]
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _one_of(inner, value, where)
    if origin is Literal:
        word = {True: "on", False: "off"}[value] if isinstance(value, bool) else value  # as YAML reads these two
        value = word if word in inner else value
        if value not in inner:
            raise RecipeError(f"{where} is {value!r}: it must be one of {', '.join(map(str, inner))}")
        return value
    if origin is tuple:
        several = value if isinstance(value, list | tuple) else [value]
        return tuple(convert(inner[0], x, f"{where}[{i}]") for i, x in enumerate(several))
    return _plain(origin or kind, value, where)


def _one_of(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    rest = [k for k in kinds if k is not type(None)]
    for kind in rest[:-1]:
        if isinstance(kind, type) and type(value) is kind:
            return value
    return convert(rest[-1], value, where)


def _plain(kind: Any, value: Any, where: str) -> Any:
    if kind is float and type(value) in (int, float, str):  # YAML reads 1e-5 as a text
        try:
            return float(value)
        except ValueError:
            pass
    elif kind is Path and isinstance(value, str):
        return Path(value).expanduser()
    elif isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    name = {"str": "a text", "int": "a whole number", "float": "a number", "bool": "true or false"}
    raise RecipeError(f"{where} is {value!r}, and must be {name.get(kind.__name__, 'of kind ' + kind.__name__)}")
