"""What families with a CLIP tower, a two-layer projector and plain rotary text share: their files are settings.

`OriginalLlava` is for checkpoints of code that grew from LLaVA's own repository, which transformers does not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import ModelError
from .base import Backbone
from .values import Grid
from .weights import weight_shapes

# openai/clip-vit-large-patch14, and -336 with another size of picture.
CLIP_LARGE = {
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
}
HEAD = 64  # numbers of a head, in every published CLIP tower


class ClipBackbone(Backbone):
    """Every frame is cropped to the tower's square; one axis of positions; nothing stands around visual tokens."""

    tower: ClassVar[str] = "vision_tower"
    class_token: ClassVar[bool] = False
    """Whether the token of the whole picture is among a frame's tokens."""
    projector = "model.multi_modal_projector"
    preprocessor: ClassVar[Mapping[str, Any]] = {
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }

    @property
    def vision(self) -> Any:
        """The CLIP tower that video goes through."""
        return getattr(self.model.model, self.tower)

    @property
    def closing(self) -> tuple[int, ...]:
        """Nothing."""
        return ()

    @property
    def patches(self) -> int:
        """Patches along a side of the picture."""
        config = self.model.config.vision_config
        return int(config.image_size // config.patch_size)

    def pooled_side(self) -> int:
        """Visual tokens along a side of the picture."""
        return self.patches

    def grid(self, height: int, width: int, most: float | None = None) -> Grid:
        """The tower's square, cut out of the middle."""
        side, rows = self.model.config.vision_config.image_size, self.pooled_side()
        return Grid(side, side, rows, rows, extra=int(self.class_token), crop=True)

    def selected(self, pixels: Tensor) -> Tensor:
        """The tower's chosen layer, (frames, tokens, width), of pictures (frames, 3, side, side) in 0..255."""
        out = self.vision(self.normalise(pixels), output_hidden_states=True, return_dict=True)
        hidden: Tensor = out.hidden_states[self.model.config.vision_feature_layer]
        return hidden if self.class_token else hidden[:, 1:]

    def project(self, hidden: Tensor) -> Tensor:
        """Into the language model's width."""
        tokens: Tensor = self.model.model.multi_modal_projector(hidden)
        return tokens

    def pool(self, tokens: Tensor) -> Tensor:
        """Means of neighbours: (frames, patches², width) to (frames, pooled side², width)."""
        square = tokens.unflatten(1, (self.patches, self.patches)).permute(0, 3, 1, 2)
        return functional.avg_pool2d(square, self.patches // self.pooled_side()).flatten(2).mT.contiguous()

    def visual_positions(self, grid: Grid) -> Tensor:
        """One after another."""
        return torch.arange(grid.tokens)[None]


class OriginalLlava(ClipBackbone):
    """Published as one plain language model's config with `mm_` settings, tower and projector among its weights."""

    host = "LlavaForConditionalGeneration"
    TOWER: ClassVar[str] = "model.vision_tower.vision_tower.vision_model."
    renames: ClassVar[Mapping[str, str]] = {
        r"^model\.vision_tower\.vision_tower\.vision_model\.": "model.vision_tower.",
        r"^model\.mm_projector\.0\.": "model.multi_modal_projector.linear_1.",
        r"^model\.mm_projector\.2\.": "model.multi_modal_projector.linear_2.",
        r"^model\.(embed_tokens|layers|norm)\.": r"model.language_model.\1.",
    }
    older_layout: ClassVar[tuple[tuple[str, str], ...]] = (
        ("model.layers.", "model.language_model.layers."),
        ("model.embed_tokens", "model.language_model.embed_tokens"),
    )
    text_type: ClassVar[str]
    """transformers' model_type of the language model."""
    needs: ClassVar[Mapping[str, Any]] = {}
    """What config.json must say, where it says anything: other values are other models."""

    @classmethod
    def host_config(cls, folder: Path, config: Mapping[str, Any]) -> Any:
        """LLaVA's, the language model's as config.json says it, the tower's as its weights are shaped."""
        needs = {"mm_projector_type": "mlp2x_gelu", "mm_vision_select_feature": "patch", **cls.needs}
        for key, value in needs.items():
            if config.get(key, value) != value:
                raise ModelError(f"{folder}: {key} is {config[key]!r}, and {cls.family} has {value!r}")
        vision = tower_config(weight_shapes(folder), cls.TOWER, f"{folder} ({cls.family})")
        return cls.assemble(vision, config)

    @classmethod
    def assemble(cls, vision: Mapping[str, Any], config: Mapping[str, Any]) -> Any:
        """The host's config from the tower's and the published one."""
        from transformers import CONFIG_MAPPING, LlavaConfig

        kind = CONFIG_MAPPING[cls.text_type]
        known = {*kind().to_dict(), "rope_theta", "rope_scaling"} - {"architectures", "model_type", "dtype"}
        dtype = config.get("dtype") or config.get("torch_dtype")
        made: Any = LlavaConfig(
            vision_config=dict(vision),
            text_config=kind(**{k: v for k, v in config.items() if k in known}, dtype=dtype),
            vision_feature_layer=config.get("mm_vision_select_layer", -2),
            vision_feature_select_strategy="default",
            projector_hidden_act="gelu",
            tie_word_embeddings=bool(config.get("tie_word_embeddings", False)),
            dtype=dtype,
        )
        made.published = dict(config)
        return made


def tower_config(shapes: Mapping[str, tuple[int, ...]], start: str, where: str) -> dict[str, Any]:
    """A CLIP tower's config from the shapes of its weights, whose names begin with `start`.

    The published config.json names the tower, and weights tuned with the model differ from those under that name.
    """
    own = {name.removeprefix(start): shape for name, shape in shapes.items() if name.startswith(start)}
    try:
        width, _, patch, _ = own["embeddings.patch_embedding.weight"]
        places, _ = own["embeddings.position_embedding.weight"]
        inner, _ = own["encoder.layers.0.mlp.fc1.weight"]
        _ = own["embeddings.class_embedding"]
    except KeyError as e:
        what = "no vision tower" if not own else f"no CLIP tower: it lacks {e}"
        raise ModelError(f"{where} holds {what}; the model's own is needed, under {start}*: download it again") from e
    layers = {name.split(".")[2] for name in own if name.startswith("encoder.layers.")}
    return {
        "model_type": "clip_vision_model",
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": len(layers),
        "num_attention_heads": max(1, width // HEAD),
        "patch_size": patch,
        "image_size": patch * isqrt(places - 1),
    }
