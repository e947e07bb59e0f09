"""Train the arms of the ablation, with the same budget each: models that differ in one part of the method.

    PYTHONPATH=src python scripts/arms.py OUT [--cards N] [--per-card N] [--only ARM] [--set KEY=VALUE]

| arm    |                                                          |
| `base` | `mini`'s recipe, no time prompts and no reconstruction   |
| `time` | time prompts, no reconstruction                          |
| `mini` | the recipe as it is                                      |

The budget is the number of pictures seen. A step shows world.streams x world.steps of them; with reconstruction, from
the share world.wait of the steps on, streams told in a wrong order show world.reconstruction as many again. So the arms
without it get that many more steps: of the shipped recipe, 6,000 x (1 + 0.25 x 0.6) = 6,900.

Each arm has a card of its own; where there are fewer, arms wait for one, or share it with --per-card, best with CUDA's
MPS running (`nvidia-cuda-mps-control -d`). An arm that was cut off goes on where it was.
The models come to OUT/ARM and what they say to OUT/ARM.log. Exits with 1 where an arm failed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from ablation_report import table

from weavetime.train.reading import build
from weavetime.train.recipe import Recipe, read_recipe
from weavetime.train.world import WorldTaskSettings
from weavetime.train.world_views import WorldSettings

RECIPE = "mini"
UNTOLD = "world.reconstruction=0"
TIMED, UNTIMED = "time_prompts=true", "time_prompts=false"
ARMS: dict[str, tuple[str, ...]] = {"base": (UNTOLD, UNTIMED), "time": (UNTOLD, TIMED), "mini": (TIMED,)}
EVERY, POLL = 30.0, 0.2  # seconds between two lines of progress, between two looks at the processes
TAIL = 20  # lines of a failed arm's log
LINE = re.compile(r"^step (\d+)/\d+ +loss (\S+)", re.MULTILINE)


def pictures(world: WorldSettings, batches: int) -> int:
    """How many pictures a training of so many batches shows."""
    told = round(world.reconstruction * world.streams * world.steps / world.told) * world.told
    late = sum(i / batches >= world.wait for i in range(batches))
    return batches * world.streams * world.steps + late * told


def steps(recipe: Recipe, arm: str) -> int:
    """Steps after which an arm has seen what the whole recipe shows."""
    world = build(WorldTaskSettings, recipe.sections, recipe.name).world
    each, most = recipe.optimiser.accumulation, recipe.optimiser.max_steps or 0
    if UNTOLD not in ARMS[arm]:
        return most
    return round(pictures(world, most * each) / (world.streams * world.steps * each))


@dataclass
class Training:
    """One arm's process. began: of time.monotonic. seconds: that it took."""

    arm: str
    steps: int
    folder: Path
    log: Path
    process: subprocess.Popen[bytes]
    began: float
    seconds: float = 0.0

    def progress(self) -> str:
        """How far it is."""
        found = LINE.findall(self.log.read_text(errors="replace"))
        at, loss = found[-1] if found else (0, "–")
        return f"{self.arm}: step {at} of {self.steps}, loss {loss}, {time.monotonic() - self.began:.0f} s"

    def losses(self) -> str:
        """The last that were logged."""
        if self.process.returncode:
            return f"failed, exit code {self.process.returncode}"
        history = json.loads((self.folder / "trainer_state.json").read_text())["log_history"]
        last = [entry for entry in history if "loss" in entry][-1]
        return ", ".join(f"{k.removeprefix('loss_')} {v:.3f}" for k, v in last.items() if k.startswith("loss"))


def start(arm: str, card: str, recipe: Recipe, changes: Sequence[str], out: Path) -> Training:
    """Begin an arm on a card, or go on with it."""
    folder, log, needed = out / arm, out / f"{arm}.log", steps(recipe, arm)
    own = [*changes, *ARMS[arm], f"optimiser.max_steps={needed}"]
    command = [sys.executable, "-m", "weavetime", "train", RECIPE, "--output", str(folder)]
    command += [part for change in own for part in ("--set", change)]
    command += ["--resume"] if any(folder.glob("checkpoint-*")) else []
    with log.open("ab") as said:
        process = subprocess.Popen(
            command, env=os.environ | {"CUDA_VISIBLE_DEVICES": card}, stdout=said, stderr=subprocess.STDOUT
        )
    return Training(arm, needed, folder, log, process, time.monotonic())


def carry_out(arms: Sequence[str], cards: Sequence[str], recipe: Recipe, args: argparse.Namespace) -> list[Training]:
    """All arms, as many at once as there are places on cards."""
    waiting, done = list(arms), []
    running: dict[int, Training] = {}
    said = time.monotonic()
    try:
        while waiting or running:
            for place, card in enumerate(cards):
                if waiting and place not in running:
                    running[place] = start(waiting.pop(0), card, recipe, args.change, args.out)
            time.sleep(POLL)
            for place, training in list(running.items()):
                if training.process.poll() is not None:
                    training.seconds = time.monotonic() - training.began
                    done.append(running.pop(place))
            if time.monotonic() - said > EVERY:
                said = time.monotonic()
                print("; ".join(training.progress() for training in running.values()), flush=True)
    finally:
        for training in running.values():
            training.process.terminate()
    return done


def visible(most: int | None) -> list[str]:
    """The cards as CUDA_VISIBLE_DEVICES names them; none is one place, on the CPU."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    cards = named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]
    return cards[:most] or [""]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--cards", type=int, choices=range(1, 65), metavar="N", help="use as many, by default all")
    parser.add_argument(
        "--per-card", type=int, default=1, choices=range(1, 9), metavar="N", help="arms at once on each"
    )
    parser.add_argument("--only", action="append", choices=ARMS, metavar="ARM", help="this arm alone; repeat")
    parser.add_argument("--set", dest="change", action="append", default=[], metavar="KEY=VALUE", help="of the recipe")
    args = parser.parse_args()
    recipe = read_recipe(RECIPE, args.change)
    args.out.mkdir(parents=True, exist_ok=True)
    done = carry_out(args.only or list(ARMS), visible(args.cards) * args.per_card, recipe, args)
    print(
        table(
            ("arm", "steps", "seconds", "last losses"), [(t.arm, t.steps, f"{t.seconds:.0f}", t.losses()) for t in done]
        )
    )
    failed = [training for training in done if training.process.returncode]
    for training in failed:
        tail = training.log.read_text(errors="replace").splitlines()[-TAIL:]
        print(f"\n{training.log}:", *tail, sep="\n", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
