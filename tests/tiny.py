"""Tiny LLaVA-OneVision and Qwen2-VL models on the real transformers classes, sharpened so that small errors show.

At default initialisation a swapped height and width moves logits by 3e-5 and leaves all greedy tokens equal; with
q, k x 10 and v, o x sqrt(10) the smallest real error is about 3e-3 and fp32 noise 5e-7.
"""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)

import weavetime as wt
from weavetime.backbones import FAMILIES
from weavetime.backbones.checkpoints import Checkpoint
from weavetime.config import Record

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<video>", "<image>")
VOCABULARY = 256 + len(SPECIAL)
TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "pad_token_id": 256,
    "bos_token_id": 256,
    "eos_token_id": 258,
}
SIGLIP = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
FAMILY_NAMES = ("llava_onevision", "qwen2_vl")


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, and the chat's special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(list(SPECIAL))
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def llava_config() -> LlavaOnevisionConfig:
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 35,
        "patch_size": 7,
        "vision_use_head": False,
    }
    text = {"model_type": "qwen2", "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}, **TEXT}
    ids = {"video_token_index": 261, "image_token_index": 262, "video_token_id": 261, "image_token_id": 262}
    return LlavaOnevisionConfig(
        vision_config=vision, text_config=text, vision_feature_layer=-1, vision_feature_select_strategy="full", **ids
    )


def qwen_config() -> Qwen2VLConfig:
    vision = {
        "depth": 2,
        "embed_dim": 32,
        "num_heads": 2,
        "hidden_size": 64,
        "patch_size": 4,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "mlp_ratio": 2,
    }
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
    return Qwen2VLConfig(
        vision_config=vision,
        text_config={"rope_parameters": rope, **TEXT},
        vision_start_token_id=259,
        vision_end_token_id=260,
        video_token_id=261,
        image_token_id=262,
    )


def sharpen(model: Any) -> Any:
    with torch.no_grad():
        for layer in model.model.language_model.layers:
            attention = layer.self_attn
            for name, factor in (("q_proj", 10), ("k_proj", 10), ("v_proj", 10**0.5), ("o_proj", 10**0.5)):
                getattr(attention, name).weight.mul_(factor)
    return model


@cache
def _host(family: str) -> Any:
    torch.manual_seed(0)
    if family == "llava_onevision":
        model = LlavaOnevisionForConditionalGeneration(llava_config())
    else:
        model = Qwen2VLForConditionalGeneration(qwen_config())
    return sharpen(model.eval().requires_grad_(False))


def host(family: str) -> Any:
    """A sharpened host model of its own, config included."""
    return copy.deepcopy(_host(family))


def preprocessor(family: str) -> dict[str, Any]:
    return SIGLIP if family == "llava_onevision" else {**SIGLIP, "min_pixels": 64, "max_pixels": 8 * 8 * 64}


def engine(family: str, *, time_prompts: bool, model: Any = None) -> wt.Engine:
    model = model if model is not None else host(family)
    checkpoint = Checkpoint(Path(), model.config, family, Record(), preprocessor(family))
    backbone = FAMILIES[family](model, tokenizer(), checkpoint, time_prompts=time_prompts)
    return wt.Engine(backbone)


def frames(count: int, *, seed: int = 0, size: tuple[int, int] = (24, 40), start: float = 0.0) -> list[wt.Frame]:
    """Random pictures, one a second."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, *size, 3), generator=generator, dtype=torch.uint8)
    return [wt.Frame(p, start + float(i)) for i, p in enumerate(pixels)]
