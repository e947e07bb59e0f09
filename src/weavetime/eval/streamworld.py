"""StreamWorld as a benchmark: streams fed once through the real engine, questions asked as of their own moments.

Several modes may answer over the same fed stream, so that pictures are encoded once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import groupby
from typing import TYPE_CHECKING, Any

from ..backbones.identity import fingerprint
from ..config import Decoding
from ..errors import ModeError, WorldError
from ..focus import Chosen, Mode, parse_mode
from ..world import FAMILIES, SPLITS, Asked, Script, questions
from .pictures import pictures
from .scores import Run, runs

if TYPE_CHECKING:
    from ..loading import Engine
    from ..stream import Stream
    from ..types import Answer

ORACLE = "oracle"
"""A mode of this benchmark: the frames of the evidence itself, or the newest where there is none."""
PATIENCE = 50  # streams in a row without one question

Key = tuple[int, int, str]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is asked of which streams.

    window: blocks; None evicts nothing. seed: of the first stream; the next have the next. limit: questions, over as
    many streams as they take. steps: seconds of each. since: no question before this share of its stream. open: short
    answers compared as text, in place of options. modes: names, ORACLE, or values. size: pixels. batch: frames a call.
    """

    window: int | None
    seed: int = 0
    limit: int = 256
    steps: int = 256
    per_stream: int = 32
    since: float = 0.0
    split: str = "test"
    families: tuple[str, ...] = tuple(FAMILIES)
    modes: tuple[str | Mode, ...] = ("weavetime",)
    open: bool = False
    max_tokens: int = 24
    visual_only: bool = False
    size: int = 112
    batch: int = 64

    def __post_init__(self) -> None:
        if unknown := [f for f in self.families if f not in FAMILIES]:
            raise WorldError(f"no family {', '.join(unknown)}: there are {', '.join(FAMILIES)}")
        if self.split not in SPLITS:
            raise WorldError(f"a split is one of {', '.join(SPLITS)}, got {self.split!r}")
        for name in ("limit", "per_stream", "max_tokens", "size", "batch"):
            if getattr(self, name) < 1:
                raise WorldError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.since < 1:
            raise WorldError(f"since is a share of the stream from 0 and below 1, got {self.since}")
        if not self.families or not self.modes:
            raise WorldError("name at least one family and one mode")
        for mode in self.modes:
            if mode != ORACLE:
                parse_mode(mode)
        if len({*map(label, self.modes)}) != len(self.modes):
            raise ModeError("a mode was named twice")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without `batch`, which changes no answer."""
        said = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "batch"}
        return {**said, "families": list(self.families), "modes": [label(m) for m in self.modes]}


@dataclass(frozen=True, slots=True)
class Row:
    """One question answered in one mode.

    gold, choice: index of the right option and of the chosen one; None where the question was open. at: seconds.
    evidence: spans of seconds. read: per layer the stretches of steps read, one entry where all layers read the same.
    distance: seconds from `at` back to the newest step of the span farthest back; None without evidence.
    """

    seed: int
    number: int
    mode: str
    family: str
    question: str
    options: tuple[str, ...]
    answer: str
    gold: int | None
    at: float
    evidence: tuple[tuple[float, float], ...]
    choice: int | None
    text: str
    right: bool
    gate: float | None
    recalled: bool
    read: tuple[tuple[Run, ...], ...]
    distance: float | None
    timings: Mapping[str, float] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """Which question in which mode."""
        return self.seed, self.number, self.mode

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Row:
        """A row back from JSON. Raises WorldError where it is not one."""
        try:
            return cls(**{k: v if k == "timings" else _tuples(v) for k, v in said.items()})
        except TypeError as e:
            raise WorldError(f"not a row of this benchmark: {e}") from e


def _tuples(x: Any) -> Any:
    return tuple(map(_tuples, x)) if isinstance(x, list) else x


def label(mode: str | Mode) -> str:
    """How rows call a mode: a name as it was said, a value by its settings that are not the defaults."""
    if isinstance(mode, str):
        return mode
    said = {f.name: getattr(mode, f.name) for f in fields(mode)}  # type: ignore[arg-type]
    usual = {f.name: f.default for f in fields(mode)}  # type: ignore[arg-type]
    other = ",".join(f"{k}={v}" for k, v in said.items() if v != usual[k])
    return f"{mode.name}({other})" if other else mode.name


def plan(settings: Settings) -> list[tuple[Script, list[Asked]]]:
    """The streams and their questions, `limit` questions in all. The same settings give the same."""
    found: list[tuple[Script, list[Asked]]] = []
    left, seed, empty = settings.limit, settings.seed, 0
    while left:
        script = Script(seed, settings.steps, settings.split)  # type: ignore[arg-type]
        earliest = int(settings.since * settings.steps)
        turn = (seed - settings.seed) * settings.per_stream % len(settings.families)  # few a stream: others each time
        families = settings.families[turn:] + settings.families[:turn]
        asked = questions(script, min(left, settings.per_stream), families, earliest)
        empty = 0 if asked else empty + 1
        if empty == PATIENCE:
            raise WorldError(
                f"streams of {settings.steps} steps hold no question of {', '.join(settings.families)}: use more steps"
            )
        if asked:
            found.append((script, asked))
        left, seed = left - len(asked), seed + 1
    return found


def left(settings: Settings, done: Collection[Key] = frozenset()) -> list[tuple[Script, list[Asked], set[Key]]]:
    """The streams that rows are still missing of, with all their questions and the keys of the missing rows."""
    names = [label(m) for m in settings.modes]
    every = [
        (s, asked, {(s.seed, i, name) for i in range(len(asked)) for name in names}) for s, asked in plan(settings)
    ]
    return [(s, asked, keys - set(done)) for s, asked, keys in every if not keys <= set(done)]


def head(engine: Engine, settings: Settings) -> dict[str, Any]:
    """What must agree for rows to belong to one run."""
    backbone = engine.backbone
    model = {
        "family": backbone.family,
        "weights": fingerprint(backbone.model),
        "dtype": str(next(backbone.model.parameters()).dtype).removeprefix("torch."),
        "time_prompts": backbone.time_prompts,
        "delta": engine.delta,
    }
    return {"benchmark": "streamworld", "model": model, "settings": settings.to_dict()}


def run(
    engine: Engine,
    settings: Settings,
    *,
    done: Collection[Key] = frozenset(),
    on_fed: Callable[[int], None] | None = None,
) -> Iterator[Row]:
    """Feed each stream once, ask its questions in time order in every mode, and give a row for each answer.

    done: keys of rows that are there already; a stream of which all are is not fed. on_fed: told of frames encoded.
    """
    for script, asked, missing in left(settings, done):
        with engine.stream(window=settings.window, batch=settings.batch, visual_only=settings.visual_only) as stream:
            for frames in pictures(script, settings.size, settings.batch, engine.backbone.vision_device):
                stream.feed(frames)
                if on_fed is not None:
                    on_fed(len(frames))
            for _, moment in groupby(enumerate(asked), key=lambda pair: pair[1].at):
                together = list(moment)
                for mode in settings.modes:
                    name = label(mode)
                    wanted = [(i, a) for i, a in together if (script.seed, i, name) in missing]
                    answers = _answers(stream, [a for _, a in wanted], mode, settings)
                    for (i, a), answer in zip(wanted, answers, strict=True):
                        yield _row(script, i, a, name, answer, choice=not settings.open)


def _answers(stream: Stream, asked: Sequence[Asked], mode: str | Mode, settings: Settings) -> Iterator[Answer]:
    """Answers to questions about one moment."""
    decoding = Decoding(max_tokens=settings.max_tokens if settings.open else 1)  # the letter is the first token
    groups = [[a] for a in asked] if mode == ORACLE else [list(asked)] if asked else []
    for group in groups:
        texts = [a.question(choice=not settings.open) for a in group]
        way = oracle(group[0]) if mode == ORACLE else mode
        yield from stream.ask_all(texts, at=group[0].at, mode=way, decoding=decoding)


def oracle(asked: Asked) -> Mode:
    """The frames that show the answer; the newest where none does."""
    return Chosen(tuple(float(t) for a, b in asked.evidence for t in range(int(a), int(b))) or (asked.at,))


def distance(asked: Asked) -> float | None:
    """Seconds from the question back to the newest step of the part of its evidence that lies farthest back."""
    return max((asked.at - (b - 1) for _, b in asked.evidence), default=None)


def _row(script: Script, number: int, asked: Asked, name: str, answer: Answer, *, choice: bool) -> Row:
    blocks = answer.evidence.blocks
    right = answer.choice == asked.gold if choice else answer.text.strip().casefold() == asked.answer.casefold()
    return Row(
        seed=script.seed,
        number=number,
        mode=name,
        family=asked.family,
        question=asked.text,
        options=asked.options if choice else (),
        answer=asked.answer,
        gold=asked.gold if choice else None,
        at=asked.at,
        evidence=asked.evidence,
        choice=answer.choice,
        text=answer.text,
        right=right,
        gate=answer.gate,
        recalled=answer.recalled,
        read=tuple(runs(layer) for layer in (blocks[:1] if len(set(blocks)) == 1 else blocks)),
        distance=distance(asked),
        timings={k: round(v, 6) for k, v in answer.timings.items()},
    )
