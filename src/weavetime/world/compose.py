"""Drawing many planned pictures at once, on any device: the very bytes of `Renderer.picture`, for training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .render import Laid, Name, Plan, sprite
from .sprites import COLOURS, KINDS, TEXTS

LAYERS = 8  # four blots, three cards, a sign: all that a whole step shows
_SPRITES = (
    *(Name("card", i) for i in range(len(KINDS) * len(COLOURS))),
    *(Name("sign", i) for i in range(len(TEXTS))),
    *(Name("blot", i) for i in range(9)),
)
_ROW = {name: i for i, name in enumerate(_SPRITES)}


def as_numbers(plans: Sequence[Plan]) -> tuple[np.ndarray, np.ndarray]:
    """Plans of whole steps as int32 arrays: (steps, 2) shift and gain; (steps, LAYERS, 3) sprite, top, left."""
    canvas = np.array([p[:2] for p in plans], np.int32)
    layers = np.full((len(plans), LAYERS, 3), -1, np.int32)
    for i, plan in enumerate(plans):
        for j, laid in enumerate(plan.things):
            layers[i, j] = _ROW[laid.name], laid.top, laid.left
    return canvas, layers


class Atlas:
    """Every sprite at the sizes of `size`-pixel pictures, on a device."""

    def __init__(self, example: Sequence[Plan], size: int, device: torch.device | str) -> None:
        widths = {laid.name.what: laid.width for plan in example for laid in plan.things}
        self.size, most = size, max(widths.values())
        pictures = np.zeros((len(_SPRITES), most, most, 4), np.int32)
        extents = np.zeros((len(_SPRITES), 2), np.int32)
        for i, name in enumerate(_SPRITES):
            colour, rest = sprite(name, widths[name.what])
            height, width = colour.shape[:2]
            pictures[i, :height, :width, :3], pictures[i, :height, :width, 3:] = colour, rest
            extents[i] = height, width
        self.pictures, self.extents = (torch.from_numpy(x).to(device) for x in (pictures, extents))

    def compose(self, backdrops: Tensor, canvas: Tensor, layers: Tensor) -> Tensor:
        """uint8 backdrops (streams, size, texture, 3) with what `as_numbers` gives, stacked over streams: pictures.

        Returns int32 (streams, steps, 3, size, size) in 0..255.
        """
        streams = len(canvas)
        y = torch.arange(self.size, device=canvas.device)[:, None]
        x = torch.arange(self.size, device=canvas.device)[None]
        shift, gain = (c[..., None, None] for c in canvas.unbind(-1))
        column = (x + shift) % backdrops.shape[2]
        stream = torch.arange(streams, device=canvas.device)[:, None, None, None]
        found = backdrops[stream, y, column].int() * gain[..., None] >> 8  # (streams, steps, size, size, 3)
        for j in range(LAYERS):
            which, top, left = (v[..., None, None] for v in layers[:, :, j].unbind(-1))
            row = which.clamp_min(0)
            down, right = y - top, x - left
            height, width = (e for e in self.extents[row].unbind(-1))
            inside = (which >= 0) & (down >= 0) & (down < height) & (right >= 0) & (right < width)
            most = self.pictures.shape[1] - 1
            laid = self.pictures[row, down.clamp(0, most), right.clamp(0, most)]
            found = torch.where(inside[..., None], (found * laid[..., 3:] + laid[..., :3] + 127) // 255, found)
        return found.permute(0, 1, 4, 2, 3)


__all__ = ["LAYERS", "Atlas", "Laid", "as_numbers"]
