"""A run over a local Ray cluster: the same rows as in one process, whatever happens to workers and to the driver."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

import weavetime as wt
from weavetime.errors import ClusterError, ModelError
from weavetime.eval import Row, Run, measure
from weavetime.eval.base import Example
from weavetime.eval.benchmarks.streamworld import StreamWorld
from weavetime.eval.cluster import Job, fleet, length, sizes
from weavetime.eval.run import groups
from weavetime.types import Frame, Question

ray = pytest.importorskip("ray")
psutil = pytest.importorskip("psutil")

STREAM = {"window": 4, "batch": 8}
SMALL = {"limit": 18, "per_stream": 6, "steps": 24}
MODES = ("weavetime", "last:2")


@dataclass(frozen=True, kw_only=True)
class Deadly(StreamWorld):
    """One stream ends the worker that draws its second half: `kills` times in all, counted in the file `deaths`.

    asked: a file of the ids that any worker was asked for.
    """

    deaths: str
    asked: str
    kills: int
    video: str = "1"

    def frames(self, video: str, batch: int, device: torch.device) -> Iterator[Sequence[Frame]]:
        """The stream, or half of it."""
        for i, frames in enumerate(super().frames(video, batch, device)):
            if video == self.video and i == 2:
                self._die()
            yield frames

    def _die(self) -> None:
        path = Path(self.deaths)
        before = path.read_text() if path.exists() else ""
        if len(before) < self.kills:
            path.write_text(before + "x")
            time.sleep(0.5)  # rows so far arrive
            os._exit(7)

    def question(self, example: Example) -> Question:
        """The question, written down."""
        with Path(self.asked).open("a") as file:
            file.write(f"{example.id}\n")
        return super().question(example)


ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import this file


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=10**8)
    yield
    ray.shutdown()


def job(benchmark: StreamWorld) -> Job:
    return Job("mini", {}, Run(benchmark, Path(), benchmark.examples(), wt.StreamConfig(), MODES), STREAM)


def plain(rows: Sequence[Row], **other: object) -> list[Row]:
    """Rows in the order of their keys, without timings."""
    return sorted((replace(row, timings={}, **other) for row in rows), key=lambda row: row.key)  # type: ignore[arg-type]


def asked_apart(rows: Sequence[Row]) -> list[Row]:
    """The same without gates, whose last bits depend on which questions of a moment were asked together."""
    return plain(rows, gate=None)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    with wt.load("mini") as engine:
        run = replace(job(StreamWorld(**SMALL)).run, config=engine.stream(**STREAM).config)
        return list(measure(engine, run))


# Without a cluster


@pytest.mark.parametrize(
    ("resources", "settings", "workers", "found"),
    [
        ({"CPU": 64, "GPU": 8}, {}, None, (8, {"num_cpus": 0, "num_gpus": 1.0}, 8)),
        ({"CPU": 64, "GPU": 8}, {}, 3, (3, {"num_cpus": 0, "num_gpus": 1.0}, 21)),
        ({"CPU": 64, "GPU": 8}, {"device": "cuda"}, 12, (12, {"num_cpus": 0, "num_gpus": 0.5}, 5)),
        ({"CPU": 64, "GPU": 8}, {"device": "cpu"}, None, (16, {"num_cpus": 4}, 4)),
        ({"CPU": 3}, {}, None, (1, {"num_cpus": 3}, 3)),
        ({"CPU": 3}, {}, 2, (2, {"num_cpus": 1}, 1)),
    ],
)
def test_sizes(
    resources: dict[str, float], settings: dict[str, str], workers: int | None, found: tuple[object, ...]
) -> None:
    assert sizes(resources, settings, workers) == found


@pytest.mark.parametrize(
    ("settings", "workers", "words"),
    [
        ({"device_map": "auto"}, None, "leave one out"),
        ({"device": "cuda:1"}, None, "leave out the device cuda:1"),
        ({"device": "cuda"}, None, "no GPU"),
        ({}, 5, "5 workers are more than the cluster's 4 cores"),
    ],
)
def test_sizes_that_cannot_be(settings: dict[str, str], workers: int | None, words: str) -> None:
    with pytest.raises(ClusterError, match=words):
        sizes({"CPU": 4}, settings, workers)


def test_lengths(tmp_path: Path) -> None:
    class Files(StreamWorld):
        def spans(self, example: Example) -> tuple[tuple[float, float], ...]:
            return ((0.0, float("inf")),) if example.video == "0" else ((0.0, 5.0), (10.0, 17.0))

    run = replace(job(Files(**SMALL)).run, root=tmp_path)
    whole, spans, _ = groups(run)
    assert (length(run, whole), length(run, spans)) == (0.0, 12.0)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "0").write_bytes(bytes(1_000_000))
    assert length(run, whole) == 8.0


# The command

FIXED = ("eval", "streamworld", "--limit", 24, "--questions-per-stream", 4, "--steps", 40, "--window", 4)


def interrupted(out: Path, rows: int, how: signal.Signals) -> tuple[int, str]:
    """The command over a worker, sent a signal once there are so many rows; no process of it is left."""
    command = [sys.executable, "-m", "weavetime", *map(str, FIXED), "--out", str(out), "--ray", "--workers", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        deadline = time.monotonic() + 100
        while process.poll() is None and time.monotonic() < deadline:
            if out.exists() and out.read_bytes().count(b"\n") > rows:
                break
            time.sleep(0.02)
        assert process.stderr is not None
        assert process.poll() is None, process.stderr.read()
        below = psutil.Process(process.pid).children(recursive=True)
        assert any("raylet" in child.name() for child in below)
        os.killpg(process.pid, how)  # a terminal's Ctrl-C reaches the whole group
        complaint = process.stderr.read()
    _, left = psutil.wait_procs(below, timeout=20)
    assert not left
    return process.returncode, complaint


def test_interrupted_and_killed_runs_go_on(tmp_path: Path, call: Callable[..., tuple[int, str, str]]) -> None:
    out = tmp_path / "rows.jsonl"
    code, complaint = interrupted(out, 1, signal.SIGINT)
    assert code in (1, 130)
    assert "Traceback" not in complaint
    first = out.read_bytes()
    code, _ = interrupted(out, first.count(b"\n"), signal.SIGKILL)
    assert code == -signal.SIGKILL
    second = out.read_bytes()
    assert second.startswith(first)
    assert len(second.splitlines()) < 25
    code, said, complaint = call(*FIXED, "--out", out)
    assert (code, complaint) == (0, "")
    found = [Row.of(json.loads(line)) for line in out.read_text().splitlines()[1:]]
    assert len(found) == len({row.key for row in found}) == 24
    assert said.splitlines()[-1] == f"accuracy {sum(row.right for row in found) / 24:.3f} n=24"


@pytest.mark.parametrize(
    ("wrong", "code", "words"),
    [
        (("--workers", 2), 2, "say --ray too"),
        (("--ray", "127.0.0.1:1"), 1, "nothing answers at 127.0.0.1:1"),
        (("--ray=ray://here:10001",), 1, "'ray://here:10001' is no address of a Ray cluster"),
    ],
)
def test_commands_that_cannot_be(
    wrong: tuple[object, ...], code: int, words: str, call: Callable[..., tuple[int, str, str]]
) -> None:
    got, said, complaint = call(*FIXED, *wrong)
    assert (got, said) == (code, "")
    assert words in complaint
    assert code == 2 or len(complaint.splitlines()) == 1


def test_without_ray(monkeypatch: pytest.MonkeyPatch, call: Callable[..., tuple[int, str, str]]) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert call(*FIXED, "--ray") == (1, "", "weavetime: Ray is not installed: pip install 'weavetime[ray]'\n")


# On a cluster that stays (these come last: a command would join it)


def test_workers_give_the_rows_of_one_process(cluster: None, rows: list[Row]) -> None:
    fed: list[int] = []
    told: list[str] = []
    with fleet(job(StreamWorld(**SMALL)), workers=2, tell=told.append) as found:
        got = list(found.measure(on_fed=fed.append))
        assert plain(got) == plain(rows)
        assert sum(fed) == sum(
            int(max(r.at for r in rows if r.video == video)) + 1 for video in {r.video for r in rows}
        )
        done = {row.key for row in rows[:5]}
        assert asked_apart(list(found.measure(done=done))) == asked_apart(rows[5:])
        with wt.load("mini") as engine:
            assert found.loaded.head == found.run.head(engine)
    assert not told


def test_a_dead_workers_videos_are_taken_up_again(cluster: None, rows: list[Row], tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    deadly = Deadly(**SMALL, deaths=str(tmp_path / "deaths"), asked=str(asked), kills=1)
    told: list[str] = []
    arrived: list[list[Row]] = [[]]

    def tell(text: str) -> None:
        told.append(text)
        arrived.append([])

    with fleet(job(deadly), workers=2, tell=tell) as found:
        for row in found.measure():
            arrived[-1].append(row)
    got = [row for part in arrived for row in part]
    assert asked_apart(got) == asked_apart(rows)
    assert len(told) == 1
    assert re.fullmatch(r"a worker ended at 1 \(.+\): another takes it up", told[0])
    before = {row.id for row in arrived[0] if row.video == "1"}
    assert before  # of its first half
    times = Counter(asked.read_text().split())
    assert {times[i] for i in before} == {len(MODES)}  # what had come is not asked again


def test_a_video_that_ends_every_worker(cluster: None, rows: list[Row], tmp_path: Path) -> None:
    deadly = Deadly(**SMALL, deaths=str(tmp_path / "deaths"), asked=str(tmp_path / "asked"), kills=99)
    got: list[Row] = []
    with (
        fleet(job(deadly), workers=1) as found,
        pytest.raises(ClusterError, match=r"^1: each of 3 workers that took it ended \(.*file and at memory") as e,
    ):
        got.extend(found.measure())  # keeps what came before the error
    assert "\n" not in str(e.value)
    assert (tmp_path / "deaths").read_text() == "xxx"
    assert plain([row for row in got if row.video != "1"]) == plain([row for row in rows if row.video != "1"])


def test_what_a_worker_cannot_load_is_said_as_it_is(cluster: None) -> None:
    with pytest.raises(ModelError, match="/no/such model") as here:
        wt.load("/no/such model")
    with pytest.raises(ModelError) as there, fleet(replace(job(StreamWorld(**SMALL)), model="/no/such model")):
        pass
    assert str(there.value) == str(here.value)


def test_nothing_is_told_to_anyone(cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED")
    with pytest.raises(ClusterError), fleet(replace(job(StreamWorld(**SMALL)), settings={"device_map": "auto"})):
        pass
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
