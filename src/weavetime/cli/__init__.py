"""The command line: `weavetime` and its commands, each of which imports model code when it runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ..errors import WeaveTimeError
from .ask import ask
from .bench import bench
from .compare import compare
from .convert import convert
from .data import data
from .demo import demo
from .diagnose import diagnose
from .eval import evaluate
from .inspect import inspect
from .merge import merge
from .models import models
from .needle import needle
from .report import report
from .score import score
from .train import train
from .watch import watch
from .world import world

app = typer.Typer(
    name="weavetime",
    help="A video streams in, a question at any moment gets an answer with its evidence.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (ask, watch, demo, bench, train, merge, convert, models, world, score, report, compare, inspect, needle):
    app.command()(command)
app.add_typer(data)
app.add_typer(evaluate)
app.add_typer(diagnose)


def _version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        print(f"weavetime {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The `weavetime` command. An error of the user's is one line on stderr and exit code 1."""
    try:
        app()
    except WeaveTimeError as e:
        print(f"weavetime: {e}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # whoever read the answer has left
        sys.stderr.close()
        sys.exit(1)
    except OSError as e:
        print(f"weavetime: {e}", file=sys.stderr)
        sys.exit(1)


__all__ = ["app", "main"]
