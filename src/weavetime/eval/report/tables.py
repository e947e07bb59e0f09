"""Tables of one results file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..published import DIFFERS, SOURCE, published
from ..row import Row
from ..scores import wilson
from ..scoring import tolerant
from .blocks import Block, Cell, Heading, Table, Text
from .card import beside
from .results import Results, problems

LISTED = 50  # videos with a problem
NONE = "–"


def scores(found: Results) -> Iterator[Block]:
    """Every official figure of every mode, with both denominators."""
    summaries = found.summaries
    first = next(iter(summaries.values()))
    names = list(dict.fromkeys(name for s in summaries.values() for name in s))
    rows: list[tuple[Cell, ...]] = []
    for name in names:
        each = {mode: s.score(name) if name in s else None for mode, s in summaries.items()}
        known = [score for score in each.values() if score is not None]
        cells = [_figure(found, mode, name) for mode in each]
        rows.append((name, *cells, count(s.n for s in known), count(s.rows for s in known)))
    strong = frozenset(i for i, name in enumerate(names) if name == first.total)
    lenient = {mode: tolerant(found.kept(mode)) for mode in summaries}
    if read := [s for s in lenient.values() if s is not None]:
        cells = [NONE if s is None or s.value is None else f"{s.value:.3f}" for s in lenient.values()]
        rows.append(("tolerant reading", *cells, count(s.n for s in read), count(s.rows for s in read)))
    yield Heading("Scores", 3)
    yield Table(("task", *summaries, "n counted", "rows"), tuple(rows), strong)
    last = " The last line is a lenient reading of the same replies, which is not the official rule." if read else ""
    yield Text(
        f"By the official rule and aggregation; `{first.total}` is the headline. n counted: the official denominator; "
        "rows: all questions. 95 % intervals: a bootstrap over whole videos; for the plain share of a task or of all, "
        "at least Wilson's. `blind` sees no video; `last:4` is a fresh stream fed the newest 4 frames alone."
        f"{last}"
    )


def _figure(found: Results, mode: str, name: str) -> Cell:
    value = found.summaries[mode].get(name)
    if value is None:
        return NONE
    low, high = found.intervals[mode][name]
    return f"{value:.3f}", f"{low:.3f}–{high:.3f}"


def count(numbers: Any) -> str:
    """One number where all are the same, else from the least to the most."""
    found = sorted({*numbers})
    return f"{found[0]:,}" if len(found) == 1 else f"{found[0]:,}–{found[-1]:,}"


def modes(found: Results) -> Iterator[Block]:
    """How often each mode recalled, and how long answers took."""
    rows = []
    for mode in found.answered:
        mine = [row for row in found.kept(mode) if not row.problem]
        took = [_times(mine, phase) for phase in ("first_token", "total")]
        looked = f"{sum(row.recalled for row in mine) / len(mine):.3f}" if mine else NONE
        gates = [row.gate for row in mine if row.gate is not None]
        gate = f"{sum(gates) / len(gates):.3f}" if gates else NONE
        rows.append((mode, f"{len(mine):,}", looked, gate, *(cell for pair in took for cell in pair)))
    yield Heading("Recall and latency", 3)
    header = ("mode", "answers", "recalled", "mean gate", "first token p50", "p95", "answer p50", "p95")
    yield Table(header, tuple(rows))
    yield Text("Recalled: share of answers that read the past after a first look. Times: milliseconds.")


def _times(rows: Sequence[Row], phase: str) -> tuple[str, str]:
    took = [row.timings[phase] * 1e3 for row in rows if phase in row.timings]
    if not took:
        return NONE, NONE
    low, high = np.percentile(took, (50, 95))
    return f"{low:,.1f}", f"{high:,.1f}"


def accuracy(rows: Sequence[Row]) -> float:
    """Mean value of counted rows, at least one."""
    return sum(row.value for row in rows) / len(rows)


def share(rows: Sequence[Row]) -> Cell:
    """Accuracy over questions with its interval."""
    counted = [row for row in rows if row.counted]
    if not counted:
        return NONE
    low, high = spread(counted)
    return f"{accuracy(counted):.3f}", f"{low:.3f}–{high:.3f}"


def spread(counted: Sequence[Row]) -> tuple[float, float]:
    """Wilson's interval; of values between 0 and 1 too, of which it is at least as wide as it need be."""
    n = len(counted)
    return wilson(accuracy(counted) * n, n)


def paper(found: Results) -> Iterator[Block]:
    """The paper's figures, where they may stand beside these."""
    name = found.benchmark.name
    if name not in DIFFERS:
        return
    yield Heading("Published figures", 3)
    if why := beside(found):
        yield Text(f"The figures of {SOURCE}, are not shown: {why}.")
        return
    rows: list[tuple[Cell, ...]] = []
    for said in published(name, found.head):
        ours = [_percent(s.get(said.figure)) for s in found.summaries.values()]
        rows.append((f"{said.model}, {said.method}", said.figure, f"{said.value:.2f}", *ours))
    yield Table(("published", "figure", "percent", *found.summaries), tuple(rows))
    yield Text(f"{SOURCE}. The code published with it differs: {DIFFERS[name]}.")


def _percent(value: float | None) -> str:
    return NONE if value is None else f"{value * 100:.2f}"


def faults(found: Results) -> Iterator[Block]:
    """What could not be answered, and what was wrong with videos that could be read."""
    every = [row for rows in found.modes.values() for row in rows]
    for what, title in (("problem", "Questions that could not be answered"), ("note", "Notes on videos")):
        said = problems(every, what)
        if not said:
            continue
        yield Heading(title, 3)
        rows = [(text, f"{count:,}") for text, count in list(said.items())[:LISTED]]
        if len(said) > LISTED:
            rows.append((f"and {len(said) - LISTED:,} more", ""))
        yield Table(("video", "rows, all modes"), tuple(rows), left=True)
