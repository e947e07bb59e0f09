"""Muon for the matrices of hidden layers, AdamW for all else: what a small model learns its world with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM, ROUNDS, TINY = 0.95, 5, 1e-7
QUINTIC = 3.4445, -4.7750, 2.0315  # coefficients of the iteration, as torch.optim.Muon has them
MOST = 1 << 26  # entries of matrices that are stepped together
RMS = 0.2  # of an update's entries, as AdamW's are: one learning rate suits both


def matrices(model: nn.Module) -> list[Tensor]:
    """The weights that Muon is for: those of trained linear layers, without embeddings and all of the head."""
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    linear = [(n, m.weight) for n, m in model.named_modules() if isinstance(m, nn.Linear)]
    return [w for n, w in linear if w.requires_grad and id(w) not in tables and "lm_head" not in n.split(".")]


def groups(model: nn.Module, decayed: Collection[str]) -> list[dict[str, Any]]:
    """For MuonAdamW: all that is trained of a model. decayed: names of what weight decay is for beside the matrices."""
    whole = matrices(model)
    muon = {id(p) for p in whole}
    rest = [(n in decayed, p) for n, p in model.named_parameters() if p.requires_grad and id(p) not in muon]
    return [
        {"params": whole, "muon": True},
        {"params": [p for decays, p in rest if decays]},
        {"params": [p for decays, p in rest if not decays], "weight_decay": 0.0},
    ]


class MuonAdamW(torch.optim.AdamW):
    """AdamW but for groups with `muon`, whose matrices take steps of torch.optim.Muon (match_rms_adamw).

    Matrices of one shape are stepped together: one by one, launching their kernels takes longer than running them.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], **more: Any) -> None:
        super().__init__([{"muon": False, **group} for group in groups], **more)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of both."""
        with torch.enable_grad():
            found = None if closure is None else closure()
        taken: list[tuple[Tensor, Tensor]] = []
        for group in self.param_groups:
            if group["muon"]:
                alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
                for p in group["params"]:
                    if p.grad is not None:
                        alike[p.shape].append(p)
                        taken.append((p, p.grad))
                for shape, stack in alike.items():
                    size = max(1, MOST // shape.numel())
                    for i in range(0, len(stack), size):
                        self._muon(stack[i : i + size], group["lr"], group["weight_decay"])
        for p, _ in taken:  # AdamW passes over what has no gradient
            p.grad = None
        super().step()
        for p, gradient in taken:
            p.grad = gradient
        return found

    def _muon(self, stack: list[Tensor], lr: float, decay: float) -> None:
        for p in stack:
            if not self.state[p]:  # AdamW reads no state without `step`
                self.state[p] |= {"step": torch.zeros(()), "momentum_buffer": torch.zeros_like(p)}
        kept = [self.state[p]["momentum_buffer"] for p in stack]
        gradients = [p.grad for p in stack if p.grad is not None]
        torch._foreach_lerp_(kept, gradients, 1 - MOMENTUM)
        update = orthogonal(torch.stack(torch._foreach_lerp(gradients, kept, MOMENTUM)))
        torch._foreach_mul_(stack, 1 - lr * decay)
        step = lr * RMS * max(stack[0].shape) ** 0.5
        torch._foreach_add_(stack, list(update.to(stack[0].dtype).unbind()), alpha=-step)


def orthogonal(x: Tensor) -> Tensor:
    """Matrices (n, rows, columns) with singular values near one in place of their own, bfloat16: Newton and Schulz."""
    a, b, c = QUINTIC
    high = x.shape[-2] > x.shape[-1]
    x = (x.mT if high else x).bfloat16()
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(TINY)
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if high else x
