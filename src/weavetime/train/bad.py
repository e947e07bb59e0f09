"""Samples that could not be used: listed, counted over all processes, and the end of the run where there are many."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import DataError

FILE = "bad_samples.jsonl"


class BadSamples:
    """`bad_samples.jsonl` in the output folder, one line a refusal; `count` is the same on every process."""

    def __init__(self, folder: Path, most: int, *, writes: bool) -> None:
        self.path, self.most, self.writes = folder / FILE, most, writes
        self.count = 0

    def start(self, step: int) -> None:
        """Begin at an optimiser step: what a run that was cut off listed after it is seen again, and taken out."""
        lines = self.path.read_text(encoding="utf-8").splitlines(True) if self.path.is_file() else []
        # A line that a kill broke off is newer than any checkpoint.
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        self.count = len(kept)
        if self.writes and len(kept) < len(lines):
            part = self.path.with_name(f".{FILE}.part")  # the other processes read while this one writes
            part.write_text("".join(kept), encoding="utf-8")
            os.replace(part, self.path)

    def add(self, found: Iterable[dict[str, Any]]) -> None:
        """List refusals of all processes. Raises DataError when more were refused than the run may lose."""
        entries = list(found)
        self.count += len(entries)
        if self.writes and entries:
            with self.path.open("a", encoding="utf-8") as out:
                out.writelines(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
        if self.count > self.most:
            last = entries[-1]
            raise DataError(
                f"{self.count} samples could not be used, more than the {self.most} of run.max_bad: see {self.path}; "
                f"the last is {last['where']}: {last['reason']}"
            )
