"""MLVU: files of invented rows in the published format, and the published ones where they are at hand."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from weavetime.errors import DataError
from weavetime.eval import Example, Grade, load
from weavetime.eval.benchmarks.mlvu import FILES, MLVU

AWKWARD = ["(B) x", " C", "The answer is C.", "b", "A/B", "", None, "Not sure", "1 2", "yes", ["B"], 3, "B", "B) tea"]


def row(**changes: Any) -> dict[str, Any]:
    """One row in the format of the published files."""
    return {
        "video": "invented_1.mp4",
        "duration": 251.5,
        "question": "What does the baker hold?",
        "candidates": ["A loaf", "A tray", "A spoon", "A cat"],
        "answer": "A tray",
        "question_type": "plotQA",
    } | changes


def write(folder: Path, rows: list[dict[str, Any]], stem: str = "1_plotQA") -> Path:
    (folder / f"{stem}.json").write_text(json.dumps(rows))
    return folder


def only(folder: Path, **changes: Any) -> Example:
    [found] = MLVU().examples(write(folder, [row(**changes)]), partial=True)
    return found


def test_a_row_as_published(tmp_path: Path) -> None:
    found = only(tmp_path)
    assert found.id == "plotQA/0"
    assert found.task == "plotQA"
    assert found.video == "1_plotQA/invented_1.mp4"
    assert found.options == ("A loaf", "A tray", "A spoon", "A cat")
    assert (found.gold, found.at, found.span, found.evidence) == ("B", None, None, ())
    assert MLVU().videos(tmp_path, found)[0] == tmp_path / "videos" / "1_plotQA" / "invented_1.mp4"
    assert MLVU().videos(tmp_path, found)[1] == tmp_path / "video" / "1_plotQA" / "invented_1.mp4"


def test_every_task_reads_its_own_file(tmp_path: Path) -> None:
    for stem, kind in FILES.values():
        write(tmp_path, [row(question_type=kind)], stem)
    found = MLVU().examples(tmp_path, partial=True)
    assert [e.task for e in found] == list(MLVU.counts)
    assert [e.video.partition("/")[0] for e in found] == [stem for stem, _ in FILES.values()]


def test_files_in_the_folders_of_the_repository_and_the_data_set(tmp_path: Path) -> None:
    for name in ("data", "json"):
        folder = tmp_path / name
        (folder / name).mkdir(parents=True)
        write(folder / name, [row()])
        assert len(MLVU().examples(folder, partial=True)) == 1


def test_prompt_and_prefill(tmp_path: Path) -> None:
    found = only(tmp_path)
    assert MLVU().prompt(found) == (
        "Carefully watch this video and pay attention to every detail. Based on your observations, select the best "
        "option that accurately addresses the question.\n"
        "Question: What does the baker hold?\nOptions:\n(A) A loaf\n(B) A tray\n(C) A spoon\n(D) A cat\n"
        "Only give the best option."
    )
    assert MLVU().decoding(found).prefix == "Best Option: ("
    assert MLVU().decoding(found).temperature == 0


def test_prompt_strips_only_the_end_of_the_options(tmp_path: Path) -> None:
    found = only(tmp_path, candidates=["", "x ", "", ""], answer="x ")
    assert "Options:\n(A) \n(B) x \n(C) \n(D)\nOnly give" in MLVU().prompt(found)


@pytest.mark.parametrize(
    ("candidates", "gold"),
    [
        (["tray", "cup", "tray", "pan"], "C"),  # the last of duplicates
        (["cup", "pan", "jar", "mug"], "@"),  # not listed: before "A"
        (["cup", "tray"], "B"),
        (["a", "b", "c", "d", "e", "f", "tray"], "G"),
    ],
)
def test_gold_is_the_last_equal_candidate(tmp_path: Path, candidates: list[str], gold: str) -> None:
    assert only(tmp_path, candidates=candidates, answer="tray").gold == gold


@pytest.mark.parametrize(
    ("response", "right"),
    list(zip(AWKWARD, [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1], strict=True)),
)
def test_official_rule_where_b_is_right(tmp_path: Path, response: Any, right: int) -> None:
    assert MLVU().grade(only(tmp_path), response) == Grade(float(right), counted=True)


@pytest.mark.parametrize(
    ("response", "parsed"),
    [("(B) or (C)", "B"), ("xB)", "B"), ("B )", " "), (")B", ""), ("B\n", "B\n"), ("option B", "option B")],
)
def test_what_the_rule_reads(tmp_path: Path, response: str, parsed: str) -> None:
    grade = MLVU().grade(only(tmp_path), response)
    assert (grade.parsed, grade.task, grade.value) == (parsed, "plotQA", float(parsed == "B"))


def test_no_letter_is_right_where_the_answer_is_not_listed(tmp_path: Path) -> None:
    found = only(tmp_path, answer="A broom")
    assert not any(MLVU().grade(found, said).value for said in [*"ABCDE", "A)", *AWKWARD])


def test_tolerant_is_another_column(tmp_path: Path) -> None:
    found = only(tmp_path)
    assert [MLVU().tolerant(found, said) for said in ("b", "The answer is B.", "a tray", "A/B", None)] == [
        1,
        1,
        1,
        0,
        0,
    ]
    assert MLVU().grade(found, "b").value == 0


def test_total_is_the_mean_of_tasks() -> None:
    grades = [Grade(1.0, task="plotQA")] * 3 + [Grade(0.0, task="plotQA"), Grade(0.0, task="order")]
    summary = MLVU().summarize(grades)
    assert (summary.total, summary["M-Avg"]) == ("M-Avg", 0.375)
    assert (summary["plotQA"], summary["order"]) == (0.75, 0.0)
    assert (summary.score("plotQA").n, summary.score("M-Avg").n) == (4, 5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"candidates": []}, "'candidates' is \\[\\]"),
        ({"candidates": ["x", 3]}, "list of texts"),
        ({"candidates": "ABCD"}, "must be list"),
        ({"answer": 2}, "'answer' is 2"),
        ({"duration": 0}, "0 s"),
        ({"duration": "251"}, "must be int or float"),
        ({"question_type": "ego"}, "'question_type' is 'ego'"),
        ({"video": ""}, "'video' is empty"),
    ],
)
def test_a_bad_field_is_named_with_file_and_row(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    write(tmp_path, [row(), row(**changes)])
    with pytest.raises(DataError, match=rf"1_plotQA\.json, row 1: .*{said}"):
        MLVU().examples(tmp_path, partial=True)


def test_a_missing_field_file_or_row(tmp_path: Path) -> None:
    short = row()
    del short["answer"]
    with pytest.raises(DataError, match="row 0: 'answer' is missing"):
        MLVU().examples(write(tmp_path, [short]), partial=True)
    with pytest.raises(DataError, match=r"holds no 2_needle\.json"):
        MLVU().examples(write(tmp_path, [row()]))
    for stem, kind in FILES.values():
        write(tmp_path, [row(question_type=kind)], stem)
    with pytest.raises(DataError, match="plotQA: 1 of 539"):
        MLVU().examples(tmp_path)
    (tmp_path / "1_plotQA.json").write_text("{}")
    with pytest.raises(DataError, match="must hold a list"):
        MLVU().examples(tmp_path, partial=True)


@pytest.mark.fixtures
def test_published(published: Path) -> None:
    found = MLVU().examples(published / "mlvu")
    assert Counter(e.task for e in found) == MLVU.counts
    assert sum(MLVU.counts.values()) == len(found) == 2175
    assert load("mlvu").name == "mlvu"
    unlisted = [e for e in found if e.gold == "@"]
    assert sorted(e.video for e in unlisted) == ["2_needle/needle_4.mp4", "2_needle/needle_5.mp4"]
    twice = {e.video: e.gold for e in found if e.options.count(e.extra["answer"]) > 1}
    assert twice == {
        "1_plotQA/movie101_21.mp4": "C",
        "1_plotQA/en_tv_10.mp4": "C",
        "1_plotQA/movie101_60.mp4": "D",
        "6_anomaly_reco/surveil_6.mp4": "D",
        "7_topic_reasoning/movie101_89.mp4": "D",
        "7_topic_reasoning/ego_11.mp4": "D",
    }
    best = MLVU().summarize(MLVU().grade(e, e.gold if e.gold != "@" else "A") for e in found)
    assert best["needle"] == pytest.approx(353 / 355)
    assert best["M-Avg"] == pytest.approx((6 + 353 / 355) / 7)
