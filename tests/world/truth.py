"""What is right, found by reading a stream step by step: an independent, slow reference for every family."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from weavetime.world import COLOURS, KINDS, TEXTS, Script
from weavetime.world.script import PLACES

CARD = r"(?P<kind>[a-z ]+?)"
NOW = r"(?: now| at this moment)"


@dataclass(frozen=True)
class Seen:
    """A card on one step's picture."""

    visit: int
    kind: str
    colour: str
    place: str


@dataclass(frozen=True)
class Story:
    """A stream as its steps show it: everything below is found by looking at one step after another."""

    script: Script

    @cached_property
    def steps(self) -> list[list[Seen]]:
        """The cards on each step."""
        found: list[list[Seen]] = [[] for _ in range(self.script.steps)]
        for number, v in enumerate(self.script.visits):
            colour, place = v.colours[0][1], v.places[0][1]
            for step in range(v.start, v.end):
                colour = dict(v.colours).get(step, colour)
                place = dict(v.places).get(step, place)
                found[step].append(Seen(number, KINDS[v.kind], list(COLOURS)[colour], list(PLACES)[place]))
        return found

    @cached_property
    def signs(self) -> list[str | None]:
        """The text on each step."""
        found: list[str | None] = [None] * self.script.steps
        for sign in self.script.signs:
            for step in range(sign.start, sign.end):
                assert found[step] is None
                found[step] = TEXTS[sign.text]
        return found

    def visits(self, step: int) -> dict[int, list[tuple[int, Seen]]]:
        """By visit, in the order of coming, the steps and looks of every card up to a step."""
        found: dict[int, list[tuple[int, Seen]]] = {}
        for i, cards in enumerate(self.steps[: step + 1]):
            for card in cards:
                found.setdefault(card.visit, []).append((i, card))
        return found

    def right(self, text: str, step: int) -> set[str]:
        """Every right answer to a question's text as of the end of a step."""
        now, visits = self.steps[step], list(self.visits(step).values())
        coming = [looks[0][1].kind for looks in visits]

        def of(kind: str) -> list[list[tuple[int, Seen]]]:
            return [looks for looks in visits if looks[0][1].kind == kind]

        def asks(pattern: str) -> re.Match[str] | None:
            return re.fullmatch(pattern, text)

        if m := asks(rf"(?:What|Which thing) is (?:on|at) the (?P<place>\w+){NOW}\?"):
            return {c.kind for c in now if c.place == m["place"]}
        if m := asks(rf"(?:What|Which) colour (?:is|does) the card of the {CARD}(?: have)? now\?"):
            return {c.colour for c in now if c.kind == m["kind"]}
        if m := asks(rf"(?:Where|At which place) is the {CARD} now\?"):
            return {c.place for c in now if c.kind == m["kind"]}
        if asks(r"How many (?:things are there|cards can be seen) now\?"):
            return {str(len(now))}
        if asks(r"What (?:is written on the sign|does the sign say) now\?"):
            return {self.signs[step] or ""}
        if asks(r"What was the first thing to appear\?|Which thing came first of all\?"):
            return {coming[0]}
        if asks(r"What was the last thing to leave\?|Which thing has just gone away\?"):
            ends = {looks[-1][0]: set() for looks in visits if looks[-1][0] < step}
            for looks in visits:
                if looks[-1][0] < step:
                    ends[looks[-1][0]].add(looks[0][1].kind)
            return ends[max(ends)]
        if m := asks(rf"(?:What came|Which thing appeared) just (?P<way>before|after) the {CARD}\?"):
            way = -1 if m["way"] == "before" else 1
            return {coming[i + way] for i, k in enumerate(coming) if k == m["kind"] and 0 <= i + way < len(coming)}
        if m := asks(
            rf"(?:What|Which) colour (?:was|did) the card of the {CARD}(?: have)?(?: the (?P<which>first|last) time)?\?"
        ):
            return {c.colour for _, c in self.one(of(m["kind"]), m["which"])}
        if m := asks(rf"(?:Where|At which place) was the {CARD}(?: the (?P<which>first|last) time)?\?"):
            return {c.place for _, c in self.one(of(m["kind"]), m["which"])}
        if m := asks(rf"How (?:many times|often) has the {CARD} (?:come|appeared) so far\?"):
            return {str(len(of(m["kind"])))}
        if m := asks(rf"When did the {CARD} (?:first appear|come for the first time)\?"):
            return {stamp(of(m["kind"])[0][0][0])}
        if m := asks(r"(?:Which thing came|What appeared) at (?P<stamp>Time=[0-9.]+-[0-9.]+s)\?"):
            return {looks[0][1].kind for looks in visits if stamp(looks[0][0]) == m["stamp"]}
        if m := asks(r"(?:Which came first|What appeared earlier), the (?P<a>[a-z ]+) or the (?P<b>[a-z ]+)\?"):
            return {min((m["a"], m["b"]), key=lambda kind: of(kind)[0][0][0])}
        if m := asks(rf"Has the {CARD} (?:been here yet|appeared so far)\?"):
            return {"yes" if m["kind"] in coming else "no"}
        raise AssertionError(f"no family asks {text!r}")

    @staticmethod
    def one(visits: list[list[tuple[int, Seen]]], which: str | None) -> list[tuple[int, Seen]]:
        """The visit that the words mean; without words there must be one alone."""
        assert which is not None or len(visits) == 1
        return visits[-1] if which == "last" else visits[0]


def stamp(step: int) -> str:
    """A step's time prompt."""
    return f"Time={step:07.1f}-{step + 1:07.1f}s"
