"""Started by torchrun: trains texts, then breaks a copy of the run off before its end and resumes it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import texts
from accelerate import PartialState

from weavetime.train.run import train
from weavetime.train.task import TASKS

TASKS["texts"] = "texts:TextTask"
base, whole, resumed, accumulation = (*map(Path, sys.argv[1:4]), int(sys.argv[4]))
train(texts.distributed_recipe(base, whole, accumulation))
state = PartialState()
state.wait_for_everyone()
if state.is_main_process:
    shutil.copytree(whole, resumed)
    shutil.rmtree(resumed / "checkpoint-5")
    (resumed / "adapter_model.safetensors").unlink()
state.wait_for_everyone()
train(texts.distributed_recipe(base, resumed, accumulation), resume=True)
state.destroy_process_group()
