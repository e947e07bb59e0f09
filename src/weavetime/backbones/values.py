"""What passes between a family and the rest: its words, a picture's size, a prompt, steps ready to be appended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..ops import BlockLayout
from ..types import Frame

NEWLINE = -1
"""Stands among token ids for a family's learned newline vector."""


@dataclass(frozen=True)
class Strings:
    """A family's prompt, in the words its published code uses; {q}, {a} are filled in.

    start: a token before the sink, by its name: a tokenizer may cut text right after a special token otherwise.
    """

    sink: str
    start: str = ""
    question: str = "\n{q}<|im_end|><|im_start|>assistant\n"
    turn: str = "\n{q}<|im_end|><|im_start|>assistant\n{a}<|im_end|>\n<|im_start|>user\n"
    time: str = "Time={start:07.1f}-{end:07.1f}s"
    options: str = "Question: {q}\nOptions:\n{options}\nOnly give the best option."
    option: str = "({letter}) {text}"
    choice_prefix: str = "Best option: ("
    stop: tuple[str, ...] = ("<|im_end|>", "<|endoftext|>")


@dataclass(frozen=True)
class Grid:
    """One stream's picture size, pixels, and its visual tokens: `extra` that stand for the whole, then rows.

    crop: the middle of a picture whose shorter side fits is taken; else the whole picture, whatever its aspect.
    """

    height: int
    width: int
    rows: int
    columns: int
    extra: int = 0
    crop: bool = False

    @property
    def tokens(self) -> int:
        """Visual tokens a frame."""
        return self.extra + self.rows * self.columns


@dataclass(frozen=True)
class Prompt:
    """A question as token ids. head: how many of `ids` close the wrapper around the video (dropped without pictures).

    text: ids of the question's text alone. letters: the id of each option's letter.
    """

    ids: Tensor
    head: int
    text: Tensor
    letters: tuple[int, ...]


@dataclass(frozen=True)
class Steps:
    """Frames ready to be appended: embeds (1, steps x tokens, hidden); all of one layout; (time, end) of each.

    deep: (layers, steps, visual tokens, hidden) to be added to visual tokens after each of the first layers, if any.
    firsts, whole: where a step is two frames, the first of each as it is kept, and the time of the second.
    """

    embeds: Tensor
    layout: BlockLayout
    times: tuple[tuple[float, float], ...]
    deep: Tensor | None = None
    firsts: tuple[Frame, ...] = ()
    whole: tuple[float, ...] = ()

    @property
    def more(self) -> dict[str, Any]:
        """What the decoder's forward takes beside embeddings, as transformers names it (Qwen3-VL's decoder)."""
        if self.deep is None:
            return {}
        visual = torch.zeros(len(self.times), self.layout.tokens, dtype=torch.bool, device=self.deep.device)
        visual[:, self.layout.visual] = True
        return {"visual_pos_masks": visual.view(1, -1), "deepstack_visual_embeds": list(self.deep.flatten(1, 2))}

    def singles(self) -> list[Steps]:
        """The same, step by step."""
        tokens = self.layout.tokens
        return [
            Steps(
                self.embeds[:, i * tokens : (i + 1) * tokens],
                self.layout,
                self.times[i : i + 1],
                None if self.deep is None else self.deep[:, i : i + 1],
                self.firsts[i : i + 1],
                self.whole[i : i + 1],
            )
            for i in range(len(self.times))
        ]


def _tensor(pixels: np.ndarray | Tensor) -> Tensor:
    """Pixels as a tensor; torch takes no arrays that are mirrored views (BGR turned round) or read-only."""
    return pixels if isinstance(pixels, Tensor) else torch.from_numpy(np.require(pixels, requirements=["C", "W"]))


def resized(frames: Sequence[Frame], grid: Grid, device: torch.device | None = None) -> Tensor:
    """Frames of one size as the grid wants them, float (frames, 3, height, width), whole numbers in 0..255."""
    pixels = torch.stack([_tensor(f.pixels) for f in frames]).to(device).permute(0, 3, 1, 2).float()
    height, width = pixels.shape[-2:]
    size = (grid.height, grid.width)
    if grid.crop:  # whole numbers as the CLIP image processor rounds them
        short = min(height, width)
        size = (grid.height * height // short, grid.width * width // short)
    if (height, width) != size:
        pixels = functional.interpolate(pixels, size=size, mode="bicubic", antialias=True, align_corners=False)
        pixels = pixels.round_().clamp_(0, 255)  # as a resized 8-bit picture would be
    top, left = (size[0] - grid.height) // 2, (size[1] - grid.width) // 2
    return pixels[:, :, top : top + grid.height, left : left + grid.width]


def end_of(frame: Frame, fps: float) -> float:
    """The end of the moment that a frame stands for, seconds."""
    return float(frame.time + 1 / fps if frame.until is None else frame.until)


def device_of(module: Any) -> torch.device:
    """Where a module computes. Weights that accelerate keeps elsewhere are on no device until its hook brings them."""
    hook = getattr(module, "_hf_hook", None)
    said = getattr(hook, "execution_device", None)
    if said is None:
        return next(module.parameters()).device
    return torch.device("cuda", said) if isinstance(said, int) else torch.device(said)
