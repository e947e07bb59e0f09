"""Which frames STAR retrieves, as published and mended, in generated streams: a table in Markdown.

python scripts/star_retrieval.py                  # a small tower with random weights
python scripts/star_retrieval.py FOLDER cuda      # a Flash-VStream checkpoint's own, on a device
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from statistics import mean

import torch
from torch import Tensor

from weavetime import load
from weavetime.backbones import FAMILIES
from weavetime.backbones.base import Backbone
from weavetime.backbones.catalogue import made
from weavetime.memory.star import Clustering, Star, distances, pool
from weavetime.world import Renderer, Script

SEEDS, STEPS, BATCH = range(8), 600, 50
AT = (60, 120, 300, 600)
VISION = {
    "model_type": "clip_vision_model",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 112,
    "patch_size": 7,
}


def backbone(arguments: list[str]) -> Backbone:
    """The checkpoint that was named, else a small model with random weights."""
    if arguments:
        return load(arguments[0], device=arguments[1] if len(arguments) > 1 else None).backbone
    torch.manual_seed(0)
    kind = FAMILIES["flash_vstream"]
    text = {"vocab_size": 512, "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "compress_size": 8}
    return made(kind, kind.assemble(VISION, text), torch.device("cpu"), torch.float32)


@dataclass
class Counts:
    """Of one memory at one length, over all streams.

    frames: numbers of those retrieved. further: how much further each is from
    its heavy centroid than the nearest of all so far. alike:
    the share of those that the published memory retrieves which both retrieve.
    """

    frames: list[int] = field(default_factory=list)
    further: list[float] = field(default_factory=list)
    alike: list[float] = field(default_factory=list)


def watch(features: Tensor, model: Backbone, seed: int, found: dict[tuple[bool, int], Counts]) -> None:
    """Both memories over one stream."""
    assert model.star is not None
    sizes, small = model.star.star_sizes, pool(features, model.star.star_sizes.temporal_side).flatten(1)
    stars = {fixed: Star.empty(features[0], sizes) for fixed in (False, True)}
    for i, frame in enumerate(features):
        for fixed in stars:
            stars[fixed] = stars[fixed].after(frame, float(i), sizes, Clustering(fixed, seed))
        if i + 1 not in AT:
            continue
        shown = {fixed: [int(star.times[j]) for j in star.retrieved] for fixed, star in stars.items()}
        for fixed, star in stars.items():
            best = star.weights.argsort(descending=True, stable=True)[: sizes.retrieved]
            counts = found[fixed, i + 1]
            counts.frames += shown[fixed]
            far = distances(star.temporal[best], small[: i + 1])
            counts.further += (far[range(len(best)), shown[fixed]] / far.amin(1)).tolist()
            counts.alike.append(len({*shown[False]} & {*shown[True]}) / len({*shown[False]}))


def main() -> None:
    """Print the table."""
    model = backbone(sys.argv[1:])
    found = {(fixed, at): Counts() for fixed in (False, True) for at in AT}
    for seed in SEEDS:
        frames = list(Renderer(Script(seed, STEPS)).frames())
        grid = model.grid(*frames[0].pixels.shape[:2])
        assert model.star is not None
        with torch.inference_mode():
            parts = [model.star.unprojected(frames[i : i + BATCH], grid) for i in range(0, STEPS, BATCH)]
            watch(torch.cat(parts), model, seed, found)
    print("| frames | memory | among the first 25 | newest | place | in both | distance |")
    print("|---|---|---|---|---|---|---|")
    for at in AT:
        for fixed, name in ((False, "star"), (True, "star-fixed")):
            counts = found[fixed, at]
            early, alike = (f"{mean(x):.0%}" for x in ([f < 25 for f in counts.frames], counts.alike))
            place = mean(frame / (at - 1) for frame in counts.frames)
            far = f"{mean(counts.further):.2f}" if fixed else ""
            print(f"| {at} | {name} | {early} | {max(counts.frames)} | {place:.2f} | {alike} | {far} |", flush=True)


main()
