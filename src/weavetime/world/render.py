"""Pictures of a world at any moment, at any size. The same script gives the same bytes.

Cards slide in just before the step in which they come, and out in the end of their last; at whole steps all stand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from ..types import Frame
from .script import CORNERS, PLACES, Script, Visit
from .sprites import COLOURS, Sprite, blot, card, sign

CARD, SIGN = 0.29, 0.3  # widths, as shares of the picture
SLIDE = 0.35  # seconds
TEXTURE = 2.0  # width of the repeating backdrop, in pictures
DRIFT = 0.02  # pictures a second that the backdrop moves on, always to the left


class Name(NamedTuple):
    """Which sprite: of cards kind x colours + colour, of signs the text, of blots the shape."""

    what: Literal["card", "sign", "blot"]
    number: int


class Laid(NamedTuple):
    """A sprite of a width, laid with its upper left corner at (top, left), all in pixels."""

    name: Name
    width: int
    top: int
    left: int


class Plan(NamedTuple):
    """A picture before it is drawn: the backdrop moved `shift` pixels, dimmed to gain / 256, then things in turn."""

    shift: int
    gain: int
    things: tuple[Laid, ...]


class Renderer:
    """Draws one script at one size, square, `size` pixels."""

    def __init__(self, script: Script, size: int = 112) -> None:
        self.script, self.size = script, size
        look = np.random.RandomState(_seed(script))  # its sequences are frozen in every numpy version
        self._tints = look.uniform(40, 215, (2, 3))
        self._grain = look.uniform(0, 1, (5, 7))
        self._fine = look.uniform(0, 1, (12, 24))
        self._sway = look.uniform(0, 2 * np.pi, 2)
        self._light = look.uniform(0, 2 * np.pi), look.uniform(0.02, 0.08)
        self._blots = [(*look.uniform(0, 1, 3), int(look.randint(9))) for _ in range(4)]

    @cached_property
    def backdrop(self) -> np.ndarray:
        """The texture that the camera drifts along: uint16 (size, TEXTURE x size, 3), its edges meet."""
        shape = (round(self.size * TEXTURE), self.size)
        layers = [np.concatenate([g, g[:, :1]], 1) for g in (self._grain, self._fine)]
        coarse, fine = (
            np.asarray(Image.fromarray((g * 255).astype(np.uint8)).resize(shape, Image.Resampling.BICUBIC), np.int32)
            for g in layers
        )
        mix = (3 * coarse + fine)[..., None]  # 0..1020
        light, dark = self._tints.astype(np.int32)
        return ((light * mix + dark * (1020 - mix)) // 1020).astype(np.uint16)

    def plan(self, time: float) -> Plan:
        """What to draw at a time in steps (2.5: between step 2 and step 3)."""
        size, width = self.size, round(self.size * TEXTURE)
        phase, rate = self._light
        gain = min(256, int(256 * (0.85 + 0.15 * np.sin(phase + rate * time))))
        sway = 0.012 * np.sin(self._sway + np.array((0.31, 0.23)) * time)
        things: list[Laid] = []
        for x, y, speed, shape in self._blots:
            self._put(
                things, Name("blot", shape), max(3, size // 14), (x + (0.01 + 0.03 * speed) * time) % 1.1 - 0.05, y
            )
        for visit, x, y in self._cards(time):
            step = min(max(int(time), visit.start), visit.end - 1)
            name = Name("card", visit.kind * len(COLOURS) + visit.colour(step))
            self._put(things, name, round(CARD * size), x + sway[0], y + sway[1])
        board = self.script.sign(int(time))
        if board is not None:
            self._put(things, Name("sign", board.text), round(SIGN * size), *CORNERS[board.corner])
        return Plan(int(time * DRIFT * size) % width, gain, tuple(things))

    def _put(self, things: list[Laid], name: Name, width: int, x: float, y: float) -> None:
        height = width // 2 if name.what == "sign" else width
        things.append(Laid(name, width, round(y * self.size - height / 2), round(x * self.size - width / 2)))

    def picture(self, time: float) -> np.ndarray:
        """uint8 (size, size, 3) at a time in steps."""
        plan, width = self.plan(time), self.backdrop.shape[1]
        canvas = self.backdrop[:, np.arange(plan.shift, plan.shift + self.size) % width]
        canvas = canvas * np.uint16(plan.gain) >> 8
        for laid in plan.things:
            _lay(canvas, sprite(laid.name, laid.width), laid.top, laid.left)
        return canvas.astype(np.uint8)

    def _cards(self, time: float) -> Iterator[tuple[Visit, float, float]]:
        steps = {int(time), min(int(time + SLIDE), self.script.steps - 1)}
        here = {id(v): v for step in sorted(steps) for v in self.script.shown(step)}
        return ((visit, *centre(visit, time)) for visit in here.values())

    def frame(self, step: int) -> Frame:
        """One step as a stream sees it."""
        return Frame(self.picture(step), self.script.time(step), self.script.end(step))

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Steps start to stop (None: all), as a stream sees them."""
        return (self.frame(i) for i in range(start, self.script.steps if stop is None else stop))


def _seed(script: Script) -> int:
    """The seed of a script's look: the same in every process."""
    text = f"{script.split}/{script.seed}/{script.steps}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:4], "big")


def centre(visit: Visit, time: float) -> tuple[float, float]:
    """Where a card's centre is, as shares of the picture, while it is on screen or slides."""
    names = tuple(PLACES.values())
    step = min(max(int(time), visit.start), visit.end - 1)
    x, y = names[visit.place(step)]
    upcoming = [(since, place) for since, place in visit.places if since > time and since - time < SLIDE]
    if upcoming:  # on its way to its next place
        since, place = upcoming[0]
        share = 1 - (since - time) / SLIDE
        x, y = x + (names[place][0] - x) * share, y + (names[place][1] - y) * share
    outside = max(
        (visit.start - time) / SLIDE, (time - (visit.end - SLIDE)) / SLIDE if time > visit.end - 1 else 0, 0.0
    )
    y += min(outside, 1.0) * (1.3 if y >= 0.5 else -1.3) * (0 if visit.start == 0 and time < 1 else 1)
    return x + visit.jitter[0], y + visit.jitter[1]


def sprite(name: Name, width: int) -> Sprite:
    """A picture by its name."""
    if name.what == "card":
        return card(*divmod(name.number, len(COLOURS)), width)
    return sign(name.number, width) if name.what == "sign" else blot(name.number, width)


def _lay(canvas: np.ndarray, picture: Sprite, top: int, left: int) -> None:
    """Lay a sprite on the canvas; what falls outside is cut off."""
    colour, rest = picture
    height, width = colour.shape[:2]
    size = canvas.shape[0]
    a, b, c, d = max(0, -top), min(height, size - top), max(0, -left), min(width, size - left)
    if a < b and c < d:
        part = canvas[top + a : top + b, left + c : left + d]
        part *= rest[a:b, c:d]
        part += colour[a:b, c:d] + np.uint16(127)
        part //= 255
