"""Models of the real sizes with random weights, made on the device: speed does not depend on what weights say."""

from __future__ import annotations

import os

import torch

from ..backbones import FAMILIES, Backbone
from ..backbones.catalogue import made
from ..errors import ModelError, OutOfMemoryError
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
    if device.type == "cpu":
        _check_memory(shape, made(kind, published.config(), torch.device("meta"), dtype))
    return Engine(made(kind, published.config(), device, dtype, time_prompts=time_prompts))


def _check_memory(shape: str, backbone: Backbone) -> None:
    """A process that takes more than there is would be killed without a word."""
    needed = sum(p.nbytes for p in backbone.model.parameters())
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else needed
    if needed > there:
        raise OutOfMemoryError(
            f"{shape} takes {needed / 1e9:.0f} GB in float32, and there are {there / 1e9:.0f} GB: use a CUDA card"
        )
