"""Forward and backward as one CUDA graph: a small model's thousands of launches cost more than its arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Forward = Callable[[Sequence[Tensor]], tuple[Tensor, list[Tensor]]]


class StepGraph:
    """`forward` and its backward for inputs of one shape, captured once and replayed.

    forward: from tensors to losses (n,) and further outputs. weights: of the losses; the gradients are those of their
    weighted sum, and are handed to autograd as if forward had run. No other autograd graph of these parameters may be
    alive while one is captured: their accumulators would run on its stream.
    """

    def __init__(self, module: nn.Module, forward: Forward, weights: Tensor, like: Sequence[Tensor]) -> None:
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.weights, self.inputs = weights, [x.clone() for x in like]
        kept = [p.grad for p in self.parameters]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self._run(forward)
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):  # a data loader's thread pins memory
            self.losses, self.outputs = self._run(forward)
        self.gradients = [p.grad for p in self.parameters]
        for p, gradient in zip(self.parameters, kept, strict=True):
            p.grad = gradient

    def _run(self, forward: Forward) -> tuple[Tensor, list[Tensor]]:
        for p in self.parameters:
            p.grad = None
        with torch.enable_grad():
            losses, outputs = forward(self.inputs)
            (losses * self.weights).sum().backward()
        return losses.detach(), [x.detach() for x in outputs]

    def __call__(self, inputs: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """What `forward` gives; the losses can be differentiated, all with `weights` times one factor."""
        for mine, given in zip(self.inputs, inputs, strict=True):
            mine.copy_(given, non_blocking=True)
        losses: Tensor = _Replay.apply(self, *self.parameters)
        return losses, self.outputs


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, graph: StepGraph, *parameters: Tensor) -> Tensor:
        graph.graph.replay()
        ctx.graph = graph
        return graph.losses.clone()

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor | None, ...]:
        graph: StepGraph = ctx.graph
        [found] = given
        factor = (found * graph.weights).sum() / graph.weights.square().sum()  # found = factor x weights
        there = [g for g in graph.gradients if g is not None]
        scaled = iter(torch._foreach_mul(there, factor))
        return None, *(None if g is None else next(scaled) for g in graph.gradients)
