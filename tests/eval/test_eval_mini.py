"""The weights that ship: what they can do in StreamWorld does not get lost.

ACCURACY was measured on 2026-11-26, on a CPU, by

    weavetime eval streamworld --mode weavetime --open --window 16 --seed 2000000000 --limit 300 --steps 48 \
        --questions-per-stream 30 --since 0.25
"""

from __future__ import annotations

from math import sqrt

import torch

import weavetime as wt
from weavetime.eval.streamworld import Settings, run
from weavetime.world import NOW

SETTINGS = Settings(window=16, seed=2 * 10**9, limit=300, steps=48, per_stream=30, since=0.25, open=True)
ACCURACY = 0.710
NOW_LEAST = 0.90


def test_mini_answers_as_it_did() -> None:
    torch.set_num_threads(1)
    with wt.load("mini", device="cpu") as engine:
        rows = list(run(engine, SETTINGS))
    assert len(rows) == SETTINGS.limit
    error = sqrt(ACCURACY * (1 - ACCURACY) / len(rows))
    assert sum(row.right for row in rows) / len(rows) >= ACCURACY - 3 * error
    names = {family.__name__ for family in NOW}
    now = [row.right for row in rows if row.family in names]
    assert sum(now) / len(now) >= NOW_LEAST
