"""Benchmarks by name: what `data get` leaves is what an evaluation reads, whatever the hubs' folders and archives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.stand import Stand

from weavetime.data.benchmarks import BENCHMARKS
from weavetime.data.get import GetSettings, carry_out, plan
from weavetime.data.registry import DATA_SETS, find
from weavetime.errors import DataError
from weavetime.eval import load
from weavetime.eval.registry import BENCHMARKS as EVALUATED

Pack = Callable[..., bytes]
OVO, STREAMING, MLVU = "JoeLeelyf/OVO-Bench", "THUNLP-MT/StreamingBench", "JUNJIE99/MLVU"


def publish(stand: Stand, data_id: str, files: dict[str, Any]) -> None:
    """Put files into a repository of the stand; what is no bytes becomes JSON."""
    data = {name: x if isinstance(x, bytes) else json.dumps(x).encode() for name, x in files.items()}
    assert not data.keys() & stand.files.keys()
    stand.files |= data
    stand.more[data_id] = stand.more.get(data_id, set()) | set(data)


def fetched(name: str, folder: Path, **settings: Any) -> dict[str, bytes]:
    """Everything below the folder after a run, and after another that has nothing to do."""
    carry_out(plan(find(name), folder, GetSettings(**settings)))
    assert plan(find(name), folder, GetSettings(**settings)).units == ()
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return {name: data for name, data in found.items() if not name.startswith(".weavetime")}


def seen(name: str, folder: Path) -> dict[str, bytes]:
    """The bytes of the video of each question, as an evaluation finds them."""
    benchmark = load(name)
    examples = benchmark.examples(folder, partial=True)
    places = {e.id: [p for p in benchmark.videos(folder, e) if p.is_file()] for e in examples}
    return {i: found[0].read_bytes() if found else b"" for i, found in places.items()}


def choice(**beside: Any) -> dict[str, Any]:
    return {"question": "What?", **beside}


def test_every_benchmark_with_files_has_an_entry() -> None:
    assert {entry.name for entry in BENCHMARKS} == EVALUATED.keys() - {"streamworld"}
    assert all(DATA_SETS[entry.name] is entry for entry in BENCHMARKS)
    assert find("ovo-bench") is find("ovo_bench")
    for entry in BENCHMARKS:
        labels = dict(entry.said())
        assert labels["licence"]
        assert labels["size"]
    assert "gated" in find("mlvu").agreement
    assert "gated" in find("cg_bench").agreement
    assert all("Ego4D" in find(name).agreement for name in ("qaego4d", "egoschema", "rvs"))
    assert "Google Drive" in find("event_hallusion").by_hand


def test_ovo_bench(stand: Stand, tmp_path: Path, pack: Pack) -> None:
    rows = [
        {"id": 1, "task": "EPM", "video": "Ego4D/clips/a.mp4", "realtime": 3.5, "options": ["a", "b"], "gt": 1},
        {"id": 2, "task": "OCR", "video": "COIN/b.mp4", "realtime": 3, "options": ["a", "b"], "gt": 0},
    ]
    archive = pack("x.tar", {"./src_videos/Ego4D/clips/a.mp4": b"a" * 9000, "./src_videos/COIN/b.mp4": b"b" * 9000})
    pieces = {f"src_videos.tar.parta{x}": archive[i * 10000 : (i + 1) * 10000] for i, x in enumerate("abcd")}
    pieces = {name: data for name, data in pieces.items() if data}
    assert len(pieces) > 2
    chunked = {"chunked_videos.tar.partaa": b"never fetched", "README.md": b"words"}
    publish(stand, OVO, {**pieces, **chunked, "data/ovo_bench_new.json": [choice(answer="x", **row) for row in rows]})
    found = fetched("ovo_bench", tmp_path)
    assert found.keys() == {"ovo_bench_new.json", "videos/Ego4D/clips/a.mp4", "videos/COIN/b.mp4"}
    assert seen("ovo_bench", tmp_path) == {"1": b"a" * 9000, "2": b"b" * 9000}
    assert not any("chunked" in g or "README" in g for g in stand.downloads())
    assert any(g.startswith("/raw/") for g in stand.downloads())


def test_streaming_bench(stand: Stand, tmp_path: Path, pack: Pack) -> None:
    options = ["A. a", "B. b", "C. c", "D. d"]

    def asked(video: str, task: str) -> dict[str, Any]:
        question = choice(task_type=task, time_stamp="00:00:05", answer="A", options=options)
        return {"video_path": f"./videos/{video}", "questions": [question]}

    archives = {  # the archive, the video's name in the annotation, the file and the task
        "Real-Time Visual Understanding_1-50": ("sample_7_real", "real", "Counting"),
        "Emotion Recognition": ("sample_7_Emotion_Recognition", "omni", "Emotion Recognition"),
        "Scene Understanding_26-50": ("sample_30_Scene_Understanding_26-50", "omni", "Scene Understanding"),
        "Misleading Context Understanding": (
            "sample_7_Misleading_Context_Understanding",
            "omni",
            "Misleading Context Understanding",
        ),
        "Sequential Question Answering_1-25": ("sample_7_sqa", "sqa", "Sequential Question Answering"),
        "Proactive Output_1-25": ("sample_7_proactive", "proactive_50", "Proactive Output"),
    }
    files: dict[str, list[Any]] = {"real": [], "omni": [], "sqa": [], "proactive_50": [], "real_stream": []}
    for archive, (video, file, task) in archives.items():
        entry = asked(f"{video}.mp4", task)
        due = {"ground_truth_time_stamp": "00:00:09", "ground_truth_output": "now"}
        entry["questions"][0] |= due if file == "proactive_50" else {}
        files[file].append([entry] if file == "sqa" else entry)
        number = video.split("_")[1]
        members = {
            f"sample_{number}/video.mp4": video.encode(),
            f"__MACOSX/sample_{number}/._video.mp4": b"junk",
            f"sample_{number}/0001.jpg": b"stray",
        }
        publish(stand, "mjuicem/StreamingBench", {f"{archive}.zip": pack("x.zip", members)})
    publish(stand, "mjuicem/StreamingBench", {"StreamingBench/Proactive_Output.csv": b"another version"})
    publish(stand, STREAMING, {f"src/data/questions_{name}.json": rows for name, rows in files.items()})
    found = fetched("streaming_bench", tmp_path)
    annotation = {f"questions_{name}.json" for name in files} - {"questions_real_stream.json"}
    assert found.keys() == annotation | {f"videos/{video}.mp4" for video, _, _ in archives.values()}
    assert seen("streaming_bench", tmp_path) == {f"{v}_1": v.encode() for v, _, _ in archives.values()}


@pytest.mark.parametrize("hub", ["hf", "modelscope"])
def test_mlvu_from_either_hub(stand: Stand, tmp_path: Path, hub: str) -> None:
    row = choice(video="x.mp4", duration=9, candidates=["a", "b"], answer="a", question_type="findNeedle")
    publish(stand, MLVU, {"data/2_needle.json": [row], "data/8_sub_scene.json": [], "evaluation/x.py": b"code"})
    videos = {
        "MLVU/video/2_needle/x.mp4": b"needle",
        "MLVU/video/9_summary/y.mp4": b"no",
        "MLVU/json/2_needle.json": [],
    }
    publish(stand, {"hf": "MLVU/MVLU", "modelscope": "AI-ModelScope/MLVU"}[hub], videos)
    assert fetched("mlvu", tmp_path, hub=hub).keys() == {"2_needle.json", "videos/2_needle/x.mp4"}
    assert seen("mlvu", tmp_path) == {"needle/0": b"needle"}


def test_cg_bench_in_pieces_that_do_not_say_so(stand: Stand, tmp_path: Path, pack: Pack) -> None:
    row = choice(qid=1, video_uid="u", answer="a", choices=["a", "b"], right_answer="A", clue_intervals=[[0, 1]])
    row |= {"domain": "d", "sub_category": "s", "duration": 9}
    archive = pack(
        "x.zip", {f"cg_videos_720p/{i}.mp4": bytes([i]) * 500 for i in range(9)} | {"cg_videos_720p/u.mp4": b"u"}
    )
    size = len(archive) // 11 + 1
    pieces = {f"video_chunk_{i}.zip": archive[i * size : (i + 1) * size] for i in range(11)}  # 10 comes after 9, not 1
    publish(stand, "CG-Bench/CG-Bench", {"cgbench_mini.json": [row], "clue_video_chunk_0.zip": b"none", **pieces})
    assert "videos/u.mp4" in fetched("cg_bench", tmp_path)
    assert seen("cg_bench", tmp_path) == {"1": b"u"}
    stand.more["CG-Bench/CG-Bench"].remove("video_chunk_4.zip")
    with pytest.raises(DataError, match="pieces of which some are missing"):
        plan(find("cg_bench"), tmp_path, GetSettings())


def test_egoschema_activitynet_qaego4d_and_vidhalluc(stand: Stand, tmp_path: Path, pack: Pack) -> None:
    question = choice(q_uid="q", google_drive_id="x") | {f"option {i}": "o" for i in range(5)}
    publish(stand, "egoschema/EgoSchema", {"questions.json": [question], "subset_answers.json": {"q": 3}})
    publish(stand, "lmms-lab/egoschema", {"videos_chunked_01.zip": pack("x.zip", {"videos/q.mp4": b"ego"})})
    assert fetched("egoschema", tmp_path / "e").keys() == {"questions.json", "subset_answers.json", "videos/q.mp4"}
    assert seen("egoschema", tmp_path / "e") == {"q": b"ego"}

    asked, told = choice(question_id="v_n_1", video_name="n"), {"question_id": "v_n_1", "answer": "no", "type": 3}
    publish(stand, "MILVLG/activitynet-qa", {"dataset/test_q.json": [asked], "dataset/test_a.json": [told]})
    publish(
        stand, "lmms-lab/ActivityNetQA", {"all.zip": pack("x.zip", {"all_test/v_n.webm": b"act"}), "t.parquet": b""}
    )
    assert fetched("activitynet_qa", tmp_path / "a").keys() == {"test_q.json", "test_a.json", "videos/v_n.webm"}
    assert seen("activitynet_qa", tmp_path / "a") == {"v_n_1": b"act"}

    said = choice(choices=["a", "b"], answer="b", temporal_windows=[[0, 1]])
    row = {"video_id": "v", "video_path": "data/qaego4d/videos/v.mp4", "duration": 9, "conversations": [said]}
    publish(
        stand, "Becomebright/QAEgo4D-MC-test", {"test_mc.json": [row], "videos.zip": pack("x.zip", {"v.mp4": b"qa"})}
    )
    assert fetched("qaego4d", tmp_path / "q").keys() == {"test_mc.json", "videos/v.mp4"}
    assert seen("qaego4d", tmp_path / "q") == {"v/0": b"qa"}

    row = {"g": {"c": {"Question": "Which?", "Choices": {"A": "a", "B": "b"}, "Correct Answer": "AB"}}}
    clips = {"data/ACH_videos.zip": pack("x.zip", {"ACH/c.mp4": b"vid"}), "data/TSH_videos.zip": b"not fetched"}
    publish(stand, "chaoyuli/VidHalluc", {"ach_mcq.json": row, "tsh.json": {}, **clips})
    assert fetched("vidhalluc", tmp_path / "v").keys() == {"ach_mcq.json", "videos/c.mp4"}
    assert seen("vidhalluc", tmp_path / "v") == {"g/c": b"vid"}


def test_rvs_and_event_hallusion(stand: Stand, tmp_path: Path, pack: Pack) -> None:
    said = choice(answer="yes", start_time=0, end_time=1)
    ego = {"video_id": "e", "video_path": "data/rvs/ego/videos/e.mp4", "duration": 9, "conversations": [said]}
    movie = {"video_id": "m", "video_path": "data/rvs/movie/videos/m.npy", "duration": 9, "conversations": [said]}
    files = {"ego/ego4d_oe.json": [ego], "movie/movienet_oe.json": [movie], "movie/videos/m.npy": b"array"}
    publish(stand, "Becomebright/RVS", {**files, "ego/videos.zip": pack("x.zip", {"videos/e.mp4": b"ego"})})
    assert fetched("rvs", tmp_path / "r").keys() == {*files, "ego/videos/e.mp4"}
    assert seen("rvs", tmp_path / "r") == {"ego/e/0": b"ego", "movie/m/0": b""}

    asked = [{"type": "x", "question": "Did it?", "answer": "No."}]
    rows = {f"questions/{s}_questions.json": [{"id": s, "questions": asked}] for s in ("entire", "misleading", "mix")}
    publish(stand, "Stevetich/EventHallusion", rows | {"eval.py": b"code"})
    assert fetched("event_hallusion", tmp_path / "h").keys() == {"entire_questions.json", "misleading_questions.json"}
    assert seen("event_hallusion", tmp_path / "h") == {"entire/0": b"", "misleading/0": b""}


def test_an_archive_of_another_layout_is_no_silent_success(stand: Stand, tmp_path: Path, pack: Pack) -> None:
    publish(stand, OVO, {"data/ovo_bench_new.json": [], "src_videos.tar": pack("x.tar", {"elsewhere/a.mp4": b"a"})})
    with pytest.raises(DataError, match=r"src_videos\.tar .*holds no file where"):
        carry_out(plan(find("ovo_bench"), tmp_path, GetSettings()))
    assert not (tmp_path / "videos").exists()


def test_a_path_that_leads_outside_does_not_by_being_moved(stand: Stand, tmp_path: Path, pack: Pack) -> None:
    archive = pack("x.tar", {"src_videos/../../out.mp4": b"a"})
    publish(stand, OVO, {"data/ovo_bench_new.json": [], "src_videos.tar": archive})
    with pytest.raises(DataError, match="leads outside"):
        carry_out(plan(find("ovo_bench"), tmp_path / "in", GetSettings()))
    assert not any(tmp_path.rglob("out.mp4"))


def test_a_run_says_first_what_must_be_agreed_to(stand: Stand, tmp_path: Path, call: Callable[..., Any]) -> None:
    publish(stand, MLVU, {"data/2_needle.json": []})
    publish(stand, "MLVU/MVLU", {"MLVU/video/2_needle/x.mp4": b"needle"})
    ran = call("data", "get", "mlvu", "--to", tmp_path, "--dry-run")
    assert ran.code == 0, ran.err
    assert "accept the terms on hf.co/datasets/MLVU/MVLU" in ran.err
    assert "research only" in ran.err
    assert stand.downloads() == []
    stand.refuse = 403
    ran = call("data", "get", "mlvu", "--to", tmp_path)
    assert (ran.code, "accept the terms" in ran.err) == (1, True)
    assert "event_hallusion" in call("data", "get", "--list").out
