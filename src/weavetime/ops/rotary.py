"""Rotary positions given at the moment of reading: keys rest un-rotated and are rotated when a view is laid out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from . import kernels


class Rotary:
    """The host model's own rotary module, asked for angles at positions of our choosing.

    axes: 1 (plain) or 3 (time, height, width, as Qwen2-VL).
    """

    def __init__(self, module: nn.Module, axes: int) -> None:
        self.module = module
        self.axes = axes

    @torch.no_grad()
    def angles(self, positions: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin, (tokens, dim), of positions int64 (axes, tokens), in the dtype and on the device of `like`."""
        ids = positions.to(like.device)
        cos, sin = self.module(like, ids if self.axes == 1 else ids[:, None])
        return cos[0], sin[0]


def rotate_reference(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate x (batch, heads, tokens, dim): pairs are (i, i + dim / 2), as in the host models.

    Angles are (tokens, dim), or (batch, tokens, dim) where each row of the batch stands elsewhere.
    """
    if cos.dim() == 3:
        cos, sin = cos[:, None], sin[:, None]
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-right, left), dim=-1) * sin


def rotate(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor | None = None) -> Tensor:
    """`rotate_reference`, in one pass over memory where a kernel is there.

    out: where to write, of x's shape, dense on the last axis; by default a new dense tensor.
    """
    if out is None:
        out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if x.is_cuda and kernels.AVAILABLE:
        kernels.rotate(x, cos, sin, out)
    else:
        out.copy_(rotate_reference(x, cos, sin))
    return out
