"""Batches of StreamWorld: what they ask, what they show, and that they come out the same everywhere."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from functools import cache
from itertools import pairwise
from statistics import median

import pytest
import torch
from torch.utils.data import DataLoader

import weavetime as wt
from weavetime.errors import RecipeError
from weavetime.train.world_losses import first_tokens
from weavetime.train.world_views import WorldSettings
from weavetime.train.worlds import (
    AHEAD,
    ANSWER,
    LOOKUP,
    NOW_NAMES,
    RECONSTRUCTION,
    ROWS,
    WorldBatch,
    WorldData,
    WorldMaker,
    _times,
    names,
)
from weavetime.world import KINDS

SETTINGS = WorldSettings(streams=8, steps=32, questions=8, told=16, reconstruction=0.5)
WINDOW = 6


@cache
def maker(time_prompts: bool = True) -> WorldMaker:
    return WorldMaker(wt.load("mini", time_prompts=time_prompts).backbone, SETTINGS, WINDOW, "test")


@cache
def made() -> tuple[WorldBatch, WorldBatch]:
    told_in_order, wrong = maker().batch(5, 0.5, 0.15)
    return told_in_order, wrong


def text(ids: torch.Tensor) -> str:
    return maker().backbone.tokenizer.decode(ids.tolist())


def rows(batch: WorldBatch) -> list[tuple[str, list[tuple[int, int, int]]]]:
    """Each row's text, and its (place before, token, part)."""
    length, found = batch.ids.shape[-1], []
    for i, ids in enumerate(batch.ids.flatten(0, 1)):
        mine = batch.answers[(batch.answers[:, 2] > 0) & (batch.answers[:, 0] // length == i)]
        found.append((text(ids), [(int(at) % length, int(token), int(part)) for at, token, part in mine]))
    return found


def test_the_same_number_gives_the_same_batch() -> None:
    again = maker().batch(5, 0.5, 0.15)
    for one, two in zip(made(), again, strict=True):
        for key, value in vars(one).items():
            assert torch.equal(value, vars(two)[key]), key
    assert not torch.equal(made()[0].layers, maker().batch(6, 0.5, 0.15)[0].layers)


def test_workers_make_the_same_batches_in_order() -> None:
    data = WorldData(maker(), 4)
    here = [data[i] for i in range(4)]
    there = list(DataLoader(data, batch_size=None, num_workers=2))
    for one, two in zip(here, there, strict=True):
        assert len(one) == len(two)
        assert all(torch.equal(a.ids, b.ids) and torch.equal(a.layers, b.layers) for a, b in zip(one, two, strict=True))


def test_reconstruction_waits_and_lookups_fade() -> None:
    data = WorldData(maker(), 10)
    batches = {i: data[i] for i in (0, 1, 4, 9)}
    assert [len(b) for b in batches.values()] == [1, 1, 2, 2]
    first, second, _, last = (float((b[0].family == ROWS.index(LOOKUP)).float().mean()) for b in batches.values())
    assert first == 1
    assert second > 0.15 > last


def test_streams_are_cut_at_first_and_whole_later() -> None:
    one = WorldMaker(maker().backbone, replace(SETTINGS, cut=2, whole=0.5, reconstruction=0.0), WINDOW, "test")
    data = WorldData(one, 4)
    sizes = [(*batch.canvas.shape[:2], batch.ids.shape[1]) for [batch] in (data[i] for i in range(4))]
    assert sizes == [(16, 16, 4)] * 2 + [(8, 32, 8)] * 2
    assert [bool((data[i][0].chooser >= 0).any()) for i in range(4)] == [False, False, True, True]  # asked again


def moments(early: float, cut: int) -> torch.Tensor:
    """How many steps could be seen, of questions about the past on streams of 32 steps or of a part of them."""
    few = replace(SETTINGS, cut=2, now=0.0, early=early)
    one = WorldMaker(maker().backbone, few, WINDOW, "test")
    return torch.cat([one.batch(i, 0.0, 0.0, 0.0, cut)[0].before.flatten() for i in range(4)])


def test_moments_are_later_where_streams_are_whole() -> None:
    late, even = ((moments(0.0, cut) / (32 // cut)).mean() for cut in (1, 2))
    assert late > even + 0.05


def test_some_of_the_past_of_whole_streams_is_asked_for_within_the_first_window() -> None:
    none, half = (float((moments(early, 1) <= WINDOW).float().mean()) for early in (0.0, 0.5))
    assert none < 0.1
    assert 0.35 < half < 0.65
    assert torch.equal(moments(0.0, 2), moments(0.5, 2))  # parts of streams have enough of them
    with pytest.raises(RecipeError, match=r"world\.early must be a share, from 0 to 1, got 2"):
        replace(SETTINGS, early=2.0)


def test_every_answer_token_follows_the_token_that_predicts_it() -> None:
    for batch in made():
        flat = batch.ids.flatten()
        for at, token, part in batch.answers.tolist():
            if part in (ANSWER, RECONSTRUCTION):
                assert flat[at + 1] == token


def test_an_answer_is_the_option_of_its_letter() -> None:
    batch, _ = made()
    choices = 0
    for ids, (said, answers), choice, family in zip(
        batch.ids.flatten(0, 1), rows(batch), batch.choice.flatten(), batch.family.flatten().tolist(), strict=True
    ):
        answer = text(torch.tensor([token for _, token, part in answers if part == ANSWER])).removesuffix("<|im_end|>")
        ahead = [token for _, token, part in answers if part == AHEAD]
        verdicts = []
        if choice:
            letter, _, option = answer.partition(") ")
            options = re.findall(r"\n\(([A-D])\) ", said)
            verdicts = [maker().backbone.encode("yes" if o == letter else "no")[0] for o in options]
            assert verdicts.count(verdicts["ABCD".index(letter)]) == 1
            assert f"\n({letter}) {option}\n" in said
            assert said.count(f") {option}\n") == 1
            choices += 1
            answer = option
        known = [] if ROWS[family] == "when" else [maker().backbone.encode(answer)[0]]
        assert ahead == known + verdicts
        ends = [at + 1 for at, _, part in answers if part == AHEAD][len(known) :]
        assert [text(ids[end : end + 1]) for end in ends] == ["\n"] * len(verdicts)
    assert 0.5 < choices / len(rows(batch)) < 1


def test_nothing_of_an_answer_was_asked() -> None:
    for batch in made():
        for i, (_, answers) in enumerate(rows(batch)):
            prompts = batch.prompts.flatten(0, 1)[i]
            said = [at + 1 for at, _, part in answers if part != AHEAD]
            assert not prompts[said].any()
            assert int(prompts.sum()) + len(said) == int((batch.ids.flatten(0, 1)[i] != 0).sum())


def test_views_hold_past_blocks_and_mostly_the_evidence() -> None:
    batch, _ = made()
    _, held = first_tokens(batch, torch.zeros(len(batch.answers), dtype=torch.bool))
    past = torch.tensor([ROWS[f] not in (*NOW_NAMES, LOOKUP) for f in batch.family.flatten()]).view(held.shape)
    assert 0.4 < held[past].float().mean() < 0.95
    for layers, before in zip(batch.views.flatten(0, 1).tolist(), batch.before.flatten().tolist(), strict=True):
        for view in layers:
            blocks = [b for b in view if b >= 0]
            assert blocks
            assert blocks == sorted(set(blocks))
            assert view[len(blocks) :] == [-1] * (len(view) - len(blocks))
            assert blocks[-1] < before


def test_layers_have_scattered_blocks_of_their_own_and_as_many() -> None:
    batch, _ = made()
    views = batch.views.flatten(0, 1)
    counts = (views >= 0).sum(-1)
    assert bool((counts == counts[:, :1]).all())
    differ = (views != views[:, :1]).any(-1).any(-1)
    assert 0.15 < float(differ.float().mean()) < 0.8
    asked = torch.tensor([ROWS[f] not in (*NOW_NAMES, LOOKUP) for f in batch.family.flatten()])
    wanted = batch.wanted.flatten(0, 1)
    shows = torch.zeros(*counts.shape, wanted.shape[-1] + 1, dtype=torch.bool)
    shows.scatter_(-1, torch.where(views < 0, wanted.shape[-1], views), True)
    held = (wanted[:, None] & shows[..., None, :-1]).any(-1) | ~wanted.any(-1)[:, None]
    held = held.all(-1)[differ & asked]
    assert bool((held == held[:, :1]).all())  # what lacks a part of the evidence lacks it in every layer


def test_what_is_asked_again_is_the_same_question_over_blocks_to_choose() -> None:
    [batch] = maker().batch(5, 0.0, 0.15, 0.8)
    assert 0.2 < float((batch.chooser >= 0).float().mean()) < 0.5
    for row, question in (batch.chooser >= 0).nonzero().tolist():
        first = int(batch.chooser[row, question])
        assert first == question - 1
        for key in ("ids", "prompts", "wanted", "before", "family", "choice"):
            assert torch.equal(getattr(batch, key)[row, question], getattr(batch, key)[row, first]), key
        before = int(batch.before[row, question])
        newest = [*range(before - WINDOW, before)]
        assert [[b for b in layer if b >= 0] for layer in batch.views[row, first].tolist()] == [
            newest
        ] * maker().views.layers
        assert 4 <= int((batch.views[row, question, 0] >= 0).sum()) <= before
    data = WorldData(maker(), 10)
    shares = [float((data[i][0].chooser >= 0).float().mean()) for i in (0, 2, 9)]
    assert shares[0] == 0 < shares[2]


def test_layers_choose_few_blocks_as_often_as_many() -> None:
    views = maker().views
    sizes = [len(views.chosen(random.Random(i), 31)[0]) for i in range(400)]
    assert (min(sizes), max(sizes)) == (4, 32)
    assert 9 < median(sizes) < 14  # half way from 4 to 32, by factors


def test_times_jump_by_seconds_and_by_hours_or_not_at_all() -> None:
    spans = [(times := _times(random.Random(i), 256))[-1] - times[0] for i in range(200)]
    assert all(span >= 255 for span in spans)
    assert 20 < spans.count(255.0) < 50
    assert sum(1000 < span < 6000 for span in spans) > 40  # where every pair of digits tells times apart
    assert max(spans) > 20_000


def test_what_is_learnt_late_is_asked_more_often() -> None:
    one = WorldMaker(maker().backbone, replace(SETTINGS, now=0.0, questions=48), WINDOW, "test")
    asked = torch.cat([one.batch(i, 0.0, 0.0)[0].family.flatten() for i in range(4)])
    first, after, time = (int((asked == ROWS.index(name)).sum()) for name in ("first", "after", "at_time"))
    assert first * 1.4 < after < time * 0.9


def test_a_view_has_no_more_blocks_than_it_may() -> None:
    few = replace(SETTINGS, steps=64, blocks=WINDOW, reconstruction=0.0, lacking=0.0, present=0.0)
    one = WorldMaker(maker().backbone, few, WINDOW, "test")
    views = torch.cat([one.batch(i, 0.0, 0.0, 0.4)[0].views for i in range(3)])
    assert views.shape[-1] == WINDOW
    assert 0.2 < float((views[..., -1] >= 0).float().mean()) < 1
    with pytest.raises(RecipeError, match=r"world\.blocks must be the window or more, 6 is less than 7"):
        WorldMaker(maker().backbone, few, WINDOW + 1, "test")


def test_what_came_before_is_to_be_known_where_the_named_thing_came() -> None:
    [batch] = maker().batch(1, 0.0, 0.0)
    for name, parts in (("before", 1), ("after", 2)):
        mine = batch.family == ROWS.index(name)
        assert bool(mine.any())
        assert set(batch.wanted[mine].any(-1).sum(-1).tolist()) == {parts}


def test_a_time_is_asked_for_with_options_and_in_words() -> None:
    batches = [maker().batch(i, 0.0, 0.0)[0] for i in range(6)]
    found = [
        (bool(c), said) for b in batches for f, c, (said, _) in zip(b.family.flatten(), b.choice.flatten(), rows(b),
        strict=True) if ROWS[f] == "when"
    ]  # fmt: skip
    words = [said for choice, said in found if not choice]
    assert 0 < len(words) < len(found)
    assert all(re.search(r"assistant\n\n?.*Time=\d{5}\.\d-\d{5}\.\ds<\|im_end\|>", said, re.S) for said in words)


def test_wanted_blocks_lie_before_the_question() -> None:
    batch, _ = made()
    steps = torch.arange(batch.wanted.shape[-1])
    late = batch.wanted & (steps >= batch.before[..., None, None])
    assert not late.any()
    assert batch.wanted.any()


def test_a_wrong_order_is_told_with_its_true_times() -> None:
    _, batch = made()
    for i, (said, answers) in enumerate(rows(batch)):
        shown = [text(t).strip() for t in batch.times[i]]
        true = text(torch.tensor([token for _, token, part in answers if part == RECONSTRUCTION]))
        assert true.startswith("Correct timestamps (in displayed order): ")
        stamps = re.findall(r"Time=[\d.]+-[\d.]+s", true)
        assert sorted(stamps) == shown
        clips = [stamps[j : j + 4] for j in range(0, 16, 4)]
        assert all(clip == sorted(clip) for clip in clips)
        assert said.count("<|im_start|>user") <= 1
        order = [shown.index(s) for s in stamps]
        shifts = batch.canvas[i, :, 0].tolist()
        by_time = [shifts[order.index(j)] for j in range(16)]
        moves = [(b - a) % 224 for a, b in pairwise(by_time)]
        assert max(moves) <= 3, "in true order the camera drifts evenly"
    assert any(rows(batch)[i][0].count("<|im_start|>user") for i in range(len(batch.ids)))


def test_things_are_named_where_they_are() -> None:
    batch, _ = made()
    found = {names()[i] for i in batch.things[..., 0].flatten().tolist() if i >= 0}
    assert len(found & set(KINDS)) > 20
    for cells, layers in zip(batch.things[0], batch.layers[0], strict=True):
        cards = {int(layer[0]) // 8 for layer in layers if 0 <= layer[0] < 8 * len(KINDS)}
        assert {int(c[0]) for c in cells if 0 <= c[0] < len(KINDS)} == cards


def test_arrivals_are_new_on_screen() -> None:
    batch, _ = made()
    every = 0
    for things, arrivals in zip(batch.things[..., 0], batch.arrivals, strict=True):
        shown = [{int(t) for t in cells if 0 <= t < len(KINDS)} for cells in things]
        news = 0
        for i, (now, earlier) in enumerate(arrivals.tolist()):
            if i and now != arrivals[i - 1, 0]:
                assert earlier == arrivals[i - 1, 0]
                assert now in shown[i] - shown[i - 1]
                news += 1
            assert not i or shown[i] - shown[i - 1] <= {now}
        assert news > 1
        every += news
    assert every > 3 * len(batch.things)


def test_without_time_prompts_steps_have_none() -> None:
    [batch] = maker(False).batch(0, 0.0, 0.15)
    assert batch.times.shape[-1] == 0
    assert int(batch.ids[0, 0, 0]) == -1, "the newline vector heads the question"


def test_a_small_batch_has_room_for_long_answers() -> None:
    one = WorldMaker(maker().backbone, replace(SETTINGS, streams=1, questions=1, reconstruction=0.0), WINDOW, "test")
    tokens = [int((one.batch(i, 0.0, 1.0)[0].answers[:, 2] > 0).sum()) for i in range(40)]
    assert max(tokens) > 14


def test_a_question_that_does_not_fit_is_refused() -> None:
    small = WorldMaker(maker().backbone, WorldSettings(streams=1, length=20, reconstruction=0.0), WINDOW, "test")
    with pytest.raises(RecipeError, match=r"world\.length leaves room for 20"):
        small.batch(0, 0.0, 0.15)
    with pytest.raises(RecipeError, match=r"world\.told must divide"):
        WorldSettings(steps=64, told=15)
    with pytest.raises(RecipeError, match=r"world\.blocks must be world\.told or more"):
        WorldSettings(blocks=15)
