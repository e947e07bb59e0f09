"""`weavetime inspect`: one answer of a results file, closely; asked again where a model is named, and drawn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import DataError
from . import options as opt
from .eval import Partial
from .options import ModelChoice

if TYPE_CHECKING:
    from ..eval import Row
    from ..eval.analysis.inspect import Again


def inspect(
    results: Annotated[
        Path, typer.Argument(metavar="RESULTS.jsonl", help="Rows of `weavetime eval` or `needle`.", show_default=False)
    ],
    name: Annotated[str, typer.Option("--id", metavar="ID", help="Which question.", show_default=False)],
    mode: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which answer, where there are several.", show_default=False)
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw the answer.", show_default=False)
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Feed the video and ask again as the run did: shows the frames read, and each layer's scores.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="With --model: the annotation, and videos/.", show_default=False),
    ] = None,
    adapter: opt.Adapter = None,
    time_prompts: opt.TimePrompts = None,
    dtype: opt.Dtype = None,
    device: opt.Device = None,
    device_map: opt.DeviceMap = None,
    partial: Partial = False,
) -> None:
    """Show one answer of a results file: what was asked, said and read."""
    from ..eval.analysis.inspect import row_of
    from ..eval.scoring import load_rows

    if picture is not None and picture.suffix.lower() != ".png":
        raise DataError(f"{picture}: pictures are PNG, as in answer.png")
    head, rows = load_rows(results)
    row = row_of(rows, name, mode)
    print("\n".join(described(row)))
    again = None
    if model is not None:
        choice = ModelChoice(model, adapter, _prompts(head, time_prompts), dtype, device, device_map)
        again = _asked(head, row, choice, data, partial=partial or head.get("about", {}).get("partial", False))
        differs = again.differs(row)
        print("asked again   " + ("the same answer" if not differs else "not as in the row: " + "; ".join(differs)))
        print(f"looked at     {len(again.blocks)} frames")
    if picture is not None:
        from ..eval.analysis.closeup import closeup

        picture.parent.mkdir(parents=True, exist_ok=True)
        closeup(row if again is None else again.row, again).save(picture)
        print(f"picture       {picture}")


def _prompts(head: dict[str, Any], said: bool | None) -> bool | None:
    """Time prompts as in the run, unless something else is said."""
    return head.get("model", {}).get("time_prompts") if said is None else said


def _asked(head: dict[str, Any], row: Row, choice: ModelChoice, data: Path | None, *, partial: bool) -> Again:
    from ..eval.analysis.inspect import ask_again, benchmark_of, run_of
    from .session import load_engine

    benchmark = benchmark_of(head)
    if data is None and benchmark.name not in ("streamworld", "needle", "haystack"):
        raise DataError("--model needs --data DIR: the annotation and the videos of the run")
    root = data or Path()
    run = run_of(head, benchmark, benchmark.examples(root, partial=partial), row, root)
    return ask_again(load_engine(choice), run, row.id)


def described(row: Row) -> Iterator[str]:
    """A row in lines of text."""
    when = "" if row.at is None else f", asked at {row.at:g} s"
    yield f"question      {row.id} of {row.video}, {row.task}{when}"
    yield f"              {row.question}"
    for letter, option in zip(ascii_uppercase, row.options, strict=False):
        yield f"              ({letter}) {option}"
    yield f"gold          {row.gold}"
    yield f"response      {row.response!r}, read as {row.parsed!r}"
    counted = "" if row.counted else ", not counted"
    parts = "".join(f"; {name} {value:g}" for name, value in row.parts.items())
    yield f"grade         {row.value:g}{counted}{parts}"
    for name in ("problem", "note"):
        if getattr(row, name):
            yield f"{name:<14}{getattr(row, name)}"
    gate = "none" if row.gate is None else f"{row.gate:.3f}"
    yield f"mode          {row.mode}; gate {gate}; {'recalled the past' if row.recalled else 'nothing recalled'}"
    yield from _read(row)
    if row.timings:
        yield "timings       " + ", ".join(f"{k} {1000 * v:.1f} ms" for k, v in row.timings.items())


def _read(row: Row) -> Iterator[str]:
    """What was read, and how that fits the evidence."""
    from ..eval.analysis.evidence import evidence_read
    from ..eval.scores import joined

    every = joined(span for layer in row.read for span in layer)
    layers = "every layer the same" if len(row.read) == 1 else f"any of {len(row.read)} layers"
    yield f"read          {_spans(every)} ({layers})" if every else "read          nothing"
    if row.evidence:
        yield f"evidence      {_spans(row.evidence)}"
    found = evidence_read(row)
    if found is not None:
        yield f"              recall {_share(found.recall)}, any layer {_share(found.recall_union)}"
        yield f"              precision {_share(found.precision)}, any layer {_share(found.precision_union)}"


def _spans(spans: tuple[tuple[float, float], ...], most: int = 12) -> str:
    said = [f"{a:g}–{b:g}" for a, b in spans[:most]]
    return ", ".join(said) + " s" + (f" and {len(spans) - most} more stretches" if len(spans) > most else "")


def _share(x: float | None) -> str:
    return "none" if x is None else f"{x:.2f}"
