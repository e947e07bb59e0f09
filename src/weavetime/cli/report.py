"""`weavetime report`: results files as a page to read, with the protocol, intervals, baselines and plots."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .eval import AllowMissing


def report(
    results: Annotated[
        list[Path], typer.Argument(metavar="RESULTS.jsonl…", help="Rows of `weavetime eval`.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where report.md, report.html and the plots go.", show_default=False)
    ],
    allow_missing: AllowMissing = False,
) -> None:
    """Write a report of results: Markdown, and one HTML page that needs nothing else."""
    from ..eval.report import report as write

    for path in write(results, out, allow_missing=allow_missing):
        print(path)
