"""Published annotation files, where there are any: their licences keep them out of this repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def published() -> Path:
    """The folder of published annotation files that WEAVETIME_FIXTURES names; skips where it names none."""
    folder = os.environ.get("WEAVETIME_FIXTURES", "")
    if not folder:
        pytest.skip("WEAVETIME_FIXTURES names no folder of published annotation files")
    return Path(folder)
