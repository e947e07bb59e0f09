"""Tiny models of each family on the real transformers classes, sharpened so that small errors show.

At default initialisation a swapped height and width moves logits by 3e-5 and leaves all greedy tokens equal; with
q, k x 10 and v, o x sqrt(10) the smallest real error is about 3e-3 and fp32 noise 5e-7.

A step is a second: one frame, or, for a family that takes pairs, two half a second apart.
"""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

import weavetime as wt
from reference import CLIP
from weavetime.backbones import FAMILIES
from weavetime.backbones.checkpoints import Checkpoint
from weavetime.config import Record

QWEN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<video>", "<image>")
SPECIAL = (*QWEN, "<s>", "</s>")
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
FAMILY_NAMES = ("llava_onevision", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", *CLIP)
TRAINED = FAMILY_NAMES[:2]  # families that training from samples is tried on


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
    return Qwen2VLConfig(vision_config=vision, text_config={"rope_parameters": rope, **TEXT}, **QWEN_IDS)


QWEN_IDS = {"vision_start_token_id": 259, "vision_end_token_id": 260, "video_token_id": 261, "image_token_id": 262}


def qwen25_config() -> Qwen2_5_VLConfig:
    """Windows of 2 x 2 tokens in all layers of the tower but the last; 2 positions a second."""
    vision = {
        "depth": 3,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "out_hidden_size": 64,
        "patch_size": 4,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "window_size": 16,
        "fullatt_block_indexes": [2],
        "tokens_per_second": 2,
    }
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
    return Qwen2_5_VLConfig(vision_config=vision, text_config={"rope_parameters": rope, **TEXT}, **QWEN_IDS)


def qwen3_config() -> Qwen3VLConfig:
    """Heads wider than hidden size over heads; features of three tower layers go to the decoder's three layers."""
    vision = {
        "depth": 4,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "out_hidden_size": 64,
        "patch_size": 4,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0, 1, 2],
    }
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [6, 3, 3], "mrope_interleaved": True}
    text = {"rope_parameters": rope, **TEXT, "head_dim": 24}
    return Qwen3VLConfig(vision_config=vision, text_config=text, tie_word_embeddings=True, **QWEN_IDS)


def sharpen(model: Any) -> Any:
    with torch.no_grad():
        for layer in model.model.language_model.layers:
            attention = layer.self_attn
            for name, factor in (("q_proj", 10), ("k_proj", 10), ("v_proj", 10**0.5), ("o_proj", 10**0.5)):
                getattr(attention, name).weight.mul_(factor)
            for name in ("q_norm", "k_norm"):  # where there are norms, these set the scale
                if hasattr(attention, name):
                    weight = getattr(attention, name).weight
                    weight.copy_(torch.linspace(1, 2, len(weight)))
        for merger in getattr(getattr(model.model, "visual", None), "deepstack_merger_list", ()):
            merger.linear_fc2.weight.mul_(10)
    return model


@cache
def untouched(family: str) -> Any:
    torch.manual_seed(0)
    if family in CLIP:
        from published import HOSTS

        return sharpen(HOSTS[family]().eval().requires_grad_(False))
    make, config = {
        "llava_onevision": (LlavaOnevisionForConditionalGeneration, llava_config),
        "qwen2_vl": (Qwen2VLForConditionalGeneration, qwen_config),
        "qwen2_5_vl": (Qwen2_5_VLForConditionalGeneration, qwen25_config),
        "qwen3_vl": (Qwen3VLForConditionalGeneration, qwen3_config),
    }[family]
    return sharpen(make(config()).eval().requires_grad_(False))


def host(family: str) -> Any:
    """A sharpened host model of its own, config included."""
    return copy.deepcopy(untouched(family))


def preprocessor(family: str) -> dict[str, Any]:
    if family in CLIP:
        return dict(FAMILIES[family].preprocessor)
    return SIGLIP if family == "llava_onevision" else {**SIGLIP, "min_pixels": 64, "max_pixels": 8 * 8 * 64}


def engine(family: str, *, time_prompts: bool, model: Any = None) -> wt.Engine:
    model = model if model is not None else host(family)
    checkpoint = Checkpoint(Path(), model.config, FAMILIES[family], Record(), preprocessor(family))
    backbone = FAMILIES[family](model, tokenizer(), checkpoint, time_prompts=time_prompts)
    return wt.Engine(backbone)


def frames(count: int, *, seed: int = 0, size: tuple[int, int] = (24, 40), start: float = 0.0) -> list[wt.Frame]:
    """Random pictures, one a second."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, *size, 3), generator=generator, dtype=torch.uint8)
    return [wt.Frame(p, start + float(i)) for i, p in enumerate(pixels)]


LAYOUTS = [(family, segments) for family in FAMILY_NAMES for segments in (True, False)]
LAYOUT_NAMES = [f"{family}-{'segments' if segments else 'one_video'}" for family, segments in LAYOUTS]
each_layout = pytest.mark.parametrize(("family", "segments"), LAYOUTS, ids=LAYOUT_NAMES)


@cache
def shared(family: str, segments: bool) -> wt.Engine:
    """One engine for tests that leave it as it is."""
    return engine(family, time_prompts=segments)


def per_step(family: str) -> int:
    """Frames a step."""
    return 2 if family == "qwen3_vl" else 1


def features(family: str, shown: list[wt.Frame], model: Any = None) -> torch.Tensor:
    """Visual tokens (steps, tokens, hidden) by the host's own path; frames have the size that the tower takes.

    For Qwen3-VL, what its tower sends to the decoder's first layers follows on the last axis.
    """
    model = model if model is not None else untouched(family)
    with torch.no_grad():
        if family in CLIP:
            return clip_features(family, pixels(family, shown).to(model.dtype), model)
        if family == "llava_onevision":
            found = model.model.get_video_features(pixels(family, shown)[None]).pooler_output
            return found.reshape(-1, found.shape[-1])[: 9 * len(shown)].unflatten(0, (len(shown), 9)).to(model.dtype)
        steps, size = len(shown) // per_step(family), shown[0].pixels.shape
        grid = torch.tensor([[1, size[0] // 4, size[1] // 4]] * steps)
        found = model.model.get_video_features(pixels(family, shown).to(model.dtype), grid, return_dict=True)
        tokens = torch.stack(found.pooler_output)
        deep = getattr(found, "deepstack_features", None) or []  # by step, or from 5.17 all in one
        rows = (layer if torch.is_tensor(layer) else torch.cat(list(layer)) for layer in deep)
        return torch.cat([tokens, *(layer.view(steps, -1, tokens.shape[-1]) for layer in rows)], -1)


def clip_features(family: str, pictures: torch.Tensor, model: Any) -> torch.Tensor:
    """Each family's own order: LongVA's and Flash-VStream's as their code has it, Video-LLaVA's by the host's path."""
    if family == "video_llava":
        return model.model.get_video_features(pictures[None]).pooler_output
    if family == "longva":  # the host projects patches of the layer before the last; then means of 2 x 2
        return means(torch.stack(list(model.model.get_image_features(pictures).pooler_output)))
    layers = model.model.vision_tower(pictures, output_hidden_states=True).hidden_states
    return model.model.multi_modal_projector(means(layers[len(layers) - 2][:, 1:]))


def means(patches: torch.Tensor) -> torch.Tensor:
    """(frames, 16, width), four a row, to the means of squares of four, (frames, 4, width)."""
    squares = [[4 * y + x for y in (top, top + 1) for x in (left, left + 1)] for top in (0, 2) for left in (0, 2)]
    return torch.stack([patches[:, square].mean(1) for square in squares], 1)


def pixels(family: str, shown: list[wt.Frame]) -> torch.Tensor:
    """What the host's own processor makes of frames."""
    if family in CLIP:
        mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])
        std = torch.tensor([0.26862954, 0.26130258, 0.27577711])
        return torch.stack([(torch.as_tensor(f.pixels) / 255 - mean) / std for f in shown]).permute(0, 3, 1, 2)
    scaled = torch.stack([(torch.as_tensor(f.pixels).double() / 255 - 0.5) / 0.5 for f in shown]).float()
    if family == "llava_onevision":
        return scaled.permute(0, 3, 1, 2)
    patches, count = [], per_step(family)
    for first in range(0, len(scaled), count):
        pair = scaled[first], scaled[first + count - 1]
        for top in range(0, scaled.shape[1], 8):
            for left in range(0, scaled.shape[2], 8):
                for y, x in ((0, 0), (0, 4), (4, 0), (4, 4)):
                    cut = (p[top + y : top + y + 4, left + x : left + x + 4].permute(2, 0, 1) for p in pair)
                    patches.append(torch.stack(list(cut), 1).flatten())  # (channel, time, y, x)
    return torch.stack(patches)


SIZE = {"llava_onevision": (35, 35), **dict.fromkeys(CLIP, (28, 28))}


def shown(family: str, count: int, **more: Any) -> list[wt.Frame]:
    """Frames of `count` steps, by default of the size that the family's tower takes as it is."""
    size = more.pop("size", SIZE.get(family, (24, 40)))
    if per_step(family) == 1:
        return frames(count, size=size, **more)
    start = more.pop("start", 0.0)
    found = frames(2 * count, size=size, **more)
    return [wt.Frame(f.pixels, start + i / 2, start + (i + 1) / 2) for i, f in enumerate(found)]


def times(shown: list[wt.Frame]) -> list[tuple[float, float]]:
    """Start and end of each step."""
    return [(f.time, f.time + 1) for f in shown if f.until is None or f.time % 1 == 0]


def look(stream: wt.Stream, text: str, *, at: float | None = None, mode: Any = "weavetime", **how: Any) -> Any:
    """A question as far as its last prefill: `.draft.logits`, `.draft.view.choice`; `.answers()` after `.run()`."""
    question = wt.Question(text, how.pop("options", ()), how.pop("history", ()))
    [writing] = stream._look([question], at, mode, wt.Decoding(**how))
    return writing


def unstopped(writing: Any) -> list[int]:
    """The tokens of an answer, stop tokens like others."""
    return [ids[0] for ids in writing.runner.decode(writing.draft, writing.asked.decoding)]
