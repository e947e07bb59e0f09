"""Started by torchrun: the second process alone has a loss that is no number, where a checkpoint is due and no log."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import texts
from accelerate import PartialState

from weavetime.errors import NumericsError
from weavetime.train.run import train
from weavetime.train.task import TASKS
from weavetime.train.trainer import TaskTrainer

TASKS["texts"] = "texts:TextTask"
plain = TaskTrainer.compute_loss


def broken(
    self: TaskTrainer, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
) -> Any:
    if os.environ["RANK"] == "1" and self.state.global_step == 1:
        num_items_in_batch = num_items_in_batch * float("nan")
    return plain(self, model, inputs, return_outputs, num_items_in_batch)


TaskTrainer.compute_loss = broken  # type: ignore[method-assign]
base, output = map(Path, sys.argv[1:3])
recipe = texts.recipe(base, output, task="texts", run={"log_every": 3, "save_every": 2}, optimiser={"max_steps": 4})
try:
    train(recipe, say=str)
except NumericsError as e:
    print(f"process {os.environ['RANK']}: {e}", flush=True)
PartialState().destroy_process_group()  # its threads, left running, can abort the interpreter as it ends
