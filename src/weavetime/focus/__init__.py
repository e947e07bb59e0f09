"""Past and current focus: the gate, the choice of blocks, and the modes. A mode is a value; a name is short for one."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from ..errors import ModeError
from .base import Mode
from .gate import entropy_gate
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


def parse_mode(mode: str | Mode) -> Mode:
    """A mode from its name: `weavetime`, `recent:4`, `uniform:64`, `rekv:32`, `frames:12,40`; a value stays itself.

    With any settings: `weavetime:k=8,coarse=128`, or as rows call it, `weavetime(k=8,coarse=128)`.
    """
    if isinstance(mode, Mode):
        return mode
    if not isinstance(mode, str):
        raise ModeError(f"a mode is a name or a value such as WeaveTime(), got {mode!r}")
    name, _, setting = mode[:-1].partition("(") if re.search(r"\(.*\)$", mode) else mode.partition(":")
    if name not in MODES:
        raise ModeError(f"unknown mode {mode!r}: use one of {', '.join(MODES)} (recent:N, uniform:N, frames:SECONDS,…)")
    try:
        if "=" in setting:
            return MODES[name](**_settings(MODES[name], setting))
        if name == "frames":
            return Chosen(tuple(float(t) for t in setting.split(",") if t.strip()))
        return MODES[name](int(setting)) if setting else MODES[name]()  # type: ignore[call-arg]
    except (SyntaxError, TypeError, ValueError) as e:
        raise ModeError(f"mode {mode!r}: {setting!r} is not a setting of {name}") from e


def _settings(kind: type[Mode], said: str) -> dict[str, Any]:
    """`k=8,vote=true` as values, each of its field's type. Raises SyntaxError and ValueError where it is none."""
    words = re.sub(r"\b(true|false|none)\b", lambda word: word[0].capitalize(), said)
    call = ast.parse(f"_({words})", mode="eval").body
    if not isinstance(call, ast.Call) or call.args:
        raise ValueError(said)
    hints = get_type_hints(kind)
    known = {f.name: hints[f.name] for f in fields(kind)}  # type: ignore[arg-type]
    found = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
    if len(found) < len(call.keywords):
        raise ValueError(said)
    for key, value in found.items():
        if key not in known:
            raise ModeError(f"{kind.name} has no setting {key}: it has {', '.join(known) or 'none'}")
        kinds = get_args(known[key]) if isinstance(known[key], UnionType) else (known[key],)
        if type(value) not in {get_origin(k) or k for k in kinds} and not (type(value) is int and float in kinds):
            raise ModeError(f"{value!r} is no value for {kind.name}'s {key}")
    return found


__all__ = [
    "MODES",
    "Blind",
    "Chosen",
    "Full",
    "Mode",
    "ReKV",
    "Recent",
    "Uniform",
    "WeaveTime",
    "Window",
    "entropy_gate",
    "parse_mode",
]
