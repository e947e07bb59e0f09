"""Break the code on purpose, one break at a time, and expect the tests that each break names to go red.

    python tests/breaks/run.py [NAME ...]        # all breaks, or those whose file name contains one of the names

A break is tests/breaks/NAME.toml: `what` it breaks, the `file`, the text `old` (which must stand there exactly once),
the text `new`, and `tests`: test ids, each of which must fail. The working tree is never edited: each break is made in
a copy of src. Exit code 1 when a break stays green, is stale, or makes something else than a failing test.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 300  # seconds that the tests of one break may take
HEAVY = ["torch", "torch._dynamo", "transformers.core_model_loading", "transformers.trainer", "hypothesis", "pytest"]
CONTEXT = multiprocessing.get_context("forkserver")  # imports HEAVY once, for all runs: most of a run's time otherwise
FIELDS = {"what": str, "file": str, "old": str, "new": str, "tests": list}


class StaleError(Exception):
    """A break that no longer fits the code."""


@dataclass(frozen=True)
class Break:
    """One way to break one file."""

    name: str
    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Break:
        """The break in a file."""
        table = tomllib.loads(path.read_text())
        if table.keys() != FIELDS.keys() or not all(isinstance(table[k], t) for k, t in FIELDS.items()):
            raise StaleError(f"{path.name}: holds {', '.join(table)}; expected {', '.join(FIELDS)}")
        if not table["tests"] or not table["file"].startswith("src/"):
            raise StaleError(f"{path.name}: names no test, or a file outside src/")
        return cls(path.stem, **(table | {"tests": tuple(table["tests"])}))

    def broken(self, tree: Path) -> str:
        """The text of the file with the break in it."""
        path = tree / self.file
        text = path.read_text() if path.is_file() else ""
        if (count := text.count(self.old)) != 1 or self.old == self.new:
            raise StaleError(f"{self.name}: `old` stands {count} times in {self.file}; expected once, other than `new`")
        new = text.replace(self.old, self.new)
        if self.file.endswith(".py"):
            try:
                compile(new, self.file, "exec", dont_inherit=True)
            except SyntaxError as e:
                raise StaleError(f"{self.name}: leaves no Python in {self.file}: {e}") from e
        return new


@dataclass(frozen=True)
class Run:
    """How a pytest run ended: its exit code (None: over the time limit), each test's outcome, its output."""

    code: int | None
    outcomes: dict[str, str]
    output: str

    def of(self, test: str) -> set[str]:
        """Outcomes of a test id: the test itself, or all below it (parameters, a class, a file)."""
        return {o for node, o in self.outcomes.items() if node == test or node.startswith((f"{test}[", f"{test}::"))}


def run_tests(tree: Path, tests: list[str], limit: float) -> Run:
    """Run tests against the package in tree/src."""
    observed, said = tree / "observed.json", tree / "output.txt"
    observed.unlink(missing_ok=True)
    process = CONTEXT.Process(target=_run_pytest, args=(tree, tests, observed, said))
    process.start()
    try:
        process.join(limit)
    finally:
        late = process.exitcode is None
        if late:  # a process group of its own, which no ctrl-c reaches
            os.killpg(process.pid, signal.SIGKILL)
            process.join()
    if late:
        return Run(None, {}, "")
    nothing: dict[str, Any] = {"source": "", "outcomes": {}}
    seen, output = json.loads(observed.read_text()) if observed.is_file() else nothing, said.read_text()
    if seen["outcomes"] and Path(seen["source"]) != (tree / "src").resolve():
        sys.exit(f"not the copy but {seen['source'] or 'no weavetime'} was tested:\n{output}")
    return Run(process.exitcode, seen["outcomes"], output)


def _run_pytest(tree: Path, tests: list[str], observed: Path, said: Path) -> None:
    """In a process of its own, forked from one that has imported the heavy libraries and nothing of the package."""
    os.setsid()
    with said.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    source = str(tree / "src")
    sys.path[:0] = [source, str(ROOT)]
    sys.dont_write_bytecode = True
    os.environ |= {
        "PYTHONPATH": os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")])),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": str(tree / "hypothesis"),
        "WEAVETIME_OBSERVED": str(observed),
    }
    os.chdir(ROOT)
    options = ["-p", "tests.breaks.observe", "-p", "no:cacheprovider", "--tb=line"]
    sys.exit(int(pytest.main([*options, *tests])))


def copy_source(tree: Path) -> None:
    """A fresh copy of src, without compiled files: they would be taken for those of the broken text."""
    shutil.rmtree(tree / "src", ignore_errors=True)
    shutil.copytree(ROOT / "src", tree / "src", ignore=shutil.ignore_patterns("__pycache__"))


def verdict(broken: Break, run: Run) -> str:
    """`red` where every named test failed (with parameters: for at least one), else what happened instead."""
    if run.code is None:
        return f"no end within {LIMIT} s"
    if run.code != 1:
        return "STAYED GREEN" if run.code == 0 else f"pytest exit code {run.code}"
    wrong = {test: run.of(test) for test in broken.tests if "failed" not in run.of(test)}
    return "; ".join(f"{t}: {', '.join(sorted(o)) or 'did not run'}" for t, o in wrong.items()) or "red"


def try_break(broken: Break, tree: Path) -> bool:
    """Apply one break, run its tests, print a line; whether they went red."""
    started = time.monotonic()
    copy_source(tree)
    (tree / broken.file).write_text(broken.broken(tree))
    run = run_tests(tree, list(broken.tests), LIMIT)
    result = verdict(broken, run)
    print(f"{broken.name:<28} {time.monotonic() - started:5.1f} s  {result:<13} {broken.what}", flush=True)
    if result != "red":
        print(run.output)
    return result == "red"


def check_unbroken(breaks: list[Break], tree: Path) -> None:
    """Stop unless every named test passes before anything is broken."""
    copy_source(tree)
    tests = sorted({t for b in breaks for t in b.tests})
    run = run_tests(tree, tests, LIMIT * len(breaks))
    bad = [t for t in tests if run.of(t) != {"passed"}]
    if run.code != 0 or bad:
        sys.exit(f"{run.output}\nnot green before anything is broken: {', '.join(bad) or run.code}")


def main(names: list[str]) -> None:
    """Read the breaks, check them, try each."""
    CONTEXT.set_forkserver_preload(HEAVY)
    files = sorted(p for p in Path(__file__).parent.glob("*.toml") if not names or any(n in p.stem for n in names))
    with tempfile.TemporaryDirectory(prefix="weavetime-breaks-") as folder:
        tree = Path(folder)
        try:
            breaks = [Break.read(p) for p in files]
            for broken in breaks:
                broken.broken(ROOT)
            if not breaks:
                raise StaleError("no break of that name")
        except StaleError as e:
            sys.exit(f"stale break: {e}")
        check_unbroken(breaks, tree)
        red = sum([try_break(b, tree) for b in breaks])
    print(f"{red} of {len(breaks)} breaks turned their tests red")
    sys.exit(red < len(breaks))


if __name__ == "__main__":
    main(sys.argv[1:])
