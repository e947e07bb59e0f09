"""`weavetime train`: a recipe carried out, or what it would do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from ..train.recipe import Recipe


def train(
    recipe: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="A recipe of --list, or a YAML file.", show_default=False)
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", metavar="KEY=VALUE", help="Another value, as in optimiser.lr=2e-5; repeat."),
    ] = None,
    output: Annotated[str | None, typer.Option(help="The folder that the result goes to.", metavar="FOLDER")] = None,
    max_bad_samples: Annotated[
        int | None,
        typer.Option(help="Stop when more samples than this cannot be used; as --set run.max_bad.", metavar="N", min=0),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in the output.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be trained, and stop.")] = False,
    names: Annotated[bool, typer.Option("--list", help="Say which recipes there are, and stop.")] = False,
    launch_file: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Print where the settings ddp, fsdp, zero2 or zero3 are, and stop."),
    ] = None,
) -> None:
    """Fine-tune a model with a recipe. Runs as it is under torchrun and accelerate launch."""
    if names:
        return _list()
    if launch_file is not None:
        return _launch_file(launch_file)
    if recipe is None:
        raise typer.BadParameter("name a recipe: weavetime train --list says which there are", param_hint="'RECIPE'")
    from ..train.recipe import read_recipe

    lost = [] if max_bad_samples is None else [f"run.max_bad={max_bad_samples}"]
    wanted = read_recipe(recipe, [*(change or ()), *lost])
    if output is not None:
        wanted = replace(wanted, output=output)
    return _dry_run(wanted) if dry_run else _train(wanted, resume=resume)


def _list() -> None:
    from ..train.recipe import read_recipe, shipped

    table = Table(box=None, pad_edge=False)
    for name in ("recipe", "model", "task"):
        table.add_column(name)
    for name in shipped():
        found = read_recipe(name)
        table.add_row(name, found.model, found.task)
    Console(highlight=False).print(table)


def _launch_file(name: str) -> None:
    from ..train.recipe import launch_files

    known = launch_files()
    if name not in known:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(known)}", param_hint="'--launch-file'")
    print(known[name])


def _dry_run(recipe: Recipe) -> None:
    from ..train.run import plan
    from ..train.task import make_task
    from .session import waiting

    with waiting(f"loading {recipe.model}"):
        _quiet()
        task = make_task(recipe)
    found = plan(task, recipe)
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("trained")
    table.add_column("parameters", justify="right")
    for part, count in found.modules.items():
        table.add_row(part, f"{count:,}")
    table.add_row("all", f"{found.trained:,} of {found.total:,}", style="bold")
    console.print(table)
    console.print(f"{found.amount}, {found.per_step} a step with one process, {found.steps:,} steps")
    for line in getattr(task, "notes", ()):
        console.print(line)


def _train(recipe: Recipe, *, resume: bool) -> None:
    from accelerate import PartialState

    from ..errors import NumericsError
    from ..train.run import train as carry_out

    _quiet()
    console = Console(stderr=True, highlight=False)
    try:
        carry_out(recipe, resume=resume, say=lambda text: console.print(f"[dim]{text}", soft_wrap=True))
    except NumericsError:  # all processes stop together
        PartialState().destroy_process_group()
        raise
    PartialState().destroy_process_group()  # its threads, left running, can abort the interpreter as it ends
    print(Path(recipe.output))


def _quiet() -> None:
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
