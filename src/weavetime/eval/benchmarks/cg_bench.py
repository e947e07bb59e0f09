"""CG-Bench, its mini set: multiple choice about long videos, and which intervals of the video hold the clue.

File: `cgbench_mini.json`, a list of `qid`, `video_uid`, `question`, `answer`, `choices` (5 to 8), `right_answer` (a
letter), `clue_intervals` ([[start, end]], seconds), `domain`, `sub_category`, `duration`; 3,000 questions. Numbers of
rows by sub-category are not published. Videos are `<video_uid>.mp4`.

Variants (`metric`): `long_acc` sees the whole video; `clue_acc` only the clue intervals; `miou` sees the whole video
and answers with intervals, as text or as the list itself.

Prompts and rules: github.com/CG-Bench/CG-Bench, run/utils.py (SYS, get_prompt, post_process) at 440b30c, without
subtitles and list of frame times, which that script leaves out with `--sub false --frame_time false`; a stream's own
time prompts say the time. The script sets no length of reply.

Rules, oddities included. Choices: the `result` of the first ```json block must equal the letter; without a readable
block, any capital A to H that stands alone counts, so that "A/B" is right for both. A reply with neither is left out of
the denominator, as is an empty one. Overlap: the intersection over the union of the two merged lists; without a
readable block all numbers of the reply in pairs, nothing where they are odd in number, and 0 where there are none.
Paired numbers that overlap make the script fail, as does a reply that is no text: 0 and counted here (its run logs the
failure and leaves the row out). Intervals beyond the fifth count though the prompt says that they do not, and intervals
that end before they start can carry an overlap above 1. As a run keeps one file a `qid`, a repeated one is one question
there.

Totals: the mean, and for overlap rec@IoU too, the mean share of overlaps that reach 0.1, 0.2, 0.3, 0.4, 0.5
(stat_with_key.py of the same repository, read in a copy). Sub-categories are not in the official print. acc@IoU needs
two runs and is not computed.

Data: gated; MIT by a copy of its card, its repository states none. Not verified: the whole file (17 of its rows were
at hand), published totals.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any, ClassVar

from ...config import Decoding
from ...errors import DataError
from ..annotation import Entry, load_rows, place
from ..base import Benchmark, Example, Grade, Span, Summary, by_task, mean
from ..letters import lenient_letter

_CHOICES = (
    "You will be provided with sampled frames from a video, along with a multiple-choice question that includes a "
    "question and several answer options.\nYour task is to analyze the provided frames, infer the most plausible "
    "answer based on the visual information.\nIf the video does not provide enough information, infer the answer "
    "based on the options available and still provide a result. Therefore, In all cases, an answer must be given.\n"
    'Only output the answer in the following format:\n\n```json\n{"result": "option"}\n```\n\n'
)
SYSTEM = {
    "long_acc": _CHOICES + 'The "option" is the uppercase letter corresponding to your answer.\n\n',
    "clue_acc": _CHOICES + "The 'option' is the uppercase letter corresponding to your answer.\n\n",
    "miou": (
        "You will be provided with uniformly sampled frames from a video and their timestamps, along with a "
        "multiple-choice question that includes a question and several answer options.\nYour task is to determine in "
        "which intervals the 'clue intervals' exist that contain visual information needed to answer the question.\n"
        'Only output the answer in the following format:\n\n```json\n{"result": [[start1, end1], [start2, end2], ...]}'
        "\n```\n\nIn this output format, each 'start' and 'end' represents the beginning and end of an interval in "
        "seconds where relevant clues can be found.\nYou must provide at least one interval and at most five "
        "intervals. Intervals exceeding five will NOT be considered valid.\n"
    ),
}
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)
PARTS = ("miou", "rec@iou", *(f"rec@{t}" for t in THRESHOLDS))
MOST = 14  # choices, of the whole data set
# what reading a block can raise; the script takes any exception
_UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)


@dataclass(frozen=True, kw_only=True)
class CGBench(Benchmark):
    """The mini set. metric: `long_acc`, `clue_acc` or `miou`."""

    metric: str = "long_acc"

    name: ClassVar[str] = "cg_bench"
    counts: ClassVar[Mapping[str, int]] = {"total": 3000}
    max_tokens: ClassVar[int] = 128

    def __post_init__(self) -> None:
        if not isinstance(self.metric, str) or self.metric not in SYSTEM:
            raise DataError(f"cg_bench has no metric {self.metric!r}: there are {', '.join(SYSTEM)}")

    def read(self, root: Path, partial: bool) -> Iterator[Example]:
        """The questions of the mini set. partial: rows may be repeated, as in a sample."""
        file = place(root, "cgbench_mini.json", partial=partial)
        seen: Counter[int] = Counter()
        for row in load_rows(file) if file else ():
            number = row.whole("qid")
            again = seen[number] if partial else 0
            seen[number] += 1
            yield _example(row, f"{number}/{again}" if again else str(number))

    def spans(self, example: Example) -> tuple[Span, ...]:
        """The clue intervals for `clue_acc`, else the whole video."""
        if self.metric != "clue_acc":
            return super().spans(example)
        return tuple((start, end) for start, end in _merged([list(span) for span in example.evidence]))

    def prompt(self, example: Example) -> str:
        """The task, the question, its choices."""
        choices = "\n".join(f"{x}:{said}" for x, said in zip(ascii_uppercase, example.options, strict=False))
        return f"{SYSTEM[self.metric]}Question: {example.question}\n\n{choices}\n\n"

    def decoding(self, example: Example) -> Decoding:
        """Greedily; five intervals take more tokens than a letter."""
        return Decoding(max_tokens=2 * self.max_tokens if self.metric == "miou" else self.max_tokens)

    def grade(self, example: Example, response: Any) -> Grade:
        """The block's result; without one, letters that stand alone, or numbers in pairs."""
        if self.metric == "miou":
            return _overlap(example, response)
        if not isinstance(response, str):  # the script takes None for unparsed and fails on what is no text
            return Grade(0.0, counted=bool(response), task=example.task)
        said = _letters(response)
        right = example.gold in said if isinstance(said, list) else example.gold == said
        return Grade(float(right), said != [], task=example.task, parsed=said)

    def tolerant(self, example: Example, response: Any) -> float | None:
        """By a lenient reader of letters; for overlap there is none."""
        if self.metric == "miou":
            return None
        said = _letters(response) if isinstance(response, str) and "```json" in response else None
        letter = said if isinstance(said, str) else lenient_letter(response, example.options)
        return float(letter == example.gold)

    def summarize(self, grades: Iterable[Grade]) -> Summary:
        """Sub-categories, then the mean over all."""
        every = list(grades)
        kinds = [mean(task, mine) for task, mine in by_task(every, sorted({g.task for g in every})).items()]
        if self.metric == "miou":
            return Summary((*kinds, *(mean(part, every, part) for part in PARTS)), total="miou")
        return Summary((*kinds, mean(self.metric, every)), total=self.metric)


def _example(row: Entry, name: str) -> Example:
    choices, gold, duration = row.texts("choices"), row.text("right_answer"), row.duration()
    if not 2 <= len(choices) <= MOST:
        raise row.wrong(f"{len(choices)} choices, and must be from 2 to {MOST}")
    if len(gold) != 1 or gold not in ascii_uppercase[: len(choices)]:
        raise row.wrong(f"'right_answer' is {gold!r}, and must be the letter of one of {len(choices)} choices")
    clues = row.spans("clue_intervals")
    if not clues:
        raise row.wrong("'clue_intervals' is empty")
    return Example(
        id=name,
        video=f"{row.text('video_uid')}.mp4",
        task=row.text("sub_category"),
        question=row.text("question"),
        options=choices,
        gold=gold,
        evidence=clues,
        extra={"domain": row.text("domain"), "duration": duration, "answer": row.text("answer", empty=True)},
    )


def _block(response: str) -> str:
    """What the first ```json block holds, "" where there is none."""
    start = response.find("```json")
    end = response.find("```", start + len("```json"))
    return response[start + len("```json") : end].strip() if start >= 0 and end >= 0 else ""


def _letters(response: str) -> Any:
    """The result of the block, of any type; else the list of letters that stand alone, empty where the reply says
    nothing.
    """
    if block := _block(response):
        quoted = re.sub(r"(?<=:\s)([A-Za-z_]\w*)", r'"\1"', block)  # {"result": A}
        try:
            said = json.loads(quoted)["result"]
        except _UNREADABLE:
            pass
        else:
            return repr(said) if isinstance(said, list) else said  # a list equals no letter
    return re.findall(r"\b[A-H]\b", response)


def _overlap(example: Example, response: Any) -> Grade:
    """How far the intervals of a reply overlap the clue's, 0 to 1."""
    none = dict.fromkeys(PARTS, 0.0)
    try:
        text = response if isinstance(response, str) else _as_block(response)
        found, said = _best(text, [list(span) for span in example.evidence])
    except _UNREADABLE:
        return Grade(0.0, parts=none, task=example.task)
    if found is None:
        return Grade(0.0, counted=False, parts=none, task=example.task)
    reached = {f"rec@{t}": float(found >= t) for t in THRESHOLDS}
    parts = {"miou": found, "rec@iou": sum(reached.values()) / len(reached), **reached}
    return Grade(found, parts=parts, task=example.task, parsed=said)


def _as_block(response: Any) -> str:
    """A list of intervals as the text that would hold it."""
    if response is None:
        return ""
    if not isinstance(response, list | tuple):
        raise TypeError(response)
    return f"```json\n{json.dumps({'result': response})}\n```"


def _best(text: str, clues: list[Any]) -> tuple[float | None, Any]:
    """The overlap of the block's intervals, else that of the numbers in pairs; None where nothing can be read."""
    if block := _block(text):
        try:
            said = json.loads(block)["result"]
            return _iou(said, clues), said
        except _UNREADABLE:
            pass
    numbers = [float(x) for x in re.findall(r"-?\d+\.?\d*", text)]
    if not text or len(numbers) % 2:
        return None, None
    pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
    return _iou(pairs, clues), pairs


def _iou(said: Any, clues: list[Any]) -> float:
    ours, theirs = _merged(said), _merged(clues)
    both = 0
    length = sum(end - start for start, end in ours) + sum(end - start for start, end in theirs)
    for a in ours:
        for b in theirs:
            both += max(0, min(a[1], b[1]) - max(a[0], b[0]))
    return float(both / (length - both)) if length - both > 0 else 0.0


def _merged(intervals: Any) -> list[Any]:
    """Intervals by their starts, those that touch joined. Fails on pairs that cannot be changed, as the script does."""
    if not intervals:
        return []
    intervals.sort(key=lambda span: span[0])
    found = [intervals[0]]
    for span in intervals[1:]:
        if span[0] <= found[-1][1]:
            found[-1][1] = max(found[-1][1], span[1])
        else:
            found.append(span)
    return found
