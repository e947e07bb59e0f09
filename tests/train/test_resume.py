"""A run that goes on from a checkpoint is the run that had no break, bit for bit; a damaged checkpoint is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import texts
import torch
from safetensors.torch import load_file

from weavetime.errors import ModelError
from weavetime.train.checkpoints import all_checkpoints, newest
from weavetime.train.recipe import Tuning
from weavetime.train.run import train
from weavetime.train.task import TASKS

TIMES = ("tokens_per_second", "samples_per_second", "train_runtime")


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "texts", "texts:TextTask")


def log(output: Path) -> list[dict[str, float]]:
    entries = json.loads((output / "trainer_state.json").read_text())["log_history"]
    return [{k: v for k, v in e.items() if k not in TIMES} for e in entries if "train_runtime" not in e]


def weights(output: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for path in output.glob("*.safetensors"):
        found |= load_file(path)
    return found


def cut_off(output: Path, at: int) -> None:
    """The folder as a run leaves it that is killed after the checkpoint of that step."""
    for path in output.iterdir():
        step = path.name.removeprefix("checkpoint-")
        if path.is_dir() and (not step.isdigit() or int(step) > at):
            shutil.rmtree(path)
        elif path.is_file() and path.name not in ("recipe.yaml", "bad_samples.jsonl"):
            path.unlink()


@pytest.mark.parametrize(("at", "workers"), [(4, 0), (6, 0), (4, 2)], ids=["inside an epoch", "between two", "workers"])
def test_resumed_is_uninterrupted(tmp_path: Path, at: int, workers: int) -> None:
    """LoRA with dropout over two epochs whose data differ; samples refused before and after the break."""
    base = texts.save_model(tmp_path / "base", "qwen2_vl")
    made: dict[str, Any] = {"task": "texts", "sections": {"texts": 12, "bad": [0, 5]}}
    made |= {"optimiser": {"accumulation": 2, "max_steps": 9}, "run": {"workers": workers, "keep": 9}}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(texts.recipe(base, whole, **made), say=str)
    shutil.copytree(whole, broken)
    cut_off(broken, at)
    train(texts.recipe(base, broken, **made), resume=True, say=str)
    assert log(broken) == log(whole)
    assert len(log(whole)) == 9
    ours, theirs = weights(broken), weights(whole)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[n], theirs[n]) for n in ours)
    assert (broken / "bad_samples.jsonl").read_text() == (whole / "bad_samples.jsonl").read_text()


def test_full_training_resumes_bit_for_bit(tmp_path: Path) -> None:
    base = texts.save_model(tmp_path / "base", "llava_onevision")
    made: dict[str, Any] = {"task": "texts", "tuning": Tuning(full=True, projector=True)}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(texts.recipe(base, whole, **made), say=str)
    shutil.copytree(whole, broken)
    cut_off(broken, 4)
    train(texts.recipe(base, broken, **made), resume=True, say=str)
    assert log(broken) == log(whole)
    ours, theirs = weights(broken), weights(whole)
    assert all(torch.equal(ours[n], theirs[n]) for n in theirs)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ended")
    TASKS["texts"] = "texts:TextTask"
    base = texts.save_model(folder / "base", "llava_onevision")
    train(texts.recipe(base, folder / "run", task="texts"), say=str)
    return folder


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("trainer_state.json", Path.unlink),
        ("trainer_state.json", truncate),
        ("optimizer.pt", Path.unlink),
        ("optimizer.pt", truncate),
        ("optimizer.pt", flip),
        ("adapter_model.safetensors", truncate),
        ("scheduler.pt", Path.unlink),
        ("rng_state.pth", truncate),
    ],
)
def test_a_damaged_checkpoint_is_named_with_the_one_before(ended: Path, tmp_path: Path, name: str, damage: Any) -> None:
    output = shutil.copytree(ended / "run", tmp_path / "run")
    damage(output / "checkpoint-6" / name)
    with pytest.raises(ModelError) as error:
        train(texts.recipe(ended / "base", output, task="texts"), resume=True, say=str)
    assert "checkpoint-6 is damaged" in str(error.value)
    assert name in str(error.value)
    assert "remove it to go on from checkpoint-4" in str(error.value)


def test_no_whole_checkpoint(ended: Path, tmp_path: Path) -> None:
    output = shutil.copytree(ended / "run", tmp_path / "run")
    for checkpoint in all_checkpoints(output):
        truncate(checkpoint / "optimizer.pt")
    with pytest.raises(ModelError, match="no earlier one is whole: begin again"):
        newest(output)
    with pytest.raises(ModelError, match=r"holds no checkpoint-\*: there is nothing to resume"):
        newest(tmp_path)


def test_what_changed_since_is_said(ended: Path, tmp_path: Path) -> None:
    output = shutil.copytree(ended / "run", tmp_path / "run")
    said: list[str] = []
    recipe = texts.recipe(ended / "base", output, task="texts", optimiser={"max_steps": 8})
    train(recipe, resume=True, say=said.append)
    assert "changed since the run began: optimiser.max_steps was 6, is 8" in said
    assert any(e["step"] == 8 for e in log(output))


def test_what_changed_since_holds(ended: Path, tmp_path: Path) -> None:
    """Not what the checkpoint's optimiser, schedule and state bring back."""
    output = shutil.copytree(ended / "run", tmp_path / "run")
    cut_off(output, 4)
    changed = {"lr": 5e-4, "weight_decay": 0.1, "beta2": 0.9, "schedule": "linear", "max_steps": 8}
    recipe = texts.recipe(
        ended / "base", output, task="texts", optimiser=changed, run={"save_every": 1, "log_every": 2, "keep": 9}
    )
    train(recipe, resume=True, say=str)
    assert {p.name for p in all_checkpoints(output)} >= {f"checkpoint-{n}" for n in (5, 6, 7, 8)}
    rates = {e["step"]: e["learning_rate"] for e in log(output) if "learning_rate" in e}
    assert rates.keys() == {1, 2, 3, 4, 6, 8}
    assert rates[6] == pytest.approx(5e-4 * (8 - 5) / 8)
    assert rates[8] == pytest.approx(5e-4 * (8 - 7) / 8)
    groups = torch.load(output / "checkpoint-8" / "optimizer.pt", weights_only=True)["param_groups"]
    assert {g["betas"] for g in groups} == {(0.9, 0.9)}
    assert max(g["weight_decay"] for g in groups) == 0.1


def test_a_recipe_that_trains_something_else(ended: Path, tmp_path: Path) -> None:
    output = shutil.copytree(ended / "run", tmp_path / "run")
    from weavetime.train.recipe import Lora

    other = texts.recipe(
        ended / "base", output, task="texts", tuning=Tuning(lora=Lora(r=4, targets=("q_proj", "lm_head")))
    )
    with pytest.raises(ModelError, match="does not hold what this recipe trains"):
        train(other, resume=True, say=str)
