"""One answer, closely: from its row, and asked again on a fresh stream, of files and of generated streams."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_eval_run import LINES, Made
from tests.video.made_clips import make_clip, number, steady

import weavetime as wt
from weavetime.cli import main
from weavetime.config import StreamConfig
from weavetime.errors import DataError
from weavetime.eval import Row, Run, load, measure
from weavetime.eval.analysis.closeup import closeup, read_shares
from weavetime.eval.analysis.inspect import Again, ask_again, benchmark_of, row_of, run_of
from weavetime.eval.analysis.needle import Needle
from weavetime.eval.asking import ORACLE, last_frames
from weavetime.focus import WeaveTime
from weavetime.pictures.heat import blend
from weavetime.pictures.pen import PALETTE

WORLD = load("streamworld", limit=8, per_stream=8, steps=32, seed=2, open=True)
MODES = (WeaveTime(k=3, delta=0.0), "window", "rekv:3", "last:2", "oracle", "blind")


@pytest.fixture(scope="module")
def engine() -> Iterator[wt.Engine]:
    with wt.load("mini") as engine:
        yield engine


@pytest.fixture(scope="module")
def run() -> Run:
    return Run(WORLD, Path(), WORLD.examples("."), StreamConfig(window=4, batch=16), MODES)


@pytest.fixture(scope="module")
def rows(engine: wt.Engine, run: Run) -> list[Row]:
    return list(measure(engine, run))


@pytest.fixture(scope="module")
def results(engine: wt.Engine, run: Run, rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    lines = [run.head(engine), *(row.to_dict() for row in rows)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def again(engine: wt.Engine, run: Run, row: Row) -> Again:
    head = json.loads(json.dumps(run.head(engine)))
    return ask_again(engine, run_of(head, benchmark_of(head), run.examples, row, run.root), row.id)


def test_asked_again_is_the_same_answer(engine: wt.Engine, run: Run, rows: list[Row]) -> None:
    for row in rows[-len(MODES) :]:
        found = again(engine, run, row)
        assert found.differs(row) == [], row.mode
        assert replace(found.row, timings={}, mode=row.mode) == replace(row, timings={})
        assert found.delta == (0.0 if row.mode.startswith("weavetime") else None)
        assert [a for a, _ in found.blocks] == list(found.pictures)
    assert again(engine, run, rows[0]).differs(replace(rows[0], response="another")) != []


def test_asked_again_goes_by_the_record_of_the_run(engine: wt.Engine, run: Run, tmp_path: Path) -> None:
    run = replace(run, modes=("weavetime",), examples=run.examples[-1:])
    other = wt.Engine(engine.backbone, wt.Record(k=2, coarse=1, delta=0.0))
    [row] = measure(other, run)
    assert row.recalled
    head = json.loads(json.dumps(run.head(other)))
    assert ask_again(engine, run_of(head, WORLD, run.examples, row, Path()), row.id).differs(row) == []


def test_the_pictures_are_those_that_were_fed(engine: wt.Engine, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    for i, name in enumerate(("one", "two")):
        make_clip(tmp_path / "videos" / f"{name}.mp4", steady(12, 4), rate=4, first=1000 * i)
    (tmp_path / "made.jsonl").write_text("".join(json.dumps(x) + "\n" for x in LINES))
    made = Made()
    run = Run(made, tmp_path, made.examples(tmp_path), StreamConfig(window=3, batch=4), ("weavetime",))
    row = next(row for row in measure(engine, run) if row.id == "late")
    found = ask_again(engine, run, "late")
    assert found.differs(row) == []
    assert {t: number(p) for t, p in found.pictures.items()} == {float(t): 4 * t for t in range(11)}
    assert closeup(found.row, found).width > 1000
    with pytest.raises(DataError, match="no question nope"):
        ask_again(engine, run, "nope")


def test_the_picture_shows_frames_and_scores(engine: wt.Engine, run: Run, rows: list[Row]) -> None:
    row = next(r for r in rows if r.recalled and r.evidence and r.gate is not None)
    plain, whole = closeup(row), closeup(row, again(engine, run, row))
    assert whole.height > plain.height + 100
    colours = {colour for _, colour in whole.getcolors(1 << 22) or ()}
    assert {blend(1.0), PALETTE.evidence, PALETTE.read, PALETTE.curve} <= colours
    assert blend(1.0) not in {colour for _, colour in plain.getcolors(1 << 22) or ()}
    assert closeup(replace(row, response=None, problem="no video", read=(), gate=None, seen=None)).width == whole.width


def test_shares_of_layers() -> None:
    read = (((0.0, 2.0),), ((1.0, 3.0), (5.0, 6.0)))
    assert read_shares(read) == [(0.0, 1.0, 0.5), (1.0, 2.0, 1.0), (2.0, 3.0, 0.5), (5.0, 6.0, 0.5)]
    assert read_shares(()) == []


def test_which_row(rows: list[Row]) -> None:
    assert row_of(rows, rows[0].id, "window").mode == "window"
    for name, mode, match in (
        ("nope", None, "no row is of the question nope"),
        (rows[0].id, None, "several modes"),
        (rows[0].id, "full", "not asked in the mode"),
    ):
        with pytest.raises(DataError, match=match):
            row_of(rows, name, mode)


def test_of_which_run(engine: wt.Engine, run: Run, rows: list[Row]) -> None:
    head = run.head(engine)
    assert benchmark_of(head) == WORLD
    needle = Needle(lengths=(32,), per_cell=1)
    assert benchmark_of({"benchmark": "needle", "variants": {"lengths": [32], "per_cell": 1}}) == needle
    for mode, name in zip(MODES, run.names, strict=True):
        row = next(r for r in rows if r.mode == name)
        [found] = run_of(json.loads(json.dumps(head)), WORLD, run.examples, row, Path()).modes
        if mode == ORACLE or last_frames(mode):
            assert found == mode
        else:
            assert wt.parse_mode(found) == wt.parse_mode(mode).of(engine.record)
    with pytest.raises(DataError, match="not asked again"):
        run_of(head, WORLD, run.examples, replace(rows[0], mode="window, reversed"), Path())


def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: Any) -> tuple[str, str]:
    monkeypatch.setattr("sys.argv", ["weavetime", "inspect", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        main()
    found = capsys.readouterr()
    assert bool(left.value.code) == bool(found.err.startswith("weavetime: ")), found.err
    return found.out, found.err


def test_the_command(
    results: Path, rows: list[Row], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = next(r for r in rows if r.recalled and r.evidence)
    picture = results.parent / "answer.png"
    ask = (results, "--id", row.id, "--mode", row.mode)
    out, _ = said(capsys, monkeypatch, *ask)
    assert row.question in out
    assert f"gold          {row.gold}" in out
    assert "recall" in out
    out, _ = said(capsys, monkeypatch, *ask, "--model", "mini", "--picture", picture)
    assert "asked again   the same answer" in out
    assert np.asarray(Image.open(picture)).shape[1] == 1600
    assert "PNG" in said(capsys, monkeypatch, *ask, "--picture", "answer.svg")[1]
    lines = results.read_text().splitlines()
    head = json.loads(lines[0]) | {"benchmark": "mlvu", "variants": {}}
    other = results.parent / "other.jsonl"
    other.write_text("\n".join([json.dumps(head), *lines[1:], ""]))
    assert "needs --data" in said(capsys, monkeypatch, other, *ask[1:], "--model", "mini")[1]
