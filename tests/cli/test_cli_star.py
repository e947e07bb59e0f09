"""STAR from the command line, on a checkpoint in the published format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_process import Ran

import weavetime as wt
from published import publish
from test_star import engine

Call = Callable[..., Ran]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = publish(tmp_path / "flash", "flash_vstream", engine().backbone.model)
    said = json.loads((made / "config.json").read_text())
    (made / "config.json").write_text(json.dumps({**said, "compress_size": 8, "compress_long_memory_size": 4}))
    return made


@pytest.mark.parametrize("memory", ["star", "star-fixed"])
def test_ask(call: Call, clip: Path, folder: Path, memory: str) -> None:
    asked = ("ask", clip, "What is it?", "--model", folder, "--fps", 6, "--max-tokens", 4, "--json")
    ran = call(*asked, "--memory", memory)
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    with wt.load(folder).stream(memory=memory, fps=6) as stream:
        stream.feed(wt.open_video(clip, fps=6))
    answer = stream.ask("What is it?", decoding=wt.Decoding(max_tokens=4))
    assert (found["text"], found["evidence"]["times"]) == (answer.text, list(answer.evidence.times))
    assert (found["frames"], len(found["evidence"]["times"])) == (36, 4)
    assert not any(found["evidence"]["blocks"])
    assert found["stream"]["memory"] == memory
    assert found["memory"]["tiers"]["star"] > 0
    plain = json.loads(call(*asked).out)
    assert plain["stream"]["memory"] == "blocks"
    assert len(plain["evidence"]["times"]) == 36


def test_as_of_a_moment_is_of_what_was_there(call: Call, clip: Path, folder: Path) -> None:
    """Only frames up to it are read, so that it is now."""
    ran = call("ask", clip, "Why?", "--model", folder, "--memory", "star", "--at", 2.5, "--max-tokens", 2, "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["frames"] == 3


def test_a_person_reads_how_many_frames(call: Call, clip: Path, folder: Path) -> None:
    ran = call("ask", clip, "Why?", "--model", folder, "--memory", "star", "--max-tokens", 2)
    assert ran.code == 0, ran.err
    assert "6 frames remembered" in ran.out


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--memory", "star"), "Flash-VStream's own, and this model is llava_onevision"),
        (("--memory", "sky"), "memory is one of blocks, star, star-fixed"),
    ],
)
def test_refused(call: Call, clip: Path, more: tuple[str, ...], said: str) -> None:
    ran = call("ask", clip, "Why?", *more)
    assert (ran.code, ran.out) == (1, "")
    assert said in ran.err


def test_a_mode_without_blocks_is_refused_before_frames_are_read(
    call: Call, tmp_path: Path, clip: Path, folder: Path
) -> None:
    ran = call("ask", clip, "Why?", "--model", folder, "--memory", "star", "--mode", "rekv")
    assert (ran.code, ran.out) == (1, "")
    assert "chooses among blocks, and memory='star' has none" in ran.err


def test_eval(call: Call, tmp_path: Path, folder: Path) -> None:
    out = tmp_path / "rows.jsonl"
    asked = (
        "eval",
        "streamworld",
        "--model",
        folder,
        "--memory",
        "star-fixed",
        "--limit",
        3,
        "--steps",
        40,
        "--out",
        out,
    )
    ran = call(*asked, "--mode", "weavetime", "--mode", "last:4")
    assert ran.code == 0, ran.err
    assert "star-fixed" in out.read_text().splitlines()[0]
    ran = call(*asked, "--mode", "rekv")
    assert ran.code == 1
    assert "memory='star-fixed' has none" in ran.err
