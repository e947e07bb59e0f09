"""Cut the pictographs of StreamWorld out of the Noto Color Emoji font (SIL Open Font License 1.1) into one sheet.

    python scripts/make_sprites.py [FONT] [FOLDER]

FONT: NotoColorEmoji.ttf (Debian: fonts-noto-color-emoji). FOLDER: default src/weavetime/world. Writes sprites.png, a
grid of 64 px cells, row by row in the order of KINDS; signs.png, one printed text a row, in Pillow's own font (Aileron,
CC0); and sprites.json with their names.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
FOLDER = Path(__file__).parent.parent / "src/weavetime/world"
STRIKE = 109  # the only size that the font's bitmaps have
CELL, COLUMNS = 64, 16

# Things that differ in shape, and are told apart at 28 pixels.
KINDS = {
    "cup": "☕", "knife": "🔪", "key": "🔑", "book": "📖", "car": "🚗", "bus": "🚌", "train": "🚂", "bicycle": "🚲",
    "boat": "⛵", "plane": "✈", "rocket": "🚀", "balloon": "🎈", "clock": "⏰", "phone": "📱", "camera": "📷",
    "television": "📺", "lamp": "💡", "candle": "🕯", "hammer": "🔨", "scissors": "✂", "umbrella": "☂", "hat": "🎩",
    "crown": "👑", "glasses": "👓", "shirt": "👕", "dress": "👗", "shoe": "👟", "boot": "👢", "bag": "👜", "ring": "💍",
    "ball": "⚽", "basketball": "🏀", "guitar": "🎸", "trumpet": "🎺", "drum": "🥁", "violin": "🎻", "dice": "🎲",
    "gift": "🎁", "trophy": "🏆", "bell": "🔔", "apple": "🍎", "banana": "🍌", "grapes": "🍇", "strawberry": "🍓",
    "lemon": "🍋", "carrot": "🥕", "corn": "🌽", "mushroom": "🍄", "bread": "🍞", "cheese": "🧀", "egg": "🥚",
    "pizza": "🍕", "burger": "🍔", "cake": "🎂", "cookie": "🍪", "doughnut": "🍩", "dog": "🐕", "cat": "🐈",
    "mouse": "🐁", "rabbit": "🐇", "horse": "🐎", "cow": "🐄", "pig": "🐖", "sheep": "🐑", "elephant": "🐘",
    "camel": "🐫", "monkey": "🐒", "chicken": "🐓", "penguin": "🐧", "owl": "🦉", "duck": "🦆", "fish": "🐟",
    "whale": "🐳", "octopus": "🐙", "crab": "🦀", "snail": "🐌", "butterfly": "🦋", "bee": "🐝", "spider": "🕷",
    "turtle": "🐢", "snake": "🐍", "dinosaur": "🦕", "tree": "🌳", "palm": "🌴", "cactus": "🌵", "flower": "🌻",
    "tulip": "🌷", "house": "🏠", "tent": "⛺", "castle": "🏰", "mountain": "🏔", "sun": "☀", "moon": "🌙",
    "star": "⭐", "fire": "🔥", "snowman": "⛄",
}  # fmt: skip

TEXTS = (
    *"0123456789",
    *["open", "stop", "shop", "bank", "park", "city", "farm", "salt", "milk", "rice", "tea", "soup"],
)
SIGN = (96, 48)


def sign(text: str) -> Image.Image:
    """Dark print on white, as large as fits."""
    image = Image.new("L", SIGN, 255)
    pen, size = ImageDraw.Draw(image), 60
    while pen.textlength(text.upper(), ImageFont.load_default(size)) > SIGN[0] - 10 or size > 46:
        size -= 1
    font = ImageFont.load_default(size)
    pen.text((SIGN[0] // 2, SIGN[1] // 2), text.upper(), 20, font, anchor="mm", stroke_width=1)
    return image


def cut(font: ImageFont.FreeTypeFont, character: str) -> Image.Image:
    """One pictograph, cropped to what is drawn and centred in a square cell."""
    canvas = Image.new("RGBA", (2 * STRIKE, 2 * STRIKE))
    ImageDraw.Draw(canvas).text((STRIKE, STRIKE), character, font=font, embedded_color=True, anchor="mm")
    found = canvas.getbbox()
    if found is None:
        raise SystemExit(f"the font has no picture for {character!r}")
    cropped = canvas.crop(found)
    scale = CELL / max(cropped.size)
    cropped = cropped.resize((round(cropped.width * scale), round(cropped.height * scale)), Image.Resampling.LANCZOS)
    cell = Image.new("RGBA", (CELL, CELL))
    cell.paste(cropped, ((CELL - cropped.width) // 2, (CELL - cropped.height) // 2))
    return cell


def main(path: Path = FONT, folder: Path = FOLDER) -> None:
    """Write sprites.png and sprites.json."""
    font = ImageFont.truetype(str(path), STRIKE)
    rows = -(-len(KINDS) // COLUMNS)
    sheet = Image.new("RGBA", (COLUMNS * CELL, rows * CELL))
    for i, character in enumerate(KINDS.values()):
        sheet.paste(cut(font, character), (i % COLUMNS * CELL, i // COLUMNS * CELL))
    sheet.save(folder / "sprites.png", optimize=True)
    signs = Image.new("L", (SIGN[0], SIGN[1] * len(TEXTS)))
    for i, text in enumerate(TEXTS):
        signs.paste(sign(text), (0, i * SIGN[1]))
    signs.save(folder / "signs.png", optimize=True)
    names = {"cell": CELL, "columns": COLUMNS, "kinds": list(KINDS), "sign": SIGN, "texts": TEXTS}
    (folder / "sprites.json").write_text(json.dumps(names) + "\n")
    print(f"{folder / 'sprites.png'}: {len(KINDS)} kinds, {(folder / 'sprites.png').stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
