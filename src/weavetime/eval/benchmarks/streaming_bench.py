"""StreamingBench: real-time, omni-source and contextual questions, and outputs at the right moment (arXiv 2411.03628).

Code: github.com/THUNLP-MT/StreamingBench (MIT). Annotation: `questions_real.json`, `questions_omni.json` (which also
holds the anomaly and misleading tasks), `questions_sqa.json`, `questions_proactive_50.json` (51 questions, those of the
published tables) or `questions_proactive.json` (250). These are what scripts/eval.sh asks by text; the `_stream` files
hold the same questions with a spoken form, grouped by video, and are read where the others are not there. The table on
the HF hub is another version of the real-time part.
Videos: `videos/sample_N_TYPE.mp4`, as the official preprocessing names them, or as the archives hold them:
`videos/TYPE/sample_N/video.mp4`, and for the real-time part, or any single part but omni, `videos/sample_N/video.mp4`.
Pictures only: the omni-source questions are about sound too, of which nothing is heard here.
Seen: [0, t], the script's default; context=60: [t - 60, t], the table that the README calls Main. Both hold for all
multiple choice, omni-source included. Proactive questions are seen from when they are asked, whatever the context.
Times: base 60 from the right, as the code reads them, which never raises on the three odd ones: `00:12450` is 12,450 s
(all of the video, or with context=60 nothing of it), `00:24` 24 s, `00:00:8` 8 s. The text itself is in `extra`.
Prompt: room for four options; 13 omni-source questions have five to seven, and show the first four. "A. " is put before
options of which the first does not have it. SQA: the earlier questions with their options and true answers.
Rule: the first character (of a list, the first element) is the letter: " C", "(B)" and "The answer is C" are wrong. No
reply raises, hence is wrong; in SQA it is skipped.
Proactive: polled each second from t+1 to due+4 on [t, now] until a reply holds "yes", then asked itself, and over.
Right when the last turn is within 2 s of the true moment; part "answer" asks for the true text in it as well. The paper
defines its figure by time alone, so that is the value. The code prints both; its authors said later that they would
publish figures that look at the text too (issue 3), and which of the two a table holds is not always known. (The paper
describes polling around the true moment; the code does what is said here.)
Totals: over questions, not tasks: 2500 real-time, 1000 omni-source, 801 contextual (1000 with all proactive), 4301. No
official script prints a mean of tasks.
Not verified: code was read as kept by repositories that copied it (Tyronita/StreamingBench, commit 2e2ae7e;
lern-to-write/streaming_bench_code, commit 3e24273), except src/benchmark/StreamingOpenStreamText.py (commit 7dbcf2f).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ...config import Decoding
from ...errors import DataError
from ...types import Answer, Question
from ..annotation import place
from ..base import Ask, Benchmark, Example, Grade, Summary, by_task, mean
from ..letters import lenient_letter
from .streaming_bench_read import LATE, SHOWN, choice, proactive, questions

REALTIME = {
    "Object Recognition": 367,
    "Causal Reasoning": 128,
    "Clips Summarize": 317,
    "Attribute Recognition": 306,
    "Event Understanding": 161,
    "Text-Rich Understanding": 321,
    "Prospective Reasoning": 108,
    "Spatial Understanding": 246,
    "Action Recognition": 353,
    "Counting": 193,
}
OMNI = dict.fromkeys(
    ("Emotion Recognition", "Scene Understanding", "Source Discrimination", "Multimodal Alignment"), 250
)
CONTEXT = dict.fromkeys(("Anomaly Context Understanding", "Misleading Context Understanding"), 250)
SQA, PROACTIVE = "Sequential Question Answering", "Proactive Output"
PARTS = {"real": REALTIME, "omni": {**OMNI, **CONTEXT}, "sqa": {SQA: 250}, "proactive": {PROACTIVE: 51}}
GROUPS = {"realtime": (*REALTIME,), "omni": (*OMNI,), "contextual": (*CONTEXT, SQA, PROACTIVE)}
TASKS = tuple(task for tasks in GROUPS.values() for task in tasks)

# Wording: src/benchmark/StreamingBench.py, StreamingBenchSQA.py and StreamingBenchProactive.py of the repository.
_LETTER = "Respond with only the letter (A, B, C, or D) of the correct option.\n\n"
_CHOICE = (
    "You are an advanced video question-answering AI assistant. You have been provided with some frames from the video "
    "and a multiple-choice question related to the video. Your task is to carefully analyze the video and provide the "
    f"best answer to question, choosing from the four options provided. {_LETTER}"
    "Question: {}\n\nOptions:\n{}\n\nThe best option is:"
)
_SQA = (
    "You are an advanced video question-answering AI assistant. You have been provided with a video and a "
    "multiple-choice question related to the video. Your task is to carefully analyze the video and the provided "
    f"context to answer the question, choosing from the four options provided. {_LETTER}"
    "{}\n\nHere is the question. Answer it and don't confuse it with the previous conversation.\n"
    "Question: {}\n\nOptions:\n{}\n\nThe best option is:"
)
_EARLIER = (
    "Here are the contextual information related to the video. "
    "Please answer the questions based on the contextual information: "
)
_TURN = "At timestamp {}, the following question and answer occurred: Question: {}; Options: {}; Answer: {}; "
_PROACTIVE = (
    "You are an advanced image question-answering AI assistant. You have been provided with images and a question "
    "related to the images. Your task is to carefully analyze the images and provide the answer to the question. You "
    "need to carefully confirm whether the images content meet the conditions of the question, and then output the "
    "correct content.\n\nQuestion: {}\n\nThe answer is:\n"
)
_NOW = '{} Is it the right time to output "{}"? You can only answer yes or no.'


@dataclass(frozen=True, kw_only=True)
class StreamingBench(Benchmark):
    """StreamingBench.

    context: seconds seen before a multiple choice; None for all. proactive: "50" for the 51 questions of the published
    tables, "all" for 250. parts: which files are read, names of PARTS, as a tuple or with commas between them.
    """

    context: float | None = None
    proactive: str = "50"
    parts: tuple[str, ...] = tuple(PARTS)

    name: ClassVar[str] = "streaming_bench"
    counts: ClassVar[Mapping[str, int]] = {task: n for part in PARTS.values() for task, n in part.items()}

    def __post_init__(self) -> None:
        parts = self.parts.split(",") if isinstance(self.parts, str) else self.parts
        if not isinstance(parts, list | tuple):
            raise DataError(f"parts are names with commas between them, of {', '.join(PARTS)}, got {parts!r}")
        object.__setattr__(self, "parts", tuple(part for part in PARTS if part in parts))
        object.__setattr__(self, "proactive", str(self.proactive))
        if unknown := [part for part in parts if part not in PARTS]:
            raise DataError(f"no part {unknown[0]!r} of StreamingBench: there are {', '.join(PARTS)}")
        if not parts:
            raise DataError(f"name at least one part of StreamingBench: {', '.join(PARTS)}")
        if self.proactive not in ("50", "all"):
            raise DataError(f"proactive is '50' or 'all', got {self.proactive!r}")
        seconds = isinstance(self.context, int | float) and not isinstance(self.context, bool)
        if self.context is not None and not (seconds and 0 < self.context < math.inf):
            raise DataError(f"context is seconds, more than 0, or None for all, got {self.context!r}")
        counts = {task: n for part in self.parts for task, n in PARTS[part].items()}
        if self.proactive == "all" and PROACTIVE in counts:
            counts[PROACTIVE] = 250
        object.__setattr__(self, "counts", counts)

    def read(self, root: Path, partial: bool) -> Iterator[Example]:
        """The questions of each part's file, in their order."""
        for part in self.parts:
            name = "questions_proactive_50" if part == "proactive" and self.proactive == "50" else f"questions_{part}"
            path = place(root, f"{name}.json", f"{name}_stream.json", partial=partial)
            for video, question, earlier in questions(path) if path else ():
                task = question.text("task_type")
                if task not in PARTS[part]:
                    known = ", ".join(PARTS[part])
                    raise question.wrong(f"'task_type' is {task!r}, not one of {known}: is it another version?")
                if task == PROACTIVE:
                    yield proactive(video, question, earlier)
                else:
                    yield choice(video, question, earlier, self.context, history=task == SQA)

    def videos(self, root: Path, example: Example) -> tuple[Path, ...]:
        """As the preprocessing names it, or as the archives hold it."""
        folder, found = root / "videos", re.fullmatch(r"(sample_\d+)_(.+)\.mp4", example.video)
        if found is None:
            return (folder / example.video,)
        own, kind = Path(found[1]) / "video.mp4", found[2]
        places = [folder / example.video, folder / kind / own, folder / kind.replace("_", " ") / own]
        # Every task of every part has a sample_1: without its kind, one may be taken for another's.
        if kind == "real" or self.parts == (kind,):
            places.append(folder / own)
        return tuple(dict.fromkeys(places))

    def prompt(self, example: Example) -> str:
        """The question and its options; in SQA after the earlier ones; a proactive one as it is asked in the end."""
        if example.task == PROACTIVE:
            return _PROACTIVE.format(example.question)
        options = "\n".join(shown(example.options))
        if example.task != SQA:
            return _CHOICE.format(example.question, options)
        turns = [
            _TURN.format(q["time_stamp"], q["question"], ", ".join(shown(q["options"])), q["answer"])
            for q in example.extra["history"]
        ]
        return _SQA.format("".join([_EARLIER, *turns] if turns else []), example.question, options)

    def decoding(self, example: Example) -> Decoding:
        """A letter, or what is to be said."""
        return Decoding(max_tokens=64 if example.task == PROACTIVE else self.max_tokens)

    def converse(self, example: Example, ask: Ask) -> tuple[Any, Answer] | None:
        """A proactive question, polled; every reply with its time is the response. Each turn is asked afresh."""
        if example.task != PROACTIVE:
            return None
        due, output = example.gold
        now = _NOW.format(example.question, output)
        said: list[tuple[float, str]] = []
        for second in range(int(example.at or 0) + 1, int(due) + LATE + 1):
            answer = ask(Question(_PROACTIVE.format(now), query=now), float(second), self.decoding(example))
            said.append((float(second), answer.text))
            if "yes" in answer.text.strip().lower():
                answer = ask(self.question(example), float(second), self.decoding(example))
                said.append((float(second), answer.text))
                break
        return said, answer

    def grade(self, example: Example, response: Any) -> Grade:
        """The first character; of a proactive question, when its last turn was and what it said."""
        if example.task == PROACTIVE:
            return _timed(example, response)
        if example.task == SQA and not response:
            return Grade(0.0, counted=False, task=example.task)
        try:
            first = response[0]
        except (TypeError, IndexError, KeyError):  # as the official scorer raises: wrong
            return Grade(0.0, task=example.task)
        # A list may begin with nothing, which the official scorer skips; a text cannot.
        return Grade(float(first == example.gold), counted=bool(first), task=example.task, parsed=first)

    def tolerant(self, example: Example, response: Any) -> float | None:
        """The option that the reply most likely means; a proactive question has no options."""
        if example.task == PROACTIVE:
            return None
        # The words of options say nothing where these are split over five to seven.
        split = len(example.options) != len(SHOWN)
        words = ["" if split else re.sub(r"^[A-D]\. ?", "", option) for option in shown(example.options)]
        return float(lenient_letter(response, words) == example.gold)

    def summarize(self, grades: Iterable[Grade]) -> Summary:
        """Tasks, then the groups and all, each over its questions."""
        found = by_task(grades, TASKS)
        scores = [mean(task, mine) for task, mine in found.items()]
        if PROACTIVE in found:
            scores.append(mean(f"{PROACTIVE}, answer", found[PROACTIVE], "answer"))
        for name, group in {**GROUPS, "overall": TASKS}.items():
            scores.append(mean(name, [grade for task in group for grade in found.get(task, ())]))
        return Summary(tuple(scores), total="overall")


def shown(options: Sequence[str]) -> list[str]:
    """The four options that the prompt shows, lettered where the first one is not."""
    if options[0].startswith("A."):
        return list(options[: len(SHOWN)])
    return [f"{letter}. {option}" for letter, option in zip(SHOWN, options, strict=False)]


def _timed(example: Example, response: Any) -> Grade:
    """The last turn of a proactive question. Where the official scorer raises, as on no turn at all, wrong."""
    due, output = example.gold
    try:
        time, text = response[-1]
        right = bool(-2 <= time - due <= 2)
        said = right and output in text
    except (TypeError, ValueError, IndexError, KeyError):
        return Grade(0.0, parts={"time": 0.0, "answer": 0.0}, task=example.task)
    parts = {"time": float(right), "answer": float(said)}
    return Grade(float(right), parts=parts, task=example.task, parsed=[time, text])
