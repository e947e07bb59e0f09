"""How looking back paid: accuracy by distance of the evidence, the gate's histogram, accuracy over the threshold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ...config import BASELINES
from ...pictures import Axis, Bar, Line, bars, lines
from ..curves import DELTAS, Bin, at_delta, distance_bins, doublings, gate_bins
from ..row import Row
from ..scores import evidence_scores
from ..scoring import summary
from .blocks import Block, Cell, Figure, Heading, Table, Text
from .results import Results
from .tables import NONE, accuracy, count, share, spread


def distance(found: Results) -> Iterator[Block]:
    """Accuracy by how far back the evidence lies, and what was read of it; nothing where none is annotated."""
    known = {m: [r for r in found.kept(m) if r.counted and r.distance is not None] for m in found.answered}
    if not any(known.values()):
        return
    yield Heading("Distance of the evidence", 3)
    window, layers = _window(found), found.head.get("model", {}).get("layers")
    if window is None:
        yield Text("These streams have no window, or the file does not say it: all evidence is within reach.")
    edges = [] if window is None else [window, *([window * layers] if isinstance(layers, int) else [])]
    each = {mode: distance_bins(rows, edges) for mode, rows in known.items()}
    names = [_bin_name(i, edges) for i in range(len(edges) + 1)]
    rows = [
        (name, *(share(b[i].rows) for b in each.values()), count(len(b[i].rows) for b in each.values()))
        for i, name in enumerate(names)
    ]
    yield Table(("evidence", *each, "n"), tuple(rows))
    yield Text(
        "Seconds from the question back to the end of the piece of evidence farthest back; accuracy over questions."
    )
    if window is not None:
        yield from _distance_plot(found, known, window)
    yield from _evidence(known)


def _window(found: Results) -> float | None:
    """Length of the window, seconds."""
    stream = found.head.get("stream", {})
    window, fps = stream.get("window"), stream.get("fps")
    return window / fps if isinstance(window, int) and fps else None


def _bin_name(i: int, edges: Sequence[float]) -> str:
    if not edges:
        return "any"
    if i == 0:
        return f"inside the window (< {edges[0]:g} s)"
    if i == 1 and len(edges) == 2:
        return f"within layers × window (< {edges[1]:g} s)"
    return f"beyond ({edges[-1]:g} s or more)"


def _distance_plot(found: Results, known: Mapping[str, list[Row]], window: float) -> Iterator[Block]:
    every = [row.distance for rows in known.values() for row in rows if row.distance is not None]
    edges = doublings(window, max(every))
    drawn = [_binned(mode, distance_bins(rows, edges), mode in BASELINES) for mode, rows in known.items()]
    starts = [0.0, *edges]
    ticks = [(float(i), f"{a:g}–{b:g}") for i, (a, b) in enumerate(zip(starts, edges, strict=False))]
    ticks.append((float(len(edges)), f"≥ {edges[-1]:g}"))
    svg = lines(Axis("seconds back to the evidence", ticks), "accuracy", [line for line in drawn if line.points])
    yield Figure(f"{found.path.stem}-distance", svg, "Accuracy by distance of the evidence, with 95 % intervals.")


def _binned(name: str, bins: Sequence[Bin], flat: bool) -> Line:
    full = [(float(i), b.rows) for i, b in enumerate(bins) if b.rows]
    points = [(x, accuracy(rows)) for x, rows in full]
    return Line(name, points, flat, () if flat else [spread(rows) for _, rows in full])


def _evidence(known: Mapping[str, list[Row]]) -> Iterator[Block]:
    rows = []
    for mode, mine in known.items():
        found = [s for s in map(evidence_scores, mine) if s is not None]
        each = [[getattr(s, what) for s in found] for what in WHAT]
        means = [[v for v in values if v is not None] for values in each]
        rows.append((mode, f"{len(found):,}", *(f"{sum(v) / len(v):.3f}" if v else NONE for v in means)))
    yield Table(("mode", "n", "recall", "recall, any layer", "precision", "precision, any layer"), tuple(rows))
    yield Text(
        "Recall: share of the annotated spans of which something was read. Precision: share of the time read that lies "
        "in one. Means over layers, and for what any layer read; then over questions."
    )


WHAT = ("recall", "recall_union", "precision", "precision_union")


def gate(found: Results) -> Iterator[Block]:
    """The gate's histogram with accuracy, and accuracy over the threshold where the file holds both answers."""
    gated = [mode for mode in found.answered if any(row.gate is not None for row in found.kept(mode))]
    for mode in gated:
        yield Heading(f"The gate of {mode}", 3)
        bins = gate_bins([row for row in found.kept(mode) if row.counted])
        drawn = [Bar(b.low, b.high, b.right, len(b.rows) - b.right) for b in bins]
        delta = found.delta(mode)
        mark = None if delta is None or not 0 < delta <= 1 else (delta, f"δ {delta:g}")
        plot = bars(Axis("gate (0 sure, 1 unsure)"), "questions", drawn, mark)
        yield Figure(f"{_file(found, mode)}-gate", plot, f"Gate of {mode}: answers right and wrong.")
        rows = [
            (f"{b.low:g}–{b.high:g}", f"{len(b.rows):,}", f"{sum(r.recalled for r in b.rows):,}", share(b.rows))
            for b in bins
            if b.rows
        ]
        yield Table(("gate", "n", "recalled", "accuracy"), tuple(rows))
        yield from _over_delta(found, mode)


def _file(found: Results, mode: str) -> str:
    return f"{found.path.stem}-{''.join(c if c.isalnum() else '-' for c in mode).strip('-')}"


def _over_delta(found: Results, mode: str) -> Iterator[Block]:
    least = found.delta(mode)
    if "window" not in found.answered or least is None or least >= 1:
        yield Text(
            "Accuracy over δ needs the window's answer and the recalled one of each question: add "
            "`--mode weavetime --delta 0 --mode window` to `weavetime eval`."
        )
        return
    always, present = ({row.id: row for row in found.kept(m)} for m in (mode, "window"))
    rows: list[tuple[Cell, ...]] = []
    points: list[tuple[float, float]] = []
    own = found.head.get("model", {}).get("delta") or least
    for delta in sorted({least, *(d for d in (*DELTAS, own) if d >= least)}):
        joined = list(at_delta(always, present, delta).values())
        counted = [row for row in joined if row.counted]
        if not counted:
            continue
        looked = sum(row.recalled for row in joined) / len(joined)
        total = summary(found.benchmark, joined)
        value = total[total.total]
        points.append((looked, accuracy(counted)))
        name = f"{delta:g}" if looked else f"{delta:g} and above"
        told = NONE if value is None else f"{value:.3f}"
        rows.append((name, f"{len(joined):,}", f"{looked:.3f}", share(joined), told))
        if not looked:
            break
    if not points:
        return
    points = sorted(points)
    others = [m for m in found.answered if m != mode and not m.startswith("weavetime")]
    flats = [(m, accuracy(mine)) for m in others if (mine := [r for r in found.kept(m) if r.counted])]
    curve = Line(f"{mode.partition('(')[0]} over δ", points)
    drawn = [curve, *(Line(m, [(0.0, y), (1.0, y)], flat=True) for m, y in flats)]
    svg = lines(Axis("share of answers that recalled"), "accuracy", drawn)
    yield Figure(f"{_file(found, mode)}-delta", svg, "Accuracy against the share of answers that recalled, over δ.")
    official = found.summaries[mode].total
    yield Table(("δ", "n", "recalled", "accuracy", f"official {official}"), tuple(rows))
    below = "" if least == 0 else f" What lies below δ {least:g} needs a run with `--delta 0`."
    yield Text(
        "Put together from two modes of this run: the answer that recalled where the gate reaches δ, else the "
        f"window's; each is the answer that a run at that δ gives.{below}"
    )
