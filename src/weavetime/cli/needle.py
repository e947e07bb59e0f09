"""`weavetime needle`: a card shown once, at any depth of streams of any length; who finds it, as a heat map."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from ..errors import DataError
from . import options as opt
from .eval import Modes, Out, measured, modes_of
from .options import MODE, MODEL, ModelChoice

if TYPE_CHECKING:
    from ..eval import Row
    from ..eval.analysis.needle import Needle

X = TypeVar("X", int, float)


def needle(
    model: opt.Model = MODEL,
    adapter: opt.Adapter = None,
    time_prompts: opt.TimePrompts = None,
    dtype: opt.Dtype = None,
    device: opt.Device = None,
    device_map: opt.DeviceMap = None,
    mode: Modes = [MODE],  # noqa: B006  # typer copies it
    k: opt.K = None,
    delta: opt.Delta = None,
    window: opt.Window = None,
    batch: Annotated[int, typer.Option(help="Frames encoded per call.")] = 64,
    lengths: Annotated[str, typer.Option(metavar="N,N,…", help="Seconds of the streams.")] = "64,256,1024",
    depths: Annotated[
        str, typer.Option(metavar="D,D,…", help="Where the card comes: 0 is the start, 1 just before the end.")
    ] = "0,0.25,0.5,0.75,1",
    per_cell: Annotated[int, typer.Option(help="Streams of each length and depth.")] = 8,
    seed: Annotated[int, typer.Option(help="Of the first stream; the next ones count on.")] = 0,
    split: Annotated[str, typer.Option(help="test, new (cards never trained on) or train.")] = "test",
    as_open: Annotated[bool, typer.Option("--open", help="Short answers in place of options.")] = False,
    video: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Hide in this video instead.", show_default=False)
    ] = None,
    image: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --video: the picture to hide.", show_default=False)
    ] = None,
    question: Annotated[str | None, typer.Option(help="With --video: what to ask.", show_default=False)] = None,
    answer: Annotated[str | None, typer.Option(help="With --video: what is right.", show_default=False)] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(help="With --video: an option of a multiple choice; the answer is one.", show_default=False),
    ] = None,
    fps: Annotated[float, typer.Option(help="With --video: frames looked at per second.")] = 1.0,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw the heat maps.", show_default=False)
    ] = None,
    out: Out = None,
) -> None:
    """Hide a card at a depth of a stream, and ask about it at the end."""
    from ..eval.analysis.needle import Needle, needle_picture
    from ..eval.scoring import by_mode

    if picture is not None and picture.suffix.lower() != ".png":
        raise DataError(f"{picture}: pictures are PNG, as in needle.png")
    cells: dict[str, Any] = {
        "lengths": numbers(lengths, int, "--lengths"),
        "depths": numbers(depths, float, "--depths"),
    }
    if video is None:
        benchmark = Needle(**cells, per_cell=per_cell, seed=seed, split=split, open=as_open)
    else:
        benchmark = _haystack(cells, (video, image, question, answer), option or [], fps)
    settings = opt.stream_settings(fps if video is not None else 1.0, window, batch)
    choice = ModelChoice(model, adapter, time_prompts, dtype, device, device_map)
    modes = modes_of(mode, k, delta)
    rows = measured(choice, benchmark, Path(), benchmark.examples(), settings, modes, out)
    for name, mine in by_mode(rows).items():
        Console(highlight=False, soft_wrap=True).print(_table(name, mine))
    if picture is not None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        needle_picture(rows).save(picture)
        print(f"drawn in {picture}")
    name, first = next(iter(by_mode(rows).items()))
    print(f"{name} found {sum(row.right for row in first) / len(first):.3f} n={len(first)}")


def _haystack(cells: dict[str, Any], said: tuple[Any, ...], choices: list[str], fps: float) -> Needle:
    """A video and a picture of the user's own."""
    from ..eval.analysis.haystack import Haystack

    if None in said:
        raise DataError("--video needs --image, --question and --answer")
    film, picture, asks, answer = map(str, said)
    own: dict[str, Any] = {"film": film, "picture": picture, "asks": asks, "answer": answer}
    return Haystack(**cells, **own, choices=tuple(choices), rate=fps, open=not choices)


def numbers(text: str, kind: Callable[[str], X], option: str) -> tuple[X, ...]:
    """Numbers with commas between them."""
    try:
        return tuple(kind(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise DataError(f"{option} takes numbers with commas between them, got {text!r}") from None


def _table(name: str, rows: list[Row]) -> Table:
    """Share of right answers: depths down, lengths across."""
    from ..eval.analysis.needle import found

    cells = found(rows)
    table = Table(box=None, pad_edge=False)
    table.add_column(f"{name}: depth")
    lengths = sorted({length for _, length in cells})
    for length in lengths:
        table.add_column(f"{length:,} s", justify="right")
    for depth in sorted({depth for depth, _ in cells}):
        shares = (cells[depth, length] for length in lengths)
        table.add_row(f"{depth:g}", *(f"{right / n:.2f}" for right, n in shares))
    return table
