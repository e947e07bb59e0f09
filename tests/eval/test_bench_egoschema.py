"""EgoSchema: files of invented rows in the published format, and the published ones where they are at hand."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from weavetime.cli import main
from weavetime.errors import DataError
from weavetime.eval import Example, Grade, Row, load
from weavetime.eval.benchmarks.egoschema import EgoSchema, parse, submission
from weavetime.eval.scoring import write_rows

OPTIONS = (
    "C folds the map along its edge.",
    "C tears the map into strips.",
    "The map is pinned to a cork board",
    "C hides the map inside a tall boot.",
    "Nobody touches the map at all.",
)


def row(uid: str = "u0", **changes: Any) -> dict[str, Any]:
    """One question in the published format."""
    options = {f"option {i}": option for i, option in enumerate(OPTIONS)}
    return {"q_uid": uid, "google_drive_id": "x", "question": "What becomes of the map?"} | options | changes


def write(folder: Path, rows: list[dict[str, Any]], answers: Any) -> Path:
    (folder / "questions.json").write_text(json.dumps(rows))
    (folder / "subset_answers.json").write_text(json.dumps(answers))
    return folder


def example(gold: int | None = 2) -> Example:
    return Example("u0", "u0.mp4", "rest" if gold is None else "subset", "What becomes of the map?", OPTIONS, gold)


def test_the_subset_and_all(tmp_path: Path) -> None:
    write(tmp_path, [row("u0"), row("u1"), row("u2")], {"u2": 4, "u0": 0})
    subset = EgoSchema().examples(tmp_path, partial=True)
    assert [(e.id, e.gold, e.task, e.video) for e in subset] == [
        ("u0", 0, "subset", "u0.mp4"),
        ("u2", 4, "subset", "u2.mp4"),
    ]
    assert subset[0].options == OPTIONS
    every = load("egoschema", full=True).examples(tmp_path, partial=True)
    assert [(e.id, e.gold, e.task) for e in every] == [("u0", 0, "subset"), ("u1", None, "rest"), ("u2", 4, "subset")]
    (tmp_path / "subset_answers.json").unlink()
    assert [e.gold for e in EgoSchema(full=True).examples(tmp_path, partial=True)] == [None] * 3
    with pytest.raises(DataError, match=r"holds no subset_answers\.json"):
        EgoSchema(full=True).examples(tmp_path)


def test_prompt() -> None:
    assert EgoSchema().prompt(example()) == (
        "What becomes of the map?\nA. C folds the map along its edge.\nB. C tears the map into strips.\n"
        "C. The map is pinned to a cork board\nD. C hides the map inside a tall boot.\n"
        "E. Nobody touches the map at all.\nAnswer with the option's letter from the given choices directly."
    )
    assert (EgoSchema().decoding(example()).max_tokens, EgoSchema().decoding(example()).prefix) == (16, "")


@pytest.mark.parametrize(
    ("response", "index"),
    [
        ("C", 2),
        ("(B) x", 1),
        (" C", 2),
        ("The answer is C.", 2),
        ("E.", 4),
        ("b", None),
        ("A/B", 1),  # "B " is found once the reply is padded, "A " is not
        ("", None),
        (None, None),
        ("Not sure", None),
        ("1 2", None),
        ("yes", None),
        (["C"], None),
        (2, None),
        ("C picks A", 2),  # of two, the one that stands first
        ("A and then C and A", 2),  # by the last time each stands: C before A
        ("D. C hides the map inside a tall boot.", 3),
        ("the CIA is there", 0),  # "A " inside a word
        ("C hides the map inside a tall boot.", 2),  # the camera wearer is read as option C
        ("'D'", 3),
        ("D,.", None),  # each mark once, "," before ".": what is left is "D,"
        (".,D", 3),
        ("it is e. nobody touches the map at all. really", 4),  # a whole line, in lower case
        ("it is e. nobody touches the map at all.", None),  # its full stop is stripped from the reply's end
        ("c. the map is pinned to a cork board", 2),
        ("nobody touches the map at all, I think", None),  # without its letter it is no line
        ("e. nobody touches it", None),
    ],
)
def test_lmms_evals_rule(response: Any, index: int | None) -> None:
    assert parse(response, OPTIONS) == index
    for gold in range(5):
        grade = EgoSchema().grade(example(gold), response)
        assert grade == Grade(float(index == gold), counted=True)
        assert (grade.parsed, grade.task) == (index, "subset")


def test_what_has_no_gold_is_not_counted() -> None:
    found = EgoSchema(full=True).grade(example(None), "C")
    assert (found.counted, found.value, found.parsed) == (False, 0.0, 2)
    assert EgoSchema().tolerant(example(None), "C") is None
    assert [EgoSchema().tolerant(example(), x) for x in ("c", "The map is pinned to a cork board.", "C picks")] == [
        1,
        1,
        0,
    ]


def test_figures() -> None:
    benchmark = EgoSchema(full=True)
    grades = [benchmark.grade(example(2), "C"), benchmark.grade(example(1), "C"), benchmark.grade(example(None), "C")]
    summary = benchmark.summarize(grades)
    assert (summary.total, summary["subset"], summary["full"]) == ("subset", 0.5, None)
    assert (summary.score("subset").n, summary.score("full").n, summary.score("full").rows) == (2, 0, 3)
    assert list(EgoSchema().summarize(grades[:2])) == ["subset"]


def test_submission() -> None:
    first, second = example(2), Example("u1", "u1.mp4", "rest", "?", OPTIONS, None)
    assert submission([(first, "C"), (second, "(E)")]) == {"u0": 2, "u1": 4}
    assert submission([(first, ""), (second, "(E)")], fill=1) == {"u0": 1, "u1": 4}
    with pytest.raises(DataError, match="1 of 2 responses name no option, the first that of u1"):
        submission([(first, "C"), (second, "dunno")])
    with pytest.raises(DataError, match="stands twice"):
        submission([(first, ""), (first, "C")])
    with pytest.raises(DataError, match="from 0 to 4"):
        submission([], fill=5)


@pytest.mark.parametrize(
    ("rows", "answers", "said"),
    [
        ([row() | {"option 3": None}], {"u0": 1}, r"questions.json, row 0: 'option 3' is None"),
        ([{"q_uid": "u0"}], {"u0": 1}, "'question' is missing"),
        ([row()], {"u0": 5}, "the answer of u0 is 5"),
        ([row()], {"u0": "1"}, "'u0' is '1'"),
        ([row()], {"u0": True}, "'u0' is True"),
        ([row()], [1], "must be an object"),
        ([row()], {}, "holds no question"),
        ([row(), row()], {"u0": 1}, "stands 2 times"),
    ],
)
def test_bad_files(tmp_path: Path, rows: list[dict[str, Any]], answers: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        EgoSchema().examples(write(tmp_path, rows, answers), partial=True)


def test_counts(tmp_path: Path) -> None:
    rows, answers = [row(f"u{i}") for i in range(5031)], {f"u{i}": i % 5 for i in range(500)}
    write(tmp_path, rows, answers)
    assert len(EgoSchema().examples(tmp_path)) == 500
    assert len(EgoSchema(full=True).examples(tmp_path)) == 5031
    write(tmp_path, rows[:-1], answers)
    with pytest.raises(DataError, match="rest: 4530 of 4531"):
        EgoSchema(full=True).examples(tmp_path)
    write(tmp_path, rows, dict(list(answers.items())[1:]))
    with pytest.raises(DataError, match="subset: 499 of 500"):
        EgoSchema().examples(tmp_path)


@pytest.mark.fixtures
def test_published(published: Path, tmp_path: Path) -> None:
    folder = published / "egoschema"
    answers = json.loads((folder / "subset_answers.json").read_text())
    uids = list(json.loads((folder / "uid_to_ego4d.json").read_text()))
    rows = {uid: row(uid) for uid in uids}
    for told in json.loads((folder / "flashvstream_subset500_qa.json").read_text()):  # another project's format
        _, asked, *options, _ = told["question"].split("\n")
        texts = {f"option {i}": option.partition(") ")[2] for i, option in enumerate(options)}
        rows[told["video_id"]] = row(told["video_id"], question=asked.removeprefix("Question: "), **texts)
    for told in json.loads((folder / "questions_sample.json").read_text()):
        rows[told["q_uid"]] = told
    write(tmp_path, list(rows.values()), answers)

    benchmark = load("egoschema")
    found = benchmark.examples(tmp_path)
    assert len(found) == 500
    assert Counter(e.gold for e in found) == {0: 101, 1: 108, 2: 91, 3: 83, 4: 117}
    assert benchmark.summarize(benchmark.grade(e, "A") for e in found)["subset"] == pytest.approx(0.202)
    lines = {e.id: f"{'ABCDE'[e.gold]}. {e.options[e.gold]}" for e in found}
    right = benchmark.summarize(benchmark.grade(e, lines[e.id]) for e in found)["subset"]
    assert right is not None
    assert right > 0.95  # what a line says after its letter can name another

    every = load("egoschema", full=True)
    asked_all = every.examples(tmp_path)
    assert len(asked_all) == 5031
    summary = every.summarize(every.grade(e, "A") for e in asked_all)
    assert summary["subset"] == pytest.approx(0.202)
    assert summary["full"] is None
    sent = submission((e, "D") for e in asked_all)
    assert len(sent) == 5031
    assert set(sent.values()) == {3}


@pytest.mark.fixtures
def test_published_questions(published: Path, tmp_path: Path) -> None:
    text = (published / "egoschema" / "questions_sample.json").read_text()
    (tmp_path / "questions.json").write_text(text)
    found = EgoSchema(full=True).examples(tmp_path, partial=True)
    assert len(found) == 20
    assert all(e.gold is None and len(e.options) == 5 for e in found)


def test_the_command_writes_what_the_server_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = Example("u0", "u0.mp4", "subset", "Q?", ("a", "b", "c", "d", "e"), 2)
    rows = [Row.graded(EgoSchema(), example, "window", "C"), Row.graded(EgoSchema(), example, "blind", "D")]
    write_rows(tmp_path / "rows.jsonl", {"benchmark": "egoschema"}, rows)
    sent = tmp_path / "sent.json"
    command = ["weavetime", "score", "egoschema", str(tmp_path / "rows.jsonl"), "--submission", str(sent)]
    for code, words in ((0, ""), (1, "is there already")):
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as left:
            main()
        assert (left.value.code or 0) == code
        assert words in capsys.readouterr().err
    assert json.loads(sent.read_text()) == {"u0": 2}
    with pytest.raises(DataError, match="its answers are public"):
        load("mlvu").submission([])
