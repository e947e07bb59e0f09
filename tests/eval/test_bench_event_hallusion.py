"""EventHallusion: files of invented rows in the published format, and the published ones where they are at hand."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from weavetime.errors import DataError
from weavetime.eval import Example, Grade, load
from weavetime.eval.benchmarks.event_hallusion import EventHallusion

BENCHMARK = EventHallusion()


def clip(number: int = 1, *answers: str, split: str = "entire", **changes: Any) -> dict[str, Any]:
    """One clip in the published format, with a question for each answer."""
    return {
        "id": f"{split}_{number:03d}",
        "category": "invented",
        "length": "00:09",
        "event_info": {"object": ["robot"], "scene": "A yard.", "caption": "It rakes.", "bias": "It dances."},
        "questions": [
            {"type": "hallucination", "question": f"Does the robot dance {i} times?", "answer": answer}
            for i, answer in enumerate(answers or ("No.",))
        ],
    } | changes


def write(folder: Path, *clips: dict[str, Any], split: str = "entire") -> Path:
    (folder / f"{split}_questions.json").write_text(json.dumps(clips))
    return folder


def only(folder: Path, answer: str = "No.") -> Example:
    [found] = BENCHMARK.examples(write(folder, clip(1, answer)), partial=True)
    return found


def test_rows_as_published(tmp_path: Path) -> None:
    first, second = BENCHMARK.examples(write(tmp_path, clip(1, "No.", "Yes.", length=10)), partial=True)
    assert (first.id, first.video, first.task, first.gold) == ("entire_001/0", "entire/entire_001.mp4", "entire", "No")
    assert (second.id, second.gold, second.options) == ("entire_001/1", "Yes", ())
    assert (first.at, first.span) == (None, None)
    assert BENCHMARK.prompt(first) == "Does the robot dance 0 times?\nPlease answer yes or no:"
    assert BENCHMARK.decoding(first).prefix == ""


def test_files_in_the_folder_of_the_repository(tmp_path: Path) -> None:
    (tmp_path / "questions").mkdir()
    write(tmp_path / "questions", clip(split="misleading"), split="misleading")
    assert [e.task for e in BENCHMARK.examples(tmp_path, partial=True)] == ["misleading"]


@pytest.mark.parametrize(
    ("response", "parsed"),
    [
        ("Yes.", "Yes"),
        ("yes, it does", "Yes"),
        ("YES", "Yes"),
        ("Yesterday it did", "Yes"),
        ("No", "No"),
        ("no.", "No"),
        ("Not sure", "No"),
        ("Nothing of the kind", "No"),
        ("No, yes", "No"),
        (" No", None),
        ("\nYes", None),
        ('"No"', None),
        ("The answer is no.", None),
        ("(B) x", None),
        ("A/B", None),
        ("1 2", None),
        ("", None),
        (None, None),
        (["No."], None),
        (0, None),
    ],
)
def test_official_rule(tmp_path: Path, response: Any, parsed: str | None) -> None:
    for gold in ("Yes", "No"):
        grade = BENCHMARK.grade(only(tmp_path, f"{gold}."), response)
        assert grade == Grade(float(parsed == gold), counted=True)
        assert (grade.parsed, grade.task) == (parsed, "entire")


def test_tolerant_is_another_column(tmp_path: Path) -> None:
    found = only(tmp_path)
    assert [BENCHMARK.tolerant(found, x) for x in (" **No**, it rakes", '"No"', "Not sure", "", None)] == [
        1,
        1,
        0,
        0,
        0,
    ]


def test_figures() -> None:
    grades = [Grade(1.0, task="misleading"), Grade(0.0, task="entire"), Grade(1.0, task="entire")]
    summary = BENCHMARK.summarize(grades)
    assert list(summary) == ["entire", "misleading", "overall"]
    assert (summary.total, summary["entire"], summary["misleading"]) == ("overall", 0.5, 1.0)
    assert summary["overall"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("answer", ["No", "yes.", "Maybe.", ""])
def test_an_answer_of_another_form(tmp_path: Path, answer: str) -> None:
    with pytest.raises(DataError, match=r"entire_questions\.json, row 1, questions 0: .*answer"):
        BENCHMARK.examples(write(tmp_path, clip(1), clip(2, answer) | {"id": "entire_002"}), partial=True)


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no interleave_questions\.json"):
        BENCHMARK.examples(write(tmp_path, clip()))
    with pytest.raises(DataError, match="row 0: 'id' is missing"):
        BENCHMARK.examples(write(tmp_path, {"questions": [{"question": "?", "answer": "No."}]}), partial=True)
    with pytest.raises(DataError, match="the id entire_001/0 stands 2 times"):
        BENCHMARK.examples(write(tmp_path, clip(1), clip(1)), partial=True)
    for split in ("entire", "interleave", "misleading"):
        write(tmp_path, clip(split=split), split=split)
    with pytest.raises(DataError, match="entire: 1 of 114"):
        BENCHMARK.examples(tmp_path)


def test_another_version_under_the_same_counts(tmp_path: Path) -> None:
    gold = {"entire": "No.", "interleave": "Yes.", "misleading": "No."}
    for split, n in BENCHMARK.counts.items():
        write(tmp_path, *(clip(i, gold[split], split=split) for i in range(n)), split=split)
    assert len(BENCHMARK.examples(tmp_path)) == 409
    other = [clip(i, "No." if i < 56 else "Yes.", split="interleave") for i in range(193)]
    write(tmp_path, *other, split="interleave")
    with pytest.raises(DataError, match="56 answers are not as published"):
        BENCHMARK.examples(tmp_path)
    assert len(BENCHMARK.examples(tmp_path, partial=True)) == 409


@pytest.mark.fixtures
def test_published(published: Path) -> None:
    benchmark = load("event_hallusion")
    found = benchmark.examples(published / "eventhallusion")
    assert Counter(e.task for e in found) == {"entire": 114, "interleave": 193, "misleading": 102}
    assert len({e.video for e in found}) == 397
    no = benchmark.summarize(benchmark.grade(e, "No.") for e in found)
    assert (no["entire"], no["interleave"], no["misleading"]) == (1, 0, 1)
    assert no["overall"] == 216 / 409
    assert no.score("overall").n == 409


@pytest.mark.fixtures
def test_published_predictions(published: Path) -> None:
    folder = published / "eventhallusion"
    asked = {(e.task, e.id): e for e in BENCHMARK.examples(folder)}
    seen = 0
    for split, clips in json.loads((folder / "predictions_sample.json").read_text()).items():
        for name, told in clips.items():
            for i, qa in enumerate(told["qa"]):
                example = asked[split, f"{name}/{i}"]
                assert example.question == qa["question"]
                low = qa["prediction"].lower()
                said = "Yes." if low[:3] == "yes" else "No." if low[:2] == "no" else None
                assert BENCHMARK.grade(example, qa["prediction"]).value == (said == qa["answer"])
                seen += 1
    assert seen >= 12
