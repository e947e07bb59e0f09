"""Published annotation files, where there are any (their licences keep them out of this repository); the command."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from weavetime.cli import main


@pytest.fixture
def published() -> Path:
    """The folder of published annotation files that WEAVETIME_FIXTURES names; skips where it names none."""
    folder = os.environ.get("WEAVETIME_FIXTURES", "")
    if not folder:
        pytest.skip("WEAVETIME_FIXTURES names no folder of published annotation files")
    return Path(folder)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """The command line in this process: exit code, stdout, stderr."""

    def called(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["weavetime", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "120")
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        return int(left.value.code or 0), said.out, said.err

    return called
