"""Training samples: from files of records to tokens, and to batches; the same on any number of workers."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from ..backbones import Backbone, Grid
from ..config import Decoding
from ..data import Record, RecordFile
from ..errors import DataError, QuestionError, VideoError
from ..types import Question
from ..video.container import pyav
from .encode import RECONSTRUCTION, VISUAL, Encoded, Step, Turn, encode, stamp
from .losses import IGNORED
from .reconstruct import permuted, request, timestamps
from .sampling import read_frames

LEAST_PIXELS = 105 * 28 * 28  # of a picture, however long the video: what the published script leaves


@dataclass(frozen=True, slots=True)
class SampleSettings:
    """How a record becomes a sample.

    fps: candidate frames a second. frames: at most so many of a sample, None for all. beta: how strongly later frames
    are preferred where there are too many; 0 spaces them evenly. frames_per_step: 2 puts two frames in one temporal
    patch (Qwen2-VL). clips, degree: how many clips change places, and what share of them (`reconstruct.permuted`).
    prob: share of samples that are reconstructed. pixels: of one picture of each step, all steps together, for models
    whose pictures keep their own size: in longer videos they get smaller, down to 105 tokens each; None for no bound.
    max_tokens: a longer sample is refused. seed: of every draw.
    """

    fps: float = 1.0
    frames: int | None = 32
    beta: float = 0.0
    frames_per_step: int = 1
    clips: int = 16
    degree: float = 1.0
    prob: float = 1.0
    pixels: int | None = None
    max_tokens: int = 16384
    seed: int = 0

    def __post_init__(self) -> None:
        rules = {
            "fps": (0 < self.fps <= 1000, "above 0"),
            "frames": (self.frames is None or self.frames >= 1, "at least 1"),
            "beta": (0 <= self.beta <= 100, "from 0 to 100"),
            "frames_per_step": (self.frames_per_step in (1, 2), "1 or 2"),
            "clips": (self.clips >= 1, "at least 1"),
            "degree": (0 <= self.degree <= 1, "a share, from 0 to 1"),
            "prob": (0 <= self.prob <= 1, "a share, from 0 to 1"),
            "pixels": (self.pixels is None or self.pixels >= 1, "at least 1"),
            "max_tokens": (self.max_tokens >= 1, "at least 1"),
        }
        for name, (fine, wanted) in rules.items():
            if not fine:
                raise DataError(f"{name} must be {wanted}, got {getattr(self, name)}")

    def picture(self, steps: int) -> float | None:
        """Pixels that a picture may have in a sample of `steps` steps."""
        return None if self.pixels is None else max(self.pixels / steps, LEAST_PIXELS)


@dataclass(frozen=True, slots=True)
class Bad:
    """A sample that cannot be used: its index, where it stands (file and line or byte), and why."""

    index: int
    where: str
    reason: str


class SampleDataset(Dataset[Encoded | Bad]):
    """The samples of training files, one after another. Sample i of an epoch depends on (seed, epoch, i) alone.

    video_root: the folder that relative video paths start from; each file's own by default. Raises DataError for files
    that cannot be read and settings that do not fit the model; VideoError without PyAV.
    """

    def __init__(
        self,
        files: Sequence[str | Path],
        backbone: Backbone,
        settings: SampleSettings | None = None,
        *,
        video_root: str | Path | None = None,
    ) -> None:
        self.settings = settings or SampleSettings()
        self.backbone = _without_weights(backbone)
        depth = getattr(backbone.model.config.vision_config, "temporal_patch_size", 1)
        if self.settings.frames_per_step > depth:
            raise DataError(f"frames_per_step 2 is for models with temporal patches: {backbone.family} takes 1")
        if self.settings.prob > 0 and not backbone.time_prompts:
            raise DataError("reconstruction asks for times: turn time_prompts on, or set prob to 0")
        pyav()
        self._files = [RecordFile(path, video_root) for path in files]
        self._ends = list(accumulate(len(f) for f in self._files))
        if not self._ends or not self._ends[-1]:
            raise DataError(f"no samples in {', '.join(map(str, files)) or 'no file'}")
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # workers that live on see it change

    def __len__(self) -> int:
        return self._ends[-1]

    @property
    def epoch(self) -> int:
        """The epoch that is drawn."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Draw frames and orders anew."""
        self._epoch.fill_(epoch)

    def where(self, index: int) -> str:
        """File and line, or byte, of a sample."""
        file, inside = self._place(index)
        return file.where(inside)

    def __getitem__(self, index: int) -> Encoded | Bad:
        file, inside = self._place(index)
        try:
            return self._encoded(index, file[inside])
        except (DataError, VideoError, QuestionError) as e:
            where = file.where(inside)
            return Bad(index, where, str(e).removeprefix(f"{where}: "))

    def _place(self, index: int) -> tuple[RecordFile, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        file = bisect_right(self._ends, index)
        return self._files[file], index - (self._ends[file - 1] if file else 0)

    def _rng(self, index: int, what: str) -> random.Random:
        return random.Random(f"{self.settings.seed} {self.epoch} {index} {what}")

    def _encoded(self, index: int, record: Record) -> Encoded:
        how, backbone = self.settings, self.backbone
        turns = _checked(backbone, record)
        rng = self._rng(index, "frames")
        frames = read_frames(record, fps=how.fps, most=how.frames, beta=how.beta, rng=rng)
        steps = []
        for i in range(0, len(frames), how.frames_per_step):
            shown = frames[i : i + how.frames_per_step]
            last = shown[-1]
            end = last.time + 1 / how.fps if last.until is None else last.until
            alone = how.frames_per_step - len(shown)  # the last frame stands for both of its step
            steps.append(Step((*shown, *[last] * alone), shown[0].time, end))
        order = list(range(len(steps)))
        rng = self._rng(index, "order")
        if rng.random() < how.prob and min(how.clips, len(steps)) > 1:
            order = permuted(len(steps), how.clips, rng, how.degree)
            true = timestamps([stamp(backbone, steps[i]) for i in order])
            turns = [Turn(request(rng), true, RECONSTRUCTION), *turns]
        sample = encode(backbone, steps, order, turns, how.picture(len(steps)))
        if len(sample.ids) > how.max_tokens:
            raise DataError(f"{len(sample.ids)} tokens, more than max_tokens {how.max_tokens}: show fewer frames")
        return sample


def _checked(backbone: Backbone, record: Record) -> list[Turn]:
    """The record's own turns, without spaces around them; refused where the stream would refuse them."""
    turns = [(q.strip(), a.strip()) for q, a in record.turns]
    for question, answer in turns:
        if not question or not answer:
            raise DataError(f"an empty {'answer' if question else 'question'}")
    backbone.prompt(Question(turns[-1][0], history=tuple(turns)), Decoding())
    return [Turn(*turn) for turn in turns]


def _without_weights(backbone: Backbone) -> Backbone:
    """A backbone that lays out tokens and nothing more: small enough to be sent to a worker, and on no device."""
    light = object.__new__(type(backbone))
    light.model = SimpleNamespace(config=backbone.model.config)
    light.tokenizer, light.checkpoint = backbone.tokenizer, backbone.checkpoint
    light.time_prompts = backbone.time_prompts
    light._layouts = {}
    return light


@dataclass(frozen=True)
class Batch:
    """Samples side by side, padded on the right to L tokens; those that are bad are left out and named.

    ids, labels, parts: (B, L) as in Encoded, pads 0, -100 and 0. mask: bool (B, L), off at pads. positions: int64
    (axes, B, L). pixels, grids: one a sample.
    """

    ids: Tensor
    labels: Tensor
    parts: Tensor
    mask: Tensor
    positions: Tensor
    pixels: tuple[Tensor, ...]
    grids: tuple[Grid, ...]
    bad: tuple[Bad, ...] = ()

    @property
    def position_ids(self) -> Tensor:
        """Positions as decoders take them: (B, L) with one axis, (3, B, L) with three."""
        return self.positions[0] if len(self.positions) == 1 else self.positions


def collate(items: Sequence[Encoded | Bad]) -> Batch:
    """A batch of the samples that can be used, which may be none: then L is 0 too."""
    good = [item for item in items if isinstance(item, Encoded)]
    bad = tuple(item for item in items if isinstance(item, Bad))
    if not good:
        none = torch.zeros(0, 0, dtype=torch.int64)
        return Batch(none, none, none.to(torch.int8), none.bool(), none[None], (), (), bad)
    lengths = torch.tensor([len(item.ids) for item in good])
    return Batch(
        pad_sequence([item.ids for item in good], batch_first=True),
        pad_sequence([item.labels for item in good], batch_first=True, padding_value=IGNORED),
        pad_sequence([item.parts for item in good], batch_first=True),
        torch.arange(int(lengths.max())) < lengths[:, None],
        pad_sequence([item.positions.T for item in good], batch_first=True).permute(2, 0, 1).contiguous(),
        tuple(item.pixels for item in good),
        tuple(item.grid for item in good),
        bad,
    )


def inputs_embeds(backbone: Backbone, batch: Batch) -> Tensor:
    """What the decoder reads, (B, L, hidden): embeddings of ids, the newline vector, and visual tokens in their places.

    Differentiable wherever a weight requires it; what is frozen keeps nothing for the backward pass. The tower runs
    once a sample.
    """
    embeds = backbone.embed_ids(batch.ids.masked_fill(batch.ids == VISUAL, 0))
    if not batch.pixels:
        return embeds
    device = backbone.vision_device
    visual = [
        backbone.features(pixels.to(device).float(), grid).flatten(0, 1)
        for pixels, grid in zip(batch.pixels, batch.grids, strict=True)
    ]
    where = (batch.ids == VISUAL).to(embeds.device)
    return embeds.masked_scatter(where[..., None], torch.cat(visual).to(embeds))
