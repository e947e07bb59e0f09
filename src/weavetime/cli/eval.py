"""`weavetime eval`: benchmarks, a command each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import replace
from functools import partial as having
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from ..config import BASELINES, StreamConfig
from ..errors import DataError, ModeError
from . import options as opt
from .options import MODE, MODEL, ModelChoice
from .world import names

if TYPE_CHECKING:
    from ..eval import Benchmark, Row, RowFile, Run
    from ..eval.cluster import Job
    from ..focus import Mode

STREAM = StreamConfig()
_Cluster = tuple[str, int | None]  # its address, and how many workers
GIVEN = "given"  # the command behind every benchmark that is fetched


class _Benchmarks(TyperGroup):
    """A command for each benchmark of the registry; those of other packages join by themselves."""

    def list_commands(self, ctx: Any) -> list[str]:
        from ..eval.registry import names

        return names()

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        from ..eval.registry import BENCHMARKS, names

        name = cmd_name.replace("-", "_")
        if name not in names():
            return None
        if name == "streamworld":
            return super().get_command(ctx, name)
        command: Any = copy(super().get_command(ctx, GIVEN))
        about = BENCHMARKS[name].about if name in BENCHMARKS else "of another package"
        command.name, command.help, command.short_help = name, f"{about[0].upper()}{about[1:]}.", about
        return command


class _Spread(TyperCommand):
    """A command whose --ray may stand without an address."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        from ..eval.cluster import LOCAL

        said: list[str] = []
        for i, arg in enumerate(args):
            said.append(arg)
            if arg == "--ray" and (i + 1 == len(args) or args[i + 1].startswith("-")):
                said.append(LOCAL)
        return super().parse_args(ctx, said)


evaluate = typer.Typer(name="eval", help="Measure a model on a benchmark.", no_args_is_help=True, cls=_Benchmarks)

Data = Annotated[
    Path,
    typer.Option("--data", metavar="DIR", help="The annotation as published, and videos/.", show_default=False),
]
Modes = Annotated[
    list[str],
    typer.Option(
        "--mode",
        metavar="NAME",
        help="weavetime, rekv, window, recent:N, uniform:N, full, blind, last:N (a fresh stream of the newest N "
        "frames) or oracle; with settings as in weavetime:k=8,coarse=128. May be said several times: videos are "
        "encoded once.",
    ),
]
Variants = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A published variant of the benchmark.", show_default=False),
]
AllowMissing = Annotated[
    bool, typer.Option("--allow-missing", help="Leave out questions whose video cannot be read, and say so.")
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Keep every row as JSONL; a run that was cut goes on.", show_default=False),
]
Partial = Annotated[bool, typer.Option("--partial", help="Go on where annotation files or rows are missing.")]

Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="[ADDRESS]",
        help="Spread the videos over a Ray cluster: one that starts here, or the one at ADDRESS (auto, HOST:PORT).",
        show_default=False,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Engines on the cluster. Default: one a GPU, or one for every four cores.",
        show_default=False,
    ),
]


@evaluate.command(GIVEN, cls=_Spread)
def given(
    ctx: typer.Context,
    data: Data,
    model: opt.Model = MODEL,
    adapter: opt.Adapter = None,
    time_prompts: opt.TimePrompts = None,
    dtype: opt.Dtype = None,
    device: opt.Device = None,
    device_map: opt.DeviceMap = None,
    mode: Modes = [MODE],  # noqa: B006  # typer copies it
    baselines: Annotated[
        bool, typer.Option("--baselines/--no-baselines", help=f"Also answer by {' and '.join(BASELINES)}.")
    ] = True,
    k: opt.K = None,
    delta: opt.Delta = None,
    fps: opt.Fps = STREAM.fps,
    window: opt.Window = None,
    batch: opt.Batch = STREAM.batch,
    visual_only: Annotated[bool, typer.Option("--visual-only", help="Score blocks by their pictures alone.")] = False,
    memory: opt.Memory = STREAM.memory,
    variant: Variants = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="The first N questions.", show_default=False)
    ] = None,
    partial: Partial = False,
    allow_missing: AllowMissing = False,
    retry: Annotated[bool, typer.Option("--retry", help="Ask again what had no answer in an earlier run.")] = False,
    ray: Ray = None,
    workers: Workers = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Rows as JSONL; a run that was cut goes on. Default: BENCHMARK.MODEL.jsonl in results/.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """A published benchmark."""
    from ..eval import load

    benchmark = load(str(ctx.info_name), **variants(variant))
    modes = modes_of([*mode, *(BASELINES if baselines else ())], k, delta)
    examples = benchmark.examples(data, partial=partial)[:limit]
    settings = opt.stream_settings(fps, window, batch) | {"visual_only": visual_only, "memory": memory}
    choice = ModelChoice(model, adapter, time_prompts, dtype, device, device_map)
    out = out or Path("results") / f"{benchmark.name}.{Path(model).name}.jsonl"
    said = {"limit": limit, "partial": partial}
    cluster = _cluster(ray, workers)
    rows = measured(choice, benchmark, data, examples, settings, modes, out, said, retry=retry, cluster=cluster)
    from .figures import show

    show(benchmark, rows, allow_missing=allow_missing)


def variants(said: list[str] | None) -> dict[str, Any]:
    """KEY=VALUE settings; a value is JSON where it can be read as such, else text."""
    found: dict[str, Any] = {}
    for text in said or ():
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise DataError(f"--set takes KEY=VALUE, got {text!r}")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found


def modes_of(names: list[str], k: int | None, delta: float | None) -> tuple[str | Mode, ...]:
    """Modes with what --k and --delta say; they are about the modes that have them, and at least one must."""
    from ..eval.asking import ORACLE, last_frames
    from ..focus import parse_mode

    alike: dict[str | Mode, str] = {}
    for name in names:
        alike.setdefault(name if name == ORACLE or last_frames(name) else parse_mode(name), name)
    said = {key: value for key, value in (("k", k), ("delta", delta)) if value is not None}
    own = {mode: {} if isinstance(mode, str) else said.keys() & vars(mode).keys() for mode in alike}
    if missing := [key for key in said if not any(key in keys for keys in own.values())]:
        raise ModeError(f"mode {', '.join(alike.values())} has no {missing[0]}: leave out --{missing[0]}")
    return tuple(
        replace(mode, **{key: said[key] for key in keys}) if keys else alike[mode]  # type: ignore[type-var]
        for mode, keys in own.items()
    )


def measured(
    choice: ModelChoice,
    benchmark: Benchmark,
    data: Path,
    examples: Any,
    settings: dict[str, Any],
    modes: tuple[str | Mode, ...],
    out: Path | None,
    said: dict[str, Any] | None = None,
    *,
    retry: bool = False,
    cluster: _Cluster | None = None,
) -> list[Row]:
    """Load the model, ask what is missing, and give every row. said: what the file is to say of the run besides."""
    from ..eval import Run, measure
    from ..eval.protocol import about
    from .session import load_engine

    run = Run(benchmark, data, examples, StreamConfig(window=None), modes)  # refused before a model is loaded
    if cluster is not None:
        from ..eval.cluster import Job

        return _spread(Job(choice.model, choice.settings(), run, settings, said or {}), cluster, out, retry=retry)
    engine = load_engine(choice)
    run = replace(run, config=engine.stream(**settings).config)
    told = about(engine, choice.model, choice.adapter, **(said or {}))
    return _rows(run, run.head(engine), told, having(measure, engine, run), out, retry=retry)


def _cluster(ray: str | None, workers: int | None) -> _Cluster | None:
    if ray is None and workers is not None:
        raise typer.BadParameter("workers are those of a Ray cluster: say --ray too", param_hint="'--workers'")
    return None if ray is None else (ray, workers)


def _spread(job: Job, cluster: _Cluster, out: Path | None, *, retry: bool) -> list[Row]:
    """The same over a Ray cluster, whose notices go to stderr."""
    import sys
    from contextlib import ExitStack, redirect_stdout

    from ..eval.cluster import fleet
    from .session import waiting, warn

    address, workers = cluster
    with ExitStack() as stack:
        with redirect_stdout(sys.stderr), waiting(f"loading {job.model}"):
            found = stack.enter_context(fleet(job, address=address, workers=workers, tell=warn))
        loaded = found.loaded
        return _rows(found.run, loaded.head, loaded.about, found.measure, out, retry=retry)


def _rows(
    run: Run,
    head: dict[str, Any],
    about: dict[str, Any],
    measure: Callable[..., Iterator[Row]],
    out: Path | None,
    *,
    retry: bool,
) -> list[Row]:
    import sys
    import warnings
    from contextlib import nullcontext, redirect_stdout

    from ..eval import RowFile
    from ..eval.run import check_rows, groups
    from ..video import VideoWarning
    from .meter import Meter

    frames = 0

    def on_fed(count: int) -> None:
        nonlocal frames
        frames += count

    warnings.simplefilter("ignore", VideoWarning)  # a row's note says it
    with RowFile(out, head, about) if out is not None else nullcontext() as file:
        rows = kept_rows(file)
        if file is not None:
            check_rows(run, rows, file.path)
        done = {row.key for row in rows if not (retry and row.problem)}
        todo = groups(run, done)
        answers = sum(len(group.missing) for group in todo)
        with Meter({"answers": answers}) as meter, redirect_stdout(sys.stderr):
            for row in measure(done=done, on_fed=on_fed):
                if file is not None:
                    file.add(row.to_dict())
                rows.append(row)
                meter.add("answers")
    kept = f"; rows are in {out}" if out is not None else ""
    print(f"{frames:,} frames of {len(todo):,} spans encoded once for {answers:,} answers{kept}")
    return rows


def kept_rows(file: RowFile | None) -> list[Row]:
    """The rows that an earlier run left in a file."""
    from ..eval import Row

    return [Row.of(row, f"{file.path}, line {i}: ") for i, row in enumerate(file.rows, 2)] if file is not None else []


@evaluate.command(cls=_Spread)
def streamworld(
    model: opt.Model = MODEL,
    adapter: opt.Adapter = None,
    time_prompts: opt.TimePrompts = None,
    dtype: opt.Dtype = None,
    device: opt.Device = None,
    device_map: opt.DeviceMap = None,
    mode: Modes = [MODE],  # noqa: B006  # typer copies it
    baselines: Annotated[bool, typer.Option("--baselines", help=f"Also answer by {' and '.join(BASELINES)}.")] = False,
    k: opt.K = None,
    delta: opt.Delta = None,
    window: opt.Window = None,
    seed: Annotated[int | None, typer.Option(help="Of the first stream; the next ones count on.")] = None,
    limit: Annotated[int | None, typer.Option(help="Questions.")] = None,
    steps: Annotated[int | None, typer.Option(help="Length of each stream, seconds.")] = None,
    questions_per_stream: Annotated[int | None, typer.Option(help="Questions about each stream.")] = None,
    since: Annotated[float | None, typer.Option(help="Ask from this share of each stream on, as in 0.5.")] = None,
    split: Annotated[str | None, typer.Option(help="test, new (cards never trained on) or train.")] = None,
    families: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="Families of questions. Default: all.", show_default=False)
    ] = None,
    as_open: Annotated[bool, typer.Option("--open", help="Short answers in place of options.")] = False,
    visual_only: Annotated[bool, typer.Option("--visual-only", help="Score blocks by their pictures alone.")] = False,
    memory: opt.Memory = STREAM.memory,
    size: Annotated[int | None, typer.Option(help="Pixels across and down.")] = None,
    batch: Annotated[int, typer.Option(help="Frames encoded per call.")] = 64,
    ray: Ray = None,
    workers: Workers = None,
    out: Out = None,
) -> None:
    """Generated streams with questions whose answers and evidence are known; nothing is fetched."""
    from ..eval import load

    said = {
        "seed": seed,
        "limit": limit,
        "steps": steps,
        "per_stream": questions_per_stream,
        "since": since,
        "split": split,
        "families": names(families),
        "open": as_open,
        "size": size,
    }
    benchmark = load("streamworld", **{key: value for key, value in said.items() if value is not None})
    modes = modes_of([*mode, *(BASELINES if baselines else ())], k, delta)
    settings = opt.stream_settings(1.0, window, batch) | {"visual_only": visual_only, "memory": memory}
    choice = ModelChoice(model, adapter, time_prompts, dtype, device, device_map)
    examples, cluster = benchmark.examples("."), _cluster(ray, workers)
    rows = measured(choice, benchmark, Path(), examples, settings, modes, out, cluster=cluster)
    from .figures import show

    show(benchmark, rows, allow_missing=False, closing="accuracy")
