"""StreamWorld through the real engine: rows, modes over one stream, going on after a kill, the command."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import weavetime as wt
from weavetime.config import StreamConfig
from weavetime.errors import DataError, WorldError
from weavetime.eval import Grade, Row, RowFile, Run, evidence_scores, load, measure
from weavetime.eval.asking import ORACLE, label
from weavetime.eval.benchmarks.streamworld import StreamWorld
from weavetime.world import FAMILIES, Renderer

WORLD = StreamWorld(limit=12, per_stream=6, steps=24)
MODES = ("weavetime", "rekv:4", "window", ORACLE, "blind")
CONFIG = StreamConfig(window=4, batch=64)


def run_of(world: StreamWorld = WORLD, modes: tuple[str | wt.Mode, ...] = MODES, **config: Any) -> Run:
    return Run(world, Path(), world.examples(), replace(CONFIG, **config), modes)


@pytest.fixture(scope="module")
def engine() -> Iterator[wt.Engine]:
    torch.set_num_threads(1)
    with wt.load("mini") as engine:
        yield engine


@pytest.fixture(scope="module")
def rows(engine: wt.Engine) -> list[Row]:
    return list(measure(engine, run_of()))


def test_every_question_in_every_mode(rows: list[Row]) -> None:
    every = {(f"{s.seed}:{i}", m) for s, asked in WORLD.plan() for i in range(len(asked)) for m in MODES}
    assert len(rows) == WORLD.limit * len(MODES)
    assert {row.key for row in rows} == every
    assert [(int(r.video), r.at) for r in rows] == sorted((int(r.video), r.at) for r in rows)


def test_rows_are_what_a_plain_loop_finds(engine: wt.Engine, rows: list[Row]) -> None:
    """Frames fed one at a time up to the question's moment, and it asked with its options."""
    by_key = {row.key: row for row in rows}
    for script, asked in WORLD.plan()[:1]:
        frames = list(Renderer(script, WORLD.size).frames())
        for i, a in enumerate(asked):
            stream = engine.stream(window=4)
            for frame in frames[: int(a.at) + 1]:
                stream.feed(frame)
            for mode in ("weavetime", "rekv:4", "window", "blind"):
                answer = stream.ask(a.text, options=a.options, mode=mode)
                row = by_key[f"{script.seed}:{i}", mode]
                assert (row.response, row.recalled) == ("ABCD"[answer.choice or 0], answer.recalled), row
                assert row.right == (answer.choice == a.gold)
                read = [[b for first, stop in layer for b in range(int(first), int(stop))] for layer in row.read]
                blocks = [list(b) for b in answer.evidence.blocks]
                assert read * (len(blocks) // len(read)) == blocks
                assert row.gate == pytest.approx(answer.gate, abs=1e-3)


def test_nothing_after_its_moment_is_read(rows: list[Row]) -> None:
    for row in rows:
        assert row.at is not None
        assert row.seen == row.at
        assert all(stop <= row.at + 1 for layer in row.read for _, stop in layer)


def test_the_oracle_reads_the_evidence_and_nothing_else(rows: list[Row]) -> None:
    for row in rows:
        found = evidence_scores(row)
        if row.mode == ORACLE and found is not None:
            assert (found.recall, found.precision) == (1.0, 1.0)
        if row.mode == "blind" and found is not None:
            assert (found.recall, found.precision) == (0.0, None)


def test_open_answers_are_compared_as_words(engine: wt.Engine) -> None:
    world = replace(WORLD, open=True, limit=6, families=("now_count", "now_position"))
    answers = {f"{s.seed}:{i}": a.answer for s, asked in world.plan() for i, a in enumerate(asked)}
    for row in measure(engine, run_of(world, ("window",))):
        assert row.options == ()
        assert row.gold == answers[row.id]
        assert row.right == (row.response.strip().casefold() == row.gold.casefold())


def test_plans() -> None:
    world = StreamWorld(limit=50, per_stream=6, steps=64, since=0.5)
    found = world.plan()
    assert [len(asked) for _, asked in found] == [6] * 8 + [2]
    assert [script.seed for script, _ in found] == list(range(9))
    assert all(32 <= a.at < 64 for _, asked in found for a in asked)
    assert {a.family for _, asked in found for a in asked} == set(FAMILIES)  # few a stream, and none left out
    assert world.plan() == found
    with pytest.raises(WorldError, match="use more steps"):
        StreamWorld(steps=1, families=("last",)).plan()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"families": ("never",)}, "no family never"),
        ({"families": ()}, "at least one family"),
        ({"split": "rest"}, "a split is one of"),
        ({"limit": 0}, "limit must be at least 1"),
        ({"since": 1.0}, "since is a share"),
    ],
)
def test_worlds_that_cannot_be_asked_about(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(WorldError, match=words):
        load("streamworld", **wrong)
    with pytest.raises(DataError, match="no variant colour: there are seed, limit"):
        load("streamworld", colour=1)


def test_grades_and_summary() -> None:
    world = StreamWorld(limit=2, per_stream=2, steps=24, families=("now_count", "last"))
    count, last = world.examples()
    assert world.grade(count, count.gold).value == 1
    assert world.grade(count, f" {count.gold}\n").value == 1
    assert world.grade(count, f"({count.gold})").value == 0
    assert world.grade(last, None) == Grade(0.0)
    found = world.summarize([world.grade(count, count.gold), world.grade(last, "Z")])
    assert dict(found) == {"now_count": 1.0, "last": 0.0, "all": 0.5}
    assert (found.total, found.score("all").n) == ("all", 2)


def test_modes_are_called_by_what_is_unusual() -> None:
    assert label("rekv:4") == "rekv:4"
    assert label(wt.WeaveTime()) == "weavetime"
    assert label(wt.WeaveTime(delta=0, coarse=1)) == "weavetime(delta=0,coarse=1)"
    assert label(wt.Chosen((1, 2))) == "frames(times=(1.0, 2.0))"
    assert label("weavetime:coarse=128, k=8") == "weavetime(k=8,coarse=128)" == label("weavetime(k=8,coarse=128)")
    for mode in (wt.WeaveTime(delta=0.25, vote=True), wt.ReKV(k=3, cosine=True), wt.Chosen((1, 2)), wt.Window()):
        assert wt.parse_mode(label(mode)) == mode


def test_the_head_tells_models_and_settings_apart(engine: wt.Engine) -> None:
    head = run_of().head(engine)
    assert head == run_of(batch=3).head(engine)
    assert head != run_of(window=5).head(engine)
    assert head != run_of(replace(WORLD, steps=25)).head(engine)
    weight = next(engine.backbone.model.parameters())
    with torch.no_grad():
        weight += 1
        assert run_of().head(engine) != head
        weight -= 1


# The command


FIXED = ("eval", "streamworld", "--limit", 12, "--questions-per-stream", 4, "--steps", 20, "--window", 4)


def test_a_killed_run_goes_on_and_ends_in_one_figure(tmp_path: Path, call: Callable[..., tuple[int, str, str]]) -> None:
    out = tmp_path / "deep" / "rows.jsonl"
    command = [sys.executable, "-m", "weavetime", *map(str, FIXED), "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 100
        while not (out.exists() and out.read_bytes().count(b"\n") > 3) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    first = out.read_bytes()
    assert 3 < first.count(b"\n") < 13
    with out.open("ab") as file:
        file.write(b'{"id": "0:1", "mo')  # a kill in the middle of a row
    code, said, complaint = call(*FIXED, "--out", out)
    assert (code, complaint) == (0, "")
    assert out.read_bytes().startswith(first)
    rows = [Row.of(json.loads(line)) for line in out.read_text().splitlines()[1:]]
    assert len(rows) == len({row.key for row in rows}) == 12
    assert said.splitlines()[-1] == f"accuracy {sum(row.right for row in rows) / 12:.3f} n=12"
    assert re.search(r"^all +12 ", said, re.MULTILINE)
    code, again, _ = call(*FIXED, "--out", out)
    assert again.startswith("0 frames of 0 spans encoded once for 0 answers")
    assert again.splitlines()[1:] == said.splitlines()[1:]
    code, scored, _ = call("score", "streamworld", out)
    assert scored.splitlines()[:-1] == said.splitlines()[1:-1]
    code, said, complaint = call(*FIXED, "--out", out, "--delta", 0)
    assert (code, said) == (1, "")
    assert len(complaint.splitlines()) == 1
    assert "holds rows of another run (modes" in complaint


def test_a_mode_is_asked_with_the_settings_in_its_name(
    tmp_path: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    out, name = tmp_path / "rows.jsonl", "weavetime(k=3,coarse=1)"
    asked = ("--mode", "weavetime:coarse=1,k=3", "--mode", name, "--mode", "weavetime:3", "--delta", 0, "--out", out)
    code, _, complaint = call(*FIXED, *asked)
    assert (code, complaint) == (0, "")
    head, *rows = map(json.loads, out.read_text().splitlines())
    assert len(rows) == 24
    found = {mode: (own["k"], own["coarse"], own["delta"]) for mode, own in head["modes"].items()}
    assert found == {"weavetime(k=3,delta=0.0,coarse=1)": (3, 1, 0), "weavetime(k=3,delta=0.0)": (3, 3, 0)}
    said = "weavetime:coarse=1, delta=0, k=3"
    code, shown, _ = call("compare", out, "--mode", said, "--other", "weavetime(k=3,delta=0.0)")
    assert (code, shown.splitlines()[0]) == (0, f"A: {next(iter(found))} of {out}")
    code, shown, _ = call("inspect", out, "--id", rows[0]["id"], "--mode", said)
    assert code == 0
    assert f"mode          {next(iter(found))}" in shown


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (("--mode", ORACLE, "--k", 3), "mode oracle has no k: leave out --k"),
        (("--mode", "window", "--delta", 0), "mode window has no delta"),
        (("--families", "first,never"), "no family never"),
        (("--families", ","), "name at least one family"),
        (("--steps", 0), "a world has 1 to 36000 steps"),
        (("--seed", 0, "--mode", "full"), "full reads every block"),
    ],
)
def test_commands_that_cannot_be(
    wrong: tuple[object, ...], words: str, call: Callable[..., tuple[int, str, str]]
) -> None:
    code, said, complaint = call(*FIXED, *wrong)
    assert (code, said) == (1, "")
    assert words in complaint
    assert len(complaint.splitlines()) == 1


def test_the_world_command(tmp_path: Path, call: Callable[..., tuple[int, str, str]]) -> None:
    video, lines = tmp_path / "out.mp4", tmp_path / "out.jsonl"
    arguments = ("world", video, "--questions", lines, "--seed", 7, "--minutes", 0.4, "--size", 96, "--count", 20)
    code, said, complaint = call(*arguments)
    assert (code, complaint) == (0, "")
    assert said.splitlines()[-1] == f"{lines}: 20 questions"
    asked = [json.loads(line) for line in lines.read_text().splitlines()]
    assert len(asked) == 20
    assert all(a["options"][a["gold"]] == a["answer"] and 0 <= a["at"] < 24 for a in asked)
    assert wt.open_video(video, fps=1.0).duration == 24.0
    assert call(*arguments, "--open")[0] == 0
    opened = [json.loads(line) for line in lines.read_text().splitlines()]
    assert opened == [{**a, "options": [], "gold": None} for a in asked]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (("--minutes", 601), "up to 600 minutes"),
        (("--minutes", 0), "up to 600 minutes"),
        (("--split", "rest"), "train, test, new"),
        (("--count", 0), "count must be at least 1"),
        (("--families", "never"), "no family never"),
        (("--size", 95), "size must be an even number"),
        (("--questions", "out.mp4"), "name two files"),
    ],
)
def test_worlds_that_cannot_be(
    tmp_path: Path,
    wrong: tuple[object, ...],
    words: str,
    call: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said, complaint = call("world", "out.mp4", *wrong)
    assert (code, said) == (1, "")
    assert words in complaint
    assert len(complaint.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_rows_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with RowFile(path, {"a": {"b": 1}, "c": (1, 2)}) as file:
        assert file.rows == []
        file.add({"x": 1})
    with RowFile(path, {"a": {"b": 1}, "c": [1, 2]}) as file:
        assert file.rows == [{"x": 1}]
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"y": "cut sh')
    with RowFile(path, {"a": {"b": 1}, "c": [1, 2]}) as file:
        assert file.rows == [{"x": 1}]
        file.add({"z": 1})
    assert path.read_bytes() == whole + b'{"z": 1}\n'
    with pytest.raises(DataError, match=r"another run \(a\.b: 1 there, 2 here\)"):
        RowFile(path, {"a": {"b": 2}, "c": [1, 2]})
    path.write_text('{"a": 1}\nnonsense\n')
    with pytest.raises(DataError, match="line 2: no JSON"):
        RowFile(path, {"a": 1})
