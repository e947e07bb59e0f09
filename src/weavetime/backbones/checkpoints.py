"""A model's files: from a name to a folder, from a folder to the unmodified transformers model. Safetensors only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from ..config import Record
from ..errors import ModelError, OutOfMemoryError
from ..hub import FetchError, fetch, is_remote, one_line
from .family import Family
from .weights import read_object, weight_shapes

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FILES = ("*.json", "*.safetensors", "tokenizer*", "vocab.*", "merges.txt", "*.jinja")
RECOMPUTED = (".inv_freq", ".position_ids")  # buffers that older transformers saved and newer ones make


@dataclass(frozen=True)
class Checkpoint:
    """A model's folder and what its files say; no weights are read yet.

    config: the transformers config. kind: its family. record: `weavetime.json`. preprocessor: image_mean, image_std,
    size, patch_size, ... as the preprocessor files give them, else the family; where image and video differ, the
    video's.
    """

    folder: Path
    config: Any
    kind: type[Family]
    record: Record
    preprocessor: Mapping[str, Any]

    @property
    def family(self) -> str:
        """The family's name."""
        return self.kind.family


def resolve(name: str) -> Path:
    """The folder of a model: a local folder, `mini`, `OWNER/NAME` or `hf:OWNER/NAME` (hub), `modelscope:OWNER/NAME`.

    Raises ModelError where there is none.
    """
    folder = Path(name).expanduser()
    if name == "mini":
        return _mini()
    if name and folder.is_dir():
        return folder
    if folder.is_file():
        raise ModelError(f"{name} is a file: give the folder that holds the model")
    if not is_remote(name):
        if not re.fullmatch(r"\w[\w.-]*/[\w.-]+", name):
            raise ModelError(f"unknown model {name!r}: no such folder; say a folder, mini, OWNER/NAME or modelscope:ID")
        name = f"hf:{name}"
    try:
        return fetch(name, FILES)
    except FetchError as e:
        raise ModelError(str(e)) from e


def _mini() -> Path:
    folder = Path(str(files("weavetime"))) / "models" / "mini"
    if not folder.is_dir():
        raise ModelError("this installation does not hold the mini model: install weavetime again, or name another")
    return folder


def open_checkpoint(name: str | Path, families: Mapping[str, type[Family]]) -> Checkpoint:
    """Read a model's small files. `families` are asked in their order whose the folder is.

    Raises ModelError: no such model, files that cannot be read, or a folder that none of `families` claims.
    """
    folder = resolve(str(name))
    if not (folder / "config.json").is_file():
        adapter = (folder / "adapter_config.json").is_file()
        raise ModelError(f"{folder} has no config.json" + (": it is an adapter, say adapter=" if adapter else ""))
    said = read_object(folder / "config.json")
    kind = next((kind for kind in families.values() if kind.claims(said)), None)
    if kind is None:
        raise ModelError(
            f"{folder} is a {said.get('model_type')} model, not one of the supported: {', '.join(sorted(families))}"
        )
    try:
        config = kind.host_config(folder, said)
    except ModelError:
        raise
    except Exception as e:  # transformers' strict configs have errors of their own, with no base but this
        raise ModelError(f"{folder / 'config.json'} is not a {kind.family} config: {one_line(e)}") from e
    return Checkpoint(folder, config, kind, Record.read(folder), {**kind.preprocessor, **_preprocessor(folder)})


def _preprocessor(folder: Path) -> dict[str, Any]:
    """The image part, then the video part over it; transformers 5 may keep both in processor_config.json."""
    parts = {}
    for file in ("processor_config", "preprocessor_config", "video_preprocessor_config"):
        path = folder / f"{file}.json"
        parts[file] = read_object(path) if path.is_file() else {}
    both = parts["processor_config"]
    images = both.get("image_processor") or {}
    videos = both.get("video_processor") or {}
    return {**images, **parts["preprocessor_config"], **videos, **parts["video_preprocessor_config"]}


def load_model(
    checkpoint: Checkpoint,
    *,
    dtype: torch.dtype | str | None,
    device: str | torch.device | None,
    device_map: str | dict[str, Any] | None = None,
) -> PreTrainedModel:
    """The host model with its weights, frozen and in eval mode.

    dtype None: the checkpoint's own on CUDA, float32 on the CPU. device None: CUDA where there is one. device_map: as
    in transformers, instead of device. Raises ModelError where files and config do not fit each other exactly.
    """
    if device_map is None:
        device = _device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        device_map = {"": device}
    elif device is not None:
        raise ModelError("say either device or device_map, not both")
    _check_names(checkpoint, weight_shapes(checkpoint.folder))  # before anything large is read
    on_cuda = torch.cuda.is_available() if device is None else torch.device(device).type == "cuda"
    model, info = _from_pretrained(checkpoint, _dtype(dtype, on_cuda), device_map)
    _check_keys(checkpoint, info)
    for name in checkpoint.kind.dropped:
        parent, _, leaf = name.rpartition(".")
        delattr(model.get_submodule(parent), leaf)
    model.eval()
    model.requires_grad_(False)
    return model


def _device(device: str | torch.device) -> torch.device:
    try:
        found = torch.device(device)
    except RuntimeError as e:
        raise ModelError(f"unknown device {device!r}: say cpu, cuda or cuda:N") from e
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ModelError(f"device {device} is not there: this machine has {torch.cuda.device_count()} CUDA cards")
    return found


def _dtype(dtype: torch.dtype | str | None, on_cuda: bool) -> torch.dtype | str:
    if dtype is None:
        return "auto" if on_cuda else torch.float32
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ModelError(f"{dtype!r} is not a floating point type: say bfloat16, float16 or float32")
    return found


def _from_pretrained(checkpoint: Checkpoint, dtype: torch.dtype | str, device_map: Any) -> tuple[Any, dict[str, Any]]:
    import transformers

    host = getattr(transformers, checkpoint.kind.host)
    try:
        model, info = host.from_pretrained(
            checkpoint.folder,
            config=checkpoint.config,
            key_mapping=dict(checkpoint.kind.renames) or None,
            dtype=dtype,
            device_map=device_map,
            attn_implementation="sdpa",
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except torch.OutOfMemoryError as e:
        raise OutOfMemoryError(f"{checkpoint.folder} does not fit: use a smaller dtype or model, or device_map") from e
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, ImportError, SafetensorError) as e:
        raise ModelError(f"{checkpoint.folder} cannot be loaded: {one_line(e)}") from e
    return model, info


def _check_names(checkpoint: Checkpoint, names: Iterable[str]) -> None:
    """Two weights for one place would leave it to their order which of them counts."""
    places: dict[str, str] = {}
    for name in names:
        place = name
        for pattern, new in checkpoint.kind.renames.items():
            place = re.sub(pattern, new, place)
        if place in places:
            raise ModelError(f"{checkpoint.folder}: {places[place]} and {name} are both {place}: leave one of them out")
        places[place] = name


def _check_keys(checkpoint: Checkpoint, info: Mapping[str, Any]) -> None:
    kind = checkpoint.kind
    dropped = tuple(f"{name}." for name in kind.dropped)
    missing = {k for k in info["missing_keys"] if not k.startswith(dropped)}
    unexpected = {k for k in info["unexpected_keys"] if not (k.endswith(RECOMPUTED) or k.startswith(kind.unused))}
    for what, keys in (
        ("missing", missing),
        ("unexpected", unexpected),
        ("of another shape", info["mismatched_keys"]),
    ):
        if keys:
            first = ", ".join(sorted(str(k) for k in keys)[:3])
            raise ModelError(
                f"{checkpoint.folder}: {len(keys)} weights are {what} for its config.json ({kind.family}), "
                f"the first: {first}"
            )


def load_tokenizer(checkpoint: Checkpoint) -> Any:
    """The model's own tokenizer, from its folder alone. Raises ModelError where it has none or it cannot be read."""
    from transformers import AutoTokenizer
    from transformers.utils import logging

    folder = checkpoint.folder
    if not any((folder / f).is_file() for f in ("tokenizer.json", "vocab.json", "tokenizer.model")):
        raise ModelError(f"{folder} has no tokenizer.json: copy the tokenizer's files into it")
    if not any((folder / f).is_file() for f in ("tokenizer.json", "vocab.json")):
        _check_sentencepiece(folder)
    before = logging.get_verbosity()
    logging.set_verbosity_error()  # it warns of a config.json whose model_type it does not know
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as e:  # tokenizers raises a bare Exception for a file it cannot parse
        raise ModelError(f"{folder}: its tokenizer cannot be loaded: {one_line(e)}") from e
    finally:
        logging.set_verbosity(before)


def _check_sentencepiece(folder: Path) -> None:
    """A tokenizer.model alone is turned into a fast tokenizer by transformers, with two packages of its own."""
    needed = {"sentencepiece": "sentencepiece", "google.protobuf": "protobuf"}
    if lacking := [name for module, name in needed.items() if not _is_there(module)]:
        raise ModelError(
            f"{folder} has its tokenizer as tokenizer.model alone, and reading that needs more: "
            f"pip install {' '.join(lacking)}"
        )


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it
        return False
