import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("camera") and not Path("/dev/video0").exists():
        pytest.skip("no /dev/video0")
