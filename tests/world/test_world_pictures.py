"""Pictures of StreamWorld: the same bytes everywhere, and on them what the script says."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import weavetime as wt
from weavetime.errors import WorldError
from weavetime.eval.pictures import composed, pictures
from weavetime.world import COLOURS, Atlas, Renderer, Script, as_numbers, questions
from weavetime.world.render import CARD, Name, sprite
from weavetime.world.write import write_questions, write_video

GOLDEN = """
import hashlib
from weavetime.world import Renderer, Script, questions
for split, seed, steps in (("test", 7, 64), ("train", 1, 256), ("new", 2, 96)):
    script = Script(seed, steps, split)
    frames = b"".join(Renderer(script, size).picture(t).tobytes() for size in (112, 200) for t in (0, 5, 9.5, 60))
    print(hashlib.sha256(frames).hexdigest()[:16], end=" ")
    print(hashlib.sha256(repr(questions(script, 64)).encode()).hexdigest()[:16])
"""

HASHES = [
    *("ef1ef0d7155e3655", "833c2485a7b99c78"),
    *("30bd24ad92b9907d", "836eb095a3a4e701"),
    *("4347ab04e666b813", "b09ce69b246aca78"),
]


@pytest.mark.parametrize("hash_seed", ["1", "77"])
def test_frames_and_questions_are_what_they_always_were(hash_seed: str) -> None:
    """In a process of its own, whatever the hash seed. A change here makes published figures another benchmark's."""
    environment = {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", GOLDEN], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == HASHES


def test_every_card_and_sign_is_on_its_picture() -> None:
    script = Script(4, 200, "new")
    renderer = Renderer(script, 112)
    for step in range(200):
        picture, plan = renderer.picture(step), renderer.plan(step)
        names = [laid.name for laid in plan.things if laid.name.what != "blot"]
        cards = [Name("card", v.kind * len(COLOURS) + v.colour(step)) for v in script.shown(step)]
        board = script.sign(step)
        assert names == cards + ([] if board is None else [Name("sign", board.text)])
        for laid in plan.things:
            if laid.name.what != "blot":
                assert shown(picture, laid.name, laid.width, laid.top, laid.left) > 0.6, (step, laid)


def shown(picture: np.ndarray, name: Name, width: int, top: int, left: int) -> float:
    """Share of a sprite's opaque pixels that a picture shows just so; another card may stand before it."""
    colour, rest = sprite(name, width)
    opaque = rest[..., 0] == 0
    part = picture[top : top + len(colour), left : left + colour.shape[1]]
    assert part.shape == colour.shape, "cut off at whole steps"
    same = (np.abs(part.astype(int) - (colour + 127) // 255) <= 1).all(-1)
    return float(same[opaque].mean())


def test_frames_stand_for_their_steps() -> None:
    script = Script(3, 20, times=tuple(3.0 * i for i in range(20)))
    frames = list(Renderer(script, 64).frames(4, 8))
    assert [(f.time, f.until) for f in frames] == [(12.0, 13.0), (15.0, 16.0), (18.0, 19.0), (21.0, 22.0)]
    assert all(f.pixels.shape == (64, 64, 3) and f.pixels.dtype == np.uint8 for f in frames)


@pytest.fixture(scope="module")
def atlas() -> Atlas:
    """Every sprite for pictures of 112 pixels."""
    renderer = Renderer(Script(0, 64), 112)
    return Atlas([renderer.plan(i) for i in range(64)], 112, "cpu")


def test_drawing_many_at_once_gives_the_same_bytes(atlas: Atlas) -> None:
    renderers = [Renderer(Script(seed, 48, "new"), 112) for seed in (1, 2)]
    backdrops = torch.from_numpy(np.stack([r.backdrop.astype(np.uint8) for r in renderers]))
    numbers = [as_numbers([r.plan(i) for i in range(48)]) for r in renderers]
    canvas, layers = (torch.from_numpy(np.stack(x)) for x in zip(*numbers, strict=True))
    drawn = atlas.compose(backdrops, canvas, layers).permute(0, 1, 3, 4, 2)
    for r, some in zip(renderers, drawn, strict=True):
        for i, picture in enumerate(some):
            assert (r.picture(i) == picture.numpy()).all(), i


def test_frames_drawn_on_a_device_are_the_frames(atlas: Atlas) -> None:
    script = Script(5, 30)
    plain = [f for batch in pictures(script, 112, 8, torch.device("cpu")) for f in batch]
    chunks = iter([range(0, 8), range(8, 30)])
    many = [f for batch in composed(Renderer(script, 112), atlas, chunks, torch.device("cpu")) for f in batch]
    assert [(f.time, f.until) for f in plain] == [(f.time, f.until) for f in many]
    assert all(np.array_equal(a.pixels, b.pixels.numpy()) for a, b in zip(plain, many, strict=True))


def test_cards_glide_between_steps_and_stand_at_whole_ones() -> None:
    """What comes at a step is outside the picture half a second before, on its way just before, and stands then."""
    script = Script(8, 60)
    renderer = Renderer(script, 112)
    v = next(v for v in script.visits if v.start > 5)
    card = Name("card", v.kind * len(COLOURS) + v.colour(v.start))

    def top(time: float) -> int | None:
        return next((laid.top for laid in renderer.plan(time).things if laid.name == card), None)

    stands = top(v.start)
    assert stands is not None
    assert top(v.start - 0.5) is None
    assert abs((top(v.start - 0.1) or 0) - stands) > 0.2 * 112
    outside = top(v.start - 0.34)
    assert outside is not None
    assert not -round(CARD * 112) < outside < 112


# Written down


def test_the_video_shows_what_the_renderer_draws(tmp_path: Path) -> None:
    script, told = Script(7, 12), []
    write_video(script, tmp_path / "out.mp4", size=224, fps=8, on_frame=told.append)
    assert told == list(range(1, 97))
    renderer = Renderer(script, 224)
    source = wt.open_video(tmp_path / "out.mp4", fps=1.0)
    frames = list(source)
    assert [f.time for f in frames] == list(range(12))
    for f in frames:
        difference = np.abs(np.asarray(f.pixels, int) - renderer.picture(f.time))
        assert difference.mean() < 4, f.time
    for i, f in enumerate(wt.open_video(tmp_path / "out.mp4", fps=8.0)):
        assert np.abs(np.asarray(f.pixels, int) - renderer.picture(i / 8)).mean() < 4, i


def test_the_same_bytes_twice(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        write_video(Script(1, 4), tmp_path / name, size=96, fps=10)
    one, other = (hashlib.sha256((tmp_path / n).read_bytes()).hexdigest() for n in ("a.mp4", "b.mp4"))
    assert one == other


def test_nothing_half_written_is_left(tmp_path: Path) -> None:
    def stop(count: int) -> None:
        if count == 20:
            raise KeyboardInterrupt

    (tmp_path / "out.mp4").write_bytes(b"the older one")
    with pytest.raises(KeyboardInterrupt):
        write_video(Script(1, 4), tmp_path / "out.mp4", size=96, fps=10, on_frame=stop)
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]
    assert (tmp_path / "out.mp4").read_bytes() == b"the older one"


@pytest.mark.parametrize(("size", "fps"), [(63, 12), (97, 12), (2000, 12), (96, 0), (96, 61)])
def test_videos_that_cannot_be(tmp_path: Path, size: int, fps: int) -> None:
    with pytest.raises(WorldError, match=r"(size|fps) must be"):
        write_video(Script(1, 4), tmp_path / "out.mp4", size=size, fps=fps)
    assert not list(tmp_path.iterdir())


def test_questions_into_a_folder(tmp_path: Path) -> None:
    script = Script(1, 40)
    with pytest.raises(WorldError, match="is a folder: name a file"):
        write_questions(script, questions(script, 4), tmp_path)
