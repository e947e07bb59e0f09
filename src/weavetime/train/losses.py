"""Cross-entropy at the positions that have a label, without all logits in memory at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

PIECES = 8
"""Always as many calls of the head, whatever the batch: where it is sharded, every process gathers it as often."""

IGNORED = -100


def token_losses(head: Callable[[Tensor], Tensor], hidden: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Loss of each token that has a label, float32 (n,), and where it stands in `labels`, bool (batch, length).

    hidden: (batch, length, width), normed. labels: (batch, length), aligned to the inputs: the hidden state before a
    token predicts it. Logits are made anew in the backward pass, a piece at a time.
    """
    wanted = labels != IGNORED
    wanted = wanted & (torch.arange(labels.shape[1], device=labels.device) > 0)
    before = wanted.roll(-1, dims=1)
    states, targets = hidden[before], labels[wanted]
    pieces = zip(states.tensor_split(PIECES), targets.tensor_split(PIECES), strict=True)
    found = [checkpoint(_piece, head, s, t, use_reentrant=False) for s, t in pieces]
    return torch.cat(found), wanted


def _piece(head: Callable[[Tensor], Tensor], states: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(head(states).float(), targets, reduction="none")
