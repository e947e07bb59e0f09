"""Tiny checkpoints written to disk as the real ones are published: key names, config.json, and what lies beside them.

Names and settings: LongVA's config.json and EvolvingLMMs-Lab/LongVA@f4c8781; IVGSZ/Flash-VStream@8f6bde2; for
Video-LLaVA, LanguageBind/Video-LLaVA-7B-hf, whose names are those of transformers before 4.52.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    VideoLlavaConfig,
    VideoLlavaForConditionalGeneration,
)

from tiny import TEXT, tokenizer

ORIGINAL = (
    (r"^model\.vision_tower\.", "model.vision_tower.vision_tower.vision_model."),
    (r"^model\.multi_modal_projector\.linear_1\.", "model.mm_projector.0."),
    (r"^model\.multi_modal_projector\.linear_2\.", "model.mm_projector.2."),
    (r"^model\.language_model\.", "model."),
)
OLDER = (
    (r"^model\.language_model\.", "language_model.model."),
    (r"^lm_head\.", "language_model.lm_head."),
    (r"^model\.(video|image)_tower\.", r"\1_tower.vision_model."),
    (r"^model\.multi_modal_projector\.", "multi_modal_projector."),
)
LONGVA = {
    "architectures": ["LlavaQwenForCausalLM"],
    "model_type": "qwen2",
    "mm_vision_tower": "openai/clip-vit-large-patch14-336",
    "mm_tunable_parts": "mm_vision_tower,mm_mlp_adapter,mm_language_model",
    "mm_projector_type": "mlp2x_gelu",
    "mm_vision_select_layer": -2,
    "mm_vision_select_feature": "patch",
    "mm_spatial_pool_stride": 2,
    "mm_spatial_pool_mode": "average",
    "mm_patch_merge_type": "unires",
    "image_aspect_ratio": "unires",
    "rope_theta": 1e9,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
}
FLASH = {
    "architectures": ["VStreamLlamaForCausalLM"],
    "model_type": "vstream",
    "mm_vision_tower": "openai/clip-vit-large-patch14",
    "mm_projector_type": "mlp2x_gelu",
    "mm_vision_select_layer": -2,
    "mm_vision_select_feature": "patch",
    "mm_hidden_size": 32,
    "compress_type": "mean",
    "compress_size": 2,
    "compress_long_memory_size": 4,
    "compress_Turing_memory_size": 1,
    "compress_Turing_update_ratio": 0.2,
    "video_long_memory_length": 25,
    "video_Turing_memory_length": 25,
    "video_sample_type": "weighted_kmeans",
    "rms_norm_eps": 1e-5,
    "torch_dtype": "float32",
}


def clip(side: int = 28) -> dict[str, Any]:
    """Four patches a side; one head, as its width says."""
    return {
        "model_type": "clip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 1,
        "image_size": side,
        "patch_size": 7,
    }


def text(kind: str, theta: float) -> dict[str, Any]:
    return {"model_type": kind, "rope_parameters": {"rope_type": "default", "rope_theta": theta}, **TEXT}


def longva_host() -> Any:
    config = LlavaConfig(vision_config=clip(), text_config=text("qwen2", 1e9), image_token_index=262)
    return LlavaForConditionalGeneration(config)


def flash_host() -> Any:
    config = LlavaConfig(vision_config=clip(), text_config=text("llama", 1e4) | {"rms_norm_eps": 1e-5})
    config.published = {"compress_size": 2}
    return LlavaForConditionalGeneration(config)


def video_llava_host() -> Any:
    config = VideoLlavaConfig(vision_config=clip(), text_config=text("llama", 1e4))
    return VideoLlavaForConditionalGeneration(config)


HOSTS = {"longva": longva_host, "video_llava": video_llava_host, "flash_vstream": flash_host}


def renamed(weights: dict[str, torch.Tensor], rules: tuple[tuple[str, str], ...]) -> dict[str, torch.Tensor]:
    """Each name by the first rule that fits it."""
    found = {}
    for name, tensor in weights.items():
        rule = next(((a, b) for a, b in rules if re.search(a, name)), None)
        found[re.sub(*rule, name) if rule else name] = tensor.clone()
    return found


def weights(family: str, host: Any) -> dict[str, torch.Tensor]:
    """A host's weights under the published names, with what a published checkpoint holds beside them."""
    found = renamed(host.state_dict(), OLDER if family == "video_llava" else ORIGINAL)
    if family == "flash_vstream":
        width = host.config.vision_config.hidden_size
        for part, shape in (("q_proj", (8, width)), ("k_proj", (8, width)), ("v_proj", (8, width))):
            found[f"model.attention_model.{part}.weight"] = torch.randn(shape)
            found[f"model.attention_model.{part}.bias"] = torch.randn(8)
        found["model.attention_model.out_proj.weight"] = torch.randn(width, 8)
        for name in ("out_proj.bias", "out_ln.weight", "out_ln.bias"):
            found[f"model.attention_model.{name}"] = torch.randn(width)
    return found


def config(family: str, host: Any) -> dict[str, Any]:
    """config.json as published."""
    if family == "video_llava":
        said = host.config.to_dict()
        return {**said, "architectures": ["VideoLlavaForConditionalGeneration"]}
    own = {k: v for k, v in TEXT.items() if k != "pad_token_id"}
    return {**(LONGVA if family == "longva" else FLASH), **own}


def publish(folder: Path, family: str, host: Any) -> Path:
    """Write a host model as that family's checkpoints are published, with the tiny tokenizer beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights(family, host), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config(family, host)))
    tokenizer().save_pretrained(folder)
    return folder
