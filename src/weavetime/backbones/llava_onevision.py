"""LLaVA-OneVision: SigLIP tower, two-layer projector, 2 x 2 bilinear pooling, Qwen2 text (docs/method.md §1)."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .base import Backbone
from .family import Published
from .values import NEWLINE, Grid, Strings


def _size(hidden: int, inner: int, layers: int, heads: int, kv_heads: int, vocabulary: int) -> Any:
    """The config of one size: SigLIP so400m of 384 pixels, and Qwen2. Sizes as in the published config.json."""
    from transformers import LlavaOnevisionConfig

    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 26,
        "num_attention_heads": 16,
        "image_size": 384,
        "patch_size": 14,
        "vision_use_head": False,
    }
    text = {
        "model_type": "qwen2",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
        "max_position_embeddings": 32768,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    }
    return LlavaOnevisionConfig(
        vision_config=vision, text_config=text, vision_feature_layer=-1, vision_feature_select_strategy="full"
    )


class LlavaOneVision(Backbone):
    """Every frame is resized to the tower's square; one axis of positions."""

    family = "llava_onevision"
    host = "LlavaOnevisionForConditionalGeneration"
    projector = "model.multi_modal_projector"
    # transformers moved the parts under `model.` in 4.52, and took SigLIP's `vision_model.` away in 5
    older_layout = (
        ("language_model.model.", "model.language_model."),
        ("language_model.lm_head", "lm_head"),
        ("vision_tower.vision_model.", "model.vision_tower."),
        ("model.vision_tower.vision_model.", "model.vision_tower."),
        ("vision_tower.", "model.vision_tower."),
        ("multi_modal_projector.", "model.multi_modal_projector."),
        ("image_newline", "model.image_newline"),
    )
    # The published ReKV and WeaveTime code's prompt, its spaces included.
    strings = Strings(
        sink="<|im_start|>system \nYou are a helpful assistant.<|im_end|><|im_start|>user ",
        turn="\n{q}<|im_end|><|im_start|>assistant\n{a}<|im_end|><|im_start|>user ",
        time="\nTime={start:07.1f}-{end:07.1f}s",
    )

    @property
    def vision(self) -> Any:
        """SigLIP."""
        return self.model.model.vision_tower

    @property
    def newline(self) -> Tensor:
        """`image_newline`, (hidden,)."""
        return self.model.model.image_newline

    @property
    def closing(self) -> tuple[int, ...]:
        """The newline vector ends a video."""
        return (NEWLINE,)

    @property
    def _patches(self) -> int:
        config = self.model.config.vision_config
        return int(config.image_size // config.patch_size)

    def grid(self, height: int, width: int, most: float | None = None) -> Grid:
        """The tower's square, whatever the picture's size; patches pooled by two."""
        side = self.model.config.vision_config.image_size
        pooled = math.ceil(self._patches / 2)
        return Grid(side, side, pooled, pooled)

    def features(self, pixels: Tensor, grid: Grid) -> Tensor:
        """Tower, layer selection, projector, pooling: the host's video path without its newline."""
        config, host = self.model.config, self.model.model
        layer = config.vision_feature_layer
        out = self.vision(self.normalise(pixels), output_hidden_states=True, return_dict=True)
        if isinstance(layer, int):
            hidden = out.hidden_states[layer]
        else:
            hidden = torch.cat([out.hidden_states[i] for i in layer], -1)
        if config.vision_feature_select_strategy == "default":
            hidden = hidden[:, 1:]
        tokens = host.multi_modal_projector(hidden)
        square = tokens.unflatten(1, (self._patches, self._patches)).permute(0, 3, 1, 2)
        pooled = functional.interpolate(square, size=(grid.rows, grid.columns), mode="bilinear", align_corners=False)
        return pooled.flatten(2).mT.contiguous()

    def visual_positions(self, grid: Grid) -> Tensor:
        """One after another."""
        return torch.arange(grid.tokens)[None]

    published = tuple(
        Published(
            f"llava-hf/llava-onevision-qwen2-{name}-ov-hf",
            f"llava-onevision-{name}",
            partial(_size, *sizes),
            "Apache-2.0",
        )
        for name, sizes in (("0.5b", (896, 4864, 24, 14, 2, 152000)), ("7b", (3584, 18944, 28, 28, 4, 152128)))
    )
