"""What a benchmark costs at real size: seconds per question, its video's part and its answer's, and projected hours.

    PYTHONPATH=src python scripts/device_eval_bench.py OUT [SHAPE] [--videos N]

Streams have the lengths of OVO-Bench's visible spans (five quantiles) and as many questions as one of its streams has;
pictures are made on the device, so that reading files is not in the figures. The model's weights are random. Other
benchmarks are projected from their hours of video, encoded once, and their numbers of questions.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median

import torch

import weavetime as wt
from weavetime.bench.limits import synchronise
from weavetime.bench.run import Feed
from weavetime.bench.shapes import make

SPANS = (25, 79, 185, 359, 526)  # seconds: 10, 25, 50, 75 and 90 % of OVO-Bench's 644 streams are shorter
QUESTIONS = 5  # of a stream: 3,035 / 644
QUESTION = "Question: what did the person put on the table before that? Options: A. a cup; B. a plate; C. a knife;"


@dataclass(frozen=True)
class Size:
    """A benchmark's size. hours: of video that is encoded, distinct visible spans, from the published annotation."""

    name: str
    hours: float
    questions: int


SIZES = (
    Size("ovo_bench", 46.5, 3035),
    Size("streaming_bench", 110.9, 4301),
    Size("mlvu", 251.4, 2175),
    Size("qaego4d", 20.0, 500),
    Size("egoschema (500)", 25.0, 500),
)


@dataclass(frozen=True)
class Cost:
    """One stream. video: seconds to encode it. answers: median seconds per question, by mode."""

    seconds: int
    video: float
    answers: dict[str, float]


def measured(engine: wt.Engine, device: torch.device, span: int, modes: Sequence[str]) -> Cost:
    """Feed a stream as the runner does, question by question, and time both parts."""
    feed, video = Feed(device), 0.0
    answers: dict[str, list[float]] = {mode: [] for mode in modes}
    decoding = wt.Decoding(max_tokens=8)
    with engine.stream(window=80) as stream:
        for i in range(1, QUESTIONS + 1):
            upto = span * i // QUESTIONS
            while len(stream) < upto:
                frames = feed.take(min(16, upto - len(stream)))
                synchronise(device)
                start = time.perf_counter()
                stream.feed(frames)
                synchronise(device)
                video += time.perf_counter() - start
            for mode in modes:
                start = time.perf_counter()
                stream.ask(QUESTION, mode=mode, decoding=decoding)
                answers[mode].append(time.perf_counter() - start)
    return Cost(span, video, {mode: median(found) for mode, found in answers.items()})


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("shape", nargs="?", default="llava-onevision-7b")
    parser.add_argument("--videos", type=int, default=len(SPANS), help="of the five lengths, the shortest N")
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    engine = make(args.shape, device, time_prompts=True)
    modes = ("weavetime", "blind")
    measured(engine, device, 10, modes)  # kernels are compiled, graphs captured
    costs = [measured(engine, device, span, modes) for span in SPANS[: args.videos]]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{args.shape} on {name}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}")
    print("stream, s | video, s a question | answer, s (weavetime) | answer, s (blind)")
    for cost in costs:
        said = " | ".join(f"{cost.answers[mode]:.3f}" for mode in modes)
        print(f"{cost.seconds:9d} | {cost.video / QUESTIONS:19.3f} | {said}")
    frame = sum(c.video for c in costs) / sum(c.seconds for c in costs)
    answer = mean(c.answers["weavetime"] for c in costs)
    print(f"{1 / frame:.1f} frames/s, {answer:.3f} s an answer")
    hours = {s.name: (s.hours * 3600 * frame + s.questions * answer) / 3600 for s in SIZES}
    for key, value in hours.items():
        print(f"{key:16s} {value:6.2f} h on 1 card, {value / 8:6.2f} h on 8")
    about = {"shape": args.shape, "device": name, "torch": torch.__version__, "date": time.strftime("%Y-%m-%d")}
    args.out.mkdir(parents=True, exist_ok=True)
    result = {**about, "costs": [asdict(c) for c in costs], "hours": hours}
    (args.out / f"eval-{args.shape}.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
