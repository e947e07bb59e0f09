"""A needle in a stream as a benchmark: cells, pictures, figures, the command."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import weavetime as wt
from weavetime.cli import main
from weavetime.config import StreamConfig
from weavetime.errors import DataError
from weavetime.eval import Grade, Row, Run, measure
from weavetime.eval.analysis.haystack import Haystack
from weavetime.eval.analysis.needle import Needle, found, needle_picture
from weavetime.pictures import Map, heat_maps
from weavetime.pictures.heat import DARK, LIGHT, blend
from weavetime.world import KINDS, Renderer, Script, with_needle
from weavetime.world.write import write_video

SMALL = Needle(lengths=(16, 40), depths=(0.0, 0.5, 1.0), per_cell=2, open=True, seed=8)


def test_a_stream_for_every_cell() -> None:
    examples = SMALL.examples()
    assert [e.id for e in examples][:3] == ["16:0:0", "16:0:1", "16:0.5:0"]
    assert len({e.id for e in examples}) == 2 * 3 * 2
    for e in examples:
        length, depth = e.extra["length"], e.extra["depth"]
        assert e.at == length - 1
        assert e.evidence[0][0] == round(depth * (length - 5))
        frames = [f for batch in SMALL.frames(e.video, 8, torch.device("cpu")) for f in batch]
        assert [f.time for f in frames] == list(range(length))
        script, asked = SMALL.hidden(e.video)
        assert np.array_equal(frames[-1].pixels, Renderer(script).picture(length - 1))
        assert sum(KINDS[v.kind] == asked.kinds[0] for v in script.visits) == 1
    same = {(e.extra["length"], e.id[-1]): set() for e in examples}
    for e in examples:
        same[e.extra["length"], e.id[-1]].add((e.task, e.gold))
    assert all(len(golds) == 1 for golds in same.values())  # at every depth
    assert len({e.task for e in examples}) == 2


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ({"lengths": ()}, "a length"),
        ({"lengths": (8,)}, "at least 16 steps"),
        ({"depths": (1.5,)}, "from 0 to 1"),
        ({"per_cell": 0}, "a stream of each"),
    ],
)
def test_settings_that_cannot_be(said: dict[str, object], match: str) -> None:
    with pytest.raises(DataError, match=match):
        Needle(**said)  # type: ignore[arg-type]


def rows_of(cells: dict[str, bool]) -> list[Row]:
    examples = {e.id: e for e in SMALL.examples()}
    return [Row.graded(SMALL, examples[i], "m", examples[i].gold if right else "no") for i, right in cells.items()]


def test_figures_by_cell() -> None:
    rows = rows_of({"16:0:0": True, "16:0:1": False, "40:1:0": True, "40:1:1": True})
    assert found(rows) == {(0.0, 16): (1, 2), (1.0, 40): (2, 2)}
    picture = needle_picture(rows)
    colours = {colour for _, colour in picture.getcolors(1 << 20) or ()}
    assert {blend(0.5), blend(1.0)} <= colours


def test_darker_is_more() -> None:
    assert (blend(0), blend(1), blend(7)) == (LIGHT, DARK, DARK)
    shades = [sum(blend(i / 10)) for i in range(11)]
    assert shades == sorted(shades, reverse=True)
    drawn = heat_maps([Map("a", {(0, 0): (1.0, "")})], ["r"], ["c", "d"], ("down", "across"))
    assert drawn.mode == "RGB"
    with pytest.raises(ValueError, match="at least"):
        heat_maps([], ["r"], ["c"], ("down", "across"))


def test_mini_finds_what_its_window_does_not_hold() -> None:
    with wt.load("mini") as engine:
        needle = Needle(lengths=(96,), depths=(0.0, 1.0), per_cell=6, seed=1)
        exhaustive = wt.WeaveTime(k=16, coarse=6)  # all 96 blocks are candidates, as with the record's 1,024
        run = Run(needle, Path(), needle.examples(), StreamConfig(window=16), (exhaustive, "window"))
        rows = list(measure(engine, run))
    weavetime, window = (found([r for r in rows if r.mode == mode]) for mode in run.names)
    assert weavetime[0.0, 96] == (6, 6)
    assert weavetime[1.0, 96][0] >= 5
    assert window[0.0, 96][0] <= 2  # one of four options, guessed
    assert window[1.0, 96][0] >= 5


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    out, picture = tmp_path / "rows.jsonl", tmp_path / "deep" / "needle.png"
    words = ["needle", "--lengths", "16,24", "--depths", "0,1", "--per-cell", "1", "--open", "--mode", "window"]
    monkeypatch.setattr("sys.argv", ["weavetime", *words, "--out", str(out), "--picture", str(picture)])
    with pytest.raises(SystemExit) as left:
        main()
    said = capsys.readouterr().out
    assert not left.value.code
    assert "24 s" in said
    assert said.strip().endswith("n=4")
    assert [json.loads(x)["id"] for x in out.read_text().splitlines()[1:]] == ["16:0:0", "16:1:0", "24:0:0", "24:1:0"]
    assert Image.open(picture).width > 200
    monkeypatch.setattr("sys.argv", ["weavetime", "needle", "--depths", "0;1"])
    with pytest.raises(SystemExit):
        main()
    assert "--depths takes numbers" in capsys.readouterr().err


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A film, a picture of a card that never comes in it, and a question about that card."""
    folder = tmp_path_factory.mktemp("own")
    film, picture = folder / "film.mp4", folder / "card.png"
    script = Script(31, 40)
    write_video(script, film, size=112, fps=4)
    hidden, asked = with_needle(script, 0.5, "past_attribute", random.Random(1))
    Image.fromarray(Renderer(hidden).picture(asked.evidence[0][0] + 1)).save(picture)
    return {"film": str(film), "picture": str(picture), "asks": asked.text, "answer": asked.answer}


def test_a_picture_of_ones_own(own: dict[str, str]) -> None:
    hay = Haystack(**own, lengths=(20, 40), depths=(0.0, 0.5, 1.0), rate=2.0, open=True)
    examples = hay.examples()
    assert [(e.id, e.evidence) for e in examples[:3]] == [
        ("20:0", ((0.0, 4.0),)), ("20:0.5", ((7.75, 11.75),)), ("20:1", ((15.5, 19.5),)),
    ]  # fmt: skip
    card = np.asarray(Image.open(own["picture"]))
    for e in examples:
        frames = [f for batch in hay.frames(e.video, 16, torch.device("cpu")) for f in batch]
        assert len(frames) == e.extra["length"] * 2
        same = [f.time for f in frames if np.array_equal(f.pixels, card)]
        [(a, b)] = e.evidence
        assert same == [f.time for f in frames if a <= f.time < b]
        assert len(same) == 8
        assert same[-1] < frames[-1].time
    assert hay.grade(examples[0], f"It is {own['answer'].upper()}.").value == 1.0
    assert hay.grade(examples[0], None) == Grade(0.0, task="needle")
    with wt.load("mini") as engine:
        run = Run(hay, Path(), examples, StreamConfig(window=16, fps=2.0), ("weavetime",))
        rows = list(measure(engine, run))
    assert sum(row.right for row in rows) >= 5
    assert hay.summarize(Grade(row.value, task=row.task) for row in rows)["all"] >= 5 / 6
    assert set(found(rows)) == {(d, n) for d in hay.depths for n in hay.lengths}


def test_a_haystack_that_cannot_be(own: dict[str, str]) -> None:
    for said, match in (
        ({"lengths": (41,)}, "lasts 40 s"),
        ({"picture": own["film"]}, "no image"),
        ({"choices": ("a", "b")}, "not among the options"),
    ):
        with pytest.raises(DataError, match=match):
            Haystack(**{"lengths": (20,), **own, **said})  # type: ignore[arg-type]


def test_the_command_with_a_film(
    own: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["needle", "--video", own["film"], "--lengths", "20", "--depths", "0,1", "--out", str(tmp_path / "r.jsonl")]
    about = ["--image", own["picture"], "--question", own["asks"], "--answer", own["answer"]]
    monkeypatch.setattr("sys.argv", ["weavetime", *words, *about])
    with pytest.raises(SystemExit) as left:
        main()
    assert not left.value.code
    assert capsys.readouterr().out.strip().endswith("n=2")
    monkeypatch.setattr(
        "sys.argv", ["weavetime", "inspect", str(tmp_path / "r.jsonl"), "--id", "20:1", "--model", "mini"]
    )
    with pytest.raises(SystemExit):
        main()
    assert "the same answer" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["weavetime", *words])
    with pytest.raises(SystemExit):
        main()
    assert "needs --image" in capsys.readouterr().err
