"""The report: figures worked out by hand, what it must say loudly, and pages that need nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from typer.testing import CliRunner

import weavetime as wt
from weavetime.cli import app
from weavetime.errors import DataError
from weavetime.eval import Benchmark, Example, Grade, Row, Run, Summary, load, measure
from weavetime.eval.base import by_task, macro, mean
from weavetime.eval.curves import at_delta, distance_bins, doublings, gate_bins
from weavetime.eval.intervals import intervals, resampled
from weavetime.eval.protocol import about, prompts, settings
from weavetime.eval.published import not_comparable, published
from weavetime.eval.report import report
from weavetime.eval.report.blocks import Block, Heading, Table, Text, html, markdown
from weavetime.eval.report.card import alerts, card
from weavetime.eval.report.looks import distance, gate
from weavetime.eval.report.results import Results, read
from weavetime.eval.report.tables import faults, modes, paper, scores

WORLD = load("streamworld")
HEAD = {
    "benchmark": "streamworld",
    "variants": {"steps": 64},
    "model": {"family": "llava_onevision", "delta": 0.3, "layers": 3, "pixels": "112x112", "time_prompts": True},
    "stream": {"window": 4, "fps": 1.0, "visual_only": False},
    "modes": {"weavetime": {"k": 64, "delta": None}, "window": {}, "blind": {}, "last:4": {}},
    "questions": 4,
    "prompts": {"fingerprint": "abc", "first": "Which colour?"},
    "about": {"model": "mini", "device": "a card", "commit": "1234+", "versions": {"torch": "2"}, "limit": None},
}


def row(name: str, mode: str, right: bool = True, **fields: Any) -> Row:
    """One made-up row; its id is VIDEO:TASK."""
    video, task = name.split(":")
    example = Example(name, video, task, "Which?", ("red", "blue"), "A", 20.0, (0.0, 20.0), fields.pop("evidence", ()))
    return Row.graded(WORLD, example, mode, "A" if right else "B", seen=20.0, **fields)


def results(rows: Iterable[Row], head: Mapping[str, Any] = HEAD, benchmark: Benchmark = WORLD, **more: Any) -> Results:
    found: dict[str, list[Row]] = {}
    for each in rows:
        found.setdefault(each.mode, []).append(each)
    return Results(Path("made.jsonl"), head, benchmark, found, **more)


def file(folder: Path, rows: Iterable[Row], name: str = "made.jsonl", **head: Any) -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(x) + "\n" for x in ({**HEAD, **head}, *(r.to_dict() for r in rows))))
    return path


def table(blocks: Iterable[Block], number: int = 0) -> dict[str, dict[str, Any]]:
    """A table's cells by row and column."""
    found = [block for block in blocks if isinstance(block, Table)][number]
    return {str(cells[0]): dict(zip(found.header[1:], cells[1:], strict=True)) for cells in found.rows}


def loud(found: Results) -> str:
    return " ".join(text.text for text in alerts(found))


FOUR = (("a:now_object", True), ("b:now_object", False), ("a:first", True), ("b:first", True))


def test_scores_by_hand() -> None:
    rows = [*(row(n, "blind", False) for n, _ in FOUR), *(row(n, "weavetime", right) for n, right in FOUR)]
    found = table(scores(results(rows)))
    assert list(found) == ["now_object", "first", "all"]
    assert list(found["all"]) == ["weavetime", "blind", "n counted", "rows"]  # baselines come last
    # Two videos, drawn twice: 0, 1/2 or 1.
    assert found["now_object"]["weavetime"] == ("0.500", "0.000–1.000")
    # The same of every draw; Wilson's lower bound of 2 in 2 is 2 / (2 + 1.96²).
    assert found["first"]["weavetime"] == ("1.000", "0.342–1.000")
    # Draws give 1/2, 3/4 or 1; Wilson's of 3 in 4 is 0.301 to 0.954.
    assert found["all"]["weavetime"] == ("0.750", "0.301–1.000")
    assert found["all"]["blind"] == ("0.000", "0.000–0.490")
    assert (found["all"]["n counted"], found["all"]["rows"]) == ("4", "4")


class Skips(Benchmark):
    """Silence is not counted; the total is the mean of two tasks, whatever their sizes."""

    name = "skips"
    counts = {"x": 3, "y": 1}  # noqa: RUF012

    def read(self, root: Path, partial: bool) -> Iterator[Example]:
        yield from ()

    def prompt(self, example: Example) -> str:
        return example.question

    def grade(self, example: Example, response: Any) -> Grade:
        return Grade(float(response == "A"), response is not None, task=example.task)

    def tolerant(self, example: Example, response: Any) -> float | None:
        return float(response in ("A", "a"))

    def summarize(self, grades: Iterable[Grade]) -> Summary:
        tasks = [mean(task, mine) for task, mine in by_task(grades, self.counts).items()]
        return Summary((*tasks, macro("total", tasks)))


def skips(replies: Mapping[str, Any], mode: str = "weavetime") -> list[Row]:
    found = []
    for name, reply in replies.items():
        video, task = name.split(":")
        found.append(Row.graded(Skips(), Example(name, video, task[0], "Which?", (), "A"), mode, reply))
    return found


def test_both_denominators_and_the_official_total() -> None:
    made = results(skips({"a:x1": "A", "b:x2": "B", "c:x3": None, "d:y": "a"}), {}, Skips())
    found = table(scores(made))
    assert (found["x"]["n counted"], found["x"]["rows"], found["x"]["weavetime"][0]) == ("2", "3", "0.500")
    assert (found["total"]["n counted"], found["total"]["rows"]) == ("3", "4")
    assert found["total"]["weavetime"][0] == "0.250"  # of 1/2 and 0, not 1 of 3
    assert found["tolerant reading"]["weavetime"] == "0.500"  # of all four


def test_the_total_of_unequal_tasks_has_an_interval_of_its_own() -> None:
    rows = skips({f"v{i}:x{i}": "A" if i % 2 else "B" for i in range(100)} | {f"w{i}:y{i}": "A" for i in range(2)})
    found = intervals(Skips(), rows)
    low, high = found["x"]
    assert (low, high) == (pytest.approx(0.4, abs=0.02), pytest.approx(0.6, abs=0.02))  # 0.5 ± 1.96 · 0.05
    assert found["total"] == (pytest.approx((1 + low) / 2, abs=0.03), pytest.approx((1 + high) / 2, abs=0.03))


def test_whole_videos_are_drawn() -> None:
    draws = list(resampled(["a", "b", "a", "c"], 200))
    assert all((picked.count(0), picked.count(2)) == (picked.count(0),) * 2 for picked in draws)
    assert {len(picked) for picked in draws} == {3, 4, 5, 6}  # no a, one, two or three times
    assert draws == list(resampled(["a", "b", "a", "c"], 200))


def test_a_whole_run_with_baselines_needs_no_warning() -> None:
    rows = [row(name, mode) for name, _ in FOUR for mode in HEAD["modes"]]  # type: ignore[attr-defined]
    assert loud(results(rows)) == ""


def test_what_is_missing_is_said_loudly() -> None:
    rows = [row(name, "weavetime") for name, _ in FOUR[:3]]
    rows[0] = row(FOUR[0][0], "weavetime", problem="gone")
    head = {**HEAD, "about": {**HEAD["about"], "limit": 4, "partial": True}}  # type: ignore[dict-item]
    said = loud(results(rows, head))
    for words in (
        "only the first 4 questions",
        "Partial run",
        "of 4 rows there are weavetime 3",
        "counted as wrong: weavetime 1",
        "beside blind and last:4: run `weavetime eval` with --mode blind --mode last:4",
    ):
        assert words in said
    assert "left out of all figures" in loud(results(rows, head, missing=True))
    assert "Not the published questions: x: 1 of 3, y: 0 of 1." in loud(results(skips({"a:x": "A"}), {}, Skips()))
    assert "Format unverified" in loud(results([row("a:first", "blind")], benchmark=load("rvs")))


def test_unanswered_questions_count_unless_they_may_be_missing() -> None:
    rows = [*(row(n, "blind") for n, _ in FOUR[:3]), row(FOUR[3][0], "blind", problem="gone")]
    assert table(scores(results(rows)))["all"]["blind"][0] == "0.750"
    left = table(scores(results(rows, missing=True)))["all"]
    assert (left["blind"][0], left["n counted"]) == ("1.000", "3")
    listed = table(faults(results([*rows, row("a:last", "blind", note="a broken frame")])))
    assert listed == {"b: gone": {"rows, all modes": "1"}}


def test_recall_and_latency() -> None:
    times = [{"first_token": i / 1000, "total": i / 100} for i in (1, 2, 3, 4, 5)]
    rows = [row(f"a:{t}", "weavetime", gate=0.5, recalled=i < 2, timings=times[i]) for i, t in enumerate(TASKS)]
    found = modes(results([*rows, row("a:first", "weavetime", problem="gone")]))
    assert next(block for block in found if isinstance(block, Table)).rows == (
        ("weavetime", "5", "0.400", "0.500", "3.0", "4.8", "30.0", "48.0"),
    )


TASKS = ("now_object", "now_text", "first", "last", "count")


def test_distance_bins() -> None:
    ends = {"now_object": 20.0, "now_text": 16.0, "first": 9.0, "last": 8.0, "count": 1.0}  # 0, 4, 11, 12, 19 s back
    rows = [row(f"a:{t}", "window", t != "last", evidence=((0.0, end),)) for t, end in ends.items()]
    found = table(distance(results([*rows, row("b:order", "window")])))  # no evidence: not among them
    assert [(name, cells["n"], cells["window"][0]) for name, cells in found.items()] == [
        ("inside the window (< 4 s)", "1", "1.000"),
        ("within layers × window (< 12 s)", "2", "1.000"),
        ("beyond (12 s or more)", "2", "0.500"),
    ]
    assert [len(b.rows) for b in distance_bins(rows, doublings(4, 19))] == [1, 1, 2, 1]  # from 0, 4, 8 and 16 s
    assert doublings(4, 3) == [4]
    assert list(distance(results([row("b:order", "window")]))) == []


def test_what_was_read_of_the_evidence() -> None:
    half = row("a:first", "window", evidence=((2.0, 4.0), (10.0, 12.0)), read=(((3.0, 7.0),),))
    none = row("a:last", "window", evidence=((2.0, 4.0),), read=(((8.0, 9.0),), ((3.5, 4.5),)))
    found = table(distance(results([half, none])), 1)["window"]
    assert found["n"] == "2"
    assert float(found["recall"]) == pytest.approx((1 / 2 + (0 + 1) / 2) / 2, abs=1e-3)
    assert float(found["recall, any layer"]) == pytest.approx((1 / 2 + 1) / 2, abs=1e-3)
    assert float(found["precision"]) == pytest.approx((1 / 4 + (0 + 1 / 2) / 2) / 2, abs=1e-3)
    assert float(found["precision, any layer"]) == pytest.approx((1 / 4 + 0.5 / 2) / 2, abs=1e-3)


GATES = {"now_object": 0.1, "now_text": 0.35, "first": 0.5, "last": 0.9, "count": 1.0}


def gated(delta: float = 0.3) -> list[Row]:
    always = [row(f"a:{t}", "weavetime", g > 0.4, gate=g, recalled=g >= delta) for t, g in GATES.items()]
    return [*always, *(row(f"a:{t}", "window", g < 0.4) for t, g in GATES.items())]


def test_the_gate_and_its_curve() -> None:
    blocks = list(gate(results(gated())))
    assert [block.text for block in blocks if isinstance(block, Heading)] == ["The gate of weavetime"]
    bins, curve = table(blocks), table(blocks, 1)
    assert {name: (cells["n"], cells["recalled"], cells["accuracy"][0]) for name, cells in bins.items()} == {
        "0.1–0.2": ("1", "0", "0.000"),
        "0.3–0.4": ("1", "1", "0.000"),
        "0.5–0.6": ("1", "1", "1.000"),
        "0.9–1": ("2", "2", "1.000"),
    }
    assert list(curve) == ["0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1.01 and above"]
    # At 0.3 four recall, of which one is wrong, and the window is right on the first; at 0.4 all are right.
    assert (curve["0.3"]["recalled"], curve["0.3"]["accuracy"][0]) == ("0.800", "0.800")
    assert (curve["0.4"]["recalled"], curve["0.4"]["official all"]) == ("0.600", "1.000")
    assert (curve["0.6"]["recalled"], curve["0.6"]["accuracy"][0]) == ("0.400", "0.800")
    assert curve["1.01 and above"]["accuracy"][0] == "0.400"
    assert sum(len(b.rows) for b in gate_bins(gated())) == 5


def test_without_the_windows_answers_it_says_how_to_get_the_curve() -> None:
    blocks = list(gate(results(gated()[:5])))
    assert any(isinstance(b, Text) and "--mode weavetime --delta 0 --mode window" in b.text for b in blocks)
    assert len([b for b in blocks if isinstance(b, Table)]) == 1


def test_every_threshold_is_what_a_run_at_it_gives() -> None:
    torch.set_num_threads(1)
    world = load("streamworld", limit=12, per_stream=12, steps=24)
    names = tuple(wt.WeaveTime(k=8, delta=d) for d in (0, 0.2, 0.4))
    with wt.load("mini") as engine:
        config = engine.stream(window=4).config
        run = Run(world, Path(), world.examples("."), config, (*names, "window"))
        rows = list(measure(engine, run))
    found: dict[str, dict[str, Row]] = {name: {} for name in run.names}
    for each in rows:
        found[each.mode][each.id] = each
    always, some, real, window = found.values()
    for start in (always, some):
        joined = at_delta(start, window, 0.4)
        assert 0 < sum(r.recalled for r in joined.values()) < len(joined)
        assert {k: (r.response, r.recalled, r.read) for k, r in joined.items()} == {
            k: (r.response, r.recalled, r.read) for k, r in real.items()
        }
    assert at_delta(always, window, 2) == window


def test_the_card_says_how_it_was_run() -> None:
    found = {name: cells["this run"] for name, cells in table(card(results([row("a:first", "weavetime")]))).items()}
    assert (found["fps"], found["pixels"], found["window"], found["layers"]) == ("1.0", "112x112", "4 blocks", "3")
    assert found["mode weavetime"] == "k 64, δ 0.3"  # the model's own
    assert found["prompts"].endswith("fingerprint abc")
    assert found["time prompts"] == "on"
    assert found["commit"] == "1234, and the code was changed since"
    assert found["rows"] == "4 asked; 1 in each mode"
    empty = {"benchmark": "streamworld"}
    bare = {n: c["this run"] for n, c in table(card(results([row("a:first", "x")], empty))).items()}
    assert bare["fps"] == bare["window"] == bare["commit"] == "not said by the results file"


@pytest.mark.parametrize(("context", "words"), [(60, "60 s before the question"), (None, "all of the video before")])
def test_which_context_of_streaming_bench(context: float | None, words: str) -> None:
    benchmark = load("streaming_bench", context=context)
    head = {"benchmark": "streaming_bench", "variants": {"context": context}}
    found = table(card(results([row("a:first", "blind")], head, benchmark)))
    assert words in found["context"]["this run"]
    assert "calls Main" in found["context"]["this run"]


def test_what_the_run_says_of_itself() -> None:
    world = load("streamworld", limit=6, per_stream=6, steps=32)
    examples = world.examples(".")
    with wt.load("mini") as engine:
        run = Run(world, Path(), examples, engine.stream(window=4).config, ("weavetime", "last:4", "oracle"))
        head, said = run.head(engine), about(engine, "mini", limit=3)
    assert head["model"]["pixels"] == "112x112"
    assert head["model"]["layers"] == 6
    assert {k: head["modes"]["weavetime"][k] for k in ("k", "coarse", "delta")} == {"k": 8, "coarse": 128, "delta": 0.2}
    assert head["modes"]["last:4"] == head["modes"]["oracle"] == {}
    assert head["prompts"] == prompts(world, examples)
    assert head["prompts"]["first"] == world.prompt(examples[0])
    assert prompts(world, examples[:-1])["fingerprint"] != head["prompts"]["fingerprint"]
    other = [replace(examples[0], question="Another?"), *examples[1:]]
    assert prompts(world, other)["fingerprint"] != head["prompts"]["fingerprint"]
    assert said["limit"] == 3
    assert said["parameters"] > 1e6
    assert settings("rekv:8", wt.Record()) == {"k": 8, "cosine": False}


SEVEN = {"model": {"family": "llava_onevision"}, "questions": 4}


def test_published_figures_stand_beside_comparable_ones_only() -> None:
    size = {"parameters": 8_030_000_000, "model": "x"}
    assert not_comparable("ovo_bench", SEVEN, size, True) == ""
    assert "part of the questions" in not_comparable("ovo_bench", SEVEN, size, False)
    assert "this run is of mini" in not_comparable("ovo_bench", SEVEN, {"parameters": 7_000_000, "model": "mini"}, True)
    assert "another model" in not_comparable("ovo_bench", {}, {}, True)
    assert next((p.method, p.value) for p in published("streaming_bench", SEVEN)) == ("ReKV", 66.15)
    assert published("streamworld", SEVEN) == []
    assert list(paper(results([row("a:first", "blind")]))) == []


def test_published_figures_and_what_differs() -> None:
    mlvu = load("mlvu")
    options = ("red", "blue", "green", "grey")
    rows = [
        Row.graded(mlvu, Example(f"{t}{i}", "v", t, "Which?", options, "A"), "rekv", "A" if i % 2 else "B")
        for t, n in mlvu.counts.items()
        for i in range(n)
    ]
    head = {**SEVEN, "benchmark": "mlvu", "questions": len(rows), "about": {"parameters": 8_030_000_000}}
    blocks = list(paper(results(rows, head, mlvu)))
    [shown] = [block for block in blocks if isinstance(block, Table)]
    assert [r[:3] for r in shown.rows][1] == ("LLaVA-OneVision-7B, ReKV", "M-Avg", "68.50")
    assert float(str(shown.rows[0][3])) == pytest.approx(100 * mlvu.summarize(r.grade for r in rows)["M-Avg"], abs=0.01)  # type: ignore[operator]
    assert "2168 of the 2175" in str(blocks[-1])
    cut = list(paper(results(rows[:-1], head, mlvu)))
    assert not [block for block in cut if isinstance(block, Table)]
    assert "part of the questions" in str(cut[-1])


class Tags(HTMLParser):
    """Checks that tags close in order, and keeps attributes that could fetch something."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.fetched += [f"{tag} {k}={v}" for k, v in attrs if k in ("src", "href", "srcset", "data", "action")]
        if tag not in ("meta", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_pages_are_whole_and_need_nothing_else(tmp_path: Path) -> None:
    far = {"evidence": ((2.0, 4.0),), "read": (((3.0, 7.0),),)}
    rows = [
        *gated(),
        row("a:<b>|*", "blind", problem="<script>alert(1)</script> | `x` [y](z)"),
        row("a:first", "blind"),
    ]
    rows[-2] = replace(rows[-2], task="first", id="z")
    rows[0] = row("a:now_object", "weavetime", gate=0.1, **far)
    written = report([file(tmp_path, rows)], tmp_path / "out")
    names = {path.name for path in written}
    assert names == {
        "report.md",
        "report.html",
        "made-weavetime-gate.svg",
        "made-weavetime-delta.svg",
        "made-distance.svg",
    }
    page = (tmp_path / "out/report.html").read_text()
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert tags.fetched == []
    assert not tags.seen & {"script", "link", "img", "iframe", "b"}
    assert "url(" not in page
    assert "@import" not in page
    assert re.findall(r"https?://[^\"<]*", page.replace("http://www.w3.org/2000/svg", "")) == []
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page
    text = (tmp_path / "out/report.md").read_text()
    assert "\\<script>alert(1)\\</script> \\| `x` \\[y](z)" in text
    assert {f"made-{name}.svg" for name in ("distance", "weavetime-gate", "weavetime-delta")} == set(
        re.findall(r"\]\(([^)]*svg)\)", text)
    )
    for path in written[2:]:
        ElementTree.parse(path)


def test_tables_in_both_forms() -> None:
    block = Table(("task", "x|y"), (("a", ("0.5", "0.1–0.9")), ("all", "")), frozenset({1}))
    assert markdown([block]) == "| task | x\\|y |\n| --- | --: |\n| a | 0.5 (0.1–0.9) |\n| **all** |  |\n"
    page = html([block, Text("see `a<b`", loud=True), Text("```", code=True)], "t")
    assert "<td>0.5<small>0.1–0.9</small></td>" in page
    assert '<tr class="strong"><td>all</td>' in page
    assert '<p class="loud">see <code>a&lt;b</code></p>' in page
    assert markdown([Text("a```b", code=True)]) == "````text\na```b\n````\n"


def test_several_files_have_an_overview(tmp_path: Path) -> None:
    one = file(tmp_path, [row(n, "blind", right) for n, right in FOUR], questions=4)
    two = file(tmp_path, [row(n, "blind") for n, _ in FOUR[:2]], "other.jsonl", questions=4)
    report([one, two], tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "| made.jsonl | streamworld: mini | blind | all | 0.750 (0.301–1.000) | 4 | 4 |" in text
    assert "other.jsonl: The run is not finished" in text
    assert text.index("not finished") < text.index("| file |")


def test_the_command(tmp_path: Path) -> None:
    path = file(tmp_path, [row(n, "blind", right) for n, right in FOUR])
    done = CliRunner().invoke(app, ["report", str(path), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0
    assert done.stdout.split() == [str(tmp_path / "out" / f"report.{kind}") for kind in ("md", "html")]


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not say which benchmark"):
        read(file(tmp_path, [], benchmark=None))
    with pytest.raises(DataError, match="holds no row yet"):
        read(file(tmp_path, []))
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path / "none.jsonl")
    lost = file(tmp_path, [row("a:first", "blind", problem="gone")])
    with pytest.raises(DataError, match="nothing is left with --allow-missing"):
        read(lost, allow_missing=True)
    with pytest.raises(DataError, match="the same name"):
        report([lost, lost], tmp_path)


def test_grades_are_those_of_the_rule_now(tmp_path: Path) -> None:
    wrong = replace(row("a:first", "blind"), value=0.0)
    assert read(file(tmp_path, [wrong])).modes["blind"][0].value == 1.0
