"""Pickled weights written once as safetensors. Only plain tensors are unpickled; what was written is read back."""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import ModelError
from ..hub import one_line
from .weights import INDEX, WEIGHTS, fresh, read_object

PICKLED, PICKLED_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
BESIDE = ("*.json", "tokenizer*", "vocab.*", "merges.txt", "*.jinja", "LICENSE*", "README*")  # what is copied
SHARD = 4 << 30  # bytes of tensors in one file

Told = Callable[[str, int, int], None]
"""Hears what is being done, and how many bytes of tensors are written, of how many."""


def convert(folder: Path, out: Path, told: Told = lambda what, done, of: None) -> int:
    """Write the model in `folder`, whose weights are `pytorch_model*.bin`, to a new folder as safetensors.

    Returns how many tensors it holds. Raises ModelError: no such weights, a shard missing or damaged, anything but
    plain tensors in one; `out` is then as it was.
    """
    with fresh(out) as partial:
        weights = _read(folder)
        _write(partial, weights, told)
        for path in sorted({path for pattern in BESIDE for path in folder.glob(pattern)}):
            if path.is_file() and path.name not in (PICKLED_INDEX, INDEX):
                shutil.copyfile(path, partial / path.name)
    return len(weights)


def _shards(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ModelError(f"{folder} is not a folder: name the one that holds {PICKLED} or its parts")
    if any(folder.glob("*.safetensors")):
        raise ModelError(f"{folder} holds safetensors already: load it as it is")
    if (folder / PICKLED_INDEX).is_file():
        names = sorted(set(read_object(folder / PICKLED_INDEX).get("weight_map", {}).values()))
        found = [folder / str(name) for name in names]
    else:
        found = sorted(folder.glob("pytorch_model*.bin"))
    if not found:
        raise ModelError(f"{folder} holds no {PICKLED} and no parts of one: there is nothing to convert")
    if missing := [path.name for path in found if not path.is_file() or path.parent != folder]:
        raise ModelError(f"{folder} lacks {', '.join(missing[:3])}: download or copy the model again")
    return found


def _read(folder: Path) -> dict[str, Tensor]:
    """Every tensor by its name, mapped into memory and not yet read."""
    weights: dict[str, Tensor] = {}
    for path in _shards(folder):
        for name, tensor in _unpickled(path).items():
            if not (isinstance(name, str) and isinstance(tensor, Tensor) and tensor.layout is torch.strided):
                raise ModelError(f"{path} holds more than plain weights ({name!r} is a {type(tensor).__name__})")
            if name in weights:
                raise ModelError(f"{path} holds {name}, which another part holds too: download the model again")
            weights[name] = tensor
    if (folder / PICKLED_INDEX).is_file():
        listed = set(read_object(folder / PICKLED_INDEX)["weight_map"])
        if lacking := sorted(listed - set(weights)):
            raise ModelError(f"{folder}: {len(lacking)} weights of its index are in no part, the first: {lacking[0]}")
    if not weights:
        raise ModelError(f"{folder}: its .bin files hold no weights")
    return weights


def _unpickled(path: Path) -> Mapping[Any, Any]:
    with path.open("rb") as file:
        head = file.read(24)
    if not head.startswith((b"PK", b"\x80")):  # an archive, or as older releases saved
        raise ModelError(f"{path} is damaged (it begins with {head!r}): download or copy it again")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as e:
        raise ModelError(
            f"{path} holds more than plain weights and is not unpickled, as that could run any code: "
            "ask whoever published it for safetensors"
        ) from e
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as e:
        raise ModelError(f"{path} is damaged ({one_line(e)}): download or copy it again") from e
    if not isinstance(content, Mapping):
        raise ModelError(f"{path} holds a {type(content).__name__}, not weights by name")
    return content


def _write(folder: Path, weights: Mapping[str, Tensor], told: Told) -> None:
    groups, total = list(_groups(weights)), sum(t.nbytes for t in weights.values())
    done, places = 0, dict[str, str]()
    for number, names in enumerate(groups, 1):
        file = WEIGHTS if len(groups) == 1 else f"model-{number:05d}-of-{len(groups):05d}.safetensors"
        told(f"writing {file}", done, total)
        # Copies of their own: safetensors takes no tensors that share memory, as tied weights do.
        own = {name: weights[name].clone(memory_format=torch.contiguous_format) for name in names}
        try:
            save_file(own, folder / file, metadata={"format": "pt"})
        except SafetensorError as e:
            raise ModelError(f"{file} cannot be written: {one_line(e)}") from e
        _check(folder / file, own)
        places |= dict.fromkeys(names, file)
        done += sum(t.nbytes for t in own.values())
        told(f"checked {file}", done, total)
    if len(groups) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": places}
        (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def _groups(weights: Mapping[str, Tensor]) -> Iterator[list[str]]:
    """Names in their order, as many as fit a file."""
    names: list[str] = []
    held = 0
    for name, tensor in weights.items():
        if names and held + tensor.nbytes > SHARD:
            yield names
            names, held = [], 0
        names.append(name)
        held += tensor.nbytes
    yield names


def _check(path: Path, written: Mapping[str, Tensor]) -> None:
    """Every tensor is there with its name, type, shape and bits."""
    with safe_open(path, framework="pt") as held:
        if set(held.keys()) != set(written):
            raise ModelError(f"{path.name} was not written whole: is the disk full?")
        for name, tensor in written.items():
            found = held.get_tensor(name)
            same = (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
            if not (same and torch.equal(*(t.reshape(-1).view(torch.uint8) for t in (found, tensor)))):
                raise ModelError(f"{path.name}: {name} reads back otherwise than it was written: is the disk failing?")
