"""Two processes under torchrun (gloo) train what one does, and resume as they were."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import texts
import torch
from safetensors.torch import load_file

from weavetime.train.run import train
from weavetime.train.task import TASKS

FOLDER = Path(__file__).parent
EQUAL = ("loss", "loss_early", "loss_late", "grad_norm", "eval_loss", "eval_loss_early", "bad_samples")


def torchrun(script: str, *arguments: object) -> str:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        str(FOLDER / script),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def log(output: Path) -> list[dict[str, float]]:
    return json.loads((output / "trainer_state.json").read_text())["log_history"]


def test_two_processes_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples refused on one process alone, an epoch's end, an odd number of held-out samples, a head with LoRA."""
    monkeypatch.setitem(TASKS, "texts", "texts:TextTask")
    base = texts.save_model(tmp_path / "base", "llava_onevision")
    one, two, resumed = (tmp_path / name for name in ("one", "two", "resumed"))
    train(texts.distributed_recipe(base, one, 4), say=str)
    shown = torchrun("two_processes.py", base, two, resumed, 2)
    assert shown.count("parameters, 12 samples, 5 steps") == 2  # one process speaks, of two runs
    for mine, theirs in zip(log(two), log(one), strict=True):
        for name in EQUAL:
            assert (name in mine) == (name in theirs)
            assert mine.get(name, 0.0) == pytest.approx(theirs.get(name, 0.0), rel=1e-4), (name, mine, theirs)
    ours, his, again = (load_file(p / "adapter_model.safetensors") for p in (two, one, resumed))
    for name in his:
        torch.testing.assert_close(ours[name], his[name], rtol=1e-3, atol=1e-5)
        assert torch.equal(again[name], ours[name])
    listed = [sorted((p / "bad_samples.jsonl").read_text().splitlines()) for p in (one, two, resumed)]
    assert listed[0] == listed[1] == listed[2]
    assert len(listed[0]) == 4


def test_a_loss_that_is_no_number_on_one_process_stops_all_and_is_not_kept(tmp_path: Path) -> None:
    base, output = texts.save_model(tmp_path / "base", "llava_onevision"), tmp_path / "out"
    shown = torchrun("one_broken.py", base, output)
    for rank in (0, 1):
        assert f"process {rank}: the loss is no number at step 2: lower the learning rate" in shown
    assert not list(output.glob("checkpoint-*"))
