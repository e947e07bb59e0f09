"""What a report must say of how its figures came about: versions, commit, card, settings."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..focus import parse_mode

if TYPE_CHECKING:
    from ..backbones import Backbone
    from ..config import Record
    from ..focus import Mode
    from ..loading import Engine
    from .base import Benchmark, Example


def pixels(backbone: Backbone) -> str:
    """The size in which a model sees a picture, width x height; where that is the picture's own, its limit."""
    if backbone.most_pixels is not None:
        return f"at most {backbone.most_pixels}"
    grid = backbone.grid(1, 1)
    return f"{grid.width}x{grid.height}"


def prompts(benchmark: Benchmark, examples: Sequence[Example]) -> dict[str, Any]:
    """A fingerprint of every question as it is put and decoded, and the first one's words."""
    found = hashlib.sha256()
    for example in examples:
        said = (example.id, benchmark.prompt(example), asdict(benchmark.decoding(example)))
        found.update(json.dumps(said).encode())
    return {"fingerprint": found.hexdigest()[:16], "first": benchmark.prompt(examples[0]) if examples else ""}


def settings(mode: str | Mode, record: Record) -> dict[str, Any]:
    """Every setting of a mode on a model of this record, defaults too; none of a baseline, whose name says all."""
    from .asking import ORACLE, last_frames

    if mode == ORACLE or last_frames(mode):
        return {}
    return dict(vars(parse_mode(mode).of(record)))


def about(engine: Engine, model: str, adapter: str | None = None, **said: Any) -> dict[str, Any]:
    """What a run says of itself beside what must agree. said: more of it, as in `limit=100`."""
    device = engine.backbone.vision_device
    return {
        "model": model,
        "adapter": adapter,
        "parameters": sum(p.numel() for p in engine.backbone.model.parameters()),
        **said,
        "date": time.strftime("%Y-%m-%d"),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"{_processor()} (CPU)",
        "versions": {name: version(name) for name in ("weavetime", "torch", "transformers")},
        "commit": commit(),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    said = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return said[0] if said else platform.processor() or platform.machine()


def commit() -> str | None:
    """The commit of the working tree that the package is run from, `+` where it was changed; None outside of one."""
    here = Path(__file__).parent
    try:
        found = [
            subprocess.run(["git", "-C", str(here), *command], capture_output=True, text=True, check=True).stdout
            for command in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "--", str(here.parent)])
        ]
    except (OSError, subprocess.CalledProcessError):
        return None
    return found[0].strip() + "+" * bool(found[1].strip())
