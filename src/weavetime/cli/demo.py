"""`weavetime demo`: the whole path on the shipped model and clip, offline."""

from __future__ import annotations

import json
import math
import sys
import time
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..config import Decoding
from .demo_picture import Item, Told, picture_of
from .options import ModelChoice
from .session import load_engine, open_source, warn
from .show import clipped, ranges, seconds, size, threshold

if TYPE_CHECKING:
    from ..focus import Mode
    from ..loading import Engine
    from ..stream import Stream
    from ..types import Answer

TOKENS = 12
PICTURE = Path("weavetime-demo.png")
TIMELINE = 25  # cells
PIPED = 120  # columns where the output is no terminal
BARS = "─▁▂▃▄▅▆▇█"
LEGEND = "bars: how much of each moment was read, over all layers; beside “right”: when the evidence was on screen"
TIERS = {
    "sink": "what opens every view",
    "window": "the last blocks, on the device",
    "archive": "older blocks, in host memory",
    "spare": "host memory made ahead",
    "index": "a mean key per block and layer",
    "cache": "recalled blocks kept on the device",
    "firsts": "first frames of pairs",
}


@dataclass(slots=True)
class Tally:
    """What a mode's answers add up to."""

    right: int = 0
    recalled: int = 0
    touched: int = 0
    first: list[float] = field(default_factory=list)

    def add(self, item: Item, answer: Answer, step: float) -> None:
        self.right += item.is_right(answer)
        self.recalled += answer.recalled
        self.touched += any(item.shown(t, t + step) for t in answer.evidence.times)
        self.first.append(answer.timings["first_token"])


def demo(
    picture: Annotated[
        Path, typer.Option(metavar="PATH", help="Where the picture of the questions that looked back is written.")
    ] = PICTURE,
    no_picture: Annotated[bool, typer.Option("--no-picture", help="Draw none.")] = False,
) -> None:
    """Watch the shipped clip with the shipped model and ask about it: answers, gate, evidence, timings, memory."""
    if not no_picture:
        _check(picture)
    begun = time.monotonic()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPED)
    assets = files("weavetime") / "assets"
    plan = json.loads((assets / "demo.json").read_text())
    engine = load_engine(ModelChoice("mini"))
    stream = engine.stream(fps=1.0)
    with as_file(assets / plan["clip"]) as path, open_source(str(path), fps=stream.config.fps) as video:
        _introduce(console, plan, engine, stream)
        show = _Show(console, engine, stream, float(plan["seconds"]))
        frames = iter(video)
        waiting = next(frames, None)
        for item in sorted(map(Item.read, plan["questions"]), key=lambda item: item.at):
            seen = []
            while waiting is not None and waiting.time <= item.at:
                seen.append(waiting)
                waiting = next(frames, None)
            show.feed(seen)
            show.ask(item)
        show.feed([frame for frame in (waiting, *frames) if frame is not None])
        for text in video.warnings:
            warn(text)
    show.close(time.monotonic() - begun)
    if not no_picture:
        show.draw(picture)


def _check(picture: Path) -> None:
    """Refuse a place that a picture cannot be written to, before a minute has passed."""
    if picture.suffix.lower() != ".png" or not picture.parent.is_dir():
        raise typer.BadParameter(f"{picture} must be a .png file in a folder that is there", param_hint="'--picture'")


def _introduce(console: Console, plan: dict[str, Any], engine: Engine, stream: Stream) -> None:
    from ..focus import WeaveTime

    size_ = "×".join(map(str, plan["size"]))
    console.print(
        f"[bold]{plan['clip']}[/], {plan['seconds']} s, {size_} → mini, {stream.config.fps:g} frame/s, "
        f"a window of {stream.config.window} blocks, {WeaveTime().of(engine.record).k} recalled"
    )
    if engine.record.trained is not True:
        console.print("[yellow]mini's weights are untrained: the path is real, the answers mean nothing")
    console.print()


class _Show:
    """Questions asked while the clip goes in, printed as they are answered."""

    def __init__(self, console: Console, engine: Engine, stream: Stream, length: float) -> None:
        from ..focus import ReKV, WeaveTime, Window

        self.console, self.engine, self.stream, self.length = console, engine, stream, length
        own = WeaveTime().of(engine.record)
        assert own.k is not None
        self.modes: list[Mode] = [own, ReKV(k=own.k), Window()]
        self.tallies = {mode.name: Tally() for mode in self.modes}
        self.told: list[Told] = []
        self.pictures: dict[float, Any] = {}  # each frame's pixels by its time, for the picture
        self.encoding = self.asking = 0.0
        if self.widths[-2]:
            console.print(f"[dim]{LEGEND}\n")

    def feed(self, frames: list[Any]) -> None:
        """Frames up to the next question."""
        start = time.monotonic()
        self.stream.feed(frames)
        self.pictures.update((frame.time, frame.pixels) for frame in frames)
        self.encoding += time.monotonic() - start

    def ask(self, item: Item) -> None:
        """One question in every mode."""
        start, step = time.monotonic(), 1 / self.stream.config.fps
        self.console.print(Text.assemble((f"at {item.at:.0f} s  ", "bold cyan"), (item.question, "bold")))
        rows = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
        for width in self.widths:
            rows.add_column(width=width, no_wrap=True, overflow="ellipsis")
        rows.add_column(justify="right", style="dim", no_wrap=True)
        rows.add_row(*self._truth(item))
        answers = []
        for mode in self.modes:
            answer = self.stream.ask(
                item.question, options=item.options, at=item.at, mode=mode, decoding=Decoding(max_tokens=TOKENS)
            )
            self.tallies[mode.name].add(item, answer, step)
            rows.add_row(*self._row(item, answer, mode))
            answers.append(answer)
        self.told.append(Told(item, tuple(answers)))
        self.console.print(rows)
        self.asking += time.monotonic() - start

    @property
    def widths(self) -> tuple[int, ...]:
        """Indent, mode, answer, gate, what was read, timeline, times: the last two take what is left."""
        left = self.console.width - 75
        line = TIMELINE if left >= TIMELINE + 12 else 0
        return 2, 9, 30, 9, 11, line, min(24, max(6, left - line))

    def _truth(self, item: Item) -> tuple[str | Text, ...]:
        cells = (
            "█" if item.shown(start, stop) and start <= item.at else "─" if start <= item.at else " "
            for start, stop in self._cells()
        )
        spans = ", ".join(f"{a:.0f}–{b:.0f}" for a, b in item.evidence)
        seen = Text(f"{spans} s" if spans else "never on screen", "green")
        answer = Text(f"  {item.offered(item.answer)}")
        return "", Text("right", "dim"), answer, "", "", Text("".join(cells), "green"), seen, ""

    def _row(self, item: Item, answer: Answer, mode: Mode) -> tuple[str | Text, ...]:
        right = item.is_right(answer)
        said = Text(f"{'✓' if right else '✗'} {item.offered(item.said(answer))}", style="green" if right else "red")
        if self.engine.record.trained is not True:
            said.append(" untrained", style="yellow")
        limit = threshold(mode, self.stream)
        gate = Text("no gate", style="dim")
        if answer.gate is not None and limit is not None:
            gate = Text(f"{answer.gate:.2f}{'<' if answer.gate < limit else '≥'}{limit:.2f}")
        blocks = max(map(len, answer.evidence.blocks))
        read = f"recalled {blocks}" if answer.recalled else f"present {blocks}"
        times = clipped(ranges(answer.evidence.times, 1 / self.stream.config.fps), self.widths[-1] - 2)
        first = seconds(answer.timings["first_token"])
        return "", mode.name, said, gate, read, self._timeline(item, answer), f"{times} s", first

    def _cells(self) -> list[tuple[float, float]]:
        span = self.length / TIMELINE
        return [(cell * span, (cell + 1) * span) for cell in range(TIMELINE)]

    def _timeline(self, item: Item, answer: Answer) -> Text:
        """How large a share of the frames on screen in each cell, over all layers, was read."""
        line, times = Text(), self.stream.memory.table.times
        for start, stop in self._cells():
            shown = {b for b, t in enumerate(times) if start <= t < stop and t <= item.at}
            if not shown:
                line.append(" ")
                continue
            read = sum(len(shown.intersection(blocks)) for blocks in answer.evidence.blocks)
            share = read / (len(shown) * len(answer.evidence.blocks))
            line.append(BARS[math.ceil(share * (len(BARS) - 1))], "green" if item.shown(start, stop) else "blue")
        return line

    def draw(self, path: Path) -> None:
        """The picture, where there is something to show."""
        drawn = picture_of(self.told, self.stream, self.modes[0], self.pictures)
        if drawn is None:
            self.console.print("no picture: no question looked back")
            return
        drawn.quantize(256).save(path, optimize=True)
        self.console.print(f"the questions that looked back furthest, with what they read: [bold]{path}")

    def close(self, passed: float) -> None:
        """What it added up to, and what is held."""
        questions = len(self.told)
        self.console.print()
        self.console.print(self._summary(questions))
        self.console.print()
        self.console.print(self._memory())
        frames = len(self.stream)
        self.console.print(
            f"\n{frames} frames in {self.encoding:.1f} s ({frames / self.encoding:.1f} frames/s) · "
            f"{questions * len(self.modes)} answers in {self.asking:.1f} s · {passed:.0f} s in all, offline"
        )

    def _summary(self, questions: int) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
        for name in ("mode", "right", "looked back", "read some evidence", "first token, median"):
            table.add_column(name, justify="left" if name == "mode" else "right", header_style="dim")
        for name, tally in self.tallies.items():
            counts = [f"{n} of {questions}" for n in (tally.right, tally.recalled, tally.touched)]
            table.add_row(name, *counts, seconds(median(tally.first)))
        return table

    def _memory(self) -> Table:
        table, memory = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0)), self.stream.memory
        for name in ("memory", "held", ""):
            table.add_column(name, justify="right" if name == "held" else "left", header_style="dim")
        for tier, nbytes in memory.tiers.items():
            table.add_row(tier, size(nbytes), Text(TIERS.get(tier, ""), style="dim"))
        table.add_row("in all", size(memory.nbytes), Text(f"{len(self.stream)} blocks", style="dim"))
        return table
