"""`data check NAME DIR` on small folders: whole, and with videos missing, broken, cut off, too short, or rows gone."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tests.video.made_clips import make_clip, steady

from weavetime.cli import main
from weavetime.data.check import CheckSettings
from weavetime.errors import DataError
from weavetime.eval import Benchmark, Example, Grade, Summary, load
from weavetime.eval.check import BenchmarkReport, check


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Clips by name: `ten` lasts 10 s, `two` 2 s; `cut` lacks the second half of ten; `text` is none."""
    folder = tmp_path_factory.mktemp("clips")
    front = {"movflags": "faststart"}
    ten = make_clip(folder / "ten.mp4", steady(10, 10), rate=10, options={"g": "10"}, muxer=front).read_bytes()
    two = make_clip(folder / "two.mp4", steady(2, 10), rate=10).read_bytes()
    return {"ten": ten, "two": two, "cut": ten[: len(ten) * 6 // 10], "text": b"no video" * 50}


def mlvu(root: Path, clips: Mapping[str, bytes], rows: Mapping[str, tuple[str, float]]) -> Path:
    """MLVU's `plotQA` with a question a video: what the file holds ("" for no file), and the annotated seconds."""
    (root / "videos" / "1_plotQA").mkdir(parents=True)
    found = []
    for name, (holds, duration) in rows.items():
        if holds:
            (root / "videos" / "1_plotQA" / name).write_bytes(clips[holds])
        said = {"candidates": ["a", "b"], "answer": "a", "question": "What?", "question_type": "plotQA"}
        found.append({"video": name, "duration": duration, **said})
    (root / "1_plotQA.json").write_text(json.dumps(found))
    return root


def problems(report: BenchmarkReport) -> set[tuple[str, str]]:
    """Kinds and short places."""
    return {(p.kind, p.where.rsplit("/", 1)[-1]) for p in report.problems}


class Small(Benchmark):
    """A benchmark of this test: rows as in the file."""

    name: ClassVar[str] = "small"
    counts: ClassVar[Mapping[str, int]] = {"one": 2, "two": 1}

    def read(self, root: Path, partial: bool) -> Iterator[Example]:
        for i, row in enumerate(json.loads((root / "small.json").read_text())):
            evidence = tuple((a, b) for a, b in row.pop("evidence", ()))
            row = {"id": str(i), "task": "one", "question": "?", "options": (), "gold": "A", **row}
            yield Example(evidence=evidence, **row)

    def prompt(self, example: Example) -> str:
        return example.question

    def grade(self, example: Example, response: Any) -> Grade:
        return Grade(0.0)

    def summarize(self, grades: Any) -> Summary:
        return Summary(())


def small(root: Path, clips: Mapping[str, bytes], rows: list[dict[str, Any]], **settings: Any) -> BenchmarkReport:
    (root / "videos").mkdir(exist_ok=True)
    for name, data in clips.items():
        (root / "videos" / f"{name}.mp4").write_bytes(data)
    (root / "small.json").write_text(json.dumps(rows))
    return check(Small(), root, CheckSettings(jobs=2, **settings))


@pytest.mark.parametrize("quick", [False, True])
def test_nothing_is_wrong(tmp_path: Path, clips: dict[str, bytes], quick: bool) -> None:
    rows = [
        {"video": "ten.mp4", "at": 10.2, "span": [0.0, 11.0], "evidence": [[1, 2], [9, 10.4]]},
        {"video": "ten.mp4", "extra": {"duration": 10.9}},
        {"video": "two.mp4", "task": "two", "extra": {"duration": 1.1}},
    ]
    report = small(tmp_path, clips, rows, quick=quick)
    assert (report.problems, report.counts) == ([], {})
    assert report.rows == {"one": (2, 2), "two": (1, 1)}
    assert (report.questions, report.videos, report.folder) == (3, 2, str(tmp_path))


@pytest.mark.parametrize("quick", [False, True])
def test_everything_that_is_wrong_is_found(tmp_path: Path, clips: dict[str, bytes], quick: bool) -> None:
    rows = [
        {"video": "gone.mp4"},
        {"video": "gone.mp4"},
        {"video": "text.mp4", "task": "two"},
        {"video": "cut.mp4", "task": "other"},
        {"video": "two.mp4", "at": 2.6, "span": [0.0, 3.0], "evidence": [[0, 1], [1, 2.6]]},
        {"video": "two.mp4", "extra": {"duration": 3.1}},
        {"video": "two.mp4", "extra": {"duration": 3.1}},
    ]
    report = small(tmp_path, clips, rows, quick=quick)
    expected = {
        ("count", "one"),
        ("count", "other"),
        ("missing", "gone.mp4"),
        ("unreadable", "text.mp4"),
        ("duration", "two.mp4"),
        ("question", "4"),
        ("evidence", "4"),
    }
    assert problems(report) == (expected if quick else expected | {("unreadable", "cut.mp4")})
    assert report.rows == {"one": (5, 2), "two": (1, 1), "other": (1, None)}
    assert len(report.problems) == len(problems(report))
    assert {p.where.rsplit("/", 1)[-1]: p.samples for p in report.problems}["gone.mp4"] == 2
    assert all(p.what and "\n" not in p.what for p in report.problems)
    assert report.to_dict()["rows"]["one"] == {"found": 5, "published": 2}
    json.dumps(report.to_dict())


def test_a_video_is_read_as_far_as_its_questions_see(tmp_path: Path, clips: dict[str, bytes]) -> None:
    seen = {"video": "cut.mp4", "at": 3.0, "span": [0.0, 3.0]}
    last = {"video": "two.mp4", "task": "two"}
    assert small(tmp_path, clips, [seen, seen | {"id": "b"}, last]).problems == []
    later = seen | {"id": "b", "at": 9.0, "span": [0.0, 9.0]}
    [problem] = small(tmp_path, clips, [seen, later, last]).problems
    assert (problem.kind, problem.samples) == ("unreadable", 2)


@pytest.mark.parametrize(("said", "wrong"), [(200.0, 1), (10.0, 0), (11.0, 0), (11.1, 1), (9.0, 0), (8.9, 1)])
def test_durations_of_mlvu(tmp_path: Path, clips: dict[str, bytes], said: float, wrong: int) -> None:
    root = mlvu(tmp_path, clips, {"x.mp4": ("ten", said)})
    report = check(load("mlvu"), root, CheckSettings())
    assert report.counts.get("duration", 0) == wrong


def test_two_percent_of_a_long_video_may_be_missing(
    tmp_path: Path, clips: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    from weavetime.data.probe import Facts
    from weavetime.eval import check as checking

    root = mlvu(tmp_path, clips, {"x.mp4": ("ten", 1000.0)})
    for lasts, wrong in ((1019.0, 0), (1021.0, 1), (981.0, 0), (979.0, 1)):
        monkeypatch.setattr(checking, "look_at", lambda needs, s, d=lasts: ((v, Facts(duration=d)) for v in needs))
        assert check(load("mlvu"), root, CheckSettings()).counts.get("duration", 0) == wrong


def test_annotations_that_are_not_there_or_another_version(tmp_path: Path) -> None:
    report = check(load("mlvu"), tmp_path, CheckSettings())
    assert report.counts == {"annotation": 1}
    assert check(load("mlvu"), tmp_path / "gone", CheckSettings()).counts == {"annotation": 1}
    (tmp_path / "1_plotQA.json").write_text("[{}]")
    [problem] = check(load("mlvu"), tmp_path, CheckSettings()).problems
    assert (problem.kind, "question_type" in problem.what) == ("annotation", True)

    asked = [{"type": "x", "question": "Did it?", "answer": "Yes."}]
    for split, n in load("event_hallusion").counts.items():  # the published counts, with answers of another version
        rows = [{"id": f"{split}{i}", "questions": asked} for i in range(n)]
        (tmp_path / f"{split}_questions.json").write_text(json.dumps(rows))
    report = check(load("event_hallusion"), tmp_path, CheckSettings())
    assert report.rows["entire"] == (114, 114)
    assert {k: report.counts[k] for k in ("annotation", "missing")} == {"annotation": 1, "missing": 409}


def test_generated_videos_are_not_looked_for(tmp_path: Path) -> None:
    report = check(load("streamworld"), tmp_path, CheckSettings())
    assert (report.problems, report.videos) == ([], 0)
    assert report.questions > 0


def command(monkeypatch: pytest.MonkeyPatch, *said: object) -> int:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "argv", ["weavetime", "data", "check", *map(str, said)])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


def test_the_command(
    tmp_path: Path, clips: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = mlvu(tmp_path, clips, {"a.mp4": ("ten", 10.0), "b.mp4": ("", 10.0), "c.mp4": ("two", 60.0)})
    assert command(monkeypatch, "mlvu", root, "--json", tmp_path / "out.json") == 1
    said = capsys.readouterr().err
    assert "mlvu: 3 questions, 3 videos" in said
    assert "videos that are not there: 1" in said
    assert "lasts 2.00 s, and 60.00 s are annotated" in said
    assert [line.split() for line in said.splitlines() if line.startswith("plotQA ")] == [["plotQA", "3", "539"]]
    assert json.loads((tmp_path / "out.json").read_text())["counts"] == {"count": 7, "missing": 1, "duration": 1}
    assert command(monkeypatch, "mlvu") == 1
    assert "say which folder" in capsys.readouterr().err
    assert command(monkeypatch, "mlvuu", root) == 1
    assert "did you mean mlvu?" in capsys.readouterr().err
    assert command(monkeypatch, "mlvu", root, "--set", "x=1") == 1
    assert command(monkeypatch, "mlvu", root, "--video-root", root) == 2


def test_a_variant_has_its_own_numbers(tmp_path: Path) -> None:
    (tmp_path / "questions_sqa.json").write_text("[]")
    with pytest.raises(DataError):
        load("streaming_bench", parts="nothing")
    report = check(load("streaming_bench", parts="sqa"), tmp_path, CheckSettings())
    assert report.counts == {"annotation": 1}
