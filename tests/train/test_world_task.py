"""The task `world` under the trainer: it learns, it goes on where it stopped, and its result is a model that loads."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import distributed
from torch.testing._internal.distributed.fake_pg import FakeStore

import weavetime as wt
from weavetime.backbones import families
from weavetime.backbones.checkpoints import open_checkpoint
from weavetime.config import Record
from weavetime.errors import RecipeError
from weavetime.train.recipe import Recipe, read_recipe
from weavetime.train.run import train
from weavetime.train.task import make_task

SMALL = (
    "run.workers=0",
    "run.log_every=1",
    "run.report_to=none",
    "run.evaluate_every=null",
    "optimiser.max_steps=4",
    "world.streams=2",
    "world.steps=8",
    "world.told=8",
    "world.questions=3",
    "world.cut=1",
    "world.reconstruction=0.5",
    "world.wait=0.5",
    "window=3",
)


def recipe(folder: Path, *changes: str) -> Recipe:
    return read_recipe("mini", [*SMALL, f"output={folder}", *changes])


def losses(folder: Path) -> list[dict[str, Any]]:
    history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return [{k: v for k, v in h.items() if k.startswith("loss") or k == "step"} for h in history if "loss" in h]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    train(recipe(folder, "run.save_every=2", "run.keep=9"), say=lambda _: None)
    return folder


def test_every_part_of_the_loss_is_told(whole: Path) -> None:
    found = losses(whole)
    assert len(found) == 4
    parts = {"loss_answer", "loss_ahead", "loss_names", "loss_arrivals", "loss_retrieval", "loss_reconstruction"}
    assert all(parts <= h.keys() for h in found)
    assert [h["loss_reconstruction"] > 0 for h in found] == [False, False, True, True]
    assert found[-1]["loss_answer"] < found[0]["loss_answer"] - 0.5


def test_streams_grow_in_the_course_of_a_training(tmp_path: Path) -> None:
    cut = ["world.steps=16", "world.questions=4", "world.cut=2", "world.whole=0.5"]
    train(recipe(tmp_path, *cut), say=lambda _: None)
    found = losses(tmp_path)
    assert len(found) == 4
    assert all(math.isfinite(v) for h in found for v in h.values())


def test_a_tower_that_is_not_trained_stays_as_it_is(tmp_path: Path) -> None:
    changes = ("fresh=false", "tuning.vision=false", "optimiser.max_steps=1", "optimiser.warmup=0")
    train(recipe(tmp_path, *changes), say=lambda _: None)
    folders = (open_checkpoint("mini", families()).folder, tmp_path)
    before, after = (load_file(folder / "model.safetensors") for folder in folders)
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"language_model", "multi_modal_projector"}


def test_going_on_equals_never_having_stopped(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "stopped"
    (folder / "checkpoint-2").parent.mkdir()
    (whole / "checkpoint-2").rename(folder / "checkpoint-2")
    train(recipe(folder, "run.save_every=2"), resume=True, say=lambda _: None)
    assert losses(folder) == losses(whole)
    one, two = (wt.load(f, dtype=torch.float32, device="cpu").backbone.model.state_dict() for f in (whole, folder))
    assert all(torch.equal(one[k], two[k]) for k in one)


def test_processes_share_out_batches_of_their_own() -> None:
    """Else they would begin the data again, and what changes in the course of the training with it."""
    wanted = read_recipe("mini", [*SMALL, "optimiser.accumulation=3"])
    assert len(make_task(wanted).dataset) == 12
    distributed.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    try:
        assert len(make_task(wanted).dataset) == 24
    finally:
        distributed.destroy_process_group()


def test_a_step_is_one_graph_in_one_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Capturing it runs its backward, and with it what other processes wait for."""
    monkeypatch.setattr(torch.nn.Parameter, "is_cuda", True)
    wanted = read_recipe("mini", SMALL)
    alone: Any = make_task(wanted)
    assert alone._fused
    distributed.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    try:
        shared: Any = make_task(wanted)
        assert not shared._fused
    finally:
        distributed.destroy_process_group()


def test_the_result_is_a_model(whole: Path) -> None:
    """What is said of `mini`'s recall stays with what was trained from it."""
    said = Record(time_prompts=True, window=3, recipe="mini", trained=True)
    assert Record.read(whole) == wt.load("mini").record.over(said)
    stream = wt.load(whole).stream()
    assert stream.config.window == 3


def test_fresh_weights_are_drawn_from_the_seed() -> None:
    first, again, other = (
        make_task(read_recipe("mini", [*SMALL, f"run.seed={seed}"])).module.state_dict() for seed in (1, 1, 2)
    )
    name = "model.language_model.layers.0.mlp.up_proj.weight"
    assert torch.equal(first[name], again[name])
    assert not torch.equal(first[name], other[name])
    shipped = make_task(read_recipe("mini", [*SMALL, "fresh=false"])).module.state_dict()
    assert not torch.equal(first[name], shipped[name])


@pytest.mark.parametrize("alike", [True, False])
def test_the_first_head_of_each_group_begins_by_finding_its_like(alike: bool) -> None:
    task: Any = make_task(read_recipe("mini", [*SMALL, f"alike={str(alike).lower()}"]))
    layer = task.backbone.decoder.layers[-1]
    x = torch.randn(24, layer.self_attn.q_proj.in_features, generator=torch.Generator().manual_seed(0))
    q = layer.self_attn.q_proj(x).view(24, 2, 2, -1)  # KV heads, heads of each
    k = layer.self_attn.k_proj(x).view(24, 2, -1)
    like = torch.einsum("ihgd,jhd->hgij", q, k).argmax(-1) == torch.arange(24)
    share = like.float().mean(-1)
    assert (share[:, 0] == 1).all() == alike
    assert (share[:, 1] < 0.3).all()


def test_evaluation_names_what_it_measures() -> None:
    task: Any = make_task(read_recipe("mini", [*SMALL, "world.questions=8"]))
    with torch.no_grad():
        found = task.evaluate()
    assert found
    assert all(0 <= v <= 1 for v in found.values())
    assert {k.removeprefix("accuracy_").split("_")[0] for k in found} == {"now", "past", "recalled", "lookup"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("window=null", "needs a window"),
        ("optimiser.max_steps=null", "optimiser.max_steps"),
        ("optimiser.batch=2", "optimiser.batch 1"),
        ("run.gradient_checkpointing=true", "gradient checkpointing"),
        ("tuning={lora: {r: 4}}", "fresh draws every weight anew"),
        ("world.stepz=3", "stepz"),
        ("world.told=7", "world.told must divide"),
        ("world.cut=2", "world.cut must divide world.steps and world.questions, 2 does not divide 8 and 3"),
        ("world={steps: 8, told: 8, questions: 4, cut: 4}", "world.steps over world.cut must be 4 or more"),
    ],
)
def test_recipes_that_cannot_be(change: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        make_task(read_recipe("mini", [*SMALL, change]))
