"""Streaming video question answering with an append-only memory of frames.

    import weavetime as wt

    engine = wt.load("mini")
    stream = engine.stream(window=80, fps=1.0)
    stream.feed(wt.open_video("clip.mp4", fps=1.0))
    answer = stream.ask("What came before the cup?", options=["a plate", "a knife"])
"""

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
from .stream import Engine, Reply, Stream, load
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
