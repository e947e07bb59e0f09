"""Does it matter where in a video the evidence lies? The frames that show the answer, moved to five places.

The other frames keep their order. Only questions whose answer does not hang on order or time can be asked so: of
StreamWorld, colour or place of a card that came once; of an annotated benchmark, those of the tasks that are named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ...errors import DataError
from ...pictures import Axis, Line, lines
from ..base import Benchmark, Example, Span
from ..scores import meets
from .arranged import Arrange, Condition
from .effects import Effect

PLACES = (0.0, 0.25, 0.5, 0.75, 1.0)
UNTOUCHED = "where it was"
TIMELESS = ("past_attribute", "past_position")
ORDINAL = ("the first time", "the last time")


def positions(places: Iterable[float] = PLACES) -> tuple[Condition, ...]:
    """The conditions, the untouched one first. places: shares of the other frames that come before the evidence."""
    found = [Condition(UNTOUCHED)]
    for place in places:
        if not 0 <= place <= 1:
            raise DataError(f"a place is a share of the video from 0 to 1, got {place}")
        found.append(Condition(place_name(place), _to(place)))
    return tuple(found)


def place_name(place: float) -> str:
    """How rows call a place."""
    return f"at {100 * place:g} %"


def _to(place: float) -> Arrange:
    return lambda example, times: moved(example.evidence, times, place)


def moved(evidence: Sequence[Span], times: Sequence[Span], place: float) -> list[int]:
    """The frames that show the evidence, side by side, after `place` of all others."""
    inside = [i for i, time in enumerate(times) if any(meets(time, span) for span in evidence)]
    rest = [i for i in range(len(times)) if i not in set(inside)]
    before = round(place * len(rest))
    return rest[:before] + inside + rest[before:]


def movable(benchmark: Benchmark, examples: Sequence[Example], tasks: Sequence[str] = ()) -> list[Example]:
    """The questions that can be asked with their evidence elsewhere. tasks: of these alone. Raises DataError."""
    if unknown := set(tasks) - {e.task for e in examples}:
        raise DataError(
            f"no question is of the task {min(unknown)}: there are {', '.join(sorted({e.task for e in examples}))}"
        )
    kept = [e for e in examples if e.evidence and (not tasks or e.task in tasks)]
    if benchmark.name == "streamworld":
        kept = [e for e in kept if e.task in TIMELESS and not any(words in e.question for words in ORDINAL)]
    if not kept:
        raise DataError(f"no question of {benchmark.name} is annotated with evidence that can be moved")
    return kept


def position_plot(effects: Mapping[str, Sequence[Effect]], places: Sequence[float]) -> str:
    """Accuracy by place with 95 % intervals, a line for each mode, as SVG. effects: of a mode, in the order of
    `positions(places)`.
    """
    drawn = []
    for mode, (_, *elsewhere) in effects.items():
        points = [(place, e.accuracy) for place, e in zip(places, elsewhere, strict=True)]
        drawn.append(Line(mode, points, spread=[e.spread for e in elsewhere]))
    ticks = [(place, f"{100 * place:g} %") for place in places]
    return lines(Axis("place of the evidence in the video", ticks), "accuracy", drawn)
