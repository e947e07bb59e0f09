"""`weavetime score`: a benchmark's official figures from rows or responses, without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import DataError
from .eval import AllowMissing, Partial, Variants, variants


def score(
    name: Annotated[str, typer.Argument(metavar="BENCHMARK", help="As in `weavetime eval`.", show_default=False)],
    results: Annotated[
        Path | None, typer.Argument(metavar="[RESULTS.jsonl]", help="Rows of `weavetime eval`.", show_default=False)
    ] = None,
    responses: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help='Any system\'s responses: lines {"id": …, "response": …}.'),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="With --responses: the annotation as published.", show_default=False),
    ] = None,
    variant: Variants = None,
    partial: Partial = False,
    allow_missing: AllowMissing = False,
) -> None:
    """Score rows again by the official rule, or the responses of any other system."""
    from ..eval import load
    from ..eval.scoring import from_responses, load_rows, rescored
    from .figures import show

    if (results is None) == (responses is None):
        raise DataError("give either a results file, or --responses FILE with --data DIR")
    if responses is not None:
        benchmark = load(name, **variants(variant))
        if data is None and benchmark.name != "streamworld":
            raise DataError("--responses needs --data DIR: the annotation that the ids are of")
        rows = from_responses(benchmark, benchmark.examples(data or ".", partial=partial), responses)
    else:
        assert results is not None
        head, rows = load_rows(results, load(name).name)
        benchmark = load(name, **{**head.get("variants", {}), **variants(variant)})
        rows = list(rescored(benchmark, rows))
    if not rows:
        raise DataError(f"{results} holds no row yet")
    show(benchmark, rows, allow_missing=allow_missing)
