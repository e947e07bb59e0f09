"""Video-LLaVA: the video tower of LanguageBind, class token kept: 257 tokens a frame; Vicuna of 4,096 positions."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .clip import CLIP_LARGE, ClipBackbone
from .family import Published
from .values import Grid, Strings


class VideoLlava(ClipBackbone):
    """The image tower is let go: frames of a video never pass it."""

    family = "video_llava"
    host = "VideoLlavaForConditionalGeneration"
    tower = "video_tower"
    dropped = ("model.image_tower",)
    class_token = True
    older_layout = (
        ("language_model.model.", "model.language_model."),
        ("language_model.lm_head", "lm_head"),
        ("video_tower.vision_model.", "model.video_tower."),
        ("video_tower.", "model.video_tower."),
        ("multi_modal_projector.", "model.multi_modal_projector."),
    )
    # zhangyl4/weavetime@68b6583, model/video_llava_rekv.py; a further turn as its own repository joins turns
    # (PKU-YuanGroup/Video-LLaVA@984e65b, videollava/conversation.py, v1).
    strings = Strings(
        start="<s>",
        sink="USER: ",
        question="\n{q} ASSISTANT:",
        turn="\n{q} ASSISTANT: {a}</s>USER: ",
        time="\nTime={start:07.1f}-{end:07.1f}s",
        choice_prefix=" Best option: (",
        stop=("</s>",),
    )

    def features(self, pixels: Tensor, grid: Grid) -> Tensor:
        """Project; nothing is pooled."""
        return self.project(self.selected(pixels))

    @staticmethod
    def size() -> Any:
        """The config of Video-LLaVA-7B-hf: Vicuna-7B v1.5 with 64 tokens more."""
        from transformers import VideoLlavaConfig

        text = {"model_type": "llama", "vocab_size": 32064, "max_position_embeddings": 4096}
        return VideoLlavaConfig(vision_config={**CLIP_LARGE, "image_size": 224}, text_config=text)

    published = (
        Published(
            "LanguageBind/Video-LLaVA-7B-hf",
            "video-llava-7b",
            size,
            "no licence on its page, the original's is Apache-2.0; its language model is under Llama 2's",
        ),
    )
