"""Past and current focus: the gate, the choice of blocks, and the modes. A mode is a value; a name is short for one."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import ModeError
from .base import Mode
from .gate import entropy_gate
from .plain import Blind, Chosen, Full, Recent, Uniform, Window
from .weavetime import ReKV, WeaveTime

MODES: dict[str, Callable[..., Mode]] = {
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
    """A mode from its name: `weavetime`, `recent:4`, `uniform:64`, `rekv:32`, `frames:12,40`; a value stays itself."""
    if isinstance(mode, Mode):
        return mode
    if not isinstance(mode, str):
        raise ModeError(f"a mode is a name or a value such as WeaveTime(), got {mode!r}")
    name, _, setting = mode.partition(":")
    if name not in MODES:
        raise ModeError(f"unknown mode {mode!r}: use one of {', '.join(MODES)} (recent:N, uniform:N, frames:SECONDS,…)")
    try:
        if name == "frames":
            return Chosen(tuple(float(t) for t in setting.split(",") if t.strip()))
        return MODES[name](int(setting)) if setting else MODES[name]()
    except (TypeError, ValueError) as e:
        raise ModeError(f"mode {mode!r}: {setting!r} is not a setting of {name}") from e


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
