"""Nothing after the visible span is seen: noise in place of later pictures changes no bit, and a leak is found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import weavetime as wt
from weavetime.cli import main
from weavetime.config import StreamConfig
from weavetime.eval import Example, Run, load
from weavetime.eval import run as runner
from weavetime.eval.analysis.future import Compared, Noise, compared
from weavetime.eval.benchmarks.streamworld import StreamWorld
from weavetime.eval.feeding import Feed
from weavetime.types import Frame
from weavetime.world.write import write_video

MODES = ("weavetime", "rekv:2", "window", "last:2")
CONFIG = StreamConfig(window=4, batch=4)
FPS = (0.5, 1.0, 2.0)


@dataclass(frozen=True, kw_only=True)
class Filmed(StreamWorld):
    """StreamWorld from video files."""

    def frames(self, *_: Any) -> None:
        return None

    def videos(self, root: Path, example: Example) -> tuple[Path, ...]:
        return (root / f"{example.video}.mp4",)


WORLD = {"limit": 4, "per_stream": 2, "steps": 24, "open": True, "seed": 4}


@pytest.fixture(scope="module")
def engine() -> Iterator[wt.Engine]:
    with wt.load("mini") as engine:
        yield engine


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    for script, _ in Filmed(**WORLD).plan():  # type: ignore[arg-type]
        write_video(script, folder / f"{script.seed}.mp4", size=112, fps=4)
    return folder


def probe(engine: wt.Engine, films: Path, fps: float) -> list[Compared]:
    world = Filmed(**WORLD)  # type: ignore[arg-type]
    config = StreamConfig(window=4, batch=4, fps=fps)
    return list(compared(engine, Run(world, films, world.examples(), config, MODES)))


@pytest.mark.parametrize("fps", FPS)
def test_no_bit_of_an_answer_is_of_a_later_picture(engine: wt.Engine, films: Path, fps: float) -> None:
    found = probe(engine, films, fps)
    assert len(found) == 4 * len(MODES)
    assert sum(c.later > 0 for c in found) >= len(found) / 2
    assert [c for c in found if c.differs] == []


class Leaky(Feed):
    """A runner that lets in what is shown up to a second and a half after the span."""

    def upto(self, end: float) -> None:
        super().upto(end + 1.5)


def test_one_later_frame_is_found(engine: wt.Engine, films: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a frame is not read, for questions are asked as of the end of their span; that it is there is found."""
    monkeypatch.setattr(runner, "Feed", Leaky)
    found = probe(engine, films, 1.0)
    leaks = [c for c in found if c.row.seen is not None and c.row.seen > c.limit]
    assert leaks
    assert all(c.differs == ("seen",) for c in leaks if c.row.mode != "last:2")


def test_a_leak_that_says_nothing_of_itself_is_found(engine: wt.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later picture under an earlier time: only what is made of it tells."""

    class Sly(Feed):
        def upto(self, end: float) -> None:
            super().upto(end - 1)
            if self._waiting:
                self._waiting = [Frame(self._waiting[-1].pixels, f.time, f.until) for f in self._waiting]
            super().upto(end)

    world = load("streamworld", **WORLD)
    run = Run(world, Path(), world.examples("."), CONFIG, ("weavetime",))
    assert not any(c.differs for c in compared(engine, run))
    monkeypatch.setattr(runner, "Feed", Sly)
    found = [c for c in compared(engine, run) if c.differs]
    assert found
    assert all("gate" in c.differs for c in found)
    assert not any("seen" in c.differs for c in found)


def test_noise_begins_after_the_limit() -> None:
    pictures = [np.full((4, 4, 3), i, np.uint8) for i in range(6)]
    for kind in (np.asarray, torch.from_numpy):
        noise = Noise(2.0)
        frames = [Frame(kind(p), float(i), i + 1.0) for i, p in enumerate(pictures)]
        given = [frame for batch in noise(iter([frames[:4], frames[4:]])) for frame in batch]
        assert noise.later == 3
        assert [(f.time, f.until) for f in given] == [(f.time, f.until) for f in frames]
        assert [bool((np.asarray(f.pixels) == p).all()) for f, p in zip(given, pictures, strict=True)] == [
            *[True] * 3, *[False] * 3,
        ]  # fmt: skip
        assert all(type(f.pixels) is type(frames[0].pixels) for f in given)


def test_the_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, engine: wt.Engine) -> None:
    words = ["diagnose", "future", "streamworld", "--set", "steps=16", "--set", "per_stream=2", "--limit", "2"]
    monkeypatch.setattr("sys.argv", ["weavetime", *words])
    with pytest.raises(SystemExit) as left:
        main()
    assert not left.value.code
    assert "1 fps: 2 answers compared" in capsys.readouterr().out
    monkeypatch.setattr(runner, "Feed", Leaky)
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1
    said = capsys.readouterr()
    assert "differ" in said.out
    assert "must not be seen" in said.err
