"""VidHalluc: invented rows in the format that its own code reads, and in WeaveTime's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from weavetime.errors import DataError
from weavetime.eval import Example, Grade
from weavetime.eval.benchmarks.vidhalluc import VidHalluc

BENCH = VidHalluc()
TEXTS = ("slicing bread", "washing a cup", "feeding the cat", "none of these")
MISSING = object()


def write(folder: Path, found: Any, name: str = "ach_mcq.json") -> Path:
    (folder / name).write_text(json.dumps(found))
    return folder


def question(**changes: Any) -> dict[str, Any]:
    found = {"Question": "Which actions are shown?", "Choices": dict(zip("ABCD", TEXTS, strict=True))}
    found |= {"Correct Answer": "AC"} | {key.replace("_", " "): value for key, value in changes.items()}
    return {key: value for key, value in found.items() if value is not MISSING}


def only(folder: Path, **changes: Any) -> Example:
    [found] = BENCH.examples(write(folder, {"12": {"x_clip_2": question(**changes)}}))
    return found


def test_a_row_of_the_official_form(tmp_path: Path) -> None:
    found = only(tmp_path)
    assert (found.id, found.video, found.gold, found.options) == ("12/x_clip_2", "x_clip_2.mp4", "AC", TEXTS)
    assert BENCH.videos(tmp_path, found)[0] == tmp_path / "data" / "ACH" / "x_clip_2.mp4"
    assert tmp_path / "videos" / "x_clip_2.mp4" in BENCH.videos(tmp_path, found)
    assert BENCH.unverified


def test_the_prompt_is_the_official_one(tmp_path: Path) -> None:
    assert BENCH.prompt(only(tmp_path)) == (
        "Which actions are shown? Please select the correct answer (one or more options), only return your answer(s). "
        "(e.g., ABCD)\nChoices:\nA. slicing bread\nB. washing a cup\nC. feeding the cat\nD. none of these\n"
    )


@pytest.mark.parametrize("gold", ["AC", "CA", "A, C", " a/c "])
def test_the_answer_is_a_set(tmp_path: Path, gold: str) -> None:
    assert only(tmp_path, Correct_Answer=gold).gold == "AC"


@pytest.mark.parametrize(
    ("response", "value", "tolerant"),
    [
        ("A, C", 1, 1),
        ("C and A", 1, 1),
        ("(A) x (C) y", 1, 1),
        ("A", 0, 0),
        ("A, B, C", 0, 0),
        ("AC", 1, 1),
        ("CA", 1, 1),
        ("ABC", 0, 0),
        ("a, c", 0, 1),
        ("A/C", 1, 1),
        ("", 0, 0),
        (None, 0, 0),
        ("Not sure", 0, 0),
        ("yes", 0, 0),
        ("1 2", 0, 0),
        (["A", "C"], 0, 0),
        ("b" * 5000 + "!", 0, 0),
    ],
)
def test_the_rule(tmp_path: Path, response: Any, value: float, tolerant: float) -> None:
    grade = BENCH.grade(only(tmp_path), response)
    assert (grade.value, grade.counted, grade.task) == (value, True, "ach_mcq")
    assert BENCH.tolerant(only(tmp_path), response) == tolerant


def test_an_options_words_stand_for_it_alone(tmp_path: Path) -> None:
    one = only(tmp_path, Correct_Answer="B")
    assert BENCH.grade(one, "They are Washing a cup.").value == 1.0
    assert BENCH.grade(one, "washing a cup, slicing bread").value == 0.0  # the first option in their order
    assert BENCH.grade(only(tmp_path), "slicing bread and feeding the cat").value == 0.0
    assert BENCH.grade(one, "A hand washing a cup").value == 0.0  # the article is a letter


def test_the_total() -> None:
    summary = BENCH.summarize([Grade(1.0, task="ach_mcq"), Grade(0.0, task="ach_mcq")])
    assert (summary.total, summary["accuracy"]) == ("accuracy", 0.5)


@pytest.mark.parametrize(
    "changes",
    [
        {"Correct_Answer": "E"},
        {"Correct_Answer": ""},
        {"Correct_Answer": MISSING},
        {"Choices": {}},
        {"Choices": {"A": "x"}},
        {"Choices": {"A": "x", "AB": "y"}},
        {"Choices": {"A": "x", "E": "y"}},
        {"Choices": {"A": "x", "B": 3}},
        {"Choices": ["x", "y"]},
        {"Choices": {"A": "x", "B": "y"}},  # the answer is AC
        {"Question": MISSING},
    ],
)
def test_a_row_that_is_not_official(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="group 12, clip x_clip_2"):
        only(tmp_path, **changes)


@pytest.mark.parametrize("found", [[], {}, 3, {"12": []}, {"12": {"x": []}}, [{"q": 1}]])
def test_what_is_neither_form_is_refused(tmp_path: Path, found: Any) -> None:
    with pytest.raises(DataError):
        BENCH.examples(write(tmp_path, found))


def converted(**changes: Any) -> list[dict[str, Any]]:
    asked = {"question": "Which action?", "choices": list(TEXTS), "answer": TEXTS[1]} | changes
    return [{"video_id": "x_clip_2", "video_path": "/there/x_clip_2.mp4", "conversations": [asked]}] * 2


def test_the_converted_form(tmp_path: Path) -> None:
    found = BENCH.examples(write(tmp_path, converted(), "ach_mcq_rekv.json"))
    assert [e.id for e in found] == ["x_clip_2/0.0", "x_clip_2/1.0"]
    assert (found[0].gold, found[0].options, found[0].video) == ("B", TEXTS, "x_clip_2.mp4")


@pytest.mark.parametrize("changes", [{"answer": "another"}, {"choices": []}, {"choices": [TEXTS[1]]}])
def test_a_converted_row_that_is_not_one(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="row 0, conversations 0"):
        BENCH.examples(write(tmp_path, converted(**changes), "ach_mcq_rekv.json"))


@pytest.mark.fixtures
def test_converted_rows_as_published(tmp_path: Path, published: Path) -> None:
    sample = (published / "vidhalluc" / "weavetime_ach_mcq_sample.json").read_bytes()
    (tmp_path / "ach_mcq_rekv.json").write_bytes(sample)
    found = BENCH.examples(tmp_path)
    assert len(found) == 16
    assert all(BENCH.grade(e, e.gold).value == 1.0 for e in found)
