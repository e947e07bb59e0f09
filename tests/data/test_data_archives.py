"""Archives: what goes in comes out, in pieces too; what is damaged, leads outside or is in the way is refused."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import zipfile
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from weavetime.data import archives
from weavetime.data.archives import archive_of, in_order, unpack
from weavetime.errors import DataError

KINDS = ("a.tar", "a.tar.gz", "a.tgz", "a.tar.xz", "a.tar.bz2", "a.zip")
MEMBERS = {
    "one.mp4": b"1" * 5000,
    "deep/er/two words.mp4": bytes(range(256)) * 40,
    "./deep/three.mp4": b"",
    "é.txt": b"e",
}
CAME_OUT = {path.removeprefix("./"): data for path, data in MEMBERS.items()}

Pack = Callable[..., bytes]


def below(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def put(folder: Path, name: str, data: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(data)
    return folder / name


@pytest.mark.parametrize(
    ("name", "archive"),
    [
        ("v.tar.gz", "v.tar.gz"),
        ("x/v.TGZ", "x/v.TGZ"),
        ("v.zip", "v.zip"),
        ("v.tar.partaa", "v.tar"),
        ("v.tar.gz.part_ab", "v.tar.gz"),
        ("v.tar.gz-00", "v.tar.gz"),
        ("v.zip.001", "v.zip"),
        ("v.tar.gz.aa", "v.tar.gz"),
        ("videos_chunked_01.zip", "videos_chunked_01.zip"),
        ("v.mp4", None),
        ("v.zip.txt", None),
        ("v.tar.md5", None),
        ("v.tar.gz.sha", None),
        ("tar.gz", None),
        ("a.gz", None),
    ],
)
def test_what_is_an_archive(name: str, archive: str | None) -> None:
    assert archive_of(name) == archive


def test_pieces_are_joined_in_their_order() -> None:
    assert in_order(["v.zip.002", "v.zip.010", *(f"v.zip.{n:03}" for n in (1, 3, 4, 5, 6, 7, 8, 9))])[-1] == "v.zip.010"
    assert (
        in_order(["v.tar.part2", "v.tar.part10", *(f"v.tar.part{n}" for n in (0, 1, 3, 4, 5, 6, 7, 8, 9))])[2]
        == "v.tar.part2"
    )
    assert in_order([f"v.tar.{a}{b}" for a in "ba" for b in "abcdefghijklmnopqrstuvwxyz"][:52])[26] == "v.tar.ba"
    for missing in (["v.zip.001", "v.zip.003"], ["v.zip.002"], ["v.tar.ab"], ["v.zip", "v.zip.001"]):
        with pytest.raises(DataError, match=r"missing|cannot be both"):
            in_order(missing)


@pytest.mark.parametrize("kind", KINDS)
def test_what_goes_in_comes_out(tmp_path: Path, pack: Pack, kind: str) -> None:
    counted: list[int] = []
    found = unpack([put(tmp_path, kind, pack(kind, MEMBERS))], tmp_path / "out", counted.append)
    assert below(tmp_path / "out") == CAME_OUT
    assert dict(found) == {path: len(data) for path, data in CAME_OUT.items()}
    assert counted == [1, 2, 3, 4]


@pytest.mark.parametrize("kind", ["a.tar", "a.tar.gz", "a.zip"])
@pytest.mark.parametrize("size", [7, 1000])
def test_pieces_are_one_archive(tmp_path: Path, pack: Pack, kind: str, size: int) -> None:
    data = pack(kind, {"one.bin": b"1" * 300, "two.bin": bytes(range(200))})[: None if kind != "a.tar" else 4096]
    pieces = [put(tmp_path, f"{kind}.{i:04}", data[at : at + size]) for i, at in enumerate(range(0, len(data), size))]
    unpack(pieces, tmp_path / "out")
    assert below(tmp_path / "out") == {"one.bin": b"1" * 300, "two.bin": bytes(range(200))}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["cut", "changed", "empty", "other"])
def test_what_is_damaged_is_refused(tmp_path: Path, pack: Pack, kind: str, how: str) -> None:
    noise = bytes((i * i + i // 7) % 251 for i in range(200_000))
    data = pack(kind, {"one.bin": noise, "two.bin": noise[::-1]})
    at = 0 if kind == "a.tar" else len(data) // 2  # a plain tar has a checksum of each head, none of what it holds
    spoilt = {
        "cut": data[: len(data) * 2 // 3],
        "changed": data[:at] + bytes(b ^ 255 for b in data[at : at + 20]) + data[at + 20 :],
        "empty": b"",
        "other": b"<html>no such file</html>" * 100,
    }[how]
    with pytest.raises(DataError, match=r"a\.\w+") as caught:
        unpack([put(tmp_path, kind, spoilt)], tmp_path / "out")
    assert "\n" not in str(caught.value)
    left = below(tmp_path / "out").values()  # gzip knows only at its end, where a byte was changed
    assert all(len(d) == len(noise) if how == "changed" and "gz" in kind else d in (noise, noise[::-1]) for d in left)


@pytest.mark.parametrize("kind", ["a.tar.gz", "a.zip"])
@pytest.mark.parametrize("name", ["../out.txt", "/out.txt", "x/../../out.txt", "x\\..\\..\\out.txt"])
def test_nothing_is_written_outside(tmp_path: Path, pack: Pack, kind: str, name: str) -> None:
    inside = tmp_path / "in"
    with pytest.raises(DataError, match="leads outside"):
        unpack([put(tmp_path, kind, pack(kind, {"fine.txt": b"f", name: b"x"}))], inside / "here")
    assert below(inside) == {"here/fine.txt": b"f"}
    assert not Path("/out.txt").exists()


def test_nothing_goes_through_a_link(tmp_path: Path, pack: Pack) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "out" / "file").symlink_to(tmp_path / "elsewhere" / "new")
    for member in ("link/x.txt", "file"):
        with pytest.raises(DataError, match=r"link out of|in the way"):
            unpack([put(tmp_path, "a.tar", pack("a.tar", {member: b"x"}))], tmp_path / "out")
    assert below(tmp_path / "elsewhere") == {}


def _tar(path: Path, *members: tuple[str, bytes, str]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, kind, to in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, to
            member.size = 4 if kind == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(b"data") if kind == tarfile.REGTYPE else None)
    return path


def test_links_are_taken_inside_and_refused_outside(tmp_path: Path) -> None:
    real = ("v/real.mp4", tarfile.REGTYPE, "")
    path = _tar(
        tmp_path / "a.tar",
        ("w/early.mp4", tarfile.SYMTYPE, "../v/real.mp4"),
        real,
        ("hard.mp4", tarfile.LNKTYPE, "v/real.mp4"),
    )
    found = dict(unpack([path], tmp_path / "out"))
    assert found == dict.fromkeys(("v/real.mp4", "w/early.mp4", "hard.mp4"), 4)
    assert below(tmp_path / "out") == dict.fromkeys(found, b"data")
    assert not any(p.is_symlink() for p in (tmp_path / "out").rglob("*"))
    assert dict(unpack([path], tmp_path / "out")) == found
    for i, (kind, to) in enumerate(
        [
            (tarfile.SYMTYPE, "/etc/hostname"),
            (tarfile.SYMTYPE, "../../etc/hostname"),
            (tarfile.LNKTYPE, "../secret"),
            (tarfile.SYMTYPE, "missing.mp4"),
            (tarfile.FIFOTYPE, ""),
            (tarfile.CHRTYPE, ""),
        ]
    ):
        with pytest.raises(DataError, match=r"no file of this archive|neither file nor folder"):
            unpack([_tar(tmp_path / f"bad{i}.tar", real, ("bad", kind, to))], tmp_path / f"bad{i}")
        assert below(tmp_path / f"bad{i}").keys() <= {"v/real.mp4"}


def test_zip_links_and_passwords_are_refused(tmp_path: Path) -> None:
    linked = zipfile.ZipInfo("link")
    linked.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(linked, "/etc/hostname")
    with pytest.raises(DataError, match="neither file nor folder"):
        unpack([tmp_path / "link.zip"], tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "locked.zip", "w") as archive:
        archive.writestr("a.txt", "secret")
    data = bytearray((tmp_path / "locked.zip").read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(data)
    with pytest.raises(DataError, match="password"):
        unpack([tmp_path / "locked.zip"], tmp_path / "out")
    assert below(tmp_path / "out") == {}


@pytest.mark.parametrize("kind", ["a.tar.gz", "a.zip"])
def test_what_is_there_stays(tmp_path: Path, pack: Pack, kind: str) -> None:
    path = put(tmp_path, kind, pack(kind, {"one.txt": b"one", "two.txt": b"two"}))
    put(tmp_path / "out", "two.txt", b"own")
    with pytest.raises(DataError, match=r"two\.txt is in the way"):
        unpack([path], tmp_path / "out")
    assert below(tmp_path / "out") == {"one.txt": b"one", "two.txt": b"own"}
    (tmp_path / "out" / "two.txt").unlink()
    (tmp_path / "out" / "two.txt").mkdir()
    with pytest.raises(DataError, match=r"two\.txt is in the way"):
        unpack([path], tmp_path / "out")


@pytest.mark.parametrize("kind", ["a.tar.gz", "a.zip"])
def test_an_interrupted_call_is_made_again(tmp_path: Path, pack: Pack, kind: str) -> None:
    path = put(tmp_path, kind, pack(kind, MEMBERS))

    def stop(n: int) -> None:
        if n == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpack([path], tmp_path / "out", stop)
    assert len(below(tmp_path / "out")) == 2
    first = (tmp_path / "out" / "one.mp4").stat().st_mtime_ns
    (tmp_path / "out" / f".{kind}.part").write_bytes(b"left by a kill")
    assert dict(unpack([path], tmp_path / "out")) == {p: len(d) for p, d in CAME_OUT.items()}
    assert below(tmp_path / "out") == CAME_OUT
    assert (tmp_path / "out" / "one.mp4").stat().st_mtime_ns == first


def test_a_full_disk_is_said_before_a_file_is_written(
    tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, small = put(tmp_path, "a.tar", pack("a.tar", {"a": b"a" * 100, "big": b"b" * 900_000})), tmp_path / "small"
    small.mkdir()
    monkeypatch.setattr(archives, "RESERVE", 0)
    mounted = not subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "x", small], capture_output=True
    ).returncode
    if not mounted:  # only root may mount
        usage = namedtuple("usage", "total used free")(1, 1, 500_000)
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    try:
        with pytest.raises(DataError, match=r"is full: .* big takes 900,000"):
            unpack([path], small)
        assert below(small) == {"a": b"a" * 100}
    finally:
        if mounted:
            subprocess.run(["umount", small], check=True)
