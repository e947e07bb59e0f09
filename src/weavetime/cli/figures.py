"""Results of a benchmark on a terminal: a table of figures by mode, what could not be answered, one closing line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from ..errors import DataError

if TYPE_CHECKING:
    from ..eval import Benchmark, Row, Score, Summary

LISTED = 10  # problems named one by one


def show(benchmark: Benchmark, rows: Sequence[Row], *, allow_missing: bool, closing: str | None = None) -> None:
    """Print the figures of every mode, then one line for the first of them."""
    from ..eval.scoring import by_mode, summary, tolerant

    modes = by_mode(rows)
    found = {mode: summary(benchmark, mine, allow_missing=allow_missing) for mode, mine in modes.items()}
    lenient = {mode: tolerant(mine, allow_missing=allow_missing) for mode, mine in modes.items()}
    console = Console(highlight=False, soft_wrap=True)
    console.print(_table(found, lenient))
    _problems(console, next(iter(modes.values())), allow_missing)
    _notes(console, next(iter(modes.values())))
    head = next(iter(found.values()))
    total = head.score(head.total)
    value = "none" if total.value is None else f"{total.value:.3f}"
    if all(row.problem for mine in modes.values() for row in mine):
        raise DataError("not one question could be answered: these figures measure nothing")
    print(f"{closing or f'{benchmark.name} {total.name}'} {value} n={total.n}")


def _table(found: dict[str, Summary], lenient: dict[str, Score | None]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in ("n", "rows", *found):
        table.add_column(name, justify="right")
    first = next(iter(found.values()))
    for score in first.scores:
        cells = [_value(s.get(score.name)) for s in found.values()]
        style = "bold" if score.name == first.total else None
        table.add_row(score.name, f"{score.n:,}", f"{score.rows:,}", *cells, style=style)
    if any(score is not None for score in lenient.values()):
        scores = list(lenient.values())
        n = next(score.n for score in scores if score is not None)
        cells = [_value(None if score is None else score.value) for score in scores]
        table.add_row("tolerant reading", f"{n:,}", f"{n:,}", *cells, style="dim")
    return table


def _value(x: float | None) -> str:
    return "–" if x is None else f"{x:.3f}"


def _problems(console: Console, rows: Sequence[Row], allow_missing: bool) -> None:
    """What had no answer, video by video."""
    how = "left out" if allow_missing else "counted as wrong"
    said = Counter(f"{row.video}: {row.problem}" for row in rows if row.problem)
    _list(console, f"questions could not be answered and are {how}:", said)


def _notes(console: Console, rows: Sequence[Row]) -> None:
    """What was wrong with videos that could be read."""
    said = Counter(f"{row.video}: {row.note}" for row in rows if row.note)
    _list(console, "questions were answered from videos with something wrong:", said)


def _list(console: Console, title: str, found: Counter[str]) -> None:
    if found:
        console.print(f"{found.total()} {title}", markup=False)
    for text, count in list(found.items())[:LISTED]:
        console.print(f"  {count} × {text}", markup=False)
    if len(found) > LISTED:
        console.print(f"  and {len(found) - LISTED} more videos", markup=False)
