"""Lenient readers of what a reply means, for the second column; no official rule is here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import ascii_uppercase
from typing import Any

_FIRST = re.compile(r"[(\[*\s]*([A-Za-z])(?:\s*[)\].:,*]|\s*$)")  # "B", "(b) x", "B. x", "**B**"
_SAID = re.compile(r"(?i:answer|option|choice)(?i:\s+is)?\s*:?\s*[(\[*]*([A-Z])(?![\w'])")  # "The answer is C."
_MARKED = re.compile(r"[(\[]([A-Za-z])[)\]]")  # "I would say (d)"


def lenient_letter(response: Any, options: Sequence[str]) -> str | None:
    """The letter of the option that a reply means, by letter or by an option's own words; None where that is unclear.

    "A/B" and "(A) or (B)" are unclear.
    """
    if not isinstance(response, str):
        return None
    letters = ascii_uppercase[: len(options)]
    said = response.strip()
    same = [x for x, option in zip(letters, options, strict=False) if _words(option) == _words(said) != ""]
    if len(same) == 1:
        return same[0]
    first, named = _FIRST.match(said), set(_SAID.findall(said))
    marked = {m.upper() for m in _MARKED.findall(said)}
    if len(marked) > 1:
        return None
    for found in ({first[1].upper()} if first else set(), named, marked):
        if len(found) == 1 and (letter := next(iter(found))) in letters:
            return letter
    return None


def same_words(response: Any, gold: str) -> float:
    """Whether an open answer has the words of the gold one, whatever their case, the space and a full stop."""
    return float(isinstance(response, str) and _words(response) == _words(gold))


def _words(text: str) -> str:
    return " ".join(text.casefold().strip(" .\n").split())
