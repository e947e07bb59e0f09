"""Qwen3-VL: pairs of frames under their time in words, and visual features added in the decoder's first layers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..types import Frame
from .family import Published
from .qwen2_5_vl import QUESTION, TURN
from .qwen2_vl import Qwen2VL
from .values import Grid, Strings


def _size(hidden: int, inner: int, layers: int, heads: int, tower: dict[str, Any]) -> Any:
    """The config of one size. Sizes as in the published config.json."""
    from transformers import Qwen3VLConfig

    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20], "mrope_interleaved": True}
    text = {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
        "max_position_embeddings": 262144,
        "rope_parameters": rope,
    }
    return Qwen3VLConfig(
        text_config=text, vision_config={**tower, "out_hidden_size": hidden}, tie_word_embeddings=hidden < 4096
    )


SMALL = {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "deepstack_visual_indexes": [5, 11, 17]}
LARGE = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "deepstack_visual_indexes": [8, 16, 24]}


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

    published = tuple(
        Published(f"Qwen/Qwen3-VL-{name}-Instruct", f"qwen3-vl-{name.lower()}", partial(_size, *sizes), "Apache-2.0")
        for name, sizes in (
            ("2B", (2048, 6144, 28, 16, SMALL)),
            ("4B", (2560, 9728, 36, 32, SMALL)),
            ("8B", (4096, 12288, 36, 32, LARGE)),
        )
    )
