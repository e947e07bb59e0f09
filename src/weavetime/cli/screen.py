"""A status line held at the bottom of a terminal, while text scrolls and is typed above it."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

PERIOD = 0.5  # seconds between two looks at the status
SAVE, RESTORE, DOWN, UP = "\0337", "\0338", "\033D", "\033[1A"  # DOWN scrolls where there is no row below


class StatusLine:
    """The last row of the terminal, set apart as `apt` does: lines above it scroll in a region of their own.

    Every change is one write between a saved and a restored cursor, so typing with readline goes on undisturbed.
    """

    def __init__(self, text: Callable[[], str]) -> None:
        self._text = text
        self._stop = threading.Event()
        self._size: os.terminal_size | None = None
        self._thread = threading.Thread(target=self._run, name="weavetime-status", daemon=True)

    def __enter__(self) -> StatusLine:
        self._draw()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._size is not None:
            _write(f"{SAVE}\033[r\033[{self._size.lines};1H\033[2K{RESTORE}")

    def _run(self) -> None:
        while not self._stop.wait(PERIOD):
            self._draw()

    def _draw(self) -> None:
        size = os.get_terminal_size(sys.stdout.fileno())
        if size.lines < 3:
            return
        if size != self._size:
            self._size = size
            # The cursor may stand on the last row: make room below it and go back up; only an old status is below it.
            _write(f"{SAVE}\033[r{RESTORE}{DOWN}{SAVE}\033[1;{size.lines - 1}r{RESTORE}{UP}\033[J")
        text = self._text()[: size.columns - 1].ljust(size.columns - 1)
        _write(f"{SAVE}\033[{size.lines};1H\033[2K\033[7m{text}\033[0m{RESTORE}")


def _write(text: str) -> None:
    sys.stdout.flush()
    os.write(sys.stdout.fileno(), text.encode())
