"""How unsure the model is of its next token (docs/method.md §3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

TOP = 10


def entropy_gate(logits: Tensor) -> Tensor:
    """Entropy of the softmax over the 10 largest logits, in nats, over ln 10: fp32 (...,), in [0, 1].

    logits: (..., vocabulary).
    """
    top = logits.float().topk(min(TOP, logits.shape[-1]), dim=-1).values
    log_p = torch.log_softmax(top, -1)
    return -(log_p.exp() * log_p).sum(-1) / math.log(TOP)
