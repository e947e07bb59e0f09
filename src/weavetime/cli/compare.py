"""`weavetime compare`: two results files, or two modes of one, on the same questions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from ..errors import DataError
from .eval import AllowMissing

if TYPE_CHECKING:
    from ..eval.compare import Comparison, Line


def compare(
    a: Annotated[Path, typer.Argument(metavar="A.jsonl", help="Rows of `weavetime eval`.", show_default=False)],
    b: Annotated[
        Path | None,
        typer.Argument(metavar="[B.jsonl]", help="Those to compare with. Default: the same file.", show_default=False),
    ] = None,
    mode: Annotated[
        str | None, typer.Option(metavar="NAME", help="Mode of A. Default: its first.", show_default=False)
    ] = None,
    other: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Mode of B. Default: that of A, else its first.", show_default=False),
    ] = None,
    allow_missing: AllowMissing = False,
) -> None:
    """Paired differences of two results, with 95 % intervals."""
    from ..eval.compare import compare as measure
    from ..eval.compare import pick
    from ..eval.report import read

    one = read(a, allow_missing=allow_missing)
    two = one if b is None else read(b, allow_missing=allow_missing)
    first = pick(one, mode)
    if b is None and other is None:
        left = [name for name in one.modes if name != first]
        if len(left) != 1:
            raise DataError(f"name the other mode with --other: {a} has {', '.join(one.modes)}")
        other = left[0]
    second = pick(two, other, first)
    found = measure(one, two, first, second)
    print(f"A: {first} of {a}\nB: {second} of {b or a}")
    _show(found)


def _show(found: Comparison) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for text in _notes(found):
        console.print(text, markup=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in ("n", "A", "B", "A − B", "95 %", "only A", "only B"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in found.lines:
        table.add_row(*_cells(line), style="bold" if line.only_a is None else None)
    console.print(table)
    print("only A, only B: questions that only one of the two got right; the interval is paired, over whole videos")
    if found.settings:
        console.print("\nWhat differs (A, then B):")
    for key, one, two in found.settings:
        console.print(f"  {key}: {one}, {two}", markup=False)


def _notes(found: Comparison) -> list[str]:
    said = (
        (found.only_a, "questions are only in A and left out"),
        (found.only_b, "questions are only in B and left out"),
        (found.unanswered, "questions could not be answered on one side at least and are left out"),
        (found.uncounted, "questions are not counted by the official rule on both sides: only in the official total"),
    )
    return [f"{n:,} {text}" for n, text in said if n]


def _cells(line: Line) -> tuple[str, ...]:
    only = ["" if n is None else f"{n:,}" for n in (line.only_a, line.only_b)]
    between = f"{line.low:+.3f} to {line.high:+.3f}"
    return line.name, f"{line.n:,}", f"{line.a:.3f}", f"{line.b:.3f}", f"{line.a - line.b:+.3f}", between, *only
