"""`weavetime ask`: one question about a recording, as of any moment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from ..config import Decoding
from ..errors import QuestionError, VideoError
from . import options as opt
from .options import DECODING, MODE, MODEL, STREAM, ModelChoice
from .session import check_at, check_mode, feed, load_engine, open_source, warn
from .show import answer_record, answer_view, model_record

if TYPE_CHECKING:
    from ..focus import Mode
    from ..loading import Engine
    from ..stream import Stream
    from ..video import Source


@dataclass(frozen=True, slots=True)
class _Asking:
    """The question with everything about how it is answered."""

    source: str
    question: str
    options: Sequence[str]
    history: Sequence[tuple[str, str]]
    at: float | None
    mode: Mode
    decoding: Decoding


def ask(
    source: opt.Source,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What is asked.", show_default=False)],
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", metavar="TEXT", help="An answer to choose from; repeat for each."),
    ] = None,
    at: Annotated[
        float | None, typer.Option(help="Ask as of this second; nothing after it is read. Default: the end.")
    ] = None,
    history: Annotated[
        Path | None,
        typer.Option(help="Earlier turns: a JSON file, a list of pairs of question and answer.", show_default=False),
    ] = None,
    mode: opt.ModeName = MODE,
    k: opt.K = None,
    delta: opt.Delta = None,
    max_tokens: opt.MaxTokens = DECODING.max_tokens,
    temperature: opt.Temperature = DECODING.temperature,
    top_p: opt.TopP = DECODING.top_p,
    seed: opt.Seed = DECODING.seed,
    model: opt.Model = MODEL,
    adapter: opt.Adapter = None,
    time_prompts: opt.TimePrompts = None,
    dtype: opt.Dtype = None,
    device: opt.Device = None,
    device_map: opt.DeviceMap = None,
    fps: opt.Fps = STREAM.fps,
    window: opt.Window = None,
    batch: opt.Batch = STREAM.batch,
    cache: opt.Cache = STREAM.cache,
    memory: opt.Memory = STREAM.memory,
    timeout: opt.Timeout = None,
    as_json: opt.Json = False,
) -> None:
    """Ask a question about a video, and see the answer with its evidence."""
    settings = opt.stream_settings(fps, window, batch, cache) | {"memory": memory}
    check_at(at)
    turns = opt.read_history(history)
    decoding = Decoding(max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed)
    asking = _Asking(source, question, option or [], turns, at, opt.mode_value(mode, k, delta), decoding)
    with _open(asking, fps, timeout) as video:
        choice = ModelChoice(model, adapter, time_prompts, dtype, device, device_map)
        engine = load_engine(choice)
        asking = replace(asking, mode=opt.fitted(asking.mode, mode, k, engine))
        _answer(engine, choice, asking, video, settings, as_json=as_json)


def _open(asking: _Asking, fps: float, timeout: float | None) -> Source:
    # The frame on screen at `at` is sampled at most 1 / fps later: no frame beyond that is decoded.
    end = asking.at + 1 / fps if asking.at is not None and fps > 0 else None
    video = open_source(asking.source, fps=fps, end=end, timeout=timeout)
    if video.live and asking.at is None:
        video.close()
        raise VideoError(f"{asking.source} is live and has no end: say --at SECONDS, or use weavetime watch")
    return video


def _answer(
    engine: Engine, choice: ModelChoice, asking: _Asking, video: Source, settings: dict[str, Any], *, as_json: bool
) -> None:
    stream = engine.stream(**settings)
    _check(engine, stream, asking)
    feed(stream, video, asking.at)
    stream.close()
    notes = _notes(video, asking.at, stream.now)
    for text in notes:
        warn(text)
    answer = stream.ask(
        asking.question,
        options=asking.options,
        at=asking.at,
        history=asking.history,
        mode=asking.mode,
        decoding=asking.decoding,
    )
    if as_json:
        record = {
            "source": asking.source,
            "question": asking.question,
            "options": list(asking.options),
            "history": [list(turn) for turn in asking.history],
            **answer_record(answer, asking.mode, stream),
            "duration": video.duration,
            "dropped": video.dropped,
            "stream": asdict(stream.config),
            "decoding": asdict(asking.decoding),
            "model": model_record(choice, engine),
            "warnings": notes,
        }
        print(json.dumps(record, ensure_ascii=False))
    else:
        Console(highlight=False).print(answer_view(answer, asking.mode, stream, asking.options, engine.record))


def _check(engine: Engine, stream: Stream, asking: _Asking) -> None:
    """Refuse what cannot be answered before an hour of frames is read for it."""
    from ..engine import check_decoding
    from ..types import Question

    if wrong := check_decoding(asking.decoding):
        raise QuestionError(wrong)
    check_mode(stream, asking.mode)
    question = Question(asking.question, tuple(asking.options), tuple(asking.history))
    engine.backbone.prompt(question, asking.decoding)


def _notes(video: Source, at: float | None, now: float) -> list[str]:
    notes = list(video.warnings)
    if at is not None and at > now and not notes:
        notes.append(f"the video ends at {video.duration or now:.1f} s, before {at:g} s: the answer is as of its end")
    return notes
