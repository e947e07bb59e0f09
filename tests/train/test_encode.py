"""A sample's tokens, loss masks and positions against a sequence written out string by string; its embeddings against
the untouched host's own forward."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import weavetime as wt
from reference import CLOSING, OPENING, SINK, VISUAL, Block, positions, time_prompt
from tiny import SPECIAL, TRAINED, engine, host, shared, shown, tokenizer
from weavetime.backbones.values import resized
from weavetime.config import Decoding
from weavetime.train.encode import ANSWER, RECONSTRUCTION, Encoded, Step, Turn, encode
from weavetime.train.samples import Batch, collate, inputs_embeds

TURNS = (
    Turn("Wann war das?", "Correct timestamps: Time=1 | Time=2", RECONSTRUCTION),
    Turn("What is on\nthe table, ünd wo?", "A cup, {q} {a}."),
    Turn("And then?", "(B"),
)
BETWEEN = {"llava_onevision": "<|im_start|>user ", "qwen2_vl": "\n<|im_start|>user\n"}
ORDER = (3, 0, 2, 1)
LAYOUTS = [(family, segments) for family in TRAINED for segments in (True, False)]
LAYOUT_NAMES = [f"{family}-{'segments' if segments else 'one_video'}" for family, segments in LAYOUTS]
each_layout = pytest.mark.parametrize(("family", "segments"), LAYOUTS, ids=LAYOUT_NAMES)


def steps_of(family: str, pairs: bool = False) -> list[Step]:
    """Four steps whose times have gaps, one frame each or two."""
    frames = shown(family, 8)
    starts = (0.0, 1.5, 99.9, 100_000.0)  # the last prompt is longer
    if pairs:
        return [Step((frames[2 * i], frames[2 * i + 1]), t, t + 2) for i, t in enumerate(starts)]
    return [Step((frames[i],), t, t + 1) for i, t in enumerate(starts)]


def cases() -> list[Any]:
    found = [(family, segments, False) for family, segments in LAYOUTS]
    return [pytest.param(*c, id=n) for c, n in zip(found, LAYOUT_NAMES, strict=True)] + [
        pytest.param("qwen2_vl", segments, True, id=f"qwen2_vl-pairs-{segments}") for segments in (True, False)
    ]


each_case = pytest.mark.parametrize(("family", "segments", "pairs"), cases())


class Written:
    """Ids, labels and parts, one string after another."""

    def __init__(self, family: str, segments: bool, steps: list[Step]) -> None:
        self.family, self.ids, self.parts = family, [], []
        rows, columns = VISUAL[family]
        self.text(SINK[family] + ("" if segments else OPENING[family]))
        origin, blocks = len(self.ids), []
        for step in steps:
            at = len(self.ids)
            if segments:
                self.text(time_prompt(family, step.start, step.end))
            before = len(self.ids) - at
            self.add([-2] * (rows * columns))
            if segments:
                self.closing()
            blocks.append(Block(before, rows, columns, int(segments), torch.empty(0)))
        where, self.end = positions(family, segments, origin, blocks)
        self.where = [(i,) * (1 if family == "llava_onevision" else 3) for i in range(origin)]
        self.where += [p for block in where for p in block]
        if not segments:
            self.closing()
        self.text(f"\n{TURNS[0].question}<|im_end|><|im_start|>assistant\n")
        self.text(f"{TURNS[0].answer}<|im_end|>", RECONSTRUCTION)
        self.text(f"{BETWEEN[family]}\n{TURNS[1].question}<|im_end|><|im_start|>assistant\n")
        self.text(f"{TURNS[1].answer}<|im_end|>", ANSWER)
        self.text(f"{BETWEEN[family]}\n{TURNS[2].question}<|im_end|><|im_start|>assistant\n")
        self.text(f"{TURNS[2].answer}<|im_end|>", ANSWER)
        text = len(self.ids) - len(self.where)
        self.where += [(self.end + i,) * len(self.where[0]) for i in range(text)]

    def text(self, text: str, part: int = 0) -> None:
        self.add(tokenizer().encode(text, add_special_tokens=False), part)

    def closing(self) -> None:
        [name] = CLOSING[self.family]
        self.add([-1] if name == "newline" else tokenizer().encode(name, add_special_tokens=False))

    def add(self, ids: list[int], part: int = 0) -> None:
        self.ids += ids
        self.parts += [part] * len(ids)


def made(family: str, segments: bool, pairs: bool = False, model: Any = None) -> tuple[Any, Encoded]:
    backbone = (
        engine(family, time_prompts=segments, model=model).backbone if model else shared(family, segments).backbone
    )
    return backbone, encode(backbone, steps_of(family, pairs), ORDER, TURNS)


@each_case
def test_every_token_and_its_loss(family: str, segments: bool, pairs: bool) -> None:
    _, found = made(family, segments, pairs)
    wanted = Written(family, segments, steps_of(family, pairs))
    assert found.ids.tolist() == wanted.ids
    assert found.parts.tolist() == wanted.parts
    assert found.labels.tolist() == [i if p else -100 for i, p in zip(wanted.ids, wanted.parts, strict=True)]
    assert [tuple(p) for p in found.positions.T.tolist()] == wanted.where
    learnt = tokenizer().decode([i for i in found.labels.tolist() if i != -100])
    assert learnt == "".join(f"{t.answer}<|im_end|>" for t in TURNS)


@each_layout
def test_as_the_stream_lays_it_out(family: str, segments: bool) -> None:
    """Sink, steps and question of the engine's own, up to the last answer."""
    backbone, found = made(family, segments)
    steps = steps_of(family)
    frames = [replace(s.frames[0], time=s.start, until=s.end) for s in steps]
    question = wt.Question(TURNS[2].question, history=tuple((t.question, t.answer) for t in TURNS[:2]))
    stretches = backbone.steps(frames, backbone.grid(*frames[0].pixels.shape[:2]), 1.0)
    prompt = backbone.prompt(question, Decoding())
    embeds = torch.cat([backbone.embed_ids(backbone.sink[0])[None], *(s.embeds for s in stretches)], 1)
    embeds = torch.cat([embeds, backbone.embed_ids(prompt.ids)[None]], 1)
    straight = encode(backbone, steps, range(4), TURNS)
    ours = inputs_embeds(backbone, collate([straight]))
    torch.testing.assert_close(ours[:, : embeds.shape[1]], embeds, atol=1e-6, rtol=0)
    assert ours.shape[1] == embeds.shape[1] + len(tokenizer().encode(f"{TURNS[2].answer}<|im_end|>"))
    assert found.ids.tolist() == straight.ids.tolist()


@each_layout
def test_a_tokenizer_that_merges_across_turns(family: str, segments: bool) -> None:
    """Ends of turns and questions are one text to the stream's prompt, whose tokens are what the model will see."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    space, line = "\u0120", "\u010a"
    vocabulary = {c: i for i, c in enumerate([*alphabet, space + line, line + line])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[(space, line), (line, line)]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.add_special_tokens(list(SPECIAL))
    backbone = engine(family, time_prompts=segments).backbone
    backbone.tokenizer = PreTrainedTokenizerFast(tokenizer_object=core)
    found = encode(backbone, steps_of(family), ORDER, TURNS)
    history = tuple((t.question, t.answer) for t in TURNS[:2])
    prompt = backbone.prompt(wt.Question(TURNS[2].question, history=history), Decoding()).ids.tolist()
    assert vocabulary[(space if family == "llava_onevision" else line) + line] in prompt
    answer = backbone.encode(f"{TURNS[2].answer}<|im_end|>")
    assert found.ids.tolist()[-len(prompt) - len(answer) :] == prompt + answer
    for part, turns in ((RECONSTRUCTION, TURNS[:1]), (ANSWER, TURNS[1:])):
        wanted = [i for t in turns for i in backbone.encode(f"{t.answer}<|im_end|>")]
        assert found.labels[found.parts == part].tolist() == wanted


@each_case
def test_pictures_in_displayed_order_as_the_stream_resizes_them(family: str, segments: bool, pairs: bool) -> None:
    backbone = shared(family, segments).backbone
    frames = [wt.Frame(torch.randint(0, 256, (61, 90, 3), dtype=torch.uint8), float(i)) for i in range(4 * (1 + pairs))]
    size = 1 + pairs
    steps = [Step(tuple(frames[size * i : size * i + size]), float(i), i + 1.0) for i in range(4)]
    found = encode(backbone, steps, ORDER, TURNS)
    wanted = resized(frames, found.grid).unflatten(0, (4, size))[list(ORDER)]
    assert found.pixels.dtype == torch.uint8
    assert torch.equal(found.pixels.float(), wanted if pairs else wanted[:, 0])


def host_inputs(family: str, segments: bool, found: Encoded, pixels: torch.Tensor) -> dict[str, Any]:
    """The same sample as the host's own forward takes it."""
    video = 261
    ids = torch.where(found.ids < 0, video, found.ids)[None]
    scaled = (pixels.float() / 255 - 0.5) / 0.5
    if family == "llava_onevision":
        return {"input_ids": ids, "pixel_values_videos": scaled[:, None] if segments else scaled[None]}
    steps, high, wide = len(scaled), scaled.shape[-2] // 4, scaled.shape[-1] // 4
    patches = []
    for step in scaled:
        both = step if step.dim() == 4 else torch.stack((step, step))
        for top in range(0, both.shape[-2], 8):
            for left in range(0, both.shape[-1], 8):
                for y, x in ((0, 0), (0, 4), (4, 0), (4, 4)):
                    patch = both[:, :, top + y : top + y + 4, left + x : left + x + 4]
                    patches.append(patch.transpose(0, 1).flatten())  # (channel, time, y, x)
    grid = torch.tensor([[1, high, wide]] * steps if segments else [[steps, high, wide]])
    return {
        "input_ids": ids,
        "pixel_values_videos": torch.stack(patches),
        "video_grid_thw": grid,
        "position_ids": found.positions[:, None],
    }


@pytest.mark.exact
@each_case
def test_the_host_computes_the_same(family: str, segments: bool, pairs: bool) -> None:
    model = host(family)
    backbone, found = made(family, segments, pairs, model)
    batch = collate([found])
    with torch.no_grad():
        out = backbone.decoder(
            inputs_embeds=inputs_embeds(backbone, batch),
            position_ids=batch.position_ids,
            attention_mask=batch.mask.long(),
            use_cache=False,
        )
        ours = backbone.logits(out.last_hidden_state)
        wanted = model(**host_inputs(family, segments, found, found.pixels), use_cache=False).logits.float()
    torch.testing.assert_close(ours, wanted, atol=1e-5, rtol=0)
    other = collate([replace(found, pixels=found.pixels[[1, 0, 2, 3]])])
    with torch.no_grad():
        embeds = inputs_embeds(backbone, other)
        moved = backbone.decoder(inputs_embeds=embeds, position_ids=batch.position_ids, use_cache=False)
    assert (backbone.logits(moved.last_hidden_state) - wanted).abs().max() > 1e-3


@each_layout
def test_gradients_reach_what_is_trained_and_nothing_else(family: str, segments: bool) -> None:
    model = host(family)
    backbone, found = made(family, segments, model=model)
    batch = collate([found])
    assert not inputs_embeds(backbone, batch).requires_grad
    llava = family == "llava_onevision"
    projector = model.model.multi_modal_projector if llava else model.model.visual.merger
    projector.requires_grad_(True)
    if llava:
        model.model.image_newline.requires_grad_(True)
    inputs_embeds(backbone, batch).square().sum().backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    part = "multi_modal_projector" if llava else "visual.merger"
    assert trained == {n for n, _ in model.named_parameters() if part in n} | (
        {"model.image_newline"} if llava else set()
    )
    if llava:
        rows = int((found.ids == -1).sum())
        torch.testing.assert_close(model.model.image_newline.grad, 2 * rows * model.model.image_newline.detach())


def test_a_batch_is_its_samples_side_by_side() -> None:
    for family, segments in LAYOUTS:
        backbone, first = made(family, segments)
        steps = steps_of(family)[:2]
        if family == "qwen2_vl":
            steps = [replace(s, frames=(wt.Frame(s.frames[0].pixels.transpose(0, 1), 0.0),)) for s in steps]
        second = encode(backbone, steps, (1, 0), TURNS[1:])
        assert (first.grid != second.grid) == (family == "qwen2_vl")
        batch: Batch = collate([second, first])
        embeds = inputs_embeds(backbone, batch)
        for row, sample in enumerate((second, first)):
            length = len(sample.ids)
            assert batch.mask[row].tolist() == [i < length for i in range(batch.ids.shape[1])]
            assert torch.equal(batch.ids[row, :length], sample.ids)
            assert torch.equal(batch.labels[row, :length], sample.labels)
            assert torch.equal(batch.parts[row, :length], sample.parts)
            assert torch.equal(batch.positions[:, row, :length], sample.positions)
            assert (batch.labels[row, length:] == -100).all()
            assert not batch.parts[row, length:].any()
            alone = inputs_embeds(backbone, collate([sample]))
            torch.testing.assert_close(embeds[row, :length], alone[0], atol=1e-6, rtol=0)
