"""`weavetime ask` as a process: what it prints, and what it says when it cannot."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_process import DEMO, Ran, command, environment

import weavetime as wt

Run = Callable[..., Ran]
SHORT = ("--max-tokens", 4)


def test_json_is_the_answer_of_the_package(run: Run) -> None:
    asked = ("ask", DEMO, "Which came first?", "--option", "the cup", "--option", "the plate")
    ran = run(
        *asked, "--at", 28, "--window", 8, "--mode", "weavetime:coarse=2", "--k", 6, "--delta", 0, *SHORT, "--json"
    )
    assert (ran.code, ran.err) == (0, "")
    found = json.loads(ran.out)

    stream = wt.load("mini").stream(window=8)
    stream.feed([f for f in wt.open_video(DEMO) if f.time <= 28])
    mode, decoding = wt.WeaveTime(k=6, delta=0, coarse=2), wt.Decoding(max_tokens=4)
    options = ["the cup", "the plate"]
    answer = stream.ask("Which came first?", options=options, at=28, mode=mode, decoding=decoding)
    expected = json.loads(json.dumps(answer.to_dict()))
    for name in ("text", "choice", "recalled", "at", "mode", "finish"):
        assert found[name] == expected[name], name
    assert found["evidence"]["times"] == expected["evidence"]["times"]
    assert found["evidence"]["blocks"] == expected["evidence"]["blocks"]
    assert found["gate"] == pytest.approx(expected["gate"], rel=1e-4)
    assert found["recalled"] is True
    assert (found["settings"]["k"], found["settings"]["coarse"]) == (6, 2)


def test_json_says_what_it_stands_on(call: Run, clip: Path) -> None:
    ran = call("ask", clip, "What is it?", "--window", "none", "--mode", "full", "--fps", 2, *SHORT, "--json")
    found = json.loads(ran.out)
    assert (found["source"], found["question"], found["options"]) == (str(clip), "What is it?", [])
    assert (found["frames"], found["now"], found["duration"]) == (12, 6.0, 6.0)
    assert found["stream"]["window"] is None
    assert (found["stream"]["fps"], found["decoding"]["max_tokens"]) == (2.0, 4)
    assert found["memory"]["nbytes"] == sum(found["memory"]["tiers"].values()) > 0
    assert (found["model"]["name"], found["model"]["time_prompts"]) == ("mini", True)
    assert found["model"]["record"]["trained"] in (True, False)
    assert (found["gate"], found["threshold"], found["choice"], found["warnings"]) == (None, None, None, [])
    assert {"prefill", "first_token", "decode", "total"} <= found["timings"].keys()


def test_only_frames_up_to_the_moment_are_read(run: Run) -> None:
    found = json.loads(run("ask", DEMO, "What is there?", "--at", 3.5, *SHORT, "--json").out)
    assert found["frames"] == 4
    assert (found["at"], found["evidence"]["times"]) == (3.5, [0.0, 1.0, 2.0, 3.0])


def test_a_moment_after_the_end_is_answered_from_all_of_it(call: Run, clip: Path) -> None:
    ran = call("ask", clip, "What is there?", "--at", 100, *SHORT, "--json")
    assert (ran.code, json.loads(ran.out)["frames"]) == (0, 6)
    assert "the video ends at 6.0 s, before 100 s" in ran.err
    assert json.loads(ran.out)["warnings"] == [ran.err.removeprefix("weavetime: warning: ").strip()]


def test_a_person_reads_choice_gate_evidence_timings_and_memory(call: Run, clip: Path) -> None:
    ran = call("ask", clip, "Which?", "-o", "the [red] cup", "-o", "the plate", "--window", 3, "--delta", 0, *SHORT)
    assert (ran.code, ran.err) == (0, "")
    lines = {line[:10].strip(): line[10:].strip() for line in ran.out.splitlines() if line[:10].strip()}
    assert lines["choice"] in ("(A) the [red] cup", "(B) the plate")
    assert lines["gate"].endswith("≥ 0.00, unsure: looked back")
    assert lines["read"].startswith("recalled 6 blocks per layer")
    assert lines["evidence"] == "0–5 s (6 frames)"
    assert lines["as of"] == "6 s, 6 frames remembered"
    assert "first token" in lines["time"]
    assert "archive" in lines["memory"]
    assert ("untrained" in ran.out) is (wt.load("mini").record.trained is False)


def test_history_comes_before_the_question(call: Run, clip: Path, tmp_path: Path) -> None:
    turns = tmp_path / "turns.json"
    turns.write_text(json.dumps([["What is it?", "A wall."]]))
    ran = call("ask", clip, "And now?", "--history", turns, "--mode", "blind", *SHORT, "--json")
    assert json.loads(ran.out)["history"] == [["What is it?", "A wall."]]
    turns.write_text('{"not": "turns"}')
    assert "must hold a list of turns" in call("ask", clip, "And now?", "--history", turns).complaint


def test_a_seed_repeats_a_sampled_answer(call: Run, clip: Path) -> None:
    asked = ("ask", clip, "What?", "--temperature", 1.5, "--max-tokens", 8, "--json", "--seed")
    said = [json.loads(call(*asked, seed).out)["text"] for seed in (1, 1, 2)]
    assert said[0] == said[1] != said[2]


def test_a_folder_of_images_is_a_source(call: Run, tmp_path: Path) -> None:
    from PIL import Image

    for i in range(3):
        Image.new("RGB", (64, 48), (80 * i, 0, 0)).save(tmp_path / f"{i}.png")
    assert json.loads(call("ask", tmp_path, "What?", *SHORT, "--json").out)["frames"] == 3


def test_a_video_that_breaks_off_is_answered_from_what_was_readable(run: Run, cut: Path) -> None:
    ran = run("ask", cut, "What?", *SHORT, "--json")
    assert ran.code == 0
    [warning] = ran.err.splitlines()
    assert warning.startswith("weavetime: warning: ")
    assert "readable up to" in warning
    assert "of 20.0 s" in warning
    found = json.loads(ran.out)
    assert found["warnings"] == [warning.removeprefix("weavetime: warning: ")]
    assert 5 < found["frames"] < 20


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--at", "-1"], "at must be a number of seconds from 0"),
        (["--at", "nan"], "at must be a number of seconds from 0"),
        (["--mode", "guess"], "unknown mode 'guess'"),
        (["--mode", "window", "--k", "3"], "has no k"),
        (["--mode", "full"], "use window=None"),
        (["--mode", "frames:5", "--at", "2"], "frames: 5 s"),
        (["--delta", "-1"], "delta"),
        (["--window", "0"], "at least 1 block"),
        (["--fps", "0"], "fps"),
        (["--max-tokens", "0"], "max_tokens"),
        (["--temperature", "-1"], "temperature"),
        (["--top-p", "2"], "top_p"),
        (["--model", "/no/such/folder"], "/no/such/folder"),
        (["--adapter", "/no/such/folder"], "/no/such/folder"),
        (["--dtype", "int4"], "int4"),
        (["--history", "/no/such/file"], "/no/such/file"),
        ([part for i in range(27) for part in ("-o", str(i))], "26"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_what_cannot_be_answered_is_one_line(call: Run, clip: Path, arguments: list[str], complaint: str) -> None:
    ran = call("ask", clip, "What?", "--json", *arguments)
    assert ran.code == 1
    assert complaint in ran.complaint


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("no.mp4", "no such file"),
        ("empty.mp4", "is empty"),
        ("text.mp4", "text.mp4"),
        ("rtsp://127.0.0.1:9/x", "cannot be reached"),
        ("folder", "folder"),
    ],
)
def test_what_is_no_video_is_one_line(call: Run, tmp_path: Path, source: str, complaint: str) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("words, not pictures\n" * 50)
    (tmp_path / "folder").mkdir()
    ran = call("ask", source if "://" in source else tmp_path / source, "What?", "--json")
    assert ran.code == 1
    assert complaint in ran.complaint


def test_a_failed_process_leaves_one_line_and_nothing_on_stdout(run: Run, tmp_path: Path) -> None:
    ran = run("ask", tmp_path / "no.mp4", "What?", "--json")
    assert ran.code == 1
    assert "no such file" in ran.complaint


def test_ctrl_c_exits_130(clip: Path) -> None:
    asked = command("ask", DEMO, "What?", "--fps", 12)
    process = subprocess.Popen(
        asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), start_new_session=True
    )
    time.sleep(6)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    # Interrupted inside an exec(), CPython ends itself by the signal; a shell calls that 130 too.
    assert process.returncode in (130, -signal.SIGINT)
    assert (out, err) == ("", "")


def test_a_long_reading_shows_how_far_it_is_on_a_terminal() -> None:
    ours, theirs = pty.openpty()
    asked = command("ask", DEMO, "What?", "--fps", 5, *SHORT, "--json")
    with subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=theirs, env=environment()) as process:
        os.close(theirs)
        assert process.stdout is not None
        shown = b""
        try:
            while piece := os.read(ours, 4096):
                shown += piece
        except OSError:  # the other end is closed
            pass
        found = json.loads(process.stdout.read())
    assert found["frames"] == 450
    assert b" of 90 s" in shown
    assert b"frames/s" in shown
