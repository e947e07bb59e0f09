"""Options that several commands share, and what they become. Defaults are the fields of the settings' dataclasses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..config import Decoding, StreamConfig
from ..errors import QuestionError

if TYPE_CHECKING:
    from ..focus import Mode
    from ..loading import Engine

STREAM, DECODING = StreamConfig(), Decoding()
MODEL, MODE = "mini", "weavetime"

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="A video file, a folder of images, a camera's number, or an address (rtsp://…, http://….m3u8).",
        show_default=False,
    ),
]

_MODEL, _STREAM, _ANSWER = "Model", "Stream", "Answer"

Model = Annotated[
    str,
    typer.Option(
        help="mini, a folder, a hub id (OWNER/NAME) or modelscope:OWNER/NAME.", metavar="ID", rich_help_panel=_MODEL
    ),
]
Adapter = Annotated[
    str | None,
    typer.Option(
        help="A LoRA to merge: a folder, hf:OWNER/NAME or modelscope:OWNER/NAME.", metavar="ID", rich_help_panel=_MODEL
    ),
]
TimePrompts = Annotated[
    bool | None,
    typer.Option(
        "--time-prompts/--no-time-prompts",
        help="Whether frames carry their time as text; needed where an adapter does not say it. "
        "Default: what the model or adapter records of itself.",
        show_default=False,
        rich_help_panel=_MODEL,
    ),
]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16 or float16.", rich_help_panel=_MODEL)]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N.", rich_help_panel=_MODEL)]
DeviceMap = Annotated[
    str | None, typer.Option(help="auto spreads a large model over several devices.", rich_help_panel=_MODEL)
]

Fps = Annotated[float, typer.Option(help="Frames looked at per second.", rich_help_panel=_STREAM)]
Window = Annotated[
    str | None,
    typer.Option(
        metavar="BLOCKS|none",
        help="Blocks that count as the present; none evicts nothing. Default: the model's own, else "
        f"{STREAM.window}, or as many as its positions hold.",
        show_default=False,
        rich_help_panel=_STREAM,
    ),
]
Batch = Annotated[int, typer.Option(help="Frames encoded per call.", rich_help_panel=_STREAM)]
Cache = Annotated[
    int | None,
    typer.Option(
        help=f"Recalled blocks kept on the device, per layer. Default: {STREAM.CACHE}, and none on a CPU.",
        show_default=False,
        rich_help_panel=_STREAM,
    ),
]
Memory = Annotated[
    str,
    typer.Option(
        metavar="KIND",
        help=f"{', '.join(STREAM.MEMORIES)}: Flash-VStream can answer from its own memory, STAR.",
        rich_help_panel=_STREAM,
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(help="Seconds of silence after which an address is given up.", rich_help_panel=_STREAM),
]

ModeName = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="weavetime, rekv, window, recent:N, uniform:N, full, frames:SECONDS,… or blind; with settings as in "
        "weavetime:k=8,coarse=128.",
        rich_help_panel=_ANSWER,
    ),
]
K = Annotated[
    int | None,
    typer.Option(
        "--k",
        help="Blocks recalled (weavetime, rekv). Default: weavetime's the model's own, else 64.",
        show_default=False,
        rich_help_panel=_ANSWER,
    ),
]
Delta = Annotated[
    float | None,
    typer.Option(
        help="Look back when the gate reaches it: 0 always, above 1 never. Default: the model's own.",
        show_default=False,
        rich_help_panel=_ANSWER,
    ),
]
MaxTokens = Annotated[int, typer.Option(help="Longest answer.", rich_help_panel=_ANSWER)]
Temperature = Annotated[float, typer.Option(help="0 always takes the likeliest token.", rich_help_panel=_ANSWER)]
TopP = Annotated[
    float, typer.Option(help="Sample from the smallest set of tokens with this mass.", rich_help_panel=_ANSWER)
]
Seed = Annotated[int | None, typer.Option(help="Repeat a sampled answer.", rich_help_panel=_ANSWER)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")]


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """Which model, as `weavetime.load` takes it."""

    model: str
    adapter: str | None = None
    time_prompts: bool | None = None
    dtype: str | None = None
    device: str | None = None
    device_map: str | None = None

    def settings(self) -> dict[str, Any]:
        """What was said, without the model itself."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "model"}


def stream_settings(fps: float, window: str | None, batch: int, cache: int | None = STREAM.cache) -> dict[str, Any]:
    """Settings for `engine.stream`; an unsaid window stays the engine's to choose."""
    found: dict[str, Any] = {"fps": fps, "batch": batch, "cache": cache}
    if window is None:
        return found
    if window.strip().lower() == "none":
        return {**found, "window": None}
    try:
        return {**found, "window": int(window)}
    except ValueError:
        raise typer.BadParameter(
            f"{window!r} is neither a number of blocks nor none", param_hint="'--window'"
        ) from None


def mode_value(name: str, k: int | None, delta: float | None) -> Mode:
    """The mode with what --k and --delta say of it."""
    from ..focus import parse_mode

    return parse_mode(name).having(k=k, delta=delta)


def fitted(mode: Mode, name: str, k: int | None, engine: Engine) -> Mode:
    """The mode with no more blocks than the model's positions hold; what --k, its name or the model says stays."""
    from ..focus.names import read_name

    most = engine.backbone.default_window
    said = any(n is not None for n in (k, read_name(name)[1].get("k"), engine.record.k))
    if said or getattr(mode.of(engine.record), "k", 0) <= most:
        return mode
    return mode.having(k=most)


def read_history(path: Path | None) -> tuple[tuple[str, str], ...]:
    """Earlier turns from a JSON file: a list of [question, answer] pairs."""
    if path is None:
        return ()
    try:
        turns = json.loads(path.read_text())
    except (OSError, ValueError) as e:
        raise QuestionError(f"{path} cannot be read as JSON: {getattr(e, 'strerror', None) or e}") from e
    if not (isinstance(turns, list) and all(map(_is_turn, turns))):
        raise QuestionError(f'{path} must hold a list of turns, as in [["What is it?", "A cup."]]')
    return tuple((question, answer) for question, answer in turns)


def _is_turn(turn: object) -> bool:
    return isinstance(turn, Sequence) and len(turn) == 2 and all(isinstance(text, str) for text in turn)
