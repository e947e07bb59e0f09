"""The page about an ablation's rows: tables with intervals, and plots as SVG."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ablation_plot import Line, plot

from weavetime.errors import DataError
from weavetime.eval import Row, evidence_scores, paired, wilson
from weavetime.eval.curves import DELTAS, at_delta
from weavetime.eval.scoring import load_rows
from weavetime.world import FAMILIES, NOW

ALWAYS, REKV, WINDOW, METHOD = "weavetime(delta=0)", "rekv", "window", "weavetime"
WINDOWS = 16  # steps a window
NOWS = {f.__name__ for f in NOW}


@dataclass
class Measured:
    """Rows of one arm's job, by mode and question. layers, delta: the model's. window, steps: the streams'. recall: how
    many blocks weavetime recalls, and of how many candidates for each; None in a job without it.
    """

    modes: dict[str, dict[str, Row]]
    layers: int
    delta: float
    window: int | None
    steps: int
    recall: tuple[int, int] | None = None

    def at(self, delta: float) -> dict[str, Row]:
        """What weavetime answers at a threshold: its own second look where the gate reaches it, else the window's."""
        return at_delta(self.modes[ALWAYS], self.modes[WINDOW], delta)

    def complete(self) -> Measured:
        """With weavetime at the model's own threshold among the modes."""
        if ALWAYS in self.modes and WINDOW in self.modes:
            self.modes = {METHOD: self.at(self.delta), **self.modes}
        return self


def load(folder: Path, delta: float | None = None) -> dict[str, dict[str, Measured]]:
    """All rows of a folder, by arm and job. delta: weavetime's threshold in every arm; None for each model's own.

    Raises DataError where rows of an arm were made with different numbers of blocks, or arms were asked differently.
    """
    found: dict[str, dict[str, Measured]] = {}
    alike: dict[str, dict[str, Any]] = {}
    for arm in json.loads((folder / "run.json").read_text())["arms"]:
        said = json.loads((folder / arm / "about.json").read_text())
        jobs: dict[str, Measured] = {}
        recalls: set[tuple[int, int] | None] = set()
        for path in sorted((folder / arm).glob("*.jsonl")):
            head, rows = load_rows(path)
            window, steps = head["stream"]["window"], head["variants"]["steps"]
            asked = {key: head[key] for key in ("variants", "prompts", "stream")} | {"dtype": head["model"]["dtype"]}
            for key, value in alike.setdefault(path.name, asked).items():
                if value != asked[key]:
                    raise DataError(
                        f"{path}: its {key} is not that of another arm, and they would be compared: use a new FOLDER"
                    )
            own_delta = head["model"]["delta"] if delta is None else delta
            own = head["modes"].get(ALWAYS)
            recall = (own["k"], own["coarse"]) if own else None
            new = Measured(defaultdict(dict), said["layers"], own_delta, window, steps, recall)
            job = jobs.setdefault(path.name.split(".")[0], new)
            recalls |= {recall} - {None}
            if len(recalls) > 1:
                raise DataError(
                    f"{path}: made with k, coarse {recall}, other files of {arm} with others: use a new FOLDER"
                )
            for row in rows:
                job.modes[row.mode][row.id] = row
        found[arm] = {name: job.complete() for name, job in jobs.items()}
    return found


def accuracy(rows: Iterable[Row]) -> float:
    """Share of right answers."""
    right = [row.right for row in rows]
    return sum(right) / len(right)


def share(rows: Iterable[Row]) -> str:
    """Accuracy with its interval."""
    right = [row.right for row in rows]
    if not right:
        return "–"
    low, high = wilson(sum(right), len(right))
    return f"{sum(right) / len(right):.3f} ({low:.3f}–{high:.3f})"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table, numbers to the right."""
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def main_jobs(jobs: Mapping[str, Measured], prefix: str = "main") -> list[Measured]:
    """Jobs of a kind, shortest streams first."""
    return sorted((job for name, job in jobs.items() if name.split("-")[0] == prefix), key=lambda job: job.steps)


def looked_back(rows: Iterable[Row]) -> float:
    """Share of answers that looked back."""
    recalled = [row.recalled for row in rows]
    return sum(recalled) / len(recalled)


def by_length(arms: Mapping[str, Mapping[str, Measured]]) -> str:
    """Accuracy of every arm and mode at every length."""
    rows = []
    for arm, jobs in arms.items():
        for job in [*main_jobs(jobs), *main_jobs(jobs, "rivals"), *main_jobs(jobs, "full")]:
            for mode, found in job.modes.items():
                seconds = "" if mode == METHOD else f"{median(r.timings['total'] for r in found.values()) * 1e3:.0f}"
                looked = f"{looked_back(found.values()):.2f}"
                rows.append((arm, job.steps, mode, len(found), share(found.values()), looked, seconds))
    rows.sort(key=lambda row: (list(arms).index(row[0]), row[1]))
    return table(("arm", "steps", "mode", "n", "accuracy (95 %)", "looked back", "ms"), rows)


def by_family(columns: Mapping[str, Mapping[str, Row]]) -> str:
    """Accuracy by family, a column for each set of rows."""
    rows = []
    for family in FAMILIES:
        sets = [[row for row in found.values() if row.task == family] for found in columns.values()]
        if any(sets):
            rows.append((family, max(map(len, sets)), *map(share, sets)))
    past = [[row for row in found.values() if row.task not in NOWS] for found in columns.values()]
    rows.append(("all about the past", max(map(len, past)), *map(share, past)))
    return table(("family", "n", *columns), rows)


def difference(a: Mapping[str, Row], b: Mapping[str, Row], keep: Callable[[Row], bool]) -> tuple[int, str] | None:
    """How many questions, and by how much a is better than b on those that are kept; None where there are none."""
    keys = [k for k in sorted(a.keys() & b.keys()) if keep(a[k])]
    if not keys:
        return None
    found = paired([a[k].right for k in keys], [b[k].right for k in keys], [a[k].video for k in keys])
    return len(keys), "{:+.3f} ({:+.3f} to {:+.3f})".format(*found)


TIMED = {"when", "at_time"}
KEEP: dict[str, Callable[[Row], bool]] = {
    "all": lambda r: True,
    "past": lambda r: r.task not in NOWS,
    "past but when, at_time": lambda r: r.task not in NOWS | TIMED,
}


def differences(jobs: Mapping[str, Measured]) -> str:
    """Paired differences of accuracy between modes."""
    rows = []
    for job in [*main_jobs(jobs), *main_jobs(jobs, "new"), *main_jobs(jobs, "open")]:
        name = next(n for n, j in jobs.items() if j is job)
        for one, other in ((METHOD, REKV), (METHOD, WINDOW), (ALWAYS, REKV)):
            for what, keep in KEEP.items():
                if found := difference(job.modes[one], job.modes[other], keep):
                    rows.append((name, f"{one} − {other}", what, *found))
    return table(("streams", "difference", "questions", "n", "accuracy (95 %)"), rows)


def between(arms: Mapping[str, Mapping[str, Measured]]) -> str:
    """Paired differences between arms: each against the one before, the last against the first.

    By family in the method's mode; in the two that it is put together of, whose gate plays no part, of all of them.
    """
    names = list(arms)
    pairs = list(dict.fromkeys([*zip(names[1:], names, strict=False), (names[-1], names[0])]))
    rows = []
    for one, other in pairs:
        both = list(zip(main_jobs(arms[one]), main_jobs(arms[other]), strict=True))
        for a, b in both:
            families = FAMILIES if a is both[-1][0] else ()
            kinds = {**KEEP, **{f: (lambda r, f=f: r.task == f) for f in families if f not in NOWS}}
            for mode, asked in ((METHOD, kinds), (ALWAYS, KEEP), (WINDOW, KEEP)):
                for what, keep in asked.items():
                    if found := difference(a.modes[mode], b.modes[mode], keep):
                        rows.append((a.steps, f"{one} − {other}", mode, what, *found))
    return table(("steps", "difference", "mode", "questions", "n", "accuracy (95 %)"), rows)


def by_distance(job: Measured) -> str:
    """Accuracy on questions about the past by how far back their evidence lies."""
    window = job.window or job.steps
    reach = job.layers * window
    bins: tuple[tuple[str, Callable[[float], bool]], ...] = (
        (f"inside the window (< {window} s)", lambda d: d < window),
        (f"within layers × window (< {reach} s)", lambda d: window <= d < reach),
        (f"beyond ({reach} s or more)", lambda d: d >= reach),
    )
    rows = []
    for name, inside in bins:
        sets = [
            # a step that ended d seconds ago began a second earlier
            [r for r in found.values() if r.task not in NOWS and r.distance is not None and inside(r.distance + 1)]
            for found in job.modes.values()
        ]
        rows.append((name, max(map(len, sets)), *map(share, sets)))
    return table(("evidence", "n", *job.modes), rows)


def threshold(delta: float) -> str:
    """δ as tables call it."""
    return "never" if delta > 1 else f"{delta:g}"


def over_delta(job: Measured) -> tuple[str, Line]:
    """Accuracy against the share of questions that looked back, by threshold."""
    rows, points = [], []
    for delta in DELTAS:
        found = job.at(delta).values()
        looked = looked_back(found)
        points.append((looked, accuracy(found)))
        rows.append((threshold(delta), len(found), f"{looked:.3f}", share(found)))
    return table(("δ", "n", "looked back", "accuracy (95 %)"), rows), Line("weavetime over δ", points)


def gates(jobs: Mapping[str, Measured]) -> str:
    """Accuracy, and in brackets the share that looked back, of every arm by threshold."""
    rows = []
    for delta in DELTAS:
        answers = [job.at(delta).values() for job in jobs.values()]
        rows.append((threshold(delta), *(f"{accuracy(a):.3f} ({looked_back(a):.2f})" for a in answers)))
    return table(("δ", *jobs), rows)


def across(arms: Mapping[str, Mapping[str, Measured]]) -> dict[str, str]:
    """Arms beside each other, the tables by their titles."""
    longest = {arm: main_jobs(jobs)[-1] for arm, jobs in arms.items()}
    on = f"streams of {next(iter(longest.values())).steps} steps"
    return {
        f"Families by arm, weavetime on {on}": by_family({arm: job.modes[METHOD] for arm, job in longest.items()}),
        "Paired differences between arms": between(arms),
        f"The gate by arm, {on}: accuracy (share that looked back)": gates(longest),
    }


def retrieval(jobs: Mapping[str, Measured]) -> str:
    """What the chosen blocks hold of the evidence."""
    rows = []
    for name in sorted(n for n in jobs if n.startswith("retrieval")):
        for mode, found in jobs[name].modes.items():
            scores = [s for s in map(evidence_scores, found.values()) if s is not None]
            if scores:
                means = [mean(getattr(s, what) for s in scores) for what in SCORES]
                rows.append((name, mode, len(scores), *means, share(found.values())))
    return table(("streams", "mode", "n", *SCORES, "accuracy (95 %)"), rows)


READING = "\n## What it says\n"
SCORES = ("recall", "recall_union", "precision", "precision_union")


def mean(values: Iterable[float | None]) -> str:
    """To three digits, over those that are known."""
    known = [v for v in values if v is not None]
    return f"{sum(known) / len(known):.3f}" if known else "–"


def report(folder: Path, docs: Path, delta: float | None = None) -> str:
    """Write docs/ablation.md and its plots; returns the table of lengths. What the page says under READING is
    kept where all above it stays as it was.
    """
    arms, said = load(folder, delta), json.loads((folder / "run.json").read_text())
    said["report"] = "python scripts/ablation.py report FOLDER" + (f" --delta {delta:g}" if delta is not None else "")
    subject = list(arms)[-1]
    docs.mkdir(parents=True, exist_ok=True)
    jobs = arms[subject]
    lengthening = main_jobs(jobs)
    shortest, longest = lengthening[0], lengthening[-1]
    sweeps = {job.steps: over_delta(job) for job in lengthening[1:] or lengthening}
    curve = sweeps[longest.steps][1]
    flat = [Line(m, [(x, accuracy(longest.modes[m].values())) for x in (0.0, 1.0)]) for m in (REKV, WINDOW)]
    plot(docs / "ablation-gate.svg", "share of questions that looked back", "accuracy", [curve, *flat])
    growth = [
        Line(mode, [(job.steps / WINDOWS, accuracy(job.modes[mode].values())) for job in main_jobs(jobs)])
        for mode in (METHOD, REKV, WINDOW)
    ]
    plot(docs / "ablation-length.svg", "length of the stream, windows", "accuracy", growth, logarithmic=True)
    lengths = by_length(arms)
    parts: dict[str, Any] = {
        "Lengths, modes and arms": lengths,
        **(across(arms) if len(arms) > 1 else {}),
        f"Families by mode, {subject} on streams of {longest.steps} steps": by_family(longest.modes),
        f"Families by mode, {subject} on streams of {shortest.steps} steps": by_family(shortest.modes),
        f"Paired differences between modes, {subject}": differences(jobs),
        f"How far back the evidence lies, {subject} on streams of {longest.steps} steps": by_distance(longest),
        **{f"The gate, {subject} on streams of {steps} steps": sweep for steps, (sweep, _) in sweeps.items()},
        f"What the chosen blocks hold, {subject}": retrieval(jobs),
    }
    for name, title in (("new", "Cards never trained on"), ("open", "Short answers in place of options")):
        for job in main_jobs(jobs, name):
            parts[f"{title}, {subject} on streams of {job.steps} steps"] = by_family(job.modes)
    about = {arm: json.loads((folder / arm / "about.json").read_text()) for arm in arms}
    for arm, a in about.items():
        job = main_jobs(arms[arm])[-1]
        assert job.recall is not None
        a |= {"k": job.recall[0], "coarse": job.recall[1], "delta": job.delta}
    path, new = docs / "ablation.md", page(parts, said, about)
    before, heading, reading = path.read_text().partition(READING) if path.exists() else ("", "", "")
    path.write_text(new + heading + reading if before.splitlines() == new.splitlines() else new)
    (folder / "summary.json").write_text(json.dumps({"run": said, "arms": about, "tables": parts}, indent=1))
    return lengths


def page(parts: Mapping[str, str], said: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """The page."""
    models = "; ".join(
        f"{arm}: {a['model']} (k {a['k']} of {a['k'] * a['coarse']} candidates, δ {a['delta']:g}, {a['layers']} layers)"
        for arm, a in about.items()
    )
    cards = ", ".join(sorted({a["device"] for a in about.values()}))
    run = f"Run on {said['date']}: {cards} × {max(1, said['cards'])}, torch {said['torch']}, {models}."
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in parts.items())
    plots = "![Length](ablation-length.svg) ![Gate](ablation-gate.svg)"
    return f"{HEAD}\n{run}\n\n```\n{said['command']}\n{said['report']}\n```\n\n{plots}\n\n{body}\n"


HEAD = """# Ablation

What each part brings, measured in [StreamWorld](streamworld.md). Arms are models that differ in one part: `base` has
neither time prompts nor reconstruction, `time` no reconstruction, `mini` both; with the same budget of pictures each.
Those without reconstruction see theirs in more steps, all on streams in order; `base` has fewer tokens a picture, and
cannot know what `when` and `at_time` ask. Each was trained once: intervals are of the questions, and leave out by how
much two trainings differ. What `weavetime` recalls and its δ were chosen for `mini`, and serve all arms.

```
python scripts/arms.py OUT                       # trains the three, each on a card where there are as many
python scripts/ablation.py run FOLDER --arm base=OUT/base --arm time=OUT/time --arm mini=OUT/mini
python scripts/ablation.py report FOLDER         # writes this page and its plots
```

Questions are about moments in the second half of their stream. Intervals of an accuracy are Wilson's, those of a
difference a bootstrap over whole streams. `weavetime` is the method at the δ named below, put together from two runs:
`weavetime(delta=0)` always looks back, `window` never does, and the gate says which of the two the method gives.
`oracle`: the frames of the evidence itself. `ms`: median time from a question to its whole answer.
"""
