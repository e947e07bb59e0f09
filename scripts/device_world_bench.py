"""Where a step of training in StreamWorld spends its time, on this machine: its parts, and the kernels of one step.

    PYTHONPATH=src python scripts/device_world_bench.py OUT [--steps 20] [--set KEY=VALUE]

Parts: making a batch (on one CPU core; the recipe has `run.workers` of them), forward and backward (on CUDA one graph),
the optimiser's step. Kernels are grouped by name and listed by their share. Prints tables, writes OUT/world-step.json.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ablation_report import table

from weavetime.bench.limits import seconds, synchronise
from weavetime.train.muon import MuonAdamW, groups
from weavetime.train.recipe import read_recipe
from weavetime.train.task import make_task
from weavetime.train.worlds import WorldBatch

SHOWN = 25  # kernels


def kernels(what: Callable[[], Any], device: torch.device) -> list[tuple[str, int, float]]:
    """Name, calls and milliseconds of what one call runs, the longest first."""
    kind = torch.profiler.ProfilerActivity
    cuda = device.type == "cuda"
    with torch.profiler.profile(activities=[kind.CPU, kind.CUDA] if cuda else [kind.CPU]) as run:
        what()
        synchronise(device)
    found: dict[str, list[float]] = defaultdict(list)
    for event in run.events() or []:
        own = event.device_time_total if cuda else event.self_cpu_time_total
        if own and (not cuda or event.device_type == torch.autograd.DeviceType.CUDA):
            found[event.name].append(own / 1000)
    rows = [(name, len(each), sum(each)) for name, each in found.items()]
    return sorted(rows, key=lambda row: -row[2])


def main() -> None:
    """Measure, show, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--set", dest="change", action="append", default=[], metavar="KEY=VALUE", help="of the recipe")
    said = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task: Any = make_task(read_recipe("mini", said.change))
    module = task.module.to(device).train()
    optimiser = MuonAdamW(groups(module, ()), lr=1e-5, fused=device.type == "cuda")
    last = len(task.dataset) - 1
    rows = []
    for name, index in (("streams in order", 0), ("with streams in a wrong order", last)):
        batch = [WorldBatch(**{k: v.to(device) for k, v in vars(b).items()}) for b in task.dataset[index]]

        def step(batch: list[WorldBatch] = batch) -> None:
            optimiser.zero_grad()
            terms = task.losses(batch)
            sum(t.weight * t.total / t.count for t in terms.values()).backward()

        made = 1000 * seconds(lambda index=index: task.dataset[index], torch.device("cpu"), 3)
        ran = 1000 * seconds(step, device, said.steps)
        stepped = 1000 * seconds(optimiser.step, device, said.steps)
        rows.append((name, task.size(batch).tokens, f"{made:.0f}", f"{ran:.1f}", f"{stepped:.1f}"))
    found = kernels(step, device)
    whole = sum(row[2] for row in found)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU"
    print(f"{card}, torch {torch.__version__}")
    print(table(("batch", "tokens", "making it, ms", "forward and backward, ms", "optimiser, ms"), rows))
    print(f"\nkernels of one step {rows[-1][0]}, {whole:.1f} ms in all")
    print(
        table(
            ("kernel", "calls", "ms", "share"),
            [(n[:90], c, f"{t:.2f}", f"{t / whole:.3f}") for n, c, t in found[:SHOWN]],
        )
    )
    said.out.mkdir(parents=True, exist_ok=True)
    (said.out / "world-step.json").write_text(json.dumps({"device": card, "parts": rows, "kernels": found}, indent=1))


if __name__ == "__main__":
    main()
