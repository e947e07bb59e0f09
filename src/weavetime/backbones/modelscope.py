"""Files of a public ModelScope model over its HTTP API: each checked by size and sha256, then renamed into place.

A folder in the cache is named after the content of the listing, so a file found there was checked when it came, and
two revisions of a model never mix. Without a connection the last listing serves, with the files that are there.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import urllib.error
import urllib.request
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, urlencode

from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

from ..errors import WeaveTimeError

TIMEOUT = 30.0  # seconds without a byte
CHUNK = 1 << 20
LISTING_LIMIT = 3000  # the server cuts longer listings off without saying so
KEPT = (".json", ".safetensors", ".txt", ".model", ".jinja", ".bin")  # an edited README is no new revision


class FetchError(WeaveTimeError):
    """Files of a model did not come: no such model, no connection, or not what was listed."""


class _UnreachableError(FetchError):
    """No connection; what is in the cache may do."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One file of a model: its path inside it, its bytes, and their sha256 in hex (empty where the server has none)."""

    path: str
    size: int
    sha256: str


def endpoint() -> str:
    """The server: MODELSCOPE_ENDPOINT, else MODELSCOPE_DOMAIN (the older name), else the public one."""
    host = os.environ.get("MODELSCOPE_ENDPOINT") or os.environ.get("MODELSCOPE_DOMAIN") or "modelscope.cn"
    return (host if host.startswith(("http://", "https://")) else f"https://{host}").rstrip("/")


def cache_folder() -> Path:
    """Where downloads are kept: WEAVETIME_CACHE, else ~/.cache/weavetime."""
    return Path(os.environ.get("WEAVETIME_CACHE") or Path.home() / ".cache" / "weavetime")


def download(model_id: str, patterns: Sequence[str], *, revision: str = "master") -> Path:
    """The folder with those files of a model that match one of `patterns` (as `fnmatch`, over the whole path).

    Raises FetchError; no file is ever left half-written under its own name.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", model_id):
        raise FetchError(f"modelscope:{model_id} is not an id: say modelscope:OWNER/NAME")
    root = cache_folder() / "modelscope" / model_id
    files = _listing(model_id, revision, root)
    folder = root / hashlib.sha256(json.dumps([asdict(f) for f in files]).encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        target = folder / file.path
        if any(fnmatch(file.path, p) for p in patterns) and not _present(target, file):
            _download(_url(model_id, "repo", Revision=revision, FilePath=file.path), target, file)
    return folder


def _present(target: Path, file: Listed) -> bool:
    return target.is_file() and target.stat().st_size == file.size


def _url(model_id: str, what: str, **query: str) -> str:
    return f"{endpoint()}/api/v1/models/{model_id}/{what}?{urlencode(query, quote_via=quote)}"


def _open(url: str) -> http.client.HTTPResponse:
    try:
        reply: http.client.HTTPResponse = urllib.request.urlopen(url, timeout=TIMEOUT)
    except urllib.error.HTTPError as e:
        if e.code == 404:
            raise FetchError(f"{endpoint()} has no such model or file (404: {url}); check the id") from e
        raise FetchError(f"{endpoint()} refused {url}: {e.code} {e.reason}") from e
    except (OSError, http.client.HTTPException) as e:
        raise _UnreachableError(
            f"no connection to {endpoint()} ({e}); check the network, or give a local folder"
        ) from e
    return reply


def _listing(model_id: str, revision: str, root: Path) -> list[Listed]:
    saved = root / f"listing-{quote(revision, safe='')}.json"
    try:
        files = _parse(_get_json(_url(model_id, "repo/files", Revision=revision, Recursive="true")), model_id)
    except _UnreachableError:
        if not saved.is_file():
            raise
        return [Listed(**entry) for entry in json.loads(saved.read_text())]
    root.mkdir(parents=True, exist_ok=True)
    part = _part_of(saved)
    part.write_text(json.dumps([asdict(f) for f in files]))
    part.replace(saved)
    return files


def _get_json(url: str) -> Any:
    try:
        with _open(url) as reply:
            return json.load(reply)
    except ValueError as e:
        raise FetchError(f"{url} did not answer with JSON: {e}") from e
    except (OSError, http.client.HTTPException) as e:
        raise _UnreachableError(f"the connection to {endpoint()} broke ({e}); try again") from e


def _parse(reply: Any, model_id: str) -> list[Listed]:
    try:
        if not reply["Success"]:
            raise FetchError(f"modelscope:{model_id}: the server says {reply.get('Message')!r}")
        entries = reply["Data"]["Files"]
        if len(entries) >= LISTING_LIMIT:
            raise FetchError(f"modelscope:{model_id} lists {len(entries)} files, more than one listing holds")
        blobs = [Listed(e["Path"], int(e["Size"]), e.get("Sha256") or "") for e in entries if e["Type"] == "blob"]
    except (KeyError, TypeError, ValueError) as e:
        raise FetchError(f"modelscope:{model_id}: the server's listing is not understood ({e!r})") from e
    for blob in blobs:
        path = PurePosixPath(blob.path)
        if path.is_absolute() or ".." in path.parts or "\\" in blob.path:
            raise FetchError(f"modelscope:{model_id} lists a path outside the model: {blob.path!r}")
    return sorted((b for b in blobs if b.path.endswith(KEPT)), key=lambda b: b.path)


def _part_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.{uuid.uuid4().hex}.part")


def _download(url: str, target: Path, file: Listed) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = _part_of(target)
    try:
        size, digest = _copy(url, part, file)
        if size != file.size:
            raise FetchError(f"{file.path}: {size} bytes came where {file.size} are listed; try again")
        if file.sha256 and digest != file.sha256.lower():
            raise FetchError(f"{file.path}: its sha256 is not the listed one; try again, or report it to the owner")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _bar(file: Listed) -> Any:
    return tqdm(total=file.size, unit="B", unit_scale=True, desc=file.path, leave=False)


def _copy(url: str, part: Path, file: Listed) -> tuple[int, str]:
    """Write what `url` sends to `part`; its bytes and their sha256. Reads no further than just past the listed size."""
    digest, size = hashlib.sha256(), 0
    with _open(url) as reply, part.open("xb") as out, _bar(file) as bar:
        while size <= file.size:
            try:
                chunk = reply.read(CHUNK)
            except (OSError, http.client.HTTPException) as e:
                raise FetchError(f"{file.path}: the connection broke after {size} bytes ({e}); try again") from e
            if not chunk:
                break
            out.write(chunk)
            digest.update(chunk)
            size += len(chunk)
            bar.update(len(chunk))
        out.flush()
        os.fsync(out.fileno())
    return size, digest.hexdigest()
