"""The families that are known. One that joins is one line here, or an entry point `weavetime.families`."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from .llava_onevision import LlavaOneVision
from .qwen2_vl import Qwen2VL

if TYPE_CHECKING:
    from .base import Backbone

GROUP = "weavetime.families"

# Asked in this order whose a folder is: those first that others could take for their own.
FAMILIES: dict[str, type[Backbone]] = {family.family: family for family in (LlavaOneVision, Qwen2VL)}


def families() -> dict[str, type[Backbone]]:
    """Every family by name; those of other packages are asked first."""
    return {**_foreign(), **FAMILIES}


@cache
def _foreign() -> dict[str, type[Backbone]]:
    found = (entry.load() for entry in entry_points(group=GROUP))
    return {family.family: family for family in found if family.family not in FAMILIES}


def build(model: Any, tokenizer: Any, checkpoint: Any, *, time_prompts: bool) -> Backbone:
    """The backbone around a loaded model."""
    backbone: Backbone = checkpoint.kind(model, tokenizer, checkpoint, time_prompts=time_prompts)
    return backbone
