"""Models of the real sizes with random weights, made on the device: speed does not depend on what weights say."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)

from ..backbones import FAMILIES, build
from ..backbones.checkpoints import Checkpoint
from ..config import Record
from ..errors import ModelError
from ..loading import Engine, load

HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
SIGLIP = {
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 26,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
    "vision_use_head": False,
}


def _qwen2(hidden: int, inner: int, layers: int, heads: int, kv: int, vocabulary: int) -> dict[str, Any]:
    return {
        "model_type": "qwen2",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "vocab_size": vocabulary,
        "max_position_embeddings": 32768,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    }


def _llava(text: dict[str, Any]) -> Any:
    return LlavaOnevisionConfig(
        vision_config=SIGLIP, text_config=text, vision_feature_layer=-1, vision_feature_select_strategy="full"
    )


def _qwen2_vl() -> Any:
    text = _qwen2(3584, 18944, 28, 28, 4, 152064)
    text["rope_parameters"]["mrope_section"] = [16, 24, 24]
    text["model_type"] = "qwen2_vl_text"
    vision = {"depth": 32, "embed_dim": 1280, "num_heads": 16, "hidden_size": 3584, "mlp_ratio": 4, "patch_size": 14}
    return Qwen2VLConfig(vision_config=vision, text_config=text)


# Sizes as in the published config.json of each checkpoint.
SHAPES: dict[str, tuple[Callable[[], Any], Any]] = {
    "llava-onevision-0.5b": (
        lambda: _llava(_qwen2(896, 4864, 24, 14, 2, 152000)),
        LlavaOnevisionForConditionalGeneration,
    ),
    "llava-onevision-7b": (
        lambda: _llava(_qwen2(3584, 18944, 28, 28, 4, 152128)),
        LlavaOnevisionForConditionalGeneration,
    ),
    "qwen2-vl-7b": (_qwen2_vl, Qwen2VLForConditionalGeneration),
}


def make(shape: str, device: torch.device, *, time_prompts: bool) -> Engine:
    """An engine of that size: bfloat16 on CUDA, float32 on the CPU; `mini` is the shipped model itself."""
    if shape == "mini":
        return load("mini", device=device, time_prompts=time_prompts)
    if shape not in SHAPES:
        raise ModelError(f"unknown shape {shape!r}: use mini, {', '.join(SHAPES)}")
    config, cls = SHAPES[shape]
    said = config()
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    with torch.device(device):
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            model = cls(said)
        finally:
            torch.set_default_dtype(before)
    model.eval().requires_grad_(False)
    folder = Path(str(files("weavetime"))) / "models" / "mini"
    checkpoint = Checkpoint(folder, said, FAMILIES[said.model_type], Record(), HALF)
    tokenizer = AutoTokenizer.from_pretrained(folder)  # any tokenizer serves: its ids are within every vocabulary
    return Engine(build(model, tokenizer, checkpoint, time_prompts=time_prompts))
