"""A picture of one's own, hidden in a video of one's own: for each length and depth one question about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import ascii_uppercase
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from ...errors import DataError
from ...types import Frame
from ...video import open_video
from ...world.needle import STAY
from ..base import Example, Grade, Summary, mean
from ..benchmarks.streamworld import fold
from .needle import Needle


@dataclass(frozen=True, kw_only=True)
class Haystack(Needle):
    """The first `lengths` seconds of the video `film`, in which the image `picture` fills the frames of STAY seconds.

    asks: the question. answer: what is right; an open response is right where it holds these words. choices: of a
    multiple choice, the answer among them. rate: frames a second. Of the fields of Needle, lengths and depths count.
    """

    film: str
    picture: str
    asks: str
    answer: str
    choices: tuple[str, ...] = ()
    rate: float = 1.0

    name: ClassVar[str] = "haystack"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "choices", tuple(self.choices))
        if self.choices and self.answer not in self.choices:
            raise DataError(f"the answer {self.answer!r} is not among the options {', '.join(self.choices)}")
        with open_video(Path(self.film), fps=self.rate) as source:
            if source.duration is not None and source.duration < max(self.lengths):
                raise DataError(f"{self.film} lasts {source.duration:g} s: name lengths up to that")
        _picture(self.picture, (16, 16))

    def read(self, root: Path, partial: bool) -> Iterator[Example]:
        """A question for each length and depth."""
        gold = ascii_uppercase[self.choices.index(self.answer)] if self.choices else self.answer
        for length in self.lengths:
            for depth in self.depths:
                name = f"{length}:{depth:g}"
                extra = {"depth": depth, "length": length}
                span = self._shown(name)
                yield Example(name, name, "needle", self.asks, self.choices, gold, evidence=(span,), extra=extra)

    def _shown(self, name: str) -> tuple[float, float]:
        """When the picture is shown: over at least one frame before the end."""
        length, depth = map(float, name.split(":"))
        start = depth * (length - STAY - 1 / self.rate)
        return start, start + STAY

    def frames(self, video: str, batch: int, device: torch.device) -> Iterator[Sequence[Frame]]:
        """The video's frames, the picture in place of those of its time."""
        start, end = self._shown(video)
        with open_video(Path(self.film), fps=self.rate, end=float(video.split(":")[0])) as source:
            for frames in source.batches(batch):
                yield [self._laid(frame) if start <= frame.time < end else frame for frame in frames]

    def _laid(self, frame: Frame) -> Frame:
        height, width = frame.pixels.shape[:2]
        return replace(frame, pixels=_picture(self.picture, (width, height)))

    def grade(self, example: Example, response: Any) -> Grade:
        """The same letter; of an open answer, whether it holds the words."""
        if example.options or not isinstance(response, str):
            return super().grade(example, response)
        return Grade(float(fold(example.gold) in fold(response)), task=example.task, parsed=response.strip())

    def summarize(self, grades: Iterable[Grade]) -> Summary:
        """The share of right answers."""
        return Summary((mean("all", list(grades)),), "all")


def _picture(path: str, size: tuple[int, int]) -> np.ndarray:
    """An image in a frame of a size, all of it, on black."""
    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.pad(image.convert("RGB"), size))
    except (OSError, UnidentifiedImageError) as e:
        raise DataError(f"{path} is no image that can be read ({e})") from e
