"""`weavetime eval`: benchmarks, a command each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ..errors import ModeError
from . import options as opt
from .options import MODE, MODEL, ModelChoice
from .world import names

if TYPE_CHECKING:
    from ..eval.streamworld import Row, Settings
    from ..focus import Mode
    from ..loading import Engine

evaluate = typer.Typer(name="eval", help="Measure a model on a benchmark.", no_args_is_help=True)


@evaluate.callback()
def _benchmarks() -> None:
    pass


@evaluate.command()
def streamworld(
    model: opt.Model = MODEL,
    adapter: opt.Adapter = None,
    time_prompts: opt.TimePrompts = None,
    dtype: opt.Dtype = None,
    device: opt.Device = None,
    device_map: opt.DeviceMap = None,
    mode: Annotated[
        str,
        typer.Option(metavar="NAME", help="weavetime, rekv, window, recent:N, uniform:N, full, blind or oracle."),
    ] = MODE,
    k: opt.K = None,
    delta: opt.Delta = None,
    window: opt.Window = None,
    seed: Annotated[int | None, typer.Option(help="Of the first stream; the next ones count on.")] = None,
    limit: Annotated[int | None, typer.Option(help="Questions.")] = None,
    steps: Annotated[int | None, typer.Option(help="Length of each stream, seconds.")] = None,
    questions_per_stream: Annotated[int | None, typer.Option(help="Questions about each stream.")] = None,
    since: Annotated[float | None, typer.Option(help="Ask from this share of each stream on, as in 0.5.")] = None,
    split: Annotated[str | None, typer.Option(help="test, new (cards never trained on) or train.")] = None,
    families: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="Families of questions. Default: all.", show_default=False)
    ] = None,
    as_open: Annotated[bool, typer.Option("--open", help="Short answers in place of options.")] = False,
    visual_only: Annotated[bool, typer.Option(help="Score blocks by their pictures alone.")] = False,
    size: Annotated[int | None, typer.Option(help="Pixels across and down.")] = None,
    batch: Annotated[int | None, typer.Option(help="Frames encoded per call.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep every row as JSONL; a run that was cut goes on.", show_default=False),
    ] = None,
) -> None:
    """Generated streams with questions whose answers and evidence are known; nothing is fetched."""
    from ..eval.streamworld import Settings

    said = {
        "seed": seed,
        "limit": limit,
        "steps": steps,
        "per_stream": questions_per_stream,
        "since": since,
        "split": split,
        "families": names(families),
        "modes": (_mode(mode, k, delta),),
        "open": as_open,
        "visual_only": visual_only,
        "size": size,
        "batch": batch,
    }
    given: dict[str, Any] = {key: value for key, value in said.items() if value is not None}
    Settings(window=None, **given)  # refused before a model is loaded
    from .session import load_engine

    engine = load_engine(ModelChoice(model, adapter, time_prompts, dtype, device, device_map))
    rows = _measure(engine, Settings(window=_window(engine, window), **given), out)
    Console(highlight=False).print(_table(rows))
    print(f"accuracy {sum(row.right for row in rows) / len(rows):.3f} n={len(rows)}")


def _mode(name: str, k: int | None, delta: float | None) -> str | Mode:
    from ..eval.streamworld import ORACLE

    if k is None and delta is None:
        return name
    if name == ORACLE:
        raise ModeError(f"mode {name} has no k and no delta: leave them out")
    return opt.mode_value(name, k, delta)


def _window(engine: Engine, said: str | None) -> int | None:
    settings: dict[str, Any] = opt.stream_settings(1.0, said, 1, 0)
    return engine.stream(**settings).config.window


def _measure(engine: Engine, settings: Settings, out: Path | None) -> list[Row]:
    from contextlib import nullcontext

    from ..eval import RowFile
    from ..eval.streamworld import Row, head, left, run
    from .meter import Meter

    with RowFile(out, head(engine, settings)) if out is not None else nullcontext() as file:
        rows = [Row.of(row) for row in file.rows] if file is not None else []
        done = {row.key for row in rows}
        work = left(settings, done)
        totals = {"frames": sum(s.steps for s, _, _ in work), "questions": sum(len(keys) for _, _, keys in work)}
        with Meter(totals) as meter:
            for row in run(engine, settings, done=done, on_fed=lambda n: meter.add("frames", n)):
                if file is not None:
                    file.add(row.to_dict())
                rows.append(row)
                meter.add("questions")
    return rows


def _table(rows: list[Row]) -> Table:
    from ..eval.scores import by_family, wilson

    table = Table(box=None, pad_edge=False)
    table.add_column("family")
    for name in ("n", "accuracy", "95 %", "recalled", "evidence recall", "precision"):
        table.add_column(name, justify="right")
    for found in by_family(rows):
        low, high = wilson(found.right, found.n)
        shares = [f"{low:.3f}–{high:.3f}", f"{found.recalled:.2f}", _share(found.recall), _share(found.precision)]
        style = "bold" if found.family == "all" else None
        table.add_row(found.family, str(found.n), f"{found.accuracy:.3f}", *shares, style=style)
    return table


def _share(x: float | None) -> str:
    return "–" if x is None else f"{x:.3f}"
