"""Draw the demo clip that ships in the package, and write down what is true in it.

    python scripts/make_demo_clip.py [FOLDER]        # default: src/weavetime/assets

Things come onto a table, leave it and come back. demo.json holds each event and some questions with their answers.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

FOLDER = Path(__file__).parent.parent / "src/weavetime/assets"
WIDTH, HEIGHT, FPS, SECONDS, SEED = 960, 540, 15, 75, 2602
TABLE = 340
SHARP = 3  # sprites are drawn this many times larger, then reduced
MOVE = 1.0  # seconds that coming and leaving take

RED, BLUE, GREEN = (196, 48, 44), (44, 92, 190), (52, 136, 74)
YELLOW, PURPLE, PAPER, INK = (244, 196, 48), (132, 66, 160), (246, 242, 230), (40, 38, 44)
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Thing:
    """Something on the picture from `start` to `end`: it slides in and out by `side`, or fades where side is None."""

    name: str
    sprite: Callable[[], Image.Image]
    x: int
    y: int
    start: float
    end: float
    side: str | None = None

    def place(self, t: float) -> tuple[int, float] | None:
        """Centre x and opacity at time t; None where it is not on the picture."""
        if not self.start <= t < self.end:
            return None
        here = ease(min((t - self.start) / MOVE if self.start > 0 else 1.0, (self.end - t) / MOVE, 1.0))
        if self.side is None:
            return self.x, here
        away = -160 if self.side == "left" else WIDTH + 160
        return round(away + (self.x - away) * here), 1.0


def ease(x: float) -> float:
    """0 to 1 with a soft start and stop."""
    return (1 - math.cos(math.pi * min(max(x, 0.0), 1.0))) / 2


def shade(colour: Colour, by: float) -> Colour:
    """A colour made lighter (by > 1) or darker."""
    r, g, b = (min(255, round(c * by)) for c in colour)
    return r, g, b


def canvas(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """An empty sprite at SHARP times its size, and a pen that draws on it."""
    image = Image.new("RGBA", (width * SHARP, height * SHARP))
    return image, ImageDraw.Draw(image)


def box(*corners: float) -> list[float]:
    """Sprite coordinates to drawing coordinates."""
    return [c * SHARP for c in corners]


def reduced(image: Image.Image) -> Image.Image:
    """The finished sprite at its own size."""
    return image.resize((image.width // SHARP, image.height // SHARP), Image.Resampling.LANCZOS)


def cup() -> Image.Image:
    """A red cup with a handle."""
    image, pen = canvas(190, 170)
    pen.ellipse(box(112, 42, 182, 118), outline=shade(RED, 0.85), width=16 * SHARP)
    pen.polygon(box(10, 24, 146, 24, 128, 150, 28, 150), fill=RED)
    pen.ellipse(box(28, 136, 128, 164), fill=RED)
    pen.polygon(box(22, 30, 44, 30, 52, 146, 38, 146), fill=shade(RED, 1.3))
    pen.ellipse(box(10, 6, 146, 42), fill=shade(RED, 1.15))
    pen.ellipse(box(22, 11, 134, 37), fill=shade(RED, 0.45))
    return reduced(image)


def plate() -> Image.Image:
    """A blue plate, seen from above at an angle."""
    image, pen = canvas(260, 120)
    pen.ellipse(box(2, 10, 258, 118), fill=shade(BLUE, 0.6))
    pen.ellipse(box(2, 2, 258, 108), fill=BLUE)
    pen.ellipse(box(46, 22, 214, 88), fill=shade(BLUE, 0.8))
    pen.ellipse(box(50, 26, 210, 88), fill=shade(BLUE, 1.25))
    return reduced(image)


def book() -> Image.Image:
    """A closed green book, lying."""
    image, pen = canvas(240, 110)
    pen.polygon(box(4, 66, 40, 6, 236, 6, 204, 66), fill=GREEN)
    pen.polygon(box(4, 66, 204, 66, 204, 102, 4, 102), fill=shade(GREEN, 0.6))
    pen.polygon(box(12, 70, 204, 70, 204, 96, 12, 96), fill=PAPER)
    pen.polygon(box(204, 66, 236, 6, 236, 40, 204, 102), fill=shade(PAPER, 0.8))
    pen.polygon(box(62, 46, 76, 22, 188, 22, 176, 46), fill=shade(GREEN, 1.5))
    return reduced(image)


def star() -> Image.Image:
    """A yellow star."""
    image, pen = canvas(150, 150)
    points = []
    for i in range(10):
        radius, angle = (72, 32)[i % 2], math.pi * (i / 5 - 0.5)
        points += [75 + radius * math.cos(angle), 78 + radius * math.sin(angle)]
    pen.polygon(box(*points), fill=YELLOW, outline=shade(YELLOW, 0.7), width=4 * SHARP)
    return reduced(image)


def ball() -> Image.Image:
    """A purple ball."""
    image, pen = canvas(130, 130)
    for i in range(60):
        inset = i * 0.75
        pen.ellipse(
            box(2 + inset * 0.8, 2 + inset * 0.5, 128 - inset * 1.2, 128 - inset * 1.5),
            fill=shade(PURPLE, 0.75 + i / 75),
        )
    return reduced(image)


def card(digit: str) -> Callable[[], Image.Image]:
    """A paper card with a printed digit."""

    def draw() -> Image.Image:
        image, pen = canvas(130, 160)
        pen.rounded_rectangle(box(3, 3, 127, 157), 12 * SHARP, fill=PAPER, outline=shade(PAPER, 0.7), width=3 * SHARP)
        pen.text((65 * SHARP, 80 * SHARP), digit, INK, ImageFont.load_default(120 * SHARP), anchor="mm")
        return reduced(image)

    return draw


THINGS = (
    Thing("card with the digit 7", card("7"), 780, 130, 12.0, 42.0),
    Thing("card with the digit 4", card("4"), 780, 130, 42.0, SECONDS + MOVE),
    Thing("yellow star", star, 200, 130, 48.0, SECONDS + MOVE),
    Thing("green book", book, 200, 430, 0.0, 30.0, "left"),
    Thing("blue plate", plate, 770, 430, 20.0, 62.0, "right"),
    Thing("red cup", cup, 480, 420, 5.0, 35.0, "left"),
    Thing("red cup", cup, 480, 420, 55.0, SECONDS + MOVE, "left"),
    Thing("purple ball", ball, 750, 430, 66.0, SECONDS + MOVE, "right"),
)


def noise(rng: np.random.Generator, height: int, width: int, cell: tuple[int, int]) -> np.ndarray:
    """Smooth noise in [0, 1] whose grains are about `cell` (height, width) pixels."""
    small = rng.random((height // cell[0] + 2, width // cell[1] + 2)).astype(np.float32)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def background() -> Image.Image:
    """A papered wall above a wooden table."""
    rng = np.random.default_rng(SEED)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    wall = 0.86 + 0.10 * noise(rng, HEIGHT, WIDTH, (90, 90)) + 0.04 * noise(rng, HEIGHT, WIDTH, (9, 9))
    wall += 0.035 * np.sign(np.sin(x * (2 * np.pi / 60))) - 0.12 * ((x - WIDTH / 2) / WIDTH) ** 2
    grain = noise(rng, HEIGHT, WIDTH, (5, 160)) + 0.5 * noise(rng, HEIGHT, WIDTH, (14, 300))
    wood = 0.72 + 0.2 * grain + 0.14 * (y - TABLE) / (HEIGHT - TABLE)
    wood -= 0.25 * (np.abs((y - TABLE) % 68) < 1.5)
    picture = np.where((y < TABLE)[..., None], wall[..., None] * (206, 212, 200), wood[..., None] * (168, 118, 76))
    picture *= np.where(np.abs(y - TABLE) < 3, 0.6, 1.0)[..., None]
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def shadow(sprite: Image.Image) -> Image.Image:
    """A soft dark shape in the form of a sprite."""
    pad = 24
    image = Image.new("RGBA", (sprite.width + 2 * pad, sprite.height + 2 * pad))
    image.paste((20, 16, 12, 110), (pad, pad), sprite)
    return image.filter(ImageFilter.GaussianBlur(9))


def paste(picture: Image.Image, sprite: Image.Image, centre: tuple[int, int], opacity: float) -> None:
    """Lay a sprite on the picture."""
    mask = sprite.getchannel("A").point(lambda a: round(a * opacity))
    picture.paste(sprite, (centre[0] - sprite.width // 2, centre[1] - sprite.height // 2), mask)


def draw(t: float, wall: Image.Image, sprites: dict[str, tuple[Image.Image, Image.Image]]) -> Image.Image:
    """The picture at time t."""
    picture = wall.copy()
    for thing in THINGS:
        place = thing.place(t)
        if place is not None:
            sprite, dark = sprites[thing.name]
            paste(picture, dark, (place[0] + 6, thing.y + 10), place[1])
            paste(picture, sprite, (place[0], thing.y), place[1])
    return picture


def write_clip(path: Path) -> None:
    """Encode every picture as H.264; one thread, so that the same library writes the same bytes."""
    wall, sprites = background(), {t.name: (t.sprite(), shadow(t.sprite())) for t in THINGS}
    with av.open(str(path), "w", options={"movflags": "faststart"}) as out:
        stream = out.add_stream("libx264", rate=FPS, options={"crf": "26", "preset": "slow", "threads": "1", "g": "75"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = Fraction(1, FPS)
        for i in range(SECONDS * FPS):
            frame = av.VideoFrame.from_image(draw(i / FPS, wall, sprites))
            frame.pts = i
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


def events() -> list[dict[str, object]]:
    """What happens when: `time` to `until`, seconds, is the coming or leaving itself."""
    found: list[dict[str, object]] = []
    for t in THINGS:
        how = f"from the {t.side}" if t.side else "on the wall"
        kind = "is there at the start" if t.start == 0 else f"comes {how}" if t.side else f"appears {how}"
        found.append({"time": t.start, "until": t.start + (MOVE if t.start else 0), "what": f"the {t.name} {kind}"})
        if t.end <= SECONDS:
            kind = f"leaves to the {t.side}" if t.side else "disappears"
            found.append({"time": t.end - MOVE, "until": t.end, "what": f"the {t.name} {kind}"})
    return sorted(found, key=lambda e: (e["time"], e["what"]))


def question(text: str, options: str, answer: int, at: float, *evidence: tuple[float, float]) -> dict[str, object]:
    """One question: options split at commas, the index of the right one, and the spans of time that show it."""
    return {"question": text, "options": options.split(", "), "answer": answer, "at": at, "evidence": evidence}


QUESTIONS = [
    question(
        "What is in the middle of the table now?", "a red cup, a green book, a blue plate, nothing", 0, 10, (6, 10)
    ),
    question("Which digit is printed on the card now?", "2, 4, 7, 9", 2, 18, (13, 18)),
    question("Which came first?", "the blue plate, the red cup", 1, 28, (5, 6), (20, 21)),
    question("What colour was the book?", "red, blue, yellow, green", 3, 40, (0, 29)),
    question("Which digit is printed on the card now?", "2, 4, 7, 9", 1, 46, (43, 46)),
    question("Which digit was on the card before this one?", "2, 4, 7, 9", 2, 52, (13, 41)),
    question("Is the red cup on the table now?", "yes, no", 1, 50, (35, 50)),
    question(
        "What appeared just before the red cup came back?", "a yellow star, a ball, a plate, a book", 0, 60, (48, 56)
    ),
    question("How many times has the red cup come?", "1, 2, 3, 4", 1, 64, (5, 6), (55, 56)),
    question(
        "What is on the right of the table now?", "a green book, a blue plate, a purple ball, nothing", 2, 74, (67, 74)
    ),
    question(
        "What was on the right of the table before the ball?",
        "a green book, a blue plate, a cup, a star",
        1,
        74,
        (21, 61),
    ),
    question("Has the green book come back yet?", "yes, no", 1, 74, (30, 74)),
]


def as_json(truth: dict[str, object]) -> str:
    """JSON with one line to each event and question."""
    lists = {k: ",\n  ".join(json.dumps(x) for x in v) for k, v in truth.items() if isinstance(v, list) and k != "size"}
    rest = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in truth.items() if k not in lists]
    parts = [*rest, *(f"{json.dumps(k)}: [\n  {lines}\n ]" for k, lines in lists.items())]
    return "{\n " + ",\n ".join(parts) + "\n}\n"


def main(folder: Path) -> None:
    """Write demo.mp4 and demo.json."""
    folder.mkdir(parents=True, exist_ok=True)
    write_clip(folder / "demo.mp4")
    truth: dict[str, object] = {"clip": "demo.mp4", "seconds": SECONDS, "fps": FPS, "size": [WIDTH, HEIGHT]}
    truth |= {"events": events(), "questions": QUESTIONS}
    (folder / "demo.json").write_text(as_json(truth))
    print(f"{folder / 'demo.mp4'}: {(folder / 'demo.mp4').stat().st_size / 1e3:.0f} kB, {SECONDS} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
