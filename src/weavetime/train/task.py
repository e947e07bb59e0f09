"""What the trainer is told of a task: its data, its losses, what it trains, and how that is saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn
from torch.utils.data import Dataset

from ..errors import RecipeError
from .reading import build, nearest
from .recipe import Recipe

TASKS = {
    "samples": "weavetime.train.samples_task:SamplesTask",
    "world": "weavetime.train.world:WorldTask",
}
"""Tasks by the name that a recipe's `task:` gives; imported when one is wanted."""


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a loss over a batch. total: a sum over tokens (a tensor to differentiate). count: how many tokens."""

    total: Tensor
    count: Tensor | int
    weight: float = 1.0


class Refused(Protocol):
    """A sample that cannot be used: its index, where it stands (file and line), and why."""

    @property
    def index(self) -> int: ...
    @property
    def where(self) -> str: ...
    @property
    def reason(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Size:
    """What a batch holds, known before the model runs. loss: what its sum is divided by: tokens of all terms together,
    or 1 where terms are means already.
    """

    loss: int
    tokens: int
    samples: int
    bad: Sequence[Refused] = ()


class Task(Protocol):
    """What a trainer optimises. `losses` always returns the same names, and runs the whole of `module` even where
    nothing of the batch can be used (processes that share the module would wait for each other otherwise).

    The loss of a step is Σ weight · total ÷ Σ `size(batch).loss`, over all terms, accumulated batches and processes.
    """

    Settings: ClassVar[type]
    """A frozen dataclass: its fields are the sections of a recipe that the recipe itself does not know."""

    module: nn.Module
    """All that is trained, and the rest of the model, in training mode where that matters."""
    blocks: Sequence[str]
    """Class names of the layers that sharding cuts the module by."""
    dataset: Dataset[Any]
    """Map-style; `set_epoch(n)` is called where there is one."""
    held_out: Dataset[Any] | None
    """Samples whose losses are measured while training goes on."""

    def __init__(self, recipe: Recipe, settings: Any) -> None: ...

    def collate(self, items: Sequence[Any]) -> Any:
        """A batch: a dataclass or mapping of tensors, moved to the device by the trainer. No items make a batch too."""

    def size(self, batch: Any) -> Size:
        """What the batch holds."""

    def losses(self, batch: Any) -> Mapping[str, Term]:
        """Run the model. A differentiable zero where nothing counts."""

    def evaluate(self) -> Mapping[str, float] | None:
        """Figures of the task's own, on every process; None where there are none."""

    def save(self, folder: Path, state: Mapping[str, Tensor] | None, *, final: bool) -> None:
        """Write what is trained, complete and usable, by one process. state: `module`'s state dict where it is sharded.

        final: the output of the run; else a checkpoint, from which `restore` must bring every bit back.
        """

    def restore(self, folder: Path) -> None:
        """Read back what `save` wrote."""


def make_task(recipe: Recipe) -> Task:
    """The task that a recipe names, with the recipe's sections as its settings. Raises RecipeError."""
    if recipe.task not in TASKS:
        raise RecipeError(f"{recipe.name}: unknown task {recipe.task!r}{nearest(recipe.task, TASKS)}")
    module, _, name = TASKS[recipe.task].partition(":")
    cls: type[Task] = getattr(import_module(module), name)
    known = [f.name for kind in (Recipe, cls.Settings) for f in fields(kind) if f.name not in ("name", "sections")]
    for key in recipe.sections:
        if key not in known:
            raise RecipeError(f"{recipe.name}: unknown {key!r}{nearest(key, known)}")
    return cls(recipe, build(cls.Settings, recipe.sections, recipe.name))
