"""QAEgo4D-MC: 500 multiple-choice questions about 148 egocentric videos of 4 to 20 minutes, with annotated evidence.

File: `test_mc.json` of the data set Becomebright/QAEgo4D-MC-test, as ReKV reads it: a list of `video_id`, `video_path`,
`duration` in seconds and `conversations` of `question`, `choices`, `answer` as text and `temporal_windows` of seconds.
There is no time of asking: the whole video is visible, the windows are evidence and cut nothing. A video is the file
that `video_path` names, below `videos/`.

Prompt, length, rule: ReKV, video_qa/base.py, rekv_offline_vqa.py and model/llava_onevision_rekv.py, read in the copies
at zhangyl4/weavetime 68b6583 and juni5184/ReKV 09a94ae. A reply is stripped; its letter is the character before the
first ")", or its first character where there is none. An empty reply makes that code fail, so it is wrong and counted.
The gold letter is that of the first choice equal to the answer. Total: the share of all questions.
GroundVQA, where the questions come from, compares a reply with "(C) on the table" instead; that is not computed here.

Data: under the Ego4D licence agreement. Not verified: the hub's own file (a public copy was read), generated replies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from ..annotation import Entry, load_rows, place
from ..base import Benchmark, Example, Grade, Summary, by_task, mean
from ..letters import lenient_letter

LETTERS = "ABCDEFGH"
TASK = "mc"


class QAEgo4D(Benchmark):
    """The multiple-choice test set."""

    name: ClassVar[str] = "qaego4d"
    counts: ClassVar[Mapping[str, int]] = {TASK: 500}
    max_tokens: ClassVar[int] = 16
    prefix: ClassVar[str] = "Best option: ("

    def read(self, root: Path, partial: bool) -> Iterator[Example]:
        """The questions of all videos."""
        file = place(root, "test_mc.json", partial=partial)
        for video in load_rows(file) if file else ():
            for i, asked in enumerate(video.entries("conversations")):
                yield _example(video, asked, i)

    def prompt(self, example: Example) -> str:
        """The question with its options, the instruction."""
        options = "\n".join(f"({letter}) {o}" for letter, o in zip(LETTERS, example.options, strict=False))
        return f"Question: {example.question}\nOptions:\n{options}\nOnly give the best option."

    def grade(self, example: Example, response: Any) -> Grade:
        """The character before the first ")", else the first one, of the stripped reply."""
        said = response.strip() if isinstance(response, str) else ""
        if not said:  # ReKV's code fails here
            return Grade(0.0, task=example.task)
        end = said.find(")")
        # a ")" that comes first has an empty slice before it, said[-1:0]
        letter = said[end - 1 : end] if end >= 0 else said[0]
        return Grade(float(letter == example.gold), task=example.task, parsed=letter)

    def tolerant(self, example: Example, response: Any) -> float | None:
        """By a lenient reader of letters."""
        return float(lenient_letter(response, example.options) == example.gold)

    def summarize(self, grades: Iterable[Grade]) -> Summary:
        """The share of right answers."""
        return Summary((mean("accuracy", by_task(grades, self.counts).get(TASK, [])),), total="accuracy")


def _example(video: Entry, asked: Entry, number: int) -> Example:
    options, answer, duration = asked.texts("choices"), asked.text("answer"), video.duration()
    if len(options) > len(LETTERS):
        raise asked.wrong(f"{len(options)} choices, and there are letters for {len(LETTERS)}")
    if answer not in options:
        raise asked.wrong(f"the answer {answer!r} is none of the choices")
    evidence = asked.spans("temporal_windows")
    if late := [end for _, end in evidence if end > duration]:
        raise asked.wrong(f"a temporal window ends at {late[0]:g} s in a video of {duration:g} s")
    return Example(
        id=f"{video.text('video_id')}/{number}",
        video=PurePosixPath(video.text("video_path")).name,
        task=TASK,
        question=asked.text("question"),
        options=options,
        gold=LETTERS[options.index(answer)],
        evidence=evidence,
        extra={"duration": duration},
    )
