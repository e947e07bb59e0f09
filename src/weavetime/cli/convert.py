"""`weavetime convert`: a model whose weights are pickled, written once as safetensors."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

WARNING = (
    "FOLDER's .bin weights are pickles, and a pickle can run code when it is read. Only plain tensors are taken from "
    "them here and all else is refused; still, convert only what you trust."
)


def convert(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A model's folder with pytorch_model*.bin.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")],
) -> None:
    """Write FOLDER's pickled .bin weights as safetensors to OUT, with its config and tokenizer, and check them."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

    from ..backbones.convert import convert as run

    print(f"weavetime: warning: {WARNING.replace('FOLDER', str(folder))}", file=sys.stderr)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading", total=None)

        def told(what: str, done: int, of: int) -> None:
            progress.update(task, description=what, completed=done, total=of)

        count = run(folder, out, told)
    print(f"{count} tensors written and checked", file=sys.stderr)
    print(out)
