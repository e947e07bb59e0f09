"""`weavetime train` from videos and a recipe to an adapter that answers: both families, on the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import texts
import torch
import yaml

import tiny
import weavetime as wt
from weavetime.cli import main
from weavetime.errors import DataError, RecipeError
from weavetime.train.checkpoints import all_checkpoints, damage
from weavetime.train.recipe import DECODER_LINEARS, read_recipe
from weavetime.train.run import train
from weavetime.train.samples import inputs_embeds
from weavetime.train.samples_task import SamplesTask
from weavetime.train.task import Size, make_task

COLOURS = {"red": (200, 30, 30), "green": (30, 180, 60), "blue": (30, 60, 210), "white": (230, 230, 230)}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos of 6 s whose colour changes, 4 samples about them, and one whose video is missing."""
    folder = tmp_path_factory.mktemp("data")
    for number, names in enumerate((("red", "green", "blue"), ("blue", "white", "red"))):
        with av.open(str(folder / f"{number}.mp4"), "w") as out:
            stream = out.add_stream("libx264", rate=4, options={"crf": "18", "g": "4"})
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for i in range(24):
                pixels = np.full((48, 64, 3), COLOURS[names[i // 8]], np.uint8)
                out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            out.mux(stream.encode())
    rows = [
        sample(f"{n}.mp4", q, a)
        for n in (0, 1)
        for q, a in (("First?", "red blue"[4 * n : 4 * n + 4]), ("Last?", "yes"))
    ]
    write(folder / "good.jsonl", rows)
    write(folder / "bad.jsonl", [*rows, sample("gone.mp4", "Where?", "nowhere")])
    return folder


def sample(video: str, question: str, answer: str) -> list[dict[str, Any]]:
    shown = {"type": "video", "video": video, "video_start": 0, "video_end": 6, "nframes": 4}
    asked = {"role": "user", "content": [shown, {"type": "text", "text": question}]}
    return [asked, {"role": "assistant", "content": [{"type": "text", "text": answer}]}]


def write(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def written(folder: Path, family: str, videos: Path, **more: Any) -> Path:
    """A recipe file for a tiny model."""
    base = texts.save_model(folder / "base", family)
    values = {
        "model": str(base),
        "output": str(folder / "run"),
        "window": 100,
        "tuning": {
            "lora": {"r": 32, "alpha": 64, "dropout": 0.0, "targets": [*DECODER_LINEARS, "lm_head"]},
            "projector": True,
        },
        "optimiser": {
            "lr": 1e-2,
            "batch": 2,
            "accumulation": 2,
            "max_steps": 16,
            "warmup": 0.0,
            "schedule": "constant",
        },
        "run": {"bf16": False, "workers": 0, "log_every": 1, "save_every": 8, "report_to": "none"},
        "data": {"files": [str(videos / "good.jsonl")]},
        "samples": {"clips": 2},
    }
    for key, value in more.items():
        values[key] = {**values.get(key, {}), **value} if isinstance(value, dict) else value
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def call(monkeypatch: pytest.MonkeyPatch, *words: Any) -> int:
    monkeypatch.setattr("sys.argv", ["weavetime", *map(str, words)])
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


def log(output: Path) -> list[dict[str, float]]:
    return json.loads((output / "trainer_state.json").read_text())["log_history"]


@pytest.mark.parametrize("family", [*tiny.TRAINED, "longva"])
def test_from_videos_to_an_adapter(
    family: str, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = written(tmp_path, family, videos, samples={"frames_per_step": 2 if family == "qwen2_vl" else 1})
    assert (
        call(
            monkeypatch,
            "train",
            recipe,
            "--set",
            f"data.held_out={videos / 'good.jsonl'}",
            "-s",
            "run.evaluate_every=8",
        )
        == 0
    )
    out, err = capsys.readouterr()
    assert out.strip() == str(tmp_path / "run")
    assert "4 samples, 16 steps" in err
    entries = log(tmp_path / "run")
    losses = [e["loss"] for e in entries if "loss" in e]
    answers = [e["loss_answer"] for e in entries if "loss_answer" in e]
    assert losses[-1] < 0.7 * losses[0]
    assert answers[-1] < 0.8 * answers[0]
    assert all("loss_reconstruction" in e for e in entries if "loss" in e)
    held = [e for e in entries if "eval_loss" in e]
    assert [e["step"] for e in held] == [8, 16]
    assert held[1]["eval_loss_answer"] < held[0]["eval_loss_answer"]

    engine = wt.load(tmp_path / "base", adapter=tmp_path / "run")
    assert (engine.record.time_prompts, engine.record.window, engine.record.recipe) == (True, 100, "mine")
    with engine.stream() as stream:
        stream.feed(tiny.frames(4))
        stream.ask("First?")


@pytest.mark.parametrize("family", [*tiny.TRAINED, *tiny.CLIP])
@pytest.mark.parametrize("time_prompts", [True, False], ids=["segments", "one_video"])
def test_losses_are_the_plain_hosts(family: str, time_prompts: bool, videos: Path, tmp_path: Path) -> None:
    """A batch of samples of different lengths against each alone, all logits, no padding and no pieces."""
    task = samples_task(tmp_path, family, videos, time_prompts=time_prompts, samples={"prob": float(time_prompts)})
    items = [task.dataset[i] for i in (0, 1, 2)]
    with torch.no_grad():
        terms = task.losses(task.collate(items))
        expected = {"reconstruction": [], "answer": []}
        for item in items:
            batch = task.collate([item])
            embeds = inputs_embeds(task.backbone, batch)
            hidden = task.backbone.decoder(inputs_embeds=embeds, position_ids=batch.position_ids).last_hidden_state
            every = task.backbone.model.lm_head(hidden)[0].log_softmax(-1)
            for i in range(1, len(item.ids)):
                if item.labels[i] != -100:
                    part = "reconstruction" if item.parts[i] == 1 else "answer"
                    expected[part].append(-every[i - 1, item.labels[i]])
    for name, found in expected.items():
        assert int(terms[name].count) == len(found)
        torch.testing.assert_close(
            terms[name].total, torch.stack([*found, torch.zeros(())]).sum(), rtol=1e-4, atol=1e-4
        )
    size = task.size(task.collate(items))
    assert size.loss == sum(map(len, expected.values()))
    assert (size.tokens, size.samples) == (sum(len(i.ids) for i in items), 3)
    assert (len(expected["reconstruction"]) > 0) == time_prompts


def samples_task(folder: Path, family: str, videos: Path, **more: Any) -> SamplesTask:
    task = make_task(read_recipe(written(folder, family, videos, **more)))
    assert isinstance(task, SamplesTask)
    return task


def test_a_family_of_pairs_is_only_run(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="qwen3_vl cannot be trained here yet"):
        make_task(read_recipe(written(tmp_path, "qwen3_vl", videos)))


@pytest.mark.parametrize("family", tiny.TRAINED)
def test_a_batch_of_nothing_reaches_every_trained_weight(family: str, videos: Path, tmp_path: Path) -> None:
    """Processes that share a model wait for each other's gradients: none may stay away."""
    more = {"samples": {"frames_per_step": 2 if family == "qwen2_vl" else 1}}
    task = samples_task(
        tmp_path, family, videos, tuning={"lora": {"targets": ["q_proj", "down_proj", "lm_head"]}}, **more
    )
    batch = task.collate([])
    assert task.size(batch) == Size(0, 0, 0)
    loss = sum(term.total for term in task.losses(batch).values())
    loss.backward()
    assert float(loss.detach()) == 0
    trained = [p for p in task.module.parameters() if p.requires_grad]
    assert all(p.grad is not None and not p.grad.any() for p in trained)
    for p in trained:
        p.grad = None
    sum(term.total for term in task.losses(task.collate([task.dataset[0]])).values()).backward()
    assert all(p.grad is not None for p in trained)
    assert any(p.grad.any() for n, p in task.module.named_parameters() if "modules_to_save" in n and p.requires_grad)
    assert all(p.grad is None for p in task.module.parameters() if not p.requires_grad)


@pytest.mark.parametrize("family", tiny.TRAINED)
def test_a_frozen_tower_keeps_nothing_for_the_backward_pass(family: str, videos: Path, tmp_path: Path) -> None:
    more = {"samples": {"frames_per_step": 2 if family == "qwen2_vl" else 1}}
    task = samples_task(tmp_path, family, videos, run={"gradient_checkpointing": True}, **more)
    ran = []
    for module in task.backbone.vision.modules():
        if isinstance(module, torch.nn.Linear) and not any(p.requires_grad for p in module.parameters()):
            module.register_forward_hook(lambda _, __, out: ran.append(out.requires_grad))
    task.losses(task.collate([task.dataset[0]]))
    assert ran
    assert not any(ran)


def test_an_unusable_sample_is_listed_and_counted(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = written(
        tmp_path, "llava_onevision", videos, data={"files": [str(videos / "bad.jsonl")]}, optimiser={"max_steps": 3}
    )
    assert call(monkeypatch, "train", recipe) == 0
    [entry] = [json.loads(x) for x in (tmp_path / "run" / "bad_samples.jsonl").read_text().splitlines()][:1]
    assert entry["where"].endswith("bad.jsonl:5")
    assert "gone.mp4" in entry["reason"]
    capsys.readouterr()
    assert call(monkeypatch, "train", recipe, "--output", tmp_path / "again", "--max-bad-samples", 0) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert "1 samples could not be used" in said
    assert "gone.mp4" in said


def test_dry_run(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A shipped recipe on a tiny model."""
    base = texts.save_model(tmp_path / "base", "llava_onevision")
    changes = [f"model={base}", f"data.files={videos / 'good.jsonl'}", "run.bf16=false", "optimiser.accumulation=2"]
    words = [word for change in changes for word in ("--set", change)]
    assert call(monkeypatch, "train", "llava-onevision-7b-paper", "--dry-run", *words) == 0
    out = capsys.readouterr().out
    assert "language_model.self_attn.q_proj (LoRA)" in out
    assert "multi_modal_projector.linear_1" in out
    assert "4 samples, 2 a step with one process, 2 steps" in out
    assert {p.name for p in tmp_path.iterdir()} == {"base"}


def test_no_data(tmp_path: Path, videos: Path) -> None:
    with pytest.raises(RecipeError, match=r"names no training files: say --set data.files=FILE"):
        samples_task(tmp_path, "qwen2_vl", videos, data={"files": []})
    with pytest.raises(RecipeError, match=r"mine: unknown 'sample': do you mean 'samples'"):
        samples_task(tmp_path, "qwen2_vl", videos, sample={"clips": 3})
    with pytest.raises(RecipeError, match=r"mine.samples: unknown 'clip': do you mean 'clips'"):
        samples_task(tmp_path, "qwen2_vl", videos, samples={"clip": 3})
    with pytest.raises(DataError, match="clips must be at least 1"):
        samples_task(tmp_path, "qwen2_vl", videos, samples={"clips": 0})


def test_killed_and_resumed(videos: Path, tmp_path: Path) -> None:
    """SIGKILL somewhere after a checkpoint; what comes out is what the run without a break gives."""
    recipe = written(
        tmp_path, "qwen2_vl", videos, optimiser={"max_steps": 12, "accumulation": 1}, run={"save_every": 2, "keep": 99}
    )
    command = [sys.executable, "-m", "weavetime", "train", str(recipe), "--output"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    with subprocess.Popen([*command, str(killed)], stderr=subprocess.DEVNULL, env=environment) as process:
        deadline = time.monotonic() + 120
        while not (killed / "checkpoint-4" / "trainer_state.json").is_file() and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert not (killed / "checkpoint-12").exists()
    while damage(all_checkpoints(killed)[-1]):  # the one it was writing
        all_checkpoints(killed)[-1].rename(tmp_path / "torn")
    for output, resume in ((killed, True), (whole, False)):
        train(read_recipe(recipe, [f"output={output}"]), resume=resume, say=str)
    ours, theirs = (wt.load(tmp_path / "base", adapter=p).backbone.model.state_dict() for p in (killed, whole))
    assert all(torch.equal(ours[n], theirs[n]) for n in theirs)
    assert [e["loss"] for e in log(killed) if "loss" in e] == [e["loss"] for e in log(whole) if "loss" in e]
