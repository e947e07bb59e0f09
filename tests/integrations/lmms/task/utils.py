"""The functions of the task weavetime_world: a generated video up to a question's moment, and options with letters."""

from string import ascii_uppercase


def world_doc_to_visual(doc):
    """The video as far as it may be seen."""
    return [{"type": "video", "path": doc["video"], "video_start": 0.0, "video_end": doc["at"]}]


def world_doc_to_text(doc, lmms_eval_specific_kwargs=None):
    """The question and its options, a line each."""
    lines = [f"({letter}) {text}" for letter, text in zip(ascii_uppercase, doc["options"], strict=False)]
    return "\n".join(["Question: " + doc["question"], "Options:", *lines, "Only give the best option."])


def world_doc_to_target(doc):
    """The right letter."""
    return ascii_uppercase[doc["gold"]]


def world_process_results(doc, results):
    """One where the first letter said is the right one."""
    from lmms_eval.tasks._task_utils.mcq_extract import extract_mcq_answer

    said = extract_mcq_answer(results[0], choices=list(ascii_uppercase[: len(doc["options"])]))
    return {"accuracy": float(said == world_doc_to_target(doc))}
