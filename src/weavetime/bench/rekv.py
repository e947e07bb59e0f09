"""ReKV's published efficiency run: an hour at 0.5 fps, 100 questions spread over it, 64-token questions and 128-token
answers, 64 blocks recalled, a 15 K-token window."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch

from ..config import Decoding
from ..focus import ReKV
from ..types import Frame
from .limits import synchronise
from .run import FRAME, Feed, Setting, fitted
from .shapes import make


@dataclass(frozen=True)
class Protocol:
    """The run's sizes. Where a model's positions hold fewer, window and k are as many blocks as fit them."""

    shape: str = "llava-onevision-7b"
    device: str | None = None
    frames: int = 1800
    fps: float = 0.5
    questions: int = 100
    question_tokens: int = 64
    answer_tokens: int = 128
    k: int = 64
    window_tokens: int = 15000


def rekv_protocol(setting: Protocol, say: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Run it; plain values for JSON. Encoding and answering are timed apart."""
    device = torch.device(setting.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    engine = make(setting.shape, device, time_prompts=False)
    tokens = engine.backbone.grid(*FRAME).tokens
    fit = fitted(engine, Setting(window=setting.window_tokens // tokens, k=setting.k))
    stream = engine.stream(window=fit.window, fps=setting.fps)
    words = engine.backbone.encode("what " * setting.question_tokens)[: setting.question_tokens]
    question = engine.backbone.tokenizer.decode(words)
    feed, fed, encode, answers, first = Feed(device), 0, 0.0, [], []
    decoding = Decoding(max_tokens=setting.answer_tokens)
    for number in range(setting.questions):
        upto = (number + 1) * setting.frames // setting.questions
        frames = [Frame(f.pixels, f.time / setting.fps) for f in feed.take(upto - fed)]
        fed = upto
        synchronise(device)
        start = time.perf_counter()
        stream.feed(frames)
        synchronise(device)
        encode += time.perf_counter() - start
        answer = stream.ask(question, mode=ReKV(k=fit.k), decoding=decoding)
        answers.append(answer.timings["total"])
        first.append(answer.timings["first_token"])
        say(f"question {number + 1} of {setting.questions} at {stream.now:.0f} s: {answers[-1]:.2f} s")
    memory = stream.memory
    return {
        "setting": {**asdict(setting), "window": fit.window, "k": fit.k},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "encode_fps": fed / encode,
        "answer_s": median(answers),
        "first_token_s": median(first),
        "host_gb": memory.archive.nbytes / 1e9,
        "peak_gpu_gib": torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None,
    }
