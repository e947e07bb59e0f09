"""Qwen2-VL: native resolution, a frame doubled to the temporal patch of two, positions by time, height and width."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import VideoError
from . import spans
from .base import Backbone
from .family import QWEN2_7B, TESTED, Published
from .values import Grid, Strings

# qwen-vl-utils caps a video's frame at 768 tokens; the limits in a checkpoint are for images, or for whole videos.
FRAME_TOKENS = 768


class Qwen2VL(Backbone):
    """Three axes of positions; the first frame fixes the size for the whole stream."""

    family = "qwen2_vl"
    memory_bypassed = "flash_vstream_qwen2_vl"  # Flash-VStream-Qwen: the same modules; its memory has no weights
    host = "Qwen2VLForConditionalGeneration"
    projector = "model.visual.merger"
    # transformers moved the parts under `model.` in 4.52
    older_layout: ClassVar[tuple[tuple[str, str], ...]] = (
        ("model.", "model.language_model."),
        ("visual.", "model.visual."),
    )
    axes = 3
    strings = Strings(sink="<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n")
    opening = "<|vision_start|>"

    @classmethod
    def claims(cls, config: Mapping[str, Any]) -> bool:
        """Flash-VStream-Qwen too (IVGSZ/Flash-VStream@6a82abf, Flash-VStream-Qwen/models/vstream_qwen2vl_model.py)."""
        return config.get("model_type") in (cls.family, cls.memory_bypassed)

    @classmethod
    def host_config(cls, folder: Path, config: Mapping[str, Any]) -> Any:
        """As config.json says it, under the host's own name."""
        if config.get("model_type") != cls.memory_bypassed:
            return super().host_config(folder, config)
        from transformers import Qwen2VLConfig

        vision = {k: v for k, v in config.get("vision_config", {}).items() if k != "flash_memory_config"}
        own = {**config, "model_type": cls.family, "vision_config": {**vision, "model_type": cls.family}}
        return Qwen2VLConfig.from_dict(own)

    @property
    def vision(self) -> Any:
        """The vision transformer."""
        return self.model.model.visual

    @property
    def closing(self) -> tuple[int, ...]:
        """`<|vision_end|>`."""
        return (self.model.config.vision_end_token_id,)

    @property
    def most_pixels(self) -> int:
        """As said on loading, else the checkpoint's limit, but no more than a video's frame has."""
        said, cap = self.checkpoint.preprocessor, FRAME_TOKENS * self.unit**2
        limit = said.get("max_pixels") or (said.get("size") or {}).get("longest_edge") or cap
        return int(said.get("frame_pixels") or min(limit, cap))

    @property
    def unit(self) -> int:
        """Pixels of a token's side."""
        config = self.model.config.vision_config
        return int(config.patch_size * config.spatial_merge_size)

    def grid(self, height: int, width: int, most: float | None = None) -> Grid:
        """Both sides to multiples of patch x merge, pixels within limits, the aspect kept as nearly as can be."""
        said, unit = self.checkpoint.preprocessor, self.unit
        size = said.get("size") or {}
        least = said.get("min_pixels") or size.get("shortest_edge") or 4 * unit * unit
        own = self.most_pixels
        most = own if most is None else min(own, max(most, least))
        if max(height, width) > 200 * min(height, width):
            raise VideoError(f"a frame of {width}x{height} is too narrow: {self.family} takes sides up to 200 to 1")
        h, w = (max(unit, round(side / unit) * unit) for side in (height, width))
        if h * w > most:
            shrink = math.sqrt(height * width / most)
            h, w = (max(unit, math.floor(side / shrink / unit) * unit) for side in (height, width))
        elif h * w < least:
            grow = math.sqrt(least / (height * width))
            h, w = (math.ceil(side * grow / unit) * unit for side in (height, width))
        return Grid(h, w, h // unit, w // unit)

    def features(self, pixels: Tensor, grid: Grid) -> Tensor:
        """Each frame stands for both of its temporal patch; or, as (steps, 2, 3, height, width), a pair shares one."""
        return self.tower(pixels, grid).pooler_output.view(len(pixels), grid.tokens, -1)

    def tower(self, pixels: Tensor, grid: Grid) -> Any:
        """What the host's tower makes of patches in its own order (merge windows together)."""
        config = self.model.config.vision_config
        merge, patch, depth = config.spatial_merge_size, config.patch_size, config.temporal_patch_size
        x = self.normalise(pixels)
        x = x[:, None].expand(-1, depth, -1, -1, -1) if x.dim() == 4 else x
        frames = x.shape[0]
        # (frames, time, channel, rows, merge, patch, columns, merge, patch)
        x = x.reshape(frames, depth, 3, grid.rows, merge, patch, grid.columns, merge, patch)
        patches = x.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(-1, 3 * depth * patch * patch)
        thw = torch.tensor([[1, grid.rows * merge, grid.columns * merge]], device=x.device).expand(frames, -1)
        with spans.together(self.vision.config):
            return self.vision(patches, grid_thw=thw, return_dict=True)

    def visual_positions(self, grid: Grid) -> Tensor:
        """(0, row, column)."""
        rows, columns = torch.meshgrid(torch.arange(grid.rows), torch.arange(grid.columns), indexing="ij")
        return torch.stack((torch.zeros(grid.tokens, dtype=torch.int64), rows.flatten(), columns.flatten()))

    @staticmethod
    def size() -> Any:
        """The config of the 7B. Sizes as in its config.json."""
        from transformers import Qwen2VLConfig

        text = {
            **QWEN2_7B,
            "max_position_embeddings": 32768,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        }
        return Qwen2VLConfig(text_config=text, vision_config={"hidden_size": 3584, "patch_size": 14})

    published: ClassVar[tuple[Published, ...]] = (
        Published("Qwen/Qwen2-VL-7B-Instruct", "qwen2-vl-7b", size, "Apache-2.0"),
        Published(
            "zhang9302002/Flash-VStream-Qwen-7b",
            "flash-vstream-qwen-7b",
            size,
            "not known",
            f"{TESTED}; memory bypassed",
        ),
    )
