"""The model class for lmms-eval, over stand-ins for what it takes from there; lmms/check_lmms.py runs the tool."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

import weavetime as wt
from weavetime.errors import DataError, ModeError, ModelError
from weavetime.world import Script
from weavetime.world.write import write_video

SECONDS = 16


class Base:
    """As lmms_eval.api.model.lmms where this model touches it."""

    def __init__(self) -> None:
        self.rank, self.task_dict = 0, {}
        self.cleaned = False

    def clean(self) -> None:
        self.cleaned = True


@dataclass
class Manifest:
    """As lmms_eval.models.registry_v2.ModelManifest."""

    model_id: str
    simple_class_path: str | None = None
    chat_class_path: str | None = None


@dataclass
class Request:
    """As lmms_eval.api.instance.Instance of a chat model."""

    args: tuple[Any, ...]


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module, imported over the stand-ins."""
    places = {"lmms_eval": {}, "lmms_eval.api": {}, "lmms_eval.api.model": {"lmms": Base}}
    places |= {"lmms_eval.models": {}, "lmms_eval.models.registry_v2": {"ModelManifest": Manifest}}
    for name, content in places.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "weavetime.integrations.lmms_eval", raising=False)
    yield import_module("weavetime.integrations.lmms_eval")
    sys.modules.pop("weavetime.integrations.lmms_eval", None)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("videos")
    for seed in (1, 2):
        write_video(Script(seed, SECONDS, "test"), folder / f"{seed}.mp4", size=112, fps=4)
    return [str(folder / f"{seed}.mp4") for seed in (1, 2)]


def said(text: str, *media: Any) -> list[dict[str, Any]]:
    """A user's message as lmms-eval makes it."""
    parts = [m if isinstance(m, dict) and "type" in m and "url" in m else {"type": "video", "url": m} for m in media]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]


def until(path: str, end: float, start: float = 0.0) -> dict[str, Any]:
    return {"type": "video", "path": path, "video_start": start, "video_end": end}


def picture(value: int, size: tuple[int, int] = (112, 112)) -> dict[str, Any]:
    return {"type": "image", "url": Image.new("RGB", size, (value, 99, 7))}


def requests(model: Any, docs: Sequence[Any], settings: dict[str, Any] | None = None) -> list[Request]:
    """A request a document, which is its messages."""
    model.task_dict = {"film": {"test": docs}}
    settings = {"max_new_tokens": 6, "temperature": 0} if settings is None else settings
    return [Request(("", lambda doc: doc, settings, i, "film", "test")) for i in range(len(docs))]


def plain(frames: Sequence[wt.Frame], text: str, **asked: Any) -> str:
    with wt.load("mini") as engine:
        stream = engine.stream(window=4, fps=asked.pop("fps", 1.0))
        stream.feed(frames)
        return stream.ask(text, decoding=asked.pop("decoding", wt.Decoding(max_tokens=6)), **asked).text


def upto(path: str, end: float, start: float = 0.0) -> list[wt.Frame]:
    return [frame for frame in wt.open_video(path, fps=1.0, start=start) if frame.time <= end]


def test_what_the_tool_finds(plugin: Any) -> None:
    from weavetime.integrations import lmms_eval_model

    manifest = lmms_eval_model()
    module, _, name = manifest.chat_class_path.rpartition(".")
    assert (manifest.model_id, manifest.simple_class_path) == ("weavetime", None)
    kind = getattr(import_module(module), name)
    assert issubclass(kind, Base)
    assert kind.is_simple is False


def test_requests_about_a_video_share_a_stream(plugin: Any, videos: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    real = plugin.open_video
    monkeypatch.setattr(plugin, "open_video", lambda path, **kw: opened.append(path) or real(path, **kw))
    newest: dict[wt.Stream, float] = {}
    asked: list[float] = []
    feed, ask = wt.Stream.feed, wt.Stream.ask_all

    def noted(self: wt.Stream, frames: Iterator[wt.Frame]) -> Any:
        read = list(frames)
        newest[self] = max(frame.time for frame in read) if read else newest[self]
        return feed(self, read)

    def told(self: wt.Stream, questions: Sequence[Any], **more: Any) -> Any:
        asked.extend([newest[self]] * len(questions))
        return ask(self, questions, **more)

    monkeypatch.setattr(wt.Stream, "feed", noted)
    monkeypatch.setattr(wt.Stream, "ask_all", told)
    one, two = videos
    docs = [
        said("What is it?", one),
        said("What is it now?", until(one, 5)),
        said("What is it?", two),
        said("Where is it?", {"type": "video", "url": one, "start_time": None, "end_time": 5.0}),
        said("<video>\nWho?", until(one, 2.5)),
        said("What is it?", until(one, 9, start=3)),
    ]
    model = plugin.WeaveTime(pretrained="mini", window=4, batch_size="2")
    texts = model.generate_until(requests(model, docs))
    assert opened == [one, two, one]  # the last begins elsewhere
    spans = [upto(one, 99), upto(one, 5), upto(two, 99), upto(one, 5), upto(one, 2.5), upto(one, 9, start=3)]
    assert sorted(asked) == sorted(span[-1].time for span in spans)
    assert texts == [
        plain(upto(one, 99), "What is it?"),
        plain(upto(one, 5), "What is it now?"),
        plain(upto(two, 99), "What is it?"),
        plain(upto(one, 5), "Where is it?"),
        plain(upto(one, 2.5), "Who?"),
        plain(upto(one, 9, start=3), "What is it?"),
    ]
    assert len(set(texts)) > 2


def test_clips_follow_each_other(plugin: Any, videos: list[str]) -> None:
    model = plugin.WeaveTime(window=4)
    [text] = model.generate_until(requests(model, [said("What is it?", until(videos[0], 3), until(videos[1], 6, 4))]))
    first, second = upto(videos[0], 3), upto(videos[1], 6, 4)
    after = [wt.Frame(f.pixels, f.time + first[-1].time + 1 - second[0].time) for f in second]
    assert text == plain([*first, *after], "What is it?")


def test_lists_of_pictures_are_a_video(plugin: Any) -> None:
    model = plugin.WeaveTime(window=4, fps=2, max_frames=4)
    pictures = [picture(value) for value in range(0, 250, 40)]
    [text] = model.generate_until(requests(model, [said("What is it?", *pictures)]))
    kept = [np.asarray(pictures[i]["url"]) for i in (0, 2, 4, 6)]
    assert text == plain(list(wt.open_video(kept, fps=2)), "What is it?", fps=2.0)


def test_at_most_so_many_frames(plugin: Any, videos: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    fed: list[int] = []
    feed = wt.Stream.feed
    monkeypatch.setattr(wt.Stream, "feed", lambda self, frames: fed.append(feed(self, frames)))
    model = plugin.WeaveTime(window=4, max_frames=5)
    docs = [said("What?", videos[0]), said("What?", until(videos[0], 4)), said("What?", until(videos[0], 8))]
    model.generate_until(requests(model, docs))
    assert sorted(fed) == [5, 5, 5]


def test_turns_become_history(plugin: Any, videos: list[str]) -> None:
    model = plugin.WeaveTime(window=4)
    turns = [
        {"role": "system", "content": "Be short."},
        *said("What is it?", videos[0]),
        {"role": "assistant", "content": [{"type": "text", "text": "a cup"}]},
        {"role": "user", "content": "And now?"},
    ]
    asked = model.generate_until(requests(model, [turns]))
    history = [("Be short.\nWhat is it?", "a cup")]
    assert asked == [plain(upto(videos[0], 99), "And now?", history=history)]


def test_rounds(plugin: Any, videos: list[str]) -> None:
    heard: list[Any] = []

    def messages(doc: Any, round_idx: int = 0, **before: Any) -> Any:
        turn = said(f"What is it, {round_idx}?", until(videos[0], 4.0 + round_idx))
        heard.append(before)
        return (turn, round_idx == 2, before["previous_output"], {"of": round_idx}) if round_idx else turn

    model = plugin.WeaveTime(window=4)
    model.task_dict = {"film": {"test": [None]}}
    request = Request(("", messages, {"max_new_tokens": 6}, 0, "film", "test"))
    expected = [plain(upto(videos[0], 4.0 + i), f"What is it, {i}?") for i in range(2)]
    assert model.generate_until_multi_round([request]) == [expected]
    assert heard == [
        {},
        {"previous_output": expected[:1], "previous_round_info": None},
        {"previous_output": expected, "previous_round_info": {"of": 1}},
    ]


def test_a_video_that_cannot_be_read(plugin: Any, videos: list[str], caplog: pytest.LogCaptureFixture) -> None:
    model = plugin.WeaveTime(window=4)
    docs = [said("What?", "/gone.mp4"), said("What?", videos[0]), said("What?", until(videos[1], 99, start=90))]
    with caplog.at_level(logging.ERROR):
        texts = model.generate_until(requests(model, docs))
        model.clean()
    assert (texts[0], texts[2]) == ("", "")
    assert texts[1]
    assert "/gone.mp4" in caplog.text
    assert "2 requests have empty answers" in caplog.text
    assert model.cleaned


@pytest.mark.parametrize(
    ("settings", "decoding"),
    [
        ({}, wt.Decoding(1024)),
        (None, wt.Decoding(1024)),
        ({"max_new_tokens": 7, "until": ["\n\n"], "temperature": 0.0}, wt.Decoding(7, stop=("\n\n",))),
        ({"until": "stop", "temperature": 0.5, "top_p": 0.9}, wt.Decoding(1024, 0.5, 0.9, stop=("stop",))),
        ({"until": ["", "x"], "do_sample": False, "temperature": 0.7}, wt.Decoding(1024, stop=("x",))),
        ({"until": None, "top_p": None, "num_beams": 1}, wt.Decoding(1024)),
        ({"top_p": 0, "temperature": 0}, wt.Decoding(1024)),
    ],
)
def test_generation_settings(plugin: Any, settings: dict[str, Any] | None, decoding: wt.Decoding) -> None:
    assert plugin._decoding(settings or {}) == decoding


def test_answers_begin_and_end_as_is_said(plugin: Any, videos: list[str]) -> None:
    docs = [said("What is it?", videos[0])]
    model = plugin.WeaveTime(window=4, prefix="Best option: (", mode="window")
    [text] = model.generate_until(requests(model, docs))
    begun = wt.Decoding(max_tokens=6, prefix="Best option: (")
    assert text == plain(upto(videos[0], 99), "What is it?", mode="window", decoding=begun)
    model = plugin.WeaveTime(window=4)
    [text] = model.generate_until(requests(model, docs))
    stop = text[len(text) // 2]
    assert model.generate_until(requests(model, docs, {"max_new_tokens": 6, "until": [stop]})) == [text.split(stop)[0]]


@pytest.mark.parametrize(
    ("media", "words"),
    [
        ([picture(3)], "task film has single pictures"),
        ([], "task film has no pictures"),
        ([picture(3), picture(4, (56, 112))], "several sizes"),
        (["/a.mp4", picture(3)], "pictures beside a video"),
        (["/a.mp4", {"type": "audio", "url": "/a.wav"}], "plays sound"),
    ],
)
def test_tasks_that_show_no_video(plugin: Any, media: list[Any], words: str) -> None:
    model = plugin.WeaveTime()
    with pytest.raises(DataError, match=words):
        model.generate_until(requests(model, [said("What?", *media)]))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"frames": 3}, ModelError, "takes no frames"),
        ({"batch_size": "auto"}, ModelError, "batch_size must be a whole number"),
        ({"max_frames": 0}, ModelError, "max_frames must be a whole number"),
        ({"mode": "window", "k": 3}, ModeError, "mode window has no k"),
        ({"mode": "sometimes"}, ModeError, "unknown mode"),
        ({"pretrained": "/gone"}, ModelError, "/gone"),
    ],
)
def test_arguments_that_cannot_be(plugin: Any, arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        plugin.WeaveTime(**arguments)


def test_arguments(plugin: Any) -> None:
    settings: Callable[..., Any] = plugin.Settings
    assert settings(window="none").stream() == {"fps": 1.0, "batch": 16, "window": None}
    assert settings(fps=2).stream() == {"fps": 2.0, "batch": 16}
    assert settings(k=4, delta=0, coarse=9).asked() == wt.WeaveTime(k=4, delta=0, coarse=9)
    with pytest.raises(NotImplementedError, match="generate_until"):
        plugin.WeaveTime().loglikelihood([])
