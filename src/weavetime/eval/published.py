"""The figures that the paper reports, beside which a run may be put, and what differs.

Source: WeaveTime, arXiv 2602.22142: the table of real-time parts, the ablation, and the table of retrieval.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

SOURCE = "WeaveTime, arXiv 2602.22142"
LLAVA, QWEN = "LLaVA-OneVision-7B", "Qwen2-VL-7B"
FAMILIES = {"llava_onevision": LLAVA, "qwen2_vl": QWEN}
SIZE = 6.5e9, 9e9  # parameters of what is called 7B, vision tower and embeddings included


class Published(NamedTuple):
    """A figure, percent. figure: what it is called in the benchmark's summary here."""

    benchmark: str
    figure: str
    model: str
    method: str
    value: float


def _each(benchmark: str, figure: str, model: str, **values: float) -> list[Published]:
    """Figures by method; an underscore is a space, and what begins with `plus` was added to the line before."""
    said = {method.replace("plus_", "+ ").replace("_", " "): value for method, value in values.items()}
    return [Published(benchmark, figure, model, method, value) for method, value in said.items()]


PUBLISHED = (
    *_each("ovo_bench", "realtime", LLAVA, ReKV=61.72, WeaveTime=68.82),
    *_each("ovo_bench", "realtime", QWEN, ReKV=59.72, WeaveTime=66.28),
    *_each(
        "ovo_bench", "total", LLAVA, base=53.56, plus_time_prompts=49.88, plus_reconstruction=55.70, plus_PCDF=57.57
    ),
    *_each("streaming_bench", "realtime", LLAVA, ReKV=66.15, plus_time_prompts=65.91, plus_reconstruction=68.49),
    *_each("streaming_bench", "realtime", LLAVA, WeaveTime=72.13),
    *_each("streaming_bench", "realtime", QWEN, ReKV=70.07, WeaveTime=75.39),
    *_each("qaego4d", "accuracy", LLAVA, coarse_to_fine=55.2, ReKV=54.3, no_memory=52.8),
    *_each("mlvu", "M-Avg", LLAVA, coarse_to_fine=68.9, ReKV=68.5, no_memory=64.7),
    *_each("event_hallusion", "overall", LLAVA, coarse_to_fine=61.4, ReKV=60.6, no_memory=60.1),
)

DIFFERS = {
    "ovo_bench": "its parse rule is not the official one (a reply must begin with the letter, forward answers must be "
    "exact), its prompts are ReKV's, and its overall figure is the mean of 12 tasks, not of the 3 groups",
    "streaming_bench": "its rows are those of the CSV on the Hugging Face hub, which differ from the repository's in "
    "questions, options, answers and times, and its prompt is ReKV's",
    "qaego4d": "it gives an empty reply a random letter",
    "mlvu": "its file has 2168 of the 2175 questions, and its figure is the mean over questions, not over tasks",
    "event_hallusion": "56 of its 193 interleaved questions are others than in the published snapshot, its prompt "
    "lacks the line that asks for yes or no, and its rule takes more replies",
}
"""What the code published with the paper does otherwise than the benchmark's own."""


def not_comparable(benchmark: str, head: Mapping[str, Any], about: Mapping[str, Any], whole: bool) -> str:
    """Why no published figure may stand beside those of a run; "" where one may, or where none is published."""
    if benchmark not in DIFFERS:
        return ""
    family, size = head.get("model", {}).get("family"), about.get("parameters")
    if family not in FAMILIES or not (isinstance(size, int) and SIZE[0] <= size <= SIZE[1]):
        return f"they are of {LLAVA} and {QWEN}, this run is of {about.get('model', 'another model')}"
    return "" if whole else "this run is of a part of the questions"


def published(benchmark: str, head: Mapping[str, Any]) -> list[Published]:
    """The figures of a benchmark for the model family of a run."""
    model = FAMILIES.get(head.get("model", {}).get("family", ""))
    return [p for p in PUBLISHED if p.benchmark == benchmark and p.model == model]
