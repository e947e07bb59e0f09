"""`weavetime score`: a benchmark's official figures from rows or responses, without a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import DataError
from .eval import AllowMissing, Partial, Variants, variants

if TYPE_CHECKING:
    from ..eval import Benchmark, Row


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
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the scored rows, for `report` and `compare`.", show_default=False),
    ] = None,
    submission: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write what the benchmark's server takes (egoschema), of the first mode's rows."
        ),
    ] = None,
    fill: Annotated[
        int | None,
        typer.Option(metavar="INDEX", help="With --submission: what to send where a response names no option."),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Have open answers judged by the model behind this OpenAI-compatible address, as in http://host/v1.",
            show_default=False,
            rich_help_panel="Judge",
        ),
    ] = None,
    judge_model: Annotated[
        str, typer.Option(metavar="NAME", help="What the server calls the model.", rich_help_panel="Judge")
    ] = "",
    judge_key: Annotated[
        str,
        typer.Option(
            metavar="VARIABLE", help="The environment variable that holds the API key.", rich_help_panel="Judge"
        ),
    ] = "",
) -> None:
    """Score rows again by the official rule, or the responses of any other system."""
    from ..eval import load
    from ..eval.scoring import from_responses, load_rows, rescored, write_rows
    from .figures import show

    if (results is None) == (responses is None):
        raise DataError("give either a results file, or --responses FILE with --data DIR")
    if submission is None and fill is not None:
        raise DataError("say --submission FILE too: --fill is about what is sent")
    if judge is None and (judge_model or judge_key):
        raise DataError("say --judge URL too: nothing is judged without it")
    head: dict[str, Any] = {"benchmark": load(name).name}
    if responses is not None:
        benchmark = load(name, **variants(variant))
        head |= {"variants": variants(variant), "about": {"responses": str(responses), "partial": partial}}
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
    if judge is not None:
        rows, about = _judged(benchmark, rows, judge, judge_model, judge_key)
        head["about"] = {**head.get("about", {}), "judge": about}
    if out is not None:
        write_rows(out, head, rows)
    if submission is not None:
        _submit(benchmark, rows, submission, fill)
    show(benchmark, rows, allow_missing=allow_missing)


def _submit(benchmark: Benchmark, rows: list[Row], path: Path, fill: int | None) -> None:
    from ..eval.scoring import by_mode

    mine = next(iter(by_mode(rows).values()))
    found = benchmark.submission(((row.example, row.response) for row in mine), fill=fill)
    if path.exists():
        raise DataError(f"{path} is there already: name another file")
    path.write_text(json.dumps(found))


def _judged(
    benchmark: Benchmark, rows: list[Row], url: str, model: str, key: str
) -> tuple[list[Row], dict[str, object]]:
    from ..eval.judge import Judge
    from ..eval.scoring import judged_rows
    from .meter import bar

    judge = Judge(endpoint=url, model=model, key=key)
    found = []
    with bar("judging", len(rows)) as told:
        for row in judged_rows(benchmark, rows, judge):
            found.append(row)
            told(len(found))
    return found, judge.to_dict()
