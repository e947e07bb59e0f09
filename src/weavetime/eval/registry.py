"""Benchmarks by name. One that joins is one line here, or an entry point `weavetime.benchmarks` of another package."""

from __future__ import annotations

from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from ..errors import DataError
from .base import Benchmark

GROUP = "weavetime.benchmarks"
BENCHMARKS = {
    name: EntryPoint(name, f"{__package__}.benchmarks.{name}:{kind}", GROUP)
    for name, kind in {
        "ovo_bench": "OVOBench",
        "streaming_bench": "StreamingBench",
        "mlvu": "MLVU",
        "qaego4d": "QAEgo4D",
        "event_hallusion": "EventHallusion",
        "egoschema": "EgoSchema",
        "cg_bench": "CGBench",
        "activitynet_qa": "ActivityNetQA",
        "rvs": "RVS",
        "vidhalluc": "VidHalluc",
        "streamworld": "StreamWorld",
    }.items()
}


def names() -> list[str]:
    """Every benchmark that can be loaded, those of other packages last."""
    return [*BENCHMARKS, *sorted({e.name for e in entry_points(group=GROUP)} - set(BENCHMARKS))]


def load(name: str, **variants: Any) -> Benchmark:
    """A benchmark by name. variants: its published variants, as in `load("streaming_bench", context=60)`.

    Raises DataError for a name or variant that there is not.
    """
    key = name.replace("-", "_")
    joined = {e.name: e for e in entry_points(group=GROUP)}
    entry = BENCHMARKS.get(key) or joined.get(key)
    if entry is None:
        close = get_close_matches(key, names(), n=1, cutoff=0.5)
        raise DataError(f"no benchmark {name!r}: " + (f"did you mean {close[0]}?" if close else ", ".join(names())))
    kind = entry.load()
    try:
        found = kind(**variants)
    except TypeError as e:
        known = ", ".join(getattr(kind, "__dataclass_fields__", {})) or "none"
        raise DataError(f"{key} has no such variant ({', '.join(variants)}): known are {known}") from e
    if not isinstance(found, Benchmark):
        raise DataError(f"{entry.value} is no benchmark: it must be a weavetime.eval.Benchmark")
    return found
