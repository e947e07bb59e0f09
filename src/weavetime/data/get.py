"""`weavetime data get`: a data set's files, fetched, checked, unpacked, and written down, so that any run can go on.

Below the data set's folder, `.weavetime/done` holds one note for each file or archive that is finished and
`.weavetime/incoming` what is on its way.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock, Timeout

from ..errors import DataError
from ..hub import FetchError, Listed, Repository, check, data_repository
from .archives import RESERVE, archive_of, in_order, joined, unpack
from .entry import HUBS, DataSet, Part

STATE = ".weavetime"

Told = Callable[[str, int], None]
"""What is being done, and how many bytes of all are done."""


@dataclass(frozen=True, slots=True)
class GetSettings:
    """Which files, and from where. hub: hf or modelscope where a part is on several; None for its preferred one.

    include: patterns of paths below the data set's folder or in the repository; empty takes all. keep_archives: leave
    an archive beside what came out of it.
    """

    hub: str | None = None
    include: tuple[str, ...] = ()
    keep_archives: bool = False

    def __post_init__(self) -> None:
        if self.hub is not None and self.hub not in HUBS:
            raise DataError(f"{self.hub!r} is no hub that is known: {' or '.join(HUBS)}")


@dataclass(frozen=True, slots=True)
class Unit:
    """What is finished in one go: a file, or an archive in one or more pieces. part: says where it goes."""

    repository: Repository
    part: Part
    name: str
    files: tuple[Listed, ...]

    @property
    def size(self) -> int:
        return sum(f.size for f in self.files)

    @property
    def is_archive(self) -> bool:
        return archive_of(self.name) is not None

    def member(self, path: str) -> str | None:
        """Where a member of the archive goes, below the part's folder; None leaves it out."""
        if self.part.places:
            return self.part.place(f"{self.name}/{PurePosixPath(path)}")
        above = self.name.rpartition("/")[0]
        return f"{above}/{path}" if above else path


@dataclass(frozen=True, slots=True)
class Plan:
    """What there is to fetch into `folder`. finished: units that an earlier run brought, and that are still there."""

    folder: Path
    settings: GetSettings
    units: tuple[Unit, ...]
    finished: int

    @property
    def size(self) -> int:
        """Bytes to fetch."""
        return sum(u.size for u in self.units)

    @property
    def room(self) -> int:
        """Bytes that the disk must have free, where archives grow little: what comes, and one archive while its
        content is written.
        """
        archives = [u.size for u in self.units if u.is_archive]
        kept = sum(archives) if self.settings.keep_archives else max(archives, default=0)
        return max(0, self.size + kept + RESERVE - _bytes_below(self.folder / STATE / "incoming"))

    def by_source(self) -> dict[str, tuple[int, int]]:
        """Files and bytes to fetch from each repository."""
        found: dict[str, tuple[int, int]] = {}
        for unit in self.units:
            files, size = found.get(unit.repository.name, (0, 0))
            found[unit.repository.name] = files + len(unit.files), size + unit.size
        return found


def plan(data: DataSet, folder: Path, settings: GetSettings) -> Plan:
    """Ask the hubs what there is, and find what is missing in `folder`. Raises DataError or FetchError."""
    units = [unit for part in data.parts for unit in _units(part, settings)]
    if not units:
        raise DataError(
            f"{data.name}: no file matches {' or '.join(settings.include)}; patterns are as in '*_youtube_*'"
        )
    todo = tuple(u for u in units if not _is_done(folder, u))
    return Plan(folder, settings, todo, len(units) - len(todo))


def carry_out(work: Plan, told: Told = lambda what, done: None) -> None:
    """Fetch, check and unpack everything in the plan. A run that was stopped, in any way, is gone on with by the next.

    Raises DataError, among others where the disk is too small or another run works in the folder; FetchError.
    """
    if not work.units:
        return
    with _disk_errors(work.folder), _alone(work.folder):
        free = shutil.disk_usage(work.folder).free
        if free < work.room:
            raise DataError(
                f"{work.folder} has {free / 1e9:.1f} GB free and {work.room / 1e9:.1f} GB are needed: "
                "choose another disk with --to, or fewer files with --include"
            )
        done = 0
        for unit in work.units:
            _finish(unit, work, _after(done, told))
            done += unit.size
            told(unit.name, done)
        shutil.rmtree(work.folder / STATE / "incoming", ignore_errors=True)


def _after(before: int, told: Told) -> Told:
    return lambda what, at: told(what, before + at)


def _units(part: Part, settings: GetSettings) -> Iterator[Unit]:
    hub = settings.hub if settings.hub and settings.hub in part.on else next(iter(part.on))
    repository = data_repository(f"{hub}:{part.on[hub]}")
    listed = [f for f in repository.files() if any(fnmatch(f.path, p) for p in part.patterns)]
    groups: dict[str, list[Listed]] = {}
    for file in listed:
        groups.setdefault(_unit_of(part, file.path), []).append(file)
    for name, files in groups.items():
        place = name if archive_of(name) else part.place(name)
        if place is None:
            continue
        if f"{part.into}/{place}".lstrip("/").startswith(STATE):
            raise DataError(f"{repository.name} holds {name!r}, a name that is kept for notes")
        if not settings.include or any(_matches(part, f.path, settings.include) for f in files):
            by_path = {f.path: f for f in files}
            yield Unit(repository, part, name, tuple(by_path[p] for p in _in_order(part, name, list(by_path))))


def _unit_of(part: Part, path: str) -> str:
    """The archive that a file is a piece of, or the file itself."""
    piece = re.fullmatch(part.pieces, path) if part.pieces else None
    return f"{piece['whole']}.zip" if piece else archive_of(path) or path


def _in_order(part: Part, name: str, paths: list[str]) -> list[str]:
    pieces = {p: re.fullmatch(part.pieces, p) for p in paths} if part.pieces else {}
    numbers = {path: int(piece["number"]) for path, piece in pieces.items() if piece}
    if numbers:
        return joined(numbers)
    return in_order(paths) if archive_of(name) else paths


def _matches(part: Part, path: str, patterns: Iterable[str]) -> bool:
    names = (path, f"{part.into}/{path}", f"{part.into}/{part.place(path) or path}".lstrip("/"))
    return any(fnmatch(name, p) for p in patterns for name in names)


def _finish(unit: Unit, work: Plan, told: Told) -> None:
    """One unit, from the hub to its place and its note."""
    place = work.folder / unit.part.into
    incoming = work.folder / STATE / "incoming" / unit.repository.name.replace(":", "/")
    _forget(work.folder, unit)
    target = place / (unit.part.place(unit.name) or unit.name)
    if not unit.is_archive and _adopted(target, unit.files[0]):
        _write_down(work.folder, unit, None)
        return
    arrived, before = [], 0
    for file in unit.files:
        arrived.append(unit.repository.fetch(file, incoming, partial(_after(before, told), file.path)))
        before += file.size
    unpacked = None
    if unit.is_archive:
        unpacked = unpack(arrived, place, lambda n: told(f"{unit.name}: {n} files unpacked", before), unit.member)
        if not unpacked and unit.part.places:
            raise DataError(f"{unit.name} of {unit.repository.name} holds no file where this entry expects any")
    if unpacked is None or work.settings.keep_archives:
        for file, path in zip(unit.files, arrived, strict=True):
            kept = place / file.path if unit.is_archive else target
            kept.parent.mkdir(parents=True, exist_ok=True)
            path.replace(kept)
    _write_down(work.folder, unit, unpacked)
    for path in arrived:
        path.unlink(missing_ok=True)


def _adopted(target: Path, file: Listed) -> bool:
    """Whether the file is there already, from elsewhere. Raises DataError where another one is in its place."""
    if not target.exists():
        return False
    if not target.is_file() or target.stat().st_size != file.size:
        raise DataError(f"{target} is in the way, and is not the file to fetch: move it away")
    twin = target.with_name(f".{target.name}.check")  # a check deletes what is wrong, and this may be somebody's own
    twin.unlink(missing_ok=True)
    twin.hardlink_to(target)
    try:
        check(twin, file)
    except FetchError as e:
        raise DataError(f"{target} is in the way, and is not the file to fetch: move it away") from e
    finally:
        twin.unlink(missing_ok=True)
    return True


# Notes of what is done


def _note_path(folder: Path, unit: Unit) -> Path:
    key = hashlib.sha256(f"{unit.part.into}/{unit.name}".encode()).hexdigest()[:24]
    return folder / STATE / "done" / f"{key}.json"


def _note(folder: Path, unit: Unit) -> dict[str, Any] | None:
    try:
        note = json.loads(_note_path(folder, unit).read_text())
        return {"files": note["files"], "holds": [(str(path), int(size)) for path, size in note["holds"]]}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as e:
        raise DataError(f"{_note_path(folder, unit)} is damaged: delete it, and run again") from e


def _is_done(folder: Path, unit: Unit) -> bool:
    note = _note(folder, unit)
    return (
        note is not None
        and note["files"] == [asdict(f) for f in unit.files]
        and all(_is_there(folder / path, size) for path, size in note["holds"])
    )


def _is_there(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _write_down(folder: Path, unit: Unit, unpacked: list[tuple[str, int]] | None) -> None:
    place = Path(unit.part.into)
    held = [(unit.part.place(f.path) or f.path, f.size) for f in unit.files] if unpacked is None else unpacked
    holds = [((place / path).as_posix(), size) for path, size in held]
    note = {"from": unit.repository.name, "files": [asdict(f) for f in unit.files], "holds": holds}
    path = _note_path(folder, unit)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(note))
    part.replace(path)


def _forget(folder: Path, unit: Unit) -> None:
    """Remove what an earlier version of the unit brought: its files are ours, and would be in the way."""
    note = _note(folder, unit)
    if note is None or note["files"] == [asdict(f) for f in unit.files]:
        return
    for path, size in note["holds"]:
        if _is_there(folder / path, size):
            (folder / path).unlink()
    _note_path(folder, unit).unlink()


# The folder


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    (folder / STATE).mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / STATE / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as e:
        raise DataError(f"another run is fetching into {folder}: wait for it, or choose another folder") from e
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        about = f" ({e.filename})" if e.filename else ""
        raise DataError(f"writing below {folder} failed: {e.strerror or e}{about}; run again to go on from here") from e


def _bytes_below(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
