"""With nothing evicted, memory in any chunking is the untouched host's full attention over the same tokens."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import weavetime as wt
from reference import (
    CLOSING,
    ONE_AXIS,
    OPENING,
    SINK,
    VISUAL,
    Block,
    own_steps,
    positions,
    question_text,
    step_text,
    time_prompt,
)
from tiny import (
    LAYOUT_NAMES,
    LAYOUTS,
    each_layout,
    engine,
    features,
    host,
    look,
    pixels,
    shared,
    shown,
    times,
    tokenizer,
    unstopped,
    untouched,
)

pytestmark = pytest.mark.exact

QUESTION = "What is on the table, ünd wo?"
OPTIONS = ("a cup", "a plate")
COUNT = 7


def ids(text: str) -> list[int]:
    return tokenizer().encode(text, add_special_tokens=False)


class Sequence:
    """The whole conversation as one sequence, written out by hand."""

    def __init__(self, family: str, segments: bool, visual: Tensor, model: Any, frames: list[wt.Frame]) -> None:
        self.family, self.model, self.rows = family, model, []
        rows, columns = VISUAL[family]
        wraps = own_steps(family, segments)
        self.text(SINK[family] + ("" if wraps else OPENING[family]))
        origin = len(self.rows)
        blocks, self.visual, self.deep = [], [], []
        for step, (start, end) in zip(visual, times(frames), strict=True):
            before = self.text(step_text(family, segments, start, end))
            tokens, *deep = step.split(len(self.rows[0]), -1)
            self.visual += range(len(self.rows), len(self.rows) + len(tokens))
            self.deep.append(deep)
            self.rows += list(tokens)
            after = self.closing() if wraps else 0
            blocks.append(Block(before, rows, columns, after, tokens, start))
        where, self.end = positions(family, segments, origin, blocks)
        axes = 1 if family in ONE_AXIS else 3
        self.where = [(i,) * axes for i in range(origin)] + [p for block in where for p in block]
        if not wraps:
            self.closing()

    def text(self, text: str) -> int:
        return self.tokens(ids(text))

    def tokens(self, found: list[int]) -> int:
        self.rows += list(self.model.model.language_model.embed_tokens.weight[found])
        return len(found)

    def closing(self) -> int:
        for name in CLOSING[self.family]:
            if name == "newline":
                self.rows.append(self.model.model.image_newline)
            else:
                self.tokens(ids(name))
        return len(CLOSING[self.family])

    def logits(self) -> Tensor:
        """The host's logits after the last token."""
        text = len(self.rows) - len(self.where)
        axes = len(self.where[0])
        where = torch.tensor([*self.where, *[(self.end + i,) * axes for i in range(text)]]).T[:, None]
        more = {}
        if self.deep[0]:
            visual = torch.zeros(1, len(self.rows), dtype=torch.bool)
            visual[0, self.visual] = True
            deep = [torch.cat(layer) for layer in zip(*self.deep, strict=True)]
            more = {"visual_pos_masks": visual, "deepstack_visual_embeds": deep}
        with torch.no_grad():
            out = self.model.model.language_model(
                inputs_embeds=torch.stack(self.rows)[None],
                position_ids=where[0] if axes == 1 else where,
                use_cache=False,
                **more,
            )
            return self.model.lm_head(out.last_hidden_state[0, -1]).float()

    def greedy(self, count: int) -> tuple[Tensor, list[int]]:
        first, said = self.logits(), []
        while len(said) < count:
            said.append(int(self.logits().argmax()))
            self.tokens(said[-1:])
        return first, said


@pytest.fixture(scope="module", params=LAYOUTS, ids=LAYOUT_NAMES)
def case(request: pytest.FixtureRequest) -> Any:
    """A layout, its frames, the host's logits and its 32 greedy tokens."""
    family, segments = request.param
    model = host(family)
    frames = shown(family, COUNT)
    sequence = Sequence(family, segments, features(family, frames), model, frames)
    sequence.text(question_text(family, QUESTION))
    logits, said = sequence.greedy(32)
    return family, segments, frames, logits, said


def answer(stream: wt.Stream, **how: Any) -> tuple[Tensor, list[int]]:
    """Logits at the last prompt token, and 32 tokens whatever they are (no stop)."""
    row = look(stream, QUESTION, max_tokens=32, **how)
    return row.draft.logits[0], unstopped(row)


def check(found: tuple[Tensor, list[int]], logits: Tensor, said: list[int]) -> None:
    torch.testing.assert_close(found[0], logits, atol=1e-5, rtol=0)
    assert found[1] == said


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_nothing_evicted_equals_the_host(case: Any, batch: int) -> None:
    family, segments, frames, logits, said = case
    stream = shared(family, segments).stream(window=None, batch=batch)
    assert stream.feed(frames) == len(frames)
    assert len(stream) == COUNT
    check(answer(stream, mode="full"), logits, said)
    check(answer(stream), logits, said)


def test_blocks_that_left_the_window_equal_the_host(case: Any) -> None:
    """As of the last of the first COUNT frames, when all of them have moved to the archive."""
    family, segments, frames, logits, said = case
    stream = shared(family, segments).stream(window=COUNT, batch=4)
    stream.feed(frames)
    stream.feed(shown(family, COUNT, seed=1, start=float(COUNT)))
    assert stream.memory.archive.stop == COUNT
    at = float(COUNT) - 0.5
    for mode in ("window", f"recent:{COUNT}", f"uniform:{COUNT}", "weavetime", f"rekv:{COUNT}", "frames:0,1,2,3,4,5,6"):
        check(answer(stream, mode=mode, at=at), logits, said)


def test_recall_of_every_block_equals_the_host(case: Any) -> None:
    """A wide window's blocks, moved out before the question and recalled by late interaction."""
    family, segments, frames, logits, said = case
    stream = shared(family, segments).stream(window=COUNT, batch=3)
    stream.feed(frames)
    memory = stream.memory
    with torch.inference_mode():
        memory.archive.reserve(COUNT, memory.table.layouts[-1])
        memory.archive.put(COUNT, memory.window)
        memory.window.first = COUNT
        for tensor in (*memory.window._keys, *memory.window._values):
            tensor.fill_(float("nan"))
    memory.config = replace(memory.config, window=2)  # what counts as the present
    mode = wt.WeaveTime(k=COUNT, delta=0)
    assert look(stream, QUESTION, mode=mode).recalled
    check(answer(stream, mode=mode), logits, said)


def test_options_are_put_as_published(case: Any) -> None:
    family, segments, frames, *_ = case
    model = untouched(family)
    sequence = Sequence(family, segments, features(family, frames), model, frames)
    sequence.text(question_text(family, QUESTION, OPTIONS))
    logits = sequence.logits()
    stream = shared(family, segments).stream(window=None)
    stream.feed(frames)
    found = stream.ask(QUESTION, options=OPTIONS, mode="full", decoding=wt.Decoding(max_tokens=1))
    expected = [float(logits[ids(letter)[0]]) for letter in "AB"]
    assert found.logits == pytest.approx(expected, abs=1e-5)
    assert found.choice == expected.index(max(expected))


def test_blind_is_the_host_on_text_alone(case: Any) -> None:
    family, segments, frames, *_ = case
    text = SINK[family] + question_text(family, QUESTION)
    model = untouched(family)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids(text)])).logits[0, -1]
    stream = shared(family, segments).stream()
    torch.testing.assert_close(look(stream, QUESTION, mode="blind").draft.logits[0], logits, atol=1e-5, rtol=0)
    stream.feed(frames)
    torch.testing.assert_close(look(stream, QUESTION, mode="blind").draft.logits[0], logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("segments", [True, False])
def test_llava_onevision_from_pixels(segments: bool) -> None:
    """The host's own video path: `<video>` tokens and pixel_values_videos, its newline included."""
    family, frames, model = "llava_onevision", shown("llava_onevision", COUNT), untouched("llava_onevision")
    video = pixels(family, frames)
    if segments:  # each step is a video of its own
        text = "".join(time_prompt(family, *t) + "<video>" * 10 for t in times(frames))
        video = video[:, None]
    else:
        text = "<video>" * (9 * COUNT + 1)
        video = video[None]
    prompt = torch.tensor([ids(SINK[family] + text + question_text(family, QUESTION))])
    with torch.no_grad():
        logits = model(input_ids=prompt, pixel_values_videos=video).logits[0, -1]
    stream = shared(family, segments).stream(window=None, batch=3)
    stream.feed(frames)
    torch.testing.assert_close(look(stream, QUESTION).draft.logits[0], logits, atol=1e-5, rtol=0)


def test_qwen2_vl_segments_from_pixels() -> None:
    """The host's own video path where it agrees with 4.57.6's positions: one step a video."""
    family, frames, model = "qwen2_vl", shown("qwen2_vl", COUNT), untouched("qwen2_vl")
    text = "".join(time_prompt(family, *t) + "<video>" * 15 + "<|vision_end|>" for t in times(frames))
    prompt = torch.tensor([ids(SINK[family] + text + question_text(family, QUESTION))])
    grid = torch.tensor([[1, 6, 10]] * COUNT)
    with torch.no_grad():
        logits = model(
            input_ids=prompt,
            pixel_values_videos=pixels(family, frames),
            video_grid_thw=grid,
            mm_token_type_ids=2 * (prompt == 261),
        ).logits[0, -1]
    stream = shared(family, True).stream(window=None, batch=3)
    stream.feed(frames)
    torch.testing.assert_close(look(stream, QUESTION).draft.logits[0], logits, atol=1e-5, rtol=0)


@each_layout
def test_half_precision_stays_near_the_host(family: str, segments: bool) -> None:
    """As near as the host in bfloat16 is to itself in float32, or within 2 % of the largest logit."""
    model = host(family).to(torch.bfloat16)
    frames, found = shown(family, COUNT), []
    for one in (model, copy.deepcopy(model).float()):
        sequence = Sequence(family, segments, features(family, frames, one), one, frames)
        sequence.text(question_text(family, QUESTION))
        found.append(sequence.logits())
    logits, noise = found[0], float((found[0] - found[1]).abs().max())
    stream = engine(family, time_prompts=segments, model=model).stream(window=None, batch=3)
    stream.feed(frames)
    found = look(stream, QUESTION, mode="full").draft.logits[0]
    assert found.isfinite().all()
    assert float((found - logits).abs().max()) <= max(noise, 0.02 * float(logits.abs().max()))
