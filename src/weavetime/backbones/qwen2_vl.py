"""Qwen2-VL: native resolution, a frame doubled to the temporal patch of two, positions by time, height and width."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import VideoError
from .base import Backbone, Grid, Strings

# qwen-vl-utils caps a video's frame at 768 tokens; the limits in a checkpoint are for images, or for whole videos.
FRAME_TOKENS = 768


class Qwen2VL(Backbone):
    """Three axes of positions; the first frame fixes the size for the whole stream."""

    family = "qwen2_vl"
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
        return self.vision(patches, grid_thw=thw, return_dict=True)

    def visual_positions(self, grid: Grid) -> Tensor:
        """(0, row, column)."""
        rows, columns = torch.meshgrid(torch.arange(grid.rows), torch.arange(grid.columns), indexing="ij")
        return torch.stack((torch.zeros(grid.tokens, dtype=torch.int64), rows.flatten(), columns.flatten()))
