"""Qwen3-VL: pairs of frames under their time in words, and visual features added in the decoder's first layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..types import Frame
from .base import Grid, Strings
from .qwen2_5_vl import QUESTION, TURN
from .qwen2_vl import Qwen2VL


class Qwen3VL(Qwen2VL):
    """A step is two frames; each has its own text and wrapper, with time prompts or without (docs/method.md §2)."""

    family = "qwen3_vl"
    host = "Qwen3VLForConditionalGeneration"
    older_layout = ()
    frames_per_step = 2
    # The chat template of Qwen/Qwen3-VL-8B-Instruct (chat_template.json), which names no system prompt.
    strings = Strings(sink="<|im_start|>user\n", question=QUESTION, turn=TURN)
    seconds = "<{time:.1f} seconds>"
    """The family's own time of a pair, as its processor writes it (transformers, processing_qwen3_vl.py)."""

    @property
    def wraps(self) -> bool:
        """Always: a video of this family is a sequence of such steps."""
        return True

    def step_text(self, frames: Sequence[Frame], fps: float) -> str:
        """The mean of the pair's times; with time prompts, ours in its place."""
        if self.time_prompts:
            return super().step_text(frames, fps)
        return self.seconds.format(time=(float(frames[0].time) + float(frames[-1].time)) / 2)

    def features(self, pixels: Tensor, grid: Grid) -> Tensor:
        """The tower's tokens, then the features that its deepest layers but one send to the decoder's first layers."""
        out = self.tower(pixels, grid)
        tokens = [x.view(len(pixels), grid.tokens, -1) for x in (out.pooler_output, *out.deepstack_features)]
        return torch.cat(tokens, -1)
