"""Names on a hub, `hf:OWNER/NAME`, `modelscope:OWNER/NAME` and, for data, `github:OWNER/NAME@COMMIT`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from .files import FetchError, Listed, Progress
from .github import GitHubData
from .huggingface import HubData, fetch_model
from .modelscope import ModelScopeData, download

HUB, MODELSCOPE, GITHUB = "hf:", "modelscope:", "github:"


class Repository(Protocol):
    """A data set's files on a hub, as they were when `files` was called."""

    name: str

    def files(self) -> list[Listed]:
        """Every file, by path. Raises FetchError."""
        ...

    def fetch(self, file: Listed, folder: Path, progress: Progress) -> Path:
        """Bring one file below `folder`, checked, and give its path; a file that was cut off goes on from there.

        Raises FetchError; bytes that are not those listed are deleted.
        """
        ...


def is_remote(name: str) -> bool:
    """Whether `name`, of a model, says which hub it is on."""
    return name.startswith((HUB, MODELSCOPE))


def fetch(name: str, patterns: Sequence[str]) -> Path:
    """The folder with the files of the model `hf:ID` or `modelscope:ID` that match `patterns`; from the cache where
    they are.

    Raises FetchError, one line: no such model, no access, or no connection and nothing in the cache.
    """
    if name.startswith(MODELSCOPE):
        return download(name.removeprefix(MODELSCOPE), patterns)
    return fetch_model(name.removeprefix(HUB), patterns)


def data_repository(name: str) -> Repository:
    """The data set `hf:ID`, `modelscope:ID` or `github:ID`; nothing is asked yet. Raises FetchError."""
    if name.startswith(MODELSCOPE):
        return ModelScopeData(name.removeprefix(MODELSCOPE))
    if name.startswith(GITHUB):
        return GitHubData(name.removeprefix(GITHUB))
    if name.startswith(HUB):
        return HubData(name.removeprefix(HUB))
    raise FetchError(
        f"{name!r} does not say which hub it is on: say hf:OWNER/NAME, modelscope:OWNER/NAME or github:OWNER/NAME"
    )
