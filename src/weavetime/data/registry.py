"""Data sets by name: which repositories on which hub, under what licence, and where their files go.

One that joins is one entry of `DATA_SETS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType

from ..errors import DataError
from .benchmarks import BENCHMARKS
from .entry import HUBS, DataSet, Part

__all__ = ["DATA_SETS", "HUBS", "DataSet", "Part", "find"]

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
            *BENCHMARKS,
        )
    }
)


def find(name: str) -> DataSet:
    """The data set of a name, or of any repository: `hf:ID`, `modelscope:ID`, `github:ID`. Raises DataError."""
    if (known := name.replace("-", "_")) in DATA_SETS:
        return DATA_SETS[known]
    hub, _, repository = name.partition(":")
    if repository and hub in HUBS:
        return DataSet(name, "a repository as it is", "see its page", "listed below", (Part({hub: repository}),))
    close = get_close_matches(name, DATA_SETS, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(DATA_SETS)}."
    raise DataError(
        f"no data set {name!r}: {hint} Or name a repository: "
        "hf:OWNER/NAME, modelscope:OWNER/NAME, github:OWNER/NAME@COMMIT"
    )
