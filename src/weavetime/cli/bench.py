"""`weavetime bench`: how fast this machine is, beside its own limits."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from .options import Json

if TYPE_CHECKING:
    from collections.abc import Callable

UNITS = {"limits": " (FLOP/s; bytes/s)"}


def bench(
    shape: Annotated[
        str | None, typer.Option(help="mini, llava-onevision-7b, qwen2-vl-7b, longva-7b, …; random weights.")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="rekv: ReKV's published efficiency run instead of single figures.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N.")] = None,
    window: Annotated[int | None, typer.Option(help="Blocks in the window.")] = None,
    k: Annotated[int | None, typer.Option("--k", help="Blocks recalled.")] = None,
    blocks: Annotated[int | None, typer.Option(help="Blocks of history before questions are asked.")] = None,
    as_json: Json = False,
) -> None:
    """Measure encoding, first tokens, decoding and memory, each beside what the device allows."""
    console = Console(stderr=True, highlight=False)

    def say(text: str) -> None:
        console.print(f"[dim]{text}")

    found = _run(protocol, {"shape": shape, "device": device, "window": window, "k": k, "blocks": blocks}, say)
    if as_json:
        print(json.dumps(found))
        return
    rows = found.pop("rows", None)
    if rows is not None:
        Console(highlight=False).print(_table(rows))
    for name, value in found.items():
        Console(highlight=False).print(f"{name}{UNITS.get(name, '')}: {_shown(value)}")


def _run(protocol: str | None, said: dict[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    wanted = {name: value for name, value in said.items() if value is not None}
    if protocol not in (None, "rekv"):
        raise typer.BadParameter(f"{protocol!r} is not a protocol: rekv is", param_hint="'--protocol'")
    if protocol and (fixed := wanted.keys() & {"window", "blocks"}):
        raise typer.BadParameter(f"the protocol fixes {' and '.join(sorted(fixed))}", param_hint="'--protocol'")
    from ..bench import Protocol, Setting, rekv_protocol
    from ..bench import bench as measure

    return rekv_protocol(Protocol(**wanted), say) if protocol else measure(Setting(**wanted), say)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(each)}" for key, each in value.items() if each is not None)
    if isinstance(value, (list, tuple)):
        return " / ".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("figure")
    for name in ("measured", "limit", "ratio"):
        table.add_column(name, justify="right")
    table.add_column("unit", style="dim")
    for row in rows:
        limit = "" if row["limit"] is None else f"{row['limit']:.3g}"
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
        table.add_row(row["name"], f"{row['value']:.4g}", limit, ratio, row["unit"])
    return table
