"""Pictures that explain an answer: sizes, and colours at known places."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from weavetime.pictures import PALETTE, Answered, Curve, Lane, Pen, card, contact_sheet, page, timeline

GREY, BLUE, RED = (90, 90, 90), (20, 40, 200), (200, 30, 20)
LEFT, RIGHT = 150, 940  # where a timeline 1,000 pixels wide has its first and its last second


def plain(colour: tuple[int, int, int], height: int = 60, width: int = 120) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def has(picture: Image.Image, colour: tuple[int, int, int]) -> np.ndarray:
    """Where a picture has a colour: bool (height, width)."""
    return (np.asarray(picture) == colour).all(-1)


def test_a_contact_sheet_shows_frames_in_rows_at_their_shape() -> None:
    frames = [plain(GREY), Image.fromarray(plain(BLUE)), plain(RED)]
    sheet = contact_sheet(frames, [0, 1.5, 12], width=208, columns=2)
    assert (sheet.mode, sheet.size) == ("RGB", (208, 2 * (50 + 30) + 8))  # 100 x 50 each, and its caption
    assert [sheet.getpixel(at) for at in ((50, 25), (158, 25), (50, 113))] == [GREY, BLUE, RED]
    assert sheet.getpixel((158, 113)) == PALETTE.paper
    for colour, (left, top) in ((GREY, (0, 0)), (BLUE, (108, 0)), (RED, (0, 88))):
        found = np.argwhere(has(sheet, colour))
        assert [*found.min(0), *found.max(0)] == [top, left, top + 49, left + 99]


def test_only_the_marked_are_outlined() -> None:
    sheet = contact_sheet([plain(GREY), plain(BLUE)], [3.0, 4.0], marked=[4.0], width=208, columns=2)
    outline = has(sheet, PALETTE.evidence)
    assert not outline[:, :108].any()
    assert outline[2, 110] and outline[25, 110] and outline[25, 205] and outline[48, 150]  # noqa: PT018
    assert not outline[8:42, 116:200].any()
    assert outline[52, 112]  # the caption's ground


def test_a_caption_says_the_time() -> None:
    sheets = [np.asarray(contact_sheet([plain(GREY)], [t], width=120, columns=1)) for t in (7, 7.0, 8)]
    assert (sheets[0] == sheets[1]).all()
    assert (sheets[0] != sheets[2]).any()
    assert (sheets[0][:60] == sheets[2][:60]).all()


def test_a_sheet_of_nothing_is_refused() -> None:
    for frames, times in (([], []), ([plain(GREY)], [])):
        with pytest.raises(ValueError, match="contact sheet"):
            contact_sheet(frames, times)


def spans(row: np.ndarray) -> list[tuple[int, int]]:
    """Stretches of True: (first, one past the last)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(int), [0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def test_a_timeline_has_each_thing_at_its_time_and_height() -> None:
    lanes = [Lane("weavetime", [(10, 12, 1.0), (50, 60, 0.25)]), Lane("window", [(90, 100, 1.0)])]
    drawn = timeline(100, evidence=[(20, 30)], at=99, lanes=lanes, width=1000)
    assert drawn.width == 1000
    second = (RIGHT - LEFT) / 100

    evidence = has(drawn, PALETTE.evidence)
    [(a, b)] = spans(evidence.any(0))
    assert (a, b) == pytest.approx((LEFT + 20 * second, LEFT + 30 * second), abs=1)
    rows = np.flatnonzero(evidence.any(1))
    assert len(rows) in (31, 32)  # the tint of the same span reaches through all lanes
    assert has(drawn, PALETTE.tint)[rows[-1] + 20 :, a + 5].sum() > 40

    read = has(drawn, PALETTE.read)
    upper, lower = read[: rows[-1] + 45], read[rows[-1] + 45 :]
    found = [(a - LEFT) / second for s in spans(upper.any(0)) for a in s]
    assert found == pytest.approx([10, 12, 50, 60], abs=0.2)
    assert [int(upper[:, LEFT + round(t * second)].sum()) for t in (11, 55)] == [pytest.approx(32, abs=1), 8]
    assert spans(lower.any(0))[0][0] == pytest.approx(LEFT + 90 * second, abs=1)

    column = has(drawn, PALETTE.ink)[:, LEFT + round(99 * second)]
    assert column.sum() > 100


def test_the_curve_stands_at_its_values_and_its_limit_across() -> None:
    points = [(0.0, 0.0), (49.9, 0.0), (50.0, 1.0), (100.0, 1.0)]
    drawn = timeline(100, at=80, curve=Curve("gate", points, 0.5, "note"), width=1000)
    bare = timeline(100, at=80, width=1000)
    assert drawn.height - bare.height == 112 + 9
    line = has(drawn, PALETTE.curve)
    low, high = (float(np.flatnonzero(line[:, x]).mean()) for x in (300, 700))
    assert low - high == pytest.approx(100, abs=1.5)
    dashes = has(drawn, PALETTE.soft)[round((low + high) / 2), LEFT:RIGHT]
    assert 0.3 < dashes.mean() < 0.7
    dot = line[:, LEFT + round(80 * (RIGHT - LEFT) / 100) + 4]
    assert dot.sum() > 3 * line[:, 600].sum()  # at the moment of the question, thicker than the line


def test_a_timeline_without_length_is_refused() -> None:
    with pytest.raises(ValueError, match="length"):
        timeline(0)


def test_a_card_marks_right_and_wrong() -> None:
    answers = [Answered("weavetime", "pig", True), Answered("window", "x" * 400, False), Answered("blind", "cow")]
    sheet = contact_sheet([plain(GREY)], [1], width=800, columns=4)
    drawn = card("What?", "pig", answers, [("a sheet", sheet)], 800)
    quarter = (800 - 3 * 18) / 4 + 18
    right, wrong = (has(drawn, colour).any(0) for colour in (PALETTE.right, PALETTE.wrong))
    for seen, place in ((right, 1), (wrong, 2)):
        [first, *_], [*_, last] = np.flatnonzero(seen), np.flatnonzero(seen)
        assert (first, last) == pytest.approx((place * quarter, (place + 1) * quarter - 18), abs=1.5)  # cut, not spilt
    top = drawn.height - sheet.height
    assert drawn.getpixel((50, top + 10)) == GREY


def test_a_page_holds_its_cards_as_they_are() -> None:
    cards = [Image.new("RGB", (300, 40), BLUE), Image.new("RGB", (300, 70), RED)]
    drawn = page("Title", ["a line", "another"], cards)
    assert drawn.width == 380
    for colour, height in ((BLUE, 40), (RED, 70)):
        found = np.argwhere(has(drawn, colour))
        assert [*(found.max(0) - found.min(0) + 1), found[0][1]] == [height, 300, 40]


def test_a_long_text_is_cut_and_says_so() -> None:
    pens = [Pen(400, 40) for _ in range(2)]
    widths = [pen.text((0, 20), "word " * n, 20, most=200) for pen, n in zip(pens, (2, 40), strict=True)]
    assert widths[0] < 150 < widths[1] <= 200
    assert not (np.asarray(pens[1].done())[:, 202:] != 255).any()


@pytest.mark.parametrize(
    "seen",
    [  # Machado and others 2009, linear RGB: no red cones, no green cones
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    ],
)
def test_colours_that_mean_something_differ_for_colour_blind_eyes(seen: list[list[float]]) -> None:
    colours = np.array([PALETTE.right, PALETTE.wrong, PALETTE.evidence, PALETTE.ink, PALETTE.paper]) / 255
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    for a, b in combinations((linear @ np.array(seen).T).clip(0, 1) ** (1 / 2.2), 2):
        assert np.linalg.norm(a - b) > 0.15
