"""A recipe carried out: what would be trained, and the training itself."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import PrinterCallback, ProgressCallback, TrainingArguments
from transformers.trainer_utils import set_seed

from ..errors import RecipeError
from .checkpoints import STATE, all_checkpoints, newest
from .progress import Screen
from .recipe import Recipe, launch_files
from .task import Task, make_task
from .trainer import TaskTrainer

RECIPE = "recipe.yaml"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What a recipe would train. modules: trained parameters by part. samples: of the data, None where it has no end.

    per_step: samples of one optimiser step. steps: how many of those.
    """

    modules: dict[str, int]
    total: int
    samples: int | None
    per_step: int
    steps: int

    @property
    def amount(self) -> str:
        """How many samples, in words."""
        return "samples without end" if self.samples is None else f"{self.samples:,} samples"

    @property
    def trained(self) -> int:
        """Parameters that are trained."""
        return sum(self.modules.values())


def plan(task: Task, recipe: Recipe, processes: int = 1) -> Plan:
    """Count parameters, samples and steps."""
    modules: dict[str, int] = {}
    for name, parameter in task.module.named_parameters():
        if parameter.requires_grad:
            part = _part(name)
            modules[part] = modules.get(part, 0) + parameter.numel()
    how = recipe.optimiser
    data: Any = task.dataset
    samples = len(data) if hasattr(data, "__len__") else None
    if samples is None and how.max_steps is None:
        raise RecipeError(f"{recipe.name}: this data has no end: say optimiser.max_steps")
    batches = math.ceil((samples or 0) / how.batch / processes)
    an_epoch = max(1, math.ceil(batches / how.accumulation))
    steps = how.max_steps or math.ceil(how.epochs * an_epoch)
    total = sum(p.numel() for p in task.module.parameters())
    return Plan(modules, total, samples, how.batch * how.accumulation * processes, steps)


def _part(name: str) -> str:
    """A parameter's module without layer numbers and PEFT's wrapping: `language_model q_proj lora`, `visual.merger`."""
    words = name.removeprefix("base_model.model.").removeprefix("model.").split(".")
    lora = any(w.startswith("lora_") for w in words)
    skipped = {"modules_to_save", "default", "base_layer", "weight", "bias", "layers", "blocks", "layer"}
    kept = [w for w in words if w not in skipped and not w.isdigit() and not w.startswith("lora_")]
    return ".".join(kept) + (" (LoRA)" if lora else "")


def train(recipe: Recipe, *, resume: bool = False, say: Say = print) -> dict[str, float]:
    """Train, and write the result into `recipe.output`; the last log's figures.

    resume: go on from the newest checkpoint there, as if there had been no break. Raises RecipeError, ModelError,
    DataError (too many samples that cannot be used), NumericsError.
    """
    output = _output(recipe, resume)
    args = arguments(recipe, output)
    start = newest(output) if resume else None
    changes = _changes(recipe, output) if resume else []
    set_seed(recipe.run.seed)
    task = make_task(recipe)
    screen = Screen()
    trainer = TaskTrainer(task, args, recipe.optimiser.kind, recipe.run.max_bad, [screen])
    for unwanted in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(unwanted)
    first = trainer.is_world_process_zero()
    if first:
        for line in changes:
            say(line)
        _write_recipe(recipe, output)
        found = plan(task, recipe, args.world_size)
        say(f"{found.trained:,} of {found.total:,} parameters, {found.amount}, {found.steps:,} steps")
        if (cards := args.cards) > 1:
            say(f"one of {cards} cards is used: torchrun --nproc-per-node {cards} -m weavetime train uses them all")
        for line in getattr(task, "notes", ()):
            say(line)
    trainer.bad.start(json.loads((start / STATE).read_text())["global_step"] if start else 0)
    try:
        result = trainer.train(resume_from_checkpoint=str(start) if start else None)
    finally:
        screen.close()
    trainer.save_model()
    trainer.save_state()
    return dict(result.metrics)


def _output(recipe: Recipe, resume: bool) -> Path:
    if not recipe.output:
        raise RecipeError(f"{recipe.name} names no output: say --output FOLDER")
    output = Path(recipe.output).expanduser()
    if not resume and all_checkpoints(output):
        raise RecipeError(f"{output} holds checkpoints of a run: --resume goes on with it, or name another --output")
    return output


def _changes(recipe: Recipe, output: Path) -> list[str]:
    """What the recipe says otherwise than when the run began."""
    path = output / RECIPE
    if not path.is_file():
        return []
    before, now = _flat(yaml.safe_load(path.read_text())), _flat(_plain(recipe))
    began, kind = before.get("optimiser.kind", "adamw"), recipe.optimiser.kind
    if began != kind:
        raise RecipeError(
            f"the run in {output} began with optimiser.kind {began} and cannot go on with {kind}: say {began}"
        )
    keys = sorted(k for k in before.keys() | now.keys() if before.get(k) != now.get(k))
    return [f"changed since the run began: {k} was {before.get(k)!r}, is {now.get(k)!r}" for k in keys]


def _plain(recipe: Recipe) -> Any:
    return yaml.safe_load(yaml.safe_dump(recipe.plain(), sort_keys=False))


def _flat(values: Any, start: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {start.removesuffix("."): values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{start}{key}.")
    return flat


def _write_recipe(recipe: Recipe, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    (output / RECIPE).write_text(yaml.safe_dump(recipe.plain(), sort_keys=False))


class Arguments(TrainingArguments):  # type: ignore[misc]  # transformers is not typed
    """One card a process: with more, Trainer would wrap the model in DataParallel, which runs a whole batch on each."""

    @property
    def n_gpu(self) -> int:
        """Cards of this process."""
        return min(self.cards, 1)

    @property
    def cards(self) -> int:
        """Cards that this process could use."""
        return int(super().n_gpu)


def arguments(recipe: Recipe, output: Path) -> Arguments:
    """The recipe as transformers' TrainingArguments."""
    how, run = recipe.optimiser, recipe.run
    return Arguments(
        output_dir=str(output),
        per_device_train_batch_size=how.batch,
        per_device_eval_batch_size=how.batch,
        gradient_accumulation_steps=how.accumulation,
        learning_rate=how.lr,
        lr_scheduler_type=how.schedule,
        warmup_steps=how.warmup,
        weight_decay=how.weight_decay,
        adam_beta2=how.beta2,
        max_grad_norm=how.max_grad_norm,
        num_train_epochs=how.epochs,
        max_steps=how.max_steps or -1,
        bf16=run.bf16,
        use_cpu=not torch.cuda.is_available(),
        seed=run.seed,
        dataloader_num_workers=run.workers,
        dataloader_pin_memory=torch.cuda.is_available(),
        logging_steps=run.log_every,
        logging_nan_inf_filter=False,
        save_steps=run.save_every,
        save_total_limit=run.keep,
        eval_strategy="steps" if run.evaluate_every else "no",
        eval_steps=run.evaluate_every,
        report_to=_report_to(run.report_to),
        deepspeed=_deepspeed(run.deepspeed),
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,
        remove_unused_columns=False,
        disable_tqdm=True,
        log_level="error",
    )


def _report_to(wanted: str) -> list[str]:
    there = importlib.util.find_spec("tensorboard") is not None
    if wanted == "tensorboard" and not there:
        raise RecipeError("run.report_to is tensorboard, which is not installed: pip install tensorboard")
    return ["tensorboard"] if there and wanted != "none" else []


def _deepspeed(wanted: str | None) -> str | None:
    if wanted is None:
        return None
    path = launch_files().get(wanted) or Path(wanted).expanduser()
    if path.suffix != ".json" or not path.is_file():
        raise RecipeError(f"run.deepspeed is {wanted!r}: say zero2, zero3 or a DeepSpeed JSON file")
    if importlib.util.find_spec("deepspeed") is None:
        raise RecipeError("run.deepspeed needs the package deepspeed: pip install deepspeed")
    return str(path)
