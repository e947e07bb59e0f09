"""Progress of long work on stderr, on a terminal alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar with the time left; what it gives is told how much is done."""
    columns = (TextColumn(what), BarColumn(30), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total)
        yield lambda done: progress.update(task, completed=done)


class Meter:
    """Work of several kinds at speeds of their own: the time left is what each kind took so far, times what is left.

    totals: how much there is of each kind.
    """

    def __init__(self, totals: dict[str, int]) -> None:
        self.totals, self.done, self.spent = totals, dict.fromkeys(totals, 0), dict.fromkeys(totals, 0.0)
        console = Console(stderr=True)
        columns = (BarColumn(30), TextColumn("[dim]{task.fields[text]}"))
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("", total=1.0, text="")
        self._last = time.monotonic()

    def __enter__(self) -> Meter:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def add(self, kind: str, count: int = 1) -> None:
        """So much more of a kind is done; it took the time since the last call."""
        now = time.monotonic()
        self.done[kind] += count
        self.spent[kind] += now - self._last
        self._last = now
        left = self.left()
        said = " · ".join(f"{self.done[k]:,} of {n:,} {k}" for k, n in self.totals.items())
        clock = "" if left is None else f" · {left // 60:.0f}:{left % 60:02.0f} left"
        share = 0.0 if left is None else sum(self.spent.values()) / max(sum(self.spent.values()) + left, 1e-9)
        self._bar.update(self._task, completed=share, text=said + clock)

    def left(self) -> float | None:
        """Seconds left; None until some of every kind is done."""
        if any(self.done[k] == 0 < n for k, n in self.totals.items()):
            return None
        return sum(self.spent[k] / self.done[k] * (n - self.done[k]) for k, n in self.totals.items() if n)
