"""Model families: vision features, prompts and token layouts, on the unmodified transformers classes."""

from .attach import Pass, attached
from .base import Backbone
from .family import Family, Published
from .registry import FAMILIES, build, families
from .values import NEWLINE, Grid, Prompt, Steps, Strings

__all__ = [
    "FAMILIES",
    "NEWLINE",
    "Backbone",
    "Family",
    "Grid",
    "Pass",
    "Prompt",
    "Published",
    "Steps",
    "Strings",
    "attached",
    "build",
    "families",
]
