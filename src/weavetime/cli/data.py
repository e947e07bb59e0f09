"""`weavetime data`: training data and benchmarks fetched, converted and checked."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from ..errors import DataError
from .show import size

if TYPE_CHECKING:
    from ..data.check import CheckSettings, Report
    from ..data.get import Plan
    from ..data.registry import DataSet
    from ..eval.check import BenchmarkReport

SHOWN = 20  # lines of one list on the screen

data = typer.Typer(
    name="data",
    help="Fetch, convert and check data sets.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _console() -> Console:
    return Console(stderr=True, highlight=False)


@data.command()
def get(
    name: Annotated[
        str | None,
        typer.Argument(help="A name that --list shows, or hf:ID, modelscope:ID, github:ID.", show_default=False),
    ] = None,
    hub: Annotated[
        str | None, typer.Option("--from", metavar="HUB", help="hf or modelscope, where it is on both.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="The folder it goes to. Default: data/NAME.", show_default=False)
    ] = None,
    include: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Only files that match, as in '*/0_30_s_*'; repeatable.")
    ] = None,
    keep_archives: Annotated[bool, typer.Option("--keep-archives", help="Leave archives after unpacking.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would come, and stop.")] = False,
    show_list: Annotated[bool, typer.Option("--list", help="List the data sets that have a name.")] = False,
) -> None:
    """Fetch a data set: checked against its hub's checksums, unpacked, and gone on with where a run was stopped."""
    from ..data.get import GetSettings, carry_out, plan
    from ..data.registry import DATA_SETS, find

    if show_list:
        _list_data_sets(list(DATA_SETS.values()))
        return
    if name is None:
        raise typer.BadParameter("name a data set; --list shows them", param_hint="'NAME'")
    found, console = find(name), _console()
    folder = to or Path("data") / found.name.split(":")[-1].split("/")[-1]
    _introduce(found, console)
    with console.status("asking the hub"):
        work = plan(found, folder, GetSettings(hub, tuple(include or ()), keep_archives))
    _announce(work, console)
    if work.units and not dry_run:
        with _transfer(console, work.size) as told:
            carry_out(work, told)
        console.print(f"done: {folder}")


@data.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A training file, .jsonl or .json.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write.")],
    form: Annotated[
        str | None, typer.Option("--format", metavar="NAME", help="jsonl or llava. Default: what OUT's name says.")
    ] = None,
    video_root: Annotated[
        list[str] | None, typer.Option(metavar="OLD=NEW", help="Put videos under another folder; repeatable.")
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out samples that cannot be read.")] = False,
) -> None:
    """Write a training file as chat messages in JSONL, or as LLaVA's JSON."""
    from ..data.convert import convert as run
    from ..data.convert import parse_root
    from ..data.records import FORMATS

    formats = {name: name for name in FORMATS.values()}
    if form is not None and form not in formats:
        raise typer.BadParameter(f"{form!r} is neither {' nor '.join(formats)}", param_hint="'--format'")
    console = _console()
    with _counting(console) as told:
        made = run(
            source,
            target,
            form=None if form is None else formats[form],
            roots=[parse_root(text) for text in video_root or ()],
            skip_bad=skip_bad,
            told=lambda n: told("samples", n, 0),
        )
    console.print(f"{target}: {made.samples} samples" + (f", {made.moved} videos moved" if video_root else ""))
    for name, count in made.dropped.items():
        console.print(
            f"[yellow]dropped {name!r} from {count} samples: it stands beside a turn, which has no place for it"
        )
    _print_some(console, made.left_out, "left out")


@data.command()
def check(
    what: Annotated[
        str,
        typer.Argument(metavar="FILE_OR_DIR|NAME", help="A training file, a folder of them, or a benchmark's name."),
    ],
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="With a name: the benchmark's folder.", show_default=False)
    ] = None,
    video_root: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where a training file's relative video paths start. Default: beside it."),
    ] = None,
    variant: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A published variant of the benchmark.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Only open videos; decode nothing.")] = False,
    jobs: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Videos read at once. Default: one a core.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--json", metavar="OUT", help="Write everything that was found to a file.")
    ] = None,
) -> None:
    """Check that a training file's samples, or a benchmark's questions, can be used and that every video decodes where
    it is needed; exit 1 where not."""
    from ..data.check import KINDS, CheckSettings

    console = _console()
    settings = CheckSettings(video_root, quick, jobs or os.cpu_count() or 1)
    if folder is None:
        report: Report | BenchmarkReport = _check_training(what, settings, console)
        kinds: Mapping[str, str] = KINDS
    else:
        if video_root is not None:
            raise typer.BadParameter("a benchmark's videos lie in its folder", param_hint="'--video-root'")
        report, kinds = _check_benchmark(what, folder, variant, settings, console)
    if out is not None:
        out.write_text(json.dumps(report.to_dict(), indent=1, ensure_ascii=False) + "\n")
    for kind, count in report.counts.items():
        console.print(f"[red]{kinds[kind]}: {count}")
    lines = [p.what if p.what.startswith(f"{p.where} ") else f"{p.where}: {p.what}" for p in report.problems]
    _print_some(console, lines, "more" if out is None else f"more in {out}")
    if report.problems:
        raise typer.Exit(1)
    console.print("nothing is wrong")


def _check_training(what: str, settings: CheckSettings, console: Console) -> Report:
    from ..data.check import check as run
    from ..eval import names

    if not Path(what).exists() and what.replace("-", "_") in names():
        raise DataError(f"{what} is a benchmark: say which folder, as in weavetime data check {what} DIR")
    with _counting(console) as told:
        report = run(Path(what), settings, told)
    console.print(f"{report.samples} samples, {report.videos} videos in {len(report.files)} files")
    return report


def _check_benchmark(
    name: str, folder: Path, variant: list[str] | None, settings: CheckSettings, console: Console
) -> tuple[BenchmarkReport, Mapping[str, str]]:
    from ..eval import load
    from ..eval.check import KINDS
    from ..eval.check import check as run
    from .eval import variants

    with _counting(console) as told:
        report = run(load(name, **variants(variant)), folder, settings, told)
    table = Table(box=None, pad_edge=False)
    table.add_column("task")
    table.add_column("questions", justify="right")
    table.add_column("published", justify="right")
    for task, (found, published) in report.rows.items():
        table.add_row(task, str(found), "not known" if published is None else str(published))
    console.print(table)
    console.print(f"{report.benchmark}: {report.questions} questions, {report.videos} videos in {folder}")
    return report, KINDS


def _print_some(console: Console, lines: Sequence[str], rest: str) -> None:
    for line in lines[:SHOWN]:
        console.print(line, markup=False, soft_wrap=True)
    if len(lines) > SHOWN:
        console.print(f"and {len(lines) - SHOWN} {rest}")


def _list_data_sets(found: list[DataSet]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("name", "what", "size", "licence"):
        table.add_column(column, overflow="fold")
    for entry in found:
        table.add_row(entry.name, entry.about, entry.size, entry.licence)
    Console(highlight=False).print(table)


def _introduce(found: DataSet, console: Console) -> None:
    lines = Table.grid(padding=(0, 2))
    lines.add_column(style="dim", no_wrap=True)
    lines.add_column(overflow="fold")
    for label, text in found.said():
        lines.add_row(label, text)
    console.print(lines)


def _announce(work: Plan, console: Console) -> None:
    for source, (files, nbytes) in work.by_source().items():
        console.print(f"{source}: {files} files, {size(nbytes)}")
    if work.finished:
        console.print(f"already there: {work.finished} files and archives")
    if not work.units:
        console.print(f"nothing to fetch: {work.folder} is complete")


@contextmanager
def _counting(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """A bar of what is counted; one line for each kind."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        tasks: dict[str, TaskID] = {}

        def told(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=None)
            progress.update(tasks[what], completed=done, total=of or None)

        yield told


class _Shown:
    """Feeds a bar of bytes."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._task = progress, progress.add_task("", total=total)

    def __call__(self, what: str, done: int) -> None:
        self._progress.update(self._task, description=what, completed=done)


@contextmanager
def _transfer(console: Console, total: int) -> Iterator[_Shown]:
    columns = (
        TextColumn("{task.description}", table_column=None),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield _Shown(progress, total)
