"""Tiny models of both families on disk, adapters made with PEFT itself, and the stand-in for both hubs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.stand import Stand, serve
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)

from weavetime.hub import files

FAMILIES = ("llava_onevision", "qwen2_vl")
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 96,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def tiny(family: str, *, tied: bool = False, seed: int = 0) -> Any:
    """A small host model in fp32 with a config of its own, in eval mode."""
    torch.manual_seed(seed)
    if family == "llava_onevision":
        vision = {
            "model_type": "siglip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
            "vision_use_head": False,
        }
        text = {"model_type": "qwen2", **TEXT, "tie_word_embeddings": tied}
        config = LlavaOnevisionConfig(
            vision_config=vision, text_config=text, tie_word_embeddings=tied, image_token_index=90, video_token_index=91
        )
        return LlavaOnevisionForConditionalGeneration(config).eval()
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
    config = Qwen2VLConfig(
        text_config={**TEXT, "rope_parameters": rope},
        vision_config={"depth": 2, "embed_dim": 32, "num_heads": 2, "hidden_size": 32, "mlp_ratio": 2},
        tie_word_embeddings=tied,
        image_token_id=90,
        video_token_id=91,
        vision_start_token_id=92,
        vision_end_token_id=93,
    )
    return Qwen2VLForConditionalGeneration(config).eval()


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    ids = torch.tensor([[5, 17, 3, 88, 41, 9, 60, 23]])
    return model(input_ids=ids).logits.float()


def digest(model: Any) -> str:
    """A hash over every weight, its name and dtype, and whether the head is tied."""
    h = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        h.update(f"{name} {tensor.dtype}".encode() + tensor.contiguous().view(torch.uint8).numpy().tobytes())
    h.update(str(model.lm_head.weight is model.model.language_model.embed_tokens.weight).encode())
    return h.hexdigest()


@dataclass
class Made:
    """An adapter on disk, and the logits that PEFT itself computes with it, unmerged."""

    folder: Path
    logits: torch.Tensor
    peft: Any

    def edit(self, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor] | None]) -> None:
        path = self.folder / "adapter_model.safetensors"
        weights = load_file(path)
        save_file(change(weights) or weights, path)

    def configure(self, **values: Any) -> None:
        path = self.folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


DECODER = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


def make_adapter(folder: Path, model: Any, *, record: bool = True, **settings: Any) -> Made:
    """Wrap `model` (which it uses up) with PEFT, give every trained weight a value that shows, and save."""
    import peft

    torch.manual_seed(7)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": DECODER, **settings}
    wrapped = peft.get_peft_model(model, peft.LoraConfig(**settings)).eval()
    for name, p in wrapped.named_parameters():
        if "lora_" in name or ".modules_to_save." in name:
            p.data = torch.randn_like(p) * 0.15
    wrapped.save_pretrained(folder)
    if record:
        (folder / "weavetime.json").write_text('{"time_prompts": true, "window": 144}')
    return Made(folder, logits(wrapped), wrapped)


def to_older_layout(key: str, family: str) -> str:
    """A key as PEFT wrote it on the transformers before 4.52."""
    start = "base_model.model."
    name = key.removeprefix(start)
    if family == "qwen2_vl":
        moves = {"model.language_model.": "model.", "model.visual.": "visual."}
    else:
        moves = {
            "model.language_model.": "language_model.model.",
            "lm_head": "language_model.lm_head",
            "model.vision_tower.": "vision_tower.vision_model.",
            "model.multi_modal_projector.": "multi_modal_projector.",
        }
    new = next((old + name.removeprefix(now) for now, old in moves.items() if name.startswith(now)), name)
    return start + new


@pytest.fixture
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    """The server, with the ModelScope endpoint and our cache pointed at it."""
    monkeypatch.setattr(files, "PAUSE", 0.001)
    monkeypatch.delenv("MODELSCOPE_ENDPOINT", raising=False)
    monkeypatch.setenv("WEAVETIME_CACHE", str(tmp_path / "cache"))
    with serve() as stand:
        monkeypatch.setenv("MODELSCOPE_DOMAIN", stand.url)
        yield stand


@pytest.fixture
def kit() -> SimpleNamespace:
    """The makers above, for tests that cannot import this file by name."""
    return SimpleNamespace(
        tiny=tiny, logits=logits, digest=digest, make_adapter=make_adapter, to_older_layout=to_older_layout
    )
