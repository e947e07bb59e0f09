"""EgoSchema: 5,031 questions of five options about clips of three minutes; the answers of 500 are public.

Files: `questions.json` (a list of `q_uid`, `google_drive_id`, `question`, `option 0` to `option 4`) and
`subset_answers.json` ({q_uid: index}) of github.com/egoschema/EgoSchema 505c787. The whole clip, `{q_uid}.mp4`, is
visible. By default the 500 with an answer are asked; `full=True` asks all, of which the others have no gold and count
in no figure: a server scores them, from what `submission` makes. Report the two apart.

The authors publish neither prompt nor parser: both are lmms-eval's (EvolvingLMMs-Lab/lmms-eval 73d84e9,
lmms_eval/tasks/egoschema/utils.py; 16 tokens in _default_template_yaml). Its options carry their letters ("A. C is
cooking.": rows logged in issue #394). Rule: ",.!?;:'" are each stripped once, in this order; "(C)", "C " and "C." are
looked for anywhere, and of several found the one whose last occurrence comes first is taken; where none is found, a
reply of more than five words is searched for a whole option line, in lower case. Oddities: "C" is also what the
options call the camera wearer, so that prose names option C; "CIA is" names A. Where nothing is found lmms-eval draws
a letter at random; that is wrong and counted here, so a score can be below lmms-eval's by luck's share.

Data: no licence stated. Not verified: the server, which was not reached; the newest questions.json (a sample was read).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ...errors import DataError
from ..annotation import Entry, load_json, load_rows, place
from ..base import Benchmark, Example, Grade, Score, Summary, by_task, mean
from ..letters import lenient_letter

LETTERS = "ABCDE"
SUBSET, REST = "subset", "rest"


@dataclass(frozen=True, kw_only=True)
class EgoSchema(Benchmark):
    """full: ask all questions, not only those whose answer is public."""

    full: bool = False

    name: ClassVar[str] = "egoschema"
    counts: ClassVar[Mapping[str, int]] = {SUBSET: 500}
    max_tokens: ClassVar[int] = 16

    def __post_init__(self) -> None:
        if not isinstance(self.full, bool):
            raise DataError(f"full is true or false, got {self.full!r}")
        if self.full:
            object.__setattr__(self, "counts", {SUBSET: 500, REST: 4531})

    def read(self, root: Path, partial: bool) -> Iterator[Example]:
        """The questions whose answer is public, or all, in the order of questions.json."""
        answers = _answers(place(root, "subset_answers.json", partial=partial))
        file = place(root, "questions.json", partial=partial)
        for row in load_rows(file) if file else ():
            gold = answers.get(row.text("q_uid"))
            if self.full or gold is not None:
                yield _example(row, gold)

    def prompt(self, example: Example) -> str:
        """The question, a line for each option, the instruction."""
        lines = "\n".join(_lines(example.options))
        return f"{example.question}\n{lines}\nAnswer with the option's letter from the given choices directly."

    def grade(self, example: Example, response: Any) -> Grade:
        """lmms-eval's rule; nothing found is wrong. A question without gold is not counted."""
        said = parse(response, example.options)
        right = said is not None and said == example.gold
        return Grade(float(right), counted=example.gold is not None, task=example.task, parsed=said)

    def tolerant(self, example: Example, response: Any) -> float | None:
        """By a lenient reader of letters; None without gold."""
        if example.gold is None:
            return None
        return float(lenient_letter(response, example.options) == LETTERS[example.gold])

    def summarize(self, grades: Iterable[Grade]) -> Summary:
        """The share of the subset; of all questions only how many there are, for nobody but the server has answers."""
        tasks = by_task(grades, (SUBSET, REST))
        scores = [mean(SUBSET, tasks.get(SUBSET, []))]
        if tasks.get(REST):
            scores.append(Score("full", None, 0, sum(map(len, tasks.values()))))
        return Summary(tuple(scores), total=SUBSET)

    def submission(self, pairs: Iterable[tuple[Example, Any]], *, fill: int | None = None) -> dict[str, int]:
        """What the server takes: `submission`."""
        return submission(pairs, fill=fill)


def parse(response: Any, options: Sequence[str]) -> int | None:
    """The index of the option that lmms-eval reads in a reply; None where it would draw one, or fail."""
    if not isinstance(response, str):
        return None
    for mark in ",.!?;:'":
        response = response.strip(mark)
    said = f" {response} "
    marked = [(form.format(x), i) for form in ("({})", "{} ", "{}.") for i, x in enumerate(LETTERS)]
    found = [(said.rfind(text), i) for text, i in marked if text in said]
    if not found and len(said.split()) > 5:
        low = said.lower()
        lines = [line.strip().lower() for line in _lines(options)]
        found = [(low.rfind(line), i) for i, line in enumerate(lines) if line in low]
    return min(found, key=lambda pair: pair[0])[1] if found else None


def submission(pairs: Iterable[tuple[Example, Any]], *, fill: int | None = None) -> dict[str, int]:
    """What the server takes, of questions and their responses: {q_uid: index from 0 to 4}, to be written as JSON.

    fill: the index to send where a response names no option. Without it such responses raise DataError, as does a
    question that stands twice: the server takes no gap and tells no difference between a guess and an answer.
    """
    if fill is not None and fill not in range(len(LETTERS)):
        raise DataError(f"fill is {fill}, and must be an index from 0 to {len(LETTERS) - 1}")
    found: dict[str, int] = {}
    gaps: list[str] = []
    seen: set[str] = set()
    for example, response in pairs:
        if example.id in seen:
            raise DataError(f"{example.id} stands twice: hand in one response for each question")
        seen.add(example.id)
        said = parse(response, example.options)
        said = fill if said is None else said
        if said is None:
            gaps.append(example.id)
        else:
            found[example.id] = said
    if gaps:
        raise DataError(
            f"{len(gaps)} of {len(seen)} responses name no option, the first that of {gaps[0]}: "
            "say fill= to send one index for all of them"
        )
    return found


def _lines(options: Sequence[str]) -> list[str]:
    return [f"{x}. {option}" for x, option in zip(LETTERS, options, strict=False)]


def _answers(file: Path | None) -> dict[str, int]:
    """Index by q_uid."""
    if file is None:
        return {}
    answers = Entry.of(load_json(file), str(file))
    found = {name: answers.whole(name) for name in answers.data}
    if wrong := [name for name, index in found.items() if index not in range(len(LETTERS))]:
        raise answers.wrong(f"the answer of {wrong[0]} is {found[wrong[0]]}, and must be from 0 to {len(LETTERS) - 1}")
    return found


def _example(row: Entry, gold: int | None) -> Example:
    name = row.text("q_uid")
    return Example(
        id=name,
        video=f"{name}.mp4",
        task=REST if gold is None else SUBSET,
        question=row.text("question"),
        options=tuple(row.text(f"option {i}") for i in range(len(LETTERS))),
        gold=gold,
    )
