"""CG-Bench: invented rows in the published format, and published ones where they are at hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from weavetime.errors import DataError
from weavetime.eval import Example, Grade, load
from weavetime.eval.benchmarks.cg_bench import CGBench

CLUES = CGBench(metric="clue_acc")
OVERLAP = CGBench(metric="miou")


def row(**changes: Any) -> dict[str, Any]:
    return {
        "qid": 7,
        "video_uid": "abc-1",
        "question": "What does the baker lift first?",
        "answer": "A tray",
        "choices": ["A loaf", "A spoon", "A tray", "A cat", "A cup"],
        "right_answer": "C",
        "clue_intervals": [[40, 50.5], [10, 20], [15, 30]],
        "domain": "Life Record",
        "sub_category": "Event Perception",
        "duration": 900,
    } | changes


def write(folder: Path, *rows: Any) -> Path:
    (folder / "cgbench_mini.json").write_text(json.dumps(rows))
    return folder


def only(folder: Path, **changes: Any) -> Example:
    [found] = CGBench().examples(write(folder, row(**changes)), partial=True)
    return found


def block(result: str) -> str:
    return f'Here:\n```json\n{{"result": {result}}}\n```\nDone.'


def test_a_row_as_published(tmp_path: Path) -> None:
    found = only(tmp_path)
    assert (found.id, found.video, found.task, found.gold) == ("7", "abc-1.mp4", "Event Perception", "C")
    assert (found.at, found.span) == (None, None)
    assert found.evidence == ((40.0, 50.5), (10.0, 20.0), (15.0, 30.0))
    assert found.extra["domain"] == "Life Record"
    assert CGBench().spans(found) == OVERLAP.spans(found) == ((0.0, math.inf),)


def test_only_the_clues_are_visible_in_time_order_and_once(tmp_path: Path) -> None:
    assert CLUES.spans(only(tmp_path)) == ((10.0, 30.0), (40.0, 50.5))


def test_the_prompts_are_the_official_ones(tmp_path: Path) -> None:
    found = only(tmp_path)
    asked = "Question: What does the baker lift first?\n\nA:A loaf\nB:A spoon\nC:A tray\nD:A cat\nE:A cup\n\n"
    whole, clue, grounding = (bench.prompt(found) for bench in (CGBench(), CLUES, OVERLAP))
    for said in (whole, clue, grounding):
        assert said.startswith("You will be provided with ")
        assert said.endswith(asked)
    assert '```json\n{"result": "option"}\n```\n\nThe "option" is the uppercase letter' in whole
    assert "The 'option' is the uppercase letter" in clue
    assert '{"result": [[start1, end1], [start2, end2], ...]}' in grounding


@pytest.mark.parametrize(
    ("response", "value", "counted"),
    [
        (block('"C"'), 1, True),
        (block("C"), 1, True),  # the rule puts the quotes
        (block('"c"'), 0, True),
        (block('"C. A tray"'), 0, True),
        (block('["C"]'), 0, True),
        (block("null"), 0, True),
        ('```json\n{"result":null}\n```', 0, True),
        ('```json\n{"answer": "B"}\n``` so C', 1, True),  # no result: letters of the whole reply
        ('```json\n{"result": "B"', 0, True),  # no end of the block
        ("```json\n```", 0, False),
        ("(C) x", 1, True),
        (" C", 1, True),
        ("The answer is C.", 1, True),
        ("c", 0, False),
        ("A/B", 0, True),
        ("B or C", 1, True),  # any letter that stands alone
        ("A tray", 0, True),
        ("I", 0, False),
        ("", 0, False),
        (None, 0, False),
        ("Not sure", 0, False),
        ("1 2", 0, False),
        ("yes", 0, False),
        (["C"], 0, True),  # the script fails
        (3, 0, True),
        ([], 0, False),
    ],
)
def test_the_rule_for_letters(tmp_path: Path, response: Any, value: float, counted: bool) -> None:
    example = only(tmp_path)
    for bench in (CGBench(), CLUES):
        grade = bench.grade(example, response)
        assert (grade.value, grade.counted, grade.task) == (value, counted, "Event Perception")


@pytest.mark.parametrize(
    ("response", "miou", "counted"),
    [
        ([[10, 30], [40, 50.5]], 1.0, True),
        (((10, 20), (20, 30), (40, 50.5)), 1.0, True),
        (block("[[10, 30], [40, 50.5]]"), 1.0, True),
        (block("[[0, 30.5]]"), 20 / 41, True),
        (block("[[10, 30]] "), 20 / 30.5, True),
        (block("[]"), 0.0, True),
        (block("null"), 0.0, True),
        (block('"10 to 30"'), 20 / 30.5, True),  # no list: its numbers, in pairs
        (block("[[10, 20, 30]]"), 0.0, False),  # three numbers make no pairs
        ("from 10 to 30 and 40 to 50.5", 1.0, True),
        ("10-30", 0.0, True),  # read as 10 and -30
        ("10 20 15 30", 0.0, True),  # pairs that overlap: the script fails
        ("Not sure", 0.0, True),  # no number: no interval
        ("12", 0.0, False),
        ("", 0.0, False),
        (None, 0.0, False),
        ([], 0.0, True),
        (["C"], 0.0, True),
        (5, 0.0, True),
        ([[math.nan, 3]], 0.0, True),
    ],
)
def test_the_rule_for_overlap(tmp_path: Path, response: Any, miou: float, counted: bool) -> None:
    grade = OVERLAP.grade(only(tmp_path), response)
    assert grade.value == pytest.approx(miou)
    assert grade.counted == counted
    assert grade.parts["miou"] == grade.value


def test_recall_at_the_thresholds(tmp_path: Path) -> None:
    grade = OVERLAP.grade(only(tmp_path), [[0, 30.5]])  # 0.488
    assert [grade.parts[f"rec@{t}"] for t in (0.1, 0.2, 0.3, 0.4, 0.5)] == [1, 1, 1, 1, 0]
    assert grade.parts["rec@iou"] == pytest.approx(0.8)


def test_the_totals_leave_out_what_was_not_read() -> None:
    grades = [Grade(1.0, task="b"), Grade(0.0, task="a"), Grade(0.0, counted=False, task="a")]
    summary = CGBench().summarize(grades)
    assert summary.total == "long_acc"
    assert list(summary) == ["a", "b", "long_acc"]
    assert summary["long_acc"] == 0.5
    assert (summary.score("long_acc").n, summary.score("long_acc").rows) == (2, 3)
    assert CLUES.summarize(grades).total == "clue_acc"


def test_the_totals_of_overlap(tmp_path: Path) -> None:
    example = only(tmp_path)
    summary = OVERLAP.summarize(OVERLAP.grade(example, r) for r in ([[10, 30], [40, 50.5]], [[0, 30.5]], "12"))
    assert summary["miou"] == pytest.approx((1 + 20 / 41) / 2)
    assert summary["rec@iou"] == pytest.approx(0.9)
    assert summary["rec@0.5"] == 0.5
    assert summary.total == "miou"


def test_a_lenient_reader_is_a_second_column(tmp_path: Path) -> None:
    example = only(tmp_path)
    assert CGBench().tolerant(example, "c") == 1.0
    assert CGBench().tolerant(example, block('"C"')) == 1.0
    assert CGBench().tolerant(example, "B or C") == 0.0
    assert CGBench().tolerant(example, None) == 0.0
    assert OVERLAP.tolerant(example, "12") is None


@pytest.mark.parametrize(
    "changes",
    [
        {"right_answer": "F"},
        {"right_answer": "CD"},
        {"right_answer": 2},
        {"choices": []},
        {"choices": ["A loaf"]},
        {"choices": "A loaf"},
        {"clue_intervals": []},
        {"clue_intervals": [["00:10", "00:20"]]},
        {"clue_intervals": [[20, 10]]},
        {"duration": 0},
        {"qid": "7"},
        {"sub_category": None},
    ],
)
def test_a_row_that_is_not_as_published(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"cgbench_mini\.json, row 0"):
        only(tmp_path, **changes)


def test_a_missing_field_and_another_version(tmp_path: Path) -> None:
    short = row()
    del short["clue_intervals"]
    with pytest.raises(DataError, match="clue_intervals"):
        CGBench().examples(write(tmp_path, short), partial=True)
    (tmp_path / "cgbench_mini.json").write_text(json.dumps({"data": []}))
    with pytest.raises(DataError, match="list"):
        CGBench().examples(tmp_path, partial=True)


def test_all_3000_questions_unless_partial_is_said(tmp_path: Path) -> None:
    write(tmp_path, *(row(qid=i) for i in range(2999)))
    with pytest.raises(DataError, match="total: 2999 of 3000"):
        CGBench().examples(tmp_path)
    write(tmp_path, *(row(qid=i) for i in range(3000)))
    assert len(CGBench().examples(tmp_path)) == 3000
    write(tmp_path, *(row(qid=i % 2999) for i in range(3000)))
    with pytest.raises(DataError, match="stands 2 times"):
        CGBench().examples(tmp_path)


def test_a_metric_that_there_is_not() -> None:
    with pytest.raises(DataError, match="long_acc, clue_acc, miou"):
        load("cg_bench", metric="open")


@pytest.mark.fixtures
def test_published_rows(tmp_path: Path, published: Path) -> None:
    (tmp_path / "cgbench_mini.json").write_bytes((published / "cgbench" / "sample.json").read_bytes())
    found = CGBench().examples(tmp_path, partial=True)
    assert len(found) == 17
    for example in found:
        assert example.options[ord(example.gold) - ord("A")] == example.extra["answer"]
        assert CGBench().grade(example, block(f'"{example.gold}"')).value == 1.0
        assert OVERLAP.grade(example, [list(span) for span in example.evidence]).value == pytest.approx(1.0)
