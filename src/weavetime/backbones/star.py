"""What STAR, Flash-VStream's own memory, asks of a family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from ..config import StarSizes
from ..types import Frame

if TYPE_CHECKING:
    from .values import Grid


class StarSource(Protocol):
    """A backbone whose features before the projector STAR remembers."""

    @property
    def star_sizes(self) -> StarSizes:
        """As the checkpoint says them."""

    def unprojected(self, frames: Sequence[Frame], grid: Grid) -> Tensor:
        """Features of frames before the projector: (frames, side x side tokens, the tower's width)."""

    def project(self, hidden: Tensor) -> Tensor:
        """Into the language model's width, token by token."""
