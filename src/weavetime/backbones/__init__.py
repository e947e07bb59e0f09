"""Model families: vision features, prompts and token layouts, on the unmodified transformers classes."""

from .attach import Pass, attached
from .base import NEWLINE, Backbone, Grid, Prompt, Steps, Strings
from .registry import FAMILIES, build

__all__ = [
    "FAMILIES",
    "NEWLINE",
    "Backbone",
    "Grid",
    "Pass",
    "Prompt",
    "Steps",
    "Strings",
    "attached",
    "build",
]
