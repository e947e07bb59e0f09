"""The ablation's report: what it puts together is what the method gives."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import weavetime as wt
from weavetime.config import StreamConfig
from weavetime.eval import Row, Run, measure
from weavetime.eval.asking import label
from weavetime.eval.benchmarks.streamworld import StreamWorld

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

from ablation import LENGTHS, LONG, Job, jobs, shares  # noqa: E402
from ablation_report import READING, Measured  # noqa: E402


def test_every_threshold_comes_from_two_runs() -> None:
    """Always looking back and never looking back, joined by the gate: the answers of a run at that threshold."""
    torch.set_num_threads(1)
    delta = 0.45
    modes = (wt.WeaveTime(k=8, delta=0), "window", wt.WeaveTime(k=8, delta=delta))
    with wt.load("mini") as engine:
        world = StreamWorld(limit=24, per_stream=24, steps=32)
        rows = list(measure(engine, Run(world, Path(), world.examples(), StreamConfig(window=4), modes)))
    found: dict[str, dict[str, Row]] = {label(m): {} for m in modes}
    for row in rows:
        found[row.mode][row.id] = row
    always, window, real = found.values()
    measured = Measured({"weavetime(delta=0)": always, "window": window}, 6, delta, 4, 32)
    joined = measured.at(delta)
    assert 0 < sum(row.recalled for row in joined.values()) < len(joined)
    for key, row in real.items():
        assert (joined[key].response, joined[key].recalled, joined[key].read) == (row.response, row.recalled, row.read)
    assert all(measured.at(0)[key].response == row.response for key, row in always.items())
    assert all(measured.at(2)[key].response == row.response for key, row in window.items())


@pytest.mark.parametrize("of", [1, 6, 7, 24, 48])
def test_shares_are_all_jobs_each_once_and_alike_in_cost(of: int) -> None:
    every = list(jobs(["base", "time", "mini"], LENGTHS, 2000, 512, LONG))
    found = shares(every, of)
    assert len({(job.arm, job.name, job.shard) for job in every}) == len(every)
    assert sorted(map(repr, every)) == sorted(repr(job) for share in found for job in share)
    costs = [sum(job.cost for job in share) for share in found]
    assert max(costs) < 1.1 * min(costs)
    assert all(share == sorted(share, key=lambda job: -job.cost) for share in found)


def test_shards_of_a_measurement_are_all_its_questions_on_streams_of_their_own() -> None:
    found: dict[str, list[Job]] = {}
    for job in jobs(["mini"], (16, 256), 37, 5, 512):
        found.setdefault(job.name, []).append(job)
    for name, shards in found.items():
        assert sum(job.world.limit for job in shards) == (37 if name.startswith("main") else 5)
        assert len({job.world.seed for job in shards}) == len(shards)
        assert all(job.world.limit for job in shards)


def test_runs_and_reports(tmp_path: Path) -> None:
    script = [sys.executable, str(SCRIPTS / "ablation.py")]
    sizes = ["--main", "8", "--rest", "4", "--lengths", "8,20", "--long", "24"]
    command = [*script, "run", str(tmp_path / "out"), "--arm", "mini=mini", *sizes, "--k", "5", "--coarse", "2"]
    for share in ("0/2", "1/2"):
        subprocess.run([*command, "--share", share], check=True, capture_output=True, timeout=200)
    names = {path.name for path in (tmp_path / "out" / "mini").iterdir()}
    assert {"main-8.0.jsonl", "full-8.3.jsonl", "retrieval-24-visual.1.jsonl", "about.json"} <= names
    subprocess.run(command, check=True, capture_output=True, timeout=200)  # nothing is left to ask
    assert json.loads((tmp_path / "out" / "run.json").read_text())["arms"] == ["mini"]
    said = {"command": "x", "date": "y", "torch": "z", "cards": 0, "arms": ["mini"]}
    (tmp_path / "out" / "run.json").write_text(json.dumps(said))
    done = subprocess.run(
        [*script, "report", str(tmp_path / "out"), "--docs", str(tmp_path)], check=True, capture_output=True, text=True
    )
    assert "| mini | 20 | rekv | 8 |" in done.stdout
    assert done.stdout in (tmp_path / "ablation.md").read_text() + "\n"
    assert (tmp_path / "ablation-gate.svg").read_text().startswith("<svg")
    reading = f"{READING}\nWhat was read.\n"
    with (tmp_path / "ablation.md").open("a") as page_file:
        page_file.write(reading)
    subprocess.run([*script, "report", str(tmp_path / "out"), "--docs", str(tmp_path)], check=True, capture_output=True)
    assert (tmp_path / "ablation.md").read_text().endswith(reading)
    never = [*script, "report", str(tmp_path / "out"), "--docs", str(tmp_path), "--delta", "1.01"]
    subprocess.run(never, check=True, capture_output=True)
    page = (tmp_path / "ablation.md").read_text()
    assert "(k 5 of 10 candidates, δ 1.01, 6 layers)" in page
    assert "report FOLDER --delta 1.01\n" in page
    assert READING not in page  # it was about another page
    assert "between arms" not in page
    arm = tmp_path / "out" / "base"
    shutil.copytree(tmp_path / "out" / "mini", arm)
    (tmp_path / "out" / "run.json").write_text(json.dumps({**said, "arms": ["base", "mini"]}))
    subprocess.run(never, check=True, capture_output=True)
    of_both = (tmp_path / "ablation.md").read_text()
    assert "| 20 | mini − base | window | all | 8 | +0.000 (+0.000 to +0.000) |" in of_both
    assert "| δ | base | mini |" in of_both
    [otherwise] = arm.glob("main-8.2.jsonl")
    otherwise.write_text(otherwise.read_text().replace('"dtype": "float32"', '"dtype": "bfloat16"', 1))
    refused = subprocess.run(never, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "its dtype is not that of another arm" in refused.stderr
    shutil.rmtree(arm)
    (tmp_path / "out" / "run.json").write_text(json.dumps(said))
    lines = {line.split("|")[3].strip(): line for line in page.splitlines() if line.startswith("| mini | 20 |")}
    [mixed] = (tmp_path / "out" / "mini").glob("main-8.3.jsonl")
    mixed.write_text(mixed.read_text().replace('"k": 5', '"k": 6', 1))
    refused = subprocess.run(never, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "use a new FOLDER" in refused.stderr
    assert lines["weavetime"].split("|")[5] == lines["window"].split("|")[5]  # who never looks back sees the window
