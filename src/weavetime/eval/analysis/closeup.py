"""The picture of one answer: the frames it read, its timeline, and each layer's scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from PIL.Image import Image

from ...pictures import Answered, Curve, Lane, card, contact_sheet, page, timeline
from ..base import Span
from ..row import Row
from ..scores import joined, meets
from .inspect import Again

WIDTH, FRAMES, COLUMNS = 1520, 24, 12


def closeup(row: Row, again: Again | None = None) -> Image:
    """A row drawn: its timeline, and where the question was asked again the frames that it read and their scores."""
    parts = [] if again is None or not again.answer.evidence.times else [_sheet(row, again)]
    parts.append(_timeline(row, again))
    gold = str(row.gold)
    said = Answered(row.mode, _offered(row, row.response), row.right)
    whole = card(_question(row), _offered(row, gold), [said], parts, WIDTH)
    return page(f"{row.id} · {row.task}", [_facts(row)], [whole])


def _question(row: Row) -> str:
    when = row.at if row.at is not None else row.seen
    return row.question if when is None else f"At {when:g} s: {row.question}"


def _offered(row: Row, said: object) -> str:
    """An option with its letter where a letter was said."""
    text = "(no answer)" if said is None else str(said)
    number = ord(text) - ord("A") if len(text) == 1 else -1
    return f"{text}: {row.options[number]}" if 0 <= number < len(row.options) else text


def _facts(row: Row) -> str:
    spans = " and ".join(f"{a:g} to {b:g} s" for a, b in row.evidence) or "not annotated"
    gate = (
        "none" if row.gate is None else f"{row.gate:.2f}, {'looked back' if row.recalled else 'the present was enough'}"
    )
    return f"video {row.video} · gate {gate} · evidence {spans}"


def _sheet(row: Row, again: Again) -> tuple[str, Image]:
    """The frames that most layers read; outlined those that show the answer."""
    read = Counter(block for layer in again.answer.evidence.blocks for block in layer)
    most = sorted(sorted(read, key=lambda b: (read[b], b), reverse=True)[:FRAMES])
    spans = [again.blocks[b] for b in most]
    marked = [a for a, b in spans if any(meets((a, b), gold) for gold in row.evidence)]
    sheet = contact_sheet(
        [again.pictures[a] for a, _ in spans], [a for a, _ in spans], marked=marked, width=WIDTH, columns=COLUMNS
    )
    which = f"the {len(most)} that most layers read" if len(most) < len(read) else "all of them"
    outlined = " Outlined: what shows the answer." if row.evidence else ""
    return f"Frames that were read: {len(read)}, here {which}.{outlined}", sheet


def _timeline(row: Row, again: Again | None) -> tuple[str, Image]:
    when = row.at if row.at is not None else row.seen
    ends = [b for layer in row.read for _, b in layer] + [b for _, b in row.evidence]
    length = max([*ends, when or 0.0, 1.0] + ([again.blocks[-1][1]] if again and again.blocks else []))
    lanes = [Lane("read", read_shares(row.read))]
    shades: Sequence[Lane] = ()
    if again is not None:
        visible = [span for span in again.blocks if when is None or span[0] <= when]
        window = visible if again.window is None else visible[-again.window :]
        lanes.insert(0, Lane("window", [(a, b, 1.0) for a, b in joined(window)]))
        shades = _scores(again)
    curve = None
    if row.gate is not None and when is not None:
        limit = again.delta if again is not None else None
        curve = Curve("gate", [(when, row.gate)], limit, "looks back from here up" if limit is not None else "")
    picture = timeline(length, evidence=row.evidence, at=when, curve=curve, lanes=lanes, shades=shades, width=WIDTH)
    text = "When: the evidence, and what was read, as the share of the layers."
    return text + (" Below, each layer's scores, darker where higher." if shades else ""), picture


def read_shares(read: Sequence[Sequence[Span]]) -> list[tuple[float, float, float]]:
    """Stretches from one change to the next, each with the share of the layers that read it."""
    edges = sorted({x for layer in read for span in layer for x in span})
    found = []
    for a, b in pairwise(edges):
        n = sum(any(meets((a, b), span) for span in layer) for layer in read)
        if n:
            found.append((a, b, n / len(read)))
    return found


def _scores(again: Again) -> list[Lane]:
    """A lane a layer: scores from its lowest to its highest."""
    evidence = again.answer.evidence
    if evidence.scores is None:
        return []
    lanes = []
    for i, (blocks, scores) in enumerate(zip(evidence.blocks, evidence.scores, strict=True), 1):
        known = [s for s in scores if s is not None] or [0.0]
        low, wide = min(known), max(known) - min(known) or 1.0
        shares = [(*again.blocks[b], (s - low) / wide) for b, s in zip(blocks, scores, strict=True) if s is not None]
        lanes.append(Lane(f"layer {i}", shares))
    return lanes
