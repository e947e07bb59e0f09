"""Streaming video question answering with an append-only memory of frames.

import weavetime as wt

engine = wt.load("mini")
stream = engine.stream(window=80, fps=1.0)
stream.feed(wt.open_video("clip.mp4", fps=1.0))
answer = stream.ask("What came before the cup?", options=["a plate", "a knife"])
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import Decoding, Record, StreamConfig
    from .errors import (
        AdapterError,
        CapacityError,
        ModeError,
        ModelError,
        NumericsError,
        OutOfMemoryError,
        QuestionError,
        StreamError,
        VideoError,
        WeaveTimeError,
    )
    from .focus import Blind, Chosen, Full, Mode, Recent, ReKV, Uniform, WeaveTime, Window, parse_mode
    from .loading import Engine, load
    from .reply import Reply
    from .stream import Stream
    from .types import Answer, Evidence, Frame, Question
    from .video import Source, VideoWarning, array_video, open_video

__version__ = "0.1.0"

__all__ = [
    "AdapterError",
    "Answer",
    "Blind",
    "CapacityError",
    "Chosen",
    "Decoding",
    "Engine",
    "Evidence",
    "Frame",
    "Full",
    "Mode",
    "ModeError",
    "ModelError",
    "NumericsError",
    "OutOfMemoryError",
    "Question",
    "QuestionError",
    "ReKV",
    "Recent",
    "Record",
    "Reply",
    "Source",
    "Stream",
    "StreamConfig",
    "StreamError",
    "Uniform",
    "VideoError",
    "VideoWarning",
    "WeaveTime",
    "WeaveTimeError",
    "Window",
    "array_video",
    "load",
    "open_video",
    "parse_mode",
]

# Each name is imported from its room when first used: `weavetime --help` loads no torch.
_ROOMS = {
    "config": ("Decoding", "Record", "StreamConfig"),
    "errors": (
        "AdapterError",
        "CapacityError",
        "ModeError",
        "ModelError",
        "NumericsError",
        "OutOfMemoryError",
        "QuestionError",
        "StreamError",
        "VideoError",
        "WeaveTimeError",
    ),
    "focus": ("Blind", "Chosen", "Full", "Mode", "Recent", "ReKV", "Uniform", "WeaveTime", "Window", "parse_mode"),
    "loading": ("Engine", "load"),
    "reply": ("Reply",),
    "stream": ("Stream",),
    "types": ("Answer", "Evidence", "Frame", "Question"),
    "video": ("Source", "VideoWarning", "array_video", "open_video"),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_ROOM_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
