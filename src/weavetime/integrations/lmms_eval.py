"""WeaveTime as a model of lmms-eval, on any of its video tasks that generate text.

    lmms-eval --model weavetime --model_args pretrained=mini,mode=weavetime,fps=1 --tasks videomme

It is a chat model: tasks hand it messages, and lmms-eval makes those of older tasks. Requests about one video share
one stream, whose frames are encoded once; where they end at different times, in the order of those times, so that none
sees past its own.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import groupby, islice
from typing import Any, NamedTuple

import numpy as np
from lmms_eval.api.model import lmms
from tqdm import tqdm

from ..config import Decoding, StreamConfig
from ..errors import DataError, ModelError, VideoError
from ..focus import Mode, parse_mode
from ..loading import Engine, load
from ..stream import Stream
from ..types import Frame, Question
from ..video import open_video

MARKS = ("<image>", "<video>")  # where other models put pictures into the text
LONGEST = 1024  # tokens of an answer where a task does not say, as in lmms-eval's own models
STREAM = StreamConfig()
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What stands in --model_args. k, delta, coarse: of the mode. window: blocks, or `none`. max_frames: most frames of
    one video, spread over it; None for as many as fps gives. prefix: what every answer is made to begin with, as in
    `Best option: (`; it is no part of the answer. batch: frames encoded per call. batch_size: questions about
    one moment answered at once. The others are as in `weavetime.load`.
    """

    pretrained: str = "mini"
    adapter: str | None = None
    time_prompts: bool | None = None
    dtype: str | None = None
    device: str | None = None
    device_map: str | None = None
    max_pixels: int | None = None
    mode: str = "weavetime"
    k: int | None = None
    delta: float | None = None
    coarse: int | None = None
    window: int | str | None = None
    fps: float = STREAM.fps
    max_frames: int | None = None
    prefix: str = ""
    batch: int = STREAM.batch
    batch_size: int = 1
    max_batch_size: int | None = None  # of lmms-eval's automatic batches, which there are none of

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_frames"):
            value = getattr(self, name)
            if not (value is None or (isinstance(value, int) and value >= 1)):
                raise ModelError(f"{name} must be a whole number from 1, got {value!r}")

    def load(self) -> Engine:
        """The engine; of several processes each takes a card of its own."""
        device = self.device
        if device in (None, "cuda") and self.device_map is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        kinds = {name: getattr(self, name) for name in ("adapter", "time_prompts", "dtype", "device_map", "max_pixels")}
        return load(str(self.pretrained), device=device, **kinds)

    def asked(self) -> Mode:
        """The mode with its own settings."""
        return parse_mode(self.mode).having(k=self.k, delta=self.delta, coarse=self.coarse)

    def stream(self) -> dict[str, Any]:
        """Settings of the streams; an unsaid window stays the model's own."""
        window = {} if self.window is None else {"window": None if self.window == "none" else self.window}
        return {"fps": float(self.fps), "batch": self.batch, **window}


class Clip(NamedTuple):
    """A stretch of a video, seconds, or pictures that are one."""

    source: Any
    start: float = 0.0
    end: float = math.inf


@dataclass(frozen=True)
class Asked:
    """A request as a stream is asked it. clips: played one after the other. where: what its answer is kept under."""

    where: Any
    question: Question
    clips: tuple[Clip, ...]
    decoding: Decoding

    @property
    def end(self) -> float:
        """Where what may be seen of the last clip ends, seconds."""
        return self.clips[-1].end

    @property
    def shared(self) -> tuple[Clip, ...] | None:
        """What requests that share a stream have in common; None where the pictures are its own."""
        if not all(isinstance(clip.source, str) for clip in self.clips):
            return None
        return (*self.clips[:-1], self.clips[-1]._replace(end=math.inf))


class WeaveTime(lmms):  # type: ignore[misc]  # lmms-eval is untyped
    """The model class. Arguments: the fields of Settings."""

    is_simple = False

    def __init__(self, **said: Any) -> None:
        super().__init__()
        if unknown := said.keys() - {f.name for f in fields(Settings)}:
            known = ", ".join(f.name for f in fields(Settings))
            raise ModelError(f"weavetime takes no {', '.join(sorted(unknown))}: there are {known}")
        size = str(said.get("batch_size"))  # from lmms-eval's own command line it comes as text
        self.settings = Settings(**said | ({"batch_size": int(size)} if size.isdecimal() else {}))
        self.mode = self.settings.asked()
        self.engine = self.settings.load()
        self.unread = 0  # requests whose video could not be read

    @property
    def device(self) -> Any:
        """Where pictures are encoded."""
        return self.engine.backbone.vision_device

    @property
    def batch_size(self) -> int:
        """Questions answered at once."""
        return self.settings.batch_size

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """A text for each request; empty, and an error in the log, where its video cannot be read."""
        texts: dict[int, str] = {}
        together: dict[Any, list[Asked]] = {}
        with tqdm(total=len(requests), disable=self.rank != 0, desc="Model Responding") as bar:
            for i, request in enumerate(requests):
                _, messages, settings, doc, task, split = request.args
                asked = _read(i, messages(self.task_dict[task][split][doc]), settings, task)
                if asked.shared is None:  # pictures are not kept until the rest was read
                    texts |= self._answers([asked], bar.update)
                else:
                    key = asked.clips if self.settings.max_frames else asked.shared
                    together.setdefault(key, []).append(asked)
            for group in together.values():
                texts |= self._answers(group, bar.update)
        return [texts[i] for i in range(len(requests))]

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[list[str]]:
        """Texts of each request, one a round, until its task says that it has no further one."""
        found = []
        for request in tqdm(requests, disable=self.rank != 0, desc="Model Responding"):
            _, messages, settings, doc, task, split = request.args
            said: list[str] = []
            turn, info = messages(self.task_dict[task][split][doc]), None
            while turn is not None:
                said.append(self._answers([_read(0, turn, settings, task)])[0])
                more = {"round_idx": len(said), "previous_output": list(said), "previous_round_info": info}
                turn, over, _, info = messages(self.task_dict[task][split][doc], **more)
                turn = None if over else turn
            found.append(said)
        return found

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Not there: lmms-eval asks chat models to generate."""
        raise NotImplementedError("weavetime answers tasks of the output type generate_until, not loglikelihood")

    def clean(self) -> None:
        """Let go of the model: everything was asked."""
        if self.unread:
            log.error("%d requests have empty answers, as their videos could not be read", self.unread)
        self.engine.close()
        super().clean()

    def _answers(self, group: Sequence[Asked], done: Callable[[int], Any] = lambda n: None) -> dict[Any, str]:
        """Texts of requests about one video, by `where`."""
        texts: dict[Any, str] = {}
        group = sorted(group, key=lambda asked: asked.end)
        try:
            for asked, text in self._watched(group):
                texts[asked.where] = text
                done(1)
        except VideoError as e:
            left = [asked.where for asked in group if asked.where not in texts]
            log.error("%s: %d requests get an empty answer", e, len(left))
            self.unread += len(left)
            texts |= dict.fromkeys(left, "")
            done(len(left))
        return texts

    def _watched(self, group: Sequence[Asked]) -> Iterator[tuple[Asked, str]]:
        clips = group[-1].clips  # the longest
        fps = _slowed(clips, self.settings)
        with self.engine.stream(**{**self.settings.stream(), "fps": fps}) as stream:
            tape = _Tape(stream, islice(_frames(clips, fps, self.settings), self.settings.max_frames))
            for end, moment in groupby(group, key=lambda asked: asked.end):
                tape.upto(end)
                if stream.memory.newest is None:
                    raise VideoError(f"{_name(clips)} shows nothing up to {end:g} s")
                alike: dict[Decoding, list[Asked]] = {}
                for asked in moment:
                    alike.setdefault(asked.decoding, []).append(asked)
                for decoding, every in alike.items():
                    decoding = replace(decoding, prefix=str(self.settings.prefix))
                    for some in (every[i : i + self.batch_size] for i in range(0, len(every), self.batch_size)):
                        questions = [asked.question for asked in some]
                        answers = stream.ask_all(questions, mode=self.mode, decoding=decoding)
                        yield from ((asked, answer.text) for asked, answer in zip(some, answers, strict=True))


class _Tape:
    """Frames that go into a stream as far as they may be seen: those of earlier clips, and of the last up to a time."""

    def __init__(self, stream: Stream, frames: Iterator[tuple[Frame, float]]) -> None:
        self._stream, self._frames = stream, frames
        self._next = next(frames, None)

    def upto(self, end: float) -> None:
        """Feed what is shown up to `end`, seconds of the last clip."""
        self._stream.feed(self._ready(end))

    def _ready(self, end: float) -> Iterator[Frame]:
        while self._next is not None and self._next[1] <= end:
            yield self._next[0]
            self._next = next(self._frames, None)


def _frames(clips: Sequence[Clip], fps: float, settings: Settings) -> Iterator[tuple[Frame, float]]:
    """Frames with their times in the last clip, -infinity in those before. Several clips follow each other in time."""
    now = -1 / fps
    for i, clip in enumerate(clips):
        shift = None if i else 0.0
        # A frame shown at a later sampling time may have come before the end.
        end = None if math.isinf(clip.end) else clip.end + 1 / fps
        with open_video(_thinned(clip.source, settings), fps=fps, start=clip.start, end=end) as source:
            for frame in (frame for batch in source.batches(settings.batch) for frame in batch):
                if frame.time <= clip.end:
                    shift = now + 1 / fps - frame.time if shift is None else shift
                    now = frame.time + shift
                    until = None if frame.until is None else frame.until + shift
                    yield Frame(frame.pixels, now, until), frame.time if i == len(clips) - 1 else -math.inf


def _slowed(clips: Sequence[Clip], settings: Settings) -> float:
    """Frames a second, fewer than said where a video would have more than max_frames."""
    fps, seconds = float(settings.fps), 0.0
    if settings.max_frames is None:
        return fps
    for clip in clips:
        with open_video(_thinned(clip.source, settings), fps=fps) as source:
            seconds += min(clip.end, source.duration or 0.0) - clip.start
    return min(fps, settings.max_frames / seconds) if seconds > 0 else fps


def _thinned(source: Any, settings: Settings) -> Any:
    """A video as it is; of a list of pictures at most max_frames, spread evenly."""
    if isinstance(source, str) or settings.max_frames is None or len(source) <= settings.max_frames:
        return source
    return [source[i] for i in np.linspace(0, len(source) - 1, settings.max_frames, dtype=int)]


# What a task's messages say


def _read(where: Any, messages: Sequence[Mapping[str, Any]], said: Mapping[str, Any] | None, task: str) -> Asked:
    """A request: its pictures, then everything that is said as one question after earlier turns."""
    clips: list[Clip] = []
    pictures: list[Any] = []
    history: list[tuple[str, str]] = []
    words: list[str] = []
    for message in messages:
        parts = message["content"]
        parts = [{"type": "text", "text": parts}] if isinstance(parts, str) else parts
        text = "\n".join(_bare(part["text"]) for part in parts if part["type"] == "text")
        if message["role"] == "assistant":
            history.append(("\n".join(words), text))
            words = []
        else:
            words.append(text)
        clips += [_clip(part, task) for part in parts if part["type"] == "video"]
        pictures += [part["url"] for part in parts if part["type"] == "image"]
        if any(part["type"] not in ("text", "video", "image") for part in parts):
            raise DataError(f"task {task} plays sound: weavetime only sees, choose a task of videos")
    clips += _film(pictures, bool(clips), task)
    question = Question("\n".join(word for word in words if word), history=tuple(history))
    return Asked(where, question, tuple(clips), _decoding(said or {}))


def _bare(text: str) -> str:
    for mark in MARKS:
        text = text.replace(mark, "")
    return text.strip()


def _clip(part: Mapping[str, Any], task: str) -> Clip:
    url = part["url"]
    spans = url if isinstance(url, Mapping) else part
    source: Any = (url.get("path") or url.get("url")) if isinstance(url, Mapping) else url
    start = spans.get("video_start", spans.get("start_time"))
    end = spans.get("video_end", spans.get("end_time"))
    if isinstance(source, os.PathLike):
        source = os.fspath(source)
    if not isinstance(source, str):
        source = _pixels(source, task)
    return Clip(source.removeprefix("file://") if isinstance(source, str) else source, start or 0.0, _end(end))


def _end(end: float | None) -> float:
    return math.inf if end is None else float(end)


def _film(pictures: Sequence[Any], videos: bool, task: str) -> list[Clip]:
    """The clip that several pictures of one size are."""
    if not pictures and videos:
        return []
    if len(pictures) < 2 or videos:
        what = "pictures beside a video" if videos else "single pictures" if pictures else "no pictures"
        raise DataError(f"task {task} has {what}: weavetime watches videos, choose a task of those")
    return [Clip(_pixels(pictures, task))]


def _pixels(pictures: Sequence[Any], task: str) -> list[np.ndarray]:
    from PIL import Image

    found = []
    for picture in pictures:
        opened = Image.open(picture) if isinstance(picture, str | os.PathLike) else picture
        found.append(np.asarray(opened.convert("RGB") if isinstance(opened, Image.Image) else opened))
    if len({picture.shape for picture in found}) != 1:
        raise DataError(f"task {task} has pictures of several sizes, which are no video: choose a task of videos")
    return found


def _decoding(said: Mapping[str, Any]) -> Decoding:
    """What a task's generation_kwargs mean here. Beams are not searched: a task that asks for several is decoded as
    if it asked for one, and that is said.
    """
    if (said.get("num_beams") or 1) > 1:
        log.warning("a task asks for %s beams: weavetime decodes one", said["num_beams"])
    until = said.get("until") or ()
    stop = tuple(text for text in ([until] if isinstance(until, str) else until) if text)
    temperature = 0.0 if said.get("do_sample") is False else float(said.get("temperature") or 0.0)
    top_p = 1.0 if said.get("top_p") is None else float(said["top_p"])
    return Decoding(int(said.get("max_new_tokens") or LONGEST), temperature, top_p if top_p > 0 else 1.0, stop=stop)


def _name(clips: Sequence[Clip]) -> str:
    return ", ".join(clip.source if isinstance(clip.source, str) else "a list of pictures" for clip in clips)
