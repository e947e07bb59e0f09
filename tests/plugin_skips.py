"""Pytest plugin: with WEAVETIME_STRICT_SKIPS=1 a skip fails, unless the test is marked as one that may be skipped."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

MAY_SKIP = frozenset({"gpu", "camera", "fixtures"})


def strict() -> bool:
    """Whether skips count as failures."""
    return os.environ.get("WEAVETIME_STRICT_SKIPS") == "1"


def refuse(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure that says why the test was skipped."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"{report.nodeid}: skipped, and not marked {', '.join(sorted(MAY_SKIP))} ({reason})"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Skips of one test."""
    report = yield
    allowed = any(mark.name in MAY_SKIP for mark in item.iter_markers())
    if strict() and report.skipped and not hasattr(report, "wasxfail") and not allowed:
        refuse(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Skips of a whole module, which no mark can allow."""
    report = yield
    if strict() and report.skipped:
        refuse(report)
    return report
