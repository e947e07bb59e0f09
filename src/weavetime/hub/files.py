"""One file of a hub: what its listing says of it, how it comes over HTTP, and whether what came is that."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import WeaveTimeError

TIMEOUT = 30.0  # seconds without a byte
CHUNK = 1 << 20
TRIES = 5  # in a row that bring no byte
PAUSE = 0.5  # seconds before the second try; doubles with each

Progress = Callable[[int], None]
"""Told how many bytes of a file are there so far."""


class FetchError(WeaveTimeError):
    """Files did not come from a hub: no such name, no access, no connection, or not what was listed."""


class UnreachableError(FetchError):
    """No connection, or a server in trouble; what is in a cache may do, and trying again may help."""


class _NoMoreError(FetchError):
    """The server has no byte from there on."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One file: its path inside the repository, its bytes, and their digest in hex.

    digest: sha256 (64 digits), git's blob id (40 digits), or empty where the server says none.
    """

    path: str
    size: int
    digest: str = ""

    def __post_init__(self) -> None:
        path = PurePosixPath(self.path)
        if path.is_absolute() or not path.parts or ".." in path.parts or "\\" in self.path or "\0" in self.path:
            raise FetchError(f"the hub lists a path outside the repository: {self.path!r}")


def one_line(e: BaseException) -> str:
    """The first line of an error's message, or its type where it has none: this package's errors are one line each."""
    return next(iter(str(e).strip().splitlines()), type(e).__name__)


def check(path: Path, file: Listed) -> None:
    """Raise FetchError unless the bytes at `path` are those listed; what is not is deleted, so that it comes anew."""
    size = path.stat().st_size
    if size != file.size:
        path.unlink()
        raise FetchError(f"{file.path}: {size} bytes came where {file.size} are listed; try again")
    if file.digest and _digest(path, file) != file.digest.lower():
        path.unlink()
        kind = "sha256" if len(file.digest) == 64 else "checksum"
        raise FetchError(f"{file.path}: its {kind} is not the listed one; try again, or report it to the owner")


def _digest(path: Path, file: Listed) -> str:
    if len(file.digest) == 40:
        digest = hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)
    else:
        digest = hashlib.sha256()
    with path.open("rb") as data:
        while chunk := data.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def open_url(url: str, start: int = 0) -> http.client.HTTPResponse:
    """The server's reply, from byte `start` on where it can do that. Raises FetchError."""
    host = "/".join(url.split("/")[:3])
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        reply: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as e:
        if e.code == 404:
            raise FetchError(f"{host} has no such repository or file (404: {url}); check the id") from e
        if e.code in (401, 403):
            raise FetchError(
                f"{host} gives {url} only to those it knows ({e.code}): fetch it with its own client"
            ) from e
        if e.code == 416:
            raise _NoMoreError(f"{url} ends before byte {start}") from e
        kind = UnreachableError if e.code == 429 or e.code >= 500 else FetchError
        raise kind(f"{host} refused {url}: {e.code} {e.reason}") from e
    except (OSError, http.client.HTTPException) as e:
        raise UnreachableError(f"no connection to {host} ({getattr(e, 'reason', e)}); check the network") from e
    return reply


def get_json(url: str) -> Any:
    """The JSON that a server replies with. Raises FetchError."""
    try:
        with open_url(url) as reply:
            return json.load(reply)
    except ValueError as e:
        raise FetchError(f"{url} did not answer with JSON: {e}") from e
    except (OSError, http.client.HTTPException) as e:
        host = "/".join(url.split("/")[:3])
        raise UnreachableError(f"the connection to {host} broke ({e}); try again") from e


def bring(url: str, target: Path, file: Listed, progress: Progress) -> None:
    """A file under its own name, whole and checked; what came of it before is gone on with. Raises FetchError."""
    part = target.with_name(f"{target.name}.{(file.digest or 'unnamed')[:16]}.part")
    pull(url, part, file, progress)
    check(part, file)
    part.replace(target)


def pull(url: str, part: Path, file: Listed, progress: Progress) -> None:
    """Bring `part` to its listed size, going on where it ends. What is there stays when the connection is lost.

    Raises FetchError: refused, or no byte more in `TRIES` tries.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    tries, have = 0, part.stat().st_size if part.exists() else 0
    while have < file.size or not part.exists():
        problem: FetchError | None = None
        try:
            _append(url, part, have, file, progress)
        except _NoMoreError:
            pass
        except UnreachableError as e:
            problem = e
        size = part.stat().st_size if part.exists() else 0
        tries = 0 if size > have else tries + 1
        have = size
        if tries == TRIES:
            raise problem or FetchError(f"{file.path}: {have} bytes came where {file.size} are listed; try again")
        if have < file.size:
            time.sleep(PAUSE * 2**tries)


def _append(url: str, part: Path, start: int, file: Listed, progress: Progress) -> None:
    """Add what `url` sends from `start` on; no further than just past the listed size."""
    with open_url(url, start) as reply:
        if start and not (reply.headers.get("Content-Range") or "").startswith(f"bytes {start}-"):
            start = 0  # this server sends the whole file, whatever is asked
        with part.open("r+b" if start else "wb") as out:
            out.seek(start)
            while start <= file.size:
                try:
                    chunk = reply.read(CHUNK)
                except (OSError, http.client.HTTPException) as e:
                    raise UnreachableError(
                        f"{file.path}: the connection broke after {start} of {file.size} bytes ({e}); try again"
                    ) from e
                if not chunk:
                    break
                out.write(chunk)
                start += len(chunk)
                progress(start)
            out.flush()
            os.fsync(out.fileno())
