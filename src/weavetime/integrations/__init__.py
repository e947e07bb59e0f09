"""WeaveTime in other tools. Nothing of a tool is imported before that tool asks for it."""

from __future__ import annotations

from typing import Any


def lmms_eval_model() -> Any:
    """What lmms-eval (0.7) finds under its entry points `lmms_eval.models`: `lmms-eval --model weavetime`."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest("weavetime", chat_class_path=f"{__name__}.lmms_eval.WeaveTime")
