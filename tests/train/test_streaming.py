"""What a model is trained on is what the engine runs: windows, sink, views, positions, and the scores of the focus."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

import weavetime as wt
from weavetime.backbones.attach import switched
from weavetime.backbones.values import Prompt
from weavetime.ops import coarse, late_interaction, question_vectors
from weavetime.train.streaming import Places, Shape, StreamPass
from weavetime.train.world_losses import Seen, WorldLosses
from weavetime.train.world_views import WorldSettings
from weavetime.train.worlds import ANSWER, WorldBatch, WorldMaker
from weavetime.types import Choice, Frame
from weavetime.world import Atlas, Renderer, Script

pytestmark = pytest.mark.exact

STREAMS, STEPS, QUESTIONS, WINDOW, LAYERS = 2, 21, 4, 5, 6
SETTINGS = WorldSettings(streams=STREAMS, steps=STEPS, questions=QUESTIONS, early=0.0, reconstruction=0.0, told=STEPS)
NAMES = {True: "segments", False: "one video"}


@cache
def engine(time_prompts: bool) -> wt.Engine:
    """`mini`, its attention sharpened so that a wrong position or mask shows."""
    found = wt.load("mini", time_prompts=time_prompts, dtype=torch.float32, device="cpu")
    with torch.no_grad():
        for name, p in found.backbone.model.named_parameters():
            if "language_model" in name and ("q_proj" in name or "k_proj" in name):
                p.mul_(2)
    return found


@cache
def ran(time_prompts: bool, again: float = 0.0) -> tuple[WorldBatch, Seen]:
    """A batch, and the training forward of it. again: share of its questions that are asked twice."""
    backbone = engine(time_prompts).backbone
    [batch] = WorldMaker(backbone, SETTINGS, WINDOW, "test").batch(3, 0.0, 0.0, again)
    losses = WorldLosses(backbone, WINDOW, SETTINGS.size)
    with switched(backbone.decoder, backbone.head_dim), torch.no_grad():
        return batch, losses.seen(batch)


@cache
def stream(time_prompts: bool, row: int, again: float = 0.0) -> wt.Stream:
    """The same pictures and times fed to the engine."""
    batch, _ = ran(time_prompts, again)
    atlas = Atlas([Renderer(Script(i, 16, "train"), 112).plan(s) for i in range(4) for s in range(16)], 112, "cpu")
    pictures = atlas.compose(batch.backdrops, batch.canvas, batch.layers)[row].permute(0, 2, 3, 1)
    decode = engine(time_prompts).backbone.tokenizer.decode
    spans = [decode(t)[6:-1].split("-") for t in batch.times[row].tolist()] if time_prompts else None
    found = engine(time_prompts).stream(window=WINDOW, batch=4)
    for i, pixels in enumerate(pictures.to(torch.uint8).numpy()):
        start, end = (float(i), i + 1.0) if spans is None else map(float, spans[i])
        found.feed(Frame(np.ascontiguousarray(pixels), start, end))
    return found


def asked(batch: WorldBatch, row: int, question: int) -> torch.Tensor:
    """Ids of a question without its answer."""
    place = batch.answers[batch.answers[:, 2] == ANSWER][:, 0]
    length = batch.ids.shape[-1]
    first = int(place[place // length == row * QUESTIONS + question].min()) % length
    return batch.ids[row, question, : first + 1]


def choice(batch: WorldBatch, row: int, question: int) -> Choice:
    """The blocks of a question's view, layer by layer."""
    return Choice(tuple(tuple(b for b in layer if b >= 0) for layer in batch.views[row, question].tolist()))


CASES = [(p, r, q) for p in (True, False) for r in range(STREAMS) for q in range(QUESTIONS)]


@pytest.mark.parametrize(("time_prompts", "row", "question"), CASES)
def test_an_answer_is_learnt_over_what_the_engine_reads(time_prompts: bool, row: int, question: int) -> None:
    batch, _ = ran(time_prompts)
    same_as_the_engine(time_prompts, 0.0, row, question, choice(batch, row, question))


def same_as_the_engine(time_prompts: bool, again: float, row: int, question: int, blocks: Choice) -> None:
    """Training answers a question as the engine does over these blocks."""
    batch, seen = ran(time_prompts, again)
    runner = engine(time_prompts).runner
    ids = asked(batch, row, question)
    head = 0 if time_prompts else 1
    with runner.reading():
        memory = stream(time_prompts, row, again).memory
        draft = runner.prefill(memory.view(blocks), [Prompt(ids, head, ids, ())], 1, 0)
    got = runner.backbone.logits(seen.questions[row, question, len(ids) - 1])
    largest = float(got.abs().max())
    assert largest > 1
    torch.testing.assert_close(got, draft.logits[0], atol=1e-4 * largest, rtol=0)


@pytest.mark.parametrize("time_prompts", NAMES, ids=NAMES.get)
def test_asked_again_each_layer_reads_what_the_first_look_scored_best(time_prompts: bool) -> None:
    batch, seen = ran(time_prompts, 1.0)
    second = (batch.chooser >= 0).nonzero().tolist()
    assert len(second) > STREAMS
    layers_differ = 0
    for row, question in second:
        first, before = int(batch.chooser[row, question]), int(batch.before[row, question])
        assert torch.equal(asked(batch, row, first), asked(batch, row, question))
        newest = tuple(range(max(0, before - WINDOW), before))
        assert choice(batch, row, first) == Choice.same(newest, LAYERS)
        count = int((batch.views[row, question, 0] >= 0).sum())
        best = [fine[row, first, :before].topk(count).indices.sort().values for _, fine in seen.plan.similarities]
        blocks = tuple(tuple(layer.tolist()) for layer in best)
        layers_differ += len(set(blocks)) > 1
        same_as_the_engine(time_prompts, 1.0, row, question, Choice(blocks))
    assert layers_differ


def test_of_equal_scores_a_second_look_takes_the_newer_as_the_engine_does() -> None:
    shape = Shape(streams=1, sink=1, steps=7, tokens=1, questions=2, length=1)
    angles = torch.ones(2, 30, 4).unbind()
    views, before = torch.full((1, 2, 1, 4), -1), torch.tensor([[6, 6]])
    views[..., :3] = torch.arange(3)
    places = Places.of(shape, 2, angles)
    plan = StreamPass(places, views, torch.tensor([[-1, 0]]), before, torch.ones(1, 2, 1, dtype=torch.bool))
    scores = torch.tensor([[[1.0, 2, 1, 0, 1, 0, 9], [0.0] * 7]])
    slots = plan._slots(plan._choose(scores))[0, 1].unflatten(0, (4, 7))
    assert slots.nonzero().tolist() == [[1, 1], [2, 2], [3, 4]]  # 0 scores as much as 2 and 4 and is older


@pytest.mark.parametrize("time_prompts", NAMES, ids=NAMES.get)
def test_scores_are_those_of_the_focus(time_prompts: bool) -> None:
    batch, seen = ran(time_prompts)
    runner = engine(time_prompts).runner
    row, question = 1, 2
    ids = asked(batch, row, question)
    memory = stream(time_prompts, row).memory
    with runner.reading():
        prompt = Prompt(ids, 0 if time_prompts else 1, ids, ())
        draft = runner.prefill(memory.view(choice(batch, row, question)), [prompt], 1, 0)
        for layer, queries in enumerate(draft.queries_of(0)):
            vectors = question_vectors(queries, runner.backbone.kv_heads)
            keys = torch.stack([keys for piece in memory.block_keys(layer, range(STEPS)) for keys in piece])
            mean, fine = (scores[row, question] for scores in seen.plan.similarities[layer])
            for ours, want in ((fine, late_interaction(vectors, keys)), (mean, coarse(vectors.mean(0), keys.mean(1)))):
                torch.testing.assert_close(ours, want, atol=1e-4 * float(want.abs().max()), rtol=0)


def test_gradients_reach_every_part_of_the_model() -> None:
    backbone = engine(True).backbone
    model = backbone.model.requires_grad_(True)
    batch, _ = ran(True)
    with switched(backbone.decoder, backbone.head_dim):
        sums, _ = WorldLosses(backbone, WINDOW, SETTINGS.size)(batch)
    (sums[:, 0] / sums[:, 1].clamp_min(1)).sum().backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    model.zero_grad()
    model.requires_grad_(False)
    # Features are taken before the tower's last norm. A key's bias adds the same to every score of a query.
    unused = ("post_layernorm.weight", "post_layernorm.bias", "k_proj.bias")
    assert [n for n in without if "vision_tower" not in n or not n.endswith(unused)] == []


def test_what_steps_know_is_taught_where_layers_above_read_it() -> None:
    backbone = engine(True).backbone
    model = backbone.model.requires_grad_(True)
    batch, _ = ran(True)
    losses = WorldLosses(backbone, WINDOW, SETTINGS.size)
    with switched(backbone.decoder, backbone.head_dim):
        seen = losses.seen(batch)
    (losses._names(seen, batch)[0] + losses._arrivals(seen, batch)[0]).backward()
    reached = [layer.mlp.down_proj.weight.grad is not None for layer in backbone.decoder.layers]
    model.zero_grad()
    model.requires_grad_(False)
    assert reached == [True] * (LAYERS // 2) + [False] * (LAYERS // 2)


@pytest.mark.parametrize("time_prompts", NAMES, ids=NAMES.get)
def test_the_token_that_holds_what_came_last_is_to_hold_no_other_name(time_prompts: bool) -> None:
    batch, seen = ran(time_prompts)
    named = (batch.things >= 0).any(-1).flatten(0, 1).any(0)
    assert bool(named[-1])
    steps = seen.steps.detach().requires_grad_(True)
    losses = WorldLosses(engine(time_prompts).backbone, WINDOW, SETTINGS.size)
    losses._names(replace(seen, steps=steps), batch)[0].backward()
    assert steps.grad is not None
    learnt = steps.grad.abs().sum((0, 1, 3)) > 0
    assert torch.equal(learnt[:-1], named[:-1])
    assert bool(learnt[-1]) is time_prompts  # without them it is a picture's


def test_training_keeps_off_cudnns_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its backward under a mask fails on Hopper; whether it may be chosen is asked when attention is called."""
    backbone = engine(True).backbone
    batch, _ = ran(True)
    attend, allowed = functional.scaled_dot_product_attention, []

    def noted(*more: Any, **named: Any) -> torch.Tensor:
        allowed.append(torch.backends.cuda.cudnn_sdp_enabled())
        return attend(*more, **named)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", noted)
    before = torch.backends.cuda.cudnn_sdp_enabled()
    with switched(backbone.decoder, backbone.head_dim), torch.no_grad():
        WorldLosses(backbone, WINDOW, SETTINGS.size)(batch)
    assert len(allowed) > 3 * LAYERS
    assert not any(allowed)
    assert torch.backends.cuda.cudnn_sdp_enabled() == before


def test_an_earlier_step_does_not_see_a_later_one() -> None:
    backbone = engine(True).backbone
    batch, seen = ran(True)
    other = WorldBatch(**vars(batch))
    other.layers = batch.layers.clone()
    other.layers[:, 12:] = -1
    with switched(backbone.decoder, backbone.head_dim), torch.no_grad():
        changed = WorldLosses(backbone, WINDOW, SETTINGS.size).seen(other)
    torch.testing.assert_close(changed.steps[:, :12], seen.steps[:, :12], atol=1e-5, rtol=0)
    assert float((changed.steps[:, 12:] - seen.steps[:, 12:]).abs().max()) > 0.1
