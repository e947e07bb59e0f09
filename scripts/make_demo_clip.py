"""Make the clip that ships in the package, a stream of StreamWorld, and the questions about it with their answers.

    python scripts/make_demo_clip.py [FOLDER]        # default: src/weavetime/assets

The same library versions write the same bytes. The seed is kept for the demo and was chosen before any answer was seen.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import av

from weavetime.world import Asked, Renderer, Script, questions

FOLDER = Path(__file__).parent.parent / "src/weavetime/assets"
SEED = 10**9
SECONDS, FPS, SIZE = 90, 12, 448
EARLIEST = 30  # seconds: from then on there is a past to ask about
FAMILIES = (
    "now_object", "now_attribute", "now_text", "first", "before", "after", "past_attribute", "past_position", "order",
    "count", "when", "happened",
)  # fmt: skip
CHOICE = ("when",)  # offered as options: a time has no short name
CODING = {"crf": "28", "preset": "veryslow", "g": str(10 * FPS), "threads": "1"}


def write_clip(script: Script, path: Path) -> None:
    """H.264 of the whole script, a step a second."""
    renderer = Renderer(script, SIZE)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as out:
        stream = out.add_stream("libx264", rate=FPS, options=CODING)
        stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, "yuv420p"
        for i in range(script.steps * FPS):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(renderer.picture(i / FPS), format="rgb24")))
        out.mux(stream.encode())


def plain(asked: Asked) -> dict[str, Any]:
    """A question as JSON holds it; without options it is to be answered in words."""
    options = list(asked.options) if asked.family in CHOICE else []
    return {
        "family": asked.family,
        "question": asked.text,
        "options": options,
        "answer": asked.answer,
        "at": asked.at,
        "evidence": asked.evidence,
    }


def main(folder: Path) -> None:
    """Write demo.mp4 and demo.json: of each family the first question that the generator gives."""
    folder.mkdir(parents=True, exist_ok=True)
    script = Script(SEED, SECONDS, "test")
    asked = questions(script, len(FAMILIES), FAMILIES, EARLIEST)
    write_clip(script, folder / "demo.mp4")
    head = {"clip": "demo.mp4", "seconds": SECONDS, "fps": FPS, "size": [SIZE, SIZE], "seed": SEED, "split": "test"}
    lines = ",\n  ".join(json.dumps(plain(a)) for a in asked)
    (folder / "demo.json").write_text(json.dumps(head)[:-1] + ',\n "questions": [\n  ' + lines + "\n ]}\n")
    print(f"{folder / 'demo.mp4'}: {(folder / 'demo.mp4').stat().st_size / 1e3:.0f} kB, {SECONDS} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
