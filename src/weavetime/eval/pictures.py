"""A world's frames in batches: drawn one by one on the CPU, many at once where the model is on a CUDA card."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import torch

from ..types import Frame
from ..world import Atlas, Renderer, Script, as_numbers

_SEEN = 64  # steps of some world, among which every sort of thing shows up


def pictures(script: Script, size: int, batch: int, device: torch.device) -> Iterator[list[Frame]]:
    """The frames of a script's steps in order, `batch` at a time; the same bytes on any device."""
    renderer = Renderer(script, size)
    chunks = (range(i, min(i + batch, script.steps)) for i in range(0, script.steps, batch))
    if device.type != "cuda":
        for steps in chunks:
            yield [renderer.frame(i) for i in steps]
        return
    yield from composed(renderer, _atlas(size, device), chunks, device)


@cache
def _atlas(size: int, device: torch.device) -> Atlas:
    other = Renderer(Script(0, _SEEN), size)
    return Atlas([other.plan(i) for i in range(_SEEN)], size, device)


def composed(renderer: Renderer, atlas: Atlas, chunks: Iterator[range], device: torch.device) -> Iterator[list[Frame]]:
    """Frames whose pixels are drawn on a device."""
    script = renderer.script
    backdrop = torch.from_numpy(renderer.backdrop.astype("uint8")).to(device)[None]
    for steps in chunks:
        numbers = as_numbers([renderer.plan(i) for i in steps])
        canvas, layers = (torch.from_numpy(x).to(device)[None] for x in numbers)
        pixels = atlas.compose(backdrop, canvas, layers)[0].permute(0, 2, 3, 1).to(torch.uint8)
        yield [Frame(p, script.time(i), script.end(i)) for p, i in zip(pixels, steps, strict=True)]
