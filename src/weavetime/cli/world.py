"""`weavetime world`: a generated stream as a video file, with questions whose answers and evidence are known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def names(text: str | None) -> tuple[str, ...]:
    """Families of questions as they are listed in an option; every one where nothing is said."""
    from ..errors import WorldError
    from ..world import FAMILIES

    if text is None:
        return tuple(FAMILIES)
    said = tuple(name.strip() for name in text.split(",") if name.strip())
    if unknown := [name for name in said if name not in FAMILIES]:
        raise WorldError(f"no family {', '.join(unknown)}: there are {', '.join(FAMILIES)}")
    if not said:
        raise WorldError(f"name at least one family of {', '.join(FAMILIES)}")
    return said


def world(
    out: Annotated[Path, typer.Argument(metavar="VIDEO", help="The MP4 file to write.", show_default=False)],
    seed: Annotated[int, typer.Option(help="Which world; the same seed gives the same bytes.")] = 0,
    minutes: Annotated[float, typer.Option(help="Length, at most 600.")] = 3.0,
    questions: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write questions, as JSONL.", show_default=False)
    ] = None,
    count: Annotated[int, typer.Option(help="Questions.")] = 32,
    families: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="Families of questions. Default: all.", show_default=False)
    ] = None,
    as_open: Annotated[bool, typer.Option("--open", help="Questions without options.")] = False,
    split: Annotated[str, typer.Option(help="train, test, or new: with cards that the others never show.")] = "test",
    size: Annotated[int, typer.Option(help="Pixels across and down.")] = 448,
    fps: Annotated[int, typer.Option(help="Pictures a second.")] = 12,
) -> None:
    """Write a generated video in which cards come, move and leave, with questions about it."""
    from ..errors import WorldError
    from ..world import Script
    from ..world import questions as drawn
    from ..world.write import write_questions, write_video
    from .meter import bar

    wanted = names(families)
    if count < 1:
        raise WorldError(f"count must be at least 1, got {count}")
    if not 0 < minutes <= 600:
        raise WorldError(f"a world lasts up to 600 minutes (ten hours), got {minutes:g}")
    if questions is not None and questions.resolve() == out.resolve():
        raise WorldError(f"{out} cannot hold both the video and the questions: name two files")
    script = Script(seed, max(1, round(minutes * 60)), split)  # type: ignore[arg-type]
    asked = drawn(script, count, wanted) if questions is not None else []
    if questions is not None and not asked:
        raise WorldError(f"{script.steps} s hold no question of {', '.join(wanted)}: use more minutes")
    with bar("writing", script.steps * fps) as update:
        write_video(script, out, size=size, fps=fps, on_frame=update)
    if questions is not None:
        write_questions(script, asked, questions, choice=not as_open)
    print(f"{out}: {script.steps} s, {size} x {size} pixels, {fps} pictures a second")
    if questions is not None:
        print(f"{questions}: {len(asked)} questions")
