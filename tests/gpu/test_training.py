"""Training on a card: the step as one graph gives eager's gradients, and the task learns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from weavetime.backbones.attach import switched
from weavetime.train.recipe import read_recipe
from weavetime.train.run import train
from weavetime.train.streaming import Runs, Shape, _attend
from weavetime.train.task import make_task
from weavetime.train.world import KEYS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card"),
]
SMALL = ("run.workers=2", "run.log_every=1", "run.report_to=none", "run.evaluate_every=null", "world.streams=4",
         "world.steps=16", "world.told=8", "world.questions=4", "world.cut=1", "window=5",
         "run.bf16=false")  # fmt: skip


def test_a_replayed_step_has_eagers_gradients() -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    found = []
    for fused in ("true", "false"):
        task: Any = make_task(read_recipe("mini", [*SMALL, f"fused={fused}", "world.wait=0"]))
        task.module.cuda().train()
        for index in (0, 1):  # the second is a replay
            task.module.zero_grad()
            batch = [type(b)(**{k: v.cuda() for k, v in vars(b).items()}) for b in task.dataset[index]]
            terms = task.losses(batch)
            (0.25 * sum(t.weight * t.total / t.count for t in terms.values())).backward()
        gradients = {n: p.grad.clone() for n, p in task.module.named_parameters() if p.grad is not None}
        found.append(({n: float(t.total) for n, t in terms.items()}, gradients))
    (losses, gradients), (want_losses, want) = found
    assert losses == pytest.approx(want_losses, rel=1e-4)
    assert gradients.keys() == want.keys()
    for name, gradient in want.items():
        error = (gradients[name] - gradient).norm() / gradient.norm().clamp_min(1e-6)
        assert error < 2e-3, name


def test_flash_attention_reads_what_the_mask_shows() -> None:
    torch.manual_seed(0)
    shape = Shape(streams=3, sink=5, steps=7, tokens=6, questions=4, length=11)
    angles = torch.randn(2, 200, 64, device="cuda").unbind()
    counts = torch.tensor([0, 1, 7, 4] * 3, device="cuda")
    runs = Runs.of(shape, counts, shape.steps, shape.length, angles)
    sizes = (12, 11, 4, 64), (12, 58, 2, 64), (12, 58, 2, 64)
    laid = [torch.randn(size, device="cuda").requires_grad_() for size in sizes]
    want = _attend(runs, tuple(laid), 0.2)
    got = _attend(runs, tuple(x.bfloat16() for x in laid), 0.2)
    weights = torch.randn_like(want)
    for ours, theirs in zip(torch.autograd.grad((got.float() * weights).sum(), laid),
                            torch.autograd.grad((want * weights).sum(), laid), strict=True):  # fmt: skip
        assert float((ours - theirs).norm() / theirs.norm()) < 0.02
    assert float((got.float() - want).norm() / want.norm()) < 0.02


def test_a_replay_goes_by_the_weights_of_its_own_step() -> None:
    """Under the trainer's own autocast, whose cache would keep the cast weights of the captured step."""
    task: Any = make_task(read_recipe("mini", [*SMALL, "run.bf16=true", "world.reconstruction=0"]))
    task.module.cuda().train()
    batch = [type(b)(**{k: v.cuda() for k, v in vars(b).items()}) for b in task.dataset[0]]
    with torch.autocast("cuda", torch.bfloat16):
        before = {n: float(t.total) for n, t in task.losses(batch).items()}
        with torch.no_grad():
            for p in task.module.model.language_model.parameters():
                p.mul_(1.5)
        after = {n: float(t.total) for n, t in task.losses(batch).items()}
        with switched(task.backbone.decoder, task.backbone.head_dim):
            flat = [getattr(part, key) for part in batch for key in KEYS]
            eager = dict(zip(after, task._forward(flat)[0].tolist(), strict=True))
    assert after == pytest.approx(eager, rel=0.02, abs=0.02)
    assert abs(after["answer"] - before["answer"]) > 0.1


def test_it_learns(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    changes = [*SMALL, f"output={folder}", "optimiser.max_steps=60", "run.log_every=20", "run.bf16=true"]
    train(read_recipe("mini", changes), say=lambda _: None)
    history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    names = [h["loss_names"] for h in history if "loss_names" in h]
    assert names[-1] < 0.9 * names[0]


def test_streams_in_a_wrong_order_join_at_full_size(tmp_path: Path) -> None:
    """A second shape's graph after the first: cuDNN's attention ended in an illegal memory access here."""
    folder = tmp_path / "out"
    changes = [f"output={folder}", "optimiser.max_steps=6", "run.log_every=1", "run.report_to=none", "run.workers=6"]
    train(read_recipe("mini", [*changes, "run.evaluate_every=2"]), say=lambda _: None)
    history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    told = [h["loss_reconstruction"] for h in history if "loss_reconstruction" in h]
    assert told[0] == 0
    assert told[-1] > 0
