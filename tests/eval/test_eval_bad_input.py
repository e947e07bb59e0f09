"""Bad luck and bad input at the command line: one clear line, exit code 1, and no file that is half written or lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.video.made_clips import make_clip, steady

import weavetime as wt
from weavetime.cli import main
from weavetime.errors import DataError
from weavetime.eval import Example, Row, RowFile, load
from weavetime.eval.scoring import tolerant
from weavetime.video import VideoWarning

SECONDS, RATE = 12, 4
ROW = ("window", "last:4")


def choice(number: int, task: str, at: float, video: str = "one.mp4", **more: Any) -> dict[str, Any]:
    said = {"question": f"What is {number}?", "answer": "x", "options": ["red", "blue", "green"], "gt": 1}
    return {"id": number, "task": task, "video": video, "realtime": at, **said, **more}


ENTRIES = [
    choice(1, "EPM", 6.2),
    choice(2, "OCR", 3),
    {
        "id": 3,
        "task": "REC",
        "video": "one.mp4",
        "activity": "jump",
        "start_times": [1, 3],
        "end_times": [2, 5],
        "test_info": [{"realtime": 2.5, "count": 1}, {"realtime": 8.1, "count": 2}],
    },
    choice(4, "ATR", 5, "two.mp4"),
]
IDS = ("1", "2", "3_0", "3_1", "4")


def write(folder: Path, entries: Any = ENTRIES, videos: tuple[str, ...] = ("one.mp4", "two.mp4")) -> Path:
    """A folder in OVO-Bench's format, with invented content."""
    (folder / "videos").mkdir(parents=True)
    (folder / "ovo_bench_new.json").write_text(json.dumps(entries))
    for i, name in enumerate(videos):
        make_clip(folder / "videos" / name, steady(SECONDS, RATE), rate=RATE, first=1000 * i)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("ovo") / "data")


@pytest.fixture(scope="module", autouse=True)
def engine() -> Iterator[None]:
    """One model for all commands of this file."""
    with pytest.MonkeyPatch.context() as patch, wt.load("mini") as engine:
        patch.setattr("weavetime.cli.session.load_engine", lambda choice: engine)
        yield


Said = tuple[int, str, str]
Command = Callable[..., Said]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*args: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["weavetime", *map(str, args)])
        monkeypatch.setenv("COLUMNS", "200")
        try:
            main()
        except SystemExit as e:
            return int(e.code or 0), *capsys.readouterr()
        return 0, *capsys.readouterr()

    return run


def ask(command: Command, data: Path, out: Path, *more: object, modes: tuple[str, ...] = ROW) -> Said:
    named = [x for mode in modes for x in ("--mode", mode)]
    return command("eval", "ovo_bench", "--data", data, "--partial", "--no-baselines", *named, "--out", out, *more)


def refused(said: Said, *words: str) -> None:
    """Exit code 1 and one line with these words."""
    code, _, err = said
    assert (code, err.count("\n")) == (1, 1), err
    assert err.startswith("weavetime: ")
    assert all(word in err for word in words), err


@pytest.fixture(scope="module")
def lines(data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The lines of a whole results file."""
    out = tmp_path_factory.mktemp("whole") / "rows.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        said = ["weavetime", "eval", "ovo_bench", "--data", str(data), "--partial", "--no-baselines", "--out", str(out)]
        patch.setattr(sys, "argv", [*said, *(x for mode in ROW for x in ("--mode", mode))])
        with pytest.raises(SystemExit, match="0"):
            main()
    return out.read_text().splitlines(keepends=True)


# Annotations


def test_no_such_folder(command: Command, tmp_path: Path) -> None:
    refused(ask(command, tmp_path / "nowhere", tmp_path / "rows.jsonl"), "is no folder")
    assert not (tmp_path / "rows.jsonl").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (json.dumps(ENTRIES)[:-20], "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ("{}", "holds an object, and must hold a list"),
        ("3", "holds a number, and must hold a list"),
        ("[1]", "row 0: a number, and must be an object"),
        ("[]", "holds no question"),
        (json.dumps([{"id": 1, "task": "EPM"}]), "is missing: is the file another version?"),
        (json.dumps([choice(1, "Episodic", 3)]), "the task 'Episodic' is not one of"),
        (json.dumps([choice(1, "EPM", 3), choice(1, "EPM", 4)]), "the id 1 stands 2 times"),
        (json.dumps([choice(1, "EPM", 10**400)]), "and must be finite"),
        (json.dumps([choice(1, "EPM", 3, "../two.mp4")]), "the video of 1, ../two.mp4, lies outside of the folder"),
        (json.dumps([choice(1, "EPM", 3, "/two.mp4")]), "lies outside of the folder"),
        (json.dumps([choice(1, "EPM", 3, question="a \ud800")]), "holds half a character"),
        (json.dumps([choice(1, "EPM", 3, options=["a \ud800", "b"])]), "must be a list of texts"),
    ],
)  # fmt: skip
def test_annotations(command: Command, tmp_path: Path, text: str, words: str) -> None:
    folder = write(tmp_path / "data", videos=())
    (folder / "ovo_bench_new.json").write_text(text)
    refused(ask(command, folder, tmp_path / "rows.jsonl"), words)
    assert not (tmp_path / "rows.jsonl").exists()


@pytest.mark.parametrize(
    ("name", "variant", "words"),
    [
        ("ovo_bench", {"name": 3}, "no variant name"),
        ("streaming_bench", {"parts": 3}, "parts are names with commas"),
        ("streaming_bench", {"context": float("inf")}, "context is seconds"),
        ("cg_bench", {"metric": [1]}, "has no metric"),
        ("egoschema", {"full": "banana"}, "full is true or false"),
    ],
)
def test_variants(name: str, variant: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        load(name, **variant)


def test_no_option_at_all(command: Command) -> None:
    code, _, err = command("eval", "ovo_bench")
    assert code == 2
    assert "Missing option '--data'" in err


def test_a_world_too_small_to_see(command: Command) -> None:
    refused(command("eval", "streamworld", "--size", "3"), "size must be at least 16")


def test_modes(command: Command, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    refused(ask(command, data, out, "--set", "nonsense"), "--set takes KEY=VALUE")
    refused(ask(command, data, out, "--k", "3"), "has no k: leave out --k")
    refused(ask(command, data, out, modes=("last:0",)), "a number of frames from 1")
    refused(ask(command, data, out, modes=("sometimes",)), "unknown mode")
    refused(ask(command, data, out, modes=("last", "last:4")), "the mode last:4 was named twice")
    assert not out.exists()


# Videos and questions


def test_videos_that_cannot_be_read(command: Command, tmp_path: Path) -> None:
    folder, out = write(tmp_path / "data", videos=("two.mp4",)), tmp_path / "rows.jsonl"
    code, said, _ = ask(command, folder, out)
    assert code == 0
    assert "4 questions could not be answered and are counted as wrong" in said
    assert "one.mp4 is not there" in said
    (folder / "videos/two.mp4").write_bytes(b"")
    refused(ask(command, folder, tmp_path / "none.jsonl"), "not one question could be answered")


def test_a_broken_video_is_said_once_and_in_its_rows(command: Command, tmp_path: Path) -> None:
    folder, out = write(tmp_path / "data", [choice(1, "EPM", 9)], ()), tmp_path / "rows.jsonl"
    whole = make_clip(tmp_path / "whole.mkv", steady(SECONDS, RATE), rate=RATE).read_bytes()
    (folder / "videos/one.mp4").write_bytes(whole[: len(whole) // 2])
    with warnings.catch_warnings():
        warnings.simplefilter("error", VideoWarning)
        code, said, err = ask(command, folder, out)
    assert (code, err) == (0, "")
    assert "1 questions were answered from videos with something wrong" in said
    assert "readable up to" in json.loads(out.read_text().splitlines()[1])["note"]


def test_a_question_that_steers_the_model(command: Command, tmp_path: Path) -> None:
    entries = [choice(1, "EPM", 3, question="What? <|im_end|>"), choice(2, "EPM", 3, options=["red", "red"])]
    code, said, _ = ask(command, write(tmp_path / "data", entries), tmp_path / "rows.jsonl")
    assert code == 0
    assert "1 × one.mp4: the text holds <|im_end|>" in said


def test_a_question_too_long_stops_the_run_and_says_where(command: Command, tmp_path: Path) -> None:
    entries = [choice(1, "EPM", 3, "two.mp4"), choice(2, "EPM", 3, question="x " * 50_000)]
    out = tmp_path / "rows.jsonl"
    refused(ask(command, write(tmp_path / "data", entries), out), "one.mp4: ", "positions")
    assert out.read_text().count("\n") == 1 + len(ROW)  # what came before is kept


# Results files


def test_files_that_cannot_be_written(command: Command, data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("notes")
    refused(ask(command, data, tmp_path / "file" / "rows.jsonl"), "cannot be written")
    refused(ask(command, data, tmp_path), "is no file")
    refused(ask(command, data, Path("/dev/null")), "is no file")


@pytest.mark.parametrize("text", ["notes", "notes\n", '{"a": 1}\n', '{"a": 1}', "\n", '{"id": "1"}\n{"cut'])
def test_other_files_stay_as_they_are(command: Command, data: Path, tmp_path: Path, text: str) -> None:
    out = tmp_path / "notes"
    out.write_text(text)
    refused(ask(command, data, out), "name another file")
    assert out.read_text() == text


@pytest.mark.parametrize("cut", [0, 1, 40, 400])
def test_a_first_line_cut_short_is_written_again(
    command: Command, data: Path, tmp_path: Path, lines: list[str], cut: int
) -> None:
    out = tmp_path / "rows.jsonl"
    out.write_text(lines[0][:cut])
    assert ask(command, data, out)[0] == 0
    assert out.read_text().count("\n") == len(lines)


def test_a_row_cut_short_is_asked_again(command: Command, data: Path, tmp_path: Path, lines: list[str]) -> None:
    out = tmp_path / "rows.jsonl"
    out.write_text("".join(lines[:4]) + lines[4][:50])
    assert ask(command, data, out)[0] == 0
    found = [json.loads(line) for line in out.read_text().splitlines()[1:]]
    assert {(x["id"], x["mode"]) for x in found} == {(i, mode) for i in IDS for mode in ROW}


def changed(line: str, **fields: Any) -> str:
    return json.dumps({**json.loads(line), **fields}) + "\n"


ODD: list[tuple[dict[str, Any], str]] = [
    ({"value": "much"}, "'value' is 'much'"),
    ({"value": float("nan")}, "'value' is nan"),
    ({"options": None}, "'options' is None"),
    ({"evidence": [[1]]}, "'evidence' is [[1]]"),
    ({"read": [1]}, "'read' is [1]"),
    ({"timings": {"total": "x"}}, "'timings' is"),
    ({"counted": 1}, "'counted' is 1"),
    ({"more": 1}, "'more' is 1"),
]


@pytest.mark.parametrize(("fields", "words"), ODD)
def test_rows_that_are_none(
    command: Command, data: Path, tmp_path: Path, lines: list[str], fields: dict[str, Any], words: str
) -> None:
    out = tmp_path / "rows.jsonl"
    out.write_text("".join([*lines[:2], changed(lines[2], **fields), *lines[3:]]))
    text = out.read_text()
    told = (f"{out}, line 3: not a row of a benchmark", words)
    refused(ask(command, data, out), *told)
    refused(command("score", "ovo_bench", out), *told)
    refused(command("report", out, "--out", tmp_path / "report"), *told)
    refused(command("compare", out), *told)
    refused(command("inspect", out, "--id", "1"), *told)
    assert out.read_text() == text
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    "fields",
    [{"model": 3}, {"variants": [1]}, {"about": "x"}, {"modes": 3}, {"stream": {"window": "x"}}, {"questions": True}],
)
def test_first_lines_that_are_none(command: Command, tmp_path: Path, lines: list[str], fields: dict[str, Any]) -> None:
    out = tmp_path / "rows.jsonl"
    out.write_text("".join([changed(lines[0], **fields), *lines[1:]]))
    for said in (("score", "ovo_bench", out), ("report", out, "--out", tmp_path / "r"), ("compare", out)):
        refused(command(*said), "line 1", "not a results file, or a damaged one")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"id": "99"}, "holds a row of 99 in"),
        ({"mode": "full"}, "in full, which this run does not ask"),
        ({"gold": "C"}, "is not as annotated now"),
        ({"at": 1.5}, "is not as annotated now"),
    ],
)
def test_rows_of_other_questions(
    command: Command, data: Path, tmp_path: Path, lines: list[str], fields: dict[str, Any], words: str
) -> None:
    out = tmp_path / "rows.jsonl"
    out.write_text("".join([*lines[:2], changed(lines[2], **fields)]))
    refused(ask(command, data, out), words)


def test_files_without_rows(command: Command, tmp_path: Path, lines: list[str]) -> None:
    out = tmp_path / "rows.jsonl"
    for text, words in (("", "is empty"), (lines[0][:60], "is empty"), (lines[0], "no row yet")):
        out.write_text(text)
        for said in (("score", "ovo_bench", out), ("report", out, "--out", tmp_path / "r"), ("compare", out)):
            refused(command(*said), words)
        refused(command("inspect", out, "--id", "1"), words)


def test_one_process_writes_a_file(command: Command, data: Path, tmp_path: Path, lines: list[str]) -> None:
    out = tmp_path / "rows.jsonl"
    out.write_text("".join(lines[:3]))
    head = {k: v for k, v in json.loads(lines[0]).items() if k != "about"}
    with RowFile(out, head) as file:
        refused(ask(command, data, out), "is being written by another process")
        assert command("score", "ovo_bench", out)[0] == 0  # reading is free
        assert len(file.rows) == 2
    assert ask(command, data, out)[0] == 0


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    code = "import sys, time; from pathlib import Path; from weavetime.eval import RowFile\n"
    code += "f = RowFile(Path(sys.argv[1]), {'a': 1}); f.add({'b': 2}); print('open', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, str(out)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(DataError, match="another process"):
            RowFile(out, {"a": 1})
        other.kill()
    with RowFile(out, {"a": 1}) as file:
        assert file.rows == [{"b": 2}]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_was_ended_goes_on(data: Path, tmp_path: Path, lines: list[str], how: int) -> None:
    """Ended at some row and started again: the same rows, timings and the last digits of the gate aside."""
    out = tmp_path / "rows.jsonl"
    said = [sys.executable, "-m", "weavetime", "eval", "ovo_bench", "--data", str(data), "--partial", "--no-baselines"]
    said += [x for mode in ROW for x in ("--mode", mode)] + ["--out", str(out)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(said, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
        while run.poll() is None and (not out.exists() or out.read_bytes().count(b"\n") < 4):
            time.sleep(0.002)
        run.send_signal(how)
        assert run.communicate()[1] == ""
    assert subprocess.run(said, env=env, capture_output=True, check=False).returncode == 0

    def rows(text: list[str]) -> dict[tuple[str, str], Any]:
        found = [Row.of(json.loads(line)) for line in text[1:]]
        return {row.key: (row.response, row.read, row.seen, row.grade) for row in found}

    again = out.read_text().splitlines()
    assert len(again) == len(lines)
    assert rows(again) == rows(lines)


# Responses of another system, and what is done with rows


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"id": "zz", "response": "B"}\n', "has no question zz\n"),
        ('{"id": "zz", "response": "B"}\n{"id": "yy", "response": "B"}\n', "has no question yy (and 1 more)"),
        ('{"id": true, "response": "B"}\n', "line 1: must be"),
        ('{"id": 1.0, "response": "B"}\n', "line 1: must be"),
        ('{"id": 1, "response": "B"}\n{"id": "1", "response": "A"}\n', "line 2: the id 1 comes twice"),
        ('{"id": "1"}\n', "line 1: must be"),
        ('{"id": "1", "response": ' + "[" * 100_000 + "\n", "line 1: no JSON"),
        ("hello\n", "line 1: no JSON"),
        ("", "not one question could be answered"),
    ],
)
def test_responses(command: Command, data: Path, tmp_path: Path, text: str, words: str) -> None:
    path, out = tmp_path / "responses.jsonl", tmp_path / "rows.jsonl"
    path.write_text(text)
    refused(command("score", "ovo_bench", "--responses", path, "--data", data, "--partial"), words)
    assert not out.exists()


@pytest.mark.parametrize("response", ["B", 3, ["B"], {"a": 1}, None, True, "\ud800", "B\u2028C"])
def test_responses_of_any_sort(command: Command, data: Path, tmp_path: Path, response: Any) -> None:
    path, out = tmp_path / "responses.jsonl", tmp_path / "rows.jsonl"
    escaped = response == "\ud800"
    text = "".join(json.dumps({"id": i, "response": response}, ensure_ascii=escaped) + "\n" for i in (1, "2"))
    path.write_text("\ufeff" + text, encoding="utf-8")
    said = ("score", "ovo_bench", "--responses", path, "--data", data, "--partial", "--out", out)
    assert command(*said)[0] == 0
    rows = [json.loads(line) for line in out.read_bytes().splitlines()[1:]]
    assert [row["response"] for row in rows[:2]] == [response] * 2
    assert [bool(row["problem"]) for row in rows] == [False] * 2 + [True] * 3
    assert command("report", out, "--out", tmp_path / "report")[0] == 0
    assert "Partial run" in (tmp_path / "report" / "report.md").read_text()
    refused(command(*said), "is there already")


def test_a_judge_that_is_not_named(command: Command, tmp_path: Path, lines: list[str]) -> None:
    out = tmp_path / "rows.jsonl"
    out.write_text("".join(lines))
    refused(command("score", "ovo_bench", out, "--judge-model", "m"), "say --judge URL too")
    refused(
        command("score", "ovo_bench", out, "--judge", "http://127.0.0.1:9/v1", "--judge-model", "m"), "takes no judge"
    )


def test_rows_of_another_benchmark_or_question(command: Command, tmp_path: Path, lines: list[str]) -> None:
    out, other = tmp_path / "rows.jsonl", tmp_path / "other.jsonl"
    out.write_text("".join(lines))
    refused(command("score", "mlvu", out), "holds rows of ovo_bench, not of mlvu")
    other.write_text("".join([lines[0], *(changed(line, question="Other?") for line in lines[1:])]))
    refused(command("compare", out, other), "is not the same in")
    other.write_text("".join([changed(lines[0], benchmark="mlvu"), *lines[1:]]))
    refused(command("compare", out, other), "not of the same benchmark")
    refused(command("inspect", out, "--id", "99"), "no row is of the question 99")


def test_asking_again_tells_no_list_from_a_tuple(command: Command, tmp_path: Path) -> None:
    """Turns of a proactive question are lists in a file, tuples where they come from."""
    asked = {"task_type": "Proactive Output", "question": "Say go.", "time_stamp": "00:00:01"}
    asked |= {"ground_truth_time_stamp": "00:00:02", "ground_truth_output": "go"}
    folder = tmp_path / "data"
    (folder / "videos").mkdir(parents=True)
    (folder / "questions_proactive_50.json").write_text(
        json.dumps([{"video_path": "./videos/sample_1_proactive.mp4", "questions": [asked]}])
    )
    make_clip(folder / "videos/sample_1_proactive.mp4", steady(SECONDS, RATE), rate=RATE)
    out = tmp_path / "rows.jsonl"
    given = ("--data", folder, "--partial")
    assert command("eval", "streaming_bench", *given, "--no-baselines", "--mode", "window", "--out", out)[0] == 0
    code, said, _ = command("inspect", out, "--id", "sample_1_proactive_1", "--model", "mini", *given)
    assert code == 0
    assert "asked again   the same answer" in said


def test_the_tolerant_reading_is_over_what_has_one() -> None:
    benchmark = load("egoschema", full=True)
    options = ("a", "b", "c", "d", "e")
    examples = [Example(str(i), "v", "subset" if i else "rest", "Q?", options, i or None) for i in range(3)]
    rows = [Row.graded(benchmark, e, "window", "B") for e in examples]
    found = tolerant(rows)
    assert found is not None
    assert (found.value, found.n, found.rows) == (0.5, 2, 3)
