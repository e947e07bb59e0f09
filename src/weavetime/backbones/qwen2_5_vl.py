"""Qwen2.5-VL: Qwen2-VL with window attention in its tower, and seconds on the time axis where steps are one video."""

from __future__ import annotations

from dataclasses import replace

from ..ops import Timeline
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
