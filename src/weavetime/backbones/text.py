"""What a family says: its sink, how a question is put, what ends an answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from string import ascii_uppercase
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..config import Decoding
from ..errors import ModelError, QuestionError
from ..types import Question
from .family import Family
from .values import NEWLINE, Prompt, Strings, device_of


class Text(Family, ABC):
    """Text to token ids and their embeddings, in the words of a family."""

    strings: ClassVar[Strings]
    opening: ClassVar[str] = ""
    """Text right before visual tokens."""
    model: Any
    tokenizer: Any

    @property
    @abstractmethod
    def decoder(self) -> Any:
        """The language model without its head."""

    @property
    @abstractmethod
    def wraps(self) -> bool:
        """Whether each step carries a text and a wrapper of its own: segments. Else all steps are one video."""

    @property
    @abstractmethod
    def closing(self) -> tuple[int, ...]:
        """Ids right after visual tokens: of each step in segments, at the head of the question in one video."""

    def encode(self, text: str) -> list[int]:
        """Token ids of text, nothing added; special tokens are recognised."""
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def embed_ids(self, ids: Tensor) -> Tensor:
        """Embeddings (..., hidden) of token ids, NEWLINE among them."""
        table = self.decoder.embed_tokens
        rows = table(ids.clamp_min(0).to(device_of(table)))
        newline = ids == NEWLINE
        if bool(newline.any()):
            rows = rows.clone()
            rows[newline.to(rows.device)] = self.newline.to(rows)
        return rows

    @property
    def newline(self) -> Tensor:
        """The learned newline vector, (hidden,)."""
        raise ModelError(f"{self.family} has no newline vector")

    @cached_property
    def sink(self) -> tuple[Tensor, int]:
        """Ids that open every view, and how many of them are text."""
        first = self.tokenizer.convert_tokens_to_ids(self.strings.start) if self.strings.start else None
        if self.strings.start and first in (None, self.tokenizer.unk_token_id):
            raise ModelError(f"the tokenizer has no {self.strings.start}: it is not that of a {self.family} model")
        text = ([] if first is None else [first]) + self.encode(self.strings.sink)
        wrapper = [] if self.wraps else self.encode(self.opening)
        return torch.tensor(text + wrapper), len(text)

    def prompt(self, question: Question, decoding: Decoding) -> Prompt:
        """A question after the pictures: history, text, options, role marks, forced prefix."""
        self._check_text(question)
        words = self.strings
        asked, prefix = question.text, decoding.prefix
        if question.options:
            if len(question.options) > len(ascii_uppercase):
                raise QuestionError(f"options have letters A to Z: at most 26, got {len(question.options)}")
            lines = [
                words.option.format(letter=letter, text=text)
                for letter, text in zip(ascii_uppercase, question.options, strict=False)
            ]
            asked = words.options.format(q=question.text, options="\n".join(lines))
            prefix = prefix or words.choice_prefix
        turns = "".join(words.turn.format(q=q, a=a) for q, a in question.history)
        head = [] if self.wraps else list(self.closing)
        ids = head + self.encode(turns + words.question.format(q=asked) + prefix)
        letters = tuple(self._letter(prefix, c) for c in ascii_uppercase[: len(question.options)])
        return Prompt(torch.tensor(ids), len(head), torch.tensor(self.encode(question.query or question.text)), letters)

    def _check_text(self, question: Question) -> None:
        """Refuse what is no text, and text that would end the turn or open another: the tokenizer's control tokens."""
        turns = [part for turn in question.history for part in turn]
        for text in (question.text, question.query, *question.options, *turns):
            if not isinstance(text, str):
                raise QuestionError(f"a question, its options and its history are texts, got {text!r}")
            if not text.isprintable() and any("\ud800" <= c <= "\udfff" for c in text):
                raise QuestionError("the text holds characters that are not Unicode: is it in UTF-8?")
            for control in self._controls:
                if control in text:
                    raise QuestionError(f"the text holds {control}, which steers the model: take it out")
        if not question.text.strip():
            raise QuestionError("the question is empty")

    @cached_property
    def _controls(self) -> tuple[str, ...]:
        return tuple(self.tokenizer.get_added_vocab())

    def _letter(self, prefix: str, letter: str) -> int:
        """The token of a letter right after the forced prefix: at the start of a text it may be another."""
        before, ids = self.encode(prefix), self.encode(prefix + letter)
        if len(ids) == len(before) + 1 and ids[:-1] == before:
            return ids[-1]
        ids = self.encode(letter)
        if len(ids) != 1:
            raise ModelError(f"the tokenizer cuts the option letter {letter!r} into {len(ids)} tokens")
        return ids[0]

    @cached_property
    def stops(self) -> frozenset[int]:
        """Ids that end an answer."""
        ids = {self.tokenizer.convert_tokens_to_ids(token) for token in self.strings.stop}
        said = getattr(self.model.generation_config, "eos_token_id", None)
        ids.update(said if isinstance(said, list) else [said])
        ids.add(self.tokenizer.eos_token_id)
        return frozenset(i for i in ids if i is not None)
