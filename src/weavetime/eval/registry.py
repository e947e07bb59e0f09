"""Benchmarks by name. One that joins is one line here, or an entry point `weavetime.benchmarks` of another package."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import DataError

if TYPE_CHECKING:
    from .base import Benchmark

GROUP = "weavetime.benchmarks"


class Entry(NamedTuple):
    """Where a benchmark is, and a line about it."""

    kind: str
    about: str


BENCHMARKS = {
    "streaming_bench": Entry("StreamingBench", "real-time, omni-source, contextual and proactive questions to streams"),
    "ovo_bench": Entry("OVOBench", "backward, real-time and forward questions to online video"),
    "mlvu": Entry("MLVU", "long videos, seven multiple-choice tasks (dev)"),
    "qaego4d": Entry("QAEgo4D", "where was it, in egocentric video; with the evidence's times"),
    "event_hallusion": Entry("EventHallusion", "yes or no: events that did not happen"),
    "egoschema": Entry("EgoSchema", "three minutes of egocentric video, five options"),
    "cg_bench": Entry("CGBench", "long videos, questions with clues"),
    "activitynet_qa": Entry("ActivityNetQA", "short open answers about activities"),
    "rvs": Entry("RVS", "RVS-Ego and RVS-Movie: open answers on streams, judged by a model"),
    "vidhalluc": Entry("VidHalluc", "actions that are not there, several letters right"),
    "streamworld": Entry("StreamWorld", "generated streams whose answers and evidence are known; nothing is fetched"),
}


def names() -> list[str]:
    """Every benchmark that can be loaded, those of other packages last."""
    return [*BENCHMARKS, *sorted({e.name for e in entry_points(group=GROUP)} - set(BENCHMARKS))]


def load(name: str, /, **variants: Any) -> Benchmark:
    """A benchmark by name. variants: its published variants, as in `load("streaming_bench", context=60)`.

    Raises DataError for a name or variant that there is not.
    """
    from .base import Benchmark

    key = name.replace("-", "_")
    kind = _entry(key).load()
    known = [f.name for f in fields(kind) if f.init] if is_dataclass(kind) else []
    if unknown := set(variants) - set(known):
        raise DataError(f"{key} has no variant {', '.join(sorted(unknown))}: there are {', '.join(known) or 'none'}")
    found = kind(**variants)
    if not isinstance(found, Benchmark):
        raise DataError(f"{kind.__module__}.{kind.__qualname__} is no benchmark: it must be a weavetime.eval.Benchmark")
    return found


def _entry(key: str) -> EntryPoint:
    if key in BENCHMARKS:
        return EntryPoint(key, f"{__package__}.benchmarks.{key}:{BENCHMARKS[key].kind}", GROUP)
    for entry in entry_points(group=GROUP):
        if entry.name == key:
            return entry
    close = get_close_matches(key, names(), n=1, cutoff=0.5)
    raise DataError(f"no benchmark {key!r}: " + (f"did you mean {close[0]}?" if close else ", ".join(names())))
