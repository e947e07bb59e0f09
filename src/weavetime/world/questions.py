"""Questions about a script as of a step, with the answer, the options and the spans of time that show it.

Wrong options are right at another time wherever the stream has such: a bag of what was seen cannot answer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..types import Question
from .script import PLACES, Script, Visit
from .sprites import COLOURS, KINDS, TEXTS

OPTIONS = 4
TIME = "Time={start:07.1f}-{end:07.1f}s"
_PLACES, _COLOURS = tuple(PLACES), tuple(COLOURS)
Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with what is true. at: seconds. evidence: spans of time, each of which must be seen to know."""

    family: str
    text: str
    answer: str
    options: tuple[str, ...]
    at: float
    evidence: tuple[Span, ...]
    kinds: tuple[str, ...] = ()

    @property
    def gold(self) -> int:
        """Index of the right option."""
        return self.options.index(self.answer)

    def question(self, *, choice: bool = True) -> Question:
        """As a stream is asked: multiple choice, or open for a short answer."""
        return Question(self.text, self.options if choice else ())


@dataclass(frozen=True, slots=True)
class Moment:
    """A script as of a step, with its own dice."""

    script: Script
    step: int
    rng: random.Random

    @property
    def seen(self) -> Sequence[Visit]:
        return self.script.seen(self.step)

    @property
    def here(self) -> list[Visit]:
        return self.script.shown(self.step)

    @property
    def gone(self) -> list[Visit]:
        """Visits that are over."""
        return [v for v in self.seen if v.end <= self.step]

    def of(self, kind: int) -> list[Visit]:
        """The visits of a kind so far."""
        return [v for v in self.seen if v.kind == kind]

    def rare(self, visits: Sequence[Visit], most: int = 3) -> list[Visit]:
        """Those whose kind has come at most so often, so that few frames hold the answer."""
        count: dict[int, int] = {}
        for v in self.seen:
            count[v.kind] = count.get(v.kind, 0) + 1
        return [v for v in visits if count[v.kind] <= most]

    def pick(self, visits: Sequence[Visit]) -> Visit | None:
        """Any of these, or None where there is none."""
        return self.rng.choice(visits) if visits else None

    def span(self, start: int, end: int) -> Span:
        """Steps [start, end), no later than now, in seconds."""
        return self.script.time(start), self.script.end(min(end - 1, self.step))

    def visit(self, v: Visit) -> Span:
        """When a visit was on screen."""
        return self.span(v.start, v.end)

    def ask(
        self, family: str, texts: Sequence[str], answer: str, wrong: Sequence[str], rest: Sequence[str],
        evidence: Sequence[Span], kinds: Sequence[int] = (), most: int = OPTIONS,
    ) -> Asked:  # fmt: skip
        """Put it together: wrong options from `wrong` first (right at another time), then from `rest`."""
        options = [answer]
        for pool in (wrong, rest):
            left = list(dict.fromkeys(w for w in pool if w not in options))
            options += self.rng.sample(left, min(len(left), most - len(options)))
        self.rng.shuffle(options)
        names = tuple(dict.fromkeys(KINDS[k] for k in kinds))
        at = self.script.time(self.step)  # the newest frame at that time is this step
        return Asked(family, self.rng.choice(texts), answer, tuple(options), at, tuple(evidence), names)


def _name(v: Visit) -> str:
    return KINDS[v.kind]


def _names(visits: Sequence[Visit]) -> list[str]:
    return [_name(v) for v in visits]


def _near(m: Moment, v: Visit, reach: int = 12) -> list[str]:
    """Kinds that came at other times, the nearest first few and any others: hard negatives of a kind."""
    others = [u for u in m.seen if u.kind != v.kind]
    close = sorted(others, key=lambda u: abs(u.start - v.start))[:reach]
    return _names(close if len(close) >= OPTIONS - 1 else others)


def now_object(m: Moment) -> Asked | None:
    v = m.pick(m.here)
    if v is None:
        return None
    place = _PLACES[v.place(m.step)]
    other = [u for u in m.seen[-60:] if u is not v and any(p == v.place(m.step) for _, p in u.places)]
    texts = (f"What is on the {place} now?", f"Which thing is on the {place} at this moment?")
    if place in ("top", "bottom", "middle"):
        texts = (f"What is at the {place} now?", f"Which thing is at the {place} at this moment?")
    wrong = _names([u for u in other if u.kind != v.kind])
    return m.ask("now_object", texts, _name(v), wrong, KINDS, [m.span(m.step, m.step + 1)], [v.kind])


def now_attribute(m: Moment) -> Asked | None:
    v = m.pick(m.here)
    if v is None:
        return None
    wrong = [_COLOURS[c] for u in m.of(v.kind) for _, c in u.colours] + [_COLOURS[u.colour(m.step)] for u in m.here]
    texts = (
        f"What colour is the card of the {_name(v)} now?",
        f"Which colour does the card of the {_name(v)} have now?",
    )
    return m.ask(
        "now_attribute", texts, _COLOURS[v.colour(m.step)], wrong, _COLOURS, [m.span(m.step, m.step + 1)], [v.kind]
    )


def now_position(m: Moment) -> Asked | None:
    v = m.pick(m.here)
    if v is None:
        return None
    wrong = [_PLACES[p] for u in m.of(v.kind) for _, p in u.places] + [_PLACES[u.place(m.step)] for u in m.here]
    texts = (f"Where is the {_name(v)} now?", f"At which place is the {_name(v)} now?")
    return m.ask(
        "now_position", texts, _PLACES[v.place(m.step)], wrong, _PLACES, [m.span(m.step, m.step + 1)], [v.kind]
    )


def now_count(m: Moment) -> Asked | None:
    texts = ("How many things are there now?", "How many cards can be seen now?")
    counts = [str(n) for n in range(OPTIONS)]
    return m.ask("now_count", texts, str(len(m.here)), counts, (), [m.span(m.step, m.step + 1)])


def now_text(m: Moment) -> Asked | None:
    board = m.script.sign(m.step)
    if board is None:
        return None
    past = [TEXTS[s.text] for s in m.script.signs if s.end <= m.step][-12:]
    same = [t for t in TEXTS if t.isdigit() == TEXTS[board.text].isdigit()]
    texts = ("What is written on the sign now?", "What does the sign say now?")
    return m.ask(
        "now_text", texts, TEXTS[board.text], [t for t in past if t in same], same, [m.span(m.step, m.step + 1)]
    )


def first(m: Moment) -> Asked | None:
    v = m.seen[0] if m.seen else None
    if v is None or len(m.seen) < 2:
        return None
    texts = ("What was the first thing to appear?", "Which thing came first of all?")
    return m.ask("first", texts, _name(v), _near(m, v), KINDS, [m.visit(v)], [v.kind])


def last(m: Moment) -> Asked | None:
    if not m.gone:
        return None
    latest = max(v.end for v in m.gone)
    leavers = [v for v in m.gone if v.end == latest]
    if len(leavers) != 1:
        return None
    [v] = leavers
    texts = ("What was the last thing to leave?", "Which thing has just gone away?")
    wrong = _names([u for u in m.gone[-12:] if u.kind != v.kind])
    return m.ask("last", texts, _name(v), wrong, KINDS, [m.span(v.start, v.end + 1)], [v.kind])


def before(m: Moment) -> Asked | None:
    return _beside(m, -1, "before")


def after(m: Moment) -> Asked | None:
    return _beside(m, 1, "after")


def _beside(m: Moment, way: int, word: str) -> Asked | None:
    seen = m.seen
    once = {id(v) for v in m.rare(seen, 1)}
    able = [i for i, v in enumerate(seen) if id(v) in once and 0 <= i + way < len(seen)]
    if not able:
        return None
    i = m.rng.choice(able)
    x, v = seen[i], seen[i + way]
    texts = (f"What came just {word} the {_name(x)}?", f"Which thing appeared just {word} the {_name(x)}?")
    wrong = [n for n in _near(m, v) if n != _name(x)]
    rest = [n for n in KINDS if n != _name(x)]
    return m.ask(word, texts, _name(v), wrong, rest, [m.visit(x), m.visit(v)], [x.kind, v.kind])


def past_attribute(m: Moment) -> Asked | None:
    return _earlier(m, "past_attribute")


def past_position(m: Moment) -> Asked | None:
    return _earlier(m, "past_position")


def _earlier(m: Moment, family: str) -> Asked | None:
    """Colour or place of a card at an earlier visit: its only one, its first or its last, where that is over."""
    able = [v for v in m.rare(m.gone) if len(v.places if family == "past_position" else v.colours) == 1]
    v = m.pick([v for v in able if _which(m, v) is not None])
    return None if v is None else about(m, family, v)


def about(m: Moment, family: str, v: Visit) -> Asked:
    """The question of past_attribute or past_position about a visit that words single out and that did not change."""
    name, when = _name(v), _which(m, v)
    others = [u for u in m.seen if u is not v and u.kind == v.kind] + [u for u in m.seen if abs(u.start - v.start) < 12]
    if family == "past_attribute":
        wrong = [_COLOURS[c] for u in others for _, c in u.colours]
        texts = (
            f"What colour was the card of the {name}{when}?",
            f"Which colour did the card of the {name} have{when}?",
        )
        return m.ask(family, texts, _COLOURS[v.colours[0][1]], wrong, _COLOURS, [m.visit(v)], [v.kind])
    wrong = [_PLACES[p] for u in others for _, p in u.places]
    texts = (f"Where was the {name}{when}?", f"At which place was the {name}{when}?")
    return m.ask(family, texts, _PLACES[v.places[0][1]], wrong, _PLACES, [m.visit(v)], [v.kind])


def _which(m: Moment, v: Visit) -> str | None:
    """Words that single a visit out among those of its kind; None where there are none."""
    same = m.of(v.kind)
    if len(same) == 1:
        return ""
    return " the first time" if v is same[0] else " the last time" if v is same[-1] else None


def count(m: Moment) -> Asked | None:
    v = m.pick(m.rare(m.seen, 3))
    if v is None:
        return None
    visits = m.of(v.kind)
    texts = (f"How many times has the {_name(v)} come so far?", f"How often has the {_name(v)} appeared so far?")
    counts = [str(n) for n in range(1, OPTIONS + 1)]
    return m.ask("count", texts, str(len(visits)), counts, (), [m.visit(u) for u in visits], [v.kind])


def when(m: Moment) -> Asked | None:
    v = m.pick([v for v in m.rare(m.seen) if v is m.of(v.kind)[0]])
    if v is None or m.step < OPTIONS - 1:  # not enough times to choose from yet
        return None
    wrong = [_stamp(m, u.start) for u in m.of(v.kind)[1:]]
    wrong += [_stamp(m, u.start) for u in m.seen if u.kind != v.kind]
    texts = (f"When did the {_name(v)} first appear?", f"When did the {_name(v)} come for the first time?")
    rest = [_stamp(m, s) for s in {m.rng.randrange(m.step + 1) for _ in range(12)} if s != v.start]
    return m.ask("when", texts, _stamp(m, v.start), wrong, rest, [m.visit(v)], [v.kind])


def _stamp(m: Moment, step: int) -> str:
    return TIME.format(start=m.script.time(step), end=m.script.end(step))


def at_time(m: Moment) -> Asked | None:
    v = m.pick(m.gone)
    if v is None:
        return None
    stamp = _stamp(m, v.start)
    texts = (f"Which thing came at {stamp}?", f"What appeared at {stamp}?")
    return m.ask("at_time", texts, _name(v), _near(m, v), KINDS, [m.visit(v)], [v.kind])


def order(m: Moment) -> Asked | None:
    once = m.rare(m.seen, 1)
    if len(once) < 2:
        return None
    a, b = m.rng.sample(once, 2)
    one = min(a, b, key=lambda v: v.start)
    pair = f"the {_name(a)} or the {_name(b)}"
    texts = (f"Which came first, {pair}?", f"What appeared earlier, {pair}?")
    return m.ask("order", texts, _name(one), _names([a, b]), (), [m.visit(a), m.visit(b)], [a.kind, b.kind], 2)


def happened(m: Moment) -> Asked | None:
    """Half of the time about a thing that only comes later, or never does."""
    seen = {v.kind for v in m.seen}
    texts = "Has the {} been here yet?", "Has the {} appeared so far?"
    if m.rng.random() < 0.5 and (v := m.pick(m.rare(m.seen))) is not None:
        named = [t.format(_name(v)) for t in texts]
        return m.ask("happened", named, "yes", ("no",), (), [m.visit(m.of(v.kind)[0])], [v.kind], 2)
    later = [v.kind for v in m.script.visits[len(m.seen) :][:40] if v.kind not in seen]
    kinds = later or [k for k in range(len(KINDS)) if k not in seen]
    if not kinds:
        return None
    kind = m.rng.choice(kinds)
    return m.ask("happened", [t.format(KINDS[kind]) for t in texts], "no", ("yes",), (), [], [kind], 2)


NOW: tuple[Callable[[Moment], Asked | None], ...] = (now_object, now_attribute, now_position, now_count, now_text)
PAST = (first, last, before, after, past_attribute, past_position, count, when, at_time)
FAMILIES = {f.__name__: f for f in (*NOW, *PAST, order, happened)}


def ask(script: Script, step: int, family: str, rng: random.Random) -> Asked | None:
    """A question of a family as of the end of a step; None where nothing of the kind can be asked then."""
    return FAMILIES[family](Moment(script, step, rng))


def questions(script: Script, count: int, families: Sequence[str] = tuple(FAMILIES), earliest: int = 0) -> list[Asked]:
    """`count` questions in time order, the families in turn, at moments drawn from the steps from `earliest` on.

    The same script, count and families give the same questions. Fewer come back only where the stream is too short
    for some.
    """
    rng = random.Random(f"questions/{script.split}/{script.seed}/{script.steps}/{count}/{','.join(families)}")
    found: list[Asked] = []
    for i in range(count):
        family = families[i % len(families)]
        for _ in range(20):
            asked = ask(script, rng.randrange(earliest, script.steps), family, rng)
            if asked is not None:
                found.append(asked)
                break
    return sorted(found, key=lambda a: a.at)
