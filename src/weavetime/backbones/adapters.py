"""LoRA adapters: found in a folder, a training output or on a hub, checked, then merged into the host's weights."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..config import Record
from ..errors import AdapterError, ModelError
from ..hub import FetchError, fetch, is_remote, one_line
from .identity import fingerprint
from .lora import LoraSettings, place
from .merging import merge, require_peft
from .registry import families
from .weights import read_object

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
FILES = (CONFIG, WEIGHTS, Record.FILE)

# What LoraConfig may say without changing the mathematics here; anything else that is set stops the load.
UNDERSTOOD = frozenset(
    {
        "peft_type",
        "r",
        "lora_alpha",
        "use_rslora",
        "rank_pattern",
        "alpha_pattern",
        "init_lora_weights",
        "bias",
        "task_type",
        "auto_mapping",
        "peft_version",
        "base_model_name_or_path",
        "revision",
        "inference_mode",
        "lora_dropout",
        "runtime_config",
        "target_modules",
        "exclude_modules",
        "modules_to_save",
        "layers_to_transform",
        "layers_pattern",
        "megatron_core",
        "loftq_config",
        "eva_config",
        "qalora_group_size",
    }
)
PLAIN_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")  # the others change the base's weights too


def load_adapter(model: Any, where: str | Path, *, family: str, time_prompts: bool | None) -> Record:
    """Merge a LoRA into `model` in place and return the adapter's record.

    where: a PEFT folder, a training output (its newest `checkpoint-*`), `hf:OWNER/NAME` or `modelscope:OWNER/NAME`.
    family: the model's. time_prompts: whether it was trained with time prompts; needed where the adapter's own
    `weavetime.json` does not say, and over what it says. Raises AdapterError or OutOfMemoryError, and then the model
    is as it was. A tied lm_head that the adapter changes is untied.
    """
    require_peft()
    folder = locate(where)
    record = _record(folder, time_prompts)
    config = read_object(folder / CONFIG, AdapterError)
    settings = _settings(folder, config)
    _check_class(folder, config, family)
    _check_base(folder, record, model)
    try:
        merge(model, place(model, _weights(folder), settings, family))
    except AdapterError as e:
        raise AdapterError(f"{folder}: {e}") from e
    return record


def locate(where: str | Path) -> Path:
    """The folder with the adapter's own files. Raises AdapterError where there is none."""
    if isinstance(where, str) and is_remote(where):
        return _fetch(where)
    folder = Path(where).expanduser()
    if not folder.is_dir():
        hint = (
            f"; on a hub it is hf:{where} or modelscope:{where}"
            if re.fullmatch(r"\w[\w.-]*/[\w.-]+", str(where))
            else ""
        )
        raise AdapterError(f"no adapter at {where}: no such folder{hint}")
    if (folder / CONFIG).is_file():
        return folder
    newest = _newest(folder)
    if newest is None:
        raise AdapterError(f"{folder} holds no {CONFIG} and no checkpoint-*: give the adapter's folder")
    if not (newest / CONFIG).is_file():
        raise AdapterError(
            f"{newest} is the newest checkpoint and holds no {CONFIG}: name an earlier one, or train again"
        )
    return newest


def _newest(folder: Path) -> Path | None:
    """The `checkpoint-N` of the largest N: as numbers, 1000 comes after 900."""
    steps = {int(m[1]): p for p in folder.glob("checkpoint-*") if (m := re.fullmatch(r"checkpoint-(\d+)", p.name))}
    return steps[max(steps)] if steps else None


def _fetch(where: str) -> Path:
    try:
        folder = fetch(where, FILES)
        if (folder / CONFIG).is_file():
            return folder
        newest = _newest(fetch(where, (f"checkpoint-*/{CONFIG}",)))
        if newest is None:
            raise AdapterError(f"{where} holds no {CONFIG} and no checkpoint-*: it is not a PEFT adapter")
        return fetch(where, (*(f"{newest.name}/{f}" for f in FILES), Record.FILE)) / newest.name
    except FetchError as e:
        raise AdapterError(one_line(e)) from e


def _record(folder: Path, time_prompts: bool | None) -> Record:
    """The adapter's record, or that of the training output around its checkpoint; the caller's word comes first."""
    inside = folder.name.startswith("checkpoint-") and not (folder / Record.FILE).is_file()
    try:
        record = Record.read(folder.parent if inside else folder)
    except ModelError as e:
        raise AdapterError(one_line(e)) from e
    if time_prompts is not None:
        return replace(record, time_prompts=time_prompts)
    if not isinstance(record.time_prompts, bool):
        raise AdapterError(
            f"{folder} has no record of time prompts: say time_prompts=True or False (--time-prompts), "
            "as the adapter was trained"
        )
    return record


def _settings(folder: Path, config: dict[str, Any]) -> LoraSettings:
    if config.get("peft_type") != "LORA":
        raise AdapterError(f"{folder} is a {config.get('peft_type')} adapter: only LoRA can be merged")
    odd = sorted(k for k, v in config.items() if v and k not in UNDERSTOOD)
    if config.get("bias", "none") != "none":
        odd.append(f"bias={config['bias']}")
    start = config.get("init_lora_weights")
    if start not in PLAIN_STARTS:
        odd.append(f"init_lora_weights={start}")
    if odd:
        raise AdapterError(
            f"{folder} uses {', '.join(odd)}, not supported: merge it with PEFT and load the merged model"
        )
    try:
        targets = config.get("target_modules")
        narrowed = any(config.get(k) for k in ("exclude_modules", "layers_to_transform"))
        settings = LoraSettings(
            r=int(config["r"]),
            alpha=float(config["lora_alpha"]),
            rslora=bool(config.get("use_rslora", False)),
            rank_pattern={str(k): int(v) for k, v in (config.get("rank_pattern") or {}).items()},
            alpha_pattern={str(k): float(v) for k, v in (config.get("alpha_pattern") or {}).items()},
            targets=tuple(targets) if isinstance(targets, list) and not narrowed else (),
        )
        for pattern in (*settings.rank_pattern, *settings.alpha_pattern):
            re.compile(pattern)
        if min(settings.r, *settings.rank_pattern.values(), 1) < 1:
            raise ValueError("a rank below 1")
    except (KeyError, TypeError, ValueError, AttributeError, re.error) as e:
        raise AdapterError(f"{folder / CONFIG} has no usable r, lora_alpha or patterns: {e!r}") from e
    return settings


def _check_class(folder: Path, config: dict[str, Any], family: str) -> None:
    """Stop an adapter that PEFT recorded as another family's: the language models' keys and shapes can be the same."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as NAMES

    recorded = config.get("auto_mapping")
    name = recorded.get("base_model_class") if isinstance(recorded, dict) else None
    if name in NAMES.values() and name != families()[family].host:
        made_for = next((k.family for k in families().values() if k.host == name), "another family")
        raise AdapterError(f"{folder} was made for {made_for} ({name}), this model is {family}: use one of its own")


def _check_base(folder: Path, record: Record, model: Any) -> None:
    """Stop an adapter whose record names another base: a sibling of the same shapes would take it without a word."""
    if record.base is None:
        return
    found = fingerprint(model)
    if found is not None and found != record.base:
        raise AdapterError(
            f"{folder} was trained on another base ({record.base}, this model is {found}): load the model that it "
            f"was trained on, or take base out of its {Record.FILE}"
        )


def _weights(folder: Path) -> dict[str, Tensor]:
    path = folder / WEIGHTS
    if not path.is_file():
        pickled = (folder / "adapter_model.bin").is_file()
        raise AdapterError(
            f"it has {'only a pickled .bin, which is not read' if pickled else 'no weights'}: {WEIGHTS} is needed"
        )
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as e:
        raise AdapterError(f"{WEIGHTS} is damaged ({one_line(e)}): copy or download it again") from e
    if not weights:
        raise AdapterError(f"{WEIGHTS} is empty: nothing was trained or saved")
    return weights
