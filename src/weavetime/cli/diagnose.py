"""`weavetime diagnose`: what order, place and the future of the frames have to do with a model's answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ..config import StreamConfig
from ..errors import DataError
from . import options as opt
from .eval import STREAM, Modes, Out, Partial, Variants, kept_rows, modes_of, variants
from .needle import numbers
from .options import MODE, MODEL, ModelChoice

if TYPE_CHECKING:
    from ..eval import Benchmark, Row, Run
    from ..eval.analysis.arranged import Condition
    from ..eval.analysis.effects import Effect
    from ..loading import Engine

diagnose = typer.Typer(
    name="diagnose", help="Ask the same questions of changed videos: what does an answer hang on?", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(metavar="BENCHMARK", help="As in `weavetime eval`.", show_default=False)]
Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="The annotation as published, and videos/.", show_default=False),
]
Limit = Annotated[int | None, typer.Option(metavar="N", min=1, help="The first N questions.", show_default=False)]
Tasks = Annotated[str | None, typer.Option(metavar="A,B,…", help="Questions of these tasks alone.", show_default=False)]
Tables = dict[str, dict[str, str]]
"""What is compared: under a title, each condition's name and what its rows call their mode, the untouched one first."""
WITH, WITHOUT = "with time prompts", "without time prompts"


@dataclass(frozen=True)
class Plan:
    """What is asked of whom, as the command line says it."""

    benchmark: Benchmark
    data: Path
    examples: Sequence[Any]
    settings: Mapping[str, Any]
    modes: tuple[Any, ...]

    def run(self, engine: Engine | None = None) -> Run:
        """The run, with the engine's own window where none is said; without an engine to see that it can be asked."""
        from ..eval import Run

        config = StreamConfig(window=None) if engine is None else engine.stream(**self.settings).config
        return Run(self.benchmark, self.data, self.examples, config, self.modes)


def _plan(
    name: str, data: Path | None, variant: list[str] | None, limit: int | None, partial: bool,
    settings: dict[str, Any], modes: tuple[Any, ...],
) -> Plan:  # fmt: skip
    from ..eval import load

    benchmark = load(name, **variants(variant))
    if data is None and benchmark.name != "streamworld":
        raise DataError("say --data DIR: the annotation as published, and videos/")
    root = data or Path()
    plan = Plan(benchmark, root, benchmark.examples(root, partial=partial)[:limit], settings, modes)
    plan.run()
    return plan


@diagnose.command()
def order(
    name: Name,
    data: Data = None,
    model: opt.Model = MODEL,
    adapter: opt.Adapter = None,
    time_prompts: opt.TimePrompts = None,
    dtype: opt.Dtype = None,
    device: opt.Device = None,
    device_map: opt.DeviceMap = None,
    mode: Modes = [MODE],  # noqa: B006  # typer copies it
    k: opt.K = None,
    delta: opt.Delta = None,
    fps: opt.Fps = STREAM.fps,
    window: opt.Window = None,
    batch: opt.Batch = STREAM.batch,
    variant: Variants = None,
    limit: Limit = None,
    partial: Partial = False,
    clip: Annotated[int, typer.Option(help="Frames of a clip; clips change places, the order in a clip stays.")] = 4,
    seed: Annotated[int, typer.Option(help="Of the orders that are drawn.")] = 0,
    out: Out = None,
) -> None:
    """Frames shuffled, clips shuffled, reversed: each with time prompts and without, unless one is said."""
    from ..eval.analysis.order import orders

    settings = opt.stream_settings(fps, window, batch)
    plan = _plan(name, data, variant, limit, partial, settings, modes_of(mode, k, delta))
    choice = ModelChoice(model, adapter, time_prompts, dtype, device, device_map)
    choices = [choice] if time_prompts is not None else [replace(choice, time_prompts=on) for on in (True, False)]
    said = {"analysis": "order", "clip": clip, "seed": seed}
    rows, tables = _conditions(plan, choices, orders(clip, seed), out, said)
    _show(rows, tables, tasks=True)


@diagnose.command()
def position(
    name: Name,
    data: Data = None,
    model: opt.Model = MODEL,
    adapter: opt.Adapter = None,
    time_prompts: opt.TimePrompts = None,
    dtype: opt.Dtype = None,
    device: opt.Device = None,
    device_map: opt.DeviceMap = None,
    mode: Modes = [MODE],  # noqa: B006  # typer copies it
    k: opt.K = None,
    delta: opt.Delta = None,
    fps: opt.Fps = STREAM.fps,
    window: opt.Window = None,
    batch: opt.Batch = STREAM.batch,
    variant: Variants = None,
    limit: Limit = None,
    partial: Partial = False,
    tasks: Tasks = None,
    places: Annotated[
        str, typer.Option(metavar="P,P,…", help="Where the evidence comes: 0 is the start, 1 the end.")
    ] = "0,0.25,0.5,0.75,1",
    picture: Annotated[Path | None, typer.Option(metavar="FILE.svg", help="Draw it.", show_default=False)] = None,
    out: Out = None,
) -> None:
    """The frames that show the answer, moved to five places of the video."""
    from ..eval.analysis.position import movable, positions

    where = numbers(places, float, "--places")
    conditions = positions(where)
    settings = opt.stream_settings(fps, window, batch)
    plan = _plan(name, data, variant, None, partial, settings, modes_of(mode, k, delta))
    wanted = tuple(t.strip() for t in tasks.split(",")) if tasks else ()
    plan = replace(plan, examples=movable(plan.benchmark, plan.examples, wanted)[:limit])
    choice = ModelChoice(model, adapter, time_prompts, dtype, device, device_map)
    rows, tables = _conditions(plan, [choice], conditions, out, {"analysis": "position", "places": where})
    effects = _show([row for row in rows if row.evidence], tables, tasks=False)
    if picture is not None:
        from ..eval.analysis.position import position_plot

        picture.write_text(position_plot(effects, where))
        print(f"drawn in {picture}")


@diagnose.command()
def future(
    name: Name,
    data: Data = None,
    model: opt.Model = MODEL,
    adapter: opt.Adapter = None,
    time_prompts: opt.TimePrompts = None,
    dtype: opt.Dtype = None,
    device: opt.Device = None,
    device_map: opt.DeviceMap = None,
    mode: Modes = [MODE],  # noqa: B006  # typer copies it
    k: opt.K = None,
    delta: opt.Delta = None,
    fps: Annotated[str, typer.Option(metavar="F,F,…", help="Frames looked at per second.")] = "0.5,1,2",
    window: opt.Window = None,
    batch: opt.Batch = STREAM.batch,
    variant: Variants = None,
    limit: Limit = 32,
    partial: Partial = False,
) -> None:
    """Noise in place of every picture after a question's visible span: not one bit of its answer may change."""
    from ..eval.analysis.future import compared
    from .session import load_engine

    modes = modes_of(mode, k, delta)
    plan = _plan(name, data, variant, limit, partial, opt.stream_settings(1.0, window, batch), modes)
    engine = load_engine(ModelChoice(model, adapter, time_prompts, dtype, device, device_map))
    wrong = 0
    for rate in _rates(plan, numbers(fps, float, "--fps"), engine):
        run = replace(plan, settings={**plan.settings, "fps": rate}).run(engine)
        found = list(compared(engine, run))
        differ = [c for c in found if c.differs]
        reach = sum(c.later > 0 for c in found)
        print(
            f"{rate:g} fps: {len(found)} answers compared, {reach} with later frames within reach, {len(differ)} differ"
        )
        for c in differ[:10]:
            print(f"  {c.row.id}, {c.row.mode}, limit {c.limit:g} s: {', '.join(c.differs)}")
        wrong += len(differ) + (not found)
    if wrong:
        raise DataError("answers changed with frames that must not be seen, or none could be compared")


def _rates(plan: Plan, fps: tuple[float, ...], engine: Engine) -> tuple[float, ...]:
    """Frames a second to look at; a generated stream has its own."""
    made = plan.benchmark.frames(plan.examples[0].video, 1, engine.backbone.vision_device) is not None
    if made:
        print("a generated stream has one frame a second, whatever --fps says")
    return (1.0,) if made else fps


def _conditions(
    plan: Plan, choices: Sequence[ModelChoice], conditions: Sequence[Condition], out: Path | None,
    said: Mapping[str, Any],
) -> tuple[list[Row], Tables]:  # fmt: skip
    """Rows of every condition from every model, those in the file first; what is missing is asked."""
    from ..eval import RowFile
    from ..eval.analysis.arranged import check, labelled, usable
    from ..eval.protocol import about
    from .meter import Meter
    from .session import load_engine

    check(plan.run())
    engine = load_engine(choices[0])
    head = plan.run(engine).head(engine)
    if len(choices) > 1:
        head["model"].pop("time_prompts")
    left = len(plan.examples) - len(usable(plan.run()))
    if left:
        print(f"{left} questions about several stretches of their video are left out")
    kept = RowFile(out, {**head, **said}, about(engine, choices[0].model, choices[0].adapter)) if out else None
    tables: Tables = {}
    with kept or nullcontext() as file:
        rows = kept_rows(file)
        done = {row.key for row in rows}
        total = len(usable(plan.run())) * len(plan.modes) * len(choices) * len(conditions) - len(done)
        with Meter({"answers": total}) as meter:
            for i, choice in enumerate(choices):
                engine = engine if i == 0 else load_engine(choice)
                suffix = f", {WITH if engine.backbone.time_prompts else WITHOUT}" if len(choices) > 1 else ""
                for name in plan.run().names:
                    tables[name + suffix] = {c.name: labelled(name, c) + suffix for c in conditions}
                for row in _under(engine, plan.run(engine), conditions, suffix, done):
                    if file is not None:
                        file.add(row.to_dict())
                    rows.append(row)
                    meter.add("answers")
                engine.close()
    return rows, tables


def _under(
    engine: Engine, run: Run, conditions: Sequence[Condition], suffix: str, done: set[tuple[str, str]]
) -> Iterator[Row]:
    from ..eval.analysis.arranged import under

    there = {(i, mode.removesuffix(suffix)) for i, mode in done if mode.endswith(suffix)}
    for condition in conditions:
        for row in under(engine, run, condition, done=there):
            yield replace(row, mode=row.mode + suffix)


def _show(rows: Sequence[Row], tables: Tables, *, tasks: bool) -> dict[str, list[Effect]]:
    """Print accuracy and paired differences by title and condition."""
    from ..eval.analysis.effects import common, effect

    found = common(rows)
    names = {name for table in tables.values() for name in table.values()}
    if not names <= found.keys() or not all(found.values()):
        raise DataError("no question was answered under every condition")
    lost = len({row.id for row in rows}) - len(next(iter(found.values())))
    if lost:
        print(f"{lost} questions without an answer, or without a frame of their evidence, are left out")
    console, effects = Console(highlight=False, soft_wrap=True), {}
    for title, table in tables.items():
        untouched, *others = ((short, found[name]) for short, name in table.items())
        mine = [effect(*untouched), *(effect(short, changed, untouched[1]) for short, changed in others)]
        effects[title] = mine
        console.print(_effects(title, mine))
        if tasks:
            console.print(_by_task({short: found[name] for short, name in table.items()}))
    return effects


def _effects(title: str, effects: Sequence[Effect]) -> Table:
    """Accuracy and change with their 95 % intervals; the share of the evidence that was read."""
    table = Table(box=None, pad_edge=False, title=title, title_justify="left")
    for name in ("", "n", "accuracy", "change", "recall"):
        table.add_column(name, justify="right" if name else "left")
    for e in effects:
        low, high = e.spread
        change = ""
        if e.difference is not None:
            d, least, most = e.difference
            change = f"{d:+.2f} " + (f"({least:+.2f} to {most:+.2f})" if e.videos > 1 else "(one video)")
        recall = "–" if e.recall is None else f"{e.recall:.2f}"
        table.add_row(e.name, f"{e.n:,}", f"{e.accuracy:.2f} ({low:.2f}–{high:.2f})", change, recall)
    return table


def _by_task(found: Mapping[str, Sequence[Row]]) -> Table:
    """Right answers by task: the untouched condition in full, of the others what they change."""
    table = Table(box=None, pad_edge=False)
    for name in ("", "n", *found):
        table.add_column(name, justify="right" if name else "left")
    counts = [Counter(row.task for row in mine if row.right) for mine in found.values()]
    every = Counter(row.task for row in next(iter(found.values())))
    for task, n in sorted(every.items()):
        first, *others = (count[task] for count in counts)
        table.add_row(task, str(n), str(first), *(f"{other - first:+d}" for other in others))
    return table
