"""The families that are known, by the `model_type` of their config. A family joins by one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .llava_onevision import LlavaOneVision
from .qwen2_vl import Qwen2VL

if TYPE_CHECKING:
    from .base import Backbone

FAMILIES: dict[str, type[Backbone]] = {family.family: family for family in (LlavaOneVision, Qwen2VL)}


def build(model: Any, tokenizer: Any, checkpoint: Any, *, time_prompts: bool) -> Backbone:
    """The backbone around a loaded model."""
    return FAMILIES[checkpoint.family](model, tokenizer, checkpoint, time_prompts=time_prompts)
