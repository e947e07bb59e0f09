"""OVO-Bench: what was, what is, and whether enough has been seen yet (CVPR 2025, github.com/JoeLeelyf/OVO-Bench).

Annotation: `ovo_bench_new.json`, 1640 entries: nine tasks of multiple choice, and REC, SSR and CRR, whose entries hold
several queries each (`test_info`): 3035 queries, each independent of the others. CC BY-NC-SA 4.0.
Videos: `videos/<video>`, or `src_videos/<video>` as the archive names that folder.
Seen: [0, ceil(realtime)] seconds, as the official clips are cut; less where the video is shorter.
Rule: the gold letter anywhere in the reply, case and words regardless, so that "Answer: C" is also A, and "ABCDE" is
always right. REC: all digits of the reply in one ("1 2" is 12). SSR, CRR: "Y" and "N" alone, else "Yes" or "No"
anywhere ("Not sure" is a No, "yes" is none). No reply is wrong. A list is searched as a list; REC raises on it.
Totals: a task is the mean over its queries, a group the mean of its tasks, the total the mean of the three groups. (The
paper describes a mean of each entry's queries for the forward tasks; the code that made its table is flat.)
Gold: `gt`, an index; `answer` is free text that need not be among the options. Two options of entry 1303 are the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from string import ascii_uppercase
from typing import Any, ClassVar

from ..annotation import Entry, finite, load_rows, place
from ..base import Benchmark, Example, Grade, Span, Summary, by_task, macro, mean
from ..letters import lenient_letter

GROUPS = {
    "backward": ("EPM", "ASI", "HLD"),
    "realtime": ("OCR", "ACR", "ATR", "STU", "FPD", "OJR"),
    "forward": ("REC", "SSR", "CRR"),
}
TASKS = tuple(task for group in GROUPS.values() for task in group)
CHOICE = (*GROUPS["backward"], *GROUPS["realtime"])

# Wording: OVO-Bench constant.py, read in the copy that lmms-eval keeps with that address (lmms_eval/tasks/ovobench,
# commit 0379ab1); OVO-Bench utils/OVOBench.py (commit 19677d2) holds the same sentences, indented.
_ONLY = "Do not include any additional text or explanation in your response.\n"
_YES_NO = f"Answer only with “Yes” or “No”.\n{_ONLY}"
_CHOICE = (
    "\nQuestion: {}\nOptions:\n{}\n\n"
    f"Respond only with the letter corresponding to your chosen option (e.g., A, B, C). \n{_ONLY}"
)
PROMPTS = {
    "REC": (
        "\nYou're watching a video in which people may perform a certain type of action repetively. \n"
        "The person performing this kind of action are referred to as 'they' in the following statement.\n"
        "You're task is to count how many times have different people in the video perform this kind of action in "
        "total.\nOne complete motion counts as one. \nNow, answer the following question: {}\n"
        f"Provide your answer as a single number (e.g., 0, 1, 2, 3…) indicating the total count.\n{_ONLY}"
    ),
    "SSR": (
        "\nYou're watching a tutorial video which contain a sequential of steps. \n"
        "The following is one step from the whole procedures: \n{}\n"
        f"Your task is to determine if the man or woman in the video is currently performing this step.\n{_YES_NO}"
    ),
    "CRR": (
        "\nYou're responsible of answering questions based on the video content. \n"
        "The following question are relevant to the latest frames, i.e. the end of the video.\n{}\n"
        "Decide whether existing visual content, especially latest frames, i.e. frames that near the end of the "
        f"video, provide enough information for answering the question.\n{_YES_NO}"
    ),
}


class OVOBench(Benchmark):
    """OVO-Bench, as its repository scores it."""

    name = "ovo_bench"
    counts: ClassVar[Mapping[str, int]] = dict(
        zip(TASKS, (297, 148, 186, 149, 109, 116, 178, 101, 184, 698, 629, 240), strict=True)
    )

    def read(self, root: Path, partial: bool) -> Iterator[Example]:
        """A choice is one example, an entry of a forward task one for each of its queries."""
        path = place(root, "ovo_bench_new.json", partial=partial)
        for entry in load_rows(path) if path else ():
            task = entry.text("task")
            if task not in TASKS:
                raise entry.wrong(f"the task {task!r} is not one of {', '.join(TASKS)}: is it another version?")
            if task in CHOICE:
                yield _choice(entry, task)
            else:
                for i, query in enumerate(entry.entries("test_info")):
                    yield _forward(entry, task, query, i)

    def videos(self, root: Path, example: Example) -> tuple[Path, ...]:
        """Below `videos/`, or where the archive puts them."""
        return root / "videos" / example.video, root / "src_videos" / example.video

    def prompt(self, example: Example) -> str:
        """The question, step or activity in the words of its task."""
        if example.task not in CHOICE:
            return PROMPTS[example.task].format(example.question)
        lettered = (f"{x}. {option}" for x, option in zip(ascii_uppercase, example.options, strict=False))
        return _CHOICE.format(example.question, "; ".join(lettered) + ";")

    def grade(self, example: Example, response: Any) -> Grade:
        """The gold among what stands in the reply; for REC, all its digits read as one number."""
        if example.task == "REC":
            digits = "".join(re.findall(r"\d+", response)) if isinstance(response, str) else None
            return Grade(float(digits == str(example.gold)), task=example.task, parsed=digits)
        known = ascii_uppercase[: len(example.options)] if example.task in CHOICE else ("Yes", "No")
        if example.task not in CHOICE and response in ("Y", "N"):
            found = [{"Y": "Yes", "N": "No"}[response]]
        else:
            found = [word for word in known if _holds(response, word)]
        return Grade(float(example.gold in found), task=example.task, parsed="/".join(found) or None)

    def tolerant(self, example: Example, response: Any) -> float | None:
        """The option, number or yes or no that the reply most likely means."""
        if example.task in CHOICE:
            return float(lenient_letter(response, example.options) == example.gold)
        said = response.strip().casefold() if isinstance(response, str) else ""
        if example.task == "REC":
            numbers = re.findall(r"\d+", said)
            return float(len(numbers) == 1 and numbers[0].lstrip("0") == str(example.gold).lstrip("0"))
        word = re.match(r"\W*(y|yes|n|no)\b", said)
        return float(word is not None and word[1][0] == example.gold[0].casefold())

    def summarize(self, grades: Iterable[Grade]) -> Summary:
        """Tasks, the three groups, and their mean."""
        tasks = [mean(task, mine) for task, mine in by_task(grades, TASKS).items()]
        groups = [macro(name, [s for s in tasks if s.name in group]) for name, group in GROUPS.items()]
        return Summary((*tasks, *groups, macro("total", groups)))


def _holds(response: Any, word: str) -> bool:
    try:
        return word in response
    except TypeError:  # None, or what can hold nothing: the official scorer gives 0, or raises
        return False


def _realtime(entry: Entry) -> tuple[float, Span]:
    """When it is asked, and what may be seen then."""
    at = entry.number("realtime")
    if at < 0:
        raise entry.wrong(f"'realtime' is {at:g} s, and must be from 0")
    return at, (0.0, float(math.ceil(at)))


def _choice(entry: Entry, task: str) -> Example:
    options, gt, (at, span) = entry.texts("options"), entry.whole("gt"), _realtime(entry)
    if not 0 <= gt < len(options) <= len(ascii_uppercase):
        raise entry.wrong(f"'gt' is {gt}, and there are {len(options)} options")
    return Example(
        id=str(entry.whole("id")),
        video=entry.text("video"),
        task=task,
        question=entry.text("question"),
        options=options,
        gold=ascii_uppercase[gt],
        at=at,
        span=span,
        extra={"answer": entry.text("answer", empty=True)},
    )


def _forward(entry: Entry, task: str, query: Entry, i: int) -> Example:
    at, span = _realtime(query)
    gold: int | str
    if task == "REC":
        question, gold = f"How many times did they {entry.text('activity')}?", query.whole("count")
        evidence = [(a, b) for a, b in _spans(entry, "start_times", "end_times") if b <= at]  # those that count
    else:
        kind = query.whole("type")
        if kind not in (0, 1):
            raise query.wrong(f"'type' is {kind}, and must be 0 or 1")
        gold = ("No", "Yes")[kind]
        if task == "SSR":
            question = query.text("step")
            steps = zip(entry.texts("all_steps"), _spans(entry, "start_time", "end_time"), strict=False)
            evidence = [(a, min(b, at)) for step, (a, b) in steps if step == question and a <= at]
        else:
            question, clue = entry.text("question"), entry.number("clue_time")
            evidence = [(clue, clue)] if clue <= at else []
    return Example(
        id=f"{entry.whole('id')}_{i}",
        video=entry.text("video"),
        task=task,
        question=question,
        options=(),
        gold=gold,
        at=at,
        span=span,
        evidence=tuple(evidence),
    )


def _spans(entry: Entry, starts: str, ends: str) -> list[Span]:
    """Two lists of times as spans."""
    first, last = entry.field(starts, list), entry.field(ends, list)
    times = [*first, *last]
    if len(first) != len(last) or not all(map(finite, times)):
        raise entry.wrong(f"{starts!r} and {ends!r} must be times in seconds, as many of one as of the other")
    return [(float(a), float(b)) for a, b in zip(first, last, strict=True)]
