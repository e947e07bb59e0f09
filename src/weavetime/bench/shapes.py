"""Models of the real sizes with random weights, made on the device: speed does not depend on what weights say."""

from __future__ import annotations

import torch

from ..backbones import FAMILIES
from ..backbones.catalogue import made
from ..errors import ModelError
from ..loading import Engine, load

SHAPES = {published.shape: (kind, published) for kind in FAMILIES.values() for published in kind.published}


def make(shape: str, device: torch.device, *, time_prompts: bool) -> Engine:
    """An engine of that size: bfloat16 on CUDA, float32 on the CPU; `mini` is the shipped model itself."""
    if shape == "mini":
        return load("mini", device=device, time_prompts=time_prompts)
    if shape not in SHAPES:
        raise ModelError(f"unknown shape {shape!r}: use mini, {', '.join(SHAPES)}")
    kind, published = SHAPES[shape]
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    return Engine(made(kind, published.config(), device, dtype, time_prompts=time_prompts))
