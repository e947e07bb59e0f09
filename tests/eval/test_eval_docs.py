"""What docs/evaluation.md shows runs: a benchmark found by its entry point, and the example in Python."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from tests.video.made_clips import make_clip, steady
from typer.testing import CliRunner

from weavetime.cli import app
from weavetime.errors import DataError
from weavetime.eval import Row, load, names

PAGE = (Path(__file__).parents[2] / "docs/evaluation.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
ENTRY = re.search(r'^\[project\.entry-points\."(.+)"\]\n(.+)$', PAGE, re.MULTILINE)


def rows() -> list[dict[str, object]]:
    told = {"question": "What is it?", "options": ["a knife", "a cup"], "video": "one.mp4"}
    return [
        {"id": "a", "task": "now", "time": 3, "answer": "A", **told},
        {"id": "b", "task": "now", "time": 6.5, "answer": "B", **told},
        {"id": "c", "task": "before", "time": 6.5, "answer": "B", **told},
    ]


@pytest.fixture
def kitchen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example as an installed package, and a folder of its data."""
    [code] = [block for block in BLOCKS if "class Kitchen" in block]
    assert ENTRY is not None
    package = tmp_path / "package"
    (package / "kitchen-1.0.dist-info").mkdir(parents=True)
    (package / "kitchen-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: kitchen\nVersion: 1.0\n")
    said = ENTRY[2].replace('"', "")
    (package / "kitchen-1.0.dist-info/entry_points.txt").write_text(f"[{ENTRY[1]}]\n{said}\n")
    (package / "kitchen.py").write_text(code)
    monkeypatch.syspath_prepend(package)
    monkeypatch.delitem(sys.modules, "kitchen", raising=False)
    data = tmp_path / "data"
    (data / "videos").mkdir(parents=True)
    (data / "kitchen.json").write_text(json.dumps(rows()))
    make_clip(data / "videos/one.mp4", steady(8, 4), rate=4)
    return data


def test_a_benchmark_of_another_package(kitchen: Path, tmp_path: Path) -> None:
    assert "kitchen" in names()
    out = tmp_path / "rows.jsonl"
    asked = ["eval", "kitchen", "--data", str(kitchen), "--mode", "window", "--set", "context=4", "--out", str(out)]
    ran = CliRunner().invoke(app, asked)
    assert ran.exit_code == 0, ran.output
    found = [Row.of(json.loads(line)) for line in out.read_text().splitlines()[1:]]
    assert {row.mode for row in found} == {"window", "blind", "last:4"}
    assert {row.id: (row.span, row.seen) for row in found if row.mode == "window"} == {
        "a": ((0.0, 3.0), 3.0),
        "b": ((2.5, 6.5), 6.5),
        "c": ((2.5, 6.5), 6.5),
    }
    for said in (["score", "kitchen", str(out)], ["report", str(out), "--out", str(tmp_path / "report")]):
        assert CliRunner().invoke(app, said).exit_code == 0
    checked = CliRunner().invoke(app, ["data", "check", "kitchen", str(kitchen)])
    assert checked.exit_code == 0, checked.output


def test_its_rule(kitchen: Path) -> None:
    benchmark = load("kitchen")
    examples = benchmark.examples(kitchen)
    replies = ("A", " b) a cup", None)
    grades = [benchmark.grade(e, reply) for e, reply in zip(examples, replies, strict=True)]
    assert [(g.value, g.counted) for g in grades] == [(1.0, True), (0.0, True), (0.0, False)]
    assert benchmark.tolerant(examples[1], replies[1]) == 1.0
    assert dict(benchmark.summarize(grades)) == {"now": 0.5, "before": None, "total": 0.5}
    (kitchen / "kitchen.json").write_text(json.dumps(rows()[:2]))
    with pytest.raises(DataError, match="before: 0 of 1"):
        benchmark.examples(kitchen)


def test_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    [code] = [block for block in BLOCKS if "measure(" in block]
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # the second time all rows are there
        exec(compile(code, "evaluation.md", "exec"), {})
        assert capsys.readouterr().out.count("'all': ") == 3
        assert len((tmp_path / "few.jsonl").read_text().splitlines()) == 1 + 3 * 8


def test_every_field_of_a_row_is_said() -> None:
    table = PAGE.partition("## What a row holds")[2].partition("\n## ")[0]
    said = [
        name
        for line in table.splitlines()
        if line.startswith("| `")
        for name in re.findall("`(.+?)`", line.split("|")[1])
    ]
    assert sorted(said) == sorted(f.name for f in fields(Row))
