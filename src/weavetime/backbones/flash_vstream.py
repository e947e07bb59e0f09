"""Flash-VStream, LLaVA-based, as a backbone: CLIP-L/14, 8 x 8 means, then projector: 64 tokens a frame; Vicuna.

Its own memory (STAR) is bypassed: the published weights were tuned on what STAR makes of a video, so frames put one
after another are not what they have seen in training.
Facts: IVGSZ/Flash-VStream@8f6bde2, Flash-VStream-LLaVA/flash_vstream/model/vstream_arch.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .base import Grid, Strings
from .clip import CLIP_LARGE, OriginalLlava
from .family import TESTED, Published


class FlashVStream(OriginalLlava):
    """Pool before the projector, by the checkpoint's `compress_size`."""

    family = "flash_vstream"
    text_type = "llama"
    unused = ("model.attention_model.",)  # STAR's abstract memory
    # zhangyl4/weavetime@68b6583, model/flash_vstream_rekv.py, which has no space before ASSISTANT; Flash-VStream's own
    # template has one (IVGSZ/Flash-VStream@8f6bde2, flash_vstream/conversation.py, vicuna_v1).
    strings = Strings(
        start="<s>",
        sink="A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions. USER: ",
        question="\n{q}ASSISTANT:",
        turn="\n{q}ASSISTANT: {a}</s>USER: ",
        time="\nTime={start:07.1f}-{end:07.1f}s",
        stop=("</s>",),
    )

    @classmethod
    def claims(cls, config: Mapping[str, Any]) -> bool:
        """By its own name, or by its compression beside a tower."""
        return config.get("model_type") == "vstream" or bool(
            config.get("mm_vision_tower") and "compress_size" in config
        )

    def pooled_side(self) -> int:
        """Its `compress_size`."""
        return int(self.model.config.published.get("compress_size", 8))

    def pooled(self, pixels: Tensor) -> Tensor:
        """Features before the projector, (frames, side², tower's width): what STAR remembers."""
        return self.pool(self.selected(pixels))

    def features(self, pixels: Tensor, grid: Grid) -> Tensor:
        """Pool, then project."""
        return self.project(self.pooled(pixels))

    @staticmethod
    def size() -> Any:
        """The config of Flash-VStream-7b: Vicuna-7B v1.5."""
        text = {"vocab_size": 32000, "max_position_embeddings": 4096, "compress_size": 8, "compress_type": "mean"}
        return FlashVStream.assemble({**CLIP_LARGE, "image_size": 224}, text)

    published = (
        Published(
            "IVGSZ/Flash-VStream-7b",
            "flash-vstream-7b",
            size,
            "Llama 2",
            f"{TESTED}; its memory bypassed: not what it was tuned on",
        ),
    )
