"""Weights drawn anew, for a model that begins from nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..backbones import Backbone


def draw_anew(backbone: Backbone, seed: int, *, alike: bool) -> None:
    """Give a backbone's model newly drawn weights of its config. alike: with heads of the decoder that find likes."""
    torch.manual_seed(seed)
    host: Any = backbone.model
    host.load_state_dict(type(host)(host.config).state_dict())
    if alike:
        for layer in backbone.decoder.layers:
            begin_alike(layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.head_dim)


@torch.no_grad()
def begin_alike(query: nn.Linear, key: nn.Linear, dim: int) -> None:
    """Let the first query head of each KV head begin as that head: it attends where something like its own token is.

    Comparing an option with the question or with what a picture showed needs such heads. After mimetic initialisation
    (Trockman and Kolter, 2023), where the product of the two projections begins near the identity. query, key:
    projections of `dim` rows a head.
    """
    group = query.out_features // key.out_features
    for head in range(key.out_features // dim):
        same = torch.linalg.qr(torch.randn(key.in_features, dim)).Q.T
        key.weight[head * dim :][:dim] += same
        query.weight[head * group * dim :][:dim] += same
