"""The task `samples`: video question answering with temporal reconstruction, on files of records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from ..errors import RecipeError
from .encode import ANSWER, RECONSTRUCTION, VISUAL, Encoded
from .losses import IGNORED, token_losses
from .recipe import Recipe
from .samples import Bad, Batch, SampleDataset, SampleSettings, collate, inputs_embeds
from .task import Size, Term
from .tuning import HostTask

PARTS = {"reconstruction": RECONSTRUCTION, "answer": ANSWER}


@dataclass(frozen=True, slots=True)
class Data:
    """Training files. held_out: files whose losses are measured, not learnt. video_root: where relative paths start."""

    files: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    video_root: str | None = None


@dataclass(frozen=True, slots=True)
class SamplesSettings:
    """The sections of a recipe for this task."""

    data: Data = Data()
    samples: SampleSettings = field(default_factory=SampleSettings)


class SamplesTask(HostTask):
    """Sums of token losses by part: `reconstruction` of the times, and the sample's own `answer`."""

    Settings = SamplesSettings

    def __init__(self, recipe: Recipe, settings: SamplesSettings) -> None:
        data, how = settings.data, settings.samples
        if not data.files:
            raise RecipeError(f"{recipe.name}: data.files names no training files: say --set data.files=FILE")
        super().__init__(recipe)
        self.dataset = SampleDataset(data.files, self.backbone, how, video_root=data.video_root)
        self.held_out = (
            SampleDataset(data.held_out, self.backbone, how, video_root=data.video_root) if data.held_out else None
        )
        self.collate = Collate(_idle(self))

    def size(self, batch: Batch) -> Size:
        """Labels, tokens without pads, samples; an idle batch counts nothing."""
        labels = int((batch.labels[:, 1:] != IGNORED).sum())
        return Size(labels, int(batch.mask.sum()), int(batch.mask.any(1).sum()), batch.bad)

    def losses(self, batch: Batch) -> Mapping[str, Term]:
        """One forward through vision, projector, language model, and head where a label is."""
        backbone = self.backbone
        # Pads stand on the right and attention is causal: no token sees one, and flash attention needs no mask.
        hidden = backbone.decoder(
            inputs_embeds=inputs_embeds(backbone, batch),
            position_ids=batch.position_ids,
            attention_mask=torch.ones_like(batch.ids),
            use_cache=False,
        ).last_hidden_state
        found, where = token_losses(backbone.model.lm_head, hidden, batch.labels)
        parts = batch.parts[where]
        return {name: Term(found[parts == part].sum(), (parts == part).sum()) for name, part in PARTS.items()}

    def evaluate(self) -> None:
        """Nothing besides the losses on held-out samples."""


class Collate:
    """Batches in a worker: where nothing can be used, one frame that counts nothing goes through the model instead."""

    def __init__(self, idle: Encoded) -> None:
        self.idle = idle

    def __call__(self, items: Sequence[Encoded | Bad]) -> Batch:
        batch = collate(items)
        if batch.pixels:
            return batch
        idle = collate([self.idle])
        return replace(idle, mask=torch.zeros_like(idle.mask), bad=batch.bad)


def _idle(task: SamplesTask) -> Encoded:
    backbone = task.backbone
    grid = backbone.grid(28, 28)
    layout = backbone.block(grid, 0)
    ids = torch.full((layout.tokens,), VISUAL)
    closing = torch.tensor(backbone.closing)
    ids[layout.visual.stop :] = closing[: layout.tokens - layout.visual.stop]
    nothing = torch.zeros_like(ids)
    deep = () if task.dataset.settings.frames_per_step == 1 else (task.dataset.settings.frames_per_step,)
    pixels = torch.zeros(1, *deep, 3, grid.height, grid.width, dtype=torch.uint8)
    return Encoded(ids, nothing.fill_(IGNORED), nothing.to(torch.int8).zero_(), layout.positions, pixels, grid)
