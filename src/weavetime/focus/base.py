"""What a mode is: a value that says which blocks a question reads, before and after it has seen the present."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, ClassVar, Protocol, Self

from torch import Tensor

from ..config import Record
from ..errors import ModeError
from ..types import Choice


class Past(Protocol):
    """The memory as of one time, as a mode sees it."""

    count: int

    @property
    def layers(self) -> int: ...
    @property
    def kv_heads(self) -> int: ...
    @property
    def window(self) -> int | None: ...
    @property
    def recent(self) -> range: ...
    def coarse(self, queries: Sequence[Tensor], *, cosine: bool = False) -> Tensor: ...
    def coarse_layer(self, layer: int, query: Tensor, *, cosine: bool = False) -> Tensor: ...
    def fine(self, layer: int, question: Tensor, blocks: Sequence[int], *, cosine: bool = False) -> Tensor: ...
    def at_times(self, times: Sequence[float]) -> list[int]: ...


class Mode(ABC):
    """One way to answer. The three questions below, asked in this order, are all that differs between modes."""

    name: ClassVar[str]
    gate_layers: int = 0
    """Layers whose logits the gate averages; 0 where the mode has no gate."""

    @property
    def threshold(self) -> float | None:
        """What the gate is compared with; None where the mode has no gate."""
        return None

    def having(self, **settings: Any) -> Self:
        """The mode with these settings; None leaves one as it is. Raises ModeError where it has no such setting."""
        said = {name: value for name, value in settings.items() if value is not None}
        if missing := [name for name in said if name not in {f.name for f in fields(self)}]:  # type: ignore[arg-type]
            raise ModeError(f"mode {self.name} has no {' and no '.join(missing)}: leave that out")
        return replace(self, **said)  # type: ignore[type-var]

    def of(self, record: Record) -> Mode:
        """The mode with what a model says of itself in place of what the mode leaves open."""
        return self

    @abstractmethod
    def first(self, past: Past) -> Choice | None:
        """The blocks of the first view; None where layers pick for themselves in a pass over the question's text."""

    def pick(self, layer: int, queries: Tensor, past: Past) -> tuple[list[int], list[float]]:
        """Blocks of one layer and their scores, from that pass's own queries (heads, tokens, dim), un-rotated."""
        raise NotImplementedError(f"{self.name} does not pick inside a pass")

    def needs_past(self, gate: float | None, past: Past) -> bool:
        """Whether to look again with more of the past."""
        return False

    def choose(self, queries: Sequence[Tensor], past: Past) -> Choice:
        """The blocks of the second view, from the first one's question queries, per layer (heads, tokens, dim)."""
        raise NotImplementedError(f"{self.name} does not choose")
