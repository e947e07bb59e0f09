"""What a model family is to the rest: how frames become features, how tokens stand, how a question is put.

A family is one file: a subclass that fills in strings, the vision step and the visual positions. It holds the host
model; the engine runs it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from string import ascii_uppercase
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..config import Decoding, StreamConfig
from ..errors import ModelError, QuestionError
from ..ops import BlockLayout, Rotary, Timeline, text_positions
from ..types import Frame, Question
from .checkpoints import Checkpoint
from .family import Family
from .star import StarSource

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


def _end(frame: Frame, fps: float) -> float:
    """The end of the moment that a frame stands for, seconds."""
    return float(frame.time + 1 / fps if frame.until is None else frame.until)


def _three_numbers(checkpoint: Checkpoint, name: str) -> list[float]:
    said = checkpoint.preprocessor.get(name)
    if not (isinstance(said, list) and len(said) == 3 and all(isinstance(x, int | float) for x in said)):
        raise ModelError(
            f"{checkpoint.folder}: preprocessor_config.json must give {name} as three numbers, it says {said!r}"
        )
    return said


def device_of(module: Any) -> torch.device:
    """Where a module computes. Weights that accelerate keeps elsewhere are on no device until its hook brings them."""
    hook = getattr(module, "_hf_hook", None)
    said = getattr(hook, "execution_device", None)
    if said is None:
        return next(module.parameters()).device
    return torch.device("cuda", said) if isinstance(said, int) else torch.device(said)


class Backbone(Family, ABC):
    """A loaded model of one family. time_prompts chooses the layout: segments (on) or one video (off)."""

    axes: ClassVar[int] = 1
    strings: ClassVar[Strings]

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

    opening: ClassVar[str] = ""
    """Text right before visual tokens."""

    @property
    @abstractmethod
    def closing(self) -> tuple[int, ...]:
        """Ids right after visual tokens: of each step in segments, at the head of the question in one video."""

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
        firsts = [self._first(p[0], g[0], fps) for p, g in zip(pictures, groups, strict=True)] if size > 1 else []
        cuts = [i for i in range(1, len(groups)) if len(prefixes[i]) != len(prefixes[i - 1])]
        found = []
        for a, b in pairwise([0, *cuts, len(groups)]):
            times = tuple((float(g[0].time), _end(g[-1], fps)) for g in groups[a:b])
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
        return self.strings.time.format(start=float(frames[0].time), end=_end(frames[-1], fps))

    def kept(self, frame: Frame, grid: Grid, fps: float) -> Frame:
        """A frame as it waits for its partner: resized, its end said, on the host."""
        return self._first(resized([frame], grid, self.vision_device)[0], frame, fps)

    @staticmethod
    def _first(picture: Tensor, frame: Frame, fps: float) -> Frame:
        """picture: (3, height, width), whole numbers."""
        pixels = picture.permute(1, 2, 0).to(torch.uint8).cpu().contiguous()
        return Frame(pixels, float(frame.time), _end(frame, fps))

    # Text

    def encode(self, text: str) -> list[int]:
        """Token ids of text, nothing added; special tokens are recognised."""
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def embed_ids(self, ids: Tensor) -> Tensor:
        """Embeddings (..., hidden) of token ids, NEWLINE among them."""
        table = self.decoder.embed_tokens
        rows = table(ids.clamp_min(0).to(device_of(table)))
        newline = ids == NEWLINE
        if bool(newline.any()):
            rows = rows.clone()
            rows[newline.to(rows.device)] = self.newline.to(rows)
        return rows

    @property
    def newline(self) -> Tensor:
        """The learned newline vector, (hidden,)."""
        raise ModelError(f"{self.family} has no newline vector")

    @cached_property
    def sink(self) -> tuple[Tensor, int]:
        """Ids that open every view, and how many of them are text."""
        first = self.tokenizer.convert_tokens_to_ids(self.strings.start) if self.strings.start else None
        if self.strings.start and first in (None, self.tokenizer.unk_token_id):
            raise ModelError(f"the tokenizer has no {self.strings.start}: it is not that of a {self.family} model")
        text = ([] if first is None else [first]) + self.encode(self.strings.sink)
        wrapper = [] if self.wraps else self.encode(self.opening)
        return torch.tensor(text + wrapper), len(text)

    def prompt(self, question: Question, decoding: Decoding) -> Prompt:
        """A question after the pictures: history, text, options, role marks, forced prefix."""
        self._check_text(question)
        words = self.strings
        asked, prefix = question.text, decoding.prefix
        if question.options:
            if len(question.options) > len(ascii_uppercase):
                raise QuestionError(f"options have letters A to Z: at most 26, got {len(question.options)}")
            lines = [
                words.option.format(letter=letter, text=text)
                for letter, text in zip(ascii_uppercase, question.options, strict=False)
            ]
            asked = words.options.format(q=question.text, options="\n".join(lines))
            prefix = prefix or words.choice_prefix
        turns = "".join(words.turn.format(q=q, a=a) for q, a in question.history)
        head = [] if self.wraps else list(self.closing)
        ids = head + self.encode(turns + words.question.format(q=asked) + prefix)
        letters = tuple(self._letter(prefix, c) for c in ascii_uppercase[: len(question.options)])
        return Prompt(torch.tensor(ids), len(head), torch.tensor(self.encode(question.query or question.text)), letters)

    def _check_text(self, question: Question) -> None:
        """Refuse what is no text, and text that would end the turn or open another: the tokenizer's control tokens."""
        turns = [part for turn in question.history for part in turn]
        for text in (question.text, question.query, *question.options, *turns):
            if not isinstance(text, str):
                raise QuestionError(f"a question, its options and its history are texts, got {text!r}")
            if not text.isprintable() and any("\ud800" <= c <= "\udfff" for c in text):
                raise QuestionError("the text holds characters that are not Unicode: is it in UTF-8?")
            for control in self._controls:
                if control in text:
                    raise QuestionError(f"the text holds {control}, which steers the model: take it out")
        if not question.text.strip():
            raise QuestionError("the question is empty")

    @cached_property
    def _controls(self) -> tuple[str, ...]:
        return tuple(self.tokenizer.get_added_vocab())

    def _letter(self, prefix: str, letter: str) -> int:
        """The token of a letter right after the forced prefix: at the start of a text it may be another."""
        before, ids = self.encode(prefix), self.encode(prefix + letter)
        if len(ids) == len(before) + 1 and ids[:-1] == before:
            return ids[-1]
        ids = self.encode(letter)
        if len(ids) != 1:
            raise ModelError(f"the tokenizer cuts the option letter {letter!r} into {len(ids)} tokens")
        return ids[0]

    @cached_property
    def stops(self) -> frozenset[int]:
        """Ids that end an answer."""
        ids = {self.tokenizer.convert_tokens_to_ids(token) for token in self.strings.stop}
        said = getattr(self.model.generation_config, "eos_token_id", None)
        ids.update(said if isinstance(said, list) else [said])
        ids.add(self.tokenizer.eos_token_id)
        return frozenset(i for i in ids if i is not None)
