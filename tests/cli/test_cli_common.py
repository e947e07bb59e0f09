"""What every command shares: help without model code, version, usage errors, one line for an error."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from cli_process import DEMO, Ran, environment
from typer.main import get_command

import weavetime
from weavetime.cli import app
from weavetime.cli.show import clipped, ranges
from weavetime.config import Decoding, StreamConfig

Run = Callable[..., Ran]


def test_version(run: Run) -> None:
    assert run("--version") == Ran(0, f"weavetime {weavetime.__version__}\n", "")


def test_help_loads_no_model_code() -> None:
    code = (
        "import sys, weavetime.cli\n"
        "try: weavetime.cli.main()\n"
        "except SystemExit as e: assert e.code == 0\n"
        "print('heavy:', *sorted({'torch', 'transformers', 'av', 'numpy'} & sys.modules.keys()))"
    )
    argv = [sys.executable, "-c", code, "--help"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True, env=environment())
    assert done.stdout.rstrip().endswith("heavy:")
    for name in ("ask", "watch", "demo", "bench"):
        assert name in done.stdout


def test_the_installed_script_is_this_command() -> None:
    script = Path(sys.executable).with_name("weavetime")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("weavetime ")


@pytest.mark.parametrize("command", ["ask", "watch"])
def test_defaults_are_those_of_the_settings(command: str) -> None:
    found = {p.name: p.default for p in get_command(app).commands[command].params}  # type: ignore[attr-defined]
    known = {f.name: f.default for kind in (Decoding, StreamConfig) for f in fields(kind)}
    shared = (found.keys() & known.keys()) - {"window"}  # the model's record has a say in the window
    assert shared >= {"fps", "batch", "cache", "max_tokens", "temperature", "top_p", "seed"}
    assert {name: found[name] for name in shared} == {name: known[name] for name in shared}


@pytest.mark.parametrize(
    "arguments",
    [
        ["ask", DEMO],
        ["ask", DEMO, "What?", "--fps", "fast"],
        ["ask", DEMO, "What?", "--window", "wide"],
        ["ask", DEMO, "What?", "--unknown"],
        ["watch"],
        ["bench", "--protocol", "other"],
        ["look"],
    ],
)
def test_wrong_usage_exits_2(call: Run, arguments: list[str]) -> None:
    ran = call(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert "Traceback" not in ran.err


def test_every_public_name_is_found_where_the_package_says() -> None:
    assert {name for name in weavetime.__all__ if getattr(weavetime, name) is None} == set()
    assert set(weavetime.__all__) <= set(dir(weavetime))
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        weavetime.nothing_of_the_kind  # noqa: B018


def test_times_are_said_as_ranges_cut_after_a_whole_one() -> None:
    assert ranges([0.0, 1.0, 2.0, 5.0, 7.0, 8.0], step=1.0) == "0–2, 5, 7–8"
    assert ranges([0.5, 1.0, 2.25], step=0.5) == "0.5–1.0, 2.2"
    assert ranges([], step=1.0) == ""
    assert clipped("0–7, 16, 18, 21–31", 12) == "0–7, 16, …"
    assert (clipped("1, 2", 9), clipped("10–31", 3)) == ("1, 2", "10–31")
