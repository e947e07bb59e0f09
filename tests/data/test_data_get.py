"""`data get` against a server with the shapes of the hubs: whole sets, faults of every kind, kills, and going on."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.stand import Stand

from weavetime.data import get
from weavetime.data.get import GetSettings, Plan, carry_out, plan
from weavetime.data.registry import DATA_SETS, HUBS, DataSet, Part, find
from weavetime.errors import DataError
from weavetime.hub import FetchError

NOISE = random.Random(0).randbytes(300_000)
Pack = Callable[..., bytes]


@pytest.fixture(params=HUBS)
def hub(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def full(stand: Stand, pack: Pack) -> Stand:
    """Annotations, videos in archives whole and in pieces."""
    stand.files = {
        "README.md": b"words",
        "train.jsonl": b"[]\n" * 5000,
        "0_30_s/videos_1.tar.gz": pack("a.tar.gz", {"academic/a.mp4": NOISE, "academic/b.mp4": NOISE[:999]}),
        "0_30_s/videos_2.tar.gz": pack("a.tar.gz", {"academic/c.mp4": NOISE[::-1]}),
        "1_2_m/clips.zip": pack("a.zip", {"d.mp4": NOISE[7:]}),
    }
    pieces = pack("a.tar", {"e.mp4": NOISE[9:]})
    stand.files |= {
        f"2_3_m/more.tar.part{mark}": pieces[at * 90_000 : (at + 1) * 90_000]
        for at, mark in enumerate(("aa", "ab", "ac", "ad"))
    }
    stand.lfs = {name for name in stand.files if name not in ("README.md", "train.jsonl")}
    return stand


HELD = {
    "README.md": b"words",
    "train.jsonl": b"[]\n" * 5000,
    "0_30_s/academic/a.mp4": NOISE,
    "0_30_s/academic/b.mp4": NOISE[:999],
    "0_30_s/academic/c.mp4": NOISE[::-1],
    "1_2_m/d.mp4": NOISE[7:],
    "2_3_m/e.mp4": NOISE[9:],
}


def below(folder: Path) -> dict[str, bytes]:
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return {name: data for name, data in found.items() if not name.startswith(get.STATE)}


def run(name: str, folder: Path, **settings: Any) -> Plan:
    work = plan(find(name), folder, GetSettings(**settings))
    carry_out(work)
    return work


def test_every_entry_can_be_fetched() -> None:
    for name, entry in DATA_SETS.items():
        assert find(name) is entry
        assert entry.licence
        for part in entry.parts:
            assert part.on
            assert part.on.keys() <= set(HUBS)
            assert all(repository.count("/") == 1 for repository in part.on.values())
            assert ("github" in part.on) == any("@" in repository for repository in part.on.values())
    assert find("train").parts[0].on == {"modelscope": "zhangyl9/weavetime_it"}
    for wrong in ("trian", "", "nothing/at-all"):
        with pytest.raises(DataError, match="no data set"):
            find(wrong)
    with pytest.raises(DataError, match="did you mean train"):
        find("trian")
    with pytest.raises(DataError, match="no hub"):
        GetSettings(hub="elsewhere")


def test_a_whole_set_and_then_nothing(full: Stand, tmp_path: Path, hub: str) -> None:
    work = run(f"{hub}:someone/data", tmp_path)
    assert below(tmp_path) == HELD
    assert work.size == sum(map(len, full.files.values()))
    assert work.by_source() == {f"{hub}:someone/data": (len(full.files), work.size)}
    assert len(full.downloads()) == len(full.files)
    assert not (tmp_path / get.STATE / "incoming").exists()

    full.gets.clear()
    again = run(f"{hub}:someone/data", tmp_path)
    assert (again.units, again.finished, full.downloads()) == ((), 6, [])

    (tmp_path / "0_30_s/academic/b.mp4").unlink()
    (tmp_path / "train.jsonl").write_bytes(b"cut")
    with pytest.raises(DataError, match=r"train\.jsonl is in the way"):
        run(f"{hub}:someone/data", tmp_path)
    (tmp_path / "train.jsonl").unlink()
    full.gets.clear()
    run(f"{hub}:someone/data", tmp_path)
    assert below(tmp_path) == HELD
    assert len(full.downloads()) <= 2


def test_parts_go_to_their_folders_from_the_hub_that_has_them(full: Stand, tmp_path: Path) -> None:
    parts = (
        Part({"modelscope": "someone/data"}, into="annotations", patterns=("*.jsonl", "*.md")),
        Part({"hf": "someone/data", "modelscope": "someone/data"}, into="videos", patterns=("*_*/*",)),
    )
    data = DataSet("both", "about", "licence", "size", parts)
    for chosen, start in ((None, "/datasets/"), ("hf", "/datasets/"), ("modelscope", "/api/v1/datasets/")):
        full.gets.clear()
        work = plan(data, tmp_path / str(chosen), GetSettings(hub=chosen))
        carry_out(work)
        wanted = {("annotations/" if "/" not in name else "videos/") + name: data for name, data in HELD.items()}
        assert below(tmp_path / str(chosen)) == wanted
        assert all(g.startswith(start) for g in full.downloads() if "0_30_s" in g)
        assert all(g.startswith("/api/v1/") for g in full.downloads() if "jsonl" in g)


def test_include_takes_a_part(full: Stand, tmp_path: Path, hub: str) -> None:
    name = f"{hub}:someone/data"
    run(name, tmp_path, include=("0_30_s/*_2.tar.gz", "*.md"))
    assert below(tmp_path).keys() == {"README.md", "0_30_s/academic/c.mp4"}
    [unit] = plan(find(name), tmp_path, GetSettings(include=("*.partac",))).units
    assert len(unit.files) == 4  # a piece stands for its archive
    with pytest.raises(DataError, match="no file matches nothing"):
        run(name, tmp_path, include=("nothing",))
    run(name, tmp_path)
    assert below(tmp_path) == HELD


def test_archives_stay_where_that_is_said(full: Stand, tmp_path: Path, hub: str) -> None:
    run(f"{hub}:someone/data", tmp_path, keep_archives=True)
    assert below(tmp_path) == HELD | full.files
    full.gets.clear()
    assert run(f"{hub}:someone/data", tmp_path).units == ()


@pytest.mark.parametrize("name", ["train.jsonl", "1_2_m/clips.zip"])
def test_wrong_bytes_are_never_kept(full: Stand, tmp_path: Path, hub: str, name: str) -> None:
    full.sent[name] = full.files[name][:-1] + bytes([full.files[name][-1] ^ 1])
    with pytest.raises(FetchError, match=r"sha256|checksum") as caught:
        run(f"{hub}:someone/data", tmp_path)
    assert "\n" not in str(caught.value)
    assert name not in below(tmp_path)
    assert "1_2_m/d.mp4" not in below(tmp_path) or name == "train.jsonl"
    full.sent.clear()
    run(f"{hub}:someone/data", tmp_path)
    assert below(tmp_path) == HELD


def test_a_broken_connection_is_gone_on_with(
    full: Stand, tmp_path: Path, hub: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)  # a chunk that is not whole is lost
    full.cuts = 2
    run(f"{hub}:someone/data", tmp_path, include=("1_2_m/*",))
    assert below(tmp_path) == {"1_2_m/d.mp4": NOISE[7:]}
    starts = [int(r.removeprefix("bytes=").rstrip("-")) for r in full.ranges if r]
    size = len(full.files["1_2_m/clips.zip"])
    assert len(starts) == 2
    assert size * 0.48 < starts[0] <= size * 0.5
    assert size * 0.72 < starts[1] <= size * 0.75


def test_a_server_without_ranges_sends_all_again(full: Stand, tmp_path: Path, hub: str) -> None:
    full.cuts, full.whole = 1, True
    run(f"{hub}:someone/data", tmp_path, include=("1_2_m/*",))
    assert below(tmp_path) == {"1_2_m/d.mp4": NOISE[7:]}


def test_a_run_that_was_cut_off_is_gone_on_with_by_the_next(full: Stand, tmp_path: Path) -> None:
    full.cut = True
    with pytest.raises(FetchError, match=r"connection broke|bytes came"):
        run("modelscope:someone/data", tmp_path, include=("1_2_m/*",))
    full.cut = False
    full.ranges.clear()
    run("modelscope:someone/data", tmp_path)
    assert below(tmp_path) == HELD
    [start] = [int(r.removeprefix("bytes=").rstrip("-")) for r in full.ranges if r]
    assert start > len(full.files["1_2_m/clips.zip"]) * 0.9


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_refusals_are_one_line(full: Stand, tmp_path: Path, hub: str, status: int) -> None:
    full.status = status
    with pytest.raises(FetchError) as caught:
        run(f"{hub}:someone/data", tmp_path, include=("train.jsonl",))
    assert "\n" not in str(caught.value)
    full.refuse = status
    with pytest.raises(FetchError) as caught:
        run(f"{hub}:someone/data", tmp_path)
    assert "\n" not in str(caught.value)
    assert below(tmp_path) == {}


def test_no_such_set_and_no_server(full: Stand, tmp_path: Path, hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FetchError, match=r"no such repository|no data set someone/else"):
        run(f"{hub}:someone/else", tmp_path)
    with pytest.raises(FetchError, match="OWNER/NAME"):
        run(f"{hub}:some/where/else", tmp_path)
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("GITHUB_API_URL", "http://127.0.0.1:1")
    with pytest.raises(FetchError) as caught:
        run(f"{hub}:someone/data", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["../out.txt", "/out.txt", "a/../../out.txt"])
def test_listed_paths_stay_inside(stand: Stand, tmp_path: Path, hub: str, path: str) -> None:
    stand.files = {path: b"x"}
    with pytest.raises(FetchError, match="outside the repository"):
        run(f"{hub}:someone/data", tmp_path / "in")
    assert not any(tmp_path.rglob("out.txt"))


def test_names_of_notes_are_kept(stand: Stand, tmp_path: Path, hub: str) -> None:
    stand.files = {f"{get.STATE}/done/x.json": b"{}"}
    with pytest.raises(DataError, match="kept for notes"):
        run(f"{hub}:someone/data", tmp_path)


def test_listings_of_many_pages(stand: Stand, tmp_path: Path, hub: str) -> None:
    stand.files = {f"f{i:03}.txt": b"%d" % i for i in range(257)}
    for stand.page in (100, 60):  # a server may keep to a smaller page than was asked for
        assert len(plan(find(f"{hub}:someone/data"), tmp_path, GetSettings()).units) == 257


def test_a_file_that_is_there_is_taken_or_in_the_way(full: Stand, tmp_path: Path, hub: str) -> None:
    (tmp_path / "train.jsonl").write_bytes(HELD["train.jsonl"])
    run(f"{hub}:someone/data", tmp_path, include=("train.jsonl",))
    assert full.downloads() == []
    (tmp_path / "README.md").write_bytes(b"WORDS")
    with pytest.raises(DataError, match=r"README\.md is in the way"):
        run(f"{hub}:someone/data", tmp_path)
    assert (tmp_path / "README.md").read_bytes() == b"WORDS"


def test_a_new_revision_takes_the_place_of_the_old(full: Stand, tmp_path: Path, hub: str, pack: Pack) -> None:
    run(f"{hub}:someone/data", tmp_path)
    full.files["train.jsonl"] = b"new"
    full.files["1_2_m/clips.zip"] = pack("a.zip", {"d.mp4": b"new", "f.mp4": b"more"})
    full.gets.clear()
    run(f"{hub}:someone/data", tmp_path)
    assert below(tmp_path) == {**HELD, "train.jsonl": b"new", "1_2_m/d.mp4": b"new", "1_2_m/f.mp4": b"more"}
    assert len(full.downloads()) == 2


def test_a_damaged_note_is_said(full: Stand, tmp_path: Path, hub: str) -> None:
    run(f"{hub}:someone/data", tmp_path, include=("README.md",))
    [note] = (tmp_path / get.STATE / "done").iterdir()
    for text in ("", "[]", "{}", '{"files": [], "holds": 3}'):
        note.write_text(text)
        with pytest.raises(DataError, match="is damaged: delete it"):
            run(f"{hub}:someone/data", tmp_path)


def test_pieces_must_all_be_there(full: Stand, tmp_path: Path, hub: str) -> None:
    del full.files["2_3_m/more.tar.partab"]
    with pytest.raises(DataError, match="pieces of which some are missing"):
        run(f"{hub}:someone/data", tmp_path)


Usage = namedtuple("Usage", "total used free")


def test_too_small_a_disk_is_said_before(
    full: Stand, tmp_path: Path, hub: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get, "RESERVE", 0)
    work = plan(find(f"{hub}:someone/data"), tmp_path, GetSettings())
    archives = [u.size for u in work.units if u.is_archive]
    assert work.room == work.size + max(archives)
    kept = plan(find(f"{hub}:someone/data"), tmp_path, GetSettings(keep_archives=True))
    assert kept.room == work.size + sum(archives)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(1, 1, work.room - 1))
    with pytest.raises(DataError, match="GB are needed: choose another disk"):
        carry_out(work)
    assert full.downloads() == []


def test_a_disk_that_fills_up_stops_in_one_line(
    full: Stand, tmp_path: Path, hub: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "x", small], capture_output=True).returncode:
        small.chmod(0o500)  # only root may mount; a folder that may not be written to fails at the same places
    try:
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(1, 1, 10**12))
        with pytest.raises((DataError, FetchError)) as caught:
            run(f"{hub}:someone/data", small)
        assert "\n" not in str(caught.value)
        assert below(small).items() <= HELD.items()
    finally:
        small.chmod(0o700)
        subprocess.run(["umount", small], capture_output=True)


def test_one_run_at_a_time(full: Stand, tmp_path: Path, hub: str) -> None:
    work = plan(find(f"{hub}:someone/data"), tmp_path, GetSettings())
    with get._alone(tmp_path), pytest.raises(DataError, match="another run"):
        carry_out(work)
    carry_out(work)


def test_damaged_archives_of_the_owner_are_said(full: Stand, tmp_path: Path, hub: str) -> None:
    full.files["1_2_m/clips.zip"] = b"PK\x03\x04 and nothing else"
    with pytest.raises(DataError, match=r"clips\.zip is damaged"):
        run(f"{hub}:someone/data", tmp_path)


def _process(stand: Stand, folder: Path, *more: str) -> subprocess.Popen[str]:
    urls = {"HF_ENDPOINT": stand.url, "MODELSCOPE_ENDPOINT": stand.url, "HF_HUB_DISABLE_XET": "1", "NO_COLOR": "1"}
    urls |= {"GITHUB_API_URL": stand.url, "GITHUB_RAW_URL": f"{stand.url}/raw"}
    command = [sys.executable, "-m", "weavetime", "data", "get", *more, "--to", str(folder)]
    env = {**os.environ, **urls, "COLUMNS": "100"}
    return subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _wait(wanted: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not wanted():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_killed_process_is_gone_on_with(full: Stand, tmp_path: Path, hub: str) -> None:
    full.pause, full.chunk = 0.05, 20_000
    for after in (1, 4):  # requests that are under way or over when the kill comes
        full.gets.clear()
        process = _process(full, tmp_path, f"{hub}:someone/data")
        _wait(lambda after=after: len(full.downloads()) >= after)  # type: ignore[misc]
        time.sleep(0.15)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert below(tmp_path).items() <= HELD.items()
    full.pause = 0.0
    process = _process(full, tmp_path, f"{hub}:someone/data")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert "licence" in err
    assert below(tmp_path) == HELD
    process = _process(full, tmp_path, f"{hub}:someone/data")
    assert "is complete" in process.communicate(timeout=60)[1]
