"""Files of public ModelScope models and data sets over its HTTP API, each checked before it has its own name.

A model's folder in the cache is named after the content of the listing, so a file found there was checked when it
came, and two revisions of a model never mix. Without a connection the last listing serves, with the files that are
there.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict
from fnmatch import fnmatch
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from filelock import FileLock
from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

from .files import FetchError, Listed, Progress, UnreachableError, bring, get_json

REVISION = "master"
LISTING_LIMIT = 3000  # the server cuts longer listings of a model off without saying so
PAGE = 100  # files in one page of a data set's listing
KEPT = (".json", ".safetensors", ".txt", ".model", ".jinja", ".bin")  # an edited README is no new revision


def endpoint() -> str:
    """The server: MODELSCOPE_ENDPOINT, else MODELSCOPE_DOMAIN (the older name), else the public one."""
    host = os.environ.get("MODELSCOPE_ENDPOINT") or os.environ.get("MODELSCOPE_DOMAIN") or "modelscope.cn"
    return (host if host.startswith(("http://", "https://")) else f"https://{host}").rstrip("/")


def cache_folder() -> Path:
    """Where downloads are kept: WEAVETIME_CACHE, else ~/.cache/weavetime."""
    return Path(os.environ.get("WEAVETIME_CACHE") or Path.home() / ".cache" / "weavetime")


class ModelScopeData:
    """A public data set on ModelScope."""

    def __init__(self, data_id: str) -> None:
        self.name = f"modelscope:{_checked(data_id)}"
        self._root = f"{endpoint()}/api/v1/datasets"
        self._id = data_id

    def files(self) -> list[Listed]:
        """Every file of the data set, by path."""
        number = _said(get_json(f"{self._root}/{self._id}"), self.name, "Id")
        found: dict[str, Listed] = {}
        seen: set[str] = set()
        for page in count(1):
            asked = {"Revision": REVISION, "Root": "/", "Recursive": "True", "PageNumber": page, "PageSize": PAGE}
            entries = _said(get_json(f"{self._root}/{number}/repo/tree?{urlencode(asked)}"), self.name, "Files")
            paths = {str(e.get("Path")) for e in entries}
            if paths <= seen:  # nothing new is past the end, whatever page size the server keeps to
                break
            seen |= paths
            found |= {f.path: f for f in _blobs(entries, self.name)}
        return sorted(found.values(), key=lambda f: f.path)

    def fetch(self, file: Listed, folder: Path, progress: Progress) -> Path:
        """Bring one file below `folder`, going on with what is there."""
        target = folder / file.path
        if not target.is_file():
            query = urlencode({"Revision": REVISION, "FilePath": file.path}, quote_via=quote)
            bring(f"{self._root}/{self._id}/repo?{query}", target, file, progress)
        return target


def download(model_id: str, patterns: Sequence[str], *, revision: str = REVISION) -> Path:
    """The folder with those files of a model that match one of `patterns` (as `fnmatch`, over the whole path).

    Raises FetchError; no file is ever left half-written under its own name.
    """
    root = cache_folder() / "modelscope" / _checked(model_id)
    files = _listing(model_id, revision, root)
    folder = root / hashlib.sha256(json.dumps([asdict(f) for f in files]).encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(root / "lock"):
        for file in files:
            target = folder / file.path
            if any(fnmatch(file.path, p) for p in patterns) and not _present(target, file):
                _bring_shown(_url(model_id, "repo", Revision=revision, FilePath=file.path), target, file)
    return folder


def _checked(name: str) -> str:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise FetchError(f"modelscope:{name} is not an id: say modelscope:OWNER/NAME")
    return name


def _present(target: Path, file: Listed) -> bool:
    return target.is_file() and target.stat().st_size == file.size


def _url(model_id: str, what: str, **query: str) -> str:
    return f"{endpoint()}/api/v1/models/{model_id}/{what}?{urlencode(query, quote_via=quote)}"


def _listing(model_id: str, revision: str, root: Path) -> list[Listed]:
    saved = root / f"files-{quote(revision, safe='')}.json"
    name = f"modelscope:{model_id}"
    try:
        reply = get_json(_url(model_id, "repo/files", Revision=revision, Recursive="true"))
    except UnreachableError:
        if not saved.is_file():
            raise
        return [Listed(**entry) for entry in json.loads(saved.read_text())]
    entries = _said(reply, name, "Files")
    if len(entries) >= LISTING_LIMIT:
        raise FetchError(f"{name} lists {len(entries)} files, more than one listing holds")
    files = sorted((f for f in _blobs(entries, name) if f.path.endswith(KEPT)), key=lambda f: f.path)
    root.mkdir(parents=True, exist_ok=True)
    part = saved.with_name(f"{saved.name}.{os.getpid()}.part")
    part.write_text(json.dumps([asdict(f) for f in files]))
    part.replace(saved)
    return files


def _said(reply: Any, name: str, what: str) -> Any:
    """One value of a reply's Data. Raises FetchError where the server refused, or said something else."""
    try:
        if not reply.get("Success", reply.get("Code") == 200):
            raise FetchError(f"{name}: the server says {reply.get('Message')!r}")
        return reply["Data"][what]
    except (KeyError, TypeError, AttributeError) as e:
        raise FetchError(f"{name}: the server's reply is not understood ({e!r})") from e


def _blobs(entries: Any, name: str) -> list[Listed]:
    try:
        return [Listed(e["Path"], int(e["Size"]), e.get("Sha256") or "") for e in entries if e["Type"] == "blob"]
    except (KeyError, TypeError, ValueError) as e:
        raise FetchError(f"{name}: the server's listing is not understood ({e!r})") from e


def _bring_shown(url: str, target: Path, file: Listed) -> None:
    with tqdm(total=file.size, unit="B", unit_scale=True, desc=file.path, leave=False) as bar:
        bring(url, target, file, lambda at: bar.update(at - bar.n))
