"""`weavetime models`: the families and published checkpoints that are known, and what each costs."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from .options import Json

if TYPE_CHECKING:
    from rich.table import Table

    from ..backbones.catalogue import Entry

NOTE = (
    "tokens: of a frame. window, largest: blocks kept by default, and that fit the model's positions. an hour: its "
    "archive at 1 fps, 16 bits. Where the picture's size is the video's, it is that of 720p."
)


def models(as_json: Json = False) -> None:
    """List model families with their published checkpoints: tokens a frame, windows, bytes an hour, licences."""
    from transformers.utils import logging

    from ..backbones.catalogue import catalogue

    logging.set_verbosity_error()
    found = list(catalogue())
    if as_json:
        print(json.dumps([asdict(entry) for entry in found], indent=1))
        return
    from rich.console import Console

    console = Console(highlight=False)
    console.print(_sizes(found))
    console.print(f"[dim]{NOTE}\n")
    console.print(_words(found))


def _sizes(found: list[Entry]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("family", "checkpoint"):
        table.add_column(name, overflow="fold")
    for name in ("picture", "tokens", "window", "largest", "an hour"):
        table.add_column(name, justify="right", no_wrap=True)
    for entry in found:
        table.add_row(
            entry.family,
            entry.name,
            "{1}x{0}".format(*entry.picture),
            f"{entry.tokens:g}",
            f"{entry.window:,}",
            f"{entry.largest_window:,}",
            f"{entry.hour / 1e9:.0f} GB",
        )
    return table


def _words(found: list[Entry]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("checkpoint", "licence of the weights", "how it was tested"):
        table.add_column(name, overflow="fold")
    for entry in found:
        table.add_row(entry.name, entry.licence, entry.tested)
    return table
