"""LongVA: CLIP-L/14-336 tuned with the model, projector, then 2 x 2 means: 144 tokens a frame; Qwen2-7B of 224K.

Facts: EvolvingLMMs-Lab/LongVA@f4c8781, longva/longva/model/{llava_arch,multimodal_encoder/clip_encoder}.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from .clip import CLIP_LARGE, OriginalLlava
from .family import QWEN2_7B, Published
from .values import Grid, Strings


class LongVA(OriginalLlava):
    """Recognised by its tower's entry: hubs call it `qwen2`, which the plain loader reads without its eyes."""

    family = "longva"
    text_type = "qwen2"
    needs: ClassVar[Mapping[str, Any]] = {"mm_spatial_pool_stride": 2, "mm_spatial_pool_mode": "average"}
    # zhangyl4/weavetime@68b6583, model/longva_rekv.py.
    strings = Strings(
        sink="<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n",
        question="\n{q}<|im_end|>\n<|im_start|>assistant\n",
        turn="\n{q}<|im_end|>\n<|im_start|>assistant\n{a}<|im_end|>\n<|im_start|>user\n",
        time="\nTime={start:07.1f}-{end:07.1f}s",
    )

    @classmethod
    def claims(cls, config: Mapping[str, Any]) -> bool:
        """Whatever model_type says."""
        return bool(config.get("mm_vision_tower")) and "compress_size" not in config

    def pooled_side(self) -> int:
        """Half the patches."""
        return self.patches // 2

    def features(self, pixels: Tensor, grid: Grid) -> Tensor:
        """Project, then pool."""
        return self.pool(self.project(self.selected(pixels)))

    @staticmethod
    def size() -> Any:
        """The config of LongVA-7B. Sizes: its config.json and EvolvingLMMs-Lab/LongVA, text_extend/extend_qwen2.sh."""
        text = {
            **QWEN2_7B,
            "max_position_embeddings": 224000,
            "rope_theta": 1e9,
        }
        return LongVA.assemble({**CLIP_LARGE, "image_size": 336}, text)

    published = (
        Published(
            "lmms-lab/LongVA-7B",
            "longva-7b",
            size,
            "no licence on its page; its code is S-Lab 1.0: not for commercial use",
        ),
    )
