"""Which base an adapter was trained on: a short hash of the weights that survives another dtype or another saving."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

SAMPLED = 16  # values of each weight
LEAST = 2.0**-10  # float16 holds every bfloat16 value from here on exactly; smaller ones it may round


@torch.no_grad()
def fingerprint(model: Any) -> str | None:
    """16 hex digits over shapes and sampled values of every weight; None where weights are offloaded.

    The same however weights are named, and for a base loaded in float32, bfloat16, or float16 where it is stored in 16
    bits: a base stored in float32 is another one in float16, where its values are rounded twice.
    """
    digests = []
    for weight in model.parameters():
        if weight.is_meta:
            return None
        flat = weight.detach().reshape(-1)
        values = flat[:: max(1, flat.numel() // SAMPLED)][:SAMPLED].to(torch.bfloat16)
        values = torch.where(values.abs() < LEAST, 0, values)
        held = values.float().cpu().numpy().tobytes()
        digests.append(hashlib.sha256(repr(tuple(weight.shape)).encode() + held).digest())
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()[:16]
