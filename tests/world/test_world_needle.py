"""A needle in a world: shown once where it is said to be, right by a slow reading, and the world's rules still hold."""

from __future__ import annotations

import random

import pytest
from truth import Story

from weavetime.errors import WorldError
from weavetime.world import KINDS, SPLITS, Renderer, Script, as_numbers, with_needle
from weavetime.world.needle import ASKS, STAY, with_visit
from weavetime.world.script import CROWD, Visit, held_out

DEPTHS = (0.0, 0.25, 0.5, 1.0)
CASES = [(split, seed, steps, depth) for split in SPLITS for seed, steps in ((0, 24), (7, 300)) for depth in DEPTHS]


def hidden(split: str, seed: int, steps: int, depth: float, family: str = ASKS[0]):  # type: ignore[no-untyped-def]
    script = Script(seed, steps, split)  # type: ignore[arg-type]
    return script, *with_needle(script, depth, family, random.Random(seed))


@pytest.mark.parametrize("family", ASKS)
@pytest.mark.parametrize(("split", "seed", "steps", "depth"), CASES)
def test_the_needle_alone_answers(split: str, seed: int, steps: int, depth: float, family: str) -> None:
    _, found, asked = hidden(split, seed, steps, depth, family)
    assert (asked.family, asked.at) == (family, steps - 1)
    assert Story(found).right(asked.text, steps - 1) == {asked.answer}
    assert len(set(asked.options)) == len(asked.options) == 4
    [(start, end)] = asked.evidence
    assert (start, end) == (round(depth * (steps - 1 - STAY)), start + STAY)
    shown = [i for i, cards in enumerate(Story(found).steps) if any(c.kind == asked.kinds[0] for c in cards)]
    assert shown == list(range(int(start), int(end)))


@pytest.mark.parametrize(("split", "seed", "steps", "depth"), CASES)
def test_the_rules_of_a_world_hold(split: str, seed: int, steps: int, depth: float) -> None:
    script, found, asked = hidden(split, seed, steps, depth)
    starts = [v.start for v in found.visits]
    assert starts == sorted(set(starts))  # one comes at a time
    for step in range(steps):
        here = found.shown(step)
        assert len(here) <= CROWD
        assert len({v.place(step) for v in here}) == len(here)
    [needle] = [v for v in found.visits if KINDS[v.kind] == asked.kinds[0]]
    assert split == "new" or not held_out(needle.kind, needle.colours[0][1])
    assert {*found.visits} - {needle} <= {*script.visits}
    far = [v for v in script.visits if v.end < needle.start or v.start > needle.end]
    assert [v for v in far if v.kind != needle.kind and v not in found.visits] == []
    as_numbers([Renderer(found).plan(i) for i in range(steps)])  # a card draws them too


def test_the_script_itself_stays() -> None:
    script = Script(3, 64)
    before = script.visits, [script.shown(i) for i in range(64)]
    with_needle(script, 0.5, ASKS[0], random.Random(0))
    assert (script.visits, [script.shown(i) for i in range(64)]) == before == (Script(3, 64).visits, before[1])


def test_all_that_is_in_its_way_leaves() -> None:
    script = Script(1, 64)
    other = script.visits[10]
    mine = Visit(other.kind, other.start, other.end, other.places, other.colours, (0.0, 0.0))
    found = with_visit(script, mine)
    assert [v for v in found.visits if v.kind == other.kind] == [mine]
    assert mine in found.shown(mine.start)


def test_the_same_needle_at_every_depth() -> None:
    found = [with_needle(Script(5, 100), depth, ASKS[1], random.Random("x"))[1] for depth in DEPTHS]
    assert len({(a.text.partition("the ")[2], a.answer) for a in found}) == 1


def test_a_stream_too_short_is_refused() -> None:
    with pytest.raises(WorldError, match="at least"):
        with_needle(Script(0, STAY), 0.0, ASKS[0], random.Random(0))
