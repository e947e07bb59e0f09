"""StreamWorld: generated streams and questions whose answers and evidence are known."""

from .compose import Atlas, as_numbers
from .needle import with_needle
from .questions import FAMILIES, NOW, Asked, ask, questions
from .render import Renderer
from .script import SPLITS, Script
from .sprites import COLOURS, KINDS, TEXTS

__all__ = [
    "COLOURS",
    "FAMILIES",
    "KINDS",
    "NOW",
    "SPLITS",
    "TEXTS",
    "Asked",
    "Atlas",
    "Renderer",
    "Script",
    "as_numbers",
    "ask",
    "questions",
    "with_needle",
]
