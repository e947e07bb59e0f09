"""Training files: what is read is what was written, in either shape, and a broken one says where."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from written import TURNS, chat, llava, write_lines

from weavetime.data import Record, RecordFile, RecordWriter, parse, stream
from weavetime.data import records as files
from weavetime.errors import DataError

NASTY = (('"quoted" \\ {} [] }', "a\n\tb\u2028c"), ("\U0001f600 \u00fc", "<video> stays here"))
RECORDS = [
    Record(Path("a/b.mp4"), TURNS),
    Record(Path("c.mkv"), NASTY, "7", 1.5, 9.25, 12, (0, 3, 40)),
    Record(Path("/abs/ü.mp4"), (("", ""),), "x", extra={"source": ["[", {"deep": '}"'}], "score": 0.1}),
    Record(Path("d.mp4"), (("half \ud83d a pair", "<image>"),), nframes=1, key_frames=(5,)),
]


def test_chat_messages() -> None:
    beside = {"video_start": 1, "video_end": 2.5, "nframes": 4, "key_frame_idx": [9, 2, 9], "fps": 2}
    found = parse(chat("a.mp4", **beside))
    assert found == Record(Path("a.mp4"), TURNS, None, 1, 2.5, 4, (2, 9), {"fps": 2})
    assert parse({"id": 3, "messages": chat("a.mp4"), "more": 1}) == Record(
        Path("a.mp4"), TURNS, "3", extra={"more": 1}
    )
    plain = [{"role": "user", "content": [{"type": "video", "video": "a"}]}, {"role": "assistant", "content": "yes"}]
    assert parse(plain) == Record(Path("a"), (("", "yes"),))
    assert parse(chat("a", key_frame_idx=4, video_start=None)).key_frames == (4,)


@pytest.mark.parametrize("mark", ["<image>\n", "<video>\n", "<video>", "", " <image> \n"])
def test_llava_json(mark: str) -> None:
    assert parse(llava("a.mp4", mark=mark, nframes=3, data_source="s")) == Record(
        Path("a.mp4"), TURNS, "7", nframes=3, extra={"data_source": "s"}
    )


def test_a_mark_at_the_end() -> None:
    assert parse(llava("a", (("What?\n<image>", "This."),), mark="")).turns == (("What?", "This."),)


@pytest.mark.parametrize("chunk", [1 << 20, 1, 3])
def test_both_shapes_give_back_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(files, "CHUNK", chunk)
    for name in ("a.jsonl", "a.json"):
        with RecordWriter(tmp_path / name) as out:
            for record in RECORDS:
                out.write(record)
        file = RecordFile(tmp_path / name, tmp_path)
        assert [parse(value, where) for where, value in stream(tmp_path / name)] == RECORDS
        assert [file[i] for i in range(len(file))] == [replace(r, video=tmp_path / r.video) for r in RECORDS]
        assert [where for where, _ in stream(tmp_path / name)] == [file.where(i) for i in range(len(file))]
    json.loads((tmp_path / "a.json").read_text())


def test_relative_videos_start_from_the_file_or_the_root(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", [chat("v/a.mp4"), chat("/else/a.mp4")])
    assert RecordFile(path)[0].video == tmp_path / "v" / "a.mp4"
    assert RecordFile(path, "/root")[0].video == Path("/root/v/a.mp4")
    assert RecordFile(path, "/root")[1].video == Path("/else/a.mp4")


def test_a_file_that_was_not_finished_is_not_there(tmp_path: Path) -> None:
    def break_off() -> None:
        with RecordWriter(tmp_path / "a.json") as out:
            out.write(RECORDS[0])
            raise KeyboardInterrupt

    (tmp_path / "a.json").write_text("before")
    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "before"


def test_an_empty_array(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "a.json"):
        pass
    assert json.loads((tmp_path / "a.json").read_text()) == []
    assert len(RecordFile(tmp_path / "a.json")) == 0


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_a_large_file_is_indexed_in_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(files, "CHUNK", 1 << 16)
    count, path = 200_000 if name == "a.jsonl" else 40_000, tmp_path / name
    if name == "a.jsonl":
        text = "\n".join(json.dumps(chat(f"{i}.mp4", (("What?", str(i)),))) for i in range(count))
    else:
        text = f"[{', '.join(json.dumps(llava(f'{i}.mp4', (('What?', str(i)),))) for i in range(count))}]"
    path.write_text(text)
    del text
    tracemalloc.start()
    file = RecordFile(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < path.stat().st_size / 4
    assert peak < 8 << 20
    assert len(file) == count
    for i in (0, 1, 33_333, count - 1):
        assert file[i].turns == (("What?", str(i)),)
    if name == "a.jsonl":
        assert file.where(77_777) == f"{path}:77778"


def test_blank_lines_are_passed_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    one = json.dumps(chat("a.mp4"))
    path.write_text(f"\n{one}\r\n  \n\n{one}")
    file = RecordFile(path)
    assert len(file) == 2
    assert [file.where(i) for i in range(2)] == [f"{path}:2", f"{path}:5"]
    assert [where for where, _ in stream(path)] == [f"{path}:2", f"{path}:5"]


VIDEO = {"type": "video", "video": "a.mp4"}
ASK, SAY = {"role": "user", "content": [VIDEO]}, {"role": "assistant", "content": "yes"}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (3, "a sample is a list of messages"),
        ({"video": "a.mp4"}, "a sample is a list of messages"),
        ([], "the conversation is empty"),
        ({"conversations": [], "video": "a"}, "the conversation is empty"),
        ({"messages": {"role": "user"}}, "expected a list"),
        ([ASK], "the last question has no answer"),
        ([SAY, ASK], "message 1 is from 'assistant'"),
        ([{"role": "system", "content": "Be good."}, ASK, SAY], "user and assistant take turns"),
        ([ASK, SAY, SAY], "message 3 is from 'assistant'"),
        ([{"role": "user", "content": "no video"}, SAY], "one video, this one has 0"),
        ([{"role": "user", "content": [VIDEO, VIDEO]}, SAY], "one video, this one has 2"),
        ([{"role": "user", "content": "?"}, {"role": "assistant", "content": [VIDEO]}], "in the first message"),
        ([{"role": "user", "content": [{"type": "image", "image": "a"}]}, SAY], "got {'type': 'image'"),
        ([{"role": "user"}, SAY], "with role and content"),
        (["text", SAY], "with role and content"),
        ({"conversations": [{"from": "human"}], "video": "a"}, "with from and value"),
        ({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}, "names no video"),
        (chat("a", video_start="1"), "video_start is '1'"),
        (chat("a", video_start=-1), "video_start is -1"),
        (chat("a", video_end=float("nan")), "video_end is nan"),
        (chat("a", video_start=3, video_end=3), "video_end 3 must come after video_start 3"),
        (chat("a", nframes=0), "nframes is 0"),
        (chat("a", nframes=True), "nframes is True"),
        (chat("a", key_frame_idx=[1, -2]), "key_frame_idx is"),
        (chat("a", key_frame_idx="3"), "key_frame_idx is"),
        (chat(""), "video is ''"),
        (chat("a\0b"), "the path of a video"),
    ],
)
def test_a_sample_that_is_none(value: Any, said: str) -> None:
    with pytest.raises(DataError) as e:
        parse(value, "f.jsonl:3")
    assert str(e.value).startswith("f.jsonl:3: ")
    assert said in str(e.value)


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[1]", "[{}", "[{}]x", "[{},]", "[,{}]", "[{}{}]", '[{"a":"', '[{"a":[}]', "[[]]", '"x"', "[{}] []"],
)
def test_a_file_that_is_no_array(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"a\.json, byte \d+: this should be a JSON array of objects"):
        RecordFile(path)
    with pytest.raises(DataError, match="byte"):
        list(stream(path))


def test_broken_lines_are_named_when_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(json.dumps(chat("a")).encode() + b"\n{\n[\xff]\n" + b"[" * 100_000 + b"\n")
    file = RecordFile(path)
    assert file[0].turns == TURNS
    for i in (1, 2, 3):
        with pytest.raises(DataError, match=rf"a\.jsonl:{i + 1}: (not JSON|nested)"):
            file[i]
    with pytest.raises(DataError, match=r"a\.jsonl:2: not JSON"):
        list(stream(path))


def test_a_broken_byte_in_an_array(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'[{"a":"\xff"}]')
    with pytest.raises(DataError, match=r"a\.json, byte"):
        RecordFile(path)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        RecordFile(tmp_path / "a.jsonl")
    with pytest.raises(DataError, match=r"is \.jsonl .* or \.json"):
        RecordFile(tmp_path / "a.csv")
    (tmp_path / "b.json").mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        RecordFile(tmp_path / "b.json")
