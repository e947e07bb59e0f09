"""Pictures in another order: which are shown when, and what comes of it; evidence moved; figures of the difference."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import weavetime as wt
from weavetime.cli import main
from weavetime.config import StreamConfig
from weavetime.errors import DataError, ModeError
from weavetime.eval import Example, Row, Run, load, measure
from weavetime.eval.analysis.arranged import Arranged, Condition, under, usable
from weavetime.eval.analysis.effects import common, effect
from weavetime.eval.analysis.evidence import evidence_read
from weavetime.eval.analysis.order import orders
from weavetime.eval.analysis.position import TIMELESS, movable, moved, positions
from weavetime.eval.base import Span
from weavetime.eval.benchmarks.streamworld import StreamWorld
from weavetime.eval.scores import joined, meets
from weavetime.types import Frame

CONFIG = StreamConfig(window=4, batch=4)
WORLD = load("streamworld", limit=6, per_stream=3, steps=20, seed=11, open=True, since=0.5)


@pytest.fixture(scope="module")
def engine() -> Iterator[wt.Engine]:
    with wt.load("mini") as engine:
        yield engine


def run_of(modes: tuple[str, ...] = ("weavetime",)) -> Run:
    return Run(WORLD, Path(), WORLD.examples("."), CONFIG, modes)


def frames(n: int) -> list[Frame]:
    return [Frame(np.full((2, 2, 3), i, np.uint8), i * 0.5, i * 0.5 + 0.5) for i in range(n)]


def shown(condition: Condition, end: float, n: int = 12) -> list[tuple[float, int]]:
    """Times and pictures that come out of a condition."""
    example = replace(WORLD.examples(".")[0], span=(0.0, end), evidence=((3.0, 3.5),))
    given = frames(n)
    wrap = Arranged(condition, example, run_of())
    batches = list(wrap(iter([given[:5], given[5:]])))
    assert all(len(batch) <= CONFIG.batch for batch in batches)
    return [(frame.time, int(frame.pixels[0, 0, 0])) for batch in batches for frame in batch]


@pytest.mark.parametrize("condition", [*orders(), *positions()], ids=lambda c: c.name)
def test_pictures_change_places_and_times_do_not(condition: Condition) -> None:
    found = shown(condition, end=4.5)
    assert [time for time, _ in found] == [i * 0.5 for i in range(10)]
    assert sorted(picture for _, picture in found) == list(range(10))  # of 12: none from after the end
    assert (found == [(i * 0.5, i) for i in range(10)]) == (condition.arrange is None)
    assert found == shown(condition, end=4.5)


def test_each_order_is_what_it_is_called() -> None:
    _, _, clips, backward = orders(clip=3)
    assert [picture for _, picture in shown(backward, math.inf)] == list(range(12))[::-1]
    pictures = [picture for _, picture in shown(clips, math.inf)]
    assert [p % 3 for p in pictures] == [0, 1, 2] * 4
    assert shown(orders(seed=1)[1], math.inf) != shown(orders(seed=2)[1], math.inf)
    with pytest.raises(DataError, match="at least 1 frame"):
        orders(clip=0)


def test_evidence_goes_where_it_is_sent() -> None:
    times = [(float(i), i + 1.0) for i in range(10)]
    assert moved([(3.0, 5.0)], times, 0.0) == [3, 4, 0, 1, 2, 5, 6, 7, 8, 9]
    assert moved([(3.0, 5.0)], times, 0.5) == [0, 1, 2, 5, 3, 4, 6, 7, 8, 9]
    assert moved([(3.0, 5.0)], times, 1.0) == [0, 1, 2, 5, 6, 7, 8, 9, 3, 4]
    assert moved([(1.0, 2.0), (8.5, 8.6)], times, 1.0)[-2:] == [1, 8]
    example = replace(WORLD.examples(".")[0], span=(0.0, 9.0), evidence=((1.0, 2.0),))
    wrap = Arranged(positions([1.0])[1], example, run_of())
    list(wrap(iter([frames(8)])))
    assert wrap.moved(example.evidence) == ((3.0, 4.0),)
    with pytest.raises(DataError, match="from 0 to 1"):
        positions([1.5])


def test_only_questions_without_a_time_are_moved() -> None:
    world = load("streamworld", limit=200, steps=100, per_stream=50)
    kept = movable(world, world.examples("."))
    assert kept
    assert {e.task for e in kept} <= set(TIMELESS)
    assert not any("time" in e.question for e in kept)
    assert all(len(e.evidence) == 1 for e in kept)
    with pytest.raises(DataError, match="no question is of the task nope"):
        movable(world, world.examples("."), ["nope"])
    with pytest.raises(DataError, match="annotated"):
        movable(world, world.examples("."), ["happened"])


def test_in_order_is_the_run_itself(engine: wt.Engine) -> None:
    run = run_of(("weavetime", "window"))
    plain = {row.key: row for row in measure(engine, run)}
    found = list(under(engine, run, orders()[0]))
    assert {(row.id, row.mode.removesuffix(", in order")) for row in found} == plain.keys()
    for row in found:
        other = plain[row.id, row.mode.removesuffix(", in order")]
        assert (row.response, row.read, row.evidence) == (other.response, other.read, other.evidence)
        assert row.gate == pytest.approx(other.gate, abs=1e-3)


def test_moved_evidence_is_where_the_row_says(engine: wt.Engine) -> None:
    run = run_of()
    run = replace(run, examples=[replace(e, evidence=((2.0, 4.0),)) for e in run.examples])
    for place, span in ((0.0, (0.0, 2.0)), (1.0, None)):
        for row in under(engine, run, positions([place])[1]):
            assert row.evidence == ((row.at - 1, row.at + 1) if span is None else span,)
            assert row.seen == row.at


def test_what_is_there_is_not_asked_again(engine: wt.Engine) -> None:
    run, condition = run_of(), orders()[3]
    rows = list(under(engine, run, condition))
    fed: list[int] = []
    assert [r.key for r in under(engine, run, condition, done={r.key for r in rows[1:]}, on_fed=fed.append)] == [
        rows[0].key
    ]
    assert list(under(engine, run, condition, done={r.key for r in rows})) == []
    with pytest.raises(ModeError, match="leave it out"):
        list(under(engine, run_of(("oracle",)), condition))


class Pieces(StreamWorld):
    """StreamWorld of which two stretches are seen."""

    def spans(self, example: Example) -> tuple[Span, ...]:
        return (0.0, 2.0), (4.0, 6.0)


def test_questions_about_several_stretches_are_left_out(engine: wt.Engine) -> None:
    run = replace(run_of(), benchmark=Pieces(limit=2, steps=20))
    assert usable(run) == []
    assert usable(run_of()) == list(run.examples)
    assert list(under(engine, run, orders()[3])) == []


def row(i: str, right: bool, mode: str = "m", video: str = "v", **more: object) -> Row:
    example = Example(i, video, "t", "?", (), "x", evidence=((0.0, 2.0), (6.0, 7.0)))
    asked = {name: getattr(example, name) for name in Example.__slots__}
    return Row(**asked, mode=mode, value=float(right), **more)  # type: ignore[arg-type]


def test_effects_are_paired_differences() -> None:
    base = [row(str(i), i < 6, video=str(i // 2)) for i in range(8)]
    worse = [row(str(i), i < 2, mode="n", video=str(i // 2)) for i in range(8)]
    found = effect("n", worse, base)
    assert (found.n, found.right, found.accuracy) == (8, 2, 0.25)
    assert found.difference is not None
    difference, low, high = found.difference
    assert difference == -0.5
    assert low <= -0.5 <= high <= 0
    assert effect("n", base).difference is None
    kept = common([*base, *worse[:3], replace(worse[3], problem="gone")])
    assert {mode: [r.id for r in rows] for mode, rows in kept.items()} == {"m": ["0", "1", "2"], "n": ["0", "1", "2"]}


def test_recall_and_precision_in_seconds() -> None:
    found = evidence_read(row("a", True, read=(((1.0, 3.0),), ((1.5, 2.0), (6.5, 8.5)))))
    assert found is not None
    assert (found.recall, found.recall_union) == (0.75, 1.0)
    assert found.precision == pytest.approx((0.5 + 1.0 / 2.5) / 2)
    assert found.precision_union == pytest.approx(1.5 / 4)
    assert evidence_read(row("a", True, problem="no video")) is None
    nothing = evidence_read(row("a", True))
    assert nothing is not None
    assert (nothing.recall, nothing.precision) == (0.0, None)
    assert joined([(3, 4), (0, 1), (1, 2), (0.5, 0.7)]) == ((0, 2), (3, 4))
    assert meets((1.0, 1.0), (0.0, 2.0))
    assert meets((0.0, 2.0), (0.5, 0.5))
    assert not meets((0.0, 1.0), (1.0, 2.0))


SET = ["--set", "steps=20", "--set", "open=true", "--set", "since=0.5", "--set", "per_stream=2"]


def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    monkeypatch.setattr("sys.argv", ["weavetime", *words])
    monkeypatch.setenv("COLUMNS", "120")
    try:
        main()
    except SystemExit as e:
        assert not e.code, capsys.readouterr().err  # noqa: PT017
    return capsys.readouterr().out


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    out, picture = tmp_path / "rows.jsonl", tmp_path / "place.svg"
    words = ["diagnose", "order", "streamworld", *SET, "--limit", "3", "--out", str(out)]
    said = printed(capsys, monkeypatch, *words)
    head, *rows = map(json.loads, out.read_text().splitlines())
    assert (head["analysis"], head["benchmark"]) == ("order", "streamworld")
    assert len(rows) == 3 * 4 * 2
    assert printed(capsys, monkeypatch, *words) == said
    assert len(out.read_text().splitlines()) == 1 + len(rows)
    assert "weavetime, with time prompts" in said
    assert "weavetime, without time prompts" in said
    assert "reversed" in said
    words = ["diagnose", "position", "streamworld", *SET, "--set", "limit=8", "--places", "0,1"]
    families = ["--set", 'families=["past_attribute"]', "--limit", "2", "--picture", str(picture)]
    said = printed(capsys, monkeypatch, *words, *families)
    assert "at 100 %" in said
    assert picture.read_text().startswith("<svg")


def test_mini_sees_the_order(engine: wt.Engine) -> None:
    """Questions about the newest step: reversed, what is there now is what was there first."""
    world = load(
        "streamworld", limit=16, per_stream=8, steps=24, seed=3, open=True, since=0.9, families=("now_object",)
    )
    run = Run(world, Path(), world.examples("."), CONFIG, ("weavetime",))
    rows = [row for condition in (orders()[0], orders()[3]) for row in under(engine, run, condition)]
    right = {mode: sum(r.right for r in mine) for mode, mine in common(rows).items()}
    assert right["weavetime, in order"] > right["weavetime, reversed"] + 4
