"""STAR, Flash-VStream's memory, beside ours: against a slow reference, through the engine, and what it refuses."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from transformers import LlavaForConditionalGeneration

import weavetime as wt
from star_reference import HEAD, Reference
from tiny import TEXT, frames, look, shared, sharpen, tokenizer
from weavetime.backbones import FAMILIES
from weavetime.backbones.checkpoints import Checkpoint
from weavetime.config import Record, StarSizes
from weavetime.errors import CapacityError, ModeError, ModelError, NumericsError, QuestionError, StreamError
from weavetime.memory.star import Clustering, Star

pytestmark = pytest.mark.exact

VISION = {
    "model_type": "clip_vision_model",
    "hidden_size": 64,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 64,
    "patch_size": 4,
}
SINK = (
    "<s>A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. USER: "
)
QUESTION = "What is on the table?"
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
each_memory = pytest.mark.parametrize("memory", ["star", "star-fixed"])


def scenes(count: int, *, seed: int = 0, width: int = 8) -> Tensor:
    """Features of frames as video has them: cuts between a few scenes, and noise."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(9, 64, width, generator=generator)
    scene = torch.randint(9, (count // 4 + 1,), generator=generator).repeat_interleave(4)[:count]
    return centres[scene] + 0.3 * torch.randn(count, 64, width, generator=generator)


def run(features: Tensor, *, fixed: bool = False, seed: int = 0) -> Star:
    star = Star.empty(features[0], StarSizes())
    for i, frame in enumerate(features):
        star = star.after(frame, float(i), StarSizes(), Clustering(fixed, seed))
    return star


def reference(features: Tensor, *, fixed: bool = False, seed: int = 0) -> Reference:
    draw = np.random.default_rng(7)
    width = features.shape[-1]
    slow = Reference(fixed, seed, draw.normal(size=(HEAD, width)), draw.normal(size=(HEAD, width)))
    for frame in features.double().numpy():
        slow.add(frame)
    return slow


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3, 10, 25, 26, 27, 40, 120])
def test_equals_the_slow_reference(count: int, fixed: bool) -> None:
    features = scenes(count)
    star, slow = run(features, fixed=fixed, seed=3), reference(features, fixed=fixed, seed=3)
    assert [star.times[i] for i in star.retrieved] == slow.retrieved
    torch.testing.assert_close(star.tokens().double().numpy(), slow.tokens(), atol=1e-5, rtol=0)
    np.testing.assert_allclose(star.weights.numpy(), slow.weights, atol=1e-5)


@pytest.mark.parametrize(
    ("count", "tokens"), [(1, 81), (2, 2 * 17 + 3 * 64), (10, 10 * 17 + 4 * 64), (25, 681), (26, 681), (90, 681)]
)
def test_as_many_tokens_as_published(count: int, tokens: int) -> None:
    assert run(scenes(count)).tokens().shape == (tokens, 8)


def test_order_of_the_parts() -> None:
    """Abstract, temporal, retrieved, last: told apart by constant frames."""
    features = torch.arange(40.0)[:, None, None].expand(40, 64, 8)
    star = run(features)
    tokens = star.tokens()
    torch.testing.assert_close(tokens[:25], star.abstract)
    torch.testing.assert_close(tokens[25:425].reshape(25, -1), star.temporal)
    assert tokens[425:617:64, 0].tolist() == [star.times[i] for i in star.retrieved]
    assert tokens[617:].eq(39).all()


def test_what_is_held_does_not_grow() -> None:
    for fixed in (False, True):
        sizes = [run(scenes(count), fixed=fixed).nbytes for count in (26, 60, 120)]
        assert len(set(sizes)) == 1


def test_published_retrieval_never_leaves_the_first_25_frames() -> None:
    """And the mended one does, as soon as there is something to see."""
    found: dict[bool, set[float]] = {False: set(), True: set()}
    for fixed, all_found in found.items():
        for seed in range(4):
            star = Star.empty(scenes(1)[0], StarSizes())
            for i, frame in enumerate(scenes(80, seed=seed)):
                star = star.after(frame, float(i), StarSizes(), Clustering(fixed, seed))
                all_found |= {star.times[j] for j in star.retrieved}
    assert max(found[False]) <= 24
    assert max(found[True]) > 60


def test_mended_weights_count_every_frame() -> None:
    """A scene that fills most of the stream is what is retrieved."""
    features = scenes(90)
    features[30:] = 5 + 0.01 * torch.randn(60, 64, 8, generator=torch.Generator().manual_seed(1))
    star = run(features, fixed=True)
    assert float(star.weights.sum()) == pytest.approx(90)
    assert star.times[star.retrieved[0]] >= 30
    assert float(run(features).weights.sum()) == pytest.approx(26)


@pytest.mark.parametrize("fixed", [False, True])
def test_a_picture_that_stands_still(fixed: bool) -> None:
    """Equal frames: clusters without rows, and no number that is none."""
    star = run(scenes(1).expand(60, -1, -1), fixed=fixed)
    torch.testing.assert_close(star.temporal, star.temporal[:1].expand(25, -1), atol=1e-5, rtol=0)
    assert star.tokens().isfinite().all()
    assert star.tokens().shape == (681, 8)


def test_seeds() -> None:
    features = scenes(60)
    one, again, other = (run(features, seed=seed).tokens() for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


# Through the engine


@cache
def engine(**more: Any) -> wt.Engine:
    kind = FAMILIES["flash_vstream"]
    said = {"compress_size": 8, **{k: v for k, v in more.items() if k != "time_prompts"}}
    config = kind.assemble(VISION, {**TEXT, **said})
    torch.manual_seed(0)
    model = sharpen(LlavaForConditionalGeneration(config).eval().requires_grad_(False))
    checkpoint = Checkpoint(Path(), config, kind, Record(), kind.preprocessor)
    return wt.Engine(kind(model, tokenizer(), checkpoint, time_prompts=bool(more.get("time_prompts"))))


def clip(count: int, **more: Any) -> list[wt.Frame]:
    return frames(count, size=(64, 64), **more)


def seen(shown: list[wt.Frame]) -> Tensor:
    """Features by the published pipeline, by hand: (frames, 8 x 8, width)."""
    model = engine().backbone.model
    pixels = torch.stack([f.pixels for f in shown]).double() / 255
    pixels = ((pixels - torch.tensor(MEAN)) / torch.tensor(STD)).float().permute(0, 3, 1, 2)
    with torch.no_grad():
        hidden = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
    square = hidden.reshape(len(shown), 16, 16, -1).permute(0, 3, 1, 2)
    return functional.avg_pool2d(square, 2).flatten(2).mT


def host_logits(tokens: Tensor) -> Tensor:
    """The untouched host over `init | tokens | question`."""
    model = engine().backbone.model
    words = [tokenizer().encode(text, add_special_tokens=False) for text in (SINK, f"\n{QUESTION}ASSISTANT:")]
    with torch.no_grad():
        init, question = (model.model.language_model.embed_tokens(torch.tensor(ids)) for ids in words)
        row = torch.cat((init, model.model.multi_modal_projector(tokens), question))
        out = model.model.language_model(inputs_embeds=row[None], use_cache=False)
        return model.lm_head(out.last_hidden_state[0, -1])


def logits(stream: wt.Stream) -> Tensor:
    return look(stream, QUESTION).draft.logits[0]


@each_memory
@pytest.mark.parametrize("count", [1, 10, 40])
def test_answers_are_the_hosts_own(count: int, memory: str) -> None:
    shown = clip(count)
    stream = engine().stream(memory=memory, star_seed=5, batch=7)
    assert stream.feed(shown) == count
    slow = reference(seen(shown), fixed=memory == "star-fixed", seed=5)
    expected = host_logits(torch.from_numpy(slow.tokens()).float())
    torch.testing.assert_close(logits(stream), expected, atol=1e-5, rtol=0)
    answer = stream.ask(QUESTION, decoding=wt.Decoding(max_tokens=4))
    assert answer.evidence.times == tuple(sorted({*map(float, slow.retrieved), count - 1.0}))
    assert set(answer.evidence.blocks) == {()}
    assert answer.evidence.scores is None
    assert not answer.recalled
    assert (stream.now, len(stream)) == (count, 0)


@each_memory
def test_chunks_change_nothing(memory: str) -> None:
    shown = clip(60)
    found = []
    for batch in (1, 7, 64):
        stream = engine().stream(memory=memory, batch=batch)
        stream.feed(shown[:31])
        stream.ask(QUESTION)  # nor does a question in between
        stream.feed(shown[31:])
        found.append((stream.memory.star.tokens(), logits(stream)))
    for tokens, said in found[1:]:
        torch.testing.assert_close(tokens, found[0][0], atol=1e-5, rtol=0)
        torch.testing.assert_close(said, found[0][1], atol=1e-5, rtol=0)


@each_memory
def test_a_question_is_a_read(memory: str) -> None:
    stream = engine().stream(memory=memory)
    stream.feed(clip(30))
    before = stream.memory.digest()
    first = logits(stream)
    stream.ask("Something else?", options=["a cup", "a plate"])
    stream.ask("And blind?", mode="blind")
    assert stream.memory.digest() == before
    assert torch.equal(logits(stream), first)
    stream.feed(clip(1, seed=9, start=30.0))
    assert stream.memory.digest() != before
    assert not torch.equal(logits(stream), first)


def test_several_questions_read_the_same_tokens() -> None:
    stream = engine().stream(memory="star")
    stream.feed(clip(30))
    asked = [wt.Question("Where?"), wt.Question("A longer question, about what?")]
    together = stream.ask_all(asked)
    alone = [stream.ask(q.text) for q in asked]
    assert [a.tokens for a in together] == [a.tokens for a in alone]


@each_memory
def test_every_byte_is_counted_and_none_is_added(memory: str) -> None:
    stream = engine().stream(memory=memory)
    stream.feed(clip(30))
    stream.ask(QUESTION)
    size = stream.memory.nbytes
    tiers = stream.memory.tiers
    kv = 2 * 3 * 2 * 16 * 681 * 4  # keys and values, layers, KV heads, dim, tokens, bytes
    assert (tiers["encoded"], tiers["window"], tiers["archive"], tiers["index"]) == (kv, 0, 0, 0)
    assert tiers["star"] == 4 * 64 * (25 + 25 * 16 + (25 + 1) * 64) + 4 * 25
    stream.feed(clip(40, seed=1, start=30.0))
    stream.ask(QUESTION)
    assert stream.memory.nbytes == size


def test_bytes_are_counted_while_frames_come(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = engine().stream(memory="star")
    stream.feed(clip(3))
    stream.ask(QUESTION)
    kept, held = stream.memory.tiers, iter([stream.memory.encoded])  # and then no longer
    monkeypatch.setattr(type(stream.memory), "encoded", property(lambda self: next(held, None)), raising=False)
    assert stream.memory.tiers == kept


def test_blind_reads_no_picture() -> None:
    stream = engine().stream(memory="star")
    before = look(stream, QUESTION, mode="blind").draft.logits
    stream.feed(clip(3))
    assert torch.equal(look(stream, QUESTION, mode="blind").draft.logits, before)
    assert stream.ask(QUESTION, mode="blind").evidence.times == ()


def test_the_past_is_refused() -> None:
    stream = engine().stream(memory="star")
    stream.feed(clip(5))
    with pytest.raises(QuestionError, match="in the past, and STAR is a memory of now"):
        stream.ask(QUESTION, at=3.9)
    assert stream.ask(QUESTION, at=4.0).at == 4.0
    with pytest.raises(QuestionError, match="after the stream's now"):
        stream.ask(QUESTION, at=5.5)
    stream.close()
    stream.ask(QUESTION, at=50.0)


@pytest.mark.parametrize("mode", ["rekv", "window", "recent:2", "uniform:4", "full", "frames:1"])
def test_modes_that_choose_blocks_are_refused(mode: str) -> None:
    stream = engine().stream(memory="star-fixed")
    stream.feed(clip(2))
    with pytest.raises(ModeError, match="memory='star-fixed' has none: use weavetime or blind, or memory='blocks'"):
        stream.ask(QUESTION, mode=mode)


def test_what_cannot_have_it() -> None:
    with pytest.raises(ModelError, match="Flash-VStream's own, and this model is qwen2_vl: use memory='blocks'"):
        shared("qwen2_vl", False).stream(memory="star")
    with pytest.raises(StreamError, match="time_prompts=False"):
        engine(time_prompts=True).stream(memory="star")
    with pytest.raises(StreamError, match="memory is one of blocks, star, star-fixed, got 'moon'"):
        engine().stream(memory="moon")
    with pytest.raises(StreamError, match="star_seed must be a whole number from 0"):
        engine().stream(memory="star", star_seed=-1)
    with pytest.raises(ModelError, match="video_sample_type is 'kmeans', and STAR has 'weighted_kmeans'"):
        engine(video_sample_type="kmeans").stream(memory="star")
    with pytest.raises(ModelError, match="sizes"):
        engine(compress_long_memory_size=3).stream(memory="star")


def test_sizes_are_the_checkpoints() -> None:
    found = engine(video_long_memory_length=10, compress_Turing_update_ratio=0.5).backbone.star.star_sizes
    assert (found.temporal, found.abstract, found.ratio) == (10, 25, 0.5)


def test_nothing_seen_yet_and_frames_out_of_order() -> None:
    stream = engine().stream(memory="star")
    with pytest.raises(QuestionError, match="no frame yet"):
        stream.ask(QUESTION)
    stream.feed(clip(2))
    with pytest.raises(StreamError, match="time order"):
        stream.feed(clip(1))
    stream.close()
    with pytest.raises(StreamError, match="closed"):
        stream.feed(clip(1, start=9.0))


def test_a_call_that_fails_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = engine().stream(memory="star")
    stream.feed(clip(30))
    before, kind = stream.memory.digest(), type(engine().backbone)
    usual = kind.unprojected
    monkeypatch.setattr(kind, "unprojected", lambda *how: usual(*how) * float("nan"))
    with pytest.raises(NumericsError, match="nothing was kept"):
        stream.feed(clip(3, start=40.0))
    assert stream.memory.digest() == before
    monkeypatch.undo()
    stream.feed(clip(3, start=40.0))


def test_it_must_fit_the_models_positions() -> None:
    small = engine(max_position_embeddings=700)
    stream = small.stream(memory="star")
    stream.feed(clip(30))
    with pytest.raises(CapacityError, match="STAR's 681 tokens"):
        stream.ask(QUESTION)
    assert stream.ask(QUESTION, mode="blind").evidence.times == ()


def test_the_bench_shows_both_beside_ours() -> None:
    from weavetime.bench.run import Setting, fitted
    from weavetime.bench.star import star_rows

    setting = fitted(engine(), Setting(questions=1, calls=(8,)))
    assert (setting.window, setting.k) == (engine().backbone.default_window,) * 2  # 4096 positions, an eighth for text
    rows = {row.name: row for row in star_rows(engine(), setting, torch.device("cpu"), QUESTION)}
    parts = ("encode, 8 a call", "first token, new", "first token, again", "held: star", "held: encoded")
    assert list(rows) == [f"{memory}: {part}" for memory in ("star", "star-fixed") for part in parts]
    assert all(row.value > 0 for row in rows.values())
    assert rows["star: held: star"].value == rows["star-fixed: held: star"].value
    assert list(star_rows(shared("qwen2_vl", False), setting, torch.device("cpu"), QUESTION)) == []
