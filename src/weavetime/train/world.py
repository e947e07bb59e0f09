"""The task `world`: a model learns to see, to remember and to tell the order of things in StreamWorld."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor, distributed

from ..backbones.attach import switched
from ..errors import RecipeError
from .fresh import draw_anew
from .graph import StepGraph
from .recipe import Recipe
from .task import Size, Term
from .tuning import HostTask
from .world_losses import TERMS, WorldLosses, first_tokens
from .world_views import WorldSettings
from .worlds import LOOKUP, NOW_NAMES, ROWS, TOLD, WorldBatch, WorldData, WorldMaker

KEYS = tuple(f.name for f in fields(WorldBatch))
EVALUATED = 4  # batches


@dataclass(frozen=True, slots=True)
class Weights:
    """Of the parts of the loss, each a mean.

    ahead: what the answer is, known at the question's end; whether an option is right, known at its end. names: what
    picture tokens show. arrivals: which card came last, and which before it, at every step. retrieval: the blocks of
    the evidence scored above all others, coarse and fine, in every layer.
    """

    answer: float = 2.0
    reconstruction: float = 0.3
    ahead: float = 0.5
    names: float = 1.0
    arrivals: float = 0.5
    retrieval: float = 0.3


@dataclass(frozen=True, slots=True)
class WorldTaskSettings:
    """The sections of a recipe for this task.

    fresh: begin from newly drawn weights of the model's config, not from its own. alike: draw them with heads that
    attend to tokens like their own. fused: with one process on CUDA, compile the arithmetic and replay the step as one
    graph.
    """

    world: WorldSettings = field(default_factory=WorldSettings)
    weights: Weights = field(default_factory=Weights)
    fresh: bool = False
    alike: bool = True
    fused: bool = True


class WorldTask(HostTask):
    """Losses over batches of StreamWorld, for backbones with one axis of positions."""

    Settings = WorldTaskSettings
    held_out = None

    def __init__(self, recipe: Recipe, settings: WorldTaskSettings) -> None:
        if recipe.window is None or recipe.optimiser.max_steps is None:
            raise RecipeError(f"{recipe.name}: task world needs a window and optimiser.max_steps")
        if recipe.optimiser.batch != 1 or recipe.run.gradient_checkpointing:
            raise RecipeError(
                f"{recipe.name}: task world takes optimiser.batch 1 (world.streams is the batch) and no "
                "gradient checkpointing"
            )
        if settings.fresh and not recipe.tuning.full:
            raise RecipeError(f"{recipe.name}: fresh draws every weight anew: it goes with tuning.full: true alone")
        super().__init__(recipe)
        if self.backbone.axes != 1:
            raise RecipeError(f"{recipe.name}: task world is for models with one axis of positions")
        if not torch.cuda.is_available():  # nothing is cast on the CPU: what is not trained meets what is
            self.module.float()
        if settings.fresh:
            draw_anew(self.backbone, recipe.run.seed, alike=settings.alike)
        self.settings, self.window = settings, recipe.window
        processes = distributed.get_world_size() if distributed.is_initialized() else 1
        self._shared = distributed.is_initialized() or recipe.run.deepspeed is not None
        batches = recipe.optimiser.max_steps * recipe.optimiser.accumulation * processes
        maker = WorldMaker(self.backbone, settings.world, self.window, f"train/{recipe.run.seed}")
        self.dataset = WorldData(maker, batches)
        self._held = WorldMaker(self.backbone, settings.world, self.window, "held out")
        self._losses: WorldLosses | None = None
        self._graphs: dict[tuple[torch.Size, ...], StepGraph] = {}

    def collate(self, items: Sequence[list[WorldBatch]]) -> list[WorldBatch]:
        """A batch is made whole in the worker."""
        return items[0]

    def size(self, batch: list[WorldBatch]) -> Size:
        """The loss is a sum of means: it counts as one token."""
        tokens = sum(b.ids.numel() + b.canvas.shape[0] * b.canvas.shape[1] * self._block(b) for b in batch)
        return Size(1, tokens, sum(b.ids.shape[0] * b.ids.shape[1] for b in batch))

    def _block(self, batch: WorldBatch) -> int:
        return int(batch.times.shape[-1] + batch.things.shape[2] + (1 if self.backbone.time_prompts else 0))

    def losses(self, batch: list[WorldBatch]) -> Mapping[str, Term]:
        """The mean of each part of the loss over all streams of the batch."""
        flat = [getattr(part, key) for part in batch for key in KEYS]
        means, _ = self._run(flat)
        return {t: Term(m, 1, w) for t, m, w in zip(TERMS, means.unbind(), self._weights, strict=True)}

    @property
    def _weights(self) -> list[float]:
        return [getattr(self.settings.weights, term) for term in TERMS]

    @property
    def _fused(self) -> bool:
        """Not in a process group: a graph's own backward would run what DDP, FSDP and DeepSpeed hang on gradients."""
        return self.settings.fused and not self._shared and next(self.module.parameters()).is_cuda

    def _run(self, flat: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Means by part of the loss, and which answer tokens were predicted: as a graph where that is wanted."""
        shapes = tuple(x.shape for x in flat)
        with switched(self.backbone.decoder, self.backbone.head_dim):
            if not self._fused:
                return self._forward(flat)
            if shapes not in self._graphs:
                weights = torch.tensor(self._weights, device=flat[0].device)
                self._graphs[shapes] = StepGraph(self.module, self._forward, weights, flat)
            return self._graphs[shapes](flat)

    def _forward(self, flat: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        if self._losses is None:
            size = self.settings.world.size
            self._losses = WorldLosses(self.backbone, self.window, size, fused=self._fused)
        device = flat[0].device.type
        half = self.recipe.run.bf16 and device == "cuda"
        # No cache of cast weights: a graph would go on with those of the step it was captured in.
        with torch.autocast(device, torch.bfloat16, enabled=half, cache_enabled=False):
            found = [self._losses(part) for part in unpacked(flat)]
        sums = torch.stack([sums for sums, _ in found]).sum(0)
        return sums[:, 0] / sums[:, 1].clamp_min(1), [right for _, right in found]

    def evaluate(self) -> Mapping[str, float]:
        """Share of first answer tokens predicted on streams never trained on, where the view holds the evidence."""
        hits: dict[str, list[float]] = {}
        device = next(self.module.parameters()).device
        for index in range(EVALUATED):
            [batch] = self._held.batch(index, 0.0, self.settings.world.lookup, self.settings.world.again)
            flat = [getattr(batch, key).to(device) for key in KEYS]
            with torch.enable_grad():  # the graph of a training step does, if there is one
                _, [right] = self._run(flat)
            [part] = unpacked(flat)
            hit, held = first_tokens(part, right)
            told = part.family, hit, part.choice, part.chooser
            for family, yes, choice, chooser in zip(*(x[held].tolist() for x in told), strict=True):
                name = ROWS[family]
                if name == "when" and not choice:  # the first token of a time says nothing
                    continue
                group = name if name in (LOOKUP, TOLD) else "now" if name in NOW_NAMES else "past"
                group = group if chooser < 0 else "recalled"
                hits.setdefault(f"{group}_{'choice' if choice else 'open'}", []).append(yes)
        return {f"accuracy_{name}": sum(found) / len(found) for name, found in sorted(hits.items())}


def unpacked(flat: Sequence[Tensor]) -> list[WorldBatch]:
    """Batches from their tensors one after another."""
    cuts = range(0, len(flat), len(KEYS))
    return [WorldBatch(**dict(zip(KEYS, flat[i : i + len(KEYS)], strict=True))) for i in cuts]
