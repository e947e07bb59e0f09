"""The ablation's plots, as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from weavetime.pictures import Axis, Line, lines


def plot(path: Path, x_name: str, y_name: str, drawn: Sequence[Line], *, logarithmic: bool = False) -> None:
    """Write lines over one pair of axes. logarithmic: the x axis, with a tick at each point."""
    path.write_text(lines(Axis(x_name, logarithmic=logarithmic), y_name, drawn))


__all__ = ["Line", "plot"]
