"""RVS: invented rows in ReKV's format, and what is not that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from weavetime.errors import DataError
from weavetime.eval import Example, Grade
from weavetime.eval.benchmarks.rvs import RVS

BENCH = RVS()


def talk(**changes: Any) -> dict[str, Any]:
    return {"question": "What is cut?", "answer": "A loaf.", "start_time": 270, "end_time": 570} | changes


def video(*talks: dict[str, Any], **changes: Any) -> dict[str, Any]:
    found = {"video_id": "e-1", "video_path": "/data/rvs/ego/videos/e-1.mp4", "duration": 3600.0}
    return found | {"conversations": list(talks)} | changes


def write(folder: Path, rows: Any, name: str = "ego/ego4d_oe.json") -> Path:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(rows))
    return folder


def only(folder: Path, **changes: Any) -> Example:
    [found] = BENCH.examples(write(folder, [video(talk(**changes))]), partial=True)
    return found


def test_a_row_of_rekvs_form(tmp_path: Path) -> None:
    found = only(tmp_path)
    assert (found.id, found.video, found.task, found.gold) == ("ego/e-1/0", "ego/e-1.mp4", "ego", "A loaf.")
    assert (found.at, found.span, found.evidence) == (570.0, (0.0, 570.0), ((270.0, 570.0),))
    assert BENCH.spans(found) == ((0.0, 570.0),)
    assert BENCH.prompt(found) == "What is cut?"
    assert BENCH.unverified
    assert BENCH.open_answers
    assert tmp_path / "ego" / "videos" / "e-1.mp4" in BENCH.videos(tmp_path, found)
    assert tmp_path / "videos" / "ego" / "e-1.mp4" in BENCH.videos(tmp_path, found)


def test_both_sets_and_a_movie_of_arrays(tmp_path: Path) -> None:
    write(tmp_path, [video(talk(), talk(end_time=900))])
    write(tmp_path, [video(talk(), video_path="data/rvs/movie/videos/tt1.npy")], "movie/movienet_oe.json")
    found = BENCH.examples(tmp_path, partial=True)
    assert [(e.task, e.video, e.at) for e in found] == [
        ("ego", "ego/e-1.mp4", 570.0),
        ("ego", "ego/e-1.mp4", 900.0),
        ("movie", "movie/tt1.mp4", 570.0),
    ]
    with pytest.raises(DataError, match="ego: 2 of 1465, movie: 1 of 1905"):
        BENCH.examples(tmp_path)


@pytest.mark.parametrize(
    ("response", "value", "tolerant"),
    [
        ("A loaf.", 1, 1),
        (" A loaf.\n", 1, 1),
        ("a loaf", 0, 1),
        ("", 0, 0),
        (None, 0, 0),
        (["A loaf."], 0, 0),
        (2, 0, 0),
    ],
)
def test_equal_answers(tmp_path: Path, response: Any, value: float, tolerant: float) -> None:
    grade = BENCH.grade(only(tmp_path), response)
    assert (grade.value, grade.counted, grade.task) == (value, True, "ego")
    assert BENCH.tolerant(only(tmp_path), response) == tolerant


def test_the_judge_leads_where_there_was_one() -> None:
    plain = BENCH.summarize([Grade(1.0, task="ego"), Grade(0.0, task="movie")])
    assert (plain.total, plain["exact"], plain["ego exact"]) == ("exact", 0.5, 1.0)
    assert "judge" not in plain
    said = [Grade(0.0, task="ego", parts={"judge": 1.0, "judge_score": 4.0}), Grade(0.0, task="movie", parts={})]
    summary = BENCH.summarize(said)
    assert (summary.total, summary["judge"], summary["ego judge"]) == ("judge", 1.0, 1.0)
    assert summary["ego judge_score/5"] == pytest.approx(0.8)
    assert "movie judge" not in summary


@pytest.mark.parametrize(
    "changes",
    [
        {"start_time": "00:12450"},
        {"end_time": "00:24"},
        {"end_time": 100},
        {"start_time": -1},
        {"start_time": 0, "end_time": 0},
        {"end_time": None},
        {"answer": ""},
        {"question": 3},
    ],
)
def test_a_row_that_is_not_rekvs(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"ego4d_oe\.json, row 0"):
        only(tmp_path, **changes)


@pytest.mark.parametrize("changes", [{"duration": 0}, {"conversations": None}, {"video_path": 1}])
def test_a_video_that_is_not_rekvs(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=next(iter(changes))):
        BENCH.examples(write(tmp_path, [video(talk(), **changes)]), partial=True)
