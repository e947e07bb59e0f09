"""What is known of every published checkpoint, worked out from a model of its size that holds no weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from ..config import Record
from .base import Backbone
from .checkpoints import Checkpoint
from .family import Published
from .registry import families

HOUR = 3600
VIDEO = (720, 1280)  # height and width of the frames, where their size counts
ALIKE = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}  # for a model without pixels any will do


@dataclass(frozen=True)
class Entry:
    """One published checkpoint; sizes are those of 16-bit weights and a stream of 720p at one frame a second.

    picture: height and width as the tower sees them. tokens: visual tokens a frame. window: blocks that a stream keeps
    by default; largest_window: that fit the model's positions before the step that looks at them; a block is one step,
    of frames_per_step frames. hour: bytes of an hour's keys and values. tested: how loading it was tested.
    """

    family: str
    name: str
    parameters: int
    picture: tuple[int, int]
    tokens: float
    frames_per_step: int
    positions: int
    window: int
    largest_window: int
    hour: int
    licence: str
    tested: str


def made(
    kind: type[Backbone],
    config: Any,
    device: torch.device,
    dtype: torch.dtype = torch.bfloat16,
    *,
    time_prompts: bool = False,
) -> Backbone:
    """A backbone of a config's size with no weights of its own: on `meta` it lays tokens out and computes nothing.

    Its texts are cut by the shipped model's tokenizer, and not its own: what depends on text is nearly right.
    """
    import transformers

    folder = Path(str(files("weavetime"))) / "models" / "mini"
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            model = getattr(transformers, kind.host)(config)
    finally:
        torch.set_default_dtype(before)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    checkpoint = Checkpoint(folder, config, kind, Record(), {**ALIKE, **kind.preprocessor})
    return kind(model.eval().requires_grad_(False), tokenizer, checkpoint, time_prompts=time_prompts)


def entry(kind: type[Backbone], published: Published) -> Entry:
    """One line of the catalogue."""
    backbone = made(kind, published.config(), torch.device("meta"))
    grid, per_step = backbone.grid(*VIDEO), kind.frames_per_step
    layers = backbone.model.config.text_config.num_hidden_layers
    token = 2 * layers * backbone.kv_heads * backbone.head_dim * torch.bfloat16.itemsize  # keys and values
    return Entry(
        family=kind.family,
        name=published.name,
        parameters=sum(p.numel() for p in backbone.model.parameters()),
        picture=(grid.height, grid.width),
        tokens=grid.tokens / per_step,
        frames_per_step=per_step,
        positions=backbone.max_positions,
        window=backbone.default_window,
        largest_window=backbone.largest_window(grid),
        hour=HOUR // per_step * backbone.usual_block(grid).tokens * token,
        licence=published.licence,
        tested=published.tested,
    )


def catalogue() -> Iterator[Entry]:
    """Every published checkpoint of every family, in the order of the registry."""
    for kind in families().values():
        for published in kind.published:
            yield entry(kind, published)
