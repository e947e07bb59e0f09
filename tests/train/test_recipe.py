"""Recipes: the shipped ones against the table of docs/method.md §4, what is refused, and reading back."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from weavetime.backbones.qwen2_vl import Qwen2VL
from weavetime.cli import main
from weavetime.errors import RecipeError
from weavetime.train.reading import build
from weavetime.train.recipe import DECODER_LINEARS, Lora, Optimiser, launch_files, read_recipe, shipped
from weavetime.train.run import arguments
from weavetime.train.samples import SampleSettings
from weavetime.train.task import TASKS, make_task

LLAVA, QWEN, LIVE = (
    "llava-hf/llava-onevision-qwen2-7b-ov-hf",
    "Qwen/Qwen2-VL-7B-Instruct",
    "chenjoya/LiveCC-7B-Instruct",
)
# base, lm_head among the targets, projector, clips, frames, frames a step, accumulation, epochs
TABLE = {
    "llava-onevision-7b-paper": (LLAVA, False, True, 16, 32, 1, 16, 1.0),
    "llava-onevision-7b-script": (LLAVA, True, False, 16, 32, 1, 16, 0.5),
    "qwen2-vl-7b-paper": (QWEN, False, True, 6, None, 2, 8, 1.0),
    "qwen2-vl-7b-script": (LIVE, True, False, 6, None, 2, 8, 1.0),
}


@pytest.mark.parametrize("name", TABLE)
def test_shipped_recipes_are_the_table(name: str) -> None:
    recipe = read_recipe(name)
    base, head, projector, clips, frames, per_step, accumulation, epochs = TABLE[name]
    assert (recipe.model, recipe.task, recipe.time_prompts, recipe.window) == (base, "samples", True, 144)
    targets = (*DECODER_LINEARS, "lm_head") if head else DECODER_LINEARS
    assert recipe.tuning.lora == Lora(r=128, alpha=256, dropout=0.05, targets=targets)
    assert (recipe.tuning.projector, recipe.tuning.full, recipe.tuning.vision) == (projector, False, False)
    assert recipe.optimiser == Optimiser(
        lr=1e-5, schedule="cosine", warmup=0.03, batch=1, accumulation=accumulation, epochs=epochs
    )
    assert recipe.run.bf16
    assert recipe.run.gradient_checkpointing
    samples = recipe.sections["samples"]
    assert (samples["clips"], samples["frames"], samples.get("frames_per_step", 1)) == (clips, frames, per_step)


@pytest.mark.parametrize("name", [name for name in TABLE if name.startswith("qwen2")])
def test_the_longest_videos_of_the_training_data_fit(name: str) -> None:
    """Three minutes of 1280 x 720, at the real model's patches: a step a second, and its time twice."""
    recipe = read_recipe(name)
    how = build(SampleSettings, recipe.sections["samples"], name)
    assert how.fps == how.frames_per_step
    backbone = object.__new__(Qwen2VL)
    vision = SimpleNamespace(patch_size=14, spatial_merge_size=2)
    backbone.model = SimpleNamespace(config=SimpleNamespace(vision_config=vision))
    backbone.checkpoint = SimpleNamespace(preprocessor={"min_pixels": 3136, "max_pixels": 12845056})
    for steps in (5, 30, 180):
        grid = backbone.grid(720, 1280, how.picture(steps))
        assert steps * (grid.tokens + 2 * len("Time=00000.0-00001.0s")) + 1000 < how.max_tokens
        assert grid.tokens > (90 if steps == 180 else 180)
    assert backbone.grid(720, 1280).tokens > 700


@pytest.mark.parametrize("name", [name for name in TABLE if name.endswith("paper")])
def test_where_the_paper_is_silent_the_recipe_says_so(name: str) -> None:
    lines = shipped()[name].read_text().splitlines()
    keys = ["dropout", "weight_decay", "max_grad_norm", "batch", "accumulation", "clips", "frames"]
    keys += ["fps", "frames_per_step", "pixels", "max_tokens"] if name.startswith("qwen2") else []
    for key in keys:
        [line] = [x for x in lines if x.strip().startswith(f"{key}:")]
        assert "# not in the paper" in line


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


def test_defaults_and_changes(tmp_path: Path) -> None:
    path = write(tmp_path, "model: mini\n")
    recipe = read_recipe(path, ["optimiser.lr=2e-5", "optimiser.max_steps=7", "tuning.lora.r=8", "data.files=[a, b]"])
    assert (recipe.name, recipe.model, recipe.window) == ("mine", "mini", 80)
    assert recipe.optimiser == Optimiser(lr=2e-5, max_steps=7)
    assert recipe.tuning.lora == Lora(r=8)
    assert recipe.sections == {"data": {"files": ["a", "b"]}}
    assert read_recipe(path, ["window=null"]).window is None
    assert read_recipe(path, ["run.liger=off"]).run.liger == "off"  # YAML reads a truth value
    assert read_recipe(path, ["tuning.lora.targets=lm_head"]).tuning.lora == Lora(targets=("lm_head",))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("model: mini\noptimizer: {}", r"mine: unknown 'optimizer': do you mean 'optimiser'\?"),
        ("model: mini\noptimiser: {learning_rate: 1}", "mine.optimiser: unknown 'learning_rate'"),
        ("model: mini\noptimiser: {lr: fast}", "mine.optimiser.lr is 'fast', and must be a number"),
        ("model: mini\noptimiser: {batch: 1.5}", "mine.optimiser.batch is 1.5, and must be a whole number"),
        ("model: mini\noptimiser: {batch: true}", "mine.optimiser.batch is True, and must be a whole number"),
        ("model: mini\noptimiser: {batch: 0}", "mine: optimiser.batch must be at least 1"),
        ("model: mini\noptimiser: {lr: .nan}", "mine: optimiser.lr must be more than 0"),
        ("model: mini\noptimiser: {warmup: 3}", "optimiser.warmup must be a share"),
        ("model: mini\noptimiser: {schedule: cosin}", "must be one of cosine, linear"),
        ("model: mini\nrun: {bf16: yep}", "mine.run.bf16 is 'yep', and must be true or false"),
        ("model: mini\nrun: 3", "mine.run must be a section"),
        ("model: mini\ntuning: {projector: true}", "needs either lora or full: true"),
        ("model: mini\ntuning: {full: true, lora: {r: 3}}", "needs either lora or full: true"),
        ("model: mini\ntuning: {lora: {r: 0}}", "tuning.lora.r must be at least 1"),
        ("model: mini\ntuning: {lora: {targets: []}}", "tuning.lora.targets must be at least one"),
        ("model: mini\nwindow: 0", "window must be at least 1"),
        ("model: mini\ntask: sample", "unknown task 'sample': do you mean 'samples'"),
        ("optimiser: {}", "mine lacks model"),
        ("- a\n- b", "holds no recipe"),
        ("a: [", "cannot be read as YAML"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(RecipeError, match=complaint) as error:
        make_task(read_recipe(write(tmp_path, text)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [("lr", "--set takes KEY=VALUE"), ("model.x=1", "model is no section"), ("a..b=1", "KEY=VALUE"), ("a=[", "YAML")],
)
def test_changes_that_are_refused(tmp_path: Path, change: str, complaint: str) -> None:
    with pytest.raises(RecipeError, match=complaint):
        read_recipe(write(tmp_path, "model: mini"), [change])


def test_no_such_recipe() -> None:
    with pytest.raises(RecipeError, match=r"no recipe 'qwen-vl-7b-paper': do you mean 'qwen2-vl-7b-paper'"):
        read_recipe("qwen-vl-7b-paper")


@pytest.mark.parametrize("name", shipped())
def test_a_recipe_written_is_the_recipe_read(name: str, tmp_path: Path) -> None:
    recipe = read_recipe(name)
    again = write(tmp_path, yaml.safe_dump(recipe.plain()))
    assert read_recipe(again).plain() == recipe.plain()


def test_arguments_are_the_recipe(tmp_path: Path) -> None:
    args = arguments(read_recipe("llava-onevision-7b-script"), tmp_path)
    assert (args.learning_rate, str(args.lr_scheduler_type.value), args.bf16) == (1e-5, "cosine", True)
    assert args.get_warmup_steps(1000) == 30
    assert (args.num_train_epochs, args.gradient_accumulation_steps, args.max_grad_norm) == (0.5, 16, 1.0)


def test_a_process_uses_one_card(tmp_path: Path) -> None:
    """Several, without torchrun, would make transformers take nn.DataParallel and batches of other sizes."""
    args = arguments(read_recipe("llava-onevision-7b-script"), tmp_path)
    assert args.n_gpu <= 1
    args._n_gpu = 4  # what is found on a machine with four
    assert (args.n_gpu, args.cards, args.train_batch_size, args.eval_batch_size) == (1, 4, 1, 1)


def test_the_task_of_the_registry_is_there() -> None:
    module, _, cls = TASKS["samples"].partition(":")
    assert hasattr(getattr(import_module(module), cls), "Settings")


def test_launch_files() -> None:
    found = launch_files()
    assert set(found) == {"ddp", "fsdp", "zero2", "zero3"}
    assert json.loads(found["zero3"].read_text())["zero_optimization"]["stage"] == 3
    assert yaml.safe_load(found["fsdp"].read_text())["fsdp_config"]["fsdp_version"] == 2


def run(monkeypatch: pytest.MonkeyPatch, *words: Any) -> int:
    monkeypatch.setattr("sys.argv", ["weavetime", "train", *map(str, words)])
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--list") == 0
    assert all(name in capsys.readouterr().out for name in ["qwen2-vl-7b-script"])
    assert run(monkeypatch, "--launch-file", "zero2") == 0
    assert Path(capsys.readouterr().out.strip()).is_file()
    assert run(monkeypatch, "--launch-file", "zero9") == 2
    assert run(monkeypatch) == 2
    capsys.readouterr()
    path = write(tmp_path, "model: mini\nrun: {bf16: false}")
    assert run(monkeypatch, path) == 1
    assert "names no output: say --output FOLDER" in capsys.readouterr().err
    assert run(monkeypatch, path, "--max-bad-samples", "-1") == 2
    capsys.readouterr()
    assert run(monkeypatch, path, "--set", "run.deepspeed=zero2", "--output", tmp_path / "out") == 1
    assert "run.deepspeed needs the package deepspeed" in capsys.readouterr().err
