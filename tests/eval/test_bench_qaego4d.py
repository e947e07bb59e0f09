"""QAEgo4D-MC: a file of invented rows in the published format, and the published one where it is at hand."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from weavetime.errors import DataError
from weavetime.eval import Example, Grade, load
from weavetime.eval.benchmarks.qaego4d import QAEgo4D

BENCHMARK = QAEgo4D()


def asked(**changes: Any) -> dict[str, Any]:
    """One question in the published format."""
    return {
        "question": "Where did I leave the kite?",
        "choices": ["in the shed", "on the roof", "under the bed", "at school"],
        "answer": "on the roof",
        "temporal_windows": [[4, 6.5]],
    } | changes


def write(folder: Path, *questions: dict[str, Any], **changes: Any) -> Path:
    video = {"video_id": "v1", "video_path": "data/qaego4d/videos/v1.mp4", "duration": 300.0}
    (folder / "test_mc.json").write_text(json.dumps([video | {"conversations": list(questions)} | changes]))
    return folder


def only(folder: Path, **changes: Any) -> Example:
    [found] = BENCHMARK.examples(write(folder, asked(**changes)), partial=True)
    return found


def test_a_row_as_published(tmp_path: Path) -> None:
    found = only(tmp_path)
    assert (found.id, found.video, found.gold) == ("v1/0", "v1.mp4", "B")
    assert (found.at, found.span) == (None, None)  # the whole clip: windows are evidence and cut nothing
    assert found.evidence == ((4.0, 6.5),)
    assert BENCHMARK.spans(found) == ((0.0, float("inf")),)


def test_prompt_and_prefill(tmp_path: Path) -> None:
    found = only(tmp_path)
    assert BENCHMARK.prompt(found) == (
        "Question: Where did I leave the kite?\nOptions:\n(A) in the shed\n(B) on the roof\n(C) under the bed\n"
        "(D) at school\nOnly give the best option."
    )
    assert (BENCHMARK.decoding(found).prefix, BENCHMARK.decoding(found).max_tokens) == ("Best option: (", 16)


def test_gold_is_the_first_equal_choice(tmp_path: Path) -> None:
    assert only(tmp_path, choices=["x", "on the roof", "on the roof", "y"]).gold == "B"
    assert only(tmp_path, choices=["a", "b", "c", "d", "e", "f", "on the roof"]).gold == "G"


@pytest.mark.parametrize(
    ("response", "parsed"),
    [
        ("(B) x", "B"),
        ("B) on the roof", "B"),
        ("B", "B"),
        ("\n B.", "B"),
        ("Bananas", "B"),  # its first character
        (" C", "C"),
        ("The answer is C.", "T"),
        ("b", "b"),
        ("A/B", "A"),
        ("Not sure", "N"),
        ("1 2", "1"),
        ("yes", "y"),
        (") B", ""),
        ("on (the) B)", "e"),
        ("", None),
        (" \n", None),
        (None, None),
        (["B"], None),
        (2, None),
    ],
)
def test_official_rule_where_b_is_right(tmp_path: Path, response: Any, parsed: str | None) -> None:
    grade = BENCHMARK.grade(only(tmp_path), response)
    assert grade == Grade(float(parsed == "B"), counted=True)
    assert grade.parsed == parsed


def test_tolerant_is_another_column(tmp_path: Path) -> None:
    found = only(tmp_path)
    said = ("b", "The answer is B.", "On the roof.", "A/B", "")
    assert [BENCHMARK.tolerant(found, x) for x in said] == [1, 1, 1, 0, 0]
    assert [BENCHMARK.grade(found, x).value for x in said] == [0, 0, 0, 0, 0]


def test_total_counts_what_could_not_be_parsed(tmp_path: Path) -> None:
    found = only(tmp_path)
    summary = BENCHMARK.summarize(BENCHMARK.grade(found, said) for said in ("B", "", None, "C"))
    assert (summary.total, summary["accuracy"], summary.score("accuracy").n) == ("accuracy", 0.25, 4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"choices": []}, "'choices' is \\[\\]"),
        ({"choices": list("abcdefghi"), "answer": "a"}, "9 choices"),
        ({"answer": "in the attic"}, "none of the choices"),
        ({"answer": None}, "'answer' is None"),
        ({"temporal_windows": [[6, 4]]}, "must hold \\[start, end\\]"),
        ({"temporal_windows": [["4", "6"]]}, "must hold \\[start, end\\]"),
        ({"temporal_windows": [[4]]}, "must hold \\[start, end\\]"),
        ({"temporal_windows": [[290, 301]]}, "ends at 301 s in a video of 300 s"),
        ({"question": ""}, "'question' is empty"),
    ],
)
def test_a_bad_field_is_named_with_file_and_row(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    write(tmp_path, asked(), asked(**changes))
    with pytest.raises(DataError, match=rf"test_mc\.json, row 0, conversations 1: .*{said}"):
        BENCHMARK.examples(tmp_path, partial=True)


def test_bad_videos_and_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no test_mc\.json"):
        BENCHMARK.examples(tmp_path)
    with pytest.raises(DataError, match="row 0: 'duration' is 0 s"):
        BENCHMARK.examples(write(tmp_path, asked(), duration=0), partial=True)
    with pytest.raises(DataError, match="mc: 1 of 500"):
        BENCHMARK.examples(write(tmp_path, asked()))
    (tmp_path / "test_mc.json").write_text("[")
    with pytest.raises(DataError, match="cannot be read as JSON"):
        BENCHMARK.examples(tmp_path)


@pytest.mark.fixtures
def test_published(published: Path) -> None:
    benchmark = load("qaego4d")
    found = benchmark.examples(published / "qaego4d")
    assert len(found) == 500
    assert len({e.video for e in found}) == 148
    assert Counter(e.gold for e in found) == {"A": 115, "B": 122, "C": 136, "D": 127}
    assert all(len(e.evidence) == 1 for e in found)
    assert benchmark.summarize(benchmark.grade(e, "C") for e in found)["accuracy"] == pytest.approx(0.272)
    assert benchmark.summarize(benchmark.grade(e, e.gold) for e in found)["accuracy"] == 1
