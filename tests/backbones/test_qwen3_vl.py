"""Qwen3-VL: pairs of frames, the frame that lacks its partner, positions, and its published format and strings."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import weavetime as wt
from reference import Reference
from tiny import engine, features, host, look, preprocessor, shared, shown, times, tokenizer, unstopped
from weavetime.backbones import Grid
from weavetime.bench import run
from weavetime.bench.limits import Limits
from weavetime.eval.asking import Asker
from weavetime.eval.feeding import Feed
from weavetime.ops import place

FAMILY = "qwen3_vl"
QUESTION = "What is on the table?"
PAIRS = 6
exact = pytest.mark.exact
each_layout = pytest.mark.parametrize("segments", [True, False], ids=["segments", "own_times"])


# Positions


@exact
def test_positions_are_the_hosts_own_rule() -> None:
    """Two steps of grid [1, 4, 6], and two of [1, 8, 2]; 3 tokens of text before each, the last <|vision_start|>."""
    numbers = {
        (2, 3): [
            "0 1 2 3 4 5 5 5 5 5 5 8 9 10 11 12 12 12 12 12 12 15 16 17",
            "0 1 2 3 4 5 5 5 6 6 6 8 9 10 11 12 12 12 13 13 13 15 16 17",
            "0 1 2 3 4 5 6 7 5 6 7 8 9 10 11 12 13 14 12 13 14 15 16 17",
        ],
        (4, 1): [
            "0 1 2 3 4 5 5 5 5 9 10 11 12 13 13 13 13 17 18 19",
            "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19",
            "0 1 2 3 4 5 5 5 5 9 10 11 12 13 13 13 13 17 18 19",
        ],
    }
    for (rows, columns), lines in numbers.items():
        written = [[int(n) for n in line.split()] for line in lines]
        visual, text = [261] * rows * columns, [260, 1, 2, 259]
        ids = torch.tensor([[1, 2, 1, 2, 259, *visual, *text, *visual, 260, 3, 3]])
        grid = torch.tensor([[2, 2 * rows, 2 * columns]])  # a video of two steps, that the host takes apart
        where, _ = host(FAMILY).model.get_rope_index(ids, video_grid_thw=grid, mm_token_type_ids=2 * (ids == 261))
        assert where[:, 0].tolist() == written
        for segments in (True, False):
            layout = shared(FAMILY, segments).backbone.block(Grid(8 * rows, 8 * columns, rows, columns), 3)
            placed = place([layout] * 2, 2, 3)
            assert placed.positions.tolist() == [axis[2:-2] for axis in written]
            assert placed.end == written[0][-2]


@exact
def test_the_vision_step_is_the_hosts_own() -> None:
    backbone, frames = shared(FAMILY, False).backbone, shown(FAMILY, 3)
    found = backbone.embed(frames, backbone.grid(24, 40))
    assert found.shape == (3, 15, 4 * 64)
    torch.testing.assert_close(found, features(FAMILY, frames), atol=1e-5, rtol=0)
    assert not torch.allclose(found[0], features(FAMILY, [frames[1], frames[0]])[0], atol=1e-3), "order in a pair"


def test_a_step_says_its_time() -> None:
    pair = (wt.Frame(shown(FAMILY, 1)[0].pixels, 11.0), wt.Frame(shown(FAMILY, 1)[0].pixels, 12.0))
    own, ours = (shared(FAMILY, segments).backbone for segments in (False, True))
    assert own.step_text(pair, 1.0) == "<11.5 seconds>"
    assert own.step_text((pair[0], pair[0]), 1.0) == "<11.0 seconds>"
    assert ours.step_text(pair, 1.0) == "Time=00011.0-00013.0s"
    assert own.sink[0].tolist() == ours.sink[0].tolist() == tokenizer().encode("<|im_start|>user\n")


# A frame that lacks its partner


@cache
def slow(segments: bool, window: int | None, odd: bool) -> Reference:
    """PAIRS pairs, and with `odd` one frame more, doubled as the family's processor pads a video."""
    reference = Reference(host(FAMILY), tokenizer(), FAMILY, segments=segments, window=window)
    frames = shown(FAMILY, PAIRS + 1)[: 2 * PAIRS + 1]
    seen = [*frames, frames[-1]] if odd else frames[:-1]
    steps = times(frames[:-1]) + ([(frames[-1].time, frames[-1].until)] if odd else [])
    reference.feed(features(FAMILY, seen), steps)
    return reference


def fed(segments: bool, window: int | None, count: int, batch: int = 4, **how: Any) -> wt.Stream:
    stream = shared(FAMILY, segments).stream(window=window, batch=batch, cache=4, **how)
    stream.feed(shown(FAMILY, PAIRS + 3)[:count])
    return stream


ODD = 2 * PAIRS + 1
AT = float(PAIRS)  # the time of the frame that lacks its partner


@exact
@each_layout
@pytest.mark.parametrize("window", [1, 3, None])
def test_the_newest_frame_is_seen_before_its_partner_comes(segments: bool, window: int | None) -> None:
    """As if the stream ended there, in every mode; and the same when asked about later."""
    reference = slow(segments, window, True)
    now, later = fed(segments, window, ODD), fed(segments, window, ODD + 4)
    prompt = reference.prompt_ids(QUESTION)
    recent = list(range(0 if window is None else PAIRS + 1 - window, PAIRS + 1))
    first = reference.read(prompt, reference.same(recent))
    wanted = {
        wt.Window(): reference.same(recent),
        wt.WeaveTime(k=2, delta=0): reference.coarse_to_fine(first.queries, PAIRS + 1, 2)
        if window
        else reference.same(recent),
        wt.ReKV(k=3): reference.rekv(QUESTION, PAIRS + 1, 3),
        wt.Recent(2): reference.same([PAIRS - 1, PAIRS]),
        wt.Uniform(3): reference.same([0, PAIRS // 2, PAIRS]),
        wt.Chosen([AT, 1.1]): reference.same([1, PAIRS]),
    }
    assert (len(now), now.now) == (PAIRS, AT + 0.5)
    for mode, choice in wanted.items():
        logits = reference.read(prompt, choice).logits[-1]
        for stream, at in ((now, None), (now, AT), (later, AT), (later, AT + 0.3)):
            row = look(stream, QUESTION, mode=mode, at=at, max_tokens=6)
            assert [list(b) for b in row.draft.view.choice.blocks] == choice
            torch.testing.assert_close(row.draft.logits[0].double(), logits, atol=1e-5, rtol=0)
            assert row.draft.view.times == tuple(float(b) for b in sorted(set().union(*choice)))
            if mode == wt.Window():
                assert unstopped(row) == reference.greedy(prompt, choice, 6)


@exact
@each_layout
def test_scores_of_visual_tokens_alone_count_for_it_too(segments: bool) -> None:
    found = []
    for count in (ODD, ODD + 1):
        stream = fed(segments, 2, count, visual_only=True)
        if count > ODD:  # a partner that is the same picture: the step is then the doubled frame
            pixels = shown(FAMILY, PAIRS + 1)[ODD - 1].pixels
            stream = fed(segments, 2, ODD - 1, visual_only=True)
            stream.feed([wt.Frame(pixels, AT, AT + 0.5), wt.Frame(pixels, AT + 1e-9, AT + 0.5)])
        found.append(look(stream, QUESTION, mode=wt.WeaveTime(k=4, delta=0)).draft)
    assert found[0].view.choice.blocks == found[1].view.choice.blocks
    for a, b in zip(found[0].view.choice.scores, found[1].view.choice.scores, strict=True):
        assert a == pytest.approx(b, abs=1e-4)
    torch.testing.assert_close(found[0].logits, found[1].logits, atol=1e-5, rtol=0)


@exact
@each_layout
def test_its_partner_is_not_known_before_it_comes(segments: bool) -> None:
    """Bit-equal whatever the partner shows, and whatever its size."""
    rows = []
    for seed, size in ((1, (24, 40)), (2, (24, 40)), (3, (50, 30))):
        stream = fed(segments, 2, ODD)
        partner = shown(FAMILY, 1, seed=seed, size=size)[0].pixels
        stream.feed(wt.Frame(partner, AT + 0.5, AT + 1))
        assert len(stream) == PAIRS + 1
        for at in (AT, AT + 0.49):
            rows.append(look(stream, QUESTION, mode=wt.WeaveTime(k=3, delta=0), at=at).draft)
        assert not torch.equal(look(stream, QUESTION, at=AT + 0.5).draft.logits, rows[-1].logits)
    assert all(torch.equal(r.logits, rows[0].logits) for r in rows)
    assert all(r.view.choice == rows[0].view.choice for r in rows)


@exact
@each_layout
@pytest.mark.parametrize("sizes", [[1], [2], [3], [1, 4, 2], [5, 1], [13]])
def test_any_chunking_makes_the_same_pairs(segments: bool, sizes: list[int]) -> None:
    reference, frames = slow(segments, 2, False), shown(FAMILY, PAIRS + 1)[:ODD]
    stream = shared(FAMILY, segments).stream(window=2, batch=3)
    while frames:
        for size in sizes:
            assert stream.feed(frames[:size]) == len(frames[:size])
            frames = frames[size:]
            if frames:
                stream.ask(QUESTION, decoding=wt.Decoding(max_tokens=1))
    assert len(stream) == PAIRS
    assert stream.memory.odd.time == AT
    with torch.inference_mode():
        for layer in range(3):
            for number, block in enumerate(reference.blocks):
                keys, values = stream.memory.read(layer, [number])
                torch.testing.assert_close(keys[0].double(), block.keys[layer], atol=1e-4, rtol=0)
                torch.testing.assert_close(values[0].double(), block.values[layer], atol=1e-4, rtol=0)


@exact
@each_layout
def test_a_question_about_it_leaves_nothing_behind(segments: bool) -> None:
    stream = fed(segments, 2, ODD + 4)
    before, held = stream.memory.digest(), stream.memory.tiers
    assert held["firsts"] == (PAIRS + 3) * 24 * 40 * 3
    assert stream.memory.nbytes == sum(held.values())
    for at in (None, AT, 0.0, 2.0):
        for mode in ("weavetime", wt.WeaveTime(k=3, delta=0), "rekv:2", "window"):
            stream.ask(QUESTION, mode=mode, at=at, decoding=wt.Decoding(max_tokens=2))
    assert stream.memory.digest() == before
    assert stream.memory.tiers == held


def test_one_frame_alone_can_be_asked_about() -> None:
    stream, [first, second] = shared(FAMILY, False).stream(window=2), shown(FAMILY, 1)
    stream.feed(first)
    assert (len(stream), stream.now) == (0, 0.5)
    answer = stream.ask(QUESTION, decoding=wt.Decoding(max_tokens=2))
    assert (answer.evidence.times, answer.evidence.blocks) == ((0.0,), ((0,),) * 3)
    with pytest.raises(wt.StreamError, match="time order"):
        stream.feed(replace(second, time=0.0))
    with pytest.raises(wt.QuestionError, match="after the stream's now"):
        stream.ask(QUESTION, at=0.6)
    stream.close()
    assert stream.ask(QUESTION, at=9.0, decoding=wt.Decoding(max_tokens=2)).tokens == answer.tokens


def test_an_evaluation_notes_its_own_time() -> None:
    """Of the pair whose second frame was not there, its first frame's; also for last:N, of N frames."""
    for count, at in ((ODD, None), (ODD, AT), (ODD + 4, AT)):
        stream = fed(False, 2, count)
        feed = Feed(stream, SimpleNamespace(batches=iter(())), lambda n: None, 3)  # type: ignore[arg-type]
        feed.recent.extend(shown(FAMILY, PAIRS + 1)[:ODD])
        for mode, read in (("window", (AT - 1, AT + 0.5)), ("last:1", (AT, AT + 0.5)), ("last:3", (AT - 1, AT + 0.5))):
            settings: Any = SimpleNamespace(config=stream.config)
            asker = Asker(shared(FAMILY, False), settings, feed, mode, AT if at else 99.0)
            [(_, found)] = asker._ask([wt.Question(QUESTION)], None, at, wt.Decoding(max_tokens=1))  # type: ignore[arg-type]
            assert found == ((read,),)
        assert [feed.newest(t) for t in (0.0, 0.4, 0.5, AT - 0.1, AT)] == [0.0, 0.0, 0.5, AT - 0.5, AT]


def test_its_times_are_read_while_its_partner_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = fed(False, 2, ODD)
    memory, waiting = stream.memory, stream.memory.odd
    for read, found in ((lambda: memory.now, AT + 0.5), (lambda: memory.newest, AT), (lambda: memory.times[-1], AT)):
        seen = iter([waiting])  # and then no longer
        monkeypatch.setattr(type(memory), "odd", property(lambda self, seen=seen: next(seen, None)))
        assert read() == found


def test_an_answer_that_is_being_written_is_not_touched_by_the_partner() -> None:
    """A batch of questions in which each looks again, and the partner comes between them."""
    frames, mode = shown(FAMILY, PAIRS + 1), wt.WeaveTime(k=2, delta=0)
    questions = [wt.Question("Why?"), wt.Question(QUESTION)]
    calm = fed(False, 2, ODD).ask_all(questions, mode=mode, decoding=wt.Decoding(max_tokens=5))
    stream, answers = fed(False, 2, ODD), {}
    for writing in stream._look(questions, None, mode, wt.Decoding(max_tokens=5)):
        if len(stream) == PAIRS:
            stream.feed(frames[ODD:])
        writing.run()
        answers.update(writing.answers())
    assert len(stream) == PAIRS + 1
    assert [replace(answers[i], timings={}) for i in (0, 1)] == [replace(a, timings={}) for a in calm]


def test_a_pair_that_fails_leaves_the_first_frame_waiting() -> None:
    made = engine(FAMILY, time_prompts=False)
    stream, frames = made.stream(window=2, batch=5), shown(FAMILY, PAIRS)
    stream.feed(frames[:3])
    before, layer = stream.memory.digest(), made.backbone.decoder.layers[1].mlp.down_proj
    kept = layer.weight.clone()
    layer.weight.fill_(float("nan"))
    for ask in (lambda: stream.feed(frames[3:6]), lambda: stream.ask(QUESTION)):
        with pytest.raises(wt.NumericsError, match="not finite"):
            ask()
    layer.weight.copy_(kept)
    assert (stream.memory.digest(), len(stream), stream.memory.odd.time) == (before, 1, 1.0)
    stream.feed(frames[3:])
    expected = shared(FAMILY, False).stream(window=2, batch=5)
    expected.feed(frames)
    for a, b in zip(stream.memory.read(2, range(PAIRS)), expected.memory.read(2, range(PAIRS)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=0)


def test_the_bench_measures_behind_a_full_window(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    monkeypatch.setattr(run, "encode_rate", lambda stream, *how: held.append(len(stream)) or 1.0)
    setting = run.Setting(window=6, blocks=8, calls=(1, 2), k=2, questions=1, tokens=2)
    rows = run._rows(shared(FAMILY, False), torch.device("cpu"), setting, Limits(1.0, 1.0, None), lambda text: None)
    assert [next(rows).name for _ in range(3)] == ["vision", "encode, 1 a call", "encode, 2 a call"]
    assert min(held) >= setting.window


# Its published format


SAID = {
    "architectures": ["Qwen3VLForConditionalGeneration"],
    "image_token_id": 262,
    "model_type": "qwen3_vl",
    "tie_word_embeddings": True,
    "video_token_id": 261,
    "vision_end_token_id": 260,
    "vision_start_token_id": 259,
}


def publish(folder: Path, model: Any) -> Path:
    """As Qwen/Qwen3-VL-4B-Instruct lies on the hub: a head that shares the embedding's weights, rope as of 4.57."""
    folder.mkdir()
    weights = {k: v.clone() for k, v in model.state_dict().items() if k != "lm_head.weight"}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    text, vision = model.config.text_config.to_dict(), model.config.vision_config.to_dict()
    kept = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    kept += ("head_dim", "vocab_size", "max_position_embeddings", "rms_norm_eps", "hidden_act", "eos_token_id")
    eyes = ("depth", "hidden_act", "hidden_size", "in_channels", "intermediate_size", "num_heads", "patch_size")
    eyes += ("num_position_embeddings", "out_hidden_size", "spatial_merge_size", "temporal_patch_size")
    rope = {"mrope_interleaved": True, "mrope_section": [6, 3, 3], "rope_type": "default"}
    said = {
        **SAID,
        "text_config": {
            **{k: text[k] for k in kept},
            "model_type": "qwen3_vl_text",
            "dtype": "float32",
            "rope_scaling": rope,
            "rope_theta": 10_000,
            "tie_word_embeddings": True,
        },
        "vision_config": {
            **{k: vision[k] for k in eyes},
            "model_type": "qwen3_vl",
            "deepstack_visual_indexes": [0, 1, 2],
        },
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
    assert loaded.backbone.model.lm_head.weight is loaded.backbone.decoder.embed_tokens.weight
    assert loaded.backbone.head_dim == 24
    found = []
    for made in (loaded, engine(FAMILY, time_prompts=False, model=model)):
        stream = made.stream(window=2)
        stream.feed(shown(FAMILY, 5)[:-1])
        row = look(stream, QUESTION, mode=wt.WeaveTime(k=3, delta=0), max_tokens=9)
        found.append((row.draft.logits, unstopped(row)))
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-6, rtol=0)
    assert found[0][1] == found[1][1]


@pytest.mark.parametrize(
    "lost",
    [
        "model.visual.deepstack_merger_list.1.linear_fc2.weight",
        "model.visual.pos_embed.weight",
        "model.language_model.layers.2.self_attn.q_norm.weight",
        "model.language_model.embed_tokens.weight",
    ],
)
def test_a_part_that_is_missing(tmp_path: Path, lost: str) -> None:
    folder = publish(tmp_path / "m", host(FAMILY))
    weights = load_file(folder / "model.safetensors")
    del weights[lost]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(wt.ModelError, match="weights are missing"):
        wt.load(folder, device="cpu")


def test_prompt_is_the_published_processors() -> None:
    """Chat template and processor of Qwen/Qwen3-VL-8B-Instruct, VIDEO for the places of a step's visual tokens.

    The processor puts each step's time and wrapper where the template has <|vision_start|><|video_pad|><|vision_end|>
    (huggingface/transformers@e1b5516, models/qwen3_vl/processing_qwen3_vl.py; from 5.10 on a wrapper around all stays).
    """
    rendered = (
        "<|im_start|>user\n<0.5 seconds><|vision_start|>VIDEO<|vision_end|>"
        "<2.5 seconds><|vision_start|>VIDEO<|vision_end|>"
        "<4.0 seconds><|vision_start|>VIDEO<|vision_end|>Who?<|im_end|>\n<|im_start|>assistant\nMe.<|im_end|>\n"
        "<|im_start|>user\nWhen?<|im_end|>\n<|im_start|>assistant\n"
    )
    backbone, put = shared(FAMILY, False).backbone, tokenizer().decode
    frames = [wt.Frame(f.pixels, float(i)) for i, f in enumerate(shown(FAMILY, 3)[:5])]
    table, text = backbone.decoder.embed_tokens.weight, put(backbone.sink[0])
    for steps in backbone.steps([*frames, frames[-1]], backbone.grid(24, 40), 1.0):
        for rows in steps.embeds[0].unflatten(0, (len(steps.times), -1)):
            visual = steps.layout.visual
            ids = [int((table - row).abs().sum(1).argmin()) for row in (*rows[: visual.start], *rows[visual.stop :])]
            text += put(ids[: visual.start]) + "VIDEO" + put(ids[visual.start :])
    prompt = backbone.prompt(wt.Question("When?", (), (("Who?", "Me."),)), wt.Decoding())
    assert text + put(prompt.ids) == rendered


@pytest.mark.parametrize(
    ("size", "pixels"),
    [((720, 1280), (640, 1152)), ((360, 640), (352, 640)), ((1080, 1920), (640, 1152)), ((40, 60), (64, 96))],
)
def test_grid_of_the_published_preprocessor(size: tuple[int, int], pixels: tuple[int, int]) -> None:
    """The video's limits are of all frames together; a frame has at most 768 tokens of 32 x 32 pixels."""
    made = engine(FAMILY, time_prompts=False)
    made.backbone.model.config.vision_config.patch_size = 16
    limits = {"size": {"longest_edge": 25165824, "shortest_edge": 4096}}
    object.__setattr__(made.backbone.checkpoint, "preprocessor", limits)
    grid = made.backbone.grid(*size)
    assert (grid.height, grid.width) == pixels
    assert grid.tokens == pixels[0] * pixels[1] // 32**2 <= 768
