"""RVS-Ego and RVS-Movie: open questions asked while a long video plays. Format unverified.

Files, as ReKV published them (huggingface.co/datasets/Becomebright/RVS): `ego/ego4d_oe.json`, 1,465 questions about 10
videos of an hour, and `movie/movienet_oe.json`, 1,905 about 22 of half an hour; each a list of `video_id`,
`video_path`, `duration`, `conversations` with `question`, `answer`, `start_time`, `end_time` (seconds of the video).
Known from ReKV's code and the copy in gdace829/HERMES, data/rvs at c73e21f, of which parts were read; the published
files were not at hand. The movies are published as arrays of one frame a second (`.npy`): each must be made into a
video `<video_id>.mp4` of one frame a second. Videos are looked for in `ego/videos/` and `movie/videos/`, as published,
and below `videos/`.

Visible: [0, end_time], for ReKV encodes a video up to a question's end_time and asks (video_qa/rekv_stream_vqa.py, read
in its copies at ayofine12/ReKV c57d9ea and juni5184/ReKV f1aac1c); the frame shown at end_time itself is the first that
it leaves out. Otherwise than there, a question never sees what an earlier one with a later end was shown. start_time
begins the annotated evidence, which cuts nothing off. Prompt: the question alone, at most 256 tokens (same file).

Rule: a judge's (judge.py), for each of the two; there is no other. Without a judge the only figure is the share of
replies equal to the answer, which is no published measure and near 0 for answers in sentences.

Data: no licence stated in ReKV's repository; Ego4D's and MovieNet's own agreements hold for the videos.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from ..annotation import Entry, load_rows, place
from ..base import Benchmark, Example, Grade, Summary, by_task, mean
from ..judge import judge_scores
from ..letters import same_words

FILES = {"ego": "ego4d_oe.json", "movie": "movienet_oe.json"}


class RVS(Benchmark):
    """Both sets; one alone with `partial`."""

    name: ClassVar[str] = "rvs"
    counts: ClassVar[Mapping[str, int]] = {"ego": 1465, "movie": 1905}
    max_tokens: ClassVar[int] = 256
    unverified: ClassVar[bool] = True
    open_answers: ClassVar[bool] = True

    def read(self, root: Path, partial: bool) -> Iterator[Example]:
        """The questions of both sets."""
        for task, name in FILES.items():
            file = place(root, f"{task}/{name}", name, f"rvs/{task}/{name}", partial=partial)
            for video in load_rows(file) if file else ():
                for i, row in enumerate(video.entries("conversations")):
                    yield _example(task, video, row, i)

    def videos(self, root: Path, example: Example) -> tuple[Path, ...]:
        """In the set's own `videos/`, or below `videos/`."""
        name = PurePosixPath(example.video).name
        return root / example.task / "videos" / name, root / "videos" / example.video, root / "videos" / name

    def prompt(self, example: Example) -> str:
        """The question alone."""
        return example.question

    def grade(self, example: Example, response: Any) -> Grade:
        """Whether the reply is the answer, without the space around it."""
        said = response.strip() if isinstance(response, str) else None
        return Grade(float(said == example.gold.strip()), task=example.task, parsed=said)

    def tolerant(self, example: Example, response: Any) -> float | None:
        """The same words, whatever their case and a full stop."""
        return same_words(response, example.gold)

    def summarize(self, grades: Iterable[Grade]) -> Summary:
        """Each set and both: equal answers, then the judge's figures, which lead where there are any."""
        every = list(grades)
        sets = by_task(every, FILES)
        judged = [score for task, mine in sets.items() for score in judge_scores(mine, f"{task} ")]
        judged += judge_scores(every)
        exact = [*(mean(f"{task} exact", mine) for task, mine in sets.items()), mean("exact", every)]
        return Summary((*exact, *judged), total="judge" if judged else "exact")


def _example(task: str, video: Entry, row: Entry, number: int) -> Example:
    start, end = row.number("start_time"), row.number("end_time")
    if not 0 <= start <= end or end == 0:
        raise row.wrong(f"from {start:g} to {end:g} s is no part of a video")
    name, stored = video.text("video_id"), PurePosixPath(video.text("video_path"))
    return Example(
        id=f"{task}/{name}/{number}",
        video=f"{task}/{stored.stem + '.mp4' if stored.suffix == '.npy' else stored.name}",
        task=task,
        question=row.text("question"),
        options=(),
        gold=row.text("answer"),
        at=end,
        span=(0.0, end),
        evidence=((start, end),),
        extra={"duration": video.duration()},
    )
