"""Fixtures of the command line's tests: a way to run it, and clips made on the spot."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import av
import pytest
from cli_process import Ran, command, environment, make_clip

from weavetime.cli import main


@pytest.fixture(scope="session")
def run() -> Callable[..., Ran]:
    """Run weavetime to its end."""

    def call(*arguments: object, stdin: str = "", timeout: float = 120) -> Ran:
        done = subprocess.run(
            command(*arguments), input=stdin, capture_output=True, text=True, timeout=timeout, env=environment()
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Run weavetime in this process, where the model code is loaded already: for the many cases of one rule."""

    def call(*arguments: object, stdin: str = "") -> Ran:
        out, err = StringIO(), StringIO()
        monkeypatch.setenv("COLUMNS", "100")
        monkeypatch.setattr(sys, "argv", ["weavetime", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", StringIO(stdin))
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as left:
            main()
        return Ran(int(left.value.code or 0), out.getvalue(), err.getvalue())

    return call


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds at 10 pictures a second."""
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", 60)


@pytest.fixture(scope="session")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of 20 s whose copy broke off: its index stands in front, its last third is missing."""
    folder = tmp_path_factory.mktemp("clips")
    whole = make_clip(folder / "whole.mp4", 200)
    fast = folder / "fast.mp4"
    with av.open(str(whole)) as source, av.open(str(fast), "w", options={"movflags": "faststart"}) as out:
        [video] = source.streams.video
        stream = out.add_stream_from_template(video)
        for packet in source.demux(video):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    broken = folder / "broken.mp4"
    data = fast.read_bytes()
    broken.write_bytes(data[: len(data) * 2 // 3])
    return broken
