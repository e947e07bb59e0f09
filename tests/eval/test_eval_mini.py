"""The weights that ship: what they can do in StreamWorld does not get lost.

ACCURACY was measured on 2026-11-30, on a CPU, by this command without and with --open:

    weavetime eval streamworld --mode weavetime --window 16 --seed 2000000000 --limit 300 --steps 48 \
        --questions-per-stream 30 --since 0.25
"""

from __future__ import annotations

from math import sqrt
from pathlib import Path

import pytest
import torch

import weavetime as wt
from weavetime.config import StreamConfig
from weavetime.eval import Run, measure
from weavetime.eval.benchmarks.streamworld import StreamWorld
from weavetime.world import NOW

ACCURACY = {False: 0.973, True: 0.883}
NOW_LEAST = 0.90


@pytest.mark.parametrize("answers", [False, True], ids=["options", "open"])
def test_mini_answers_as_it_did(answers: bool) -> None:
    torch.set_num_threads(1)
    world = StreamWorld(seed=2 * 10**9, limit=300, steps=48, per_stream=30, since=0.25, open=answers)
    with wt.load("mini", device="cpu") as engine:
        rows = list(measure(engine, Run(world, Path(), world.examples(), StreamConfig(window=16, batch=64))))
    assert len(rows) == world.limit
    error = sqrt(ACCURACY[answers] * (1 - ACCURACY[answers]) / len(rows))
    assert sum(row.right for row in rows) / len(rows) >= ACCURACY[answers] - 3 * error
    names = {family.__name__ for family in NOW}
    now = [row.right for row in rows if row.task in names]
    assert sum(now) / len(now) >= NOW_LEAST
