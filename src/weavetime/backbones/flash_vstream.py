"""Flash-VStream, LLaVA-based, as a backbone: CLIP-L/14, 8 x 8 means, then projector: 64 tokens a frame; Vicuna.

Its own memory (STAR) is bypassed unless a stream asks for it (`memory="star"`): the published weights were tuned on
what STAR makes of a video, so frames put one after another are not what they have seen in training.
Facts: IVGSZ/Flash-VStream@8f6bde2, Flash-VStream-LLaVA/flash_vstream/model/vstream_arch.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from torch import Tensor

from ..config import StarSizes
from ..errors import ModelError
from ..types import Frame
from .clip import CLIP_LARGE, OriginalLlava
from .family import TESTED, Published
from .values import Grid, Strings


class FlashVStream(OriginalLlava):
    """Pool before the projector, by the checkpoint's `compress_size`."""

    family = "flash_vstream"
    text_type = "llama"
    # The queries and keys of STAR's abstract memory, which say nothing where frames come one by one (docs/method.md
    # §5), and values that its published code never reads.
    unused = ("model.attention_model.",)
    star_needs: ClassVar[Mapping[str, Any]] = {
        "video_sample_type": "weighted_kmeans",
        "video_current_memory_length": 1,
        "compress_Turing_memory_size": 1,
    }
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

    @property
    def star(self) -> Self:
        """Itself."""
        return self

    @property
    def star_sizes(self) -> StarSizes:
        """As the checkpoint's config.json says them, else as its training script does (scripts/train_and_eval.sh).

        Raises ModelError where it says another memory.
        """
        said, usual = self.model.config.published, StarSizes()
        for key, value in self.star_needs.items():
            if said.get(key, value) != value:
                raise ModelError(f"{self.checkpoint.folder}: {key} is {said[key]!r}, and STAR has {value!r}")
        sizes = StarSizes(
            abstract=said.get("video_Turing_memory_length", usual.abstract),
            temporal=said.get("video_long_memory_length", usual.temporal),
            temporal_side=said.get("compress_long_memory_size", usual.temporal_side),
            retrieved=usual.retrieved,
            ratio=said.get("compress_Turing_update_ratio", usual.ratio),
        )
        whole = sizes.abstract, sizes.temporal, sizes.temporal_side
        if not all(isinstance(n, int) and n >= 1 for n in whole) or self.pooled_side() % sizes.temporal_side:
            raise ModelError(f"{self.checkpoint.folder}: STAR cannot have the sizes that its config.json says, {sizes}")
        return sizes

    def unprojected(self, frames: Sequence[Frame], grid: Grid) -> Tensor:
        """`pooled` of frames."""
        return self.pooled(self._pictures(frames, grid))

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
