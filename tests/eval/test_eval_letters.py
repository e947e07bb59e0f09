"""The lenient reader of options, used for second columns only."""

from __future__ import annotations

from typing import Any

import pytest

from weavetime.eval.letters import lenient_letter

OPTIONS = ("cup", "plate", "knife", "fork")


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("(B) x", "B"),
        ("B) plate", "B"),
        (" C", "C"),
        ("The answer is C.", "C"),
        ("Option D", "D"),
        ("b", "B"),
        ("**B**", "B"),
        ("Plate.", "B"),
        ("I'd say (d)", "D"),
        ("A/B", None),
        ("(A) or (B)", None),
        ("A man", None),
        ("The answer is a cup", None),
        ("E", None),
        ("", None),
        (None, None),
        ("Not sure", None),
        ("1 2", None),
        (["A"], None),
    ],
)
def test_what_a_reply_means(said: Any, meant: str | None) -> None:
    assert lenient_letter(said, OPTIONS) == meant


def test_the_same_words_twice_mean_neither() -> None:
    assert lenient_letter("cup", ("cup", "cup", "")) is None
    assert lenient_letter("", ("cup", "")) is None
