"""Muon beside AdamW: the steps of torch's own, for the matrices it is for and for nothing else."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import texts
import torch
from torch import nn

from weavetime.errors import RecipeError
from weavetime.train import muon
from weavetime.train.muon import MuonAdamW, matrices
from weavetime.train.recipe import read_recipe
from weavetime.train.run import train
from weavetime.train.task import TASKS
from weavetime.train.trainer import TaskTrainer

LR, DECAY = 0.03, 0.1


class Small(nn.Module):
    """Matrices of two shapes, wide and high, a tied table and head, norms and a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 8)
        self.wide = nn.ModuleList([nn.Linear(24, 8) for _ in range(3)])
        self.high = nn.Linear(8, 24, bias=False)
        self.norm = nn.LayerNorm(8)
        self.lm_head = nn.Linear(8, 20, bias=False)
        self.lm_head.weight = self.table.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.table(ids)
        for layer in self.wide:
            x = x + layer(self.high(self.norm(x)).relu())
        return self.lm_head(x).logsumexp(-1).square().mean()


def optimiser(model: nn.Module) -> MuonAdamW:
    whole = matrices(model)
    rest = [p for p in model.parameters() if all(p is not w for w in whole)]
    return MuonAdamW([{"params": whole, "muon": True}, {"params": rest}], lr=LR, weight_decay=DECAY)


def step(model: nn.Module, seed: int, *optimisers: torch.optim.Optimizer) -> None:
    model.zero_grad()
    model(torch.randint(0, 20, (4, 9), generator=torch.Generator().manual_seed(seed))).backward()
    for each in optimisers:
        each.step()


def test_matrices_are_those_of_hidden_layers() -> None:
    model = Small()
    assert [id(p) for p in matrices(model)] == [id(m.weight) for m in (*model.wide, model.high)]
    model.high.requires_grad_(False)
    assert len(matrices(model)) == 3
    lora = nn.ModuleDict({"lm_head": nn.ModuleDict({"lora_A": nn.Linear(8, 2)}), "q_proj": nn.Linear(8, 8)})
    assert [id(p) for p in matrices(lora)] == [id(lora["q_proj"].weight)]


def test_steps_are_those_of_torchs_muon_and_adamw() -> None:
    torch.manual_seed(0)
    ours = Small()
    theirs = copy.deepcopy(ours)
    mine = optimiser(ours)
    whole = matrices(theirs)
    rest = [p for p in theirs.parameters() if all(p is not w for w in whole)]
    theirs_muon = torch.optim.Muon(whole, lr=LR, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(rest, lr=LR, weight_decay=DECAY)
    for seed in range(4):
        before = {n: p.detach().clone() for n, p in ours.named_parameters()}
        theirs.load_state_dict(ours.state_dict())
        step(theirs, seed, theirs_muon, adamw)
        step(ours, seed, mine)
        assert all(p.grad is not None for p in ours.parameters())
        for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            moved = float((q.detach() - before[name]).abs().max())
            assert moved > LR / 30, name
            torch.testing.assert_close(p, q, atol=0.02 * moved, rtol=0, msg=name)  # bfloat16 in the iteration


def test_large_matrices_are_stepped_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    together, apart = Small(), Small()
    apart.load_state_dict(together.state_dict())
    step(together, 0, optimiser(together))
    monkeypatch.setattr(muon, "MOST", 1)
    step(apart, 0, optimiser(apart))
    torch.testing.assert_close(dict(together.named_parameters()), dict(apart.named_parameters()))


def test_a_state_read_back_goes_on_the_same() -> None:
    torch.manual_seed(1)
    model = Small()
    first = optimiser(model)
    for seed in range(2):
        step(model, seed, first)
    other = copy.deepcopy(model)
    second = optimiser(other)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    step(model, 2, first)
    step(other, 2, second)
    torch.testing.assert_close(dict(model.named_parameters()), dict(other.named_parameters()), atol=0, rtol=0)


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(TASKS, "texts", "texts:TextTask")
    return texts.save_model(tmp_path / "base", "llava_onevision")


def test_a_recipe_trains_with_it(base: Path, tmp_path: Path) -> None:
    recipe: Any = texts.recipe(base, tmp_path / "out", task="texts", optimiser={"kind": "muon", "max_steps": 2})
    train(recipe, say=lambda _: None)
    state = torch.load(tmp_path / "out" / "checkpoint-2" / "optimizer.pt", weights_only=True)
    assert [g["muon"] for g in state["param_groups"]] == [True, False, False]
    kept = [set(s) for s in state["state"].values()]
    assert {"step", "momentum_buffer"} in kept
    assert len(kept) == sum(len(g["params"]) for g in state["param_groups"])


def test_it_needs_whole_matrices(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RecipeError, match=r"mini: optimiser\.kind muon needs whole matrices"):
        read_recipe("mini", ["run.deepspeed=zero2"])
    plain = TaskTrainer.create_accelerator_and_postprocess

    def under_fsdp(self: Any) -> None:
        plain(self)
        self.is_fsdp_enabled = True

    monkeypatch.setattr(TaskTrainer, "create_accelerator_and_postprocess", under_fsdp)
    with pytest.raises(RecipeError, match="needs whole matrices"):
        train(texts.recipe(base, tmp_path / "out", task="texts", optimiser={"kind": "muon"}), say=lambda _: None)


def test_a_run_goes_on_with_the_optimiser_it_began_with(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    train(texts.recipe(base, out, task="texts", optimiser={"max_steps": 2}), say=lambda _: None)
    before = (out / "recipe.yaml").read_text()
    with pytest.raises(RecipeError, match=r"began with optimiser\.kind adamw and cannot go on with muon: say adamw"):
        train(texts.recipe(base, out, task="texts", optimiser={"kind": "muon"}), resume=True, say=lambda _: None)
    assert (out / "recipe.yaml").read_text() == before
