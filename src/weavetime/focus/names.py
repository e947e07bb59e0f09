"""Names of modes: short for a value, with any of its settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from ..errors import ModeError
from .base import Mode
from .plain import Blind, Chosen, Full, Recent, Uniform, Window
from .weavetime import ReKV, WeaveTime

MODES: dict[str, type[Mode]] = {
    "weavetime": WeaveTime,
    "rekv": ReKV,
    "window": Window,
    "recent": Recent,
    "uniform": Uniform,
    "full": Full,
    "frames": Chosen,
    "blind": Blind,
}
NAME = re.compile(r"(\w+)(?::(.*)|\((.*)\))?", re.DOTALL)
SETTING = re.compile(r"\s*(\w+)\s*=\s*(\([^()=]*\)|[^(),=]*?)\s*(?:,|$)")
WORDS = {"true": True, "false": False}


def parse_mode(mode: str | Mode) -> Mode:
    """A mode from its name: `weavetime`, `recent:4`, `uniform:64`, `rekv:32`, `frames:12,40`; a value stays itself.

    With any settings: `weavetime:k=8,coarse=128`, or as rows call it, `weavetime(k=8,coarse=128)`.
    """
    if isinstance(mode, Mode):
        return mode
    if not isinstance(mode, str):
        raise ModeError(f"a mode is a name or a value such as WeaveTime(), got {mode!r}")
    kind, said = read_name(mode)
    return kind(**said)


def read_name(mode: str) -> tuple[type[Mode], dict[str, Any]]:
    """The kind of mode that a name is of, and the settings that it says. Raises ModeError."""
    found = NAME.fullmatch(mode)
    name = found[1] if found else None
    if not found or name not in MODES:
        raise ModeError(f"unknown mode {mode!r}: use one of {', '.join(MODES)} (recent:N, uniform:N, frames:SECONDS,…)")
    kind, setting = MODES[name], found[2] or found[3] or ""
    try:
        if "=" in setting:
            return kind, dict(_settings(kind, setting))
        if kind is Chosen:
            return kind, {"times": _seconds(setting)}
        first = [f.name for f in fields(kind)][:1]  # type: ignore[arg-type]
        return kind, dict(zip(first, [int(setting)], strict=True)) if setting else {}
    except ValueError as e:
        raise ModeError(f"mode {mode!r}: {setting!r} is not a setting of {name}") from e


def _settings(kind: type[Mode], said: str) -> Iterator[tuple[str, Any]]:
    """`k=8,vote=true` as keys and values, each of its field's type. Raises ValueError where it is no such list."""
    hints = get_type_hints(kind)
    known = {f.name: hints[f.name] for f in fields(kind)}  # type: ignore[arg-type]
    seen: set[str] = set()
    done = 0
    while done < len(said):
        found = SETTING.match(said, done)
        if found is None or found[1] in seen:
            raise ValueError(said)
        key, text, done = found[1], found[2], found.end()
        if key not in known:
            raise ModeError(f"mode {kind.name} has no setting {key}: it has {', '.join(known) or 'none'}")
        seen.add(key)
        try:
            yield key, _value(text, known[key])
        except (KeyError, ValueError) as e:
            raise ModeError(f"{text!r} is no value for {key} of mode {kind.name}") from e


def _value(text: str, hint: Any) -> Any:
    """Raises KeyError and ValueError where the text is no value of such a field."""
    kinds = {get_origin(k) or k for k in (get_args(hint) if isinstance(hint, UnionType) else (hint,))}
    if NoneType in kinds and text.lower() == "none":
        return None
    if bool in kinds:
        return WORDS[text.lower()]
    if tuple in kinds:
        return _seconds(text.strip("()"))
    return int(text) if int in kinds else float(text)


def _seconds(text: str) -> tuple[float, ...]:
    return tuple(float(t) for t in text.split(",") if t.strip())
