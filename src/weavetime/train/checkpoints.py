"""Checkpoints of a run: the newest, and whether it is whole."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR as PREFIX

from ..errors import ModelError

STATE = "trainer_state.json"  # written last
NEEDED = (STATE, "scheduler.pt", "rng_state*.pth")
ONE_OF = (  # optimiser and weights: by one process, by FSDP, by DeepSpeed
    ("optimizer.pt", "optimizer.bin", "optimizer_0", "global_step*"),
    ("adapter_model.safetensors", "model.safetensors", "model.safetensors.index.json", "pytorch_model_fsdp*"),
)


def all_checkpoints(output: Path) -> list[Path]:
    """`checkpoint-N` folders by N, as numbers."""
    found = [(int(m[1]), p) for p in output.glob(f"{PREFIX}-*") if (m := re.fullmatch(rf"{PREFIX}-(\d+)", p.name))]
    return [path for _, path in sorted(found)]


def newest(output: Path) -> Path:
    """The checkpoint to go on from. Raises ModelError: none, or the newest is damaged (the one before it is named)."""
    found = all_checkpoints(output)
    if not found:
        raise ModelError(f"{output} holds no {PREFIX}-*: there is nothing to resume, leave out --resume")
    if wrong := damage(found[-1]):
        sound = next((p for p in reversed(found[:-1]) if not damage(p)), None)
        help_ = f"remove it to go on from {sound.name}" if sound else "no earlier one is whole: begin again"
        raise ModelError(f"{found[-1]} is damaged ({wrong}): {help_}")
    return found[-1]


def damage(folder: Path) -> str:
    """What is wrong with a checkpoint, or nothing."""
    for pattern in NEEDED:
        if not any(folder.glob(pattern)):
            return f"no {pattern}"
    for patterns in ONE_OF:
        if not any(any(folder.glob(p)) for p in patterns):
            return f"no {patterns[0]}"
    for path in sorted(folder.rglob("*")):
        if path.is_file() and (wrong := _unreadable(path)):
            return f"{path.relative_to(folder)}: {wrong}"
    return ""


def _unreadable(path: Path) -> str:
    try:
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".safetensors":
            with safe_open(path, framework="pt"):
                pass
        elif path.suffix in (".pt", ".pth", ".bin"):
            with zipfile.ZipFile(path) as held:
                if bad := held.testzip():
                    return f"{bad} fails its checksum"
    except (OSError, ValueError, SafetensorError, zipfile.BadZipFile) as e:
        return " ".join(str(e).split()) or type(e).__name__
    return ""
