"""Batches of StreamWorld: streams whose times jump, questions at any moment over views that may lack the answer.

Everything of a batch comes from its seed and number: any number of workers and processes makes the same batches.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from string import ascii_uppercase
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..backbones import Backbone
from ..config import Decoding
from ..errors import RecipeError
from ..types import Question
from ..world import COLOURS, FAMILIES, KINDS, NOW, TEXTS, Asked, Renderer, Script, as_numbers, ask
from ..world.questions import TIME
from ..world.render import CARD, SIGN, centre
from ..world.script import CORNERS, PLACES
from .reconstruct import permuted, request, timestamps
from .world_views import Views, WorldSettings

IGNORED = -100
RECONSTRUCTION, ANSWER, AHEAD = 1, 2, 3
"""Parts of the loss."""
LOOKUP, TOLD = "lookup", "reconstruction"
ROWS = (*FAMILIES, LOOKUP, TOLD)
"""What a row asks."""
NOW_NAMES = tuple(f.__name__ for f in NOW)
PAST_NAMES = tuple(n for n in FAMILIES if n not in NOW_NAMES)
LATE = "before", "after", *("count", "when", "at_time") * 2  # learnt last: asked twice or thrice as often as the others
SPANS = 3  # parts of the evidence that a question can have
JUMPS = (0, 30, 100, 300, 1000, 3000)  # most seconds that the time of a stream jumps: of hours, every digit tells


@dataclass
class WorldBatch:
    """Tensors whose shapes depend on the settings alone, so that one CUDA graph serves every batch.

    backdrops, canvas, layers: pictures as `Atlas.compose` takes them. times (streams, steps, prompt): ids of each
    step's time prompt. ids (streams, questions, length), the newline vector among them. prompts: which of them were
    asked. views (streams, questions, layers, blocks): blocks in order, as many in every layer, -1 after the last.
    chooser (streams, questions): the row whose scores choose the blocks of this one's view, where `views` says but how
    many they are; -1 for a view that is given.
    answers (tokens, 3): where a token is predicted, as a place in `ids` flattened, which token, and its part of the
    loss, 0 where there is none. wanted (streams, questions, SPANS, steps): the blocks of each part of the evidence; of
    `before`, of the named thing alone: what came before it is known where it came, and nothing asked finds it.
    before (streams, questions): how many steps could be seen. things (streams, steps, tokens, 3): what each picture
    token shows, as rows of `names()`, -1 for nothing. arrivals (streams, steps, 2): the kind that came last, and the
    one before it, as such rows. family, choice (streams, questions): row of ROWS, and whether in multiple choice.
    """

    backdrops: Tensor
    canvas: Tensor
    layers: Tensor
    times: Tensor
    ids: Tensor
    prompts: Tensor
    views: Tensor
    chooser: Tensor
    answers: Tensor
    wanted: Tensor
    before: Tensor
    things: Tensor
    arrivals: Tensor
    family: Tensor
    choice: Tensor

    def pin_memory(self) -> WorldBatch:
        """The same in pinned memory: a data loader asks for it."""
        return WorldBatch(**{k: v.pin_memory() for k, v in vars(self).items()})


def names() -> tuple[str, ...]:
    """What a picture token can show."""
    return (*KINDS, *COLOURS, *TEXTS, *PLACES)


class WorldMaker:
    """Turns scripts into batches. backbone: for its prompts and tokens alone; no model runs here."""

    def __init__(self, backbone: Backbone, settings: WorldSettings, window: int, seed: str) -> None:
        self.backbone, self.settings, self.seed = backbone, settings, seed
        self.views = Views(settings, window, int(backbone.decoder.config.num_hidden_layers))
        self.grid = backbone.grid(settings.size, settings.size)
        self.asking, self.line = backbone.encode("?")[-1], backbone.encode("\n")[-1]
        self.verdicts = [backbone.encode(word)[0] for word in ("no", "yes")]

    def batch(
        self, index: int, reconstruction: float, lookup: float, again: float = 0.0, cut: int = 1
    ) -> list[WorldBatch]:
        """The batch of an index: streams told in order and, where there is to be reconstruction, in a wrong one.

        lookup: share of questions that name their answer. again, cut: as in the settings, of this batch.
        """
        s = self.settings
        rng = random.Random(f"world/{self.seed}/{index}")
        parts = [self._stack([self._stream(rng, lookup, again, cut) for _ in range(s.streams * cut)])]
        if told := round(reconstruction * s.streams * s.steps / s.told):
            parts.append(self._stack([self._told(rng) for _ in range(told)]))
        return parts

    # Streams in order

    def _stream(self, rng: random.Random, lookup: float, again: float, cut: int) -> dict[str, Any]:
        steps, questions = self.settings.steps // cut, self.settings.questions // cut
        script = Script(rng.randrange(2**40), steps, "train", _times(rng, steps))
        rows: list[dict[str, Any]] = []
        while len(rows) < questions:
            if rng.random() < lookup:
                asked, step = _lookup(rng, script), rng.randrange(steps)
            else:
                asked, step = self._asked(rng, script, late=cut == 1)
            row = self._row(rng, script, asked, step)
            past = asked.family in PAST_NAMES and step >= self.views.window
            if past and len(rows) + 1 < questions and rng.random() < again:
                rows.append({**row, "view": self.views.newest(step)})
                row |= {"view": self.views.chosen(rng, step), "chooser": len(rows) - 1}
            rows.append(row)
        return {**self._pictures(script, range(steps)), **_columns(rows)}

    def _asked(self, rng: random.Random, script: Script, *, late: bool) -> tuple[Asked, int]:
        """A question and its moment. late: those about the past where there is more of it."""
        while True:
            now = rng.random() < self.settings.now
            family = rng.choice(NOW_NAMES if now else (*PAST_NAMES, *LATE))
            step = self._moment(rng, script.steps, late=late and not now)
            asked = ask(script, step, family, rng)
            if asked is not None:
                return asked, step

    def _moment(self, rng: random.Random, steps: int, *, late: bool) -> int:
        """Any step; or a later one, and at times one within the first window, where all there was is in sight."""
        if not late:
            return rng.randrange(2, steps)
        if rng.random() < self.settings.early:
            return rng.randrange(2, min(steps, max(self.views.window, 3)))
        return max(rng.randrange(2, steps) for _ in range(2))

    def _row(self, rng: random.Random, script: Script, asked: Asked, step: int) -> dict[str, Any]:
        spans = [[i for i in range(step + 1) if a <= script.time(i) < b] for a, b in asked.evidence]
        now = asked.family in NOW_NAMES
        if asked.family == "before":
            del spans[1:]
        wanted = torch.zeros(SPANS, script.steps, dtype=torch.bool)
        for i, span in enumerate([] if now else spans[:SPANS]):
            wanted[i, span] = True
        choice = rng.random() < self.settings.choice or asked.family == LOOKUP
        prompt, answer = self._turn(asked, choice)
        row = _text([prompt], [(answer, ANSWER)], self.settings.length)
        if asked.family != "when":  # the first token of a time says nothing
            row["labels"][prompt.index(self.asking)] = self.backbone.encode(asked.answer)[0]
        if choice:
            for i, end in enumerate(self._option_ends(prompt, len(asked.options))):
                row["labels"][end] = self.verdicts[i == asked.gold]
        family = ROWS.index(asked.family)
        view = self.views.given(rng, step, spans, now)
        known = {"wanted": wanted, "before": step + 1, "family": family, "choice": choice}
        return {**row, **known, "view": view, "chooser": -1}

    def _option_ends(self, prompt: list[int], count: int) -> list[int]:
        """The last token of each option; the prompt, the question and `Options:` end a line before the first."""
        return [i - 1 for i, token in enumerate(prompt) if token == self.line][3 : 3 + count]

    def _turn(self, asked: Asked, choice: bool) -> tuple[list[int], list[int]]:
        prompt = self.backbone.prompt(asked.question(choice=choice), Decoding())
        said = f"{ascii_uppercase[asked.gold]}) {asked.answer}" if choice else asked.answer
        return prompt.ids.tolist(), self.backbone.encode(f"{said}<|im_end|>")

    # Streams in a wrong order

    def _told(self, rng: random.Random) -> dict[str, Any]:
        """First the true times are asked for, then something of the stream's own."""
        s, strings = self.settings, self.backbone.strings
        script = Script(rng.randrange(2**40), s.told, "train", _times(rng, s.told))
        order = permuted(s.told, s.clips, rng)
        stamps = [strings.time.format(start=script.time(i), end=script.end(i)) for i in order]
        opened = self.backbone.encode(strings.turn.rpartition("<|im_end|>")[2])
        turns = [self.backbone.prompt(Question(request(rng)), Decoding()).ids.tolist()]
        answers = [(self.backbone.encode(f"{timestamps(stamps)}<|im_end|>"), RECONSTRUCTION)]
        tries = (ask(script, s.told - 1, rng.choice(PAST_NAMES), rng) for _ in range(8))
        asked = next((a for a in tries if a is not None), None)
        if asked is not None:
            own, said = self._turn(asked, rng.random() < s.choice)
            turns.append(opened + own)
            answers.append((said, ANSWER))
        row = _text(turns, answers, s.told * 10 + 2 * s.length)
        nothing = torch.zeros(SPANS, s.told, dtype=torch.bool)
        row |= {"view": [list(range(s.told))] * self.views.layers, "chooser": -1, "wanted": nothing, "before": s.told}
        return {**self._pictures(script, order), **_columns([{**row, "family": ROWS.index(TOLD), "choice": False}])}

    # Pictures

    def _pictures(self, script: Script, order: Sequence[int]) -> dict[str, Any]:
        """Pictures in the order told, under time prompts in the right order."""
        renderer = Renderer(script, self.settings.size)
        canvas, layers = as_numbers([renderer.plan(i) for i in order])
        steps = range(script.steps if self.backbone.time_prompts else 0)
        times = [self._prompt(script.time(i), script.end(i)) for i in steps]
        return {
            "backdrops": torch.from_numpy(renderer.backdrop.astype(np.uint8)),
            "canvas": torch.from_numpy(canvas),
            "layers": torch.from_numpy(layers),
            "times": torch.tensor(times or [()] * script.steps, dtype=torch.int64),
            "things": torch.tensor([self._things(script, i) for i in order]),
            "arrivals": torch.tensor([self._arrivals(script, i) for i in order]),
        }

    @lru_cache(maxsize=1 << 16)  # noqa: B019 - lives as long as its maker
    def _prompt(self, start: float, end: float) -> list[int]:
        """A time prompt's tokens."""
        return self.backbone.encode(self.backbone.strings.time.format(start=start, end=end))

    @staticmethod
    def _arrivals(script: Script, step: int) -> list[int]:
        latest = [v.kind for v in reversed(script.seen(step)[-2:])]
        return latest + [-1] * (2 - len(latest))

    def _things(self, script: Script, step: int) -> list[list[int]]:
        """Which name, colour and place each picture token shows, where a card or sign covers a third of it or more."""
        rows, columns = self.grid.rows, self.grid.columns
        found = [[-1, -1, -1]] * (rows * columns)
        cover = [1 / 3] * (rows * columns)
        colours, texts, places = (len(KINDS), len(KINDS) + len(COLOURS), len(KINDS) + len(COLOURS) + len(TEXTS))
        boxes = [
            (*centre(v, step), CARD, CARD, [v.kind, colours + v.colour(step), places + v.place(step)])
            for v in script.shown(step)
        ]
        if (board := script.sign(step)) is not None:
            boxes.append((*CORNERS[board.corner], SIGN, SIGN / 2, [texts + board.text, -1, -1]))
        for x, y, width, height, shows in boxes:
            across, down = _overlap(x, width, columns), _overlap(y, height, rows)
            for cell in range(rows * columns):
                share = down[cell // columns] * across[cell % columns]
                if share > cover[cell]:
                    cover[cell], found[cell] = share, shows
        return found

    def _stack(self, streams: list[dict[str, Any]]) -> WorldBatch:
        questions, steps = len(streams[0]["view"]), len(streams[0]["canvas"])
        views = torch.full((len(streams), questions, self.views.layers, min(steps, self.settings.blocks)), -1)
        for i, stream in enumerate(streams):
            for j, view in enumerate(stream["view"]):
                views[i, j, :, : len(view[0])] = torch.tensor(view)
        stacked = {n: torch.stack([s[n] for s in streams]) for n in streams[0] if n != "view"}
        told = bool(stacked["family"][0, 0] == ROWS.index(TOLD))
        room = len(streams) * questions * (self.settings.told * 10 + 40 if told else 14) + self.settings.length
        answers = _answers(stacked.pop("labels"), stacked.pop("parts"), room)
        return WorldBatch(views=views, answers=answers, **stacked)


def _text(turns: Sequence[list[int]], answers: Sequence[tuple[list[int], int]], length: int) -> dict[str, Any]:
    """Turns and their answers as one row of tokens; labels and parts stand on the answers."""
    ids: list[int] = []
    labels: list[int] = []
    parts: list[int] = []
    for prompt, (answer, part) in zip(turns, answers, strict=True):
        ids += [*prompt, *answer]
        labels += [IGNORED] * len(prompt) + answer
        parts += [0] * len(prompt) + [part] * len(answer)
    pad = length - len(ids)
    if pad < 0:
        raise RecipeError(f"a question and its answer take {len(ids)} tokens, world.length leaves room for {length}")
    return {
        "ids": torch.tensor(ids + [0] * pad),
        "labels": torch.tensor(labels + [IGNORED] * pad),
        "parts": torch.tensor(parts + [0] * pad),
        "prompts": torch.tensor([p == 0 for p in parts] + [False] * pad),
    }


def _answers(labels: Tensor, parts: Tensor, room: int) -> Tensor:
    """(room, 3): where the token before each answer token stands, the answer token, its part of the loss.

    A label on a token that was asked is what is to be known there, AHEAD of the answer: at the question's end what it
    is, at an option's end whether it is this one.
    """
    at = (labels.flatten() != IGNORED).nonzero()[:, 0]
    if len(at) > room:
        raise RecipeError(f"a batch has {len(at)} answer tokens, and room for {room}")
    part = parts.flatten()[at]
    ahead = part == 0
    found = torch.zeros(room, 3, dtype=torch.int64)
    found[: len(at)] = torch.stack([at - (~ahead).long(), labels.flatten()[at], part.masked_fill(ahead, AHEAD)], 1)
    return found


def _lookup(rng: random.Random, script: Script) -> Asked:
    """A question that needs no picture: which letter has the named option."""
    stamps = [TIME.format(start=script.time(i), end=script.end(i)) for i in rng.sample(range(script.steps), 4)]
    pools: tuple[Sequence[str], ...] = (tuple(COLOURS), TEXTS, tuple(PLACES), stamps, ("1", "2", "3", "4"))
    pool = rng.choice((KINDS, KINDS, KINDS, ("yes", "no"), *pools))
    options = tuple(rng.sample(pool, min(4, len(pool))))
    answer = rng.choice(options)
    return Asked(LOOKUP, f"Which option says {answer}?", answer, options, 0.0, ())


def _times(rng: random.Random, steps: int) -> tuple[float, ...]:
    """Whole seconds from 0; in most streams with jumps."""
    times, now, reach = [], 0, rng.choice(JUMPS)
    for _ in range(steps):
        times.append(float(now))
        now += 1 + (rng.randint(0, reach) if reach and rng.random() < 0.08 else 0)
    return tuple(times)


def _overlap(middle: float, width: float, cells: int) -> list[float]:
    """Share of each of `cells` stretches of [0, 1] that [middle - width / 2, middle + width / 2] covers."""
    low, high = (middle - width / 2) * cells, (middle + width / 2) * cells
    return [max(0.0, min(cell + 1, high) - max(cell, low)) for cell in range(cells)]


def _columns(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows of questions as columns."""
    return {
        k: [r[k] for r in rows] if k == "view" else torch.stack([torch.as_tensor(r[k]) for r in rows]) for k in rows[0]
    }


class WorldData(Dataset[list[WorldBatch]]):
    """`batches` batches, in order: those after the share `wait` have streams told in a wrong order among them."""

    in_order = True

    def __init__(self, maker: WorldMaker, batches: int) -> None:
        self.maker, self.batches = maker, batches

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, index: int) -> list[WorldBatch]:
        torch.set_num_threads(1)
        settings, done = self.maker.settings, index / self.batches
        lookup = 1.0 if done < settings.letters else 2 * settings.lookup * (1 - done)
        told = settings.reconstruction if done >= settings.wait else 0.0
        cut = 1 if done >= settings.whole else settings.cut
        return self.maker.batch(index, told, lookup, settings.again if cut == 1 else 0.0, cut)
