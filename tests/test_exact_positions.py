"""Positions are the numbers that transformers 4.57.6 computes for Qwen2-VL, written down here as it printed them."""

from __future__ import annotations

import pytest
import torch

from reference import Block, positions
from tiny import shared
from weavetime.backbones import Grid
from weavetime.ops import place

pytestmark = pytest.mark.exact


def run(t: list[int], h: list[int], w: list[int]) -> list[list[int]]:
    return [t, h, w]


# Tokens: 3 text, <|vision_start|>, video, <|vision_end|>, 2 text. Grid [12, 4, 4] (T > h, w) and [2, 4, 6] (T < w).
ONE_VIDEO = {
    (12, 2, 2): run(
        [0, 1, 2, 3, *(t for t in range(4, 16) for _ in range(4)), 16, 17, 18],
        [0, 1, 2, 3] + [4, 4, 5, 5] * 12 + [16, 17, 18],
        [0, 1, 2, 3] + [4, 5, 4, 5] * 12 + [16, 17, 18],
    ),
    (2, 2, 3): run(
        [0, 1, 2, 3, 4, 4, 4, 4, 4, 4, 5, 5, 5, 5, 5, 5, 7, 8, 9],
        [0, 1, 2, 3, 4, 4, 4, 5, 5, 5, 4, 4, 4, 5, 5, 5, 7, 8, 9],
        [0, 1, 2, 3, 4, 5, 6, 4, 5, 6, 4, 5, 6, 4, 5, 6, 7, 8, 9],
    ),
}
# Tokens: 2 text, then each step 2 text, <|vision_start|>, video, <|vision_end|>; 2 text. Three of grid [1, 4, 6] ...
SEGMENTS_WIDE = [
    [int(n) for n in line.split()]
    for line in (
        "0 1 2 3 4 5 5 5 5 5 5 8 9 10 11 12 12 12 12 12 12 15 16 17 18 19 19 19 19 19 19 22 23 24",
        "0 1 2 3 4 5 5 5 6 6 6 8 9 10 11 12 12 12 13 13 13 15 16 17 18 19 19 19 20 20 20 22 23 24",
        "0 1 2 3 4 5 6 7 5 6 7 8 9 10 11 12 13 14 12 13 14 15 16 17 18 19 20 21 19 20 21 22 23 24",
    )
]
# ... and two of grid [1, 8, 2].
SEGMENTS_TALL = run(
    [0, 1, 2, 3, 4, 5, 5, 5, 5, 9, 10, 11, 12, 13, 13, 13, 13, 17, 18, 19],
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19],
    [0, 1, 2, 3, 4, 5, 5, 5, 5, 9, 10, 11, 12, 13, 13, 13, 13, 17, 18, 19],
)
SEGMENTS = {(3, 2, 3): SEGMENTS_WIDE, (2, 4, 1): SEGMENTS_TALL}


def block(before: int, rows: int, columns: int, after: int) -> Block:
    return Block(before, rows, columns, after, torch.empty(0))


def check(origin: int, steps: int, rows: int, columns: int, numbers: list[list[int]], *, segments: bool) -> None:
    """Sink text, the steps, and the text after them: from the package's layout, and from the reference's rule."""
    before, after = (3, 1) if segments else (0, 0)
    backbone = shared("qwen2_vl", segments).backbone
    layout = backbone.block(Grid(8 * rows, 8 * columns, rows, columns), before)
    placed = place([layout] * steps, origin, 3)
    text = len(numbers[0]) - origin - placed.positions.shape[1]
    tail = torch.arange(placed.end, placed.end + text).expand(3, -1)
    head = torch.arange(origin).expand(3, -1)
    assert torch.cat((head, placed.positions, tail), 1).tolist() == numbers
    where, end = positions("qwen2_vl", segments, origin, [block(before, rows, columns, after)] * steps)
    flat = [(i,) * 3 for i in range(origin)] + [p for b in where for p in b] + [(end + i,) * 3 for i in range(text)]
    assert [list(axis) for axis in zip(*flat, strict=True)] == numbers


@pytest.mark.parametrize("video", ONE_VIDEO, ids=str)
def test_one_video(video: tuple[int, int, int]) -> None:
    steps, rows, columns = video
    check(4, steps, rows, columns, ONE_VIDEO[video], segments=False)


@pytest.mark.parametrize("video", SEGMENTS, ids=str)
def test_segments(video: tuple[int, int, int]) -> None:
    steps, rows, columns = video
    check(2, steps, rows, columns, SEGMENTS[video], segments=True)


@pytest.mark.parametrize("segments", [True, False])
def test_llava_onevision_counts_up(segments: bool) -> None:
    backbone = shared("llava_onevision", segments).backbone
    layout = backbone.block(backbone.grid(20, 30), 5 if segments else 0)
    count = 5 + 9 + 1 if segments else 9
    placed = place([layout] * 3, 7, 1)
    assert placed.positions.tolist() == [list(range(7, 7 + 3 * count))]
    assert placed.end == 7 + 3 * count


def test_an_empty_view_goes_on_after_the_sink() -> None:
    assert place([], 9, 3).end == 9
