"""StreamingBench: the files in their three shapes, prompts, what is seen, polling, the official rule and totals. Small
rows stand in for the annotation; with WEAVETIME_FIXTURES set, the published rows are read too.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from weavetime.config import Decoding
from weavetime.errors import DataError
from weavetime.eval import Benchmark, Example, Grade, load
from weavetime.eval.benchmarks.streaming_bench import GROUPS, PARTS, REALTIME, TASKS
from weavetime.types import Answer, Evidence, Question

BENCH = load("streaming_bench")
MODERN = ["A. Red.", "B. Blue.", "C. Green.", "D. Blue."]
PLAIN = ["Red.", "Blue.", "Green.", "White."]


def asked(task: str, time: str, **more: Any) -> dict[str, Any]:
    choice = {"question": f"What colour is it at {time}?", "answer": "B", "options": MODERN}
    return {"task_type": task, "time_stamp": time, **choice, "required_ability": "working memory", **more}


def entry(video: str, *questions: dict[str, Any]) -> dict[str, Any]:
    return {"time": "[0:00:00 - 0:00:10]", "video_path": f"./videos/{video}.mp4", "questions": list(questions)}


SQA = "Sequential Question Answering"
ORDER = {
    "task_type": "Proactive Output",
    "question": 'When the kite is up, output "UP".',
    "time_stamp": "00:00:10",
    "ground_truth_time_stamp": "0:00:13",
    "ground_truth_output": "UP",
}
ROWS: dict[str, Any] = {
    "questions_real": [
        entry("sample_3_real", asked("Counting", "00:01:30")),
        entry("sample_3_real", asked("Counting", "00:24"), asked("Object Recognition", "00:00:8")),
        entry("sample_4_real", asked("Counting", "00:12450")),
    ],
    "questions_omni": [
        entry("sample_3_Emotion_Recognition", asked("Emotion Recognition", "0:00:40")),
        entry(
            "sample_5_Scene_Understanding_1-25",
            asked("Scene Understanding", "00:00:40", options=["A. He says 'now", "or later'.", "B. x", "C. y", "D. z"]),
        ),
        entry("sample_3_Anomaly_Context_Understanding", asked("Anomaly Context Understanding", "00:00:50")),
    ],
    "questions_sqa": [
        [
            entry("sample_1_sqa", asked(SQA, "00:00:36", options=PLAIN, answer="A")),
            entry("sample_1_sqa", asked(SQA, "00:02:00", answer="C"), asked(SQA, "00:03:00")),
        ],
        [entry("sample_2_sqa", asked(SQA, "00:00:05"))],
    ],
    "questions_proactive_50": [entry("sample_1_proactive", ORDER)],
    "questions_proactive": [entry("sample_1_proactive", ORDER), entry("sample_2_proactive", ORDER)],
}


def write(folder: Path, **files: Any) -> Path:
    for name, rows in files.items():
        (folder / f"{name}.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("streaming"), **ROWS)


@pytest.fixture(scope="module")
def made(root: Path) -> dict[str, Example]:
    return {e.id: e for e in BENCH.examples(root, partial=True)}


def test_the_parts_in_their_order(made: dict[str, Example]) -> None:
    assert list(made) == [
        "sample_3_real_1",
        "sample_3_real_2",
        "sample_3_real_3",
        "sample_4_real_1",
        "sample_3_Emotion_Recognition_1",
        "sample_5_Scene_Understanding_1-25_1",
        "sample_3_Anomaly_Context_Understanding_1",
        "sample_1_sqa_1",
        "sample_1_sqa_2",
        "sample_1_sqa_3",
        "sample_2_sqa_1",
        "sample_1_proactive_1",
    ]
    first = made["sample_3_real_1"]
    assert (first.video, first.task, first.gold) == ("sample_3_real.mp4", "Counting", "B")
    assert first.options == tuple(MODERN)


def test_times_are_read_from_the_right(made: dict[str, Example]) -> None:
    odd = {"sample_3_real_1": 90, "sample_3_real_2": 24, "sample_3_real_3": 8, "sample_4_real_1": 12450}
    assert {i: made[i].at for i in odd} == odd
    assert made["sample_4_real_1"].extra["time_stamp"] == "00:12450"


def test_what_is_seen(root: Path, made: dict[str, Example]) -> None:
    for i in ("sample_3_real_1", "sample_3_Emotion_Recognition_1", "sample_1_sqa_2"):
        assert BENCH.spans(made[i]) == ((0.0, made[i].at),)
    assert made["sample_1_proactive_1"].span == (10.0, 17.0)
    short = {e.id: e.span for e in load("streaming_bench", context=60).examples(root, partial=True)}
    assert short["sample_3_real_1"] == (30.0, 90.0)
    assert short["sample_3_Emotion_Recognition_1"] == (0.0, 40.0)
    assert short["sample_1_sqa_3"] == (120.0, 180.0)
    assert short["sample_1_proactive_1"] == (10.0, 17.0)


def test_prompt_of_a_choice(made: dict[str, Example]) -> None:
    example = made["sample_3_real_1"]
    assert BENCH.prompt(example) == (
        "You are an advanced video question-answering AI assistant. You have been provided with some frames from the "
        "video and a multiple-choice question related to the video. Your task is to carefully analyze the video and "
        "provide the best answer to question, choosing from the four options provided. Respond with only the letter "
        "(A, B, C, or D) of the correct option.\n\nQuestion: What colour is it at 00:01:30?\n\n"
        "Options:\nA. Red.\nB. Blue.\nC. Green.\nD. Blue.\n\nThe best option is:"
    )
    assert BENCH.question(example).query == example.question


def test_prompt_shows_four_of_five_options(made: dict[str, Example]) -> None:
    example = made["sample_5_Scene_Understanding_1-25_1"]
    assert len(example.options) == 5
    assert BENCH.prompt(example).endswith(
        "\n\nOptions:\nA. He says 'now\nor later'.\nB. x\nC. y\n\nThe best option is:"
    )


def test_prompt_of_sqa_holds_what_came_before(made: dict[str, Example]) -> None:
    start, end = "of the correct option.\n\n", "\n\nHere is the question. Answer it and don't confuse it with"
    context = [BENCH.prompt(made[f"sample_1_sqa_{i}"]).split(start)[1].split(end)[0] for i in (1, 2, 3)]
    first = (
        "Here are the contextual information related to the video. Please answer the questions based on the contextual "
        "information: At timestamp 00:00:36, the following question and answer occurred: Question: What colour is it "
        "at 00:00:36?; Options: A. Red., B. Blue., C. Green., D. White.; Answer: A; "
    )
    second = (
        "At timestamp 00:02:00, the following question and answer occurred: Question: What colour is it at 00:02:00?; "
        "Options: A. Red., B. Blue., C. Green., D. Blue.; Answer: C; "
    )
    assert context == ["", first, first + second]
    assert BENCH.prompt(made["sample_2_sqa_1"]).split(start)[1].startswith("\n\nHere is the question.")
    assert BENCH.prompt(made["sample_1_sqa_1"]).endswith(
        "conversation.\nQuestion: What colour is it at 00:00:36?\n\n"
        "Options:\nA. Red.\nB. Blue.\nC. Green.\nD. White.\n\nThe best option is:"
    )


def test_stream_files_hold_the_same(tmp_path: Path, root: Path, made: dict[str, Example]) -> None:
    """A video an entry, a flat list for SQA."""
    for name in ("questions_real", "questions_omni", "questions_sqa"):
        rows = [e for row in ROWS[name] for e in (row if isinstance(row, list) else [row])]
        videos: dict[str, list[Any]] = {}
        for row in rows:
            videos.setdefault(row["video_path"], []).extend({**q, "audio_path": "x.wav"} for q in row["questions"])
        whole = [{"video_path": video, "questions": found} for video, found in videos.items()]
        write(tmp_path, **{f"{name}_stream": whole})
    write(tmp_path, questions_proactive_50=ROWS["questions_proactive_50"])
    assert {e.id: e for e in BENCH.examples(tmp_path, partial=True)} == made
    write(tmp_path, questions_sqa=ROWS["questions_sqa"][:1])  # the plain file is the one that is asked by text
    assert len(BENCH.examples(tmp_path, partial=True)) == len(made) - 1


def test_videos_as_moved_or_as_in_the_archives(made: dict[str, Example]) -> None:
    def places(benchmark: Benchmark, i: str) -> list[str]:
        return [str(path) for path in benchmark.videos(Path("/r"), made[i])]

    assert places(BENCH, "sample_3_real_1") == [
        "/r/videos/sample_3_real.mp4",
        "/r/videos/real/sample_3/video.mp4",
        "/r/videos/sample_3/video.mp4",
    ]
    assert places(BENCH, "sample_3_Emotion_Recognition_1")[1:] == [
        "/r/videos/Emotion_Recognition/sample_3/video.mp4",
        "/r/videos/Emotion Recognition/sample_3/video.mp4",
    ]
    assert "/r/videos/sample_1/video.mp4" not in places(BENCH, "sample_1_sqa_1")  # it may be another part's
    assert "/r/videos/sample_1/video.mp4" in places(load("streaming_bench", parts=("sqa",)), "sample_1_sqa_1")


# The rule


@pytest.mark.parametrize(
    ("response", "value"),
    [
        ("B", 1), ("B. Blue.", 1), ("Blue", 1), ("B/A", 1), (["B", "A"], 1),
        (" B", 0), ("(B) x", 0), ("The answer is B.", 0), ("b", 0), ("A/B", 0), ("1 2", 0), ("yes", 0), ("A", 0),
        ("", 0), (None, 0), ([], 0), (2, 0), ({}, 0), ("\nB", 0),
    ],
)  # fmt: skip
def test_the_first_character(made: dict[str, Example], response: Any, value: float) -> None:
    grade = BENCH.grade(made["sample_3_real_1"], response)
    assert (grade.value, grade.counted, grade.task) == (value, True, "Counting")


@pytest.mark.parametrize("response", ["", None, [], 0])
def test_no_reply_is_skipped_in_sqa_alone(made: dict[str, Example], response: Any) -> None:
    assert BENCH.grade(made["sample_2_sqa_1"], response) == Grade(0.0, counted=False)
    assert BENCH.grade(made["sample_3_Emotion_Recognition_1"], response) == Grade(0.0, counted=True)
    assert BENCH.grade(made["sample_2_sqa_1"], " B") == Grade(0.0, counted=True)
    assert BENCH.grade(made["sample_2_sqa_1"], 5) == Grade(0.0, counted=True)


def test_a_list_that_begins_with_nothing_is_skipped(made: dict[str, Example]) -> None:
    assert not BENCH.grade(made["sample_3_real_1"], ["", "B"]).counted


def test_the_second_column_is_lenient(made: dict[str, Example]) -> None:
    said = ("(B) x", " B", "The answer is B.", "b", "A/B", "", None, "green")
    assert [BENCH.tolerant(made["sample_3_real_1"], x) for x in said] == [1, 1, 1, 1, 0, 0, 0, 0]
    assert BENCH.tolerant(made["sample_1_sqa_1"], "red") == 1.0
    assert BENCH.tolerant(made["sample_5_Scene_Understanding_1-25_1"], "or later'.") == 0.0
    assert BENCH.tolerant(made["sample_1_proactive_1"], [(13, "UP")]) is None


# Proactive


def poll(example: Example, yes_at: float) -> tuple[Any, Answer, list[tuple[str, float | None]]]:
    """What is asked of a model that says yes from a moment on."""
    turns: list[tuple[str, float | None]] = []

    def ask(question: Question, at: float | None, decoding: Decoding) -> Answer:
        turns.append((question.text, at))
        assert not question.history
        assert decoding.max_tokens > 16
        text = "It is UP" if "yes or no" not in question.text else "Oh Yes." if (at or 0) >= yes_at else "No"
        return Answer(text, None, None, False, Evidence((), ()), at or 0.0, "window")

    found = BENCH.converse(example, ask)
    assert found is not None
    return (*found, turns)


def test_polled_each_second_until_a_yes(made: dict[str, Example]) -> None:
    example = made["sample_1_proactive_1"]
    said, last, turns = poll(example, yes_at=12)
    assert said == [(11.0, "No"), (12.0, "Oh Yes."), (12.0, "It is UP")]
    assert last.text == "It is UP"
    assert [at for _, at in turns] == [11.0, 12.0, 12.0]
    assert turns[0][0].endswith(
        'output the correct content.\n\nQuestion: When the kite is up, output "UP". '
        'Is it the right time to output "UP"? You can only answer yes or no.\n\nThe answer is:\n'
    )
    assert turns[2][0] == BENCH.prompt(example)
    assert turns[2][0].endswith('\n\nQuestion: When the kite is up, output "UP".\n\nThe answer is:\n')
    assert BENCH.grade(example, said).value == 1.0
    assert BENCH.converse(made["sample_3_real_1"], lambda *_: last) is None


def test_polled_until_four_seconds_late(made: dict[str, Example]) -> None:
    said, _, turns = poll(made["sample_1_proactive_1"], yes_at=99)
    assert [at for _, at in turns] == [11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 17.0]
    assert BENCH.grade(made["sample_1_proactive_1"], said).value == 0.0


@pytest.mark.parametrize(
    ("response", "time", "answer"),
    [
        ([(13.0, "UP")], 1, 1), ([[11, "It is UP now"]], 1, 1), ([(15.0, "up")], 1, 0),
        ([(12, "yes"), (12, "UP")], 1, 1),
        ([(15.5, "UP")], 0, 0), ([(10.9, "UP")], 0, 0), ([(13, "UP"), (17, "No")], 0, 0), ([(13, "No")], 1, 0),
        ([], 0, 0), (None, 0, 0), ("UP", 0, 0), ("", 0, 0), (13, 0, 0), ([13], 0, 0), ([("13", "UP")], 0, 0),
        ([(13, None)], 0, 0), ([(float("nan"), "UP")], 0, 0), ([None], 0, 0), ({}, 0, 0),
    ],
)  # fmt: skip
def test_right_is_within_two_seconds(made: dict[str, Example], response: Any, time: float, answer: float) -> None:
    grade = BENCH.grade(made["sample_1_proactive_1"], response)
    assert grade == Grade(time, counted=True, parts={"time": time, "answer": answer})


# Totals

# OP CR CS ATP EU TR PR SU ACP CT, all; ER SCU SD MA, all; ACU MCU SQA PO, all; overall. StreamingBench's paper, table 2
# (all of the context): rows whose SQA was, or rounds to, a share of 250 questions.
TABLE = {
    "GPT-4o": "77.11 80.47 83.91 76.47 70.19 83.80 66.67 62.19 69.12 49.22 73.28 41.20 37.20 43.60 56.00 44.50 "
    "41.20 38.40 32.80 29.41 36.96 59.83",
    "MiniCPM-V 2.6": "71.93 71.09 77.92 75.82 64.60 65.73 70.37 56.10 62.32 53.37 67.44 40.80 24.00 34.00 41.20 35.00 "
    "34.00 31.60 41.92 9.80 34.21 53.71",
    "InternVL-V2": "68.12 60.94 69.40 77.12 67.70 62.93 59.26 53.25 54.96 56.48 63.72 37.60 26.40 37.20 42.00 35.80 "
    "32.00 31.20 32.32 11.76 30.59 51.06",
    "Kangaroo": "71.12 84.38 70.66 73.20 67.08 61.68 56.48 55.69 62.04 38.86 64.60 37.60 31.20 28.80 39.20 34.20 "
    "32.80 26.40 33.84 3.92 29.32 50.97",
    "LongVA": "70.03 63.28 61.20 70.92 62.73 59.50 61.11 53.66 54.67 34.72 59.96 39.60 32.40 28.00 41.60 35.40 "
    "32.80 29.60 30.30 5.88 29.34 48.55",
}


@pytest.mark.parametrize("model", TABLE)
def test_published_totals(model: str) -> None:
    """Grades of the published share of each task make the published groups and total, to 0.02 points."""
    columns = (*REALTIME, "realtime", *GROUPS["omni"], "omni", *GROUPS["contextual"], "contextual", "overall")
    shares = dict(zip(columns, map(float, TABLE[model].split()), strict=True))
    grades = []
    for task, n in BENCH.counts.items():
        right = round(n * shares[task] / 100)
        parts = {"time": 1.0, "answer": 0.0}
        grades += [Grade(float(i < right), task=task, parts=parts) for i in range(n)]
    summary = BENCH.summarize(grades)
    expected = {name: shares[name] for name in (*GROUPS, "overall")}
    assert {name: 100 * (summary[name] or 0) for name in expected} == pytest.approx(expected, abs=0.021)
    assert (summary.total, summary.score("overall").n, summary.score("contextual").n) == ("overall", 4301, 801)


def test_summary_names(made: dict[str, Example]) -> None:
    grades = [BENCH.grade(e, None) for e in made.values()]
    summary = BENCH.summarize(grades)
    assert list(summary)[-5:] == ["Proactive Output, answer", "realtime", "omni", "contextual", "overall"]
    assert set(list(summary)[:-5]) == {e.task for e in made.values()}
    assert (summary.score("overall").n, summary.score("overall").rows) == (8, 12)  # four of SQA are skipped
    assert summary[SQA] is None


# Variants and bad files


def test_variants(root: Path) -> None:
    assert sum(BENCH.counts.values()) == 4301
    everything = load("streaming_bench", proactive="all")
    assert sum(everything.counts.values()) == 4500
    assert len(everything.examples(root, partial=True)) == 13
    some = load("streaming_bench", parts="proactive,real", proactive=50)
    assert some == load("streaming_bench", parts=["real", "proactive"])
    assert sum(some.counts.values()) == 2551
    assert {e.task for e in some.examples(root, partial=True)} == {"Counting", "Object Recognition", "Proactive Output"}


@pytest.mark.parametrize(
    "variants",
    [{"proactive": "51"}, {"parts": "real,x"}, {"parts": ()}, {"context": 0}, {"context": "60"}, {"context": True}],
)
def test_a_wrong_variant(variants: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        load("streaming_bench", **variants)


def test_files_that_are_missing(tmp_path: Path, root: Path) -> None:
    write(tmp_path, questions_real=ROWS["questions_real"])
    with pytest.raises(DataError, match=r"questions_omni\.json"):
        BENCH.examples(tmp_path)
    assert len(BENCH.examples(tmp_path, partial=True)) == 4
    with pytest.raises(DataError, match="Counting: 3 of 193"):
        BENCH.examples(root)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"time_stamp": "soon"}, "soon"),
        ({"time_stamp": 36}, "time_stamp"),
        ({"time_stamp": "-1:00"}, "before"),
        ({"options": []}, "options"),
        ({"options": MODERN[:3]}, "holds 3"),
        ({"answer": "E"}, "answer"),
        ({"answer": "Blue."}, "answer"),
        ({"task_type": "Object Perception"}, "Object Perception.*another version"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    write(
        tmp_path, questions_real=[entry("a", asked("Counting", "0:10")), entry("b", asked("Counting", "0:10") | change)]
    )
    with pytest.raises(DataError, match=f"questions_real.json, row 1, questions 0.*{says}"):
        BENCH.examples(tmp_path, partial=True)


def test_other_bad_files(tmp_path: Path) -> None:
    early = {**ORDER, "ground_truth_time_stamp": "00:00:09"}
    for rows, says in (
        ({"questions": []}, "must be a list"),
        ([[3]], "row 0, 0"),
        ([{"video_path": "x.mp4"}], "questions"),
        ([entry("x", early)], "due at 9 s, before it is asked at 10 s"),
    ):
        write(tmp_path, questions_proactive_50=rows)
        with pytest.raises(DataError, match=says):
            BENCH.examples(tmp_path, partial=True)


# The published files


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published files under their own names; two of them without captions and white space."""
    if "WEAVETIME_FIXTURES" not in os.environ:
        pytest.skip("WEAVETIME_FIXTURES is not set")
    held, folder = Path(os.environ["WEAVETIME_FIXTURES"]) / "streamingbench", tmp_path_factory.mktemp("published")
    for name in ("questions_sqa", "questions_proactive", "questions_proactive_50"):
        (folder / f"{name}.json").symlink_to(held / f"{name}.json")
    for name in ("questions_real", "questions_omni"):
        (folder / f"{name}.json").symlink_to(held / "derived" / f"{name}.min.json")
    return folder


@pytest.mark.fixtures
def test_the_whole_files(published: Path) -> None:
    found = BENCH.examples(published)
    assert len(found) == 4301
    assert len({e.video for e in found if e.task in REALTIME}) == 499
    assert sum(len(e.options) > 4 for e in found) == 13
    odd = {e.extra["time_stamp"]: e.at for e in found}
    assert [odd[said] for said in ("00:12450", "00:24", "00:00:8")] == [12450.0, 24.0, 8.0]
    assert len(load("streaming_bench", proactive="all").examples(published)) == 4500
    assert all(BENCH.prompt(e) and BENCH.videos(published, e) and BENCH.spans(e) for e in found)
    assert {e.task for e in found} == set(TASKS)


@pytest.mark.fixtures
def test_a_constant_letter(published: Path) -> None:
    """Golds are spread evenly over the real-time part, and "Answer" begins with an A."""
    found = [e for e in BENCH.examples(published) if e.task in REALTIME]
    for reply in ("C", "Answer: C"):
        assert BENCH.summarize([BENCH.grade(e, reply) for e in found])["realtime"] == 0.25
    assert BENCH.summarize([BENCH.grade(e, "The answer is C.") for e in found])["realtime"] == 0.0


@pytest.mark.fixtures
def test_the_stream_files_ask_the_same(published: Path, tmp_path: Path) -> None:
    held = Path(os.environ["WEAVETIME_FIXTURES"]) / "streamingbench"
    whole = {e.id: e for e in BENCH.examples(published)}
    (tmp_path / "questions_sqa_stream.json").symlink_to(held / "questions_sqa_stream.json")
    for part in ("real", "omni"):
        (tmp_path / f"questions_{part}_stream.json").symlink_to(held / f"questions_{part}_stream.sample.json")
    found = BENCH.examples(tmp_path, partial=True)
    assert len(found) == 280
    assert [e for e in found if whole[e.id] != e] == []
    for part in ("real", "omni"):
        (tmp_path / f"questions_{part}.json").symlink_to(held / f"questions_{part}.sample.json")
    assert len(BENCH.examples(tmp_path, partial=True)) == 250 + 24 + 13
    assert set(PARTS) == {"real", "omni", "sqa", "proactive"}
