"""ActivityNet-QA: invented rows in the published format, and the published files where they are at hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from weavetime.errors import DataError
from weavetime.eval import Example, Grade
from weavetime.eval.benchmarks.activitynet_qa import TYPES, ActivityNetQA

BENCH = ActivityNetQA()


def write(folder: Path, asked: list[dict[str, Any]] | None = None, told: list[dict[str, Any]] | None = None) -> Path:
    asked = asked or [{"video_name": "Q-1", "question": "what is on the table ", "question_id": "v_Q-1_1"}]
    told = [{"answer": "bread", "type": 5, "question_id": "v_Q-1_1"}] if told is None else told
    (folder / "test_q.json").write_text(json.dumps(asked))
    (folder / "test_a.json").write_text(json.dumps(told))
    return folder


def only(folder: Path) -> Example:
    [found] = BENCH.examples(write(folder), partial=True)
    return found


def test_a_row_as_published(tmp_path: Path) -> None:
    found = only(tmp_path)
    assert (found.id, found.video, found.task) == ("v_Q-1_1", "v_Q-1.mp4", "object")
    assert (found.question, found.options, found.gold) == ("what is on the table ", (), "bread")
    assert BENCH.prompt(found) == "What is on the table?"
    assert BENCH.question(found).text == "What is on the table?"
    assert BENCH.question(found).query == ""
    assert BENCH.spans(found) == ((0.0, math.inf),)
    assert BENCH.open_answers


def test_videos_in_any_format(tmp_path: Path) -> None:
    places = BENCH.videos(tmp_path, only(tmp_path))
    assert places[0] == tmp_path / "videos" / "v_Q-1.mp4"
    assert {p.suffix for p in places} >= {".mp4", ".mkv", ".webm"}
    assert {p.stem for p in places} == {"v_Q-1"}


@pytest.mark.parametrize(
    ("response", "value", "tolerant"),
    [
        ("bread", 1, 1),
        ("Bread", 0, 1),
        (" bread", 0, 1),
        ("bread.", 0, 1),
        ("The answer is bread.", 0, 0),
        ("", 0, 0),
        (None, 0, 0),
        (["bread"], 0, 0),
        (3, 0, 0),
        ("yes", 0, 0),
    ],
)
def test_the_rule(tmp_path: Path, response: Any, value: float, tolerant: float) -> None:
    grade = BENCH.grade(only(tmp_path), response)
    assert (grade.value, grade.counted, grade.task) == (value, True, "object")
    assert BENCH.tolerant(only(tmp_path), response) == tolerant


def test_the_totals() -> None:
    grades = [
        Grade(1.0, task="motion"),
        Grade(0.0, task="temporal"),
        Grade(1.0, task="yes/no"),
        Grade(1.0, task="color"),
    ]
    summary = BENCH.summarize(grades)
    assert list(summary) == ["motion", "temporal", "yes/no", "color", "free", "free as printed", "all"]
    assert (summary.total, summary["all"], summary["free"]) == ("all", 0.75, 1.0)
    # yes/no comes among the first three types of the file: eval.py leaves it out below, and motion, temporal stay
    assert summary["free as printed"] == pytest.approx(2 / 3)


def test_the_judges_figures_where_there_was_one() -> None:
    parts = [{"judge": 1.0, "judge_score": 5.0}, {"judge": 0.0, "judge_score": 2.0}, {"judge_unread": 1.0}]
    summary = BENCH.summarize(Grade(0.0, task="other", parts=p) for p in parts)
    assert summary["judge"] == 0.5
    assert summary["judge_score/5"] == pytest.approx(0.7)
    assert (summary.score("judge").n, summary.score("judge").rows) == (2, 3)
    assert "judge" not in BENCH.summarize([Grade(0.0, task="other")])


QUESTION = {"video_name": "Q-1", "question": "what is it", "question_id": "v_Q-1_1"}


@pytest.mark.parametrize(
    ("asked", "told", "said"),
    [
        (None, [{"answer": "bread", "type": 9, "question_id": "v_Q-1_1"}], "from 0 to 8"),
        (None, [{"answer": "bread", "type": "5", "question_id": "v_Q-1_1"}], "'type'"),
        (None, [{"answer": "", "type": 5, "question_id": "v_Q-1_1"}], "'answer' is empty"),
        (None, [{"type": 5, "question_id": "v_Q-1_1"}], "'answer' is missing"),
        (None, [], "has no answer"),
        ([QUESTION, QUESTION], None, "came before"),
        ([{"video_name": "Q-1", "question_id": "v_Q-1_1"}], None, "'question' is missing"),
    ],
)
def test_rows_that_are_not_as_published(tmp_path: Path, asked: Any, told: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        BENCH.examples(write(tmp_path, asked, told), partial=True)


def test_answers_without_a_question_and_a_missing_file(tmp_path: Path) -> None:
    told = [{"answer": "a", "type": 5, "question_id": i} for i in ("v_Q-1_1", "v_Q-1_2")]
    assert len(BENCH.examples(write(tmp_path, None, told), partial=True)) == 1
    with pytest.raises(DataError, match="no such question"):
        BENCH.examples(tmp_path)
    (tmp_path / "test_a.json").unlink()
    with pytest.raises(DataError, match=r"test_a\.json"):
        BENCH.examples(tmp_path)


def test_all_rows_unless_partial_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="motion: 0 of 800"):
        BENCH.examples(write(tmp_path))


@pytest.mark.fixtures
def test_the_published_files(published: Path) -> None:
    found = BENCH.examples(published / "activitynet_qa")
    assert len(found) == 8000
    assert len({e.video for e in found}) == 800
    summary = BENCH.summarize(BENCH.grade(e, e.gold) for e in found)
    assert all(summary[task] == 1.0 for task in (*TYPES, "free", "all"))
    printed = summary.score("free as printed")
    assert (printed.n, printed.value) == (4021, pytest.approx(5600 / 4021))


@pytest.mark.fixtures
def test_the_prompt_is_rekvs(published: Path) -> None:
    asked = {(e.video, BENCH.prompt(e)) for e in BENCH.examples(published / "activitynet_qa")}
    converted = json.loads((published / "activitynet_qa" / "rekv_test_sample.json").read_text())
    found = [(f"{v['video_id']}.mp4", c["question"]) for v in converted for c in v["conversations"]]
    assert len(found) == 20
    assert set(found) <= asked
