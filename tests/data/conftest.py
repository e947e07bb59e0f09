"""Data sets on the stand-in for the hubs, archives made on the spot, and small videos."""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from tests.stand import Stand, serve

from weavetime.cli import main
from weavetime.hub import files


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    """The server, with every hub's client pointed at it."""
    monkeypatch.setattr(files, "PAUSE", 0.001)
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.delenv("MODELSCOPE_DOMAIN", raising=False)
    with serve() as stand:
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", stand.url)
        monkeypatch.setenv("HF_ENDPOINT", stand.url)
        monkeypatch.setenv("GITHUB_API_URL", stand.url)
        monkeypatch.setenv("GITHUB_RAW_URL", f"{stand.url}/raw")
        yield stand


@pytest.fixture
def pack() -> Callable[[str, Mapping[str, bytes]], bytes]:
    """Makes an archive of the kind that a name says."""

    def call(name: str, members: Mapping[str, bytes]) -> bytes:
        out = io.BytesIO()
        if name.endswith(".zip"):
            with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
                for path, data in members.items():
                    archive.writestr(path, data)
            return out.getvalue()
        kind = {"gz": "w:gz", "tgz": "w:gz", "xz": "w:xz", "bz2": "w:bz2"}.get(name.rsplit(".", 1)[1], "w")
        with tarfile.open(fileobj=out, mode=kind) as tar:  # type: ignore[call-overload]
            for path, data in members.items():
                member = tarfile.TarInfo(path)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        return out.getvalue()

    return call


@pytest.fixture(scope="session")
def make_video() -> Callable[..., Path]:
    """Makes a small clip, 10 pictures a second unless said."""

    def call(path: Path, count: int, rate: int = 10, front: bool = False) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        options = {"movflags": "faststart"} if front else {}
        noise = np.random.default_rng(0)
        with av.open(str(path), "w", options=options) as out:
            stream = out.add_stream("libx264", rate=rate, options={"crf": "30", "g": str(rate)})
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
            for _ in range(count):
                pixels = noise.integers(0, 255, (64, 96, 3), np.uint8)
                out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            out.mux(stream.encode())
        return path

    return call


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Callable[..., SimpleNamespace]:
    """Runs weavetime in this process: its exit code and what it wrote."""

    def call(*arguments: object) -> SimpleNamespace:
        out, err = io.StringIO(), io.StringIO()
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setattr(sys, "argv", ["weavetime", *map(str, arguments)])
        with redirect_stdout(out), redirect_stderr(err):
            try:
                main()
                code = 0
            except SystemExit as left:
                code = int(left.code or 0)
        return SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue())

    return call
