"""Checkpoints: names to folders, folders to models; weights equal to what was saved, bad files a ModelError."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from weavetime.backbones import checkpoints, families
from weavetime.backbones.checkpoints import Checkpoint, load_model, load_tokenizer, open_checkpoint, resolve
from weavetime.config import Record
from weavetime.errors import ModelError

FAMILIES = ("llava_onevision", "qwen2_vl")
KNOWN = families()


def read(folder: Path, **kwargs: Any) -> Any:
    return load_model(open_checkpoint(folder, KNOWN), **{"dtype": None, "device": "cpu", **kwargs})


def edit(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


@pytest.fixture
def saved(kit: SimpleNamespace, tmp_path: Path) -> Path:
    kit.tiny("llava_onevision").save_pretrained(tmp_path / "m")
    return tmp_path / "m"


# --- names


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve(str(tmp_path)) == tmp_path
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="is a file"):
        resolve(str(tmp_path / "file"))
    for name in ("nothing", "./no/such", str(tmp_path / "gone"), "a/b/c", ""):
        with pytest.raises(ModelError, match="unknown model"):
            resolve(name)
    monkeypatch.setattr(checkpoints, "files", lambda package: tmp_path)
    with pytest.raises(ModelError, match="mini"):
        resolve("mini")
    (tmp_path / "models" / "mini").mkdir(parents=True)
    assert resolve("mini") == tmp_path / "models" / "mini"


def test_modelscope(kit: SimpleNamespace, saved: Path, stand: Any) -> None:
    stand.add(saved)
    stand.files["pytorch_model.bin"] = b"pickle"
    checkpoint = open_checkpoint("modelscope:someone/adapter", KNOWN)
    assert not (checkpoint.folder / "pytorch_model.bin").exists()
    model = load_model(checkpoint, dtype=None, device="cpu")
    assert kit.digest(model) == kit.digest(kit.tiny("llava_onevision"))
    with pytest.raises(ModelError, match="404"):
        resolve("modelscope:someone/else")


RESOLVE = """
import sys
from weavetime.backbones.checkpoints import resolve
from weavetime.errors import ModelError
try:
    print(resolve(sys.argv[1]))
except ModelError as e:
    print("ModelError", e)
"""


def _resolve(name: str, tmp_path: Path, **env: str) -> str:
    settings = {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", **env}
    command = [sys.executable, "-c", RESOLVE, name]
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_hub(kit: SimpleNamespace, saved: Path, tmp_path: Path, stand: Any) -> None:
    stand.add(saved)
    stand.files["pytorch_model.bin"] = b"pickle"
    stand.files["code.py"] = b"raise SystemExit"
    folder = Path(_resolve("someone/adapter", tmp_path, HF_ENDPOINT=stand.url))
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in saved.iterdir())
    assert kit.digest(read(folder)) == kit.digest(kit.tiny("llava_onevision"))
    assert Path(_resolve("hf:someone/adapter", tmp_path, HF_HUB_OFFLINE="1")) == folder
    for name, env, message in (
        ("someone/else", {"HF_ENDPOINT": stand.url}, "no model someone/else"),
        ("someone/else", {"HF_HUB_OFFLINE": "1"}, "cannot be reached"),
        ("someone/else", {"HF_ENDPOINT": "http://127.0.0.1:1"}, "cannot be reached"),
    ):
        said = _resolve(name, tmp_path, **env)
        assert said.startswith("ModelError")
        assert message in said
        assert "\n" not in said


# --- small files


def test_what_the_files_say(saved: Path) -> None:
    both = {"image_processor": {"size": 1, "do_resize": True}, "video_processor": {"size": 3, "fps": 2}}
    (saved / "processor_config.json").write_text(json.dumps(both))
    (saved / "preprocessor_config.json").write_text('{"size": 2, "image_mean": [0.5, 0.5, 0.5]}')
    (saved / "weavetime.json").write_text('{"trained": false}')
    found = open_checkpoint(str(saved), KNOWN)
    assert found.family == "llava_onevision"
    assert found.config.text_config.hidden_size == 32
    assert found.record == Record(trained=False)
    assert found.preprocessor == {"size": 3, "do_resize": True, "fps": 2, "image_mean": [0.5, 0.5, 0.5]}
    (saved / "video_preprocessor_config.json").write_text('{"size": 4}')
    assert open_checkpoint(saved, KNOWN).preprocessor["size"] == 4


def test_bad_small_files(saved: Path) -> None:
    with pytest.raises(ModelError, match="llava_onevision model, not one of the supported: qwen2_vl"):
        open_checkpoint(saved, {"qwen2_vl": KNOWN["qwen2_vl"]})
    config = saved / "config.json"
    said = json.loads(config.read_text())
    for text, message in (
        ("{", "cannot be read"),
        ("[]", "JSON object"),
        ("{}", "None model"),
        (json.dumps({**said, "text_config": 3}), "not a llava_onevision config"),
    ):
        config.write_text(text)
        with pytest.raises(ModelError, match=message) as caught:
            open_checkpoint(saved, KNOWN)
        assert "\n" not in str(caught.value)
    config.unlink()
    with pytest.raises(ModelError, match=r"no config\.json$"):
        open_checkpoint(saved, KNOWN)
    (saved / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="adapter="):
        open_checkpoint(saved, KNOWN)


def test_remote_code_is_never_run(saved: Path, tmp_path: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModelForImageTextToText": "evil.Model"}
    (saved / "config.json").write_text(json.dumps(config))
    (saved / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    read(saved)
    assert not (tmp_path / "ran").exists()


# --- weights


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_what_was_saved(kit: SimpleNamespace, tmp_path: Path, family: str, tied: bool) -> None:
    host = kit.tiny(family, tied=tied)
    host.save_pretrained(tmp_path / "m", max_shard_size="20KB")
    assert len(list((tmp_path / "m").glob("*.safetensors"))) > 2
    checkpoint = open_checkpoint(tmp_path / "m", KNOWN)
    model = load_model(checkpoint, dtype=None, device="cpu")
    assert type(model) is type(host)
    assert kit.digest(model) == kit.digest(host)
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert model.config.vision_config._attn_implementation == "sdpa"
    assert model.config is not checkpoint.config
    assert load_model(checkpoint, dtype=None, device="cpu").config is not model.config


@pytest.mark.parametrize("layout", ["new", "older"])
@pytest.mark.parametrize("family", FAMILIES)
def test_both_layouts(kit: SimpleNamespace, tmp_path: Path, family: str, layout: str) -> None:
    host = kit.tiny(family)
    host.save_pretrained(tmp_path / "m")
    weights = host.state_dict()
    if layout == "older":
        start = "base_model.model."
        moved = {k.replace("model.image_newline", "image_newline"): v for k, v in weights.items()}
        weights = {kit.to_older_layout(start + k, family).removeprefix(start): v for k, v in moved.items()}
    assert any(k.startswith("model.language_model.") for k in weights) == (layout == "new")
    edit(tmp_path / "m", lambda _: {k: v.clone() for k, v in weights.items()})
    assert kit.digest(read(tmp_path / "m")) == kit.digest(host)


def test_dtypes(kit: SimpleNamespace, tmp_path: Path) -> None:
    host = kit.tiny("qwen2_vl").to(torch.bfloat16)
    host.save_pretrained(tmp_path)
    assert kit.digest(read(tmp_path)) == kit.digest(host.float())
    for dtype in (torch.bfloat16, "bfloat16", "torch.bfloat16"):
        assert {p.dtype for p in read(tmp_path, dtype=dtype).parameters()} == {torch.bfloat16}
    for dtype in ("int8", "nonsense", torch.int64, "nn"):
        with pytest.raises(ModelError, match="floating point"):
            read(tmp_path, dtype=dtype)
    model = read(tmp_path, device=None, device_map={"": "cpu"}, dtype="float32")
    assert kit.digest(model) == kit.digest(host)
    with pytest.raises(ModelError, match="not both"):
        read(tmp_path, device="cpu", device_map="auto")


NORM = "language_model.model.norm.weight"  # transformers still writes the older names
WRONG_KEYS = {
    "missing": (
        lambda w: {k: v for k, v in w.items() if k != NORM},
        r"1 weights are missing.*: model\.language_model\.norm\.weight",
    ),
    "no head": (lambda w: {k: v for k, v in w.items() if not k.endswith("lm_head.weight")}, "missing.*lm_head"),
    "unexpected": (lambda w: {**w, "model.other.weight": torch.ones(2)}, "1 weights are unexpected.*other"),
    "shape": (lambda w: {**w, NORM: torch.ones(31)}, "shape|cannot be loaded"),
}


@pytest.mark.parametrize("case", WRONG_KEYS)
def test_wrong_keys(saved: Path, case: str) -> None:
    change, message = WRONG_KEYS[case]
    edit(saved, change)
    with pytest.raises(ModelError, match=message) as caught:
        read(saved)
    assert "\n" not in str(caught.value)


def test_buffers_that_are_made_again_may_be_there(kit: SimpleNamespace, saved: Path) -> None:
    edit(saved, lambda w: {**w, "model.language_model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)})
    assert kit.digest(read(saved)) == kit.digest(kit.tiny("llava_onevision"))


def test_broken_weights(saved: Path) -> None:
    path = saved / "model.safetensors"
    whole = path.read_bytes()
    for content in (whole[:-10], whole[:100], b"", b"pickle" * 10):
        path.write_bytes(content)
        with pytest.raises(ModelError, match="damaged") as caught:
            read(saved)
        assert "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(ModelError, match=r"lacks model\.safetensors"):
        read(saved)
    (saved / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ModelError, match="weavetime convert"):
        read(saved)


def test_a_missing_shard(kit: SimpleNamespace, tmp_path: Path) -> None:
    kit.tiny("qwen2_vl").save_pretrained(tmp_path, max_shard_size="20KB")
    gone = sorted(tmp_path.glob("*.safetensors"))[1]
    gone.unlink()
    with pytest.raises(ModelError, match=f"lacks {gone.name}"):
        read(tmp_path)


# --- tokenizer


def test_tokenizer(saved: Path) -> None:
    checkpoint = open_checkpoint(saved, KNOWN)
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        load_tokenizer(checkpoint)
    inner = Tokenizer(WordLevel({"[UNK]": 0, "what": 1, "cup": 2}, unk_token="[UNK]"))
    inner.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]").save_pretrained(saved)
    assert load_tokenizer(checkpoint)("what cup").input_ids == [1, 2]
    (saved / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="tokenizer") as caught:
        load_tokenizer(checkpoint)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_is_a_value(saved: Path) -> None:
    checkpoint = open_checkpoint(saved, KNOWN)
    assert isinstance(checkpoint, Checkpoint)
    with pytest.raises(AttributeError):
        checkpoint.family = "other"  # type: ignore[misc]
