"""STAR beside our memory, on the same backbone: how fast frames go in, how soon an answer begins, what is held."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median
from typing import TYPE_CHECKING

import torch

from ..config import Decoding
from ..loading import Engine
from ..stream import Stream
from .limits import synchronise

if TYPE_CHECKING:
    from .run import Feed, Row, Setting

FRAMES = 64  # enough for every tensor of the state to have its final size


def star_rows(engine: Engine, setting: Setting, device: torch.device, question: str) -> Iterator[Row]:
    """Figures of `star` and `star-fixed`, where the family has STAR: frames/s, ms to the first token, bytes.

    A first token is `new` where frames came since the last question, so that STAR's tokens are encoded for it, and
    `again` where none did.
    """
    from .run import Feed, Row, encode_rate

    if engine.backbone.star is None:
        return
    for memory in ("star", "star-fixed"):
        stream, feed = engine.stream(memory=memory, batch=max(setting.calls)), Feed(device)
        stream.feed(feed.take(FRAMES))
        for call in setting.calls:
            yield Row(f"{memory}: encode, {call} a call", encode_rate(stream, feed, call, device), "frames/s")
        for name, value in _first_tokens(stream, feed, setting, device, question):
            yield Row(f"{memory}: first token, {name}", value * 1e3, "ms")
        for tier in ("star", "encoded"):
            yield Row(f"{memory}: held: {tier}", stream.memory.tiers[tier] / 2**30, "GiB")


def _first_tokens(
    stream: Stream, feed: Feed, setting: Setting, device: torch.device, question: str
) -> Iterator[tuple[str, float]]:
    def ask() -> float:
        synchronise(device)
        start = time.perf_counter()
        stream.ask(question, decoding=Decoding(max_tokens=1))
        return time.perf_counter() - start

    new = []
    for _ in range(setting.questions + 1):  # the first is left out
        stream.feed(feed.take(1))
        new.append(ask())
    yield "new", median(new[1:])
    yield "again", median(ask() for _ in range(setting.questions))
