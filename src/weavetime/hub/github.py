"""Files of public GitHub repositories at one commit, each checked against its git blob id.

An id is OWNER/NAME@COMMIT; a branch, a tag or the first digits of a commit do too, and without one it is the newest.
GITHUB_API_URL names another API server, as in GitHub's own runners, GITHUB_RAW_URL another server of files.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .files import FetchError, Listed, Progress, bring, get_json


class GitHubData:
    """A repository on GitHub, at the commit that `files` found. Submodules and links are left out."""

    def __init__(self, name: str) -> None:
        found = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", name)
        if found is None:
            raise FetchError(f"github:{name} is not an id: say github:OWNER/NAME or github:OWNER/NAME@COMMIT")
        self.name = f"github:{name}"
        self._id, self._commit = found[1], found[2] or "HEAD"

    def files(self) -> list[Listed]:
        """Every file of the commit, by path."""
        api = f"{_server('GITHUB_API_URL', 'https://api.github.com')}/repos/{self._id}"
        try:
            commit = get_json(f"{api}/commits/{quote(self._commit, safe='')}")
            self._commit = str(commit["sha"])
            tree = get_json(f"{api}/git/trees/{commit['commit']['tree']['sha']}?recursive=1")
            if tree["truncated"]:
                raise FetchError(f"{self.name} holds more files than GitHub lists")
            return sorted((_listed(e) for e in tree["tree"] if _is_file(e)), key=lambda f: f.path)
        except (KeyError, TypeError, ValueError) as e:
            raise FetchError(f"{self.name}: the server's reply is not understood ({e!r})") from e

    def fetch(self, file: Listed, folder: Path, progress: Progress) -> Path:
        """Bring one file below `folder`, going on with what is there."""
        target = folder / file.path
        if not target.is_file():
            raw = _server("GITHUB_RAW_URL", "https://raw.githubusercontent.com")
            bring(f"{raw}/{self._id}/{self._commit}/{quote(file.path)}", target, file, progress)
        return target


def _server(variable: str, usual: str) -> str:
    return (os.environ.get(variable) or usual).rstrip("/")


def _is_file(entry: Any) -> bool:
    return entry["type"] == "blob" and entry["mode"] != "120000"


def _listed(entry: Any) -> Listed:
    return Listed(entry["path"], int(entry["size"]), entry["sha"])
