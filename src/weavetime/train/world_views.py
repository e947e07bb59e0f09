"""What training in StreamWorld is like, and which blocks a question sees there."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import RecipeError

LEAST = 4  # blocks that a layer chooses, where there are as many


@dataclass(frozen=True, slots=True)
class WorldSettings:
    """What the streams of training are like.

    streams: a batch. steps: of each. questions: of each. length: tokens that a question and its answer may take.
    letters: share of the training, its beginning, in which every question is a lookup: it names its answer, so that
    only its letter is to be found. lookup: share of lookups after it, falling from twice as many to none. now: share of
    the others about the present. choice: share of them in multiple choice. again: share of questions about the past
    that are asked as the engine asks, over the newest blocks and again over those that each layer chooses by the scores
    of that first look, where streams are whole. early: share of those about the past whose moment is drawn there from
    the first window; that of the others comes rather late. present: share of the others about the past over the newest
    blocks alone. lacking: share of the rest whose view lacks a part of the evidence. blocks: most of a view.
    reconstruction: pictures of streams told in a wrong order, of `told` steps in `clips` clips, to one picture of the
    others, from the share `wait` of the training on. cut: until the share `whole` of the training a batch has `cut`
    times as many streams, each of as many times fewer steps and questions. size: pixels.
    """

    streams: int = 16
    steps: int = 64
    questions: int = 12
    length: int = 96
    letters: float = 0.03
    lookup: float = 0.15
    now: float = 0.2
    choice: float = 0.7
    again: float = 0.4
    early: float = 0.2
    present: float = 0.3
    lacking: float = 0.2
    blocks: int = 64
    reconstruction: float = 0.25
    told: int = 16
    clips: int = 4
    wait: float = 0.4
    cut: int = 1
    whole: float = 0.4
    size: int = 112

    def __post_init__(self) -> None:
        if self.reconstruction and self.steps % self.told:
            raise RecipeError(f"world.told must divide world.steps, {self.told} does not divide {self.steps}")
        if self.reconstruction and self.blocks < self.told:
            raise RecipeError(f"world.blocks must be world.told or more, {self.blocks} is less than {self.told}")
        if self.cut < 1 or self.steps % self.cut or self.questions % self.cut:
            said = f"{self.cut} does not divide {self.steps} and {self.questions}"
            raise RecipeError(f"world.cut must divide world.steps and world.questions, {said}")
        for name in ("whole", "early"):
            if not 0 <= getattr(self, name) <= 1:
                raise RecipeError(f"world.{name} must be a share, from 0 to 1, got {getattr(self, name)}")
        if self.steps // self.cut < LEAST:
            raise RecipeError(
                f"world.steps over world.cut must be {LEAST} or more, {self.steps} over {self.cut} is less"
            )


@dataclass(frozen=True)
class Views:
    """Draws views. A view: the blocks of each layer, in order, as many in all."""

    settings: WorldSettings
    window: int
    layers: int

    def __post_init__(self) -> None:
        if self.settings.blocks < self.window:
            said = f"{self.settings.blocks} is less than {self.window}"
            raise RecipeError(f"world.blocks must be the window or more, {said}")

    def newest(self, step: int) -> list[list[int]]:
        """The window of a step."""
        return [list(range(max(0, step + 1 - self.window), step + 1))] * self.layers

    def chosen(self, rng: random.Random, step: int) -> list[list[int]]:
        """As many blocks as layers are to choose, not yet which: few as likely as some more, and many times more."""
        most = min(step + 1, self.settings.blocks)
        least = min(LEAST, most)
        return [list(range(round(least * (most / least) ** rng.random())))] * self.layers

    def given(self, rng: random.Random, step: int, spans: Sequence[Sequence[int]], now: bool) -> list[list[int]]:
        """The newest blocks; or scattered ones, most often with some of every part of the evidence among them.

        As where the past is recalled, each layer has scattered blocks of its own. Of the evidence they hold its first
        block, where a thing came, and some of the others.
        """
        s = self.settings
        if rng.random() < (0.75 if now else s.present):
            return self.newest(step)
        if rng.random() < 0.2:
            return [sorted(rng.sample(range(step + 1), min(step + 1, s.blocks)))] * self.layers
        lost = rng.randrange(len(spans)) if spans and not now and rng.random() < s.lacking else None
        gone = set(spans[lost]) if lost is not None else set()
        found = [span for n, span in enumerate(spans) if n != lost]
        kept = []
        for _ in range(self.layers):
            some = [span[0] for span in found]
            some += [i for span in found for i in rng.sample(span, rng.randint(0, len(span)))]
            kept.append(set([i for i in dict.fromkeys(some) if i not in gone][: s.blocks]))
        rest = [i for i in range(step + 1) if i not in gone] or [step]
        least = max(1, *map(len, kept))
        size = rng.randint(least, max(least, min(len(rest), s.blocks)))
        return [sorted(k | set(rng.sample([i for i in rest if i not in k], size - len(k)))) for k in kept]
