"""`data convert`: both formats hold the same, roots move, memory stays small, and nothing is dropped unsaid."""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from weavetime.data import parse, stream
from weavetime.data.convert import Converted, convert, parse_root
from weavetime.errors import DataError


def chat(video: str, *turns: tuple[str, str], **beside: Any) -> list[dict[str, Any]]:
    """One sample as the published files write it."""
    opening: list[dict[str, Any]] = [{"type": "video", "video": video, **beside}]
    messages: list[dict[str, Any]] = []
    for question, answer in turns:
        messages.append({"role": "user", "content": [*opening, {"type": "text", "text": question}]})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
        opening = []
    return messages


SAMPLES: list[Any] = [
    chat("/old/videos/a.mp4", ("What is it?", "A cup.")),
    chat("/old/videos/deep/b c.mp4", ("Wo?", "Da, ‘é’ 😀\n."), ("\n", " "), video_start=1.5, video_end=20, nframes=8),
    {
        "id": "x-1",
        "source": {"set": [1, None]},
        "messages": chat("rel/c.mp4", ('"<video>"', "<image>"), key_frame_idx=[0, 7]),
    },
    chat("/older/d.mp4", ("line sep", "half \ud83d a character"), video_end=0.25),
]


def write(path: Path, samples: list[Any], last: str = "") -> Path:
    path.write_text("".join(json.dumps(s) + "\n" for s in samples) + last)
    return path


def records(path: Path) -> list[Any]:
    return [parse(value) for _, value in stream(path)]


def test_there_and_back_is_the_same(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", SAMPLES)
    for here, there in (("a.jsonl", "b.json"), ("b.json", "c.jsonl"), ("c.jsonl", "d.json")):
        assert convert(tmp_path / here, tmp_path / there) == Converted(4, 0, (), {})
        assert records(tmp_path / there) == records(source)
    assert (tmp_path / "b.json").read_bytes() == (tmp_path / "d.json").read_bytes()
    assert [json.loads(line) for line in (tmp_path / "c.jsonl").read_text().splitlines()] == SAMPLES
    array = json.loads((tmp_path / "b.json").read_text())
    assert array[1] == {
        "video": "/old/videos/deep/b c.mp4",
        "video_start": 1.5,
        "video_end": 20,
        "nframes": 8,
        "conversations": [
            {"from": "human", "value": "<video>\nWo?"},
            {"from": "gpt", "value": "Da, ‘é’ 😀\n."},
            {"from": "human", "value": "\n"},
            {"from": "gpt", "value": " "},
        ],
    }
    assert array[2]["id"] == "x-1"
    assert array[2]["source"] == {"set": [1, None]}


def test_the_offsets_at_the_end_are_no_sample(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", SAMPLES[:2], "[0, 143, 2866]")
    assert convert(source, tmp_path / "b.json").samples == 2


def test_the_format_may_be_said(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", SAMPLES[:1])
    convert(source, tmp_path / "b.json", form="jsonl")
    assert json.loads((tmp_path / "b.json").read_text()) == SAMPLES[0]


def test_roots_move(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", SAMPLES)
    roots = [parse_root("/old/videos=/data/v"), parse_root("=/data/rel")]
    assert convert(source, tmp_path / "b.jsonl", roots=roots).moved == 3
    found = [str(r.video) for r in records(tmp_path / "b.jsonl")]
    assert found == ["/data/v/a.mp4", "/data/v/deep/b c.mp4", "/data/rel/rel/c.mp4", "/older/d.mp4"]
    convert(tmp_path / "b.jsonl", tmp_path / "c.jsonl", roots=[("/data/v", "/old/videos"), ("/data/rel", "")])
    assert records(tmp_path / "c.jsonl") == records(source)
    convert(source, tmp_path / "d.jsonl", roots=[("/old/videos/deep", "/x"), ("/old", "/y")])
    assert [str(r.video) for r in records(tmp_path / "d.jsonl")][:2] == ["/y/videos/a.mp4", "/x/b c.mp4"]
    for wrong in ("/ol", "/old/video", "nothing"):
        with pytest.raises(DataError, match=r"no video is under .*; a first one is /old/videos/a\.mp4"):
            convert(source, tmp_path / "e.jsonl", roots=[(wrong, "/x")])
    assert not list(tmp_path.glob("*e.jsonl*"))
    with pytest.raises(DataError, match="OLD=NEW"):
        parse_root("/only")


def test_what_has_no_place_is_said(tmp_path: Path) -> None:
    odd = chat("a.mp4", ("q", "a"))
    odd[0]["content"][1]["title"] = "t"
    odd[1]["loss"] = 0
    llava = {
        "video": "a.mp4",
        "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a", "w": 1}],
    }
    (tmp_path / "l.json").write_text(json.dumps([llava, llava]))
    assert convert(write(tmp_path / "a.jsonl", [odd]), tmp_path / "b.json").dropped == {"title": 1, "loss": 1}
    assert convert(tmp_path / "l.json", tmp_path / "c.json").dropped == {"w": 2}


BAD = {
    "not json": ("{", r"a\.jsonl:2: not JSON"),
    "empty": ("{}", r"a\.jsonl:2: "),
    "no conversation": ('{"messages": []}', r"a\.jsonl:2: .*empty"),
    "a video is missing": (
        json.dumps([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]),
        "video",
    ),
    "cut": (json.dumps(SAMPLES[0])[:-30], r"a\.jsonl:2: not JSON"),
    "binary": ("\x00\x01", r"a\.jsonl:2: not JSON"),
}


@pytest.mark.parametrize("how", BAD)
def test_a_bad_sample_stops_or_is_left_out(tmp_path: Path, how: str) -> None:
    text, message = BAD[how]
    source = tmp_path / "a.jsonl"
    source.write_text(json.dumps(SAMPLES[0]) + "\n" + text + "\n" + json.dumps(SAMPLES[1]) + "\n")
    with pytest.raises(DataError, match=message) as caught:
        convert(source, tmp_path / "b.json")
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]
    done = convert(source, tmp_path / "b.json", skip_bad=True)
    assert (done.samples, len(done.left_out)) == (2, 1)
    assert "a.jsonl:2" in done.left_out[0]


@pytest.mark.parametrize("text", ["", "[", "[{}", '{"a": 1}', "null", '[{"video": "a.mp4"', "<html>"])
def test_a_broken_array_leaves_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=r"a\.json"):
        convert(tmp_path / "a.json", tmp_path / "b.jsonl", skip_bad=True)
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_target_that_exists_stays(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", SAMPLES)
    (tmp_path / "b.json").write_text("mine")
    for target in ("b.json", "a.jsonl"):
        with pytest.raises(DataError, match="exists"):
            convert(source, tmp_path / target)
    with pytest.raises(DataError, match=r"\.jsonl .* or \.json"):
        convert(source, tmp_path / "b.txt")
    with pytest.raises(DataError, match="no such file"):
        convert(tmp_path / "gone.jsonl", tmp_path / "c.json")
    assert (tmp_path / "b.json").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "b.json"]


def test_an_interrupted_conversion_leaves_nothing(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", SAMPLES)

    def stop(n: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "b.json", told=stop)
    assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]


def test_memory_does_not_grow_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weavetime.data.records.CHUNK", 1 << 14)
    peaks = []
    for count in (10, 1000, 4000):  # the first imports what is imported late
        one, two, back = (tmp_path / f"{count}{end}" for end in (".jsonl", ".json", "-back.jsonl"))
        write(one, [chat(f"/old/{i}.mp4", ("What is it? " * 20, f"It is {i}.")) for i in range(count)])
        gc.collect()  # what tests before left behind is not to be let go in between
        tracemalloc.start()
        convert(one, two, roots=[("/old", "/new")])
        convert(two, back, roots=[("/new", "/old")])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert back.read_bytes() == one.read_bytes()
    assert one.stat().st_size > 4 * peaks[2]
    assert peaks[2] < 1.3 * peaks[1]


def test_the_command(tmp_path: Path, call: Callable[..., Any]) -> None:
    source = write(tmp_path / "a.jsonl", [*SAMPLES, {"messages": []}])
    ran = call("data", "convert", source, tmp_path / "b.json", "--video-root", "/old=/new")
    assert (ran.code, ran.out) == (1, "")
    assert "a.jsonl:5" in ran.err.splitlines()[-1]
    ran = call("data", "convert", source, tmp_path / "b.json", "--video-root", "/old=/new", "--skip-bad")
    assert (ran.code, ran.out) == (0, "")
    assert "4 samples, 2 videos moved" in ran.err
    assert "a.jsonl:5" in ran.err
    assert call("data", "convert", source, tmp_path / "c.json", "--format", "xml").code == 2
