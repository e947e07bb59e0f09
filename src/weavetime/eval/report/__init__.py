"""A report of results files: Markdown, one HTML page that needs nothing else, and plots as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ...errors import DataError
from . import looks, tables
from .blocks import Block, Figure, Heading, Table, Text, html, markdown
from .card import alerts, card
from .results import Results, read

PARTS = (tables.scores, tables.modes, looks.distance, looks.gate, tables.paper, tables.faults)


def report(paths: Sequence[Path], out: Path, *, allow_missing: bool = False) -> list[Path]:
    """Write report.md, report.html and the plots into a folder; returns what was written.

    allow_missing: rows that could not be answered are left out of the figures, which the report says. Raises DataError.
    """
    if len({path.stem for path in paths}) != len(paths):
        raise DataError("two results files have the same name: their plots would overwrite each other")
    found = [read(path, allow_missing=allow_missing) for path in paths]
    blocks = list(page(found))
    out.mkdir(parents=True, exist_ok=True)
    title = f"Results: {', '.join(dict.fromkeys(f.benchmark.name for f in found))}"
    texts = {"report.md": markdown(blocks), "report.html": html(blocks, title)}
    texts |= {f"{block.name}.svg": block.svg for block in blocks if isinstance(block, Figure)}
    for name, text in texts.items():
        (out / name).write_text(text, encoding="utf-8")
    return [out / name for name in texts]


def page(found: Sequence[Results]) -> Iterator[Block]:
    """What must be known first, an overview, then each file."""
    yield Heading("Results", 1)
    for each in found:
        for alert in alerts(each):
            yield alert if len(found) == 1 else Text(f"{each.path.name}: {alert.text}", loud=True)
    if len(found) > 1:
        yield _overview(found)
    for each in found:
        yield Heading(each.name)
        yield Text(f"Rows: `{each.path.name}`.")
        for part in PARTS[:1]:
            yield from part(each)
        yield from card(each)
        for part in PARTS[1:]:
            yield from part(each)


def _overview(found: Sequence[Results]) -> Table:
    rows = []
    for each in found:
        for mode, summary in each.summaries.items():
            total = summary.score(summary.total)
            low, high = each.intervals[mode].get(total.name, (0.0, 1.0))
            value = "–" if total.value is None else (f"{total.value:.3f}", f"{low:.3f}–{high:.3f}")
            rows.append((each.path.name, each.name, mode, total.name, value, f"{total.n:,}", f"{total.rows:,}"))
    return Table(("file", "benchmark and model", "mode", "figure", "value", "n counted", "rows"), tuple(rows))


__all__ = ["Results", "page", "read", "report"]
