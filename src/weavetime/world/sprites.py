"""The pictures that a world is made of: pictographs on round cards, and printed signs. Licence: SPRITES-LICENSE.txt."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

import numpy as np
from PIL import Image

_HERE = files(__package__)
_NAMES = json.loads((_HERE / "sprites.json").read_text())

KINDS: tuple[str, ...] = tuple(_NAMES["kinds"])
TEXTS: tuple[str, ...] = tuple(_NAMES["texts"])
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 46, 44),
    "orange": (245, 140, 28),
    "yellow": (248, 222, 60),
    "green": (58, 158, 72),
    "blue": (48, 102, 214),
    "purple": (142, 68, 180),
    "white": (248, 248, 246),
    "black": (28, 28, 32),
}

Sprite = tuple[np.ndarray, np.ndarray]
"""A picture ready to be laid on: colour times opacity, uint16 (h, w, 3); 255 - opacity, uint16 (h, w, 1)."""


@cache
def _sheet(name: str) -> Image.Image:
    with (_HERE / name).open("rb") as file:
        return Image.open(file).copy()


def _ready(image: Image.Image) -> Sprite:
    pixels = np.asarray(image.convert("RGBA"), dtype=np.uint16)
    opacity = pixels[..., 3:]
    return pixels[..., :3] * opacity, 255 - opacity


@cache
def card(kind: int, colour: int, pixels: int) -> Sprite:
    """The pictograph of KINDS[kind] on a round card of the colour, `pixels` across."""
    cell, columns = _NAMES["cell"], _NAMES["columns"]
    left, top = kind % columns * cell, kind // columns * cell
    picture = _sheet("sprites.png").crop((left, top, left + cell, top + cell))
    across = 4 * cell  # drawn large, then reduced: a smooth edge
    y, x = np.mgrid[:across, :across] - (across - 1) / 2
    far = np.hypot(x, y) / (across / 2)
    disc = np.empty((across, across, 4), np.uint8)
    rgb = np.array(tuple(COLOURS.values())[colour])
    disc[..., :3] = np.where(far[..., None] > 0.93, rgb * 0.7, rgb)
    disc[..., 3] = np.where(far <= 1, 255, 0)
    whole = Image.fromarray(disc)
    side = int(across * 0.66)
    whole.alpha_composite(picture.resize((side, side), Image.Resampling.LANCZOS), ((across - side) // 2,) * 2)
    return _ready(
        whole.resize((pixels, pixels), Image.Resampling.BOX if pixels * 2 > across else Image.Resampling.LANCZOS)
    )


@cache
def sign(text: int, pixels: int) -> Sprite:
    """TEXTS[text] in dark print on white, `pixels` wide and half as high."""
    width, height = _NAMES["sign"]
    picture = _sheet("signs.png").crop((0, text * height, width, (text + 1) * height))
    return _ready(picture.resize((pixels, pixels // 2), Image.Resampling.LANCZOS))


@cache
def blot(shape: int, pixels: int) -> Sprite:
    """A meaningless grey shape that drifts by: a disc, a bar or a ring."""
    y, x = np.mgrid[:pixels, :pixels] - (pixels - 1) / 2
    far = np.hypot(x, y) / (pixels / 2)
    inside = (far < 1, abs(y) < pixels / 6, (far < 1) & (far > 0.6))[shape % 3]
    grey = (70, 120, 190)[shape // 3 % 3]
    picture = np.empty((pixels, pixels, 4), np.uint8)
    picture[..., :3], picture[..., 3] = grey, np.where(inside, 150, 0)
    return _ready(Image.fromarray(picture))
