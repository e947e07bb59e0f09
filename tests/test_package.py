"""What the package ships beside code: mini, the demo clip, its types; and what it does without its optional parts."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, LlavaOnevisionForConditionalGeneration

import weavetime
from weavetime.config import Record
from weavetime.world import Renderer, Script, questions

PACKAGE = Path(weavetime.__file__).parent
MINI = PACKAGE / "models/mini"
ASSETS = PACKAGE / "assets"
SCRIPTS = Path(__file__).parents[1] / "scripts"
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(MINI)


@pytest.fixture(scope="module")
def demo() -> dict[str, Any]:
    return dict(json.loads((ASSETS / "demo.json").read_text()))


def ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False).input_ids)


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_types_are_shipped_and_the_version_is_known() -> None:
    assert (PACKAGE / "py.typed").is_file()
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", version("weavetime"))


def test_the_engine_loads_without_optional_parts() -> None:
    code = "import sys; sys.modules['av'] = sys.modules['peft'] = None; import weavetime.engine, weavetime.backbones"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_mini_is_small_and_says_how_it_is_to_be_used() -> None:
    assert (MINI / "model.safetensors").stat().st_size <= 16_000_000
    record, card = Record.read(MINI), (MINI / "README.md").read_text()
    assert (record.time_prompts, record.window, record.trained) == (True, 16, True)
    assert record.delta is not None
    assert 0 < record.delta < 1
    assert "untrained" not in card


def test_the_script_makes_a_starting_point_and_not_over_the_trained_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = script("make_mini")
    make.main(tmp_path)
    record, card = Record.read(tmp_path), (tmp_path / "README.md").read_text()
    assert (record.time_prompts, record.window, record.trained, record.delta) == (True, 16, False, None)
    assert "weights are untrained" in card
    for name in ("config.json", "generation_config.json", "preprocessor_config.json", "tokenizer_config.json"):
        assert json.loads((tmp_path / name).read_text()) == json.loads((MINI / name).read_text()), name
    monkeypatch.setattr(make, "SHIPPED", tmp_path)
    with pytest.raises(SystemExit, match="name another folder"):
        make.main(tmp_path / ".." / tmp_path.name)
    assert make.FOLDER != MINI


@pytest.mark.exact
def test_mini_loads_whole_in_the_plain_class_and_reads_a_video(tokenizer: Any) -> None:
    model, report = LlavaOnevisionForConditionalGeneration.from_pretrained(MINI, output_loading_info=True)
    assert not any(report[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"))
    assert model.dtype == torch.bfloat16
    assert sum(p.numel() for p in model.parameters()) <= 7_900_000
    frames, tokens = 2, 2 * 16 + 1  # 16 a frame and the newline
    text = f"<|im_start|>user {'<video>' * tokens}\nWhat is on the table now?<|im_end|><|im_start|>assistant\n"
    pixels = torch.rand(1, frames, 3, 112, 112) * 2 - 1
    with torch.inference_mode():
        out = model.float()(input_ids=torch.tensor([ids(tokenizer, text)]), pixel_values_videos=pixels)
    assert out.logits.isfinite().all()


def test_mini_config_and_tokenizer_agree(tokenizer: Any) -> None:
    config = json.loads((MINI / "config.json").read_text())
    named = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL}
    assert (config["image_token_index"], config["video_token_index"]) == (named["<image>"], named["<video>"])
    assert config["text_config"]["eos_token_id"] == tokenizer.eos_token_id == named["<|im_end|>"]
    assert config["text_config"]["pad_token_id"] == tokenizer.pad_token_id == named["<|endoftext|>"]
    assert config["text_config"]["vocab_size"] == len(tokenizer)
    assert [ids(tokenizer, token) for token in SPECIAL] == [[i] for i in named.values()]


@pytest.mark.exact
def test_mini_time_prompts_have_one_width(tokenizer: Any) -> None:
    starts = [*np.linspace(0, 99_998, 997).round(1), 99_998.9]
    prompts = [f"\nTime={start:07.1f}-{start + 1:07.1f}s" for start in starts]
    assert {len(ids(tokenizer, p)) for p in prompts} == {7}
    assert [tokenizer.decode(ids(tokenizer, p)) for p in prompts] == prompts
    assert len(ids(tokenizer, "\nTime=99999.0-100000.0s")) > 7


def test_mini_holds_letters_digits_and_brackets_as_single_tokens(tokenizer: Any) -> None:
    for mark in "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789()":
        (token,) = ids(tokenizer, mark)
        assert ids(tokenizer, f"({mark}1") == [*ids(tokenizer, "("), token, *ids(tokenizer, "1")]
    for text in ("What is before the cup?", " red cup", "red", "Correct timestamps"):
        assert len(ids(tokenizer, text)) == len(re.findall(r"\w+|[^\w\s]", text))


@settings(max_examples=300, deadline=None)
@given(st.text() | st.text("Time=0123456789.-s \n\t(A)'<|>"))
def test_mini_tokenizer_loses_nothing(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(ids(tokenizer, text), clean_up_tokenization_spaces=False) == text


def test_the_script_still_makes_the_shipped_tokenizer() -> None:
    made = json.loads(script("make_mini").make_tokenizer().to_str())
    shipped = json.loads((MINI / "tokenizer.json").read_text())
    assert made["model"] == shipped["model"]
    assert made["pre_tokenizer"] == shipped["pre_tokenizer"]


def test_the_demo_clip_is_what_it_says(demo: dict[str, Any]) -> None:
    assert (ASSETS / demo["clip"]).stat().st_size < 600_000
    with av.open(str(ASSETS / demo["clip"])) as clip:
        stream = clip.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert [stream.width, stream.height] == demo["size"]
        assert (stream.frames, stream.average_rate) == (demo["seconds"] * demo["fps"], demo["fps"])


def test_the_demo_questions_are_what_the_script_asks_and_their_evidence_was_seen(demo: dict[str, Any]) -> None:
    make = script("make_demo_clip")
    assert (demo["seed"], demo["split"], demo["seconds"]) == (make.SEED, "test", make.SECONDS)
    asked = questions(
        Script(demo["seed"], demo["seconds"], demo["split"]), len(make.FAMILIES), make.FAMILIES, make.EARLIEST
    )
    assert demo["questions"] == json.loads(json.dumps([make.plain(a) for a in asked]))
    assert sorted(q["family"] for q in demo["questions"]) == sorted(make.FAMILIES)
    for q in demo["questions"]:
        assert not q["options"] or q["answer"] in q["options"]
        assert all(0 <= start < end <= q["at"] + 1 <= demo["seconds"] for start, end in q["evidence"])


def test_the_demo_clip_shows_its_script_at_every_second(demo: dict[str, Any]) -> None:
    drawn = Renderer(Script(demo["seed"], demo["seconds"], demo["split"]), demo["size"][0])
    with av.open(str(ASSETS / demo["clip"])) as clip:
        for frame in clip.decode(video=0):
            if frame.time % 1 == 0:
                apart = np.abs(frame.to_ndarray(format="rgb24").astype(int) - drawn.picture(frame.time))
                assert apart.mean() < 4, frame.time
                assert np.percentile(apart, 99) < 30, frame.time
