"""`weavetime watch`: frames go in at their own pace, questions are typed meanwhile."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from ..config import Decoding
from ..errors import QuestionError, WeaveTimeError
from . import options as opt
from .feeder import Feeder
from .options import DECODING, MODE, MODEL, STREAM, ModelChoice
from .screen import StatusLine
from .session import check_mode, load_engine, open_source, warn
from .show import UNTRAINED, answer_record, brief, model_record

if TYPE_CHECKING:
    from ..focus import Mode
    from ..loading import Engine
    from ..types import Answer

HELP = "type a question; “question | option | option”; “@12.5 question” about that second; /quit leaves"


@dataclass(frozen=True, slots=True)
class Line:
    """One typed line: a question, its options, the moment it is about (None: now)."""

    text: str
    options: tuple[str, ...]
    at: float | None

    @classmethod
    def read(cls, line: str) -> Line | None:
        """None where nothing was asked. Raises QuestionError on a moment that is none, or has no question."""
        found = re.match(r"@(\d+(?:\.\d+)?)\s+", line)
        if not found and re.match(r"@[-+.\d]", line):
            raise QuestionError(f"{line!r}: a moment is written @SECONDS before the question, as in: @12.5 what is it?")
        text, *options = (part.strip() for part in line[found.end() if found else 0 :].split("|"))
        return cls(text, tuple(o for o in options if o), float(found[1]) if found else None) if text else None


class _Session:
    """Questions to one stream while it is fed."""

    def __init__(self, feeder: Feeder, engine: Engine, choice: ModelChoice, mode: Mode, decoding: Decoding) -> None:
        self.feeder, self.engine, self.choice, self.mode, self.decoding = feeder, engine, choice, mode, decoding
        self.out = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
        self.failed = False
        self._warned = 0

    def run(self, *, as_json: bool) -> None:
        """Until there is nothing more to ask."""
        if self.engine.record.trained is False:
            warn(UNTRAINED)
        if sys.stdin.isatty() and sys.stdout.isatty() and not as_json:
            self.converse()
        else:
            self.script(iter(sys.stdin), as_json=as_json)

    def ask(self, line: Line, *, as_json: bool = False) -> None:
        """Ask and print; an error of this question is one line, and the stream goes on."""
        try:
            answer = self._reply(line, silent=as_json)
        except WeaveTimeError as e:
            self.failed = True
            print(f"weavetime: {e}", file=sys.stderr, flush=True)
            return
        stream = self.feeder.stream
        if not as_json:
            self.dim(brief(answer, self.mode, stream, line.options))
            return
        record = {
            "question": line.text,
            "options": list(line.options),
            **answer_record(answer, self.mode, stream),
            "fps": self.feeder.fps,
            "dropped": self.feeder.source.dropped,
            "model": model_record(self.choice, self.engine),
            "warnings": list(self.feeder.source.warnings),
        }
        print(json.dumps(record, ensure_ascii=False), flush=True)

    def read(self, typed: str) -> Line | None:
        """One typed line; what is wrong with it is said in one line, and the stream goes on."""
        try:
            return Line.read(typed)
        except QuestionError as e:
            self.failed = True
            print(f"weavetime: {e}", file=sys.stderr, flush=True)
            return None

    def _reply(self, line: Line, *, silent: bool) -> Answer:
        stream = self.feeder.stream
        asked = stream.reply(line.text, options=line.options, at=line.at, mode=self.mode, decoding=self.decoding)
        with asked as reply:
            shown = False
            for piece in map(_printable, reply):
                text = piece if shown else piece.lstrip()
                shown = shown or bool(text)
                if not silent:
                    print(text, end="", flush=True)
            answer = reply.answer
        if not silent:
            print(" …" if answer.finish == "length" else "", flush=True)
        return answer

    def dim(self, text: str) -> None:
        """A line beside the point."""
        self.out.print(Text(text, style="dim"))

    def warn(self) -> None:
        """Say what the source has warned of since the last time."""
        for text in self.feeder.source.warnings[self._warned :]:
            warn(text)
            self._warned += 1

    def converse(self) -> None:
        """Questions typed at a prompt; the status stands below."""
        with suppress(ImportError):
            import readline  # noqa: F401  (input() then edits lines and remembers them)
        self.dim(HELP)
        with StatusLine(self.feeder.status):
            while (line := _typed()) not in ("/quit", "/q", None):
                self.warn()
                if line.startswith("/"):
                    self.dim(HELP)
                elif asked := self.read(line):
                    self.ask(asked)
        self.failed = False  # it was seen, and perhaps asked again

    def script(self, lines: Iterator[str], *, as_json: bool) -> None:
        """Questions from a pipe, each when its moment has come."""
        for line in lines:
            if line.strip() == "/quit":
                return
            asked = self.read(line.strip())
            if asked is None:
                continue
            self.feeder.wait(asked.at)
            self.feeder.check()
            self.warn()
            now = self.feeder.stream.now
            if asked.at is not None and asked.at > now:
                warn(f"the video ended at {now:.1f} s, before {asked.at:g} s: the answer is as of its end")
            if not as_json:
                self.dim(self.feeder.status())
                self.out.print(Text(f"? {asked.text}", style="bold"))
            self.ask(asked, as_json=as_json)


def _printable(text: str) -> str:
    """Without what would command the terminal."""
    return "".join(c for c in text if c.isprintable() or c in "\n\t")


def _typed() -> str | None:
    try:
        return input("? ").strip()
    except EOFError:
        print()
        return None


def watch(
    source: opt.Source,
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
    timeout: opt.Timeout = None,
    reconnect: Annotated[
        float | None, typer.Option(help="Seconds for which a lost stream is tried again.", rich_help_panel="Stream")
    ] = None,
    as_json: opt.Json = False,
) -> None:
    """Watch a camera, a stream or a file at its own pace, and ask about it while it plays.

    On a terminal, questions are typed below the answers. Otherwise each line of stdin is a question; one that begins
    with @12.5 is asked when the stream reaches that second.
    """
    settings = opt.stream_settings(fps, window, batch, cache)
    value = opt.mode_value(mode, k, delta)
    decoding = Decoding(max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed)
    choice = ModelChoice(model, adapter, time_prompts, dtype, device, device_map)
    if _is_local(source):
        open_source(source, fps=fps).close()  # what is no video is said before a model is loaded
    engine = load_engine(choice)
    value = opt.fitted(value, mode, k, engine)
    stream = engine.stream(**settings)
    check_mode(stream, value)
    video = open_source(source, fps=fps, live=True, timeout=timeout, reconnect=reconnect)
    with Feeder(stream, video) as feeder:
        session = _Session(feeder, engine, choice, value, decoding)
        try:
            session.run(as_json=as_json)
        except KeyboardInterrupt:
            print(file=sys.stderr)
            return
    session.warn()
    feeder.check()
    if session.failed:
        raise typer.Exit(1)


def _is_local(source: str) -> bool:
    return "://" not in source and (not source.isdigit() or Path(source).exists()) and not source.startswith("/dev/")
