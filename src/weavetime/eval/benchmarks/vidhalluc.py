"""VidHalluc, its multiple-choice questions about action hallucination (ACH): one or more options are right.

Format unverified: `ach_mcq.json` is published on huggingface.co/datasets/chaoyuli/VidHalluc alone and was not at hand;
its fields are those that the repository's code reads (github.com/Vid-Halluc/VidHalluc, eval/inference/
video_hallu_mcq.py at 7a1ab80): an object of groups, each an object of clips with `Question`, `Choices` (letter: text)
and `Correct Answer` (letters, such as "AC"). WeaveTime's conversion, `ach_mcq_rekv.json` (a list of `video_id`,
`conversations` with `question`, `choices` and one `answer` as text), is read too; as its converter fails on two
letters, every answer of the release it read was one. The numbers of rows are not known. Videos: `<clip>.mp4`, in
`data/ACH/` as published or in `videos/`. The whole clip is visible.

Prompt: the same file, 1,024 tokens. Rule: eval/evaluation/eval_mcq.py at 7e26696: the capitals A to D that stand alone
must be, as a set, those of the answer; where none stands alone, the first option whose words, in small letters, are in
the reply is the answer, alone; neither is wrong. Every question counts. A reply that is no text makes the script fail:
0 and counted. One oddity is not followed: in a reply such as "AC" no letter stands alone, so that the script finds none
though the prompt asks for replies like "ABCD"; a reply of nothing but letters is read as those here, and what the
script makes of it is the part "as printed".

Data: its card was not at hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from ..annotation import Entry, load_json, load_rows, place
from ..base import Benchmark, Example, Grade, Summary, mean
from ..letters import lenient_letter

TASK = "ach_mcq"
PRINTED = "as printed"
LETTERS = "ABCD"
ASK = " Please select the correct answer (one or more options), only return your answer(s). (e.g., ABCD)\nChoices:\n"


class VidHalluc(Benchmark):
    """ACH, multiple choice."""

    name: ClassVar[str] = "vidhalluc"
    counts: ClassVar[Mapping[str, int]] = {}
    max_tokens: ClassVar[int] = 1024
    unverified: ClassVar[bool] = True

    def read(self, root: Path, partial: bool) -> Iterator[Example]:
        """The questions of the published file, or of the converted one."""
        file = place(root, "ach_mcq.json", "ach_mcq_rekv.json")
        assert file is not None
        found = load_json(file)
        if isinstance(found, list):
            yield from _converted(load_rows(file))
            return
        groups = Entry.of(found, str(file))
        for group in groups.data:
            clips = Entry.of(groups.field(group, dict), f"{file}, group {group}")
            for clip in clips.data:
                yield _published(Entry.of(clips.data[clip], f"{file}, group {group}, clip {clip}"), group, clip)

    def videos(self, root: Path, example: Example) -> tuple[Path, ...]:
        """In `data/ACH/` as published, or in `videos/`."""
        return root / "data" / "ACH" / example.video, root / "videos" / example.video

    def prompt(self, example: Example) -> str:
        """The question, what to return, the choices."""
        return f"{example.question}{ASK}" + "".join(f"{letter}. {said}\n" for letter, said in _choices(example))

    def grade(self, example: Example, response: Any) -> Grade:
        """Letters that stand alone, else the first option in the reply, as a set against the answer's."""
        if not isinstance(response, str):
            return Grade(0.0, parts={PRINTED: 0.0}, task=example.task)
        printed = self._said(example, response)
        said = set(response.strip()) if re.fullmatch(r"\s*[A-D]{2,}\s*", response) else printed
        gold = set(example.gold)
        parts = {PRINTED: float(printed == gold)}
        return Grade(float(said == gold), parts=parts, task=example.task, parsed="".join(sorted(said)))

    def _said(self, example: Example, response: str) -> set[str]:
        """The letters that the published script finds."""
        said = set(re.findall(r"\b[A-D]\b", response))
        if not said:
            words = response.lower()
            said = set(next((letter for letter, text in _choices(example) if text.lower() in words), ""))
        return said

    def tolerant(self, example: Example, response: Any) -> float | None:
        """Letters that touch are read too, and small ones."""
        if not isinstance(response, str):
            return 0.0
        bare = re.sub(r"(?i)\band\b", " ", response)
        if re.fullmatch(r"[\W_A-D]+|[\W_a-d]+", bare):
            return float(set(re.findall("[A-D]", bare.upper())) == set(example.gold))
        return max(
            self.grade(example, response).value, float(lenient_letter(response, example.options) == example.gold)
        )

    def summarize(self, grades: Iterable[Grade]) -> Summary:
        """The share of right sets, and by the script as printed."""
        every = list(grades)
        return Summary((mean("accuracy", every), mean(PRINTED, every, PRINTED)), total="accuracy")


def _choices(example: Example) -> Iterator[tuple[str, str]]:
    """Letters, in the order of the file, and their texts."""
    return zip(example.extra.get("letters", LETTERS), example.options, strict=False)


def _published(row: Entry, group: str, clip: str) -> Example:
    choices = Entry.of(row.field("Choices", dict), f"{row.where}, Choices")
    letters = "".join(choices.data)
    if len(choices.data) < 2 or len(set(letters)) != len(choices.data) or not set(letters) <= set(LETTERS):
        raise choices.wrong(f"its letters are {', '.join(choices.data) or 'none'}, and must be of A to D, two or more")
    said = row.text("Correct Answer").strip().upper()
    gold = "".join(sorted(set(re.findall("[A-D]", said))))
    if not gold or not set(gold) <= set(letters):
        raise row.wrong(f"'Correct Answer' is {said!r}, and must be of the letters {letters}")
    options = tuple(choices.text(letter, empty=True) for letter in choices.data)
    return _example(f"{group}/{clip}", clip, row.text("Question"), options, (letters, gold))


def _converted(rows: Iterable[Entry]) -> Iterator[Example]:
    for i, row in enumerate(rows):
        for j, asked in enumerate(row.entries("conversations")):
            options, answer = asked.texts("choices"), asked.text("answer")
            if answer not in options or not 2 <= len(options) <= len(LETTERS):
                raise asked.wrong(f"{answer!r} must be one of 2 to {len(LETTERS)} choices")
            letters, clip = LETTERS[: len(options)], row.text("video_id")
            gold = letters[options.index(answer)]
            yield _example(f"{clip}/{i}.{j}", clip, asked.text("question"), options, (letters, gold))


def _example(name: str, clip: str, question: str, options: tuple[str, ...], key: tuple[str, str]) -> Example:
    letters, gold = key
    return Example(
        id=name,
        video=f"{clip}.mp4",
        task=TASK,
        question=question,
        options=options,
        gold=gold,
        extra={"letters": letters},
    )
