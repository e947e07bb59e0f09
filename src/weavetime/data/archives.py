"""Archives of a data set: tar, compressed tar and zip, whole or in pieces, unpacked without trusting their names."""

from __future__ import annotations

import io
import lzma
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import IO

from ..errors import DataError
from ..hub import one_line

CHUNK = 1 << 20
RESERVE = 1 << 26  # bytes left free on the disk

_KIND = r"(?:tar(?:\.(?:gz|bz2|xz))?|tgz|zip)"
_WHOLE = re.compile(rf".+\.{_KIND}", re.IGNORECASE)
_PIECE = re.compile(
    rf"(?P<whole>.+\.{_KIND})(?:[._-]?part[._-]?(?P<a>\d{{1,4}}|[a-z]{{1,2}})|[._-](?P<b>\d{{2,4}}|[a-f][a-z]))",
    re.IGNORECASE,
)
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, NotImplementedError)

Unpacked = tuple[str, int]
"""A file that came out of an archive: its path below the folder, and its bytes."""

Where = Callable[[str], str | None]
"""Where a member of an archive goes, below the folder; None leaves it out."""


def archive_of(path: str) -> str | None:
    """The archive that a file is, or is a piece of; None for any other file."""
    if _WHOLE.fullmatch(path):
        return path
    piece = _PIECE.fullmatch(path)
    return piece["whole"] if piece else None


def in_order(paths: Sequence[str]) -> list[str]:
    """The pieces of one archive as they are to be joined. Raises DataError where one is missing."""
    if len(paths) == 1 and _WHOLE.fullmatch(paths[0]):
        return list(paths)
    return joined({p: _number(p) for p in paths})


def joined(numbers: Mapping[str, int]) -> list[str]:
    """Paths of pieces in the order of their numbers, which begin with 0 or 1. Raises DataError where one is missing."""
    paths = sorted(numbers, key=lambda path: numbers[path])
    start = numbers[paths[0]]
    if start not in (0, 1) or [numbers[p] for p in paths] != list(range(start, start + len(paths))):
        raise DataError(f"an archive comes in pieces of which some are missing: there are {', '.join(paths)}")
    return paths


def _number(path: str) -> int:
    piece = _PIECE.fullmatch(path)
    if piece is None:
        raise DataError(f"{path} stands beside pieces of the same archive: it cannot be both")
    mark = (piece["a"] or piece["b"]).lower()
    if mark.isdigit():
        return int(mark)
    value = 0
    for letter in mark:
        value = value * 26 + ord(letter) - ord("a")
    return value + 1  # aa is the first, as 1 or 0 is


def unpack(
    pieces: Sequence[Path],
    folder: Path,
    told: Callable[[int], None] = lambda n: None,
    where: Where = lambda member: member,
) -> list[Unpacked]:
    """Unpack an archive, given by its files in order, into `folder`, and list what came of it; `told` counts files.

    A file that is there already stays, and must be the one in the archive, so an interrupted call can be made again.
    Raises DataError: damaged, encrypted, a name or link that leads out of `folder`, a file in the way, a full disk.
    """
    name = pieces[0].name
    folder.mkdir(parents=True, exist_ok=True)
    place = _Place(name, folder.resolve(), where)
    found: list[Unpacked] = []
    try:
        for unpacked in _zip(pieces, place) if _is_zip(name) else _tar(pieces, place):
            found.append(unpacked)
            told(len(found))
    except (*DAMAGED, OSError) as e:
        if isinstance(e, OSError) and e.errno is not None:  # the disk's; those of gzip and bz2 have no number
            raise
        raise DataError(f"{name} is damaged, or no archive that is understood: {one_line(e)}") from e
    except RuntimeError as e:  # zipfile has no other word for a password
        raise DataError(f"{name} cannot be unpacked: {e}") from e
    finally:
        place.part.unlink(missing_ok=True)
    return found


def _is_zip(name: str) -> bool:
    return (archive_of(name) or name).lower().endswith(".zip")


@dataclass(frozen=True)
class _Place:
    """Where members go."""

    name: str
    folder: Path
    where: Where

    @property
    def part(self) -> Path:
        return self.folder / f".{self.name}.part"

    def target(self, member: str) -> Path:
        """The place of a member. Raises DataError where that is outside."""
        path = PurePosixPath(member)
        if path.is_absolute() or ".." in path.parts or "\\" in member or "\0" in member:
            raise DataError(f"{self.name} holds a path that leads outside: {member!r}; nothing more of it is unpacked")
        target = self.folder / path
        if not target.parent.resolve().is_relative_to(self.folder):
            raise DataError(f"{self.name}: {member!r} would go through a link out of {self.folder}")
        return target

    def goes(self, member: str) -> str | None:
        """Where a member goes. Raises DataError where its own name leads outside."""
        self.target(member)
        return self.where(member)

    def put(self, member: str, data: IO[bytes], size: int) -> Unpacked:
        """Write one file, whole or not at all."""
        target = self.target(member)
        shown = target.relative_to(self.folder).as_posix()
        if target.is_symlink() or target.exists():
            if target.is_symlink() or not target.is_file() or not _same(target, data, size):
                raise DataError(f"{target} is in the way: {self.name} holds another file of that name; move it away")
            return shown, size
        if (free := shutil.disk_usage(self.folder).free) < size + RESERVE:
            raise DataError(f"the disk of {self.folder} is full: {free:,} bytes left, {shown} takes {size:,}")
        target.parent.mkdir(parents=True, exist_ok=True)
        with self.part.open("wb") as out:
            shutil.copyfileobj(data, out, CHUNK)
            if (got := out.tell()) != size:
                raise DataError(f"{self.name} is damaged: {shown} has {got} bytes where {size} are said")
        self.part.replace(target)
        return shown, size


def _same(target: Path, data: IO[bytes], size: int) -> bool:
    if target.stat().st_size != size:
        return False
    with target.open("rb") as there:
        while mine := data.read(CHUNK):
            if there.read(len(mine)) != mine:
                return False
    return True


def _tar(pieces: Sequence[Path], place: _Place) -> Iterator[Unpacked]:
    sizes: dict[str, int] = {}
    links: list[tuple[str, str]] = []
    with _joined(pieces) as file, tarfile.open(fileobj=file, mode="r:*") as tar:
        for member in tar:
            goes = place.goes(member.name)
            if member.isreg():
                if goes is not None:
                    data = tar.extractfile(member)
                    assert data is not None  # a regular file has content
                    path, size = place.put(goes, data, member.size)
                    sizes[path] = size
                    yield path, size
            elif member.issym() or member.islnk():
                above = PurePosixPath(member.name).parent if member.issym() else PurePosixPath()
                to = os.path.normpath(above / member.linkname)
                if goes is not None:
                    links.append((goes, place.where(to) or to))
            elif not member.isdir():
                raise DataError(f"{place.name} holds {member.name!r}, which is neither file nor folder nor link")
        while tar.fileobj is not None and tar.fileobj.read(CHUNK):  # to the end, where a checksum may stand
            pass
    for name, to in links:
        yield _link(name, to, sizes, place)


def _link(name: str, to: str, sizes: dict[str, int], place: _Place) -> Unpacked:
    """A link becomes a second name of a file from the same archive; others are refused."""
    if to not in sizes:
        raise DataError(f"{place.name}: {name!r} is a link to {to!r}, which is no file of this archive")
    target, shown = place.target(name), PurePosixPath(name).as_posix()
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(place.folder / to, target)
    elif not target.samefile(place.folder / to):
        raise DataError(f"{target} is in the way: {place.name} holds another file of that name; move it away")
    sizes[shown] = sizes[to]
    return shown, sizes[to]


def _zip(pieces: Sequence[Path], place: _Place) -> Iterator[Unpacked]:
    with _joined(pieces) as file, zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            mode = member.external_attr >> 16
            if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise DataError(f"{place.name} holds {member.filename!r}, which is neither file nor folder")
            place.target(member.orig_filename)
            if not member.is_dir() and (goes := place.goes(member.filename)) is not None:
                with archive.open(member) as data:
                    yield place.put(goes, data, member.file_size)


@contextmanager
def _joined(paths: Sequence[Path]) -> Iterator[IO[bytes]]:
    with ExitStack() as stack:
        files = [stack.enter_context(p.open("rb")) for p in paths]
        yield files[0] if len(files) == 1 else stack.enter_context(io.BufferedReader(_Joined(files), CHUNK))


class _Joined(io.RawIOBase):
    """Several files one after the other, as one."""

    def __init__(self, files: Sequence[IO[bytes]]) -> None:
        self._files, self._at = files, 0
        self._ends = list(accumulate(os.fstat(f.fileno()).st_size for f in files))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._ends[-1]}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        start = 0
        for file, end in zip(self._files, self._ends, strict=True):
            if self._at < end:
                file.seek(self._at - start)
                got = file.readinto(memoryview(buffer)[: end - self._at])  # type: ignore[attr-defined]
                self._at += got
                return int(got)
            start = end
        return 0
