"""A stand-in for the hubs and GitHub on loopback: their shapes, HTTP ranges, and the faults that a test asks for."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TREE = "76543210fedcba9876543210fedcba9876543210"
DATA_NUMBER = 9870  # ModelScope lists a data set under a number; further ones under the next


@dataclass
class Stand:
    """What the server has and does.

    model_id, data_id: the one model and the one data set there are; both have `files`. more: other data sets, by id:
    what is in each, names of `files`. sent: what is sent instead.
    sha: what is listed as sha256 instead. lfs: files that the hub keeps in LFS; the others are known by git's id.
    gets: every request's path; ranges: its Range header. cut: announce a whole file, send half of what is asked, hang
    up. cuts: do so this many times only. status: an HTTP error for files; refuse: for everything. pause: seconds
    before each `chunk` of a file. whole: ignore Range.
    """

    model_id: str = "someone/adapter"
    data_id: str = "someone/data"
    more: dict[str, set[str]] = field(default_factory=dict)
    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    sent: dict[str, bytes] = field(default_factory=dict)
    sha: dict[str, str] = field(default_factory=dict)
    lfs: set[str] = field(default_factory=set)
    listing: Any = None
    cut: bool = False
    cuts: int = 0
    status: int = 0
    refuse: int = 0
    whole: bool = False
    pause: float = 0.0
    chunk: int = 1 << 16
    page: int = 100
    gets: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)

    def add(self, folder: Path, prefix: str = "") -> None:
        """Every file of a folder."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.files[prefix + path.relative_to(folder).as_posix()] = path.read_bytes()

    def downloads(self) -> list[str]:
        """The requests that asked for a file's bytes."""
        return [g for g in self.gets if "FilePath=" in g or "/resolve/" in g or g.startswith("/raw/")]

    def of(self, data_id: str) -> dict[str, bytes] | None:
        """The files of a data set."""
        if data_id == self.data_id:
            return self.files
        return {n: self.files[n] for n in self.more[data_id]} if data_id in self.more else None

    @property
    def numbers(self) -> dict[str, int]:
        """ModelScope's number of each data set."""
        return {data_id: DATA_NUMBER + i for i, data_id in enumerate((self.data_id, *self.more))}

    @property
    def repos(self) -> list[str]:
        """Where ModelScope has the files of each data set."""
        return [f"datasets/{data_id}/repo" for data_id in self.numbers]

    def numbered(self, path: str) -> str | None:
        """The data set whose listing ModelScope has there."""
        return next((i for i, number in self.numbers.items() if path == f"datasets/{number}/repo/tree"), None)

    def entries(self, data_id: str = "") -> list[dict[str, Any]]:
        """ModelScope's listing."""
        return [
            {"Path": name, "Name": name.split("/")[-1], "Type": "blob", "Size": len(data), "Sha256": self.sha_of(name)}
            for name, data in (self.of(data_id) or self.files).items()
        ] + [{"Path": "sub", "Name": "sub", "Type": "tree", "Size": 0, "Sha256": ""}]

    def blobs(self, data_id: str) -> list[dict[str, Any]]:
        """GitHub's listing."""
        found = [
            {"type": "blob", "mode": "100644", "path": name, "size": len(data), "sha": git_id(data)}
            for name, data in (self.of(data_id) or {}).items()
        ]
        return [*found, {"type": "tree", "mode": "040000", "path": "sub", "sha": COMMIT}]

    def tree(self, data_id: str = "") -> list[dict[str, Any]]:
        """The hub's listing."""
        found: list[dict[str, Any]] = [{"type": "directory", "path": "sub", "oid": COMMIT}]
        for name, data in (self.of(data_id) or self.files).items():
            entry = {"type": "file", "path": name, "size": len(data), "oid": git_id(data)}
            if name in self.lfs:
                entry["lfs"] = {"oid": self.sha_of(name), "size": len(data), "pointerSize": 130}
            found.append(entry)
        return found

    def sha_of(self, name: str) -> str:
        """The sha256 that is listed."""
        return self.sha.get(name, hashlib.sha256(self.files[name]).hexdigest())


def git_id(data: bytes) -> str:
    """Git's id of a blob."""
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    stand: Stand

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        stand, url = self.stand, urlsplit(self.path)
        if self.command == "GET":
            stand.gets.append(unquote(self.path))
            stand.ranges.append(self.headers.get("Range", ""))
        query, path = parse_qs(url.query), unquote(url.path)
        if stand.refuse:
            return self._nothing(stand.refuse)
        if path.startswith(("/repos/", "/raw/")):
            return self._github(path)
        if path.startswith("/api/v1/"):
            return self._modelscope(path.removeprefix("/api/v1/"), query)
        return self._hub(path, query)

    def _modelscope(self, path: str, query: dict[str, list[str]]) -> None:
        stand, (name,) = self.stand, query.get("FilePath", [""])
        listing = {"Code": 200, "Success": True, "Data": {"Files": stand.entries()}}
        if path == f"models/{stand.model_id}/repo/files":
            self._json(stand.listing if stand.listing is not None else listing)
        elif (data := path.removeprefix("datasets/")) in stand.numbers:
            self._json({"Code": 200, "Success": True, "Data": {"Id": stand.numbers[data], "Type": 1}})
        elif (listed := stand.numbered(path)) is not None:
            at = (int(query["PageNumber"][0]) - 1) * stand.page
            some = {"Code": 200, "Success": True, "Data": {"Files": stand.entries(listed)[at : at + stand.page]}}
            self._json(stand.listing if stand.listing is not None else some)
        elif path in (f"models/{stand.model_id}/repo", *stand.repos) and name in stand.files:
            self._file(name)
        else:
            self._nothing(404)

    def _github(self, path: str) -> None:
        stand, (kind, owner, name, *rest) = self.stand, path.strip("/").split("/", 3)
        data_id, rest = f"{owner}/{name}", "/".join(rest)
        files = stand.of(data_id)
        if files is None:
            self._nothing(404)
        elif kind == "repos" and rest.startswith("commits/"):
            self._json({"sha": COMMIT, "commit": {"tree": {"sha": TREE}}})
        elif kind == "repos" and rest == f"git/trees/{TREE}":
            self._json({"sha": TREE, "truncated": False, "tree": stand.blobs(data_id)})
        elif kind == "raw" and (file := rest.removeprefix(f"{COMMIT}/")) in files:
            self._file(file)
        else:
            self._nothing(404)

    def _hub(self, path: str, query: dict[str, list[str]]) -> None:
        stand = self.stand
        for kind, repo in (("models", stand.model_id), *(("datasets", data_id) for data_id in stand.numbers)):
            start = repo if kind == "models" else f"{kind}/{repo}"
            names = [{"rfilename": f} for f in stand.files]
            if path == f"/api/{kind}/{repo}" or path.startswith(f"/api/{kind}/{repo}/revision/"):
                return self._json({"id": repo, "sha": COMMIT, "siblings": names})
            if path.startswith(f"/api/{kind}/{repo}/tree/"):
                return self._json(stand.tree(repo))
            if path.startswith(f"/{start}/resolve/"):
                name = path.removeprefix(f"/{start}/resolve/").split("/", 1)[1]
                if name in stand.files:
                    return self._file(name)
        return self._nothing(404)

    def _nothing(self, status: int) -> None:
        self.send_response(status)
        if status in (401, 404):
            self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _json(self, content: Any) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def _file(self, name: str) -> None:
        stand = self.stand
        if stand.status and self.command == "GET":
            return self._nothing(stand.status)
        data, etag = stand.sent.get(name, stand.files[name]), git_id(stand.files[name])
        start, asked = 0, self.headers.get("Range", "")
        if asked and not stand.whole:
            start = int(asked.removeprefix("bytes=").split("-")[0])
            if start >= len(data):
                return self._nothing(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("ETag", f'"{stand.sha_of(name) if name in stand.lfs else etag}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if self.command == "GET":
            self._body(data[start:])
        return None

    def _body(self, data: bytes) -> None:
        stand = self.stand
        if stand.cut or stand.cuts:
            stand.cuts = max(0, stand.cuts - 1)
            data = data[: len(data) // 2]
            self.close_connection = True
        for at in range(0, len(data), stand.chunk):
            time.sleep(stand.pause)
            try:
                self.wfile.write(data[at : at + stand.chunk])
            except OSError:  # the client was killed, which is what some tests do
                return


@contextmanager
def serve() -> Iterator[Stand]:
    """The server, while the block runs."""
    stand = Stand()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"stand": stand}))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    stand.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield stand
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
