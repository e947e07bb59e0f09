"""What an entry of the registry is: repositories on hubs, and where their files go."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

HUBS = ("hf", "modelscope", "github")


@dataclass(frozen=True, slots=True)
class Part:
    """Files of one repository. on: its id per hub, the preferred one first; on GitHub with the commit. into: the
    folder below the data set's own that they go to. patterns: which files, as `fnmatch` over their path.

    places: where files go, below `into`: pairs of a regular expression for the whole path and what becomes of it (as
    `re.sub`), of which the first that matches decides; what none matches is left out. The path of what an archive holds
    is ARCHIVE/MEMBER. Without any, everything keeps its path, and archives are unpacked where they lie.
    pieces: a regular expression for files that are one archive in pieces though their names do not say so; its group
    `whole` and a suffix .zip name the archive, its group `number` is the piece's.
    """

    on: Mapping[str, str]
    into: str = ""
    patterns: tuple[str, ...] = ("*",)
    places: tuple[tuple[str, str], ...] = ()
    pieces: str = ""

    def place(self, path: str) -> str | None:
        """Where a path of the repository, or ARCHIVE/MEMBER, goes below `into`; None where it is left out."""
        if not self.places:
            return path
        *above, name = path.split("/")
        if "__MACOSX" in above or name.startswith("._"):  # what one maker of archives adds to them
            return None
        for wanted, becomes in self.places:
            if found := re.fullmatch(wanted, path):
                return found.expand(becomes)
        return None


@dataclass(frozen=True, slots=True)
class DataSet:
    """What `weavetime data get NAME` fetches, and what it says before. agreement: what must be agreed to, and where,
    before it can be fetched or used. by_hand: what does not come, and where it is to be had. unverified: what of the
    entry could not be compared with its source.
    """

    name: str
    about: str
    licence: str
    size: str
    parts: tuple[Part, ...]
    agreement: str = ""
    by_hand: str = ""
    unverified: str = ""

    def said(self) -> tuple[tuple[str, str], ...]:
        """What there is to say before the first byte: labels and texts."""
        lines = (
            (self.name, self.about),
            ("licence", self.licence),
            ("size", self.size),
            ("agreement", self.agreement),
            ("by hand", self.by_hand),
            ("not verified", self.unverified),
        )
        return tuple((label, text) for label, text in lines if text)
