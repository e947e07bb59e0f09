"""A model's folder on disk: which files hold its weights, what their headers say; folders written whole or not."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ..errors import ModelError, WeaveTimeError
from ..hub import one_line

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def read_object(path: Path, error: type[WeaveTimeError] = ModelError) -> dict[str, Any]:
    """The JSON object in a file; raises `error`, in one line, where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise error(f"{path} cannot be read: {one_line(e)}") from e
    if not isinstance(content, dict):
        raise error(f"{path} is not a JSON object")
    return content


def weight_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shape of every weight in a folder, by its name there; headers alone are read.

    Raises ModelError where weights are not safetensors, a shard is missing, or a header does not fit its file.
    """
    if (folder / INDEX).is_file():
        shards = sorted(set(read_object(folder / INDEX).get("weight_map", {}).values()))
    else:
        shards = [WEIGHTS]
    missing = [s for s in shards if not (folder / s).is_file()]
    if missing == [WEIGHTS] and (any(folder.glob("*.bin")) or (folder / "pytorch_model.bin.index.json").is_file()):
        raise ModelError(
            f"{folder} has only pickled .bin weights, which are not read: convert them once, "
            f"weavetime convert {folder} OUT"
        )
    if missing or not shards:
        raise ModelError(f"{folder} lacks {', '.join(missing[:3]) or WEIGHTS}: download or copy the model again")
    shapes: dict[str, tuple[int, ...]] = {}
    for shard in shards:
        try:
            with safe_open(folder / shard, framework="pt") as held:
                shapes |= {name: tuple(held.get_slice(name).get_shape()) for name in held.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as e:
            raise ModelError(f"{folder / shard} is damaged ({one_line(e)}): download or copy it again") from e
    return shapes


@contextmanager
def fresh(out: Path) -> Iterator[Path]:
    """A folder to write in, which becomes `out` when all is written. Raises ModelError where `out` holds files."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ModelError(f"{out} is there already and not empty: name a new folder")
    out = out.resolve()  # a folder takes the place of another, and not of a link to one
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.parent / f".{out.name}.partial-{os.getpid()}"
    partial.mkdir()
    try:
        yield partial
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
