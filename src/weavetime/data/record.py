"""One training sample, read from and written as the two shapes it has in files: chat messages, and LLaVA's JSON."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DataError

CHAT, LLAVA = ("user", "assistant"), ("human", "gpt")
BESIDE = ("video_start", "video_end", "nframes", "key_frame_idx")
_MARK = re.compile(r"^\s*<(?:image|video)>[ \t]*\n?|\n?[ \t]*<(?:image|video)>\s*$")

Turns = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Record:
    """One sample: a video and a conversation about it.

    video: as the file writes it; `RecordFile` puts the folder before it. start, end: seconds, None for the video's own.
    nframes: most frames of this sample, in place of the setting. key_frames: pictures that must be among its frames, by
    their number in the video, from 0 in the order they are shown. turns: (question, answer). extra: whatever else the
    file says of the sample.
    """

    video: Path
    turns: Turns
    id: str | None = None
    start: float | None = None
    end: float | None = None
    nframes: int | None = None
    key_frames: tuple[int, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


def parse(value: Any, where: str | None = None) -> Record:
    """A sample of either shape from its JSON value; `where` stands before a complaint. Raises DataError."""
    try:
        if isinstance(value, list):
            return _chat({"messages": value})
        if isinstance(value, dict) and "messages" in value:
            return _chat(value)
        if isinstance(value, dict) and "conversations" in value:
            return _llava(value)
        raise DataError("a sample is a list of messages, or an object with messages or conversations")
    except DataError as e:
        raise DataError(f"{where}: {e}" if where else str(e)) from e


def _chat(value: dict[str, Any]) -> Record:
    said: list[tuple[Any, str]] = []
    videos: list[dict[str, Any]] = []
    late = False
    for message in _list(value["messages"]):
        if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
            raise DataError(f"a message is an object with role and content, got {_short(message)}")
        text, found = _content(message["content"])
        late = late or bool(found and said)
        videos += found
        said.append((message["role"], text))
    turns = _turns(said, CHAT)
    if len(videos) != 1:
        raise DataError(f"a sample has one video, this one has {len(videos)}")
    if late:
        raise DataError("the video must stand in the first message")
    beside = {k: v for k, v in value.items() if k != "messages"}
    return _record({**beside, **{k: v for k, v in videos[0].items() if k != "type"}}, turns)


def _content(content: Any) -> tuple[str, list[dict[str, Any]]]:
    """The text of a message, and its videos."""
    if isinstance(content, str):
        return content, []
    texts, videos = [], []
    for part in _list(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "video":
            videos.append(part)
        else:
            raise DataError(f"a message holds texts and a video, got {_short(part)}")
    return "".join(texts), videos


def _llava(value: dict[str, Any]) -> Record:
    said: list[tuple[Any, str]] = []
    for turn in _list(value["conversations"]):
        text = turn.get("value") if isinstance(turn, dict) else None
        if not isinstance(text, str) or "from" not in turn:
            raise DataError(f"a conversation is of objects with from and value, got {_short(turn)}")
        said.append((turn["from"], text if said else _MARK.sub("", text, count=1)))
    return _record({k: v for k, v in value.items() if k != "conversations"}, _turns(said, LLAVA))


def _turns(said: list[tuple[Any, str]], roles: tuple[str, str]) -> Turns:
    if not said:
        raise DataError("the conversation is empty")
    for i, (role, _) in enumerate(said):
        if role != roles[i % 2]:
            raise DataError(f"{roles[0]} and {roles[1]} take turns, but message {i + 1} is from {_short(role)}")
    if len(said) % 2:
        raise DataError("the last question has no answer")
    return tuple((q, a) for (_, q), (_, a) in zip(said[::2], said[1::2], strict=True))


def _record(beside: dict[str, Any], turns: Turns) -> Record:
    def take(name: str, fine: Callable[[Any], bool], wanted: str) -> Any:
        value = beside.pop(name, None)
        if value is not None and not fine(value):
            raise DataError(f"{name} is {_short(value)}, and must be {wanted}")
        return value

    identity = take("id", lambda v: isinstance(v, str) or _whole(v), "a text")
    video = take("video", lambda v: isinstance(v, str) and bool(v) and "\0" not in v, "the path of a video")
    if video is None:
        raise DataError("the sample names no video")
    start, end = (take(name, _seconds, "seconds from 0 on") for name in BESIDE[:2])
    if end is not None and end <= (start or 0):
        raise DataError(f"video_end {end} must come after video_start {start or 0}")
    nframes = take("nframes", lambda v: _whole(v) and v > 0, "a number of frames from 1")
    keys = take("key_frame_idx", _pictures, "the numbers of pictures, from 0")
    keys = keys if isinstance(keys, list) else [] if keys is None else [keys]
    name = None if identity is None else str(identity)
    return Record(Path(video), turns, name, start, end, nframes, tuple(sorted(set(keys))), beside)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise DataError(f"expected a list, got {_short(value)}")
    return value


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _pictures(value: Any) -> bool:
    return _whole(value) or (isinstance(value, list) and all(_whole(v) for v in value))


def _seconds(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def to_chat(record: Record) -> Any:
    """A sample as chat messages: the list of them, or an object where there is more to say of the sample."""
    opening: list[Any] = [{"type": "video", "video": str(record.video), **_beside(record)}]
    messages = []
    for question, answer in record.turns:
        messages.append({"role": "user", "content": [*opening, {"type": "text", "text": question}]})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
        opening = []
    more = {**_id(record), **record.extra}
    return {**more, "messages": messages} if more else messages


def to_llava(record: Record) -> dict[str, Any]:
    """A sample as LLaVA writes it."""
    said = []
    for i, (question, answer) in enumerate(record.turns):
        said.append({"from": "human", "value": question if i else f"<video>\n{question}"})
        said.append({"from": "gpt", "value": answer})
    return {**_id(record), "video": str(record.video), **_beside(record), **record.extra, "conversations": said}


def _id(record: Record) -> dict[str, Any]:
    return {} if record.id is None else {"id": record.id}


def _beside(record: Record) -> dict[str, Any]:
    values = (record.start, record.end, record.nframes, list(record.key_frames) or None)
    return {k: v for k, v in zip(BESIDE, values, strict=True) if v is not None}
