"""`weavetime demo`: offline, every question in every mode, and no promise that untrained weights cannot keep."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable

from cli_process import DEMO, Ran

import weavetime as wt

Run = Callable[..., Ran]


def test_the_demo_shows_every_question_in_every_mode_and_the_memory(run: Run) -> None:
    plan = json.loads(DEMO.with_suffix(".json").read_text())
    begun = time.monotonic()
    ran = run("demo")
    assert (ran.code, ran.err) == (0, "")
    assert time.monotonic() - begun < 100  # 60 s on two free cores
    answers = [line for line in ran.out.splitlines() if re.match(r" +(weavetime|rekv|window) +[✓✗] \(", line)]
    assert len(answers) == 3 * len(plan["questions"])
    for question in plan["questions"]:
        assert f"at {question['at']} s  {question['question']}" in ran.out
    trained = wt.load("mini").record.trained is True
    assert all(("untrained" in line) is not trained for line in answers)
    assert all(re.search(r"(recalled|present) \d+", line) for line in answers)
    assert all(re.search(r"\d(\.\d\d)? (s|ms)$", line) for line in answers)
    tiers = [line.split()[0] for line in ran.out.splitlines() if re.search(r"\d (B|KB|MB|GB)\b", line)]
    assert {"sink", "window", "archive", "index", "cache", "in"} <= set(tiers)
    for word in ("…", "Traceback"):
        assert word not in "\n".join(answers).replace(", … s", "")
