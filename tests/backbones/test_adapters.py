"""Adapters: merged = what PEFT computes unmerged, in both layouts; bad input is an AdapterError and changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModelForImageTextToText

from weavetime.backbones.adapters import load_adapter, locate
from weavetime.config import Record
from weavetime.errors import AdapterError
from weavetime.hub import modelscope

pytest.importorskip("peft")
EXACT = {"atol": 1e-5, "rtol": 0.0}
FAMILIES = ("llava_onevision", "qwen2_vl")


def load(model: Any, where: Any, family: str, **kwargs: Any) -> Record:
    return load_adapter(model, where, family=family, **{"time_prompts": None, **kwargs})


def older(kit: SimpleNamespace, made: Any, family: str) -> None:
    made.edit(lambda w: {kit.to_older_layout(k, family): t for k, t in w.items()})


@pytest.mark.parametrize("layout", ["new", "older"])
@pytest.mark.parametrize("family", FAMILIES)
def test_merged_equals_peft_unmerged(kit: SimpleNamespace, tmp_path: Path, family: str, layout: str) -> None:
    made = kit.make_adapter(tmp_path / "a", kit.tiny(family))
    if layout == "older":
        older(kit, made, family)
    model = kit.tiny(family)
    before = kit.logits(model)
    host = type(model)
    record = load(model, made.folder, family)
    assert record == Record(time_prompts=True, window=144)
    assert_close(kit.logits(model), made.logits, **EXACT)
    assert (made.logits - before).abs().max() > 0.05
    assert type(model) is host
    assert not any("peft" in type(m).__module__ for m in model.modules())
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_patterns_follow_the_names_they_were_written_for(kit: SimpleNamespace, tmp_path: Path, family: str) -> None:
    patterns = {
        "rank_pattern": {r".*layers\.0\.self_attn\.q_proj": 2, "v_proj": 6},
        "alpha_pattern": {r"model\.language_model\.layers\.1\.mlp\.up_proj": 40, "v_proj": 3},
    }
    made = kit.make_adapter(tmp_path / "a", kit.tiny(family), use_rslora=True, **patterns)
    model = kit.tiny(family)
    load(model, made.folder, family)
    assert_close(kit.logits(model), made.logits, **EXACT)

    older(kit, made, family)
    now, then = r"model\.language_model\.", (r"language_model\.model\." if family == "llava_onevision" else r"model\.")
    alphas = {k.replace(now, then): v for k, v in patterns["alpha_pattern"].items()}
    made.configure(alpha_pattern=alphas)
    again = kit.tiny(family)
    load(again, made.folder, family)
    assert_close(kit.logits(again), made.logits, **EXACT)


@pytest.mark.parametrize("targets", [["q_proj", "lm_head"], ["embed_tokens", "v_proj"], ["embed_tokens", "lm_head"]])
@pytest.mark.parametrize("family", FAMILIES)
def test_tied_head_is_untied(kit: SimpleNamespace, tmp_path: Path, family: str, targets: list[str]) -> None:
    made = kit.make_adapter(tmp_path / "a", kit.tiny(family, tied=True), target_modules=targets)
    model = kit.tiny(family, tied=True)
    head, embedding = model.lm_head, model.model.language_model.embed_tokens
    assert head.weight is embedding.weight
    old = head.weight.detach().clone()
    load(model, made.folder, family)
    assert_close(kit.logits(model), made.logits, **EXACT)
    assert head.weight.data_ptr() != embedding.weight.data_ptr()
    assert torch.equal(head.weight, old) == ("lm_head" not in targets)
    assert torch.equal(embedding.weight, old) == ("embed_tokens" not in targets)
    assert model.config.tie_word_embeddings is False
    assert not getattr(model.config.get_text_config(), "tie_word_embeddings", False)

    model.tie_weights()
    model.save_pretrained(tmp_path / "merged")
    reloaded = AutoModelForImageTextToText.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    assert_close(kit.logits(reloaded), made.logits, **EXACT)


@pytest.mark.parametrize("family", FAMILIES)
def test_untouched_head_stays_tied(kit: SimpleNamespace, tmp_path: Path, family: str) -> None:
    made = kit.make_adapter(tmp_path / "a", kit.tiny(family, tied=True))
    model = kit.tiny(family, tied=True)
    load(model, made.folder, family)
    assert model.lm_head.weight is model.model.language_model.embed_tokens.weight
    assert model.config.tie_word_embeddings is True


@pytest.mark.parametrize("layout", ["new", "older"])
def test_modules_saved_whole(kit: SimpleNamespace, tmp_path: Path, layout: str) -> None:
    family = "llava_onevision"
    whole = ["multi_modal_projector", "lm_head"]
    made = kit.make_adapter(tmp_path / "a", kit.tiny(family, tied=True), modules_to_save=whole)
    if layout == "older":
        older(kit, made, family)
    model = kit.tiny(family, tied=True)
    load(model, made.folder, family)
    assert_close(kit.logits(model), made.logits, **EXACT)
    x = torch.randn(3, 32)
    theirs = made.peft.base_model.model.model.multi_modal_projector
    assert_close(model.model.multi_modal_projector(x), theirs(x), **EXACT)
    assert not torch.equal(model.model.multi_modal_projector(x), kit.tiny(family).model.multi_modal_projector(x))


def test_vision_tower_in_both_layouts(kit: SimpleNamespace, tmp_path: Path) -> None:
    for family, target in (("llava_onevision", r".*vision_tower.*fc1"), ("qwen2_vl", r".*visual.*attn\.qkv")):
        made = kit.make_adapter(tmp_path / family, kit.tiny(family), target_modules=target)
        new, old = kit.tiny(family), kit.tiny(family)
        load(new, made.folder, family)
        older(kit, made, family)
        load(old, made.folder, family)
        merged = made.peft.merge_and_unload().state_dict()
        for name, weight in new.state_dict().items():
            assert_close(weight, merged[name], **EXACT)
            assert torch.equal(weight, old.state_dict()[name])
        assert kit.digest(new) != kit.digest(kit.tiny(family))


def test_sums_are_in_float32_and_the_dtype_stays(kit: SimpleNamespace, tmp_path: Path) -> None:
    made = kit.make_adapter(tmp_path / "a", kit.tiny("qwen2_vl"))
    model = kit.tiny("qwen2_vl").to(torch.bfloat16)
    base = {k: v.float().clone() for k, v in model.state_dict().items()}
    load(model, made.folder, "qwen2_vl")
    for name, module in made.peft.base_model.model.named_modules():
        if hasattr(module, "get_delta_weight"):
            weight = model.get_submodule(name).weight
            assert weight.dtype is torch.bfloat16
            expected = (base[f"{name}.weight"] + module.get_delta_weight("default")).to(torch.bfloat16)
            assert torch.equal(weight, expected)


def test_training_output_gives_its_newest_checkpoint(kit: SimpleNamespace, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    made = kit.make_adapter(out / "checkpoint-1000", kit.tiny("qwen2_vl"), record=False)
    kit.make_adapter(out / "checkpoint-900", kit.tiny("qwen2_vl", seed=1), record=False)
    (out / "checkpoint-last").mkdir()
    assert locate(out) == out / "checkpoint-1000"
    with pytest.raises(AdapterError, match="time_prompts"):
        load(kit.tiny("qwen2_vl"), out, "qwen2_vl")
    (out / "weavetime.json").write_text('{"time_prompts": false}')
    model = kit.tiny("qwen2_vl")
    assert load(model, out, "qwen2_vl").time_prompts is False
    assert_close(kit.logits(model), made.logits, **EXACT)
    (out / "checkpoint-2000").mkdir()
    with pytest.raises(AdapterError, match="checkpoint-2000"):
        locate(out)


def test_the_record_and_the_caller(kit: SimpleNamespace, tmp_path: Path) -> None:
    made = kit.make_adapter(tmp_path / "a", kit.tiny("qwen2_vl"), record=False)
    model = kit.tiny("qwen2_vl")
    before = kit.digest(model)
    with pytest.raises(AdapterError, match="time_prompts=True or False"):
        load(model, made.folder, "qwen2_vl")
    (made.folder / "weavetime.json").write_text('{"window": 144}')
    with pytest.raises(AdapterError, match="time_prompts=True or False"):
        load(model, made.folder, "qwen2_vl")
    (made.folder / "weavetime.json").write_text('{"when": 1}')
    with pytest.raises(AdapterError, match="record"):
        load(model, made.folder, "qwen2_vl")
    assert kit.digest(model) == before
    (made.folder / "weavetime.json").write_text('{"window": 144, "time_prompts": true}')
    record = load(model, made.folder, "qwen2_vl", time_prompts=False)
    assert record == Record(time_prompts=False, window=144)


Q = "base_model.model.model.language_model.layers.0.self_attn.q_proj."


def _without(weights: dict[str, Any], part: str) -> dict[str, Any]:
    return {k: v for k, v in weights.items() if part not in k}


WRONG_WEIGHTS = {
    "stray key": (lambda w: {**w, "base_model.model.model.extra.lora_A.weight": torch.zeros(1)}, "1 of .*extra"),
    "no prefix": (lambda w: {k.removeprefix("base_model.model."): v for k, v in w.items()}, "no place"),
    "dora": (lambda w: {**w, f"{Q}lora_magnitude_vector": torch.ones(32)}, "no place"),
    "shape": (lambda w: {**w, f"{Q}lora_B.weight": torch.zeros(31, 4)}, r"\(31, 4\), not \(32, 4\)"),
    "rank": (lambda w: {**w, f"{Q}lora_A.weight": torch.zeros(5, 32), f"{Q}lora_B.weight": torch.zeros(32, 5)}, "fit"),
    "half a pair": (lambda w: _without(w, f"{Q}lora_B"), "needs"),
    "not finite": (lambda w: {**w, f"{Q}lora_A.weight": torch.full((4, 32), float("nan"))}, "not finite"),
    "infinite": (lambda w: {**w, f"{Q}lora_B.weight": torch.full((32, 4), float("inf"))}, "not finite"),
    "integers": (lambda w: {**w, f"{Q}lora_A.weight": torch.ones(4, 32, dtype=torch.int32)}, "floating"),
    "twice": (lambda w: {**w, f"{Q}lora_A.weight".replace("model.language_model", "language_model.model"):
                         torch.zeros(4, 32)}, "two of"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_WEIGHTS)
def test_wrong_weights_change_nothing(kit: SimpleNamespace, tmp_path: Path, case: str) -> None:
    change, message = WRONG_WEIGHTS[case]
    made = kit.make_adapter(tmp_path / "a", kit.tiny("llava_onevision"))
    made.edit(change)
    model = kit.tiny("llava_onevision")
    before = kit.digest(model)
    with pytest.raises(AdapterError, match=message) as caught:
        load(model, made.folder, "llava_onevision")
    assert "\n" not in str(caught.value)
    assert kit.digest(model) == before


WRONG_CONFIG = {
    "dora": ({"use_dora": True}, "use_dora"),
    "bias": ({"bias": "all"}, "bias=all"),
    "transposed": ({"fan_in_fan_out": True}, "fan_in_fan_out"),
    "lora bias": ({"lora_bias": True}, "lora_bias"),
    "pissa": ({"init_lora_weights": "pissa"}, "pissa"),
    "something newer": ({"use_newer_maths": 3}, "use_newer_maths"),
    "other method": ({"peft_type": "IA3"}, "IA3"),
    "no rank": ({"r": None}, "no usable r"),
    "rank 0": ({"r": 0}, "no usable r"),
    "bad pattern": ({"rank_pattern": {"(": 4}}, "no usable r"),
    "alpha not a number": ({"lora_alpha": float("nan")}, "range"),
    "other class": ({"auto_mapping": {"base_model_class": "Qwen2VLForConditionalGeneration"}}, "made for qwen2_vl"),
    "a listed target without weights": ({"target_modules": ["q_proj", "lm_head"]}, "lm_head"),
}


@pytest.mark.parametrize("case", WRONG_CONFIG)
def test_wrong_config_changes_nothing(kit: SimpleNamespace, tmp_path: Path, case: str) -> None:
    values, message = WRONG_CONFIG[case]
    made = kit.make_adapter(tmp_path / "a", kit.tiny("llava_onevision"))
    made.configure(**values)
    model = kit.tiny("llava_onevision")
    before = kit.digest(model)
    with pytest.raises(AdapterError, match=message):
        load(model, made.folder, "llava_onevision")
    assert kit.digest(model) == before


def test_half_the_layers_is_not_the_whole(kit: SimpleNamespace, tmp_path: Path) -> None:
    made = kit.make_adapter(tmp_path / "a", kit.tiny("qwen2_vl"), target_modules=["q_proj", "v_proj"])
    load(kit.tiny("qwen2_vl"), made.folder, "qwen2_vl")
    made.edit(lambda w: _without(w, "layers.1."))
    model = kit.tiny("qwen2_vl")
    before = kit.digest(model)
    with pytest.raises(AdapterError, match=r"2 modules .*layers\.1"):
        load(model, made.folder, "qwen2_vl")
    assert kit.digest(model) == before


@pytest.mark.parametrize(("made_for", "family"), [FAMILIES, FAMILIES[::-1]])
def test_another_familys_older_layout(kit: SimpleNamespace, tmp_path: Path, made_for: str, family: str) -> None:
    made = kit.make_adapter(tmp_path / "a", kit.tiny(made_for))
    made.configure(auto_mapping=None)
    older(kit, made, made_for)
    model = kit.tiny(family)
    before = kit.digest(model)
    with pytest.raises(AdapterError, match=f"28 of the adapter's 28 keys find no place in this {family} model"):
        load(model, made.folder, family)
    assert kit.digest(model) == before


def test_the_recorded_base_name_is_not_judged(kit: SimpleNamespace, tmp_path: Path) -> None:
    made = kit.make_adapter(tmp_path / "a", kit.tiny("qwen2_vl"))
    made.configure(base_model_name_or_path="someone/LiveCC-7B-Instruct")
    model = kit.tiny("qwen2_vl")
    load(model, made.folder, "qwen2_vl")
    assert_close(kit.logits(model), made.logits, **EXACT)


def test_float16_overflow_is_refused_before_any_write(kit: SimpleNamespace, tmp_path: Path) -> None:
    made = kit.make_adapter(tmp_path / "a", kit.tiny("qwen2_vl"))
    made.edit(lambda w: {k: v * 1e3 for k, v in w.items()})
    model = kit.tiny("qwen2_vl").to(torch.float16)
    before = kit.digest(model)
    with pytest.raises(AdapterError, match=r"range of torch\.float16"):
        load(model, made.folder, "qwen2_vl")
    assert kit.digest(model) == before


def test_offloaded_weights_are_refused(kit: SimpleNamespace, tmp_path: Path) -> None:
    made = kit.make_adapter(tmp_path / "a", kit.tiny("qwen2_vl"))
    model = kit.tiny("qwen2_vl")
    model.model.language_model.layers[1].mlp.to("meta")
    with pytest.raises(AdapterError, match="offloaded"):
        load(model, made.folder, "qwen2_vl")


def test_out_of_memory_leaves_the_model(kit: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from weavetime.backbones import merging
    from weavetime.errors import OutOfMemoryError

    made = kit.make_adapter(tmp_path / "a", kit.tiny("qwen2_vl"))
    model = kit.tiny("qwen2_vl")
    before = kit.digest(model)

    def full(layer: Any, weight: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(merging, "_sum", full)
    with pytest.raises(OutOfMemoryError, match="merge on the CPU"):
        load(model, made.folder, "qwen2_vl")
    assert kit.digest(model) == before


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    """Break the files one way after another; what the error must then say."""
    weights, config = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    yield "truncated", "damaged"
    weights.write_bytes(b"not safetensors at all")
    yield "garbage", "damaged"
    weights.unlink()
    yield "gone", "no weights"
    (folder / "adapter_model.bin").write_bytes(b"pickle")
    yield "pickled", "pickled"
    weights.write_bytes(whole)
    config.write_text("{")
    yield "half a config", "cannot be read"
    config.write_text("[]")
    yield "no object", "JSON object"
    config.unlink()
    yield "no config", "no adapter_config.json"


def test_broken_files_change_nothing(kit: SimpleNamespace, tmp_path: Path) -> None:
    made = kit.make_adapter(tmp_path / "a", kit.tiny("qwen2_vl"))
    model = kit.tiny("qwen2_vl")
    before = kit.digest(model)
    for case, message in _files(made.folder):
        with pytest.raises(AdapterError, match=message) as caught:
            load(model, made.folder, "qwen2_vl")
        assert "\n" not in str(caught.value), case
        assert kit.digest(model) == before, case
    with pytest.raises(AdapterError, match="hf:some/where or modelscope:some/where"):
        load(model, "some/where", "qwen2_vl")


def test_without_peft(kit: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = kit.make_adapter(tmp_path / "a", kit.tiny("qwen2_vl"))
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(AdapterError, match=r"pip install weavetime\[adapters\]"):
        load(kit.tiny("qwen2_vl"), made.folder, "qwen2_vl")


# --- ModelScope, against the stand-in server


@pytest.mark.parametrize("prefix", ["", "checkpoint-20/"])
def test_modelscope(kit: SimpleNamespace, tmp_path: Path, stand: Any, prefix: str) -> None:
    made = kit.make_adapter(tmp_path / "a", kit.tiny("qwen2_vl"))
    stand.add(made.folder, prefix)
    stand.files[f"{prefix}optimizer.bin"] = b"large"
    if prefix:
        stand.files["checkpoint-3/adapter_config.json"] = b"{}"
    model = kit.tiny("qwen2_vl")
    assert load(model, "modelscope:someone/adapter", "qwen2_vl").window == 144
    assert_close(kit.logits(model), made.logits, **EXACT)
    assert not any("optimizer" in g for g in stand.gets)

    stand.gets.clear()
    load(kit.tiny("qwen2_vl"), "modelscope:someone/adapter", "qwen2_vl")
    assert all("/repo/files" in g for g in stand.gets)


def _spoil(stand: Any, how: str) -> None:
    name = "adapter_model.safetensors"
    data = stand.files[name]
    if how == "short":
        stand.sent[name] = data[:-1]
    elif how == "long":
        stand.sent[name] = data + b"!"
    elif how == "cut":
        stand.cut = True
    elif how == "checksum":
        stand.sent[name] = data[:-1] + bytes([data[-1] ^ 1])
    elif how == "outside":
        stand.files["../../outside.json"] = b"{}"
    elif how == "refused":
        stand.listing = {"Code": 1, "Success": False, "Message": "no access"}
    elif how == "not json":
        stand.listing = b"<html>"
    elif how == "odd json":
        stand.listing = {"Success": True, "Data": {}}


SPOILT = {
    "short": "bytes came",
    "long": "bytes came",
    "cut": "bytes came|connection broke",
    "checksum": "sha256",
    "outside": "outside the repository",
    "refused": "no access",
    "not json": "JSON",
    "odd json": "not understood",
}


@pytest.mark.parametrize("how", SPOILT)
def test_modelscope_spoilt(kit: SimpleNamespace, tmp_path: Path, stand: Any, how: str) -> None:
    made = kit.make_adapter(tmp_path / "a", kit.tiny("qwen2_vl"))
    stand.add(made.folder)
    _spoil(stand, how)
    model = kit.tiny("qwen2_vl")
    before = kit.digest(model)
    with pytest.raises(AdapterError, match=SPOILT[how]):
        load(model, "modelscope:someone/adapter", "qwen2_vl")
    assert kit.digest(model) == before
    left = [p.name for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    assert "adapter_model.safetensors" not in left
    assert any(p.endswith(".part") for p in left) is (how in ("cut", "short"))  # the next run goes on from there
    assert not (tmp_path / "outside.json").exists()


def test_modelscope_without_a_server(
    kit: SimpleNamespace, tmp_path: Path, stand: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AdapterError, match="404"):
        locate("modelscope:someone/else")
    with pytest.raises(AdapterError, match="OWNER/NAME"):
        locate("modelscope:nothing")
    made = kit.make_adapter(tmp_path / "a", kit.tiny("qwen2_vl"))
    stand.add(made.folder)
    here = locate("modelscope:someone/adapter")
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:1")
    assert locate("modelscope:someone/adapter") == here
    (here / "adapter_model.safetensors").unlink()
    with pytest.raises(AdapterError, match="no connection"):
        locate("modelscope:someone/adapter")
    monkeypatch.setenv("WEAVETIME_CACHE", str(tmp_path / "empty"))
    with pytest.raises(AdapterError, match="no connection"):
        locate("modelscope:someone/adapter")


def test_modelscope_revisions_do_not_mix(kit: SimpleNamespace, tmp_path: Path, stand: Any) -> None:
    made = kit.make_adapter(tmp_path / "a", kit.tiny("qwen2_vl"))
    stand.add(made.folder)
    first = locate("modelscope:someone/adapter")
    stand.files["README.md"] = b"words"
    assert locate("modelscope:someone/adapter") == first
    made.configure(lora_alpha=16)
    stand.add(made.folder)
    second = locate("modelscope:someone/adapter")
    assert second != first
    assert json.loads((second / "adapter_config.json").read_text())["lora_alpha"] == 16
    assert json.loads((first / "adapter_config.json").read_text())["lora_alpha"] == 8


def test_modelscope_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELSCOPE_ENDPOINT", raising=False)
    monkeypatch.setenv("MODELSCOPE_DOMAIN", "models.example")
    assert modelscope.endpoint() == "https://models.example"
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://localhost:8000/")
    assert modelscope.endpoint() == "http://localhost:8000"


# --- the hub, in a process of its own: its client reads HF_ENDPOINT once

LOCATE = """
import sys
from weavetime.backbones.adapters import locate
from weavetime.errors import AdapterError
try:
    print(locate(sys.argv[1]))
except AdapterError as e:
    print("AdapterError", e)
"""


def _locate(where: str, tmp_path: Path, **env: str) -> str:
    settings = {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", **env}
    command = [sys.executable, "-c", LOCATE, where]
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_hub(kit: SimpleNamespace, tmp_path: Path, stand: Any) -> None:
    made = kit.make_adapter(tmp_path / "a", kit.tiny("qwen2_vl"))
    stand.add(made.folder, "checkpoint-20/")
    stand.files["checkpoint-3/adapter_config.json"] = b"{}"
    stand.files["checkpoint-20/optimizer.bin"] = b"large"
    found = Path(_locate("hf:someone/adapter", tmp_path, HF_ENDPOINT=stand.url))
    assert found.name == "checkpoint-20"
    model = kit.tiny("qwen2_vl")
    load(model, found, "qwen2_vl")
    assert_close(kit.logits(model), made.logits, **EXACT)
    assert not any("optimizer.bin" in g and "resolve" in g for g in stand.gets)

    assert Path(_locate("hf:someone/adapter", tmp_path, HF_HUB_OFFLINE="1")) == found
    missing = _locate("hf:someone/else", tmp_path, HF_ENDPOINT=stand.url)
    assert missing.startswith("AdapterError")
    assert "no model someone/else" in missing
    shutil.rmtree(tmp_path / "hf")
    assert "cannot be reached" in _locate("hf:someone/adapter", tmp_path, HF_HUB_OFFLINE="1")
    assert "cannot be reached" in _locate("hf:someone/adapter", tmp_path, HF_ENDPOINT="http://127.0.0.1:1")
