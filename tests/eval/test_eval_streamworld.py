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

import pytest
import torch

import weavetime as wt
from weavetime.cli import main
from weavetime.errors import DataError, ModeError, WorldError
from weavetime.eval import RowFile, evidence_scores
from weavetime.eval.streamworld import ORACLE, Row, Settings, head, label, oracle, plan, run
from weavetime.world import FAMILIES, Asked, Renderer

SMALL = Settings(window=4, limit=12, per_stream=6, steps=24, modes=("weavetime", "rekv:4", "window", ORACLE, "blind"))


@pytest.fixture(scope="module")
def engine() -> Iterator[wt.Engine]:
    torch.set_num_threads(1)
    with wt.load("mini") as engine:
        yield engine


@pytest.fixture(scope="module")
def rows(engine: wt.Engine) -> list[Row]:
    return list(run(engine, SMALL))


def test_every_question_in_every_mode(rows: list[Row]) -> None:
    every = {(s.seed, i, label(m)) for s, asked in plan(SMALL) for i in range(len(asked)) for m in SMALL.modes}
    assert len(rows) == len({row.key for row in rows}) == SMALL.limit * len(SMALL.modes)
    assert {row.key for row in rows} == every
    assert [(r.seed, r.at) for r in rows] == sorted((r.seed, r.at) for r in rows)


def test_rows_are_what_a_plain_loop_finds(engine: wt.Engine, rows: list[Row]) -> None:
    """Frames fed one at a time up to the question's moment, and it asked as of now: the rows ask as of the past."""
    by_key = {row.key: row for row in rows}
    for script, asked in plan(SMALL)[:1]:
        frames = list(Renderer(script, SMALL.size).frames())
        for i, a in enumerate(asked):
            stream = engine.stream(window=4)
            for frame in frames[: int(a.at) + 1]:
                stream.feed(frame)
            for mode in ("weavetime", "rekv:4", "window", "blind"):
                answer = stream.ask(a.text, options=a.options, mode=mode)
                row = by_key[script.seed, i, mode]
                assert (row.choice, row.recalled) == (answer.choice, answer.recalled), row
                assert row.right == (answer.choice == a.gold)
                read = [[b for first, stop in layer for b in range(first, stop)] for layer in row.read]
                blocks = [list(b) for b in answer.evidence.blocks]
                assert read * (len(blocks) // len(read)) == blocks
                assert row.gate == pytest.approx(answer.gate, abs=1e-3)


def test_nothing_after_its_moment_is_read(rows: list[Row]) -> None:
    for row in rows:
        assert all(stop <= row.at + 1 for layer in row.read for _, stop in layer)


def test_the_oracle_reads_the_evidence_and_nothing_else(rows: list[Row]) -> None:
    for row in rows:
        found = evidence_scores(row)
        if row.mode == ORACLE and found is not None:
            assert (found.recall, found.precision) == (1.0, 1.0)
        if row.mode == "blind" and found is not None:
            assert (found.recall, found.precision) == (0.0, None)
    nothing = Asked("happened", "Has it?", "no", ("yes", "no"), 7.0, ())
    assert oracle(nothing) == wt.Chosen((7.0,))


def test_open_answers_are_compared_as_words(engine: wt.Engine) -> None:
    settings = replace(SMALL, open=True, limit=6, families=("now_count", "now_position"), modes=("window",))
    for row in run(engine, settings):
        assert row.options == ()
        assert row.gold is None
        assert row.choice is None
        assert row.right == (row.text.strip().casefold() == row.answer.casefold())


def test_rows_survive_json(rows: list[Row]) -> None:
    assert [Row.of(json.loads(json.dumps(row.to_dict()))) for row in rows] == rows
    with pytest.raises(WorldError, match="not a row of this benchmark"):
        Row.of({"seed": 1, "what": 2})


def test_goes_on_at_the_row(engine: wt.Engine, rows: list[Row]) -> None:
    done = {row.key for row in rows[:37]}
    fed: list[int] = []
    rest = list(run(engine, SMALL, done=done, on_fed=fed.append))
    assert sum(fed) == SMALL.steps  # the first stream was done
    assert [replace(r, timings={}, gate=None) for r in rest] == [replace(r, timings={}, gate=None) for r in rows[37:]]
    assert not list(run(engine, SMALL, done={row.key for row in rows}))


def test_plans() -> None:
    settings = Settings(window=None, limit=50, per_stream=6, steps=64, since=0.5)
    found = plan(settings)
    assert [len(asked) for _, asked in found] == [6] * 8 + [2]
    assert [script.seed for script, _ in found] == list(range(9))
    assert all(32 <= a.at < 64 for _, asked in found for a in asked)
    assert {a.family for _, asked in found for a in asked} == set(FAMILIES)  # few a stream, and none left out
    assert plan(settings) == found
    with pytest.raises(WorldError, match="use more steps"):
        plan(Settings(window=None, steps=1, families=("last",)))


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"families": ("never",)}, WorldError, "no family never"),
        ({"families": ()}, WorldError, "at least one family"),
        ({"split": "rest"}, WorldError, "a split is one of"),
        ({"limit": 0}, WorldError, "limit must be at least 1"),
        ({"since": 1.0}, WorldError, "since is a share"),
        ({"modes": ("sometimes",)}, ModeError, "unknown mode"),
        ({"modes": ("window", "window")}, ModeError, "named twice"),
    ],
)
def test_settings_that_cannot_be(wrong: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Settings(window=4, **wrong)  # type: ignore[arg-type]


def test_modes_are_called_by_what_is_unusual() -> None:
    assert label("rekv:4") == "rekv:4"
    assert label(wt.WeaveTime()) == "weavetime"
    assert label(wt.WeaveTime(delta=0, coarse=1)) == "weavetime(delta=0,coarse=1)"
    assert label(wt.Chosen((1, 2))) == "frames(times=(1.0, 2.0))"


def test_the_head_tells_models_and_settings_apart(engine: wt.Engine) -> None:
    assert head(engine, SMALL) == head(engine, replace(SMALL, batch=3))
    assert head(engine, SMALL) != head(engine, replace(SMALL, steps=25))
    weight = next(engine.backbone.model.parameters())
    before = head(engine, SMALL)
    with torch.no_grad():
        weight += 1
        assert head(engine, SMALL) != before
        weight -= 1


# The command


FIXED = ("eval", "streamworld", "--limit", 12, "--questions-per-stream", 4, "--steps", 20, "--window", 4)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """The command line in this process: exit code, stdout, stderr."""

    def called(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["weavetime", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "120")
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        return int(left.value.code or 0), said.out, said.err

    return called


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
        file.write(b'{"seed": 0, "num')  # a kill in the middle of a row
    code, said, complaint = call(*FIXED, "--out", out)
    assert (code, complaint) == (0, "")
    assert out.read_bytes().startswith(first)
    rows = [Row.of(json.loads(line)) for line in out.read_text().splitlines()[1:]]
    assert len(rows) == len({row.key for row in rows}) == 12
    assert said.splitlines()[-1] == f"accuracy {sum(row.right for row in rows) / 12:.3f} n=12"
    assert re.search(r"^all +12 ", said, re.MULTILINE)
    assert call(*FIXED, "--out", out) == (0, said, "")
    code, said, complaint = call(*FIXED, "--out", out, "--delta", 0)
    assert (code, said) == (1, "")
    assert len(complaint.splitlines()) == 1
    assert "holds rows of another run (settings.modes" in complaint


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (("--mode", ORACLE, "--k", 3), "mode oracle has no k and no delta"),
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
