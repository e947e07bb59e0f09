"""Qwen2.5-VL: Qwen2-VL with window attention in its tower, and seconds on the time axis where steps are one video."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..ops import Timeline
from .family import QWEN2_7B, Published
from .qwen2_vl import Qwen2VL

# The chat template of Qwen/Qwen2.5-VL-7B-Instruct (chat_template.json): a video, then the user's text.
QUESTION = "{q}<|im_end|>\n<|im_start|>assistant\n"
TURN = QUESTION + "{a}<|im_end|>\n<|im_start|>user\n"


class Qwen25VL(Qwen2VL):
    """Positions in one video follow the clock, `tokens_per_second` a second (docs/method.md §2)."""

    family = "qwen2_5_vl"
    host = "Qwen2_5_VLForConditionalGeneration"
    strings = replace(Qwen2VL.strings, question=QUESTION, turn=TURN)

    def timeline(self, fps: float) -> Timeline | None:
        """Absolute seconds; half of the model's positions at most, which leaves the rest to text."""
        if self.wraps:  # each step is a video of its own, of one moment
            return None
        return Timeline(float(self.model.config.vision_config.tokens_per_second), fps, self.max_positions // 2)

    @staticmethod
    def size() -> Any:
        """The config of the 7B. Sizes as in its config.json."""
        from transformers import Qwen2_5_VLConfig

        text = {
            **QWEN2_7B,
            "max_position_embeddings": 128000,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        }
        vision = {"hidden_size": 1280, "out_hidden_size": 3584, "tokens_per_second": 2}
        return Qwen2_5_VLConfig(text_config=text, vision_config=vision)

    published = (Published("Qwen/Qwen2.5-VL-7B-Instruct", "qwen2.5-vl-7b", size, "Apache-2.0"),)
