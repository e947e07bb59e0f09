"""lmms-eval itself runs weavetime on a task of generated videos; in the environment of `make test-lmms` alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

import weavetime as wt

TASK = Path(__file__).parent / "task"
SECONDS, COUNT = 40, 14
PREFIX = "Best option: ("  # mini says letters after this alone


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A folder with the task and its two videos, and the questions about them, the videos' in turns."""
    folder = tmp_path_factory.mktemp("world")
    found = []
    for seed in (3, 4):
        video, lines = folder / f"{seed}.mp4", folder / f"{seed}.jsonl"
        said = ("--seed", seed, "--minutes", SECONDS / 60, "--size", 112, "--fps", 4, "--count", COUNT)
        command = [sys.executable, "-m", "weavetime", "world", video, "--questions", lines, *said]
        subprocess.run([str(x) for x in command], check=True, stdout=subprocess.DEVNULL)
        found.append([{**json.loads(line), "video": str(video)} for line in lines.read_text().splitlines()])
    asked = [question for pair in zip(*found, strict=True) for question in pair]
    keep = ("id", "question", "options", "gold", "at", "video")
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps({k: q[k] for k in keep}) + "\n" for q in asked))
    shutil.copy(TASK / "utils.py", folder)
    text = (TASK / "weavetime_world.yaml").read_text()
    (folder / "weavetime_world.yaml").write_text(text.replace("QUESTIONS", str(path)))
    return folder, asked


def evaluated(folder: Path, asked: list[dict[str, Any]], arguments: str, *more: str) -> tuple[float, dict[str, str]]:
    """What lmms-eval prints as its result, and each answer by the question's id."""
    out = folder / f"out{len(list(folder.glob('out*')))}"  # no commas: the tool reads its path as settings
    command = [sys.executable, "-m", "lmms_eval", "--model", "weavetime", "--model_args", arguments]
    command += ["--tasks", "weavetime_world", "--include_path", str(folder), "--device", "cpu"]
    command += ["--log_samples", "--output_path", str(out), *more]
    offline = {
        "HF_HOME": str(folder / "hub"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    ran = subprocess.run(command, env={**os.environ, **offline}, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    print(ran.stdout[-1500:])
    [results] = out.rglob("*_results.json")
    [samples] = out.rglob("*_samples_weavetime_world.jsonl")
    result = json.loads(results.read_text())["results"]["weavetime_world"]["accuracy,none"]
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    return result, {asked[row["doc_id"]]["id"]: row["filtered_resps"] for row in rows}


def answers(asked: list[dict[str, Any]], mode: str, **settings: Any) -> dict[str, str]:
    """The same questions asked directly: frames of each video up to the moment of each question, and no further."""
    sys.path.insert(0, str(TASK))
    from utils import world_doc_to_text

    found = {}
    with wt.load("mini", device="cpu") as engine:
        for video, mine in groupby(sorted(asked, key=lambda q: (q["video"], q["at"])), key=lambda q: q["video"]):
            with engine.stream(fps=1.0, **settings) as stream:
                frames = iter(wt.open_video(video, fps=1.0))
                ahead = next(frames)
                for q in mine:
                    while ahead is not None and ahead.time <= q["at"]:
                        stream.feed(ahead)
                        ahead = next(frames, None)
                    decoding = wt.Decoding(max_tokens=8, stop=["\n\n"], prefix=PREFIX)
                    answer = stream.ask(world_doc_to_text(q), mode=mode, decoding=decoding)
                    found[q["id"]] = answer.text.strip()
    return found


@pytest.mark.parametrize(("mode", "more"), [("weavetime", ()), ("rekv:4", ("--batch_size", "4"))])
def test_lmms_eval_answers_as_a_plain_loop_does(
    questions: tuple[Path, list[dict[str, Any]]], mode: str, more: tuple[str, ...]
) -> None:
    folder, asked = questions
    result, said = evaluated(folder, asked, f"pretrained=mini,mode={mode},window=8,prefix={PREFIX}", *more)
    direct = answers(asked, mode, window=8)
    assert said == direct
    letters = [direct[q["id"]][:1] for q in asked]
    right = [letter == "ABCDEFG"[q["gold"]] for letter, q in zip(letters, asked, strict=True)]
    assert result == pytest.approx(sum(right) / len(asked))
    assert set(letters) <= set("ABCDEFG")
    assert len(set(letters)) > 1
