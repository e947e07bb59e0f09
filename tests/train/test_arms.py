"""The ablation's arms: each sees as many pictures, is trained by its own process, and a failed one is told."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import weavetime as wt
from weavetime.config import Record
from weavetime.train.recipe import read_recipe
from weavetime.train.world_views import WorldSettings
from weavetime.train.worlds import WorldData, WorldMaker

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

from arms import ARMS, pictures, steps  # noqa: E402

SMALL = (
    "run.workers=0",
    "run.log_every=1",
    "run.report_to=none",
    "run.evaluate_every=null",
    "optimiser.max_steps=2",
    "world.streams=2",
    "world.steps=8",
    "world.told=8",
    "world.questions=3",
    "world.cut=1",
    "world.reconstruction=1",
    "window=3",
)


def run(out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPTS / "arms.py"), str(out), *(f"--set={change}" for change in SMALL), *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=200)


def test_pictures_are_those_of_the_batches() -> None:
    world = WorldSettings(streams=3, steps=16, questions=1, told=8, reconstruction=0.5)
    data = WorldData(WorldMaker(wt.load("mini").backbone, world, 4, "test"), 5)
    shown = sum(part.canvas.shape[0] * part.canvas.shape[1] for i in range(5) for part in data[i])
    assert pictures(world, 5) == shown > 5 * 48


def test_every_arm_has_the_same_budget() -> None:
    recipe = read_recipe("mini")
    most = recipe.optimiser.max_steps or 0
    found = {arm: steps(recipe, arm) for arm in ARMS}
    assert found["mini"] == most
    assert found["base"] == found["time"] > most
    world = WorldSettings(**recipe.sections["world"])
    untold = pictures(replace(world, reconstruction=0.0), found["time"])
    assert untold == pytest.approx(pictures(world, most), rel=1e-3)


def test_arms_are_trained(tmp_path: Path) -> None:
    done = run(tmp_path, "--only=base", "--only=mini", "--per-card=2")
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in done.stdout.splitlines() if line[:1] == "|"]
    assert rows == [["arm", "steps"], ["---", "--:"], ["base", "3"], ["mini", "2"]]
    assert [Record.read(tmp_path / arm).time_prompts for arm in ("base", "mini")] == [False, True]


def test_a_failed_arm_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    done = run(tmp_path, "--only=time", "--set=optimiser.batch=2")
    assert done.returncode == 1
    assert "| time | 3 |" in done.stdout
    assert "optimiser.batch 1" in done.stderr
