"""ActivityNet-QA, its test set: open questions about short videos, answered in a word or few.

Files: `test_q.json` (`question_id`, `video_name`, `question`) and `test_a.json` (`question_id`, `answer`, `type`),
8,000 each about 800 videos `v_<video_name>`, in any of several formats. The whole video is visible.

Prompt: the question with a capital and a question mark, as ReKV's converted file has it (data/activitynet_qa/test.json,
20 of its questions compared), at most 1,024 tokens (video_qa/rekv_offline_vqa.py, read in its copy at ayofine12/ReKV
5ba663c).

Rule: github.com/MILVLG/activitynet-qa, evaluation/eval.py at b28aadd: the reply must equal the answer as it stands; one
that is missing is wrong. Figures: each of the nine types (0 to 2 of the question, 3 to 8 of the answer), `free` over
types 3 to 8, `all` over everything. Oddity: eval.py sums the rows of the types that come fourth and later *in the file*
where it means types 3 to 8; in test_a.json these are 4,021 rows for 5,600, so that what it prints for `free` is 1.39
times too high. `free` here is over the 5,600; `free as printed` is eval.py's.
Later work grades these answers by a judge: judge.py.

Data: Apache-2.0. Verified: both files in full.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from ...types import Question
from ..annotation import Entry, load_rows, place
from ..base import Benchmark, Example, Grade, Score, Summary, by_task, mean
from ..judge import judge_scores
from ..letters import same_words

TYPES = ("motion", "spatial", "temporal", "yes/no", "color", "object", "location", "number", "other")
FREE = TYPES[3:]
PRINTED = ("number", "object", "motion", "color", "temporal", "spatial")  # fourth and later in test_a.json
FORMATS = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".flv")


class ActivityNetQA(Benchmark):
    """The test set."""

    name: ClassVar[str] = "activitynet_qa"
    counts: ClassVar[Mapping[str, int]] = {
        "motion": 800,
        "spatial": 800,
        "temporal": 800,
        "yes/no": 2094,
        "color": 697,
        "object": 318,
        "location": 386,
        "number": 606,
        "other": 1499,
    }
    max_tokens: ClassVar[int] = 1024
    open_answers: ClassVar[bool] = True

    def read(self, root: Path, partial: bool) -> Iterator[Example]:
        """The questions with their answers, joined by their ids. partial: questions may be fewer than answers."""
        asked, told = (place(root, name, f"dataset/{name}") for name in ("test_q.json", "test_a.json"))
        assert asked is not None
        assert told is not None
        answers = {row.text("question_id"): row for row in load_rows(told)}
        for row in load_rows(asked):
            answer = answers.pop(row.text("question_id"), None)
            if answer is None:
                raise row.wrong(f"{told.name} has no answer to {row.text('question_id')}, or the question came before")
            yield _example(row, answer)
        if answers and not partial:
            raise next(iter(answers.values())).wrong(f"{asked.name} has no such question")

    def videos(self, root: Path, example: Example) -> tuple[Path, ...]:
        """Below `videos/`, in any of the formats that they are fetched in."""
        place = root / "videos" / example.video
        return tuple(place.with_name(place.name.removesuffix(".mp4") + end) for end in FORMATS)

    def prompt(self, example: Example) -> str:
        """The question alone."""
        said = example.question.strip()
        return said[:1].upper() + said[1:] + ("" if said.endswith("?") else "?")

    def question(self, example: Example) -> Question:
        """Retrieval reads what is asked, as it is asked."""
        return Question(self.prompt(example))

    def grade(self, example: Example, response: Any) -> Grade:
        """Equal as it stands: no strip, no folding of case."""
        right = isinstance(response, str) and response == example.gold
        return Grade(float(right), task=example.task, parsed=response if isinstance(response, str) else None)

    def tolerant(self, example: Example, response: Any) -> float | None:
        """The same words, whatever their case and a full stop."""
        return same_words(response, example.gold)

    def summarize(self, grades: Iterable[Grade]) -> Summary:
        """Types, free, all, and the judge's figures where there was one."""
        every = list(grades)
        types = by_task(every, TYPES)
        free = [g for task in FREE for g in types.get(task, ())]
        scores = [mean(task, mine) for task, mine in types.items()]
        if free:
            scores += [mean("free", free), _printed(free, sum(len(types.get(task, ())) for task in PRINTED))]
        return Summary((*scores, mean("all", every), *judge_scores(every)), total="all")


def _printed(free: list[Grade], rows: int) -> Score:
    """`free` as eval.py prints it; it can be above 1."""
    right = math.fsum(g.value for g in free)
    return Score("free as printed", right / rows if rows else None, rows, len(free))


def _example(row: Entry, answer: Entry) -> Example:
    kind = answer.whole("type")
    if not 0 <= kind < len(TYPES):
        raise answer.wrong(f"'type' is {kind}, and must be from 0 to {len(TYPES) - 1}")
    return Example(
        id=row.text("question_id"),
        video=f"v_{row.text('video_name')}.mp4",
        task=TYPES[kind],
        question=row.text("question"),
        options=(),
        gold=answer.text("answer"),
    )
