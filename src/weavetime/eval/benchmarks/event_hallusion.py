"""EventHallusion: yes/no questions about short clips whose events are unusual, in three splits.

Files: `entire_questions.json`, `interleave_questions.json`, `misleading_questions.json` of the repository's questions/:
a list of `id`, `category`, `length`, `event_info`, `questions` of `type`, `question`, `answer` "Yes." or "No."; 409
questions about 397 clips. The whole clip is visible. A clip is `{split}/{id}.mp4`.

Prompt: the question, a new line, "Please answer yes or no:" (github.com/Stevetich/EventHallusion 3c7efa1,
inference_template/videollava/eval/self_bench/run_inference.py, and run_gpt4o.py). They let a model write up to 1,024
tokens, but the rule reads only how a reply begins, so a shorter limit here changes no grade.

Rule (eval.py at the same commit): a reply in lower case that starts with "yes" is Yes, with "no" is No, else neither,
which is wrong and counted; no strip, though the inference code strips the decoded text, and so does a run here.
Oddities: "Not sure" is No, "yesterday" is Yes. Totals: each split, and the share of all questions. Every answer of
`entire` and `misleading` is No, every one of `interleave` Yes: always-No scores 216 of 409. A later annotation has
other questions and answers under the same counts; it is refused unless partial is said. The accuracy of descriptions
needs the authors' judge and is not computed.

Data: no licence stated. Not verified: generated replies beyond the authors' published samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from ...errors import DataError
from ...types import Answer
from ..annotation import Entry, load_rows, place
from ..base import Benchmark, Example, Grade, Summary, by_task, mean

GOLDS = {"Yes.": "Yes", "No.": "No"}
PUBLISHED = {"entire": "No", "interleave": "Yes", "misleading": "No"}
"""The answer of every question of a split."""


class EventHallusion(Benchmark):
    """The binary questions."""

    name: ClassVar[str] = "event_hallusion"
    counts: ClassVar[Mapping[str, int]] = {"entire": 114, "interleave": 193, "misleading": 102}
    max_tokens: ClassVar[int] = 16

    def examples(self, root: str | Path, *, partial: bool = False) -> list[Example]:
        """As of every benchmark; refuses an annotation of the same counts whose answers are not those published."""
        found = super().examples(root, partial=partial)
        if other := [] if partial else [e for e in found if e.gold != PUBLISHED[e.task]]:
            raise DataError(
                f"{root}: {len(other)} answers are not as published, the first of {other[0].id}: the files are another "
                "version, whose scores compare with no published ones; fetch those of 3c7efa1, or say partial"
            )
        return found

    def read(self, root: Path, partial: bool) -> Iterator[Example]:
        """The questions of the three splits."""
        for split in self.counts:
            file = place(root, f"{split}_questions.json", f"questions/{split}_questions.json", partial=partial)
            for clip in load_rows(file) if file else ():
                for i, asked in enumerate(clip.entries("questions")):
                    yield _example(clip, asked, split, i)

    def prompt(self, example: Example) -> str:
        """The question and the instruction."""
        return f"{example.question}\nPlease answer yes or no:"

    def response(self, answer: Answer) -> Any:
        """The text without white space around it, as the authors' inference code writes it."""
        return answer.text.strip()

    def grade(self, example: Example, response: Any) -> Grade:
        """How the reply begins, in lower case."""
        # the script fails on anything but text and None
        said = _begins(response.lower()) if isinstance(response, str) else None
        return Grade(float(said == example.gold), task=example.task, parsed=said)

    def tolerant(self, example: Example, response: Any) -> float | None:
        """By the first word, whatever stands around it."""
        words = response.split() if isinstance(response, str) else []
        first = words[0].strip("\"'*.,:;!()").lower() if words else ""
        return float(first == example.gold.lower())

    def summarize(self, grades: Iterable[Grade]) -> Summary:
        """Each split, then all questions."""
        splits = by_task(grades, self.counts)
        every = [grade for mine in splits.values() for grade in mine]
        scores = [mean(split, mine) for split, mine in splits.items()]
        return Summary((*scores, mean("overall", every)), total="overall")


def _begins(said: str) -> str | None:
    if said.startswith("yes"):
        return "Yes"
    return "No" if said.startswith("no") else None


def _example(clip: Entry, asked: Entry, split: str, number: int) -> Example:
    name, answer = clip.text("id"), asked.text("answer")
    if answer not in GOLDS:
        raise asked.wrong(f"the answer is {answer!r}, and must be one of {', '.join(GOLDS)}")
    return Example(
        id=f"{name}/{number}",
        video=f"{split}/{name}.mp4",
        task=split,
        question=asked.text("question"),
        options=(),
        gold=GOLDS[answer],
    )
