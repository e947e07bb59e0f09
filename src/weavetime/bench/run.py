"""Measure an engine: encoding, first token, decoding, memory; each figure beside the device's limit."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

import torch
import transformers

from ..config import Decoding
from ..focus import ReKV, WeaveTime, Window
from ..loading import Engine
from ..memory import Memory
from ..stream import Stream
from ..types import Frame
from .limits import Limits, measure, seconds, synchronise
from .shapes import make
from .star import star_rows

QUESTION = "what was on the table before the red cup came and where did it stand then ? " * 2
FRAME = (360, 640)


@dataclass(frozen=True)
class Setting:
    """One run. blocks: history before questions are asked. k: blocks recalled.

    Where a model's positions hold fewer, window and k are as many as fit with an eighth left for text.
    """

    shape: str = "mini"
    device: str | None = None
    window: int = 80
    k: int = 64
    blocks: int = 1024
    calls: tuple[int, ...] = (1, 4, 16)
    questions: int = 5
    tokens: int = 64
    time_prompts: bool = False


@dataclass(frozen=True)
class Row:
    """One figure. limit: what the device's ceilings allow for it; ratio: how near it is (1 is the limit)."""

    name: str
    value: float
    unit: str
    limit: float | None = None

    @property
    def ratio(self) -> float | None:
        """value / limit where more is better, limit / value where less is."""
        if self.limit is None:
            return None
        return self.value / self.limit if self.unit.endswith("/s") else self.limit / self.value


class Feed:
    """Endless pictures at one a second, made on the device beforehand: decoding is not what is measured here."""

    def __init__(self, device: torch.device, kinds: int = 32) -> None:
        self._pictures = torch.randint(0, 256, (kinds, *FRAME, 3), dtype=torch.uint8, device=device)
        self._time = 0

    def take(self, count: int) -> list[Frame]:
        """The next `count` frames."""
        frames = [
            Frame(self._pictures[(self._time + i) % len(self._pictures)], float(self._time + i)) for i in range(count)
        ]
        self._time += count
        return frames


class Costs:
    """Operations and bytes that the work itself needs, from the model's sizes: the floor under every time."""

    def __init__(self, engine: Engine, memory: Memory, window: int) -> None:
        backbone, layout = engine.backbone, memory.table.layouts[-1]
        self.tokens, self.cells = layout.tokens, memory.cells
        decoder, vision = backbone.decoder, backbone.vision
        self.text = _count(decoder.layers)
        head = backbone.model.lm_head.weight.numel()
        self.weights = (self.text + head) * self.cells.dtype.itemsize
        attended = self.tokens * (window + 0.5) + memory.sink.tokens
        per_pair = 4 * backbone.heads * backbone.head_dim * self.cells.layers
        patches = _patches(engine)
        self.step = 2 * self.text * self.tokens + per_pair * attended * self.tokens + 2 * _count(vision) * patches

    def blocks(self, count: int) -> int:
        """Bytes of so many blocks."""
        return count * self.tokens * self.cells.token_bytes


def _count(module: Any) -> int:
    return sum(p.numel() for p in module.parameters())


def _patches(engine: Engine) -> int:
    grid = engine.backbone.grid(*FRAME)
    patch = engine.backbone.model.config.vision_config.patch_size
    return (grid.height // patch) * (grid.width // patch)


def bench(setting: Setting, say: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Run everything; returns plain values for JSON: setting, versions, limits, rows."""
    device = torch.device(setting.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    say("measuring the device's limits")
    limits = measure(device)
    gc.collect()  # an engine of an earlier run would count into the peak
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    say(f"making {setting.shape}")
    engine = make(setting.shape, device, time_prompts=setting.time_prompts)
    setting = fitted(engine, setting)
    rows = list(_rows(engine, device, setting, limits, say))
    return {
        "setting": asdict(setting),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "limits": asdict(limits),
        "rows": [{**asdict(row), "ratio": row.ratio} for row in rows],
    }


def fitted(engine: Engine, setting: Setting) -> Setting:
    """With a window and a k that fit the model's positions."""
    most = max(1, engine.backbone.largest_window(engine.backbone.grid(*FRAME), 1 / 8))
    return replace(setting, window=min(setting.window, most), k=min(setting.k, most))


def _rows(
    engine: Engine, device: torch.device, setting: Setting, limits: Limits, say: Callable[[str], None]
) -> Iterator[Row]:
    feed = Feed(device)
    stream = engine.stream(window=setting.window, fps=1.0, batch=max(setting.calls))
    say("filling the window")
    stream.feed(feed.take((setting.window + max(setting.calls)) * engine.backbone.frames_per_step))
    costs = Costs(engine, stream.memory, setting.window)
    limit = engine.backbone.frames_per_step * limits.matrix / costs.step
    yield Row("vision", 16 / seconds(_vision(engine, feed.take(16)), device), "frames/s")
    for call in setting.calls:
        say(f"encoding, {call} a call")
        rate = encode_rate(stream, feed, call, device)
        yield Row(f"encode, {call} a call", rate, "frames/s", limit)
    say(f"filling to {setting.blocks} blocks")
    while len(stream) < setting.blocks:
        stream.feed(feed.take(min(64, setting.blocks - len(stream))))
    say("asking")
    yield from _questions(stream, setting, limits, costs)
    yield from _memory(stream, device)
    yield from star_rows(engine, setting, device, QUESTION)


def _vision(engine: Engine, frames: list[Frame]) -> Callable[[], Any]:
    grid = engine.backbone.grid(*FRAME)

    def run() -> None:
        with torch.inference_mode():
            engine.backbone.embed(frames, grid)

    return run


def encode_rate(stream: Stream, feed: Feed, call: int, device: torch.device) -> float:
    """Frames a second, `call` of them at a time."""

    def run() -> None:
        for frame in _chunks(feed.take(max(call, 16)), call):
            stream.feed(frame)

    return max(call, 16) / seconds(run, device, repeats=5)


def _chunks(frames: list[Frame], size: int) -> Iterator[list[Frame]]:
    for start in range(0, len(frames), size):
        yield frames[start : start + size]


def _questions(stream: Stream, setting: Setting, limits: Limits, costs: Costs) -> Iterator[Row]:
    memory, weights = stream.memory, costs.weights / limits.memory
    one, many = Decoding(max_tokens=1), Decoding(max_tokens=setting.tokens)
    always, rekv = WeaveTime(k=setting.k, delta=0.0), ReKV(k=setting.k)

    def ask(mode: Any, decoding: Decoding, *, cold: bool = False) -> float:
        if cold:
            memory.forget()
        synchronise(memory.cells.devices[0])
        start = time.perf_counter()
        answer = stream.ask(QUESTION, mode=mode, decoding=decoding)
        assert answer.recalled != isinstance(mode, Window)
        return time.perf_counter() - start

    def typical(mode: Any, decoding: Decoding, *, cold: bool = False) -> float:
        ask(mode, decoding, cold=cold)
        return median(ask(mode, decoding, cold=cold) for _ in range(setting.questions))

    present = typical(Window(), one)
    yield Row("first token, present only", present * 1e3, "ms", weights * 1e3)
    travels = costs.blocks(3 * setting.k) / 2 + costs.blocks(setting.k) / 2
    upload = travels / limits.upload if limits.upload else 0.0
    yield Row("first token, recall cold", typical(always, one, cold=True) * 1e3, "ms", (2 * weights + upload) * 1e3)
    yield Row("first token, recall warm", typical(always, one) * 1e3, "ms", 2 * weights * 1e3)
    fetch = costs.blocks(setting.k) / limits.upload if limits.upload else 0.0
    yield Row("first token, rekv cold", typical(rekv, one, cold=True) * 1e3, "ms", (2 * weights + fetch) * 1e3)
    yield Row("first token, rekv warm", typical(rekv, one) * 1e3, "ms", 2 * weights * 1e3)
    read = costs.weights + costs.blocks(setting.window)
    whole = typical(Window(), many)
    spoken = len(stream.ask(QUESTION, mode=Window(), decoding=many).tokens)
    if spoken > 1:
        yield Row("decode", (whole - present) / (spoken - 1) * 1e3, "ms/token", read / limits.memory * 1e3)


def _memory(stream: Stream, device: torch.device) -> Iterator[Row]:
    memory = stream.memory
    archived = memory.archive.nbytes / memory.archive.stop
    layout = memory.table.layouts[-1]
    yield Row("archive", archived / 1e6, "MB/block", layout.tokens * memory.cells.token_bytes / 1e6)
    for tier, size in memory.tiers.items():
        yield Row(f"held: {tier}", size / 2**30, "GiB")
    if device.type == "cuda":
        yield Row("peak GPU", torch.cuda.max_memory_allocated(device) / 2**30, "GiB")
