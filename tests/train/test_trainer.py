"""The trainer: its loss against a plain reference, accumulation, refused samples, evaluation, numbers that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import texts
import torch
from safetensors.torch import load_file
from torch.nn import functional

from weavetime.errors import DataError, NumericsError, RecipeError
from weavetime.train.bad import BadSamples
from weavetime.train.losses import token_losses
from weavetime.train.recipe import Lora, Tuning
from weavetime.train.run import plan, train
from weavetime.train.task import TASKS, make_task

EXACT = Tuning(lora=Lora(r=4, alpha=8, dropout=0.0), projector=True)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "texts", "texts:TextTask")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return texts.save_model(tmp_path_factory.mktemp("base"), "llava_onevision")


def run(base: Path, output: Path, say: Any = lambda text: None, **more: Any) -> list[dict[str, float]]:
    """Train on texts; the log."""
    train(texts.recipe(base, output, task="texts", **more), say=say)
    return json.loads((output / "trainer_state.json").read_text())["log_history"]


def trace(log: list[dict[str, float]], name: str = "loss") -> list[float]:
    return [entry[name] for entry in log if name in entry]


def test_token_losses_are_those_of_all_logits() -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(16, 50)
    hidden = torch.randn(3, 9, 16, requires_grad=True)
    labels = torch.randint(0, 50, (3, 9))
    labels[0, :5] = labels[1, 3:] = labels[2, ::2] = -100
    found, where = token_losses(head, hidden, labels)
    plain = functional.cross_entropy(head(hidden)[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="none")
    torch.testing.assert_close(found, plain[plain != 0])
    assert int(where.sum()) == len(found) == int((labels[:, 1:] != -100).sum())
    ours = torch.autograd.grad(found.sum(), [hidden, head.weight])
    theirs = torch.autograd.grad(plain.sum(), [hidden, head.weight])
    torch.testing.assert_close(ours, theirs)


def test_no_labels_make_a_differentiable_zero() -> None:
    head = torch.nn.Linear(16, 50)
    hidden = torch.randn(1, 4, 16, requires_grad=True)
    found, _ = token_losses(head, hidden, torch.full((1, 4), -100))
    found.sum().backward()
    assert float(found.detach().sum()) == 0
    assert hidden.grad is not None
    assert head.weight.grad is not None


def test_a_step_is_plain_gradient_descent(base: Path, tmp_path: Path) -> None:
    """Loss and gradient norm of the first step, against one forward over its samples with PyTorch alone."""
    log = run(base, tmp_path, tuning=EXACT, optimiser={"accumulation": 4, "max_steps": 3, "max_grad_norm": 1e9})
    recipe = texts.recipe(base, tmp_path / "other", task="texts", tuning=EXACT)
    torch.manual_seed(recipe.run.seed)
    task = make_task(recipe)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(recipe.run.seed)).tolist()
    sums: list[torch.Tensor] = []
    counts = 0
    for i in order[:4]:
        terms = task.losses(task.collate([task.dataset[i]]))
        sums += [t.total for t in terms.values()]
        counts += sum(t.count for t in terms.values())
    loss = torch.stack(sums).sum() / counts
    loss.backward()
    norm = torch.stack([p.grad.norm() for p in task.module.parameters() if p.grad is not None]).norm()
    assert log[0]["loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
    assert log[0]["grad_norm"] == pytest.approx(float(norm), rel=1e-4)


def test_accumulation_is_a_larger_batch(base: Path, tmp_path: Path) -> None:
    """Sequences of different lengths: a mean of means would differ."""
    one = run(base, tmp_path / "one", tuning=EXACT, optimiser={"accumulation": 4, "max_steps": 5})
    four = run(base, tmp_path / "four", tuning=EXACT, optimiser={"batch": 4, "max_steps": 5})
    assert trace(one) == pytest.approx(trace(four), rel=1e-5)
    assert trace(one, "loss_early") == pytest.approx(trace(four, "loss_early"), rel=1e-5)
    a, b = (load_file(tmp_path / n / "adapter_model.safetensors") for n in ("one", "four"))
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-5)


def test_the_parts_of_the_loss_make_up_the_whole(base: Path, tmp_path: Path) -> None:
    log = run(base, tmp_path, optimiser={"accumulation": 3, "max_steps": 2})
    for entry in log[:2]:
        low, high = sorted((entry["loss_early"], entry["loss_late"]))
        assert low <= entry["loss"] <= high
        assert entry["tokens_per_second"] > entry["samples_per_second"] > 0


def test_refused_samples_are_listed_and_add_nothing(base: Path, tmp_path: Path) -> None:
    """With one sample a batch, some batches hold nothing at all."""
    said: list[str] = []
    sections = {"bad": [1, 2, 7]}
    log = run(
        base, tmp_path, said.append, sections=sections, tuning=EXACT, optimiser={"accumulation": 4, "max_steps": 3}
    )
    listed = [json.loads(line) for line in (tmp_path / "bad_samples.jsonl").read_text().splitlines()]
    assert sorted(entry["index"] for entry in listed) == [1, 2, 7]
    assert all(entry["where"] == f"texts:{entry['index']}" and entry["reason"] == "made so" for entry in listed)
    assert trace(log, "bad_samples")[-1] == 3
    whole = texts.recipe(base, tmp_path / "whole", task="texts", tuning=EXACT)
    task = make_task(whole)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0)).tolist()[:4]
    good = [task.losses(task.collate([task.dataset[i]])) for i in order if i not in (1, 2, 7)]
    total = sum(float(t.total.detach()) for terms in good for t in terms.values())
    assert log[0]["loss"] == pytest.approx(total / sum(t.count for terms in good for t in terms.values()), rel=1e-5)


def test_a_list_of_refused_samples_that_a_kill_broke_off(tmp_path: Path) -> None:
    entries = [{"step": step, "index": step, "where": "a", "reason": "ünd"} for step in (1, 2, 3)]
    BadSamples(tmp_path, 9, writes=True).add(entries)
    path = tmp_path / "bad_samples.jsonl"
    whole = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(whole)[:-5], encoding="utf-8")
    reader, writer = (BadSamples(tmp_path, 9, writes=writes) for writes in (False, True))
    reader.start(1)
    writer.start(1)
    assert (reader.count, writer.count) == (1, 1)
    assert path.read_text(encoding="utf-8").splitlines(keepends=True) == whole[:1]


def test_too_many_refused_samples_stop_the_run(base: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"3 samples .* more than the 2 of run.max_bad.*bad_samples.jsonl.*made so"):
        run(base, tmp_path, sections={"bad": [1, 2, 7]}, run={"max_bad": 2}, optimiser={"max_steps": 12})


def test_evaluation_counts_every_held_out_sample_once(base: Path, tmp_path: Path) -> None:
    log = run(base, tmp_path, tuning=EXACT, run={"evaluate_every": 2}, optimiser={"max_steps": 2, "batch": 2})
    [entry] = [e for e in log if "eval_loss" in e]
    assert entry["eval_constant"] == 1.5
    recipe = texts.recipe(base, tmp_path / "again", task="texts", tuning=EXACT)
    task = make_task(recipe)
    task.restore(tmp_path)
    task.module.eval()
    terms = [t for i in range(5) for t in task.losses(task.collate([task.held_out[i]])).values()]
    mean = sum(float(t.total.detach()) for t in terms) / sum(t.count for t in terms)
    assert entry["eval_loss"] == pytest.approx(mean, rel=1e-5)


def test_a_loss_that_is_no_number_stops_the_run(base: Path, tmp_path: Path) -> None:
    with pytest.raises(NumericsError, match="the loss is no number at step 2:"):
        run(base, tmp_path, optimiser={"lr": 1e30, "max_grad_norm": 0, "max_steps": 12})


def test_tensorboard(base: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(base, tmp_path, run={"report_to": "tensorboard"}, optimiser={"max_steps": 3})
    [events] = tmp_path.rglob("events.out.tfevents.*")
    held = EventAccumulator(str(events.parent)).Reload()
    assert len(held.Scalars("train/loss")) == 3
    assert "train/loss_early" in held.Tags()["scalars"]


def test_a_full_output_folder_is_refused(base: Path, tmp_path: Path) -> None:
    run(base, tmp_path, optimiser={"max_steps": 2})
    with pytest.raises(RecipeError, match=r"holds checkpoints of a run: --resume goes on"):
        run(base, tmp_path, optimiser={"max_steps": 2})


def test_plan_counts_what_is_trained(base: Path, tmp_path: Path) -> None:
    recipe = texts.recipe(base, tmp_path, task="texts", tuning=EXACT, optimiser={"accumulation": 4, "max_steps": None})
    task = make_task(recipe)
    found = plan(task, recipe)
    assert found.modules["multi_modal_projector.linear_1"] == 32 * 64 + 64
    assert found.modules["language_model.self_attn.q_proj (LoRA)"] == 3 * (64 * 4 + 4 * 64)
    assert not any("vision" in part or "embed" in part for part in found.modules)
    assert (found.samples, found.per_step, found.steps) == (12, 4, 3)
    assert found.trained == sum(p.numel() for p in task.module.parameters() if p.requires_grad)


def test_bfloat16_keeps_what_is_trained_in_float32(base: Path, tmp_path: Path) -> None:
    """Steps of 1e-5 would be lost in bfloat16 weights."""
    plain = run(base, tmp_path / "plain", tuning=EXACT, optimiser={"max_steps": 2})
    half = run(base, tmp_path / "half", tuning=EXACT, optimiser={"max_steps": 2}, run={"bf16": True})
    assert trace(half) == pytest.approx(trace(plain), rel=0.02)
    assert trace(half) != trace(plain)
    task = make_task(texts.recipe(base, tmp_path / "task", task="texts", tuning=EXACT, run={"bf16": True}))
    kinds = {(p.requires_grad, p.dtype) for p in task.module.parameters()}
    assert kinds == {(True, torch.float32), (False, torch.bfloat16)}
    assert {t.dtype for t in load_file(tmp_path / "half" / "adapter_model.safetensors").values()} == {torch.float32}
