"""Qwen2.5-VL: positions by the clock, on numbers written down; days of gaps; its published format and strings."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import weavetime as wt
from reference import Reference
from tiny import engine, features, host, look, preprocessor, shared, shown, tokenizer, unstopped
from weavetime.backbones import Grid
from weavetime.ops import Timeline, place
from weavetime.train.encode import Step, Turn, encode
from weavetime.types import Choice

FAMILY = "qwen2_5_vl"
QUESTION = "What was there before?"
exact = pytest.mark.exact


# Where steps stand


@exact
@pytest.mark.parametrize(
    ("fps", "ticks"),
    [
        (1.0, [0, 2, 4, 6, 8, 10]),
        (0.5, [0, 4, 8, 12, 16, 20]),
        (2.0, [0, 1, 2, 3, 4, 5]),
        (3.0, [0, 0, 1, 2, 2, 3]),
        (0.3, [0, 6, 13, 20, 26, 33]),
    ],
)
def test_a_step_stands_at_its_second(fps: float, ticks: list[int]) -> None:
    """floor(index x 2 x seconds per grid), of the stream's own grid of times."""
    timeline = shared(FAMILY, False).backbone.timeline(fps)
    assert timeline == Timeline(2.0, fps, 2048)
    assert timeline.starts([i / fps for i in range(6)]) == ticks
    assert timeline.starts([(i + 1000) / fps for i in range(0, 6, 2)])[0] == 0
    assert shared(FAMILY, True).backbone.timeline(fps) is None


@exact
@pytest.mark.parametrize(("fps", "seconds"), [(1.0, 1), (0.5, 2), (0.25, 4), (3.0, 1 / 3), (0.4, 2.5)])
def test_as_the_hosts_own_rule(fps: float, seconds: float) -> None:
    """The visual rows of get_rope_index; of 5.17, which cuts seconds to whole ones, those that it did not cut."""
    model, steps = host(FAMILY), 7
    ids = torch.tensor([[1, 2, 259, *[261] * 6 * steps, 260, 3]])
    grid = torch.tensor([[steps, 4, 6]])
    where, _ = model.model.get_rope_index(
        ids, video_grid_thw=grid, second_per_grid_ts=torch.tensor([seconds]), mm_token_type_ids=2 * (ids == 261)
    )
    backbone = shared(FAMILY, False).backbone
    layout = backbone.block(Grid(16, 24, 2, 3), 0)
    at = backbone.timeline(fps).starts([i / fps for i in range(steps)])
    placed = place([layout] * steps, 3, 3, at)
    theirs = where[:, 0, 3:-2].tolist()
    if int(seconds) != seconds and transformers.__version__ == "5.17.0":
        assert theirs[0] == [3 + 2 * int(seconds) * i for i in range(steps) for _ in range(6)]
        return
    assert placed.positions.tolist() == theirs
    assert placed.end == 1 + int(placed.positions.max())


def test_frames_that_come_late_stand_where_they_were_due() -> None:
    """A source of 29.97 frames a second shows at second k the last frame before it, up to 33 ms early."""
    timeline = Timeline(2.0, 1.0, 1000)
    assert [timeline.tick(int(30000 / 1001 * k) * 1001 / 30000) for k in range(7)] == [0, 2, 4, 6, 8, 10, 12]
    assert [timeline.tick(sum([0.1] * k)) for k in (10, 20, 30)] == [2, 4, 6]


def test_a_gap_in_time_is_a_gap_in_positions() -> None:
    seen = [0.0, 1.0, 5.0, 3600.0, 3601.0]
    assert Timeline(2.0, 1.0, 64_000).starts(seen) == [0, 2, 10, 7200, 7202]
    assert Timeline(2.0, 1.0, 64_000).starts(seen[2:]) == [0, 7190, 7192]
    assert Timeline(2.0, 1.0, 64_000).starts([]) == []


@pytest.mark.parametrize(
    ("limit", "starts"),
    [(2002, [0, 20, 2000, 2002]), (100, [0, 20, 98, 100]), (30, [0, 14, 28, 30]), (3, [0, 1, 2, 3]), (1, [0, 1, 2, 3])],
)
def test_the_widest_gaps_are_shortened(limit: int, starts: list[int]) -> None:
    assert Timeline(2.0, 1.0, limit).starts([0.0, 10.0, 1000.0, 1001.0]) == starts


@pytest.mark.parametrize("k", [2, 64])
def test_a_day_can_be_asked_about(k: int) -> None:
    """Blocks of a whole day, at the published sizes: any choice of them fits, and none stands on another."""
    timeline = Timeline(2.0, 1.0, 64_000)
    starts = timeline.starts([86_400 / k * i for i in range(k)])
    assert starts[-1] <= 64_000
    assert all(b > a for a, b in pairwise(starts))


GAPS = (0.0, 1.0, 2.0, 300.0, 301.0, 302.0, 303.0, 9000.0, 9001.0, 86_000.0, 86_001.0)


def stretched(limit: int, window: int | None, batch: int) -> wt.Stream:
    """A day with long gaps, in views that may stretch over `limit` positions."""
    made = engine(FAMILY, time_prompts=False)
    made.backbone.timeline = lambda fps: Timeline(2.0, fps, limit)
    stream = made.stream(window=window, batch=batch, cache=4)
    stream.feed([wt.Frame(f.pixels, t) for f, t in zip(shown(FAMILY, len(GAPS)), GAPS, strict=True)])
    return stream


@exact
@pytest.mark.parametrize("window", [2, 4, None])
@pytest.mark.parametrize("limit", [60, 700, 2000])
def test_gaps_in_any_chunking_are_the_slow_reference(limit: int, window: int | None) -> None:
    """In float32 an angle at position 2,000 is 1e-4 off, so far positions have a wider bound."""
    reference = Reference(host(FAMILY), tokenizer(), FAMILY, segments=False, window=window)
    reference.limit = limit
    reference.feed(features(FAMILY, shown(FAMILY, len(GAPS))), [(t, t + 1) for t in GAPS])
    prompt = reference.prompt_ids(QUESTION)
    choice = [[0, 2, 5, 10], [1, 3, 4, 9], [6, 7, 8, 10]]
    for batch in (1, 4, 16):
        stream = stretched(limit, window, batch)
        for layer in range(3):
            for number, block in enumerate(reference.blocks):
                with torch.inference_mode():
                    for found, wanted in zip(
                        stream.memory.read(layer, [number]), (block.keys, block.values), strict=True
                    ):
                        torch.testing.assert_close(
                            found[0].double(), wanted[layer], atol=max(1e-4, limit * 5e-7), rtol=0
                        )
        with torch.inference_mode():
            asked = stream.runner.backbone.prompt(wt.Question(QUESTION), wt.Decoding())
            view = stream.memory.view(Choice(tuple(map(tuple, choice))))
            found = stream.runner.prefill(view, [asked], 1).logits[0]
        torch.testing.assert_close(
            found.double(), reference.read(prompt, choice).logits[-1], atol=max(1e-5, limit * 5e-8), rtol=0
        )


def test_the_newest_second_is_near_however_long_the_stream_is() -> None:
    stream = stretched(60, 2, 16)
    for mode in ("weavetime", wt.WeaveTime(k=8, delta=0), "rekv:8", "uniform:9", "recent:1"):
        assert look(stream, QUESTION, mode=mode).draft.view.end <= 60 + len(stream.runner.backbone.sink[0]) + 5


@pytest.mark.parametrize("segments", [True, False])
def test_a_training_sample_stands_as_the_stream_does(segments: bool) -> None:
    backbone, seen = shared(FAMILY, segments).backbone, (0.0, 1.5, 4.0, 100.0)
    frames = [wt.Frame(f.pixels, t) for f, t in zip(shown(FAMILY, 4), seen, strict=True)]
    steps = [Step((f,), f.time, f.time + 1) for f in frames]
    found = encode(backbone, steps, range(4), [Turn(QUESTION, "A cup.")])
    stream = shared(FAMILY, segments).stream(fps=2.0)
    stream.feed([replace(f, until=f.time + 1) for f in frames])
    memory, sink = stream.memory, len(backbone.sink[0])
    placed = memory.place(memory.table.layouts, memory.table.times, sink)
    assert torch.equal(found.positions[:, sink : sink + placed.positions.shape[1]], placed.positions)
    assert int(found.positions[0, sink + placed.positions.shape[1]]) == placed.end
    if not segments:
        assert placed.starts == (0, 3, 8, 200)


# Its published format


RENAMED = (("model.language_model.", "model."), ("model.visual.", "visual."))
VISION = ("depth", "hidden_act", "hidden_size", "intermediate_size", "num_heads", "out_hidden_size", "patch_size")
VISION += ("spatial_merge_size", "temporal_patch_size", "window_size", "fullatt_block_indexes", "tokens_per_second")


def publish(folder: Path, model: Any) -> Path:
    """As Qwen/Qwen2.5-VL-7B-Instruct lies on the hub: one flat config.json, names of transformers before 4.52."""
    folder.mkdir()
    weights = {}
    for name, tensor in model.state_dict().items():
        old, new = next((r for r in RENAMED if name.startswith(r[0])), ("", ""))
        weights[new + name.removeprefix(old)] = tensor.clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    text, vision = model.config.text_config.to_dict(), model.config.vision_config.to_dict()
    said = {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        **{k: text[k] for k in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")},
        **{k: text[k] for k in ("num_key_value_heads", "vocab_size", "max_position_embeddings", "rms_norm_eps")},
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
        "rope_theta": 1e4,
        "tie_word_embeddings": False,
        "sliding_window": 32768,
        "use_sliding_window": False,
        "max_window_layers": 28,
        "vision_start_token_id": 259,
        "vision_end_token_id": 260,
        "vision_token_id": 263,
        "video_token_id": 261,
        "image_token_id": 262,
        "eos_token_id": 258,
        "torch_dtype": "float32",
        "vision_config": {**{k: vision[k] for k in VISION}, "in_chans": 3, "spatial_patch_size": 4},
    }
    (folder / "config.json").write_text(json.dumps(said))
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor(FAMILY)))
    tokenizer().save_pretrained(folder)
    return folder


@exact
def test_loads_as_published(tmp_path: Path) -> None:
    model = host(FAMILY)
    loaded = wt.load(publish(tmp_path / "m", model), device="cpu", dtype="float32")
    assert loaded.backbone.family == FAMILY
    assert loaded.backbone.timeline(1.0).per_second == 2
    frames = shown(FAMILY, 5)
    answers = []
    for made in (loaded, engine(FAMILY, time_prompts=False, model=model)):
        stream = made.stream(window=2)
        stream.feed(frames)
        row = look(stream, QUESTION, mode=wt.WeaveTime(k=3, delta=0), max_tokens=9)
        answers.append((row.draft.logits, unstopped(row)))
    torch.testing.assert_close(answers[0][0], answers[1][0], atol=1e-6, rtol=0)
    assert answers[0][1] == answers[1][1]


@pytest.mark.parametrize("lost", ["visual.merger.mlp.2.weight", "visual.blocks.1.attn.qkv.bias", "lm_head.weight"])
def test_a_part_that_is_missing(tmp_path: Path, lost: str) -> None:
    folder = publish(tmp_path / "m", host(FAMILY))
    weights = load_file(folder / "model.safetensors")
    del weights[lost]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(wt.ModelError, match="1 weights are missing"):
        wt.load(folder, device="cpu")


def test_prompt_is_the_chat_templates() -> None:
    """Qwen/Qwen2.5-VL-7B-Instruct, chat_template.json, as rendered for a video and texts; VIDEO for <|video_pad|>.

    The template stands in shell-nlp/gpt_server, tests/test_chat_template.py.
    """
    rendered = (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n<|vision_start|>VIDEO<|vision_end|>"
        "Who?<|im_end|>\n<|im_start|>assistant\nMe.<|im_end|>\n<|im_start|>user\nWhen?<|im_end|>\n<|im_start|>assistant\n"
    )
    backbone = shared(FAMILY, False).backbone
    prompt = backbone.prompt(wt.Question("When?", (), (("Who?", "Me."),)), wt.Decoding())
    put = tokenizer().decode(backbone.sink[0]) + "VIDEO" + tokenizer().decode(prompt.ids)
    assert put == rendered


@pytest.mark.parametrize(
    ("size", "pixels"),
    [((720, 1280), (560, 1008)), ((360, 640), (364, 644)), ((100, 4000), (112, 4004)), ((20, 20), (56, 56))],
)
def test_grid_of_the_published_preprocessor(size: tuple[int, int], pixels: tuple[int, int]) -> None:
    """min_pixels 3136 and max_pixels 12845056 are an image's; a video's frame has at most 768 tokens of 28 x 28."""
    made = engine(FAMILY, time_prompts=False)
    vision = made.backbone.model.config.vision_config
    vision.patch_size = 14
    object.__setattr__(made.backbone.checkpoint, "preprocessor", {"min_pixels": 3136, "max_pixels": 12845056})
    grid = made.backbone.grid(*size)
    assert (grid.height, grid.width) == pixels
    assert grid.tokens == pixels[0] * pixels[1] // 28**2 <= 768
