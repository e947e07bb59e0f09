"""Past and current focus: the gate, the choice of blocks, and the modes. A mode is a value; a name is short for one."""

from __future__ import annotations

from .base import Mode
from .gate import entropy_gate
from .names import MODES, parse_mode
from .plain import Blind, Chosen, Full, Recent, Uniform, Window
from .weavetime import ReKV, WeaveTime

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
