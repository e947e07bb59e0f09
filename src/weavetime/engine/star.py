"""STAR's way of a frame and of a question: features into its memory, and its tokens as what a view shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from ..backbones import Grid
from ..config import StreamConfig
from ..errors import CapacityError, ModeError, ModelError, NumericsError, QuestionError, StreamError
from ..focus import Mode
from ..memory import Past, Provisional, StarMemory
from ..ops import BlockLayout, text_positions
from ..types import Choice, Frame

if TYPE_CHECKING:
    from .runner import Runner

MODES = ("weavetime", "blind")


def star_memory(runner: Runner, config: StreamConfig) -> StarMemory:
    """An empty memory for one stream. Raises ModelError or StreamError where the model's streams cannot have it."""
    backbone = runner.backbone
    if backbone.star is None:
        raise ModelError(
            f"memory={config.memory!r} is Flash-VStream's own, and this model is {backbone.family}: use memory='blocks'"
        )
    if backbone.time_prompts:
        raise StreamError(
            f"memory={config.memory!r} keeps no steps that could carry time prompts: load the model with "
            "time_prompts=False, or use memory='blocks'"
        )
    return StarMemory(runner.cells, runner.sink, backbone.rotary, config, backbone.star.star_sizes)


def observe(runner: Runner, memory: StarMemory, frames: Sequence[Frame], grid: Grid) -> None:
    """Put frames into the memory: all of them or, on any error, none."""
    with runner.reading():
        source = runner.backbone.star
        assert source is not None
        features = source.unprojected(frames, grid)
        if not bool(torch.isfinite(features).all()):
            raise NumericsError("the vision tower produced values that are not finite, so nothing was kept")
        fps = memory.config.fps
        memory.add(features, [(f.time, f.time + 1 / fps if f.until is None else f.until) for f in frames])


def recollect(runner: Runner, memory: StarMemory, at: float | None, mode: Mode) -> Past:
    """What a question reads: one block that holds STAR's tokens, encoded behind the sink; for `blind` none.

    Raises QuestionError where the time asked about is past or there is no frame, ModeError for other modes.
    """
    check_mode(memory.config, mode)
    past = memory.index(at)
    if mode.name == "blind":
        return past
    if memory.star is None:
        raise QuestionError("there is no frame yet: feed the stream first, or ask with mode='blind'")
    if memory.encoded is None:
        memory.encoded = _encoded(runner, memory)
    return past.joined(memory.encoded)


def check_mode(config: StreamConfig, mode: Mode) -> None:
    """Refuse a mode that needs blocks on a stream that has none. Raises ModeError."""
    if config.memory != "blocks" and mode.name not in MODES:
        raise ModeError(
            f"mode {mode.name} chooses among blocks, and memory={config.memory!r} has none: use "
            f"{' or '.join(MODES)}, or memory='blocks'"
        )


def _encoded(runner: Runner, memory: StarMemory) -> Provisional:
    source, star = runner.backbone.star, memory.star
    assert source is not None
    assert star is not None
    assert memory.newest is not None
    tokens = source.project(star.tokens())
    count, most = memory.sink.tokens + len(tokens), runner.backbone.max_positions
    if count >= most:
        raise CapacityError(f"STAR's {len(tokens)} tokens and the prompt's start take {count} of {most} positions")
    layout = BlockLayout(text_positions(0, len(tokens), 1), slice(0, len(tokens)), (True,), len(tokens))
    placed = memory.place([layout], [memory.newest], memory.sink.tokens)
    view = memory.view(Choice.same((), memory.cells.layers))
    plan = runner.aside(view, placed.positions, tokens[None])
    return Provisional(0, memory.newest, layout, plan.keys, plan.values, (), memory.shown)
