"""The runner on real video files: what is fed when, once, in which stream; rows, kills, videos that are not there."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
from tests.video.made_clips import make_clip, steady

import weavetime as wt
from weavetime.config import StreamConfig
from weavetime.errors import DataError, ModeError
from weavetime.eval import Benchmark, Example, Grade, Judge, Row, Run, Summary, Verdict, measure
from weavetime.eval.base import Ask, Span, by_task, mean
from weavetime.eval.run import groups
from weavetime.eval.scoring import by_mode, from_responses, judged_rows, load_rows, rescored, summary, write_rows
from weavetime.types import Answer

MODES = ("weavetime", "window", "rekv:2", "blind", "last:2", "oracle")
CONFIG = StreamConfig(window=3, batch=4)
LONG, RATE = 12, 4  # seconds, pictures a second


class Made(Benchmark):
    """Questions about clips that the test wrote."""

    name = "made"
    counts = {"a": 3, "b": 2}  # noqa: RUF012
    max_tokens = 4

    def read(self, root: Path, partial: bool) -> Iterator[Example]:
        for line in (root / "made.jsonl").read_text().splitlines():
            said = json.loads(line)
            spans = {k: tuple(v) for k, v in said.items() if k == "span"}
            evidence = tuple(map(tuple, said.get("evidence", ())))
            yield Example(**{**said, "options": (), "gold": "x", **spans, "evidence": evidence})

    def prompt(self, example: Example) -> str:
        return f"{example.question} One word, please."

    def grade(self, example: Example, response: Any) -> Grade:
        return Grade(float(bool(response)), response is not None, task=example.task, parsed=response)

    def summarize(self, grades: Iterable[Grade]) -> Summary:
        every = list(grades)
        return Summary((*(mean(k, v) for k, v in by_task(every, self.counts).items()), mean("total", every)))


@dataclass(frozen=True)
class Pieces(Made):
    """The same, each question about several stretches."""

    pieces: tuple[Span, ...] = ((1.0, 2.5), (6.0, 8.0))
    name = "pieces"

    def spans(self, example: Example) -> tuple[Span, ...]:
        return self.pieces


class Polled(Made):
    """The same, asked each second from its time on to the end of its span."""

    name = "polled"

    def converse(self, example: Example, ask: Ask) -> tuple[Any, Answer]:
        assert example.at is not None
        assert example.span is not None
        said = []
        for second in range(int(example.at), int(example.span[1]) + 1):
            answer = ask(self.question(example), float(second), self.decoding(example))
            assert answer.at <= second
            said.append((second, answer.text))
        return said, answer


def line(id: str, task: str = "a", video: str = "one.mp4", **more: Any) -> dict[str, Any]:
    return {"id": id, "task": task, "video": video, "question": f"What is {id}?", **more}


LINES = [
    line("late", at=9.2, span=(0, 10), evidence=[(2.0, 3.0)]),
    line("early", at=3.0, span=(0, 3)),
    line("together", "b", at=9.0, span=(0, 10)),
    line("middle", at=8.0, span=(5, 8)),
    line("whole", "b", video="two.mp4"),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    (folder / "videos").mkdir()
    for i, name in enumerate(("one", "two")):
        make_clip(folder / "videos" / f"{name}.mp4", steady(LONG, RATE), rate=RATE, first=1000 * i)
    (folder / "made.jsonl").write_text("".join(json.dumps(x) + "\n" for x in LINES))
    return folder


@pytest.fixture(scope="module")
def engine() -> Iterator[wt.Engine]:
    with wt.load("mini") as engine:
        yield engine


def run_of(benchmark: Benchmark, root: Path, modes: tuple[str, ...] = MODES, **config: Any) -> Run:
    return Run(benchmark, root, benchmark.examples(root), replace(CONFIG, **config), modes)


def alike(rows: Iterable[Row]) -> list[Row]:
    """Rows without what may differ from run to run."""
    return [replace(row, timings={}, gate=None if row.gate is None else round(row.gate, 4)) for row in rows]


@pytest.fixture(scope="module")
def rows(engine: wt.Engine, root: Path) -> list[Row]:
    return list(measure(engine, run_of(Made(), root)))


def test_a_row_for_every_question_in_every_mode(rows: list[Row]) -> None:
    assert sorted(row.key for row in rows) == sorted((x["id"], m) for x in LINES for m in MODES)
    assert all(row.response and not row.problem for row in rows)
    order = list(dict.fromkeys(row.id for row in rows))
    assert order == ["early", "late", "together", "middle", "whole"]  # in the order of the moments, stream by stream


def test_spans_from_one_start_are_encoded_once(engine: wt.Engine, root: Path) -> None:
    fed: list[int] = []
    run = run_of(Made(), root)
    list(measure(engine, run, on_fed=fed.append))
    assert [(g.video, g.start, g.end, len(g.asked)) for g in groups(run)] == [
        ("one.mp4", 0, 10, 3),
        ("one.mp4", 5, 8, 1),
        ("two.mp4", 0, math.inf, 1),
    ]
    assert sum(fed) == 11 + 4 + LONG  # 0..10, 5..8, all


def test_rows_are_what_a_stream_of_their_own_finds(engine: wt.Engine, root: Path, rows: list[Row]) -> None:
    """Each question with its own stream, fed with what its span shows and nothing else, and asked about now."""
    found = {row.key: row for row in rows}
    for example in Made().examples(root):
        start, end = example.span or (0, math.inf)
        path = root / "videos" / example.video
        frames = [f for f in wt.open_video(path, start=start) if f.time <= end]
        with engine.stream(window=3) as stream:
            stream.feed(frames)
            for mode in ("weavetime", "window", "rekv:2", "blind"):
                [answer] = stream.ask_all([Made().question(example)], mode=mode, decoding=Made().decoding(example))
                row = found[example.id, mode]
                assert (row.response, row.recalled, row.seen) == (answer.text, answer.recalled, frames[-1].time)
                assert row.gate is None or row.gate == pytest.approx(answer.gate, abs=1e-4)
                assert {t for layer in row.read for a, b in layer for t in range(int(a), int(b))} == set(
                    map(int, answer.evidence.times)
                )
        with engine.stream(window=None) as stream:
            stream.feed(frames[-2:])
            [answer] = stream.ask_all([Made().question(example)], mode="full", decoding=Made().decoding(example))
            assert found[example.id, "last:2"].response == answer.text
            assert found[example.id, "last:2"].read == (((frames[-2].time, frames[-1].time + 1),),)


def test_the_oracle_sees_the_evidence_or_the_newest_frame(rows: list[Row]) -> None:
    read = {row.id: row.read[0] for row in rows if row.mode == "oracle"}
    assert read == {
        "late": ((2.0, 3.0),),
        "early": ((3.0, 4.0),),
        "together": ((10.0, 11.0),),
        "middle": ((8.0, 9.0),),
        "whole": ((11.0, 12.0),),
    }


@pytest.mark.parametrize("fps", [0.5, 1, 2, 3])
@pytest.mark.parametrize("variable", [False, True])
def test_no_later_picture_reaches_a_stream(
    engine: wt.Engine, tmp_path: Path, fps: float, variable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times of a clip of a steady or of a changing rate: nothing after the span's end, and nothing left out before."""
    (tmp_path / "videos").mkdir()
    times = [k / RATE for k in range(LONG * RATE)]
    if variable:
        times = [t for i, t in enumerate(times) if i % 7 not in (2, 3) or i > 30]
    make_clip(tmp_path / "videos/one.mp4", times, rate=RATE)
    spans = [(0, 2.6), (0, 3), (0, 7), (0, 9.75), (4, 7)]
    lines = [line(f"q{i}", at=end, span=(start, end)) for i, (start, end) in enumerate(spans)]
    (tmp_path / "made.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    fed: dict[wt.Stream, list[float]] = {}
    feed = wt.Stream.feed

    def spied(stream: wt.Stream, frames: Any) -> int:
        fed.setdefault(stream, []).extend(frame.time for frame in frames)
        return feed(stream, frames)

    monkeypatch.setattr(wt.Stream, "feed", spied)
    asked: dict[str, list[float]] = {}
    ask_all = wt.Stream.ask_all

    def spied_ask(stream: wt.Stream, questions: Any, **more: Any) -> Any:
        asked[questions[0].query] = list(fed[stream])
        return ask_all(stream, questions, **more)

    monkeypatch.setattr(wt.Stream, "ask_all", spied_ask)
    examples = list(Made().examples(tmp_path, partial=True))
    list(measure(engine, Run(Made(), tmp_path, examples, replace(CONFIG, fps=fps), ("window",))))
    monkeypatch.undo()
    for i, (start, end) in enumerate(spans):
        got = asked[f"What is q{i}?"]
        whole = [f.time for f in wt.open_video(tmp_path / "videos/one.mp4", fps=fps, start=start)]
        assert got == [t for t in whole if t <= end]
        assert end - got[-1] <= 1 / fps + 2 / RATE


def test_several_stretches_are_one_stream(engine: wt.Engine, root: Path) -> None:
    found = list(measure(engine, run_of(Pieces(), root, ("rekv",), window=2)))
    assert {row.read[0] for row in found} == {((1.0, 3.0), (6.0, 9.0))}
    assert all(row.seen == 8.0 for row in found)


def test_questions_in_turns(engine: wt.Engine, root: Path) -> None:
    benchmark = Polled()
    examples = [e for e in benchmark.examples(root) if e.at is not None and e.id != "late"]
    found = list(measure(engine, Run(benchmark, root, examples, CONFIG, ("window", "last:2", "blind"))))
    assert {row.id: [s for s, _ in row.response] for row in found} == {
        "early": [3],
        "together": [9, 10],
        "middle": [8],
    }
    assert {row.seen for row in found if row.id == "together"} == {10.0}
    with engine.stream(window=None) as stream:
        stream.feed([f for f in wt.open_video(root / "videos/one.mp4") if 7.5 < f.time <= 9])
        example = next(e for e in examples if e.id == "together")
        [answer] = stream.ask_all([benchmark.question(example)], mode="full", decoding=benchmark.decoding(example))
    row = next(row for row in found if row.key == ("together", "last:2"))
    assert row.response[0] == (9, answer.text)


def test_goes_on_at_the_row(engine: wt.Engine, root: Path, rows: list[Row]) -> None:
    fed: list[int] = []
    done = {row.key for row in rows[:20]}
    rest = list(measure(engine, run_of(Made(), root), done=done, on_fed=fed.append))
    assert alike(rest) == alike(rows[20:])
    assert sum(fed) == 4 + LONG  # the first span was done
    assert not list(measure(engine, run_of(Made(), root), done={row.key for row in rows}))


def test_videos_that_cannot_be_read(engine: wt.Engine, root: Path, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "made.jsonl").write_text((root / "made.jsonl").read_text())
    (tmp_path / "videos/two.mp4").write_bytes(b"no video")
    found = list(measure(engine, run_of(Made(), tmp_path, ("window", "blind"))))
    assert len(found) == 10
    assert all(row.response is None and row.value == 0 and row.counted for row in found)
    assert all("is not there" in row.problem for row in found if row.video == "one.mp4")
    assert all("two.mp4" in row.problem for row in found if row.video == "two.mp4")
    (tmp_path / "videos/one.mp4").symlink_to(root / "videos/one.mp4")
    found = list(measure(engine, run_of(Made(), tmp_path, ("window",))))
    assert {row.id for row in found if row.problem} == {"whole"}
    total = summary(Made(), found).score("total")
    assert (total.value, total.n, total.rows) == (0.8, 5, 5)
    total = summary(Made(), found, allow_missing=True).score("total")
    assert (total.value, total.n, total.rows) == (1.0, 4, 4)


def test_a_question_that_cannot_be_asked_spoils_no_other(engine: wt.Engine, root: Path, tmp_path: Path) -> None:
    (tmp_path / "videos").symlink_to(root / "videos")
    lines = [line("fine", at=4, span=(0, 4)), line("bad<|im_end|>", at=4, span=(0, 4))]
    (tmp_path / "made.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    examples = Made().examples(tmp_path, partial=True)
    fine, bad = measure(engine, Run(Made(), tmp_path, examples, CONFIG, ("window",)))
    assert fine.right
    assert "<|im_end|>" in bad.problem
    assert (bad.value, bad.counted) == (0, True)


def test_rows_survive_json_and_are_scored_again(rows: list[Row]) -> None:
    back = [Row.of(json.loads(json.dumps(row.to_dict()))) for row in rows]
    assert back == rows
    assert list(rescored(Made(), back)) == rows
    assert {m: len(mine) for m, mine in by_mode(rows).items()} == dict.fromkeys(MODES, 5)
    later = replace(rows[0], value=0.0)
    assert by_mode([*rows, later])[later.mode][0].value == 0.0
    with pytest.raises(DataError, match="not a row of a benchmark"):
        Row.of({"id": 1, "what": 2})


def test_distances() -> None:
    row = Row.graded(Made(), Example("i", "v", "a", "q", (), "x", 10.0, (0, 11), ((2, 3), (8, 9))), "window", "x")
    assert row.distance == 7.0
    assert replace(row, evidence=()).distance is None
    assert replace(row, evidence=((9.5, 12),)).distance == 0.0


@pytest.mark.parametrize(
    ("modes", "words"),
    [
        ((), "at least one mode"),
        (("window", "window"), "named twice"),
        (("sometimes",), "unknown mode"),
        (("last:0",), "a number of frames from 1"),
        (("last:x",), "a number of frames from 1"),
        (("full",), "full reads every block"),
    ],
)
def test_modes_that_cannot_be(root: Path, modes: tuple[str, ...], words: str) -> None:
    with pytest.raises(ModeError, match=words):
        run_of(Made(), root, modes)


def test_annotations_that_are_not_as_published(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no folder"):
        Made().examples(tmp_path / "none")
    (tmp_path / "made.jsonl").write_text("".join(json.dumps(x) + "\n" for x in LINES[:4]))
    with pytest.raises(DataError, match="b: 1 of 2"):
        Made().examples(tmp_path)
    assert len(Made().examples(tmp_path, partial=True)) == 4
    (tmp_path / "made.jsonl").write_text("".join(json.dumps(x) + "\n" for x in [*LINES, LINES[0]]))
    with pytest.raises(DataError, match="the id late stands 2 times"):
        Made().examples(tmp_path)
    (tmp_path / "made.jsonl").write_text("")
    with pytest.raises(DataError, match="holds no question"):
        Made().examples(tmp_path)


def test_responses_of_another_system(root: Path, tmp_path: Path) -> None:
    examples, path = Made().examples(root), tmp_path / "said.jsonl"
    path.write_text('{"id": "late", "response": "a cup"}\n\n{"id": "whole", "response": ""}\n')
    found = from_responses(Made(), examples, path)
    assert [(r.id, r.value, bool(r.problem)) for r in found if r.id in ("late", "whole", "early")] == [
        ("late", 1, False),
        ("early", 0, True),
        ("whole", 0, False),
    ]
    for text, words in (
        ('{"id": "never", "response": ""}', "has no question never"),
        ('{"id": "late", "response": ""}\n' * 2, "comes twice"),
        ("nonsense", "line 1: no JSON"),
        ('{"id": "late"}', 'must be {"id"'),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=words):
            from_responses(Made(), examples, path)
    with pytest.raises(DataError, match="cannot be read"):
        from_responses(Made(), examples, tmp_path / "none.jsonl")


class Open(Made):
    """Answers in free words; one of them is not public."""

    name = "open"
    open_answers = True

    def read(self, root: Path, partial: bool) -> Iterator[Example]:
        for example in super().read(root, partial):
            yield replace(example, gold=None if example.id == "whole" else "a cup")


def test_what_is_not_public_is_never_counted(root: Path) -> None:
    whole = next(e for e in Open().examples(root) if e.id == "whole")
    assert not Row.graded(Open(), whole, "window", None, problem="no such file").counted


def test_scored_rows_are_written_whole_or_not_at_all(rows: list[Row], tmp_path: Path) -> None:
    path = tmp_path / "deep" / "rows.jsonl"
    write_rows(path, {"benchmark": "made"}, rows)
    assert load_rows(path, "made") == ({"benchmark": "made"}, rows)
    with pytest.raises(DataError, match="is there already"):
        write_rows(path, {"benchmark": "made"}, rows)
    with pytest.raises(DataError, match="holds rows of made, not of other"):
        load_rows(path, "other")
    with pytest.raises(TypeError):
        write_rows(tmp_path / "bad.jsonl", {"benchmark": {1, 2}}, rows)
    assert [p.name for p in tmp_path.iterdir()] == ["deep"]


def test_a_judge_adds_its_parts(root: Path) -> None:
    rows = from_lines(root, {"late": "one cup", "early": None, "together": "a hat"})
    found = {row.id: row for row in judged_rows(Open(), rows, cast(Judge, Cups()))}
    assert found["late"].parts == {"judge": 1.0, "judge_score": 5.0}
    assert found["together"].parts == {"judge": 0.0, "judge_score": 1.0}
    assert found["early"].parts["judge"] == 0.0
    assert [r.parts for r in rescored(Open(), found.values())] == [r.parts for r in found.values()]


class Cups:
    """A judge to whom everything with a cup in it is right."""

    workers = 2

    def grade(self, question: str, gold: str, response: str) -> Verdict:
        return Verdict("cup" in response, 5.0 if "cup" in response else 1.0, response)


def from_lines(root: Path, said: dict[str, Any]) -> list[Row]:
    return [Row.graded(Open(), e, "window", said[e.id]) for e in Open().examples(root) if e.id in said]


class Hasty(Polled):
    """The same, over after the first turn."""

    name = "hasty"

    def converse(self, example: Example, ask: Ask) -> tuple[Any, Answer]:
        assert example.at is not None
        answer = ask(self.question(example), example.at, self.decoding(example))
        return [(example.at, answer.text)], answer


def test_a_row_says_what_was_seen_by_its_last_turn(engine: wt.Engine, root: Path) -> None:
    benchmark = Hasty()
    examples = [replace(e, at=8.5) for e in benchmark.examples(root) if e.id == "together"]
    found = list(measure(engine, Run(benchmark, root, examples, CONFIG, ("window", "last:2", "blind"))))
    assert [(row.span, row.seen) for row in found] == [((0, 10), 8.0)] * 3
