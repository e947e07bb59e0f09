"""Measure a training step at real size: LoRA on a model of random weights, one long sample a row, on this machine.

    PYTHONPATH=src python scripts/device_train_bench.py OUT [SHAPE ...] [--batches 1,2,4] [--steps 5] [--projector]

SHAPE: llava-onevision-7b, qwen2-vl-7b, llava-onevision-0.5b, or mini for a try on a CPU. Prints a table and writes
OUT/train-SHAPE.json. A step is what the trainer does: vision, forward, backward, clipping, AdamW, in bfloat16 autocast.

Operations are those that the mathematics needs: forward, backward with respect to activations, weight gradients of
what is trained alone. What gradient checkpointing computes a second time is a figure of its own.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from weavetime.backbones import Backbone
from weavetime.bench.limits import measure, synchronise
from weavetime.bench.run import FRAME
from weavetime.bench.shapes import make
from weavetime.train.losses import token_losses
from weavetime.train.recipe import Lora, Recipe, Tuning
from weavetime.train.tuning import tune

FRAMES, PROMPT, TEXT = 32, 18, 300  # steps of a sample, tokens of a time prompt, tokens of the turns (all with a loss)


@dataclass(frozen=True)
class Work:
    """Operations of one step, by what they are for. again: forward done anew in the backward pass."""

    forward: float
    backward: float
    vision: float
    again: float

    @property
    def needed(self) -> float:
        """All but what checkpointing repeats."""
        return self.forward + self.backward + self.vision


class Sample:
    """Rows of 32 frames with time prompts and text after them, as ids, labels and positions; pictures of noise."""

    def __init__(self, backbone: Backbone, batch: int, device: torch.device) -> None:
        grid = backbone.grid(*FRAME)
        layout = backbone.block(grid, PROMPT)
        text, axes = torch.arange(TEXT).expand(backbone.axes, -1), layout.positions
        extent = layout.advance
        places = [axes + i * extent for i in range(FRAMES)] + [text + FRAMES * extent]
        self.positions = torch.cat(places, 1)[:, None].expand(-1, batch, -1).to(device)
        self.length = self.positions.shape[-1]
        self.visual = torch.zeros(self.length, dtype=torch.bool)
        for i in range(FRAMES):
            start = i * axes.shape[1] + layout.visual.start
            self.visual[start : start + grid.tokens] = True
        vocabulary = backbone.decoder.embed_tokens.num_embeddings
        self.ids = torch.randint(0, vocabulary, (batch, self.length), device=device)
        self.labels = torch.full_like(self.ids, -100)
        self.labels[:, -TEXT:] = self.ids[:, -TEXT:]
        self.grid, self.backbone = grid, backbone
        self.pixels = torch.randint(0, 256, (batch * FRAMES, 3, grid.height, grid.width), device=device).byte()
        self.visual = self.visual.to(device)

    def loss(self) -> Tensor:
        """Mean loss of the batch."""
        features = torch.cat([self.backbone.features(part.float(), self.grid) for part in self.pixels.split(FRAMES)])
        embeds = self.backbone.decoder.embed_tokens(self.ids)
        mask = self.visual[None, :, None].expand_as(embeds)
        embeds = embeds.masked_scatter(mask, features.to(embeds.dtype))
        positions = self.positions[0] if self.backbone.axes == 1 else self.positions
        ones = torch.ones_like(self.ids)
        hidden = self.backbone.decoder(
            inputs_embeds=embeds, position_ids=positions, attention_mask=ones, use_cache=False
        ).last_hidden_state
        return token_losses(self.backbone.model.lm_head, hidden, self.labels)[0].mean()


def _linears(module: nn.Module) -> tuple[int, int]:
    """Weights of linear layers: the base's and LoRA's."""
    base = lora = 0
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear):
            if "lora_" in name:
                lora += layer.weight.numel()
            else:
                base += layer.weight.numel()
    return base, lora


def work(sample: Sample, batch: int, projector: nn.Module | None) -> Work:
    """Count a step. Attention is causal: half of length². Its backward is twice its forward."""
    backbone = sample.backbone
    tokens, layers = batch * sample.length, len(backbone.decoder.layers)
    base, lora = _linears(backbone.decoder.layers)
    attention = 2 * batch * sample.length**2 * backbone.heads * backbone.head_dim * layers
    head = 2 * batch * TEXT * backbone.model.lm_head.weight.numel()
    linear = 2 * tokens * (base + lora)
    trained = 2 * tokens * lora
    forward = linear + attention + head
    backward = linear + 2 * attention + head + trained
    if projector is not None:
        own = _linears(projector)[0]
        backward += 4 * _projected(sample) * own
    return Work(forward, backward, _vision(sample), linear + attention + head)


def _projected(sample: Sample) -> int:
    """Tokens that go through the projector: LLaVA pools after it, Qwen2-VL merges before."""
    side = getattr(sample.backbone, "_patches", None)
    frames = len(sample.pixels)
    return frames * (side * side if side else sample.grid.tokens)


def _vision(sample: Sample) -> float:
    """Forward through tower and projector; attention within a frame."""
    config = sample.backbone.model.config.vision_config
    patch = config.patch_size
    patches = (sample.grid.height // patch) * (sample.grid.width // patch)
    tower = sample.backbone.vision
    blocks = getattr(tower, "blocks", None)
    blocks = tower.encoder.layers if blocks is None else blocks
    width = getattr(config, "embed_dim", None) or config.hidden_size
    frames = len(sample.pixels)
    linear = 2 * frames * patches * _linears(blocks)[0]
    return linear + 4 * frames * patches**2 * width * len(blocks)


def _optimiser(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-5, fused=True)


def steps(sample: Sample, parameters: list[nn.Parameter], count: int, device: torch.device) -> list[float]:
    """Seconds of each step, the first two left out."""
    optimiser, taken = _optimiser(parameters), []
    for i in range(count + 2):
        synchronise(device)
        start = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = sample.loss()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        synchronise(device)
        if i >= 2:
            taken.append(time.perf_counter() - start)
        if not torch.isfinite(loss):
            raise SystemExit(f"the loss is {float(loss.detach())}: nothing measured")
    return taken


def bench(shape: str, batches: list[int], count: int, *, projector: bool, device: torch.device) -> dict[str, Any]:
    """All batch sizes of a shape."""
    limits = measure(device)
    backbone = make(shape, device, time_prompts=True).backbone
    recipe = Recipe("bench", shape, tuning=Tuning(lora=Lora(r=128, alpha=256, dropout=0.05), projector=projector))
    module = tune(backbone.model, backbone.family, recipe).train()
    parameters = [p for p in module.parameters() if p.requires_grad]
    trained = next((m for n, m in module.named_modules() if n.endswith("modules_to_save.default")), None)
    rows = []
    for batch in batches:
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        sample = Sample(backbone, batch, device)
        try:
            taken = steps(sample, parameters, count, device)
        except torch.OutOfMemoryError:
            rows.append({"batch": batch, "tokens": sample.length, "out_of_memory": True})
            for p in parameters:
                p.grad = None
            continue
        done, second = work(sample, batch, trained), median(taken)
        peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
        rows.append(
            {
                "batch": batch,
                "tokens": sample.length,
                "seconds": second,
                "slowest": max(taken),
                "samples/s": batch / second,
                "tokens/s": batch * sample.length / second,
                "TFLOP/s": done.needed / second / 1e12,
                "of_limit": done.needed / second / limits.matrix,
                "TFLOP/s_with_repeats": (done.needed + done.again) / second / 1e12,
                "of_limit_with_repeats": (done.needed + done.again) / second / limits.matrix,
                "peak_GiB": peak and peak / 2**30,
                "operations": asdict(done),
            }
        )
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu"
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    return {
        "shape": shape,
        "device": name,
        "versions": versions,
        "limits": asdict(limits),
        "trained": sum(p.numel() for p in parameters),
        "projector": projector,
        "rows": rows,
    }


def show(found: dict[str, Any]) -> None:
    """A short table."""
    limit = found["limits"]["matrix"] / 1e12
    print(f"{found['shape']} on {found['device']} {found['versions']}, matrix rate {limit:.0f} TFLOP/s")
    print(f"{found['trained']:,} parameters trained, projector {'trained' if found['projector'] else 'frozen'}")
    print("batch  tokens  s/step  samples/s  tokens/s  TFLOP/s  of limit  with repeats  peak GiB")
    for r in found["rows"]:
        if r.get("out_of_memory"):
            print(f"{r['batch']:5d}  {r['tokens']:6d}  out of memory")
            continue
        peak = f"{r['peak_GiB']:8.1f}" if r["peak_GiB"] else ""
        print(
            f"{r['batch']:5d}  {r['tokens']:6d}  {r['seconds']:6.2f}  {r['samples/s']:9.3f}  {r['tokens/s']:8.0f}  "
            f"{r['TFLOP/s']:7.2f}  {r['of_limit']:8.2f}  {r['of_limit_with_repeats']:12.2f}  {peak}",
            flush=True,
        )


def main() -> None:
    """Measure, show, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("shapes", nargs="*", default=["llava-onevision-7b", "qwen2-vl-7b"])
    parser.add_argument("--batches", default="1,2,4")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--projector", action="store_true")
    said = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    said.out.mkdir(parents=True, exist_ok=True)
    for shape in said.shapes:
        sizes = [int(b) for b in said.batches.split(",")]
        found = bench(shape, sizes, said.steps, projector=said.projector, device=device)
        show(found)
        (said.out / f"train-{shape}.json").write_text(json.dumps(found, indent=2))
        gc.collect()


main()
