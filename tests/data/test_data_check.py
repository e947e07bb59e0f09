"""`data check`: real videos, whole, cut off, missing, too short for what is asked of them, and files that are none."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from weavetime.data import check as checking
from weavetime.data.check import CheckSettings, Report, check, training_files
from weavetime.data.probe import Facts, Need, look
from weavetime.errors import DataError

Make = Callable[..., Path]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory, make_video: Make) -> Path:
    """whole.mp4 of 6 s and 60 pictures; cut.mp4 and late.mp4 of 20 s, which lack a third and the last 0.7 s; others."""
    folder = tmp_path_factory.mktemp("videos")
    make_video(folder / "whole.mp4", 60)
    data = make_video(folder / "long.mp4", 200, front=True).read_bytes()
    (folder / "cut.mp4").write_bytes(data[: len(data) * 2 // 3])
    (folder / "late.mp4").write_bytes(data[: len(data) * 963 // 1000])
    (folder / "text.mp4").write_text("not a video\n" * 100)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "images").mkdir()
    for i in range(3):
        Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(folder / "images" / f"{i}.png")
    shutil.copytree(folder / "images", folder / "spoilt")
    (folder / "spoilt" / "1.png").write_bytes(b"none")
    return folder


def sample(video: str, *turns: tuple[str, str], **beside: Any) -> dict[str, Any]:
    said = [
        {"from": who, "value": text}
        for turn in turns or (("q", "a"),)
        for who, text in zip(("human", "gpt"), turn, strict=True)
    ]
    return {"video": video, "conversations": said, **beside}


def found(folder: Path, videos: Path, samples: list[Any], **settings: Any) -> tuple[Report, list[tuple[str, str]]]:
    path = folder / "a.jsonl"
    path.write_text("".join((s if isinstance(s, str) else json.dumps(s)) + "\n" for s in samples))
    report = check(path, CheckSettings(**{"video_root": videos, "jobs": 2, **settings}))
    short = {str(path): "file", **{str(v): v.name for v in videos.iterdir()}, str(videos / "gone.mp4"): "gone.mp4"}
    return report, [(p.kind, short.get(p.where, p.where.removeprefix(f"{path}:"))) for p in report.problems]


GOOD = [
    sample("whole.mp4"),
    sample("whole.mp4", video_start=1, video_end=6.4, key_frame_idx=[0, 59]),
    sample("whole.mp4", video_end=2),
    sample("long.mp4", video_start=19.5),
    sample("images", key_frame_idx=2),
]


@pytest.mark.parametrize("quick", [False, True])
def test_nothing_is_wrong(tmp_path: Path, videos: Path, quick: bool) -> None:
    report, problems = found(tmp_path, videos, GOOD, quick=quick)
    assert problems == []
    assert (report.samples, report.videos, report.counts) == (5, 3, {})


@pytest.mark.parametrize("quick", [False, True])
def test_everything_that_is_wrong_is_found(tmp_path: Path, videos: Path, quick: bool) -> None:
    bad = [
        sample("whole.mp4", video_end=6.6),
        sample("whole.mp4", video_start=6.1),
        sample("whole.mp4", key_frame_idx=[3, 60]),
        sample("gone.mp4"),
        sample("gone.mp4", video_end=3),
        {"video": "whole.mp4", "conversations": []},
        {"messages": []},
        "[]",
        sample("whole.mp4", ("q", " \n")),
        "{",
        sample("whole.mp4", ("q", "a"), video_start="soon"),
        sample("text.mp4"),
        sample("empty.mp4"),
        sample("cut.mp4"),
        sample("cut.mp4", video_end=19),
        sample("spoilt"),
        sample("images", key_frame_idx=3),
        "[0, 12, 99]",
    ]
    report, problems = found(tmp_path, videos, bad, quick=quick)
    assert report.samples == len(bad) - 1
    expected = {
        *(("span", n) for n in ("1", "2")),
        *(("key frames", n) for n in ("3", "17")),
        *(("empty", n) for n in ("6", "7", "8", "9")),
        *(("sample", n) for n in ("10", "11")),
        ("missing", "gone.mp4"),
        *(("unreadable", n) for n in ("text.mp4", "empty.mp4")),
    }
    decoded = {("unreadable", "cut.mp4"), ("unreadable", "spoilt")}
    assert set(problems) == (expected if quick else expected | decoded)
    assert len(problems) == len(set(problems))
    by_video = {p.where: p for p in report.problems if p.kind in ("missing", "unreadable")}
    assert by_video[str(videos / "gone.mp4")].samples == 2
    if not quick:
        assert "readable up to" in by_video[str(videos / "cut.mp4")].what
    assert report.counts["empty"] == 4
    assert all("\n" not in p.what and p.what for p in report.problems)


def test_a_cut_video_serves_what_it_still_holds(tmp_path: Path, videos: Path) -> None:
    assert found(tmp_path, videos, [sample("cut.mp4", video_end=5)])[1] == []
    both = [sample("cut.mp4", video_end=5), sample("cut.mp4")]
    assert found(tmp_path, videos, both)[1] == [("unreadable", "cut.mp4")]
    assert found(tmp_path, videos, [sample("late.mp4", video_end=19.2)])[1] == []
    assert found(tmp_path, videos, [sample("late.mp4")])[1] == [("unreadable", "late.mp4")]


def test_need_is_what_all_samples_want(videos: Path) -> None:
    assert Need() == Need(0.0, 0.0, False)
    assert look(videos / "whole.mp4", Need(0, None, True), quick=False) == Facts(6.0, 60)
    assert look(videos / "whole.mp4", Need(0, 3.0), quick=True) == Facts(6.0, None)
    assert look(videos / "gone.mp4", Need(), quick=False) == Facts(missing=True)


def test_a_folder_of_files_and_those_that_are_broken(tmp_path: Path, videos: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "x.json").write_text("{")
    (tmp_path / "a.json").write_text(json.dumps([sample("whole.mp4"), sample("gone.mp4")]))
    (tmp_path / "b.json").write_text(json.dumps([sample("whole.mp4")] * 3)[:-40])
    (tmp_path / "deep" / "c.jsonl").write_text(json.dumps(sample("long.mp4")) + "\n")
    report = check(tmp_path, CheckSettings(video_root=videos, jobs=2))
    assert [Path(f).name for f in report.files] == ["a.json", "b.json", "c.jsonl"]
    assert [(p.kind, Path(p.where).name) for p in report.problems] == [("file", "b.json"), ("missing", "gone.mp4")]
    assert (report.samples, report.videos) == (5, 3)
    assert training_files(tmp_path / "a.json") == [tmp_path / "a.json"]
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="holds no training file"):
        training_files(tmp_path / "none")
    assert check(tmp_path / "gone.json", CheckSettings()).counts == {"file": 1}


def test_videos_lie_beside_their_file_unless_said(tmp_path: Path, make_video: Make) -> None:
    make_video(tmp_path / "v" / "a.mp4", 10)
    (tmp_path / "a.json").write_text(json.dumps([sample("v/a.mp4"), sample(str(tmp_path / "v" / "a.mp4"))]))
    report = check(tmp_path / "a.json", CheckSettings())
    assert (report.problems, report.videos) == ([], 1)
    assert check(tmp_path / "a.json", CheckSettings(video_root=tmp_path / "v")).counts == {"missing": 1}


def deadly(item: tuple[str, Need], quick: bool) -> Facts:
    """Stands in for a decoder that a file crashes."""
    if item[0].endswith("deadly.mp4"):
        os.kill(os.getpid(), signal.SIGKILL)
    return Facts(duration=1.0)


def test_a_video_that_kills_its_process_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "_quietly", deadly)
    monkeypatch.setattr(checking, "_method", lambda: "fork")
    needs = {f"{i}.mp4" if i != 7 else "deadly.mp4": Need() for i in range(40)}
    facts = dict(checking.look_at(needs, CheckSettings(jobs=2)))
    assert facts.keys() == needs.keys()
    assert [v for v, f in facts.items() if not f.usable] == ["deadly.mp4"]
    assert "kills the process" in str(facts["deadly.mp4"].wrong)


def test_the_command(tmp_path: Path, videos: Path, call: Callable[..., Any]) -> None:
    (tmp_path / "a.json").write_text(json.dumps(GOOD))
    ran = call("data", "check", tmp_path / "a.json", "--video-root", videos, "--jobs", 2)
    assert (ran.code, ran.out) == (0, ""), ran.err
    assert "5 samples, 3 videos in 1 files" in ran.err
    (tmp_path / "b.json").write_text(json.dumps([*GOOD, *[sample(f"gone{i}.mp4") for i in range(30)]]))
    ran = call("data", "check", tmp_path / "b.json", "--video-root", videos, "--quick", "--json", tmp_path / "out.json")
    assert (ran.code, ran.out) == (1, "")
    assert "videos that are not there: 30" in ran.err
    assert "and 10 more in" in ran.err
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["counts"] == {"missing": 30}
    assert len(written["problems"]) == 30
    assert written["samples"] == 35
