"""Whole models in folders: written complete or not at all, with everything beside the weights that the base had."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ..backbones import families
from ..backbones.adapters import load_adapter
from ..backbones.checkpoints import FILES, Checkpoint, load_model, open_checkpoint
from ..backbones.weights import INDEX, fresh
from ..config import Record

OWN = {"config.json", INDEX, Record.FILE, "adapter_config.json", "trainer_state.json"}  # written anew, or of a run


def merge(model: str | Path, adapter: str | Path, out: Path, *, time_prompts: bool | None = None) -> Record:
    """Write `model` with a LoRA merged into it as a plain model folder, in the model's own dtype.

    It loads as `weavetime.load(out)` and answers as `load(model, adapter=adapter)` does in that dtype. Raises
    ModelError, AdapterError; `out` is then as it was.
    """
    with fresh(out) as folder:
        checkpoint = open_checkpoint(model, families())
        host = load_model(checkpoint, dtype=own_dtype(checkpoint), device="cpu")
        found = load_adapter(host, adapter, family=checkpoint.family, time_prompts=time_prompts)
        record = replace(checkpoint.record.over(found), base=None)
        write_model(folder, host, checkpoint, record)
    return record


def own_dtype(checkpoint: Checkpoint) -> torch.dtype:
    """The dtype that a checkpoint's weights are kept in: what its config says, else that of its first weight."""
    said = checkpoint.config.dtype
    if isinstance(said, torch.dtype):
        return said
    first = min(checkpoint.folder.glob("*.safetensors"))
    with safe_open(first, framework="pt") as held:
        dtype: torch.dtype = held.get_tensor(next(iter(held.keys()))).dtype
    return dtype


def write_model(
    folder: Path,
    host: Any,
    checkpoint: Checkpoint,
    record: Record,
    *,
    state: Mapping[str, Tensor] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Weights, config and record; tokenizer, preprocessor and generation settings as in the base's folder.

    state: the weights, where `host` does not hold them whole. dtype: what to save them as; None as they are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if dtype is not None:
        state = _cast(host.state_dict() if state is None else state, dtype)
    host.save_pretrained(folder, state_dict=None if state is None else dict(state))
    if checkpoint.kind.renames:  # weights are saved under their published names: so must the config be
        shutil.copyfile(checkpoint.folder / "config.json", folder / "config.json")
    if dtype is not None:
        _say_dtype(folder / "config.json", dtype)
    for pattern in FILES:
        for path in checkpoint.folder.glob(pattern):
            if path.suffix != ".safetensors" and path.name not in OWN:
                shutil.copyfile(path, folder / path.name)
    record.write(folder)


def _cast(state: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Every floating weight as `dtype`; weights that share memory go on sharing it."""
    made: dict[tuple[int, torch.Size], Tensor] = {}
    cast = {}
    for name, tensor in state.items():
        if tensor.is_floating_point():
            tensor = made.setdefault((tensor.data_ptr(), tensor.shape), tensor.detach().to(dtype))
        cast[name] = tensor
    return cast


def _say_dtype(path: Path, dtype: torch.dtype) -> None:
    config = json.loads(path.read_text())
    for part in (config, *(v for v in config.values() if isinstance(v, dict))):
        if "dtype" in part or part is config:
            part["dtype"] = str(dtype).removeprefix("torch.")
    path.write_text(json.dumps(config, indent=2) + "\n")
