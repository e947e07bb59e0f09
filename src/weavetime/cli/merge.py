"""`weavetime merge`: a model and a LoRA written as one plain model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options as opt


def merge(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="mini, a folder, a hub id or modelscope:OWNER/NAME.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="A new folder.", show_default=False)],
    adapter: Annotated[
        str, typer.Option(metavar="ID", help="A folder, hf:OWNER/NAME or modelscope:OWNER/NAME.", show_default=False)
    ],
    time_prompts: opt.TimePrompts = None,
) -> None:
    """Write MODEL with a LoRA merged into it, as a folder that loads without PEFT and without the adapter."""
    from .session import waiting

    with waiting(f"merging {adapter} into {model}"):
        from transformers.utils import logging

        from ..train.folders import merge as write

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        write(model, adapter, out, time_prompts=time_prompts)
    print(out)
