"""MLVU, its development set: seven multiple-choice tasks about long videos, M-Avg.

Files: `1_plotQA.json` to `7_topic_reasoning.json` as in the repository's data/ (a list of `video`, `duration` in
seconds, `question`, `candidates`, `answer` as text, `question_type`); 2,175 questions. Files 8 and 9 are generation
tasks, which a judge scores: they are no part of M-Avg and not read. The whole video is visible. Videos lie in a folder
named as the file: `1_plotQA/x.mp4` (the published data set has them below `video/`).

Prompt, rule: github.com/JUNJIE99/MLVU, evaluation/multiple_choice_evaluation/choice_bench.py, read in its copies at
FlagOpen/FlagEmbedding 0c4df7a, MLVU/evaluation/. Its system text is put before the question, for a stream's system
prompt stands before the video and is fixed. The new line before the instruction and the length are those of
video_chat/choice_bench.py at JUNJIE99/MLVU 0b16f40; the template itself leaves both to the model.

Rule: where a reply holds ")", the character before the first one, else all of it, must equal the letter: no strip, no
folding of case. Evaluated models' code strips the decoded text before that, and so does a run here. Oddities: the gold
letter is that of the *last* candidate equal to the answer, and "@" where none is (needle_4, needle_5), which no letter
equals; one question (movie101_89) is empty, as are its four candidates. Total: the mean of the seven task accuracies
(the script's first release printed the mean over all questions instead).

Data: CC BY-NC-SA 4.0, research only. Not verified: the data set's own card, and generated replies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from ...types import Answer
from ..annotation import Entry, load_rows, place
from ..base import Benchmark, Example, Grade, Summary, by_task, macro, mean
from ..letters import lenient_letter

SYSTEM = (
    "Carefully watch this video and pay attention to every detail. "
    "Based on your observations, select the best option that accurately addresses the question."
)
FILES = {  # task: the file and folder, and what its rows call the task
    "plotQA": ("1_plotQA", "plotQA"),
    "needle": ("2_needle", "findNeedle"),
    "ego": ("3_ego", "ego"),
    "count": ("4_count", "count"),
    "order": ("5_order", "order"),
    "anomaly_reco": ("6_anomaly_reco", "anomaly_reco"),
    "topic_reasoning": ("7_topic_reasoning", "topic_reasoning"),
}


class MLVU(Benchmark):
    """The development set's multiple-choice tasks."""

    name: ClassVar[str] = "mlvu"
    counts: ClassVar[Mapping[str, int]] = {
        "plotQA": 539,
        "needle": 355,
        "ego": 352,
        "count": 206,
        "order": 259,
        "anomaly_reco": 200,
        "topic_reasoning": 264,
    }
    max_tokens: ClassVar[int] = 100  # video_chat/choice_bench.py
    prefix: ClassVar[str] = "Best Option: ("

    def read(self, root: Path, partial: bool) -> Iterator[Example]:
        """The questions of the seven files."""
        for task, (stem, kind) in FILES.items():
            file = place(root, f"{stem}.json", f"data/{stem}.json", f"json/{stem}.json", partial=partial)
            for i, row in enumerate(load_rows(file) if file else ()):
                if row.text("question_type") != kind:
                    raise row.wrong(f"'question_type' is {row.text('question_type')!r}, and must be {kind!r}")
                yield _example(row, task, f"{stem}/{row.text('video')}", f"{task}/{i}")

    def videos(self, root: Path, example: Example) -> tuple[Path, ...]:
        """Below `videos/`, or below `video/` as in the published data set."""
        return root / "videos" / example.video, root / "video" / example.video

    def prompt(self, example: Example) -> str:
        """The system text, the question with its options, the instruction."""
        options = "".join(f"({chr(ord('A') + i)}) {option}\n" for i, option in enumerate(example.options))
        asked = f"Question: {example.question}\nOptions:\n{options}".rstrip()
        return f"{SYSTEM}\n{asked}\nOnly give the best option."

    def response(self, answer: Answer) -> Any:
        """The text without white space around it, as the evaluated models' code hands it to the rule."""
        return answer.text.strip()

    def grade(self, example: Example, response: Any) -> Grade:
        """The character before the first ")", else the whole reply, against the letter."""
        if not isinstance(response, str):  # the script fails on these, or finds a list equal to no letter
            return Grade(0.0, task=example.task)
        end = response.find(")")
        # a ")" that comes first has an empty slice before it, response[-1:0]
        said = response[end - 1 : end] if end >= 0 else response
        return Grade(float(said == example.gold), task=example.task, parsed=said)

    def tolerant(self, example: Example, response: Any) -> float | None:
        """By a lenient reader of letters."""
        return float(lenient_letter(response, example.options) == example.gold)

    def summarize(self, grades: Iterable[Grade]) -> Summary:
        """Each task, then the mean of the tasks."""
        tasks = [mean(task, mine) for task, mine in by_task(grades, self.counts).items()]
        return Summary((*tasks, macro("M-Avg", tasks)), total="M-Avg")


def _example(row: Entry, task: str, video: str, name: str) -> Example:
    options, answer = row.texts("candidates"), row.text("answer", empty=True)
    last = max((i for i, option in enumerate(options) if option == answer), default=-1)
    return Example(
        id=name,
        video=video,
        task=task,
        question=row.text("question", empty=True),
        options=options,
        gold=chr(ord("A") + last),
        extra={"answer": answer, "duration": row.duration()},
    )
