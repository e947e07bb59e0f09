"""Two results on the same questions, by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from weavetime.cli import app
from weavetime.errors import DataError
from weavetime.eval import Example, Row, load, paired
from weavetime.eval.compare import Comparison, Line, compare, differing, pick
from weavetime.eval.report.results import Results

WORLD = load("streamworld")
HEAD: dict[str, Any] = {
    "benchmark": "streamworld",
    "variants": {"steps": 64},
    "stream": {"window": 4},
    "modes": {"weavetime": {"k": 64}, "window": {}},
    "about": {"model": "mini", "date": "2026-01-01", "versions": {"torch": "2.1"}},
}


def rows(rights: Mapping[str, bool], mode: str = "weavetime", **fields: Any) -> list[Row]:
    """A row for each VIDEO:TASK."""
    found = []
    for name, right in rights.items():
        video, task = name.split(":")
        example = Example(name, video, task, "Which?", ("red", "blue"), "A", 1.0)
        found.append(Row.graded(WORLD, example, mode, "A" if right else "B", **fields))
    return found


def results(*found: Iterable[Row], head: Mapping[str, Any] = HEAD, **more: Any) -> Results:
    modes: dict[str, list[Row]] = {}
    for each in found:
        for row in each:
            modes.setdefault(row.mode, []).append(row)
    return Results(Path("made.jsonl"), head, WORLD, modes, **more)


def lines(found: Comparison) -> dict[str, Line]:
    return {line.name: line for line in found.lines}


A = {"a:first": True, "a:last": True, "b:first": False, "b:last": True, "c:last": True}
B = {"a:first": False, "a:last": False, "b:first": True, "b:last": False, "d:last": True, "e:last": False}


def test_paired_figures_by_hand() -> None:
    found = compare(results(rows(A)), results(rows(B)), "weavetime", "weavetime")
    assert (found.only_a, found.only_b, found.uncounted, found.unanswered) == (1, 2, 0, 0)
    each = lines(found)
    assert list(each) == ["first", "last", "all questions", "official all"]
    every = each["all questions"]
    assert (every.n, every.a, every.b, every.only_a, every.only_b) == (4, 0.75, 0.25, 3, 1)
    # Video a: +1 on both questions; b: -1 and +1. Two videos drawn twice: 0, 1/2 or 1.
    assert (every.low, every.high) == (0, 1)
    assert each["first"] == Line("first", 2, 0.5, 0.5, -1, 1, 1, 1)
    assert each["last"] == Line("last", 2, 1, 0, 1, 1, 2, 0)
    official = each["official all"]
    assert (official.n, official.a, official.b, official.low, official.high) == (4, 0.75, 0.25, 0, 1)
    assert official.only_a is None


def test_the_other_way_round_is_the_opposite() -> None:
    one, other = results(rows(A)), results(rows(B))
    there, here = lines(compare(one, other, *["weavetime"] * 2)), lines(compare(other, one, *["weavetime"] * 2))
    for name, line in there.items():
        back = here[name]
        assert (line.a, line.only_a) == (back.b, back.only_b)
        assert (line.low, line.high) == pytest.approx((-back.high, -back.low))


def test_two_modes_of_one_file() -> None:
    one = results(rows(A), rows(B, "window"))
    found = compare(one, one, "weavetime", "window")
    assert lines(found)["all questions"].only_a == 3
    assert ("mode", "weavetime", "window") in found.settings
    assert ("settings.k", 64, None) in found.settings


def test_values_between_right_and_wrong_are_paired_too() -> None:
    mean, low, high = paired([0.5, 1.0, 0.25, 0.25], [0.0, 0.5, 0.25, 0.25], ["x", "x", "y", "y"])
    assert (mean, low, high) == (0.25, 0, 0.5)


def test_rows_that_the_rule_skips_are_in_the_official_total_alone() -> None:
    skipped = [replace(row, counted=False) if row.id == "a:first" else row for row in rows(A)]
    found = compare(results(skipped), results(rows(B)), "weavetime", "weavetime")
    assert found.uncounted == 1
    assert lines(found)["all questions"].n == 3
    assert lines(found)["official all"].a == pytest.approx(2 / 3)  # of the three that count there
    assert lines(found)["official all"].b == 0.25


def test_unanswered_questions_are_wrong_unless_they_may_be_missing() -> None:
    lost = [*rows({"a:first": True}, problem="gone"), *rows(A)[1:]]
    counted = compare(results(lost), results(rows(B)), "weavetime", "weavetime")
    assert lines(counted)["all questions"].a == 0.5
    left = compare(results(lost, missing=True), results(rows(B)), "weavetime", "weavetime")
    assert (left.unanswered, lines(left)["all questions"].n) == (1, 3)
    with pytest.raises(DataError, match="nothing is left"):
        compare(results(lost[:1], missing=True), results(rows(B)), "weavetime", "weavetime")


def test_a_macro_total_is_compared_by_the_official_aggregation() -> None:
    mlvu = load("mlvu")
    options = ("red", "blue", "green", "grey")

    def made(rights: Mapping[str, bool]) -> Results:
        each = [
            Row.graded(mlvu, Example(i, i, i.rstrip("0123456789"), "?", options, "A"), "rekv", "A" if r else "B")
            for i, r in rights.items()
        ]
        return Results(Path("mlvu.jsonl"), {"benchmark": "mlvu"}, mlvu, {"rekv": each})

    few = {f"count{i}": i == 0 for i in range(2)}
    many = {f"order{i}": True for i in range(8)}
    found = lines(compare(made(few | many), made(dict.fromkeys(few | many, False)), "rekv", "rekv"))
    assert found["all questions"].a == 0.9
    assert found["official M-Avg"].a == 0.75  # of 1/2 and 1
    assert (found["official M-Avg"].low, found["official M-Avg"].high) == (0.5, 1)  # draws with both tasks


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ({"benchmark": "mlvu"}, "same benchmark"),
        ({"variants": {"steps": 32}}, r"same variants \(steps 64 and 32\)"),
    ],
)
def test_other_questions_are_refused(head: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        compare(results(rows(A)), results(rows(B), head={**HEAD, **head}), "weavetime", "weavetime")


def test_another_version_of_a_question_is_refused() -> None:
    other = [replace(row, question="Another?") if row.id == "b:last" else row for row in rows(B)]
    with pytest.raises(DataError, match="b:last is not the same"):
        compare(results(rows(A)), results(other), "weavetime", "weavetime")
    with pytest.raises(DataError, match="no question in common"):
        compare(results(rows({"a:first": True})), results(rows({"z:first": True})), "weavetime", "weavetime")


def test_modes_are_picked() -> None:
    found = results(rows(A), rows(B, "window"))
    assert pick(found, None) == "weavetime"
    assert pick(found, None, "window") == "window"
    assert pick(found, None, "rekv") == "weavetime"
    with pytest.raises(DataError, match="no mode rekv: there are weavetime, window"):
        pick(found, "rekv")


def test_settings_that_differ() -> None:
    a = {"same": 1, "one": {"x": 1, "y": [1, 2]}, "gone": 3}
    b = {"same": 1, "one": {"x": 2, "y": [1, 2]}, "new": None}
    assert list(differing(a, b)) == [("one.x", 1, 2), ("gone", 3, None)]
    head = {**HEAD, "stream": {"window": 8}, "about": {**HEAD["about"], "date": "2027-01-01"}}
    found = compare(results(rows(A)), results(rows(A), head=head), "weavetime", "weavetime")
    assert found.settings == (("stream.window", 4, 8),)  # the day does not matter


def file(path: Path, *found: Iterable[Row], **head: Any) -> Path:
    lines = [{**HEAD, **head}, *(row.to_dict() for each in found for row in each)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_the_command(tmp_path: Path) -> None:
    one = file(tmp_path / "a.jsonl", rows(A), rows(B, "window"))
    other = file(tmp_path / "b.jsonl", rows(B, "window"), stream={"window": 8})
    run = CliRunner().invoke
    within = run(app, ["compare", str(one)])
    assert within.exit_code == 0
    assert "all questions  4  0.750  0.250  +0.500  +0.000 to +1.000       3       1" in within.stdout
    assert "1 questions are only in A" in within.stdout
    across = run(app, ["compare", str(one), str(other), "--mode", "weavetime", "--other", "window"])
    assert "stream.window: 4, 8" in across.stdout
    assert f"B: window of {other}" in across.stdout
    assert "all questions  4" in across.stdout
    third = file(tmp_path / "c.jsonl", rows(A), rows(B, "window"), rows(B, "rekv"))
    with pytest.raises(DataError, match="name the other mode with --other"):
        run(app, ["compare", str(third)], catch_exceptions=False)
