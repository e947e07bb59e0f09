"""The protocol card: how the figures came about; and what a reader must know before reading them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

from ...config import BASELINES
from ..protocol import commit
from ..published import not_comparable
from ..registry import BENCHMARKS
from .blocks import Block, Heading, Table, Text
from .results import Results

UNKNOWN = "not said by the results file"


def alerts(found: Results) -> Iterator[Text]:
    """What makes figures other than they seem: parts left out, rows missing, baselines missing."""
    about, benchmark = found.about, found.benchmark
    if about.get("limit") is not None:
        yield _loud(f"Limited run: only the first {about['limit']:,} questions were asked.")
    if about.get("partial"):
        yield _loud("Partial run: annotation files or rows were missing, and it went on without them.")
    if found.lacking:
        yield _loud(f"Not the published questions: {found.lacking}.")
    if short := {mode: len(rows) for mode, rows in found.modes.items() if len(rows) < found.asked}:
        said = ", ".join(f"{mode} {n:,}" for mode, n in short.items())
        yield _loud(f"The run is not finished: of {found.asked:,} rows there are {said}.")
    if lost := {m: n for m, rows in found.modes.items() if (n := sum(bool(row.problem) for row in rows))}:
        how = "left out of all figures (--allow-missing)" if found.missing else "counted as wrong"
        said = ", ".join(f"{mode} {n:,}" for mode, n in lost.items())
        yield _loud(f"Questions that could not be answered are {how}: {said}.")
    if benchmark.unverified:
        yield _loud("Format unverified: the original annotation of this benchmark could not be compared with.")
    if absent := [mode for mode in BASELINES if mode not in found.modes]:
        how = " ".join(f"--mode {mode}" for mode in absent)
        yield _loud(f"No score can be put beside {' and '.join(absent)}: run `weavetime eval` with {how}.")


def _loud(text: str) -> Text:
    return Text(text, loud=True)


def card(found: Results) -> Iterator[Block]:
    """The card and the words of the first question."""
    rows = tuple((name, said) for name, said in _lines(found))
    yield Heading("Protocol", 3)
    yield Table(("", "this run"), rows, left=True)
    if first := _part(found.head, "prompts").get("first"):
        yield Text("The first question as it is put, without the model's own template:")
        yield Text(str(first), code=True)


def _lines(found: Results) -> Iterator[tuple[str, str]]:
    head, about, name = found.head, found.about, found.benchmark.name
    model, stream = _part(head, "model"), _part(head, "stream")
    entry = BENCHMARKS.get(name)
    yield "benchmark", f"{name}: {entry.about}" if entry else name
    variants = _part(head, "variants")
    yield "split", _split(found)
    if variants:
        yield "variant", ", ".join(f"{key} {_short(value)}" for key, value in variants.items())
    if name == "streaming_bench":
        yield "context", _context(variants.get("context"))
    adapter = f", adapter {about['adapter']}" if about.get("adapter") else ""
    size = f", {about['parameters'] / 1e6:,.1f} M parameters" if about.get("parameters") else ""
    yield "model", f"{about.get('model', UNKNOWN)}{adapter} ({model.get('family', 'family not said')}{size})"
    yield "weights", f"{model.get('weights', UNKNOWN)}, {model.get('dtype', 'dtype not said')}"
    yield "fps", _said(stream.get("fps"))
    yield "pixels", _said(model.get("pixels"))
    window = "none: nothing is evicted" if stream.get("window") is None else f"{stream['window']} blocks"
    yield "window", window if "window" in stream else UNKNOWN
    yield "layers", _said(model.get("layers"))
    for mode in found.modes:
        if own := found.settings(mode):
            said = {**own, "delta": found.delta(mode)} if "delta" in own else own
            told = ", ".join(f"{'δ' if key == 'delta' else key} {_short(value)}" for key, value in said.items())
            yield f"mode {mode}", told
    prompts = _part(head, "prompts").get("fingerprint")
    yield "prompts", f"the benchmark's own, fingerprint {prompts}" if prompts else UNKNOWN
    yield "time prompts", {True: "on", False: "off"}.get(model.get("time_prompts"), UNKNOWN)  # type: ignore[arg-type]
    yield "scored tokens", "visual ones only" if stream.get("visual_only") else "all of a block"
    yield "rows", _rows(found)
    yield "date, card", f"{about.get('date', UNKNOWN)}, {about.get('device', UNKNOWN)}"
    versions = _part(about, "versions")
    yield "versions", ", ".join(f"{key} {value}" for key, value in versions.items()) or UNKNOWN
    made = str(about.get("commit") or UNKNOWN)
    yield "commit", made.replace("+", ", and the code was changed since") if made.endswith("+") else made
    yield "graded by", f"weavetime {version('weavetime')}, commit {commit() or 'none'}"


def _part(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = values.get(key)
    return found if isinstance(found, Mapping) else {}


def _said(value: Any) -> str:
    return UNKNOWN if value is None else str(value)


def _short(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)) if len(value) <= 4 else f"({len(value)} of them)"
    return "none" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _split(found: Results) -> str:
    split = _part(found.head, "variants").get("split")
    tasks = sorted({row.task for rows in found.modes.values() for row in rows})
    return f"{split or 'as published'}, {len(tasks)} task{'s' * (len(tasks) != 1)}"


def _context(context: Any) -> str:
    main = "the 60 s table is what StreamingBench's README calls Main"
    if context is None:
        return f"all of the video before the question; {main}, so this run belongs beside the full-context table"
    return f"{context:g} s before the question; {main}"


def _rows(found: Results) -> str:
    counts = sum(found.benchmark.counts.values())
    published = f"{counts:,} as published, " if counts else ""
    each = {mode: len(rows) for mode, rows in found.modes.items()}
    same = len(set(each.values())) == 1
    said = f"{next(iter(each.values())):,} in each mode" if same else ", ".join(f"{m} {n:,}" for m, n in each.items())
    return f"{published}{found.asked:,} asked; {said}"


def beside(found: Results) -> str:
    """Why published figures may not stand beside these; "" where they may."""
    return not_comparable(found.benchmark.name, found.head, found.about, found.whole)
