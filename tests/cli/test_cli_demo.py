"""`weavetime demo`: offline, every question in every mode beside the truth, and a picture of those that looked back."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_process import DEMO, Ran
from PIL import Image

import weavetime as wt
from weavetime.cli.demo_picture import Item, Told, picture_of
from weavetime.pictures import PALETTE

Run = Callable[..., Ran]
PLAN = json.loads(DEMO.with_suffix(".json").read_text())
ITEMS = sorted(map(Item.read, PLAN["questions"]), key=lambda item: item.at)
MODES = ("weavetime", "rekv", "window")


def test_the_demo_shows_every_question_in_every_mode_and_draws(run: Run, tmp_path: Path) -> None:
    begun = time.monotonic()
    ran = run("demo", "--picture", tmp_path / "drawn.png")
    assert (ran.code, ran.err) == (0, "")
    assert time.monotonic() - begun < 100  # 30 s on a free core
    lines = [line for line in ran.out.splitlines() if re.match(r" +(right|weavetime|rekv|window) ", line)]
    right = dict.fromkeys(MODES, 0)
    for item, rows in zip(ITEMS, (lines[i : i + 4] for i in range(0, len(lines), 4)), strict=True):
        assert f"at {item.at:.0f} s  {item.question}" in ran.out
        truth, *said = (re.sub(r"^[✓✗]? *", "", row[13:43]).strip() for row in rows)
        assert truth.removeprefix("(B) ") == item.answer
        for mode, row, text in zip(MODES, rows[1:], said, strict=True):
            assert row.split()[0] == mode
            assert ("✓" in row) == (text == truth), row
            assert re.search(r"(recalled|present) \d+", row)
            assert re.search(r"\d(\.\d\d)? (s|ms)$", row)
            right[mode] += "✓" in row
    assert "untrained" not in ran.out
    for mode, count in right.items():
        assert re.search(rf"^{mode} +{count} of {len(ITEMS)} ", ran.out, re.M)
    tiers = [line.split()[0] for line in ran.out.splitlines() if re.search(r"\d (B|KB|MB|GB)\b", line)]
    assert {"sink", "window", "archive", "index", "cache", "in"} <= set(tiers)
    assert "Traceback" not in ran.out

    assert str(tmp_path / "drawn.png") in ran.out.replace("\n", "")
    assert (tmp_path / "drawn.png").stat().st_size < 1_000_000
    assert Image.open(tmp_path / "drawn.png").width == 1600


def test_without_a_picture_none_is_written(call: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ran = call("demo", "--no-picture")
    assert (ran.code, list(tmp_path.iterdir())) == (0, [])


@pytest.mark.parametrize("name", ["no/such/folder.png", "picture.txt"])
def test_a_picture_that_cannot_be_written_is_refused_at_once(call: Run, tmp_path: Path, name: str) -> None:
    ran = call("demo", "--picture", tmp_path / name)
    assert (ran.code, ran.out) == (2, "")
    assert ".png" in ran.err


# What is drawn


@pytest.fixture(scope="module")
def frames() -> list[wt.Frame]:
    return [f for f in wt.open_video(DEMO) if f.time < 50]


@pytest.fixture(scope="module")
def stream(frames: list[wt.Frame]) -> wt.Stream:
    stream = wt.load("mini").stream()
    stream.feed(frames)
    return stream


def told(stream: wt.Stream, item: Item, delta: float) -> Told:
    decoding = wt.Decoding(max_tokens=4)
    ask = {"options": item.options, "at": item.at, "decoding": decoding}
    return Told(item, (stream.ask(item.question, mode=wt.WeaveTime(k=6, delta=delta), **ask),))  # type: ignore[arg-type]


def item(at: float, *evidence: tuple[float, float], text: str = "Where was the pig?") -> Item:
    return Item(text, (), "top", at, evidence)


def test_nothing_is_drawn_where_no_question_looked_back(stream: wt.Stream) -> None:
    assert picture_of([told(stream, item(40, (0, 5)), 2.0)], stream, wt.WeaveTime(k=6), {}) is None


def test_the_picture_holds_what_was_recalled_and_the_evidence(stream: wt.Stream, frames: list[wt.Frame]) -> None:
    asked = told(stream, item(40, (0, 5)), 0.0)
    found = dict.fromkeys((0.0, 1.0, 2.0, 3.0, 4.0), 0)
    assert set(found) & set(asked.answers[0].evidence.times), "nothing of the evidence was recalled"
    solid = {f.time: np.full((64, 64, 3), (3, 5 * int(f.time), 7), np.uint8) for f in frames}
    drawn = picture_of([asked], stream, wt.WeaveTime(k=6), solid)
    assert drawn is not None
    pixels = np.asarray(drawn)
    counts = {
        t: int((pixels == solid[t][0, 0]).all(-1).sum())  # pixels that show this frame
        for t in stream.memory.table.times
    }
    shown = {t for t, n in counts.items() if n > 5000}
    assert 0 < len(shown) <= 12
    assert shown <= set(asked.answers[0].evidence.times)
    inside, outside = ([counts[t] for t in shown if (t < 5) is within] for within in (True, False))
    assert not inside or not outside or max(inside) < min(outside)  # an outline covers a frame's edge
    assert (pixels == PALETTE.evidence).all(-1).any()


def test_those_that_looked_back_furthest_are_drawn_with_their_own_gates(
    stream: wt.Stream, frames: list[wt.Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[str, float, list[tuple[float, float]]]] = []
    from weavetime.cli import demo_picture

    real = demo_picture._card

    def card(told: Told, stream: wt.Stream, pictures: object, gates: list[tuple[float, float]], limit: float) -> object:
        drawn.append((told.item.question, told.item.at, gates))
        return real(told, stream, pictures, gates, limit)  # type: ignore[arg-type]

    monkeypatch.setattr(demo_picture, "_card", card)
    items = [
        item(30, (28, 29), text="Where is the clock?"),
        item(44, (1, 3), text="What was the first thing to appear?"),
        item(45, (20, 44), text="Has the fish been here yet?"),
        item(46, (0, 2), (7, 9), text="Which came first, the pig or the fish?"),
        item(48, text="Has the boot been here yet?"),
        item(49, (2, 4), text="Where was the violin?"),
    ]
    asked = [told(stream, i, 0.0) for i in items]
    assert picture_of(asked, stream, wt.WeaveTime(k=6), {f.time: f.pixels for f in frames}) is not None
    assert [q for q, *_ in drawn] == [items[i].question for i in (1, 3, 5)]
    by_question = {t.item.question: t.answers[0].gate for t in asked}
    for question, at, gates in drawn:
        assert [t for t, _ in gates] == stream.memory.table.times
        assert dict(gates)[at] == pytest.approx(by_question[question], abs=1e-4)


def test_an_answer_is_right_by_its_option_or_by_its_words(stream: wt.Stream) -> None:
    answer = stream.ask("What?", at=20, mode="window", decoding=wt.Decoding(max_tokens=1))
    words = Item("What?", (), "pig", 20, ())
    assert [words.is_right(replace(answer, text=t)) for t in ("pig", "Pig", "a pig", "")] == [True, True, False, False]
    options = Item("What?", ("cow", "pig"), "pig", 20, ())
    assert [options.is_right(replace(answer, choice=c, text="pig")) for c in (0, 1)] == [False, True]
    assert (options.offered("pig"), words.offered("pig")) == ("(B) pig", "pig")
