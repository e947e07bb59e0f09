"""`weavetime watch` on a clip at its own pace: questions from a pipe, at a prompt, and ends of every kind."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cli_process import DEMO, Ran, command, environment

import weavetime as wt
from weavetime.cli.watch import Line
from weavetime.errors import QuestionError

Run = Callable[..., Ran]
SHORT = ("--max-tokens", 4)


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("What?", Line("What?", (), None)),
        ("@12.5 What?", Line("What?", (), 12.5)),
        ("@3  Which? | a cup|a plate |", Line("Which?", ("a cup", "a plate"), 3.0)),
        ("@home What?", Line("@home What?", (), None)),
        ("", None),
        ("@3 ", None),
    ],
)
def test_a_line_is_a_question_with_options_and_a_moment(typed: str, line: Line | None) -> None:
    assert Line.read(typed) == line


@pytest.mark.parametrize("typed", ["@3", "@-1 What?", "@.5 What?", "@12:30 What?", "@1e3 What?"])
def test_a_moment_that_is_none_is_refused(typed: str) -> None:
    with pytest.raises(QuestionError, match="@SECONDS"):
        Line.read(typed)


def test_a_line_that_is_refused_does_not_end_the_session(run: Run, clip: Path) -> None:
    ran = run("watch", clip, "--json", *SHORT, stdin="@-1 What?\n@1 And now?\n")
    assert ran.code == 1
    assert "@SECONDS" in ran.err
    assert [json.loads(line)["question"] for line in ran.out.splitlines()] == ["And now?"]


def test_each_question_from_a_pipe_is_asked_when_its_moment_has_come(run: Run, clip: Path) -> None:
    lines = "What now?\n\n@2.5 Which? | a cup | a plate\n@1 And then?\n"
    begun = time.monotonic()
    ran = run("watch", clip, "--json", *SHORT, stdin=lines)
    assert ran.code == 0
    assert time.monotonic() - begun > 1.5  # the clip plays at its own pace
    first, second, third = map(json.loads, ran.out.splitlines())
    assert (first["question"], first["at"]) == ("What now?", first["now"])
    assert (second["question"], second["options"], second["at"]) == ("Which?", ["a cup", "a plate"], 2.5)
    assert second["choice"] in (0, 1)
    assert second["evidence"]["times"] == [0.0, 1.0, 2.0]
    assert 2.5 <= second["now"] < 6  # asked while the clip played
    assert third["evidence"]["times"] == [0.0, 1.0]
    assert (third["dropped"], third["warnings"]) == (0, [])
    assert third["memory"]["nbytes"] == sum(third["memory"]["tiers"].values())


def test_a_person_reads_status_question_answer_and_evidence(call: Run, clip: Path) -> None:
    ran = call("watch", clip, *SHORT, stdin="@1 Which? | the [red] cup | a plate\n")
    assert ran.code == 0
    status, question, *_, last = ran.out.splitlines()
    for word in ("frames/s", "blocks", "MB", "0 dropped"):
        assert word in status
    assert question == "? Which?"
    assert last.startswith(("(A) the [red] cup · gate", "(B) a plate · gate"))
    assert "0–1 s (2 frames)" in last
    assert ("untrained" in ran.err) is (wt.load("mini").record.trained is False)


def test_a_moment_after_the_end_is_answered_at_the_end(call: Run, clip: Path) -> None:
    ran = call("watch", clip, "--json", *SHORT, stdin="@99 What?\n")
    assert (ran.code, json.loads(ran.out)["frames"]) == (0, 6)
    assert "the video ended at 6.0 s, before 99 s" in ran.err


def test_a_question_that_fails_is_one_line_and_the_next_is_asked(call: Run, clip: Path) -> None:
    options = "|".join(map(str, range(27)))
    ran = call("watch", clip, "--json", *SHORT, stdin=f"Which? | {options}\nWhat?\n")
    assert ran.code == 1
    assert json.loads(ran.out)["question"] == "What?"
    assert any(line.startswith("weavetime: ") and "26" in line for line in ran.err.splitlines())


def test_nothing_to_ask_ends_at_once(call: Run, clip: Path) -> None:
    assert call("watch", clip).code == 0
    assert call("watch", clip, stdin="/quit\nWhat?\n").out == ""


@pytest.mark.parametrize(
    ("source", "complaint"),
    [("no.mp4", "no such file"), ("text.mp4", "text.mp4"), ("rtsp://127.0.0.1:9/x", "cannot be reached"), ("97", "97")],
)
def test_what_cannot_be_watched_is_one_line(call: Run, tmp_path: Path, source: str, complaint: str) -> None:
    (tmp_path / "text.mp4").write_text("words, not pictures\n" * 50)
    ran = call("watch", tmp_path / source if source.endswith("mp4") else source, stdin="What?\n")
    assert ran.code == 1
    assert complaint in ran.complaint


def test_a_clip_that_breaks_off_says_how_far_it_got(call: Run, cut: Path) -> None:
    ran = call("watch", cut, "--json", "--fps", 2, *SHORT, stdin="@15 What?\n")
    assert ran.code == 0
    assert "readable up to" in ran.err
    assert json.loads(ran.out)["warnings"]


class Terminal:
    """A terminal of 24 rows with weavetime in it."""

    def __init__(self, ours: int, process: subprocess.Popen[bytes]) -> None:
        self.ours, self.process, self.shown = ours, process, ""

    def until(self, text: str, seconds: float = 60) -> str:
        """Read until a text is shown; what came before it."""
        end = time.monotonic() + seconds
        while text not in self.shown:
            ready, _, _ = select.select([self.ours], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"{text!r} never came; at last: {self.shown[-400:]!r}"
            self.shown += os.read(self.ours, 4096).decode(errors="replace")
        before, _, self.shown = self.shown.partition(text)
        return before

    def type(self, text: str) -> None:
        os.write(self.ours, text.encode())

    def close(self) -> int:
        """Read to the end; the exit code."""
        try:
            while piece := os.read(self.ours, 4096):
                self.shown += piece.decode(errors="replace")
        except OSError:  # the other end is closed
            pass
        return self.process.wait(30)


@contextmanager
def terminal(*arguments: object) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    os.set_blocking(ours, True)
    subprocess.run(["stty", "rows", "24", "cols", "100"], stdin=theirs, check=True)
    process = subprocess.Popen(
        command(*arguments), stdin=theirs, stdout=theirs, stderr=theirs, env=environment(), start_new_session=True
    )
    os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_at_a_terminal_questions_are_typed_while_a_status_line_goes_on() -> None:
    with terminal("watch", DEMO, *SHORT) as screen:
        screen.until("/quit leaves")
        screen.until("? ")
        screen.until("2 blocks")
        screen.type("@1 Which came first? | a cup | a plate\r")
        assert "a cup" in screen.until("gate")
        assert "1 s" in screen.until("total")
        screen.type("@999 What?\r")
        screen.until("at 999 s is after the stream's now")
        screen.type("/quit\r")
        assert screen.close() == 0
        assert "\033[r" in screen.shown  # the whole screen scrolls again
        assert "Traceback" not in screen.shown


@pytest.mark.parametrize("how", ["ctrl-c", "ctrl-d"])
def test_leaving_a_terminal_is_no_failure(how: str) -> None:
    with terminal("watch", DEMO, *SHORT) as screen:
        screen.until("1 blocks")
        if how == "ctrl-c":
            screen.process.send_signal(signal.SIGINT)
        else:
            screen.type("\x04")
        assert screen.close() == 0
        assert "Traceback" not in screen.shown


def test_after_the_end_the_past_can_still_be_asked_about(clip: Path) -> None:
    with terminal("watch", clip, *SHORT) as screen:
        screen.until("the video has ended")
        screen.type("What was it?\r")
        assert "0–5 s (6 frames)" in screen.until("total")
        screen.type("/quit\r")
        assert screen.close() == 0
