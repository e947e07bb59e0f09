"""Answers and memory as a person reads them, and as plain values for JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..config import Record
from .options import ModelChoice

if TYPE_CHECKING:
    from ..focus import Mode
    from ..loading import Engine
    from ..stream import Stream
    from ..types import Answer

UNTRAINED = "this model's weights are untrained: its answers mean nothing"


def threshold(mode: Mode, stream: Stream) -> float | None:
    """What the gate is compared with; None where the mode has no gate."""
    return mode.of(stream.record).threshold


def option(number: int, options: Sequence[str]) -> str:
    """An option as it is offered: (B) the plate."""
    return f"({ascii_uppercase[number]}) {options[number]}"


def ranges(times: Iterable[float], step: float) -> str:
    """Ascending times as ranges: neighbours, at most 1.5 steps apart, are one stretch."""
    stretches: list[list[float]] = []
    for time in times:
        if stretches and time - stretches[-1][1] <= 1.5 * step:
            stretches[-1][1] = time
        else:
            stretches.append([time, time])
    places = 0 if step >= 1 else 1
    return ", ".join(f"{a:.{places}f}" if a == b else f"{a:.{places}f}–{b:.{places}f}" for a, b in stretches)


def clipped(text: str, width: int) -> str:
    """A list cut after a whole item where it is too long; the first item stays."""
    items, cut = text.split(", "), text
    while len(cut) > width and len(items) > 1:
        items.pop()
        cut = ", ".join([*items, "…"])
    return cut


def size(nbytes: float) -> str:
    """Bytes as a person says them."""
    for unit in ("B", "KB", "MB"):
        if nbytes < 1000:
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1000
    return f"{nbytes:.2f} GB"


def seconds(value: float) -> str:
    """A duration: 0.24 s, or 38 ms where that is short."""
    return f"{value * 1e3:.0f} ms" if value < 0.1 else f"{value:.2f} s"


def gate_line(answer: Answer, limit: float | None) -> str:
    """The gate against its threshold, and what followed."""
    if answer.gate is None or limit is None:
        return f"none in mode {answer.mode}"
    if answer.gate < limit:
        return f"{answer.gate:.2f} < {limit:.2f}, sure: the present was enough"
    if answer.recalled:
        return f"{answer.gate:.2f} ≥ {limit:.2f}, unsure: looked back"
    return f"{answer.gate:.2f} ≥ {limit:.2f}, unsure, but there is no past outside the window"


def read_line(answer: Answer) -> str:
    """How many blocks were read, and whether the past was among them."""
    most = max((len(blocks) for blocks in answer.evidence.blocks), default=0)
    blocks = f"{most} block{'' if most == 1 else 's'}"
    if not answer.recalled:
        return f"{blocks}, without recall"
    seen = len(answer.evidence.times)
    return f"recalled {blocks} per layer" + (f", {seen} different ones" if seen != most else "")


def evidence_line(answer: Answer, step: float) -> str:
    """When what was read was on screen."""
    times = answer.evidence.times
    return f"{ranges(times, step)} s ({len(times)} frames)" if times else "no frames"


def timing_line(answer: Answer) -> str:
    """First token, speed of decoding, total."""
    spent, tokens = answer.timings, len(answer.tokens)
    parts = [f"first token {seconds(spent.get('first_token', 0))}"]
    if tokens > 1:
        each = (spent["total"] - spent["first_token"]) / (tokens - 1)
        parts.append(f"{tokens} tokens, {seconds(each)} each")
    return " · ".join([*parts, f"total {seconds(spent['total'])}"])


def memory_line(tiers: dict[str, int]) -> str:
    """All bytes held, then tier by tier."""
    held = sorted(((n, name) for name, n in tiers.items() if n), reverse=True)
    return f"{size(sum(tiers.values()))}: " + " · ".join(f"{name} {size(n)}" for n, name in held)


def answer_view(answer: Answer, mode: Mode, stream: Stream, options: Sequence[str], record: Record) -> RenderableType:
    """One answer in full."""
    lines = Table.grid(padding=(0, 2))
    lines.add_column(style="dim", no_wrap=True)
    lines.add_column(overflow="fold")
    if answer.choice is not None:
        lines.add_row("choice", Text(option(answer.choice, options), style="bold green"))
    lines.add_row("gate", gate_line(answer, threshold(mode, stream)))
    lines.add_row("read", read_line(answer))
    lines.add_row("evidence", evidence_line(answer, 1 / stream.config.fps))
    lines.add_row("as of", f"{answer.at:g} s, {stream.memory.frames} frames remembered")
    lines.add_row("time", timing_line(answer))
    lines.add_row("memory", memory_line(stream.memory.tiers))
    if record.trained is False:
        lines.add_row("", Text(UNTRAINED, style="yellow"))
    return Group(Text(spoken(answer), style="bold"), "", lines)


def spoken(answer: Answer) -> str:
    """The text, and a mark where it was cut at the token limit."""
    text = answer.text or "(no text)"
    return f"{text} …" if answer.finish == "length" and answer.text else text


def brief(answer: Answer, mode: Mode, stream: Stream, options: Sequence[str]) -> str:
    """One line for an answer whose text was shown already."""
    gate = threshold(mode, stream)
    parts = [option(answer.choice, options)] if answer.choice is not None else []
    if answer.gate is not None and gate is not None:
        parts.append(f"gate {answer.gate:.2f} {'<' if answer.gate < gate else '≥'} {gate:.2f}")
    parts.append(read_line(answer))
    parts.append(evidence_line(answer, 1 / stream.config.fps))
    return " · ".join([*parts, timing_line(answer)])


def answer_record(answer: Answer, mode: Mode, stream: Stream) -> dict[str, Any]:
    """An answer with its mode's settings and the state of the stream it came from, for JSON."""
    return {
        **answer.to_dict(),
        "settings": asdict(mode.of(stream.record)),  # type: ignore[call-overload]
        "threshold": threshold(mode, stream),
        "frames": stream.memory.frames,
        "now": stream.now,
        "memory": {"tiers": stream.memory.tiers, "nbytes": stream.memory.nbytes},
    }


def model_record(choice: ModelChoice, engine: Engine) -> dict[str, Any]:
    """Which model answered, for JSON."""
    return {
        "name": choice.model,
        "adapter": choice.adapter,
        "family": engine.backbone.family,
        "time_prompts": engine.backbone.time_prompts,
        "record": asdict(engine.record),
    }
