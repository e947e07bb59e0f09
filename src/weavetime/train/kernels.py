"""Which kernels a training runs on: Liger's where package and card are there, cuDNN's attention not where it fails."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

from ..errors import RecipeError


def use_liger(decoder: Any, wanted: Literal["auto", "on", "off"]) -> str:
    """Norms and gated MLPs of `decoder` by Liger. What was done, for the log. Raises RecipeError for `on` in vain.

    Rotary and the loss stay: Liger changes rotary for the whole process, and its loss passes over the head's LoRA.
    """
    if wanted == "off":
        return "Liger kernels: off"
    lacking = None
    if not torch.cuda.is_available():
        lacking = "no CUDA card"
    elif importlib.util.find_spec("liger_kernel") is None:
        lacking = "the package liger-kernel is not installed"
    if lacking is None:
        from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN as KNOWN

        kind = decoder.config.model_type.removesuffix("_text")
        if kind in KNOWN:
            KNOWN[kind](rope=False, cross_entropy=False, fused_linear_cross_entropy=False, model=decoder)
            return f"Liger kernels: {kind}, norms and MLPs"
        lacking = f"Liger does not know {kind}"
    if wanted == "on":
        raise RecipeError(f"run.liger is on, but {lacking}")
    return f"Liger kernels: not used, {lacking}"


@contextmanager
def without_cudnn_attention() -> Iterator[None]:
    """Attention by any other backend of torch's, for what is called here and its backward.

    Under a mask cuDNN's backward, torch 2.11's first choice on Hopper, gives NaN at some lengths (pytorch issue 196678)
    and ended here in illegal memory accesses, once a graph of one shape was followed by one of another.
    """
    was = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(was)
