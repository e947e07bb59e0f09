"""What a model family is to the rest: how frames become features, how tokens stand, how a question is put.

A family is one file: a subclass that fills in strings, the vision step and the visual positions. It holds the host
model; the engine runs it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..config import StreamConfig
from ..errors import ModelError
from ..ops import BlockLayout, Rotary, Timeline, text_positions
from ..types import Frame
from .checkpoints import Checkpoint
from .star import StarSource
from .text import Text
from .values import Grid, Steps, device_of, end_of, resized


def _three_numbers(checkpoint: Checkpoint, name: str) -> list[float]:
    said = checkpoint.preprocessor.get(name)
    if not (isinstance(said, list) and len(said) == 3 and all(isinstance(x, int | float) for x in said)):
        raise ModelError(
            f"{checkpoint.folder}: preprocessor_config.json must give {name} as three numbers, it says {said!r}"
        )
    return said


class Backbone(Text, ABC):
    """A loaded model of one family. time_prompts chooses the layout: segments (on) or one video (off)."""

    axes: ClassVar[int] = 1

    def __init__(self, model: Any, tokenizer: Any, checkpoint: Checkpoint, *, time_prompts: bool) -> None:
        self.model, self.tokenizer, self.checkpoint = model, tokenizer, checkpoint
        self.time_prompts = time_prompts
        self._mean, self._std = (_three_numbers(checkpoint, name) for name in ("image_mean", "image_std"))
        text = model.config.text_config
        self.heads: int = text.num_attention_heads
        self.kv_heads: int = text.num_key_value_heads
        self.head_dim: int = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        self.hidden: int = text.hidden_size
        self.max_positions: int = text.max_position_embeddings
        self.rotary = Rotary(self.decoder.rotary_emb, self.axes)
        self._layouts: dict[tuple[Grid, int], BlockLayout] = {}
        self._scales: dict[torch.device, Tensor] = {}

    # The host

    @property
    def decoder(self) -> Any:
        """The language model without its head."""
        return self.model.model.language_model

    @property
    def vision_device(self) -> torch.device:
        """Where pixels go."""
        return device_of(self.vision)

    @property
    @abstractmethod
    def vision(self) -> Any:
        """The vision tower."""

    def logits(self, hidden: Tensor) -> Tensor:
        """Vocabulary logits, fp32, of normed hidden states (..., hidden)."""
        head = self.model.lm_head
        return head(hidden.to(device_of(head))).float()

    # Pictures

    @abstractmethod
    def grid(self, height: int, width: int, most: float | None = None) -> Grid:
        """The picture size that a stream whose first frame has this size uses throughout.

        most: pixels of a picture, where the family's size is not fixed; None for the family's own bound.
        """

    @property
    def most_pixels(self) -> int | None:
        """Pixels of the largest picture, where its size is not fixed; None where it is."""
        return None

    @abstractmethod
    def features(self, pixels: Tensor, grid: Grid) -> Tensor:
        """Visual tokens (steps, tokens, hidden) of pictures, float (steps, 3, height, width) in 0..255, resized.

        Pictures of a pair come as (steps, 2, 3, height, width). Where the decoder adds features of their own to visual
        tokens in its first layers, those follow on the last axis: (steps, tokens, (1 + layers) x hidden).
        """

    def embed(self, frames: Sequence[Frame], grid: Grid) -> Tensor:
        """`features` of frames, frames_per_step a step: resized and normalised on the vision tower's device."""
        return self.features(self._pictures(frames, grid), grid)

    def _pictures(self, frames: Sequence[Frame], grid: Grid) -> Tensor:
        """(steps, 3, height, width), or with the frames of a step on axis 1."""
        sizes = [tuple(f.pixels.shape) for f in frames]
        groups = [0] + [i for i in range(1, len(frames)) if sizes[i] != sizes[i - 1]] + [len(frames)]
        pictures = torch.cat([resized(frames[a:b], grid, self.vision_device) for a, b in pairwise(groups)])
        return pictures if self.frames_per_step == 1 else pictures.unflatten(0, (-1, self.frames_per_step))

    @property
    def star(self) -> StarSource | None:
        """Itself, where its streams may have STAR for a memory."""
        return None

    def normalise(self, pixels: Tensor) -> Tensor:
        """0..255 to the checkpoint's mean and standard deviation, in the vision tower's dtype."""
        if pixels.device not in self._scales:  # made once: a CUDA graph may not copy from the host
            scales = torch.tensor([self._mean, self._std], device=pixels.device)
            self._scales[pixels.device] = scales.view(2, 1, 3, 1, 1)
        mean, std = self._scales[pixels.device]
        dtype = next(self.vision.parameters()).dtype
        return ((pixels / 255 - mean) / std).to(dtype)

    # Tokens of a step

    @abstractmethod
    def visual_positions(self, grid: Grid) -> Tensor:
        """Positions of one frame's visual tokens from the first's, int64 (axes, tokens)."""

    def visual_extent(self, grid: Grid) -> int:
        """How far the text after one frame's visual tokens stands from the first of them."""
        return 1 + int(self.visual_positions(grid).max())

    @property
    def wraps(self) -> bool:
        """Whether each step carries a text and a wrapper of its own: segments. Else all steps are one video."""
        return self.time_prompts

    def timeline(self, fps: float) -> Timeline | None:
        """Where steps stand by the clock, for families whose positions in one video are seconds."""
        return None

    def block(self, grid: Grid, prefix: int) -> BlockLayout:
        """The layout of a step: `prefix` text tokens (0 in one video), the frame, and in segments what closes it.

        Always the same instance for the same arguments: identity is what 'same layout' means.
        """
        if (grid, prefix) not in self._layouts:
            self._layouts[grid, prefix] = self._make_block(grid, prefix)
        return self._layouts[grid, prefix]

    def _make_block(self, grid: Grid, prefix: int) -> BlockLayout:
        visual = self.visual_positions(grid)
        if not self.wraps:
            moves = (True,) + (False,) * (self.axes - 1)
            return BlockLayout(visual, slice(0, grid.tokens), moves, grid.tokens if self.axes == 1 else 1)
        after = prefix + self.visual_extent(grid)
        closing = len(self.closing)
        parts = text_positions(0, prefix, self.axes), prefix + visual, text_positions(after, closing, self.axes)
        span = slice(prefix, prefix + grid.tokens)
        return BlockLayout(torch.cat(parts, 1), span, (True,) * self.axes, after + closing)

    def usual_block(self, grid: Grid) -> BlockLayout:
        """The layout of a step in the first hours of a stream."""
        moments = [Frame(np.zeros((1, 1, 3), np.uint8), float(i)) for i in range(self.frames_per_step)]
        return self.block(grid, len(self.encode(self.step_text(moments, 1.0) + self.opening)) if self.wraps else 0)

    def largest_window(self, grid: Grid, spare: float = 0.0) -> int:
        """Blocks that fit the model's positions before a step that looks at them; spare: the share to be left free."""
        room = int(self.max_positions * (1 - spare)) - len(self.sink[0])
        return max(0, self.usual_block(grid).fitting(room) - 1)

    @property
    def default_window(self) -> int:
        """Blocks: fewer than usual where pictures of one size fill a model's positions; an eighth is left for text."""
        usual = StreamConfig().window or 1
        return usual if self.most_pixels else max(1, min(usual, self.largest_window(self.grid(1, 1), 1 / 8)))

    def steps(self, frames: Sequence[Frame], grid: Grid, fps: float) -> list[Steps]:
        """Embed frames, a whole number of steps of them, and cut them into stretches of one layout."""
        if not frames:
            return []
        size = self.frames_per_step
        groups = [frames[i : i + size] for i in range(0, len(frames), size)]
        pictures = self._pictures(frames, grid)
        visual = self.features(pictures, grid)
        prefixes = [self.encode(self.step_text(group, fps) + self.opening) if self.wraps else [] for group in groups]
        firsts = self._kept(pictures[:, 0], [g[0] for g in groups], fps) if size > 1 else []
        cuts = [i for i in range(1, len(groups)) if len(prefixes[i]) != len(prefixes[i - 1])]
        found = []
        for a, b in pairwise([0, *cuts, len(groups)]):
            times = tuple((float(g[0].time), end_of(g[-1], fps)) for g in groups[a:b])
            stretch = self._stretch(visual[a:b], prefixes[a:b], times, grid)
            if size > 1:
                stretch = replace(
                    stretch, firsts=tuple(firsts[a:b]), whole=tuple(float(g[-1].time) for g in groups[a:b])
                )
            found.append(stretch)
        return found

    def _stretch(
        self, visual: Tensor, prefixes: list[list[int]], times: tuple[tuple[float, float], ...], grid: Grid
    ) -> Steps:
        layout = self.block(grid, len(prefixes[0]))
        tokens, *deep = visual.split(self.hidden, -1)
        parts = [tokens]
        if self.wraps:
            parts.insert(0, self.embed_ids(torch.tensor(prefixes)).to(visual))
            closing = torch.tensor([self.closing], dtype=torch.int64)
            parts.append(self.embed_ids(closing).to(visual).expand(len(visual), -1, -1))
        embeds = torch.cat(parts, 1).flatten(0, 1)[None]
        return Steps(embeds, layout, times, torch.stack(deep) if deep else None)

    def step_text(self, frames: Sequence[Frame], fps: float) -> str:
        """The text before a step's wrapper: its time prompt."""
        return self.strings.time.format(start=float(frames[0].time), end=end_of(frames[-1], fps))

    def kept(self, frame: Frame, grid: Grid, fps: float) -> Frame:
        """A frame as it waits for its partner: resized, its end said, on the host."""
        return self._kept(resized([frame], grid, self.vision_device), [frame], fps)[0]

    @staticmethod
    def _kept(pictures: Tensor, frames: Sequence[Frame], fps: float) -> list[Frame]:
        """pictures: (frames, 3, height, width), whole numbers."""
        pixels = pictures.permute(0, 2, 3, 1).to(torch.uint8).cpu().contiguous()
        return [Frame(p, float(f.time), end_of(f, fps)) for p, f in zip(pixels, frames, strict=True)]
