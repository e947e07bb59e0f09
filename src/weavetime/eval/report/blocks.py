"""The parts of a report, and how they become Markdown and HTML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

Cell = str | tuple[str, str]
"""What a cell says; with a remark, as an interval, (what it says, the remark)."""


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the page's."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    """A paragraph, `code` between backticks. loud: a reader must see it first. code: it is shown as it is."""

    text: str
    loud: bool = False
    code: bool = False


@dataclass(frozen=True)
class Table:
    """A table whose first column names the rows. strong: numbers of rows that stand out. left: all cells are words."""

    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    strong: frozenset[int] = frozenset()
    left: bool = False


@dataclass(frozen=True)
class Figure:
    """A plot. name: of its file, without the ending. says: what it shows."""

    name: str
    svg: str
    says: str


Block = Heading | Text | Table | Figure


def markdown(blocks: Iterable[Block]) -> str:
    """The report for a page that shows Markdown; plots are files beside it."""
    return "\n\n".join(map(_markdown, blocks)) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Heading():
            return f"{'#' * block.level} {_plain(block.text)}"
        case Text(code=True):
            fence = "`" * max(3, 1 + max(map(len, re.findall("`+", block.text)), default=0))
            return f"{fence}text\n{block.text}\n{fence}"
        case Text():
            return f"> **{_plain(block.text)}**" if block.loud else _plain(block.text)
        case Figure():
            return f"![{_plain(block.says)}]({block.name}.svg)"
    dashes = ["---", *["---" if block.left else "--:"] * (len(block.header) - 1)]
    lines = [list(map(_plain, block.header)), dashes]
    for i, row in enumerate(block.rows):
        cells = [_plain(cell if isinstance(cell, str) else f"{cell[0]} ({cell[1]})") for cell in row]
        lines.append([f"**{cell}**" if cell and i in block.strong else cell for cell in cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """Text of which Markdown makes nothing else; backticks stay."""
    return re.sub(r"([\\|<*\[])", r"\\\1", " ".join(text.split()))


STYLE = """
:root { color-scheme: light dark; --ink: #1f2429; --soft: #5d656d; --rule: #d8dde2; --paper: #fff; --panel: #f5f6f8;
  --loud: #9a3a00; --loud-paper: #fdf1e6 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --soft: #a3abb3; --rule: #3a4148; --paper: #14171a;
  --panel: #1d2125; --loud: #ffb27a; --loud-paper: #33220f } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 72rem; padding: 1rem clamp(.8rem, 3vw, 2rem) 4rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.6rem; line-height: 1.2 } h2 { margin-top: 3rem; border-top: 2px solid var(--rule); padding-top: 1rem }
h3 { margin: 2rem 0 .5rem }
.scroll { overflow-x: auto; margin: .8rem 0 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; overflow-wrap: normal }
th, td { padding: .35rem .7rem; border-bottom: 1px solid var(--rule); text-align: right; vertical-align: top;
  white-space: nowrap }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--paper);
  white-space: normal; min-width: 6rem; max-width: 12rem }
table.left td, table.left th { text-align: left; white-space: normal; overflow-wrap: anywhere }
table.left td:first-child { min-width: 7.5rem; color: var(--soft) }
thead th { color: var(--soft); font-weight: 600; white-space: normal; overflow-wrap: break-word; min-width: 4.5rem;
  max-width: 9rem; vertical-align: bottom }
@media (max-width: 40rem) { th, td { padding: .35rem .4rem } table { font-size: .85rem } }
 tr.strong td { font-weight: 700; background: var(--panel) }
small { display: block; color: var(--soft); font-weight: 400; font-size: .78rem }
.loud { border-left: 4px solid var(--loud); background: var(--loud-paper); color: var(--loud); padding: .6rem .9rem;
  margin: .5rem 0; font-weight: 600 }
figure { margin: 1rem 0 } figure svg { width: 100%; max-width: 40rem; height: auto }
figcaption, .note { color: var(--soft); font-size: .9rem }
code, pre { font: .88em ui-monospace, monospace; background: var(--panel); border-radius: 4px; padding: .1em .3em }
pre { padding: .7rem; white-space: pre-wrap }
""".strip()


def html(blocks: Sequence[Block], title: str) -> str:
    """The report as one page that needs nothing else: styles and plots are inside."""
    head = (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>\n{STYLE}\n</style>\n</head>'
    )
    return f"{head}\n<body>\n" + "\n".join(map(_html, blocks)) + "\n</body>\n</html>\n"


def _html(block: Block) -> str:
    match block:
        case Heading():
            return f"<h{block.level}>{_marked(block.text)}</h{block.level}>"
        case Text(code=True):
            return f"<pre>{escape(block.text)}</pre>"
        case Text():
            return f"<p{_class('loud', block.loud)}>{_marked(block.text)}</p>"
        case Figure():
            return f"<figure>{block.svg}<figcaption>{_marked(block.says)}</figcaption></figure>"
    header = "".join(f"<th>{re.sub(r'(?=[(])|(?<=,)', '<wbr>', _marked(name))}</th>" for name in block.header)
    rows = "".join(
        f"<tr{_class('strong', i in block.strong)}>{''.join(map(_cell, row))}</tr>\n"
        for i, row in enumerate(block.rows)
    )
    body = f"<thead><tr>{header}</tr></thead>\n<tbody>{rows}</tbody>"
    return f'<div class="scroll"><table{_class("left", block.left)}>{body}</table></div>'


def _class(name: str, wanted: bool) -> str:
    return f' class="{name}"' if wanted else ""


def _cell(cell: Cell) -> str:
    if isinstance(cell, str):
        return f"<td>{_marked(cell)}</td>"
    return f"<td>{_marked(cell[0])}<small>{_marked(cell[1])}</small></td>"


def _marked(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
