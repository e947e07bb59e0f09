"""The training loop: transformers' Trainer around a Task, its loss exact over accumulation and processes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor, distributed, nn
from torch.utils.data import DataLoader, SequentialSampler
from transformers import Trainer, TrainerCallback, TrainingArguments

from ..errors import NumericsError, RecipeError
from .bad import BadSamples
from .muon import MuonAdamW, groups
from .recipe import WHOLE
from .task import Size, Task, Term


class Step(nn.Module):
    """A task's forward as a module, so that DDP, FSDP and DeepSpeed see the forward that they share out."""

    accepts_loss_kwargs = True  # the loss below is normalised over all accumulated batches: Trainer divides no more

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.module = task.module
        self._no_split_modules = list(task.blocks)
        self._losses = task.losses

    def forward(self, batch: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Weighted sums and plain (sum, count), by term."""
        terms = self._losses(batch)
        weighted = {name: term.weight * term.total for name, term in terms.items()}
        return weighted, {name: _plain(term) for name, term in terms.items()}


def _plain(term: Term) -> Tensor:
    total = term.total.detach().double()
    count = term.count  # a number is filled in on the device: copied there, it would be waited for
    return torch.stack((total, total.new_full((), count) if isinstance(count, int) else count.to(total)))


class TaskTrainer(Trainer):  # type: ignore[misc]  # transformers is not typed
    """Trains a Task. Logs `loss` (exact over the step), `loss_NAME` of each term, speeds, and samples refused."""

    control: Any
    optimizer: Any
    lr_scheduler: Any

    def __init__(self, task: Task, args: TrainingArguments, kind: str, most_bad: int, callbacks: list[Any]) -> None:
        self.task, self.kind = task, kind
        super().__init__(
            model=Step(task),
            args=args,
            data_collator=_Collate(task),
            train_dataset=task.dataset,
            eval_dataset=(),  # evaluate() below asks the task
            callbacks=[*callbacks, _Epochs(task), _Intervals()],
        )
        if kind == "muon" and (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            raise RecipeError(WHOLE)
        self.bad = BadSamples(Path(args.output_dir), most_bad, writes=args.should_save)
        self._seen = torch.zeros(2, dtype=torch.float64)  # tokens and samples since the last log, of all processes
        self._since = time.monotonic()
        self._terms: dict[str, Tensor] = {}
        self._broken = torch.full((), math.inf, device=args.device)  # the first step whose loss was no number

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """Samples in a new order each epoch, but for data that says that its order matters."""
        data = self.train_dataset if train_dataset is None else train_dataset
        return SequentialSampler(data) if getattr(data, "in_order", False) else super()._get_train_sampler(data)

    def create_optimizer(self, *more: Any) -> Any:
        """The recipe's: Trainer knows AdamW."""
        if self.kind != "muon" or self.optimizer is not None:
            return super().create_optimizer(*more)
        how = self.args
        self.optimizer = MuonAdamW(
            groups(self.model, set(self.get_decay_parameter_names(self.model))),
            lr=how.learning_rate,
            betas=(how.adam_beta1, how.adam_beta2),
            weight_decay=how.weight_decay,
            fused=how.device.type == "cuda",
        )
        return self.optimizer

    # A step

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor]:
        """The batches of one optimiser step, and how many tokens its loss sums over on all processes."""
        batches = [b for _, b in zip(range(num_batches), epoch_iterator, strict=False)]
        sizes = [self.task.size(b["batch"]) for b in batches]
        found = self._sum([(s.loss, s.tokens, s.samples, len(s.bad)) for s in sizes], device)
        self._seen += found[1:3].cpu()
        if found[3]:
            self.bad.add(gather_object(self._refusals(sizes)))
        return batches, found[0].clamp_min(1).float()

    def _refusals(self, sizes: list[Size]) -> list[dict[str, Any]]:
        at = {"step": self.state.global_step + 1, "epoch": int(self.state.epoch or 0)}
        refused = [b for size in sizes for b in size.bad]
        return [{**at, "index": b.index, "where": b.where, "reason": b.reason} for b in refused]

    def _check(self) -> None:
        """Raises NumericsError on all processes where a loss was no number on one: all learnt since is lost."""
        if self.args.world_size > 1:
            distributed.all_reduce(self._broken, distributed.ReduceOp.MIN)
        if math.isfinite(step := float(self._broken)):
            raise NumericsError(
                f"the loss is no number at step {step:.0f}: lower the learning rate, or look at that step's samples"
            )

    def _sum(self, rows: list[tuple[int, ...]], device: torch.device) -> Tensor:
        """Column sums over the rows of all processes; of a single one without the device, which would be waited for."""
        here = torch.tensor(rows, dtype=torch.float64).sum(0)
        return self.accelerator.reduce(here.to(device), reduction="sum") if self.args.world_size > 1 else here

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """This batch's share of the step's loss, times the processes that gradients are averaged over."""
        weighted, plain = model(**inputs)
        loss = torch.stack(list(weighted.values())).sum() / num_items_in_batch
        # Asking here would wait for the card at every step: `_check` asks where something is logged or written.
        here = torch.full_like(self._broken, self.state.global_step + 1)
        self._broken = torch.minimum(self._broken, here.masked_fill(torch.isfinite(loss.detach()), math.inf))
        for name, pair in plain.items():
            self._terms[name] = self._terms.get(name, 0) + pair
        loss = loss * self.accelerator.num_processes
        return (loss, plain) if return_outputs else loss

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {"batch": _move(inputs["batch"], self.args.device)}

    # The log

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what was seen since the last log to a training log's entry."""
        self._check()
        if "loss" in logs:
            logs |= self._losses(self._terms)
            taken = max(time.monotonic() - self._since, 1e-9)
            tokens, samples = self._seen.tolist()
            logs |= {"tokens_per_second": tokens / taken, "samples_per_second": samples / taken}
            logs["bad_samples"] = self.bad.count
            self._terms = {}
            self._restart_clock()
        super().log(logs, start_time)

    def _restart_clock(self) -> None:
        self._seen.zero_()
        self._since = time.monotonic()

    def _losses(self, terms: Mapping[str, Tensor]) -> dict[str, float]:
        """Mean per token of each term, over all processes."""
        if not terms:
            return {}
        names = sorted(terms)
        sums = self.accelerator.reduce(torch.stack([terms[n] for n in names]), reduction="sum")
        return {f"loss_{n}": float(s / c) for n, (s, c) in zip(names, sums, strict=True) if c}

    # Evaluation

    def evaluate(self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> Any:
        """Losses on the task's held-out samples, and the task's own figures."""
        was = self.model.training
        self.model.eval()
        began = time.monotonic()
        with torch.no_grad():
            found = self._held_out() | dict(self.task.evaluate() or {})
        self.model.train(was)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self._since += time.monotonic() - began
        return metrics

    def _held_out(self) -> dict[str, float]:
        if self.task.held_out is None:
            return {}
        terms: dict[str, Tensor] = {}
        overall, bad = torch.zeros(2, dtype=torch.float64, device=self.args.device), 0
        for batch in self._held_out_batches():
            bad += len(self.task.size(batch).bad)
            with self.compute_loss_context_manager():
                weighted, plain = self.model(_move(batch, self.args.device))
            for name, pair in plain.items():
                terms[name] = terms.get(name, 0) + pair
                overall += torch.stack((weighted[name].double(), pair[1]))
        total, count = self.accelerator.reduce(overall, reduction="sum").tolist()
        refused = self._sum([(bad,)], self.args.device)
        mean = {"loss": total / count} if count else {}
        return {**mean, **self._losses(terms), "bad_samples": float(refused[0])}

    def _held_out_batches(self) -> DataLoader[Any]:
        """This process's share: as many batches on each, the last of them empty where there are too few samples."""
        held: Any = self.task.held_out
        batch, processes = self.args.per_device_eval_batch_size, self.args.world_size
        mine = list(range(self.args.process_index, len(held), processes))
        rounds = math.ceil(math.ceil(len(held) / processes) / batch)
        cuts = [mine[i * batch : (i + 1) * batch] for i in range(rounds)]
        return DataLoader(
            held, batch_sampler=cuts, collate_fn=self.task.collate, num_workers=self.args.dataloader_num_workers
        )

    # Checkpoints

    def _save_checkpoint(self, *more: Any) -> None:
        self._check()
        super()._save_checkpoint(*more)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if not self.args.should_save or state_dict == {}:  # {}: DeepSpeed keeps the shards itself
            return
        folder = Path(output_dir or self.args.output_dir)
        if state_dict is not None:
            start = "module."
            state_dict = {k.removeprefix(start): v for k, v in state_dict.items() if k.startswith(start)}
        self.task.save(folder, state_dict, final=folder == Path(self.args.output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            self.task.restore(Path(resume_from_checkpoint))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or self.is_deepspeed_enabled:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        said = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        if self.is_fsdp_enabled:
            super()._load_optimizer_and_scheduler(checkpoint)
        else:
            # transformers before 5.24 asks for the device "cpu:0" where several processes train on CPUs: torch has none
            for target, name in ((self.optimizer, "optimizer.pt"), (self.lr_scheduler, "scheduler.pt")):
                target.load_state_dict(torch.load(Path(checkpoint) / name, map_location="cpu", weights_only=True))
        self._go_by(said)

    def _go_by(self, said: list[dict[str, Any]]) -> None:
        """Rates and decays of the recipe as it is now, at the checkpoint's step: loading brought back the old ones."""
        scheduler = self.lr_scheduler
        scheduler.base_lrs = [group["initial_lr"] for group in said]
        rates = [
            base * f(scheduler.last_epoch) for base, f in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
        ]
        for group, own, rate in zip(self.optimizer.param_groups, said, rates, strict=True):
            group.update(own, lr=rate)
        scheduler._last_lr = rates


class _Epochs(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Tells the dataset its epoch: accelerate does so only where one process reads all of it."""

    def __init__(self, task: Task) -> None:
        self.dataset: Any = task.dataset

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(int(state.epoch or 0))


class _Intervals(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Logs, evaluates and saves as often as the recipe says now: a checkpoint's state brings back what it said then."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        state.compute_steps(args, state.max_steps)


class _Collate:
    """A batch as the one entry of a dict, which is what Trainer hands on; of a class, so that workers can have it."""

    def __init__(self, task: Task) -> None:
        self.collate = task.collate

    def __call__(self, items: list[Any]) -> dict[str, Any]:
        return {"batch": self.collate(items)}


def _move(value: Any, device: torch.device) -> Any:
    """Every tensor in dataclasses, mappings, lists and tuples, on `device`."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if is_dataclass(value) and not isinstance(value, type):
        moved = {f.name: _move(getattr(value, f.name), device) for f in fields(value) if f.init}
        return replace(value, **moved)
    if isinstance(value, Mapping):
        return {k: _move(v, device) for k, v in value.items()}
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(_move(v, device) for v in value)
    return value
