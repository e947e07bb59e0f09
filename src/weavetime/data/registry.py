"""Data sets by name: which repositories on which hub, under what licence, and where their files go.

One that joins is one entry of `DATA_SETS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType

from ..errors import DataError
from ..hub import is_remote

HUBS = ("hf", "modelscope")


@dataclass(frozen=True, slots=True)
class Part:
    """Files of one repository. on: its id per hub, the preferred one first. into: the folder below the data set's own
    that they go to. patterns: which files, as `fnmatch` over the path in the repository.
    """

    on: Mapping[str, str]
    into: str = ""
    patterns: tuple[str, ...] = ("*",)


@dataclass(frozen=True, slots=True)
class DataSet:
    """What `weavetime data get NAME` fetches, and what it says before."""

    name: str
    about: str
    licence: str
    size: str
    parts: tuple[Part, ...]


DATA_SETS: Mapping[str, DataSet] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            DataSet(
                name="train",
                about="WeaveTime's fine-tuning data: conversations in JSONL, and the videos of LLaVA-Video-178K",
                licence="LLaVA-Video-178K: Apache-2.0 as its card says, for academic research and education only, "
                "with text by GPT-4 under OpenAI's usage policies; the conversations state no licence of their own",
                size="about 1.5 TB unpacked; --include takes a part of it",
                parts=(
                    Part({"modelscope": "zhangyl9/weavetime_it"}, into="annotations"),
                    Part({"hf": "lmms-lab/LLaVA-Video-178K", "modelscope": "lmms-lab/LLaVA-Video-178K"}, into="videos"),
                ),
            ),
        )
    }
)


def find(name: str) -> DataSet:
    """The data set of a name, or of any repository: `hf:OWNER/NAME`, `modelscope:OWNER/NAME`. Raises DataError."""
    if name in DATA_SETS:
        return DATA_SETS[name]
    if is_remote(name):
        hub, repository = name.split(":", 1)
        return DataSet(name, "a repository as it is", "see its page", "listed below", (Part({hub: repository}),))
    close = get_close_matches(name, DATA_SETS, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(DATA_SETS)}"
    raise DataError(f"no data set {name!r}: {hint} Or name a repository: hf:OWNER/NAME, modelscope:OWNER/NAME")
