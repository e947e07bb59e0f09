"""Questions of StreamWorld: right by a slow reading of the stream, with evidence that shows what it claims."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest
from truth import Story

from weavetime.errors import WorldError
from weavetime.world import COLOURS, FAMILIES, KINDS, SPLITS, TEXTS, Asked, Script, ask, questions
from weavetime.world.script import CROWD, LONGEST, held_out

STREAMS = [
    (split, seed, steps) for split in SPLITS for seed, steps in ((0, 24), (1, 100), (2, 256), (3, 256), (4, 700))
]
IN_OPTIONS = ("now_object", "now_attribute", "now_position", "now_text", "first", "last", "before", "after", "at_time")


def stream(split: str, seed: int, steps: int) -> tuple[Story, list[Asked]]:
    script = Script(seed, steps, split)  # type: ignore[arg-type]
    return Story(script), questions(script, 20 * len(FAMILIES))


@pytest.mark.parametrize(("split", "seed", "steps"), STREAMS)
def test_the_answer_and_no_other_option_is_right(split: str, seed: int, steps: int) -> None:
    story, asked = stream(split, seed, steps)
    assert len(asked) > 10 * len(FAMILIES)
    for a in asked:
        right = story.right(a.text, int(a.at))
        assert right == {a.answer}, a
        assert [o for o in a.options if o in right] == [a.answer] == [a.options[a.gold]], a
        assert len(set(a.options)) == len(a.options) >= 2, a


@pytest.mark.parametrize(("split", "seed", "steps"), STREAMS)
def test_evidence_shows_what_it_claims(split: str, seed: int, steps: int) -> None:
    story, asked = stream(split, seed, steps)
    for a in asked:
        assert all(0 <= start < end <= a.at + 1 for start, end in a.evidence), a
        spans = [range(int(start), int(end)) for start, end in a.evidence]
        named = [{card.kind for card in story.steps[i]} for span in spans for i in span]
        if a.family.startswith("now"):
            assert spans == [range(int(a.at), int(a.at) + 1)]
        elif a.family == "happened" and a.answer == "no":
            assert not spans
            assert all(a.kinds[0] not in {card.kind for card in cards} for cards in story.steps[: int(a.at) + 1])
        elif a.family == "last":  # its visit, and the step at which it is gone
            assert all(a.answer in kinds for kinds in named[:-1])
            assert a.answer not in named[-1]
        else:  # every span is the whole of a visit, as far as it was seen, of one of the cards that it is about
            whole = {tuple(i for i, _ in looks): looks[0][1].kind for looks in story.visits(int(a.at)).values()}
            assert {whole[tuple(span)] for span in spans} == set(a.kinds)


def test_each_part_of_the_evidence_is_needed() -> None:
    """Counting needs every visit, an order both."""
    _, asked = stream("test", 2, 256)
    for a in asked:
        if a.family in ("before", "after", "order"):
            assert len(a.evidence) == 2
        if a.family == "count":
            assert str(len(a.evidence)) == a.answer


def test_wrong_options_are_right_at_another_time() -> None:
    shares: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    for seed in range(3):
        story, asked = stream("test", seed, 256)
        for a in asked:
            if a.family not in IN_OPTIONS or a.at < 40:
                continue
            seen = {card.kind for cards in story.steps[: int(a.at) + 1] for card in cards}
            if a.family in ("now_attribute", "now_position", "now_text"):
                now = {(c.colour, c.place)[a.family == "now_position"] for c in story.steps[int(a.at)]}
                seen = now.union(*(story.right(a.text, step) for step in range(int(a.at))))
            wrong = [o for o in a.options if o != a.answer]
            totals[a.family] += len(wrong)
            shares[a.family] += sum(o in seen for o in wrong)
    for family in ("now_object", "first", "last", "before", "after", "at_time"):
        assert shares[family] / totals[family] > 0.95, family
    assert shares["now_text"] / totals["now_text"] > 0.8  # early on, few signs have hung
    assert shares["now_attribute"] / totals["now_attribute"] > 0.4  # a card has not worn every colour
    assert shares["now_position"] / totals["now_position"] > 0.3


def test_no_place_among_the_options_is_right_more_often() -> None:
    golds = Counter(a.gold for seed in range(4) for a in stream("test", seed, 256)[1] if len(a.options) == 4)
    assert min(golds.values()) > 0.2 * sum(golds.values())


@pytest.mark.parametrize("split", SPLITS)
def test_at_most_one_card_comes_at_a_step_and_none_comes_back_at_once(split: str) -> None:
    for seed, steps in ((0, 16), (1, 256), (2, LONGEST)):
        script = Script(seed, steps, split)  # type: ignore[arg-type]
        starts = [v.start for v in script.visits]
        assert all(a < b for a, b in pairwise(starts))
        ends: dict[int, int] = {}
        for v in script.visits:
            assert v.start > ends.get(v.kind, -1)
            ends[v.kind] = v.end
            assert 0 <= v.start < v.end <= steps


def test_shown_and_sign_are_what_a_walk_through_the_steps_finds() -> None:
    script = Script(5, 400)
    story = Story(script)
    for step in range(400):
        assert [v.kind for v in script.shown(step)] == [KINDS.index(c.kind) for c in story.steps[step]]
        assert len(story.steps[step]) <= CROWD
        assert len({c.place for c in story.steps[step]}) == len(story.steps[step])
        board = script.sign(step)
        assert story.signs[step] == (None if board is None else TEXTS[board.text])


def test_cards_that_are_held_out_are_shown_by_new_alone() -> None:
    def shares(split: str) -> float:
        cards = [
            held_out(v.kind, c)
            for seed in range(30)
            for v in Script(seed, 256, split).visits
            for _, c in v.colours  # type: ignore[arg-type]
        ]
        return sum(cards) / len(cards)

    assert shares("train") == shares("test") == 0
    assert 0.4 < shares("new") < 0.6
    assert all(sum(held_out(k, c) for c in range(len(COLOURS))) == 1 for k in range(len(KINDS)))


def test_splits_are_worlds_of_their_own() -> None:
    worlds = [Script(seed, 64, split).visits for split in SPLITS for seed in range(50)]
    assert len(set(worlds)) == len(worlds)


def test_questions_are_in_time_order_and_begin_where_they_may() -> None:
    asked = questions(Script(9, 256), 64, earliest=128)
    assert [a.at for a in asked] == sorted(a.at for a in asked)
    assert min(a.at for a in asked) >= 128
    assert {a.family for a in asked} == set(FAMILIES)


def test_nothing_later_changes_a_question() -> None:
    """The same stream, seen up to a step, knows only what had come by then."""
    script = Script(11, 256)
    for step in (40, 90, 200):
        for family in FAMILIES:
            a = ask(script, step, family, random.Random(1))
            if a is not None:
                cut = Story(script)
                del cut.steps[step + 1 :]
                assert cut.right(a.text, step) == {a.answer}


@pytest.mark.parametrize("steps", [16, LONGEST])
def test_shortest_and_longest_streams(steps: int) -> None:
    asked = questions(Script(3, steps), 64, earliest=steps // 2)
    assert len(asked) >= 48
    story = Story(Script(3, steps)) if steps < 1000 else None
    for a in asked:
        assert steps // 2 <= a.at < steps
        assert story is None or story.right(a.text, int(a.at)) == {a.answer}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": 0}, "1 to 36000 steps"),
        ({"steps": LONGEST + 1}, "1 to 36000 steps"),
        ({"steps": 8, "split": "rest"}, "train, test, new"),
        ({"steps": 8, "times": (0.0, 1.0)}, "2 times were given for 8 steps"),
    ],
)
def test_worlds_that_cannot_be(settings: dict[str, object], words: str) -> None:
    with pytest.raises(WorldError, match=words):
        Script(0, **settings)  # type: ignore[arg-type]
