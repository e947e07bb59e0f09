"""Adapters out and in again: what was trained is what loads, merged or not; another base stops it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import texts
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import tiny
import weavetime as wt
from weavetime.backbones.identity import fingerprint
from weavetime.cli import main
from weavetime.errors import AdapterError, ModelError, WeaveTimeError
from weavetime.train.folders import merge
from weavetime.train.recipe import DECODER_LINEARS, Lora, Tuning
from weavetime.train.run import train
from weavetime.train.task import TASKS, make_task

Trained = Callable[[Path, str], Any]
EVERYTHING = Lora(r=4, alpha=8, dropout=0.1, targets=(*DECODER_LINEARS, "lm_head"))
TUNINGS = {
    "lora": Tuning(lora=EVERYTHING),
    "projector": Tuning(lora=EVERYTHING, projector=True),
    "full": Tuning(full=True, projector=True),
}


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "texts", "texts:TextTask")


@pytest.fixture(scope="module", params=tiny.TRAINED)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return texts.save_model(tmp_path_factory.mktemp(request.param) / "base", request.param)


@pytest.fixture(scope="module")
def runs(base: Path) -> dict[str, Path]:
    """Runs of this base that were made already."""
    return {}


@pytest.fixture
def trained(base: Path, runs: dict[str, Path]) -> Trained:
    """A run of a few large steps in a folder; the task with what it has learnt."""

    def make(output: Path, name: str) -> Any:
        made = texts.recipe(
            base,
            base.parent / name,
            task="texts",
            tuning=TUNINGS[name],
            window=144,
            optimiser={"lr": 2e-2, "max_steps": 3},
        )
        if name not in runs:
            train(made, say=str)
            runs[name] = Path(made.output)
        shutil.copytree(runs[name], output)
        task = make_task(made)
        task.restore(output)
        task.module.eval()
        return task

    return make


@torch.no_grad()
def logits(backbone: Any) -> torch.Tensor:
    """Of a picture and a text, by the plain host without the engine."""
    size = (35, 35) if backbone.family == "llava_onevision" else (24, 40)
    [frame] = tiny.frames(1, size=size)
    picture = backbone.embed([frame], backbone.grid(*size))
    text = backbone.embed_ids(torch.arange(60, 90))[None]
    hidden = backbone.decoder(inputs_embeds=torch.cat((picture, text), 1), use_cache=False).last_hidden_state
    return backbone.logits(hidden)


def answer(engine: wt.Engine) -> tuple[str, float]:
    stream = engine.stream(window=4)
    stream.feed(tiny.frames(8))
    found = stream.ask("What is it?", decoding=wt.Decoding(max_tokens=12))
    return found.text, found.gate


@pytest.mark.parametrize("name", ["lora", "projector"])
def test_an_adapter_loads_as_it_was_trained(base: Path, tmp_path: Path, trained: Trained, name: str) -> None:
    task = trained(tmp_path / "run", name)
    engine = wt.load(base, adapter=tmp_path / "run")
    expected = logits(task.backbone)
    torch.testing.assert_close(logits(engine.backbone), expected, rtol=1e-4, atol=1e-4)
    assert (expected - logits(wt.load(base, time_prompts=True).backbone)).abs().max() > 0.05
    record = engine.record
    assert (record.time_prompts, record.window, record.recipe, record.trained) == (True, 144, "tiny", True)
    assert engine.backbone.time_prompts
    assert engine.stream().config.window == 144
    with safe_open(tmp_path / "run" / "adapter_model.safetensors", "pt") as held:
        keys = list(held.keys())
    assert not any("embed_tokens" in k or "base_layer" in k for k in keys)
    assert any("lm_head.lora_A" in k for k in keys)
    assert any("merger" in k or "projector" in k for k in keys) == (name == "projector")


def test_a_checkpoint_is_an_adapter_too(base: Path, tmp_path: Path, trained: Trained) -> None:
    trained(tmp_path / "run", "lora")
    (tmp_path / "run" / "adapter_config.json").unlink()
    assert wt.load(base, adapter=tmp_path / "run").record.window == 144
    wt.load(base, adapter=tmp_path / "run" / "checkpoint-2")


def test_merged_is_base_and_adapter(base: Path, tmp_path: Path, trained: Trained) -> None:
    trained(tmp_path / "run", "projector")
    merged = merge(base, tmp_path / "run", tmp_path / "merged")
    apart, whole = wt.load(base, adapter=tmp_path / "run"), wt.load(tmp_path / "merged")
    assert torch.equal(logits(whole.backbone), logits(apart.backbone))
    assert answer(whole) == answer(apart)
    assert merged.base is None
    assert whole.record == merged
    assert (whole.record.window, whole.record.time_prompts) == (144, True)
    assert not list(tmp_path.glob(".*"))
    names = {p.name for p in (tmp_path / "merged").iterdir()}
    assert {"config.json", "tokenizer.json", "preprocessor_config.json", "weavetime.json"} <= names
    assert not any("adapter" in n for n in names)


def test_merged_keeps_the_dtype_of_the_base(base: Path, tmp_path: Path, trained: Trained) -> None:
    trained(tmp_path / "run", "lora")
    half = shutil.copytree(base, tmp_path / "half")
    path = half / "model.safetensors"
    save_file({k: v.bfloat16() for k, v in load_file(path).items()}, path, metadata={"format": "pt"})
    config = json.loads((half / "config.json").read_text())
    (half / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}))
    merge(half, tmp_path / "run", tmp_path / "merged")
    found = load_file(tmp_path / "merged" / "model.safetensors")
    assert {v.dtype for v in found.values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["dtype"] == "bfloat16"
    apart = wt.load(half, adapter=tmp_path / "run", dtype="bfloat16")
    whole = wt.load(tmp_path / "merged", dtype="bfloat16")
    assert torch.equal(logits(whole.backbone), logits(apart.backbone))


def test_full_training_leaves_a_model(base: Path, tmp_path: Path, trained: Trained) -> None:
    task = trained(tmp_path / "run", "full")
    engine = wt.load(tmp_path / "run")
    assert torch.equal(logits(engine.backbone), logits(task.backbone))
    assert engine.record == wt.config.Record(True, 144, recipe="tiny", trained=True)
    answer(engine)


def test_another_base_stops(base: Path, tmp_path: Path, trained: Trained) -> None:
    task = trained(tmp_path / "run", "lora")
    other = texts.save_model(tmp_path / "other", task.backbone.family, seed=1)
    with pytest.raises(AdapterError, match=r"run was trained on another base \([0-9a-f]{16}, this model is"):
        wt.load(other, adapter=tmp_path / "run")
    with pytest.raises(AdapterError, match="another base"):
        merge(other, tmp_path / "run", tmp_path / "merged")
    assert not list(tmp_path.glob("*merged*"))
    assert not list(tmp_path.glob(".*merged*"))


def test_fingerprint() -> None:
    model = tiny.host("qwen2_vl")
    first = fingerprint(model)
    with torch.no_grad():
        half = tiny.host("qwen2_vl").to(torch.bfloat16)
    assert fingerprint(half) == fingerprint(half.to(torch.float16)) == fingerprint(half.float()) == first
    with torch.no_grad():
        model.model.language_model.layers[1].mlp.up_proj.weight.mul_(1.01)
    assert fingerprint(model) != first


def test_merge_leaves_what_is_there(base: Path, tmp_path: Path, trained: Trained) -> None:
    trained(tmp_path / "run", "lora")
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(ModelError, match="is there already and not empty"):
        merge(base, tmp_path / "run", out)
    assert [p.name for p in out.iterdir()] == ["mine.txt"]


def test_merge_that_fails_leaves_nothing(
    base: Path, tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(tmp_path / "run", "lora")
    monkeypatch.setattr(wt.config.Record, "write", lambda self, folder: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(OSError, match="no space left"):
        merge(base, tmp_path / "run", tmp_path / "out")
    assert {p.name for p in tmp_path.iterdir()} == {"run"}


def test_merge_command(
    base: Path, tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(tmp_path / "run", "lora")
    capsys.readouterr()
    words = ["weavetime", "merge", base, "--adapter", tmp_path / "run", "--out", tmp_path / "merged"]
    monkeypatch.setattr("sys.argv", [str(w) for w in words])
    with pytest.raises(SystemExit) as left:
        main()
    assert not left.value.code
    assert capsys.readouterr().out.strip() == str(tmp_path / "merged")
    wt.load(tmp_path / "merged")
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1
    assert "is there already" in capsys.readouterr().err


def test_targets_that_match_nothing(base: Path, tmp_path: Path) -> None:
    tuning = Tuning(lora=Lora(targets=("q_proj", "connector")))
    with pytest.raises(WeaveTimeError, match="connector matches nothing"):
        make_task(texts.recipe(base, tmp_path, task="texts", tuning=tuning))
