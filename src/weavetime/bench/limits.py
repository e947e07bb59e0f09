"""What the device itself can do, measured in the same run: the ceilings that every figure is held against."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from ..memory.archive import host_memory


@dataclass(frozen=True)
class Limits:
    """matrix: FLOP/s of a large product in the model's dtype. memory: bytes/s, read plus written, of a large copy.

    upload: bytes/s from pinned host memory to the device (None where they are one).
    """

    matrix: float
    memory: float
    upload: float | None


def synchronise(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(run: Callable[[], Any], device: torch.device, repeats: int = 7) -> float:
    """Median time of a call, the first left out."""
    run()
    times = []
    for _ in range(repeats):
        synchronise(device)
        start = time.perf_counter()
        run()
        synchronise(device)
        times.append(time.perf_counter() - start)
    return median(times)


def measure(device: torch.device) -> Limits:
    """Measure the three."""
    cuda = device.type == "cuda"
    n = 8192 if cuda else 2048
    a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16 if cuda else torch.float32) for _ in range(2))
    out = torch.empty_like(a)
    matrix = 2 * n**3 / seconds(lambda: torch.mm(a, b, out=out), device)
    big = torch.empty(2**32 if cuda else 2**28, dtype=torch.uint8, device=device)
    target = torch.empty_like(big)
    memory = 2 * big.nbytes / seconds(lambda: target.copy_(big), device)
    if not cuda:
        return Limits(matrix, memory, None)
    host = host_memory(2**30, pinned=True)
    upload = host.nbytes / seconds(lambda: target[: host.nbytes].copy_(host, non_blocking=True), device)
    return Limits(matrix, memory, upload)
