"""Orders of clips: every one comes, none is preferred, and only clips move."""

from __future__ import annotations

import random
from collections import Counter
from itertools import permutations

import pytest

from weavetime.train.reconstruct import ANSWER, REQUESTS, permuted, request, timestamps


def clips_of(order: list[int], sizes: list[int]) -> list[int]:
    """The clips in displayed order, each checked to be whole and in order."""
    bounds = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
    clips = []
    while order:
        clip = bounds.index(order[0])
        size = sizes[clip]
        assert order[:size] == list(range(bounds[clip], bounds[clip] + size))
        clips.append(clip)
        order = order[size:]
    assert sorted(clips) == list(range(len(sizes)))
    return clips


def unevenness(counts: Counter[tuple[int, ...]], kinds: int) -> float:
    """Chi-square against all kinds alike."""
    expected = counts.total() / kinds
    return sum((counts[k] - expected) ** 2 / expected for k in counts) + expected * (kinds - len(counts))


def test_all_orders_alike() -> None:
    counts = Counter(tuple(clips_of(permuted(6, 3, random.Random(f"{i}")), [2, 2, 2])) for i in range(600))
    assert set(counts) == set(permutations(range(3)))
    assert unevenness(counts, 6) < 20.5  # 5 degrees of freedom: above in one of a thousand


@pytest.mark.parametrize(
    ("steps", "clips", "sizes"),
    [(32, 16, [2] * 16), (7, 3, [2, 2, 3]), (10, 4, [2, 3, 2, 3]), (3, 16, [1, 1, 1]), (5, 1, [5]), (1, 4, [1])],
)
def test_clips_are_whole_and_as_equal_as_can_be(steps: int, clips: int, sizes: list[int]) -> None:
    assert max(sizes) - min(sizes) <= 1
    for seed in range(20):
        clips_of(permuted(steps, clips, random.Random(seed)), sizes)


@pytest.mark.parametrize(("degree", "moved"), [(0.0, 0), (0.1, 2), (0.3, 3), (0.5, 5), (0.99, 10)])
def test_degree_is_the_share_of_clips_that_move(degree: float, moved: int) -> None:
    where: Counter[int] = Counter()
    for seed in range(300):
        order = permuted(10, 10, random.Random(seed), degree)
        places = [i for i, clip in enumerate(order) if clip != i]
        assert len(places) == moved
        where.update(places)
    assert all(abs(where[i] - 30 * moved) < 45 for i in range(10))  # five standard deviations at most


def test_the_clips_that_move_take_all_orders_without_a_place_kept() -> None:
    counts = Counter(tuple(permuted(4, 4, random.Random(i), 0.99)) for i in range(900))
    wanted = {p for p in permutations(range(4)) if all(a != b for a, b in enumerate(p))}
    assert set(counts) == wanted
    assert unevenness(counts, 9) < 26.1  # 8 degrees of freedom: above in one of a thousand


def test_one_clip_stays() -> None:
    assert permuted(4, 1, random.Random(0), 0.5) == [0, 1, 2, 3]
    assert permuted(0, 3, random.Random(0)) == []


def test_words() -> None:
    assert len(set(REQUESTS)) >= 12
    asked = Counter(request(random.Random(i)) for i in range(600))
    assert set(asked) == set(REQUESTS)
    assert timestamps(["\nTime=00000.0-00001.0s", "Time=00002.0-00003.0s"]) == (
        "Correct timestamps (in displayed order): Time=00000.0-00001.0s | Time=00002.0-00003.0s"
    )
    assert timestamps(["x"]) == f"{ANSWER}x"
