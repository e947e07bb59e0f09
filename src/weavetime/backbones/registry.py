"""The families that are known. One that joins is one line here, or an entry point `weavetime.families`."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from .flash_vstream import FlashVStream
from .llava_onevision import LlavaOneVision
from .longva import LongVA
from .qwen2_5_vl import Qwen25VL
from .qwen2_vl import Qwen2VL
from .qwen3_vl import Qwen3VL
from .video_llava import VideoLlava

if TYPE_CHECKING:
    from .base import Backbone

GROUP = "weavetime.families"

# Asked in this order whose a folder is: those first that others could take for their own.
_KNOWN: tuple[type[Backbone], ...] = (
    FlashVStream,
    LongVA,
    LlavaOneVision,
    VideoLlava,
    Qwen2VL,
    Qwen25VL,
    Qwen3VL,
)
FAMILIES = {family.family: family for family in _KNOWN}


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
