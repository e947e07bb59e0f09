"""A model ready to remember streams, and how it is loaded."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from .backbones import Backbone, build, families
from .config import Record, StreamConfig
from .engine import Runner
from .errors import StreamError
from .stream import Stream

SMALL = 50_000_000  # parameters


class Engine:
    """A loaded model. One engine serves any number of streams, from any number of threads."""

    def __init__(self, backbone: Backbone, record: Record | None = None) -> None:
        self.record = record or Record()
        self.runner = Runner(backbone)

    @property
    def backbone(self) -> Backbone:
        """The model and its family."""
        return self.runner.backbone

    def stream(self, config: StreamConfig | None = None, **settings: Any) -> Stream:
        """Open a stream. Settings are the fields of StreamConfig: window, fps, batch, cache, index_pages, visual_only,
        memory, star_seed.

        The window defaults to the model's own record, else 80 blocks, or as many as the model's positions hold with
        room for a question; None never evicts.
        """
        if unknown := set(settings) - {f.name for f in fields(StreamConfig)}:
            known = ", ".join(f.name for f in fields(StreamConfig))
            raise StreamError(f"unknown setting {', '.join(sorted(unknown))}: a stream takes {known}")
        if config is None:
            window = self.backbone.default_window if self.record.window is None else self.record.window
            config = StreamConfig(window=window)
        config = replace(config, **settings)
        _check(config)
        return Stream(self.runner, config, self.record)

    def close(self) -> None:
        """Let go of the model: its streams can no longer be fed or asked."""
        self.runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _check(config: StreamConfig) -> None:
    if config.window is not None and not (isinstance(config.window, int) and config.window >= 1):
        raise StreamError(f"a window holds at least 1 block, got {config.window} (None never evicts)")
    if not (config.fps > 0 and math.isfinite(config.fps)):
        raise StreamError(f"fps must be more than 0, got {config.fps}")
    cache = 0 if config.cache is None else config.cache
    for name, value, least in (("batch", config.batch, 1), ("cache", cache, 0), ("index_pages", config.index_pages, 0)):
        if not (isinstance(value, int) and value >= least):
            raise StreamError(f"{name} must be a whole number from {least}, got {value!r}")
    if config.memory not in StreamConfig.MEMORIES:
        raise StreamError(f"memory is one of {', '.join(StreamConfig.MEMORIES)}, got {config.memory!r}")
    if not (isinstance(config.star_seed, int) and config.star_seed >= 0):
        raise StreamError(f"star_seed must be a whole number from 0, got {config.star_seed!r}")


def few_threads(engine: Engine) -> bool:
    """Whether a model runs on the CPU and is so small that its operations are too short to share among threads."""
    parameters = list(engine.backbone.model.parameters())
    return sum(p.numel() for p in parameters) < SMALL and all(p.device.type == "cpu" for p in parameters)


def load(
    model: str | Path,
    *,
    adapter: str | Path | None = None,
    time_prompts: bool | None = None,
    dtype: torch.dtype | str | None = None,
    device: str | torch.device | None = None,
    device_map: str | dict[str, Any] | None = None,
    max_pixels: int | None = None,
) -> Engine:
    """Load a model: `mini`, a folder, a hub id (OWNER/NAME), or modelscope:OWNER/NAME.

    adapter: a LoRA to merge (folder, training output, hf:ID, modelscope:ID). time_prompts: on for models tuned with
    them; default the model's or adapter's own record, else off. dtype, device, device_map: as in transformers; by
    default the checkpoint's dtype on CUDA where there is a card, float32 on the CPU. max_pixels: largest frame, for
    families with native resolution. Raises ModelError, AdapterError.
    """
    from .backbones.adapters import load_adapter
    from .backbones.checkpoints import load_model, load_tokenizer, open_checkpoint

    checkpoint = open_checkpoint(model, families())
    if max_pixels is not None:
        checkpoint = replace(checkpoint, preprocessor={**checkpoint.preprocessor, "frame_pixels": max_pixels})
    host = load_model(checkpoint, dtype=dtype, device=device, device_map=device_map)
    record = checkpoint.record
    if adapter is not None:
        record = record.over(load_adapter(host, adapter, family=checkpoint.family, time_prompts=time_prompts))
    prompts = record.time_prompts if time_prompts is None else time_prompts
    return Engine(build(host, load_tokenizer(checkpoint), checkpoint, time_prompts=bool(prompts)), record)
