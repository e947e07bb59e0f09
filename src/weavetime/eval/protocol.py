"""What a report must say of how its figures came about: versions, commit, card, settings."""

from __future__ import annotations

import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from ..loading import Engine


def about(engine: Engine, model: str, adapter: str | None = None) -> dict[str, Any]:
    """What a run says of itself beside what must agree."""
    device = engine.backbone.vision_device
    return {
        "model": model,
        "adapter": adapter,
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
