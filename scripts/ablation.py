"""What each part of the method brings, measured in StreamWorld: models without and with a part, modes, settings.

    python scripts/ablation.py run FOLDER --arm base=MODEL --arm time=MODEL --arm mini=mini [--k K --coarse C]
        [--per-card N]
    python scripts/ablation.py report FOLDER [--delta D]     # writes docs/ablation.md and its plots, prints a table

`run` starts some processes for each CUDA card, as one answer of a small model leaves most of a card idle; with CUDA's
MPS running (`nvidia-cuda-mps-control -d`) they share a card at once, not in turns. Without a card, one for each core.
A run that was cut goes on where it was, on any number of either. Every arm answers in the modes weavetime, rekv and
window; the last arm also in all the others. scripts/arms.py trains the arms.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from ablation_report import by_length, load, report

import weavetime as wt
from weavetime.eval import Row, RowFile, Run, measure
from weavetime.eval.asking import ORACLE
from weavetime.eval.benchmarks.streamworld import StreamWorld
from weavetime.eval.run import groups
from weavetime.world import FAMILIES, NOW

WINDOW, LENGTHS, LONG = 16, (16, 256, 4096), 2048  # steps; of LONG at least half are visible
PER_STREAM = {16: 16, 256: 32, LONG: 64, 4096: 64}
SHARDS = 16  # files of a measurement, so that many processes share it; others would not fit a run that was cut
ANSWER, FRAME = 0.035, 0.001  # expected seconds of an answer, of a frame fed
K = 64
PAST = tuple(f for f in FAMILIES if f not in {n.__name__ for n in NOW})
OPEN = tuple(f for f in FAMILIES if f != "when")  # a time to the second is no short answer
MAIN: tuple[str | wt.Mode, ...] = (wt.WeaveTime(delta=0), wt.ReKV(k=K), "window")
SIZES, CANDIDATES = (4, 8, 16, 32, K), (3 * K, 16 * K)  # blocks recalled, and those scored finely
RIVALS = ("recent:4", "uniform:64", "blind", ORACLE)
EVERY = 30.0  # seconds between two lines of progress


@dataclass(frozen=True)
class Job:
    """Some questions for one arm: a shard is a file of rows."""

    arm: str
    name: str
    shard: int
    world: StreamWorld
    config: wt.StreamConfig
    modes: tuple[str | wt.Mode, ...]

    def path(self, folder: Path) -> Path:
        """Where its rows are."""
        return folder / self.arm / f"{self.name}.{self.shard}.jsonl"

    @property
    def cost(self) -> float:
        """Expected seconds."""
        w = self.world
        return w.limit * len(self.modes) * ANSWER + -(-w.limit // w.per_stream) * w.steps * FRAME

    @property
    def run(self) -> Run:
        """What is asked."""
        return Run(self.world, Path(), self.world.examples(), self.config, self.modes)


def jobs(
    arms: Sequence[str], lengths: Sequence[int], main: int, rest: int, long: int, *, answers: bool = False
) -> Iterator[Job]:
    """All that is measured; the last arm is the whole method, in every mode. answers: short ones, not options."""
    config, world = wt.StreamConfig(window=WINDOW, batch=256), StreamWorld(since=0.5)
    past = PAST
    if answers:
        world, past = replace(world, families=OPEN, open=True), tuple(f for f in PAST if f in OPEN)
    for arm in arms:
        found = [(f"main-{steps}", main, replace(world, steps=steps), config, MAIN) for steps in lengths]
        if arm == arms[-1]:
            found += [(f"rivals-{s}", rest, replace(world, steps=s), config, RIVALS) for s in lengths]
            endless = replace(config, window=None)
            found += [(f"full-{s}", rest, replace(world, steps=s), endless, ("full",)) for s in lengths[:-1]]
            middle = replace(world, steps=lengths[len(lengths) // 2])
            found.append((f"new-{middle.steps}", rest, replace(middle, split="new"), config, MAIN))
            if not answers:
                found.append((f"open-{middle.steps}", rest, replace(middle, families=OPEN, open=True), config, MAIN))
            choosing = tuple(wt.WeaveTime(k=K, delta=0, coarse=c) for c in sorted({1, 3, max(3, -(-long // K))}))
            about_past, modes = replace(world, steps=long, families=past), (*choosing, wt.ReKV(k=K))
            for visual in (False, True):
                name = f"retrieval-{long}{'-visual' if visual else ''}"
                found.append((name, rest, about_past, replace(config, visual_only=visual), modes))
            sizes = tuple(wt.WeaveTime(k=k, delta=0, coarse=n // k) for n in CANDIDATES for k in SIZES)
            found.append((f"retrieval-{lengths[-1]}-k", rest, replace(about_past, steps=lengths[-1]), config, sizes))
        for name, n, asked, stream, modes in found:
            for shard in range(min(n, SHARDS)):
                limit = n // SHARDS + (shard < n % SHARDS)
                per_stream = min(limit, PER_STREAM.get(asked.steps, 32))
                own = replace(asked, limit=limit, per_stream=per_stream, seed=10_000 * shard)
                yield Job(arm, name, shard, own, stream, modes)


def shares(every: Iterable[Job], of: int) -> list[list[Job]]:
    """Jobs for `of` processes, the longest first, each to the process that has least to do until then."""
    found: list[list[Job]] = [[] for _ in range(of)]
    costs = [0.0] * of
    for job in sorted(every, key=lambda job: -job.cost):
        least = costs.index(min(costs))
        found[least].append(job)
        costs[least] += job.cost
    return found


def carry_out(engine: wt.Engine, job: Job, folder: Path) -> None:
    """Answer what is missing of a job."""
    run = job.run
    with RowFile(job.path(folder), run.head(engine)) as file:
        done = {Row.of(row).key for row in file.rows}
        missing = sum(len(group.missing) for group in groups(run, done))
        start = said = time.monotonic()
        for count, row in enumerate(measure(engine, run, done=done), 1):
            file.add(row.to_dict())
            if time.monotonic() - said > EVERY or count == missing:
                said = time.monotonic()
                togo = (said - start) / count * (missing - count)
                print(f"{job.arm} {job.name}.{job.shard}: {count} of {missing} rows, {togo:.0f} s left", flush=True)


def work(args: argparse.Namespace, arms: dict[str, str]) -> None:
    """The share of the jobs that this process has."""
    mine, of = map(int, args.share.split("/"))
    torch.set_num_threads(1)  # a small model's operations are too short to share
    share = shares(jobs(list(arms), args.lengths, args.main, args.rest, args.long, answers=args.open), of)[mine]
    for arm, model in arms.items():
        todo = [job for job in share if job.arm == arm]
        if not todo:
            continue
        with wt.load(model, device=args.device) as engine:
            if args.k is not None:
                engine.record = replace(engine.record, k=args.k, coarse=args.coarse)
            layers = engine.backbone.decoder.config.num_hidden_layers
            about = {"model": model, "layers": layers, "device": card(args.device)}
            (args.folder / arm).mkdir(parents=True, exist_ok=True)
            (args.folder / arm / "about.json").write_text(json.dumps(about))
            for job in todo:
                carry_out(engine, job, args.folder)


def card(device: str) -> str:
    """The device in words."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.processor() or "CPU"


def start(args: argparse.Namespace) -> int:
    """Processes for each card, else for each core, each with a share of the jobs."""
    arms = dict(arm.split("=", 1) for arm in args.arm)
    args.folder.mkdir(parents=True, exist_ok=True)
    cards = torch.cuda.device_count()
    if args.share is not None:
        args.device = args.device or "cpu"
        work(args, arms)
        return 0
    own = [sys.executable, *sys.argv]
    cpus = ["cpu"] * torch.get_num_threads()
    places = [f"cuda:{i % cards}" for i in range(cards * args.per_card)] or cpus
    shared = [["--share", f"{i}/{len(places)}", "--device", place] for i, place in enumerate(places)]
    children = [subprocess.Popen([*own, *share], env=os.environ | {"OMP_NUM_THREADS": "1"}) for share in shared]
    codes = [child.wait() for child in children]
    if any(codes):
        return 1
    said = {"command": shlex.join(["python", *sys.argv]), "date": time.strftime("%Y-%m-%d")}
    versions = {"torch": torch.__version__, "weavetime": wt.__version__}
    (args.folder / "run.json").write_text(json.dumps({**said, **versions, "cards": cards, "arms": list(arms)}))
    print(by_length(load(args.folder)))
    return 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run")
    runs.add_argument("folder", type=Path)
    runs.add_argument("--arm", action="append", required=True, metavar="NAME=MODEL")
    runs.add_argument("--main", type=int, default=2000, help="questions for weavetime, rekv and window, each length")
    runs.add_argument("--rest", type=int, default=512, help="questions for every other mode")
    runs.add_argument("--lengths", type=lambda t: [int(n) for n in t.split(",")], default=list(LENGTHS))
    runs.add_argument("--long", type=int, default=LONG, help="steps of the streams on which blocks are chosen")
    runs.add_argument("--k", type=int, help="blocks that weavetime recalls in every arm; default: each model's own")
    runs.add_argument("--coarse", type=int, help="with --k: candidates for each of them; default: the paper's 3")
    runs.add_argument("--open", action="store_true", help="short answers everywhere, in place of options")
    runs.add_argument(
        "--per-card", type=int, default=6, choices=range(1, 65), metavar="N", help="processes for each CUDA card"
    )
    runs.add_argument("--share", help="I/N: this process's part of the jobs")
    runs.add_argument("--device", help="cpu or cuda:N, together with --share")
    reports = commands.add_parser("report")
    reports.add_argument("folder", type=Path)
    reports.add_argument("--docs", type=Path, default=Path(__file__).parent.parent / "docs")
    reports.add_argument("--delta", type=float, help="weavetime's threshold in every arm; default: each model's own")
    args = parser.parse_args()
    if args.command == "run":
        if args.coarse is not None and args.k is None:
            parser.error("--coarse goes with --k")
        return start(args)
    print(report(args.folder, args.docs, args.delta))
    return 0


if __name__ == "__main__":
    sys.exit(main())
