"""A placed adapter merged into the host model's weights.

PEFT does the mathematics on a stand-in tree that shares the host's layers, so the host keeps its class and nothing of
PEFT stays in it. All that can fail comes before the first write.
"""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import AdapterError, OutOfMemoryError
from .lora import PREFIX, Pair, Plan

NAME = "default"


def require_peft() -> Any:
    """PEFT, or AdapterError where it is not installed."""
    try:
        import peft
    except ImportError as e:
        raise AdapterError("adapters need PEFT: pip install weavetime[adapters]") from e
    return peft


@torch.no_grad()
def merge(model: Any, plan: Plan) -> None:
    """Write weight + scaling · up @ down, and the whole weights, into `model`; sums in float32, each dtype kept.

    Raises AdapterError or OutOfMemoryError, and then the model is as it was.
    """
    _check_range(model, plan)
    layers = _peft_layers(plan)
    largest = max(layers, key=lambda n: plan.pairs[n].module.weight.numel(), default=None)
    try:
        if largest is not None:  # the largest sum once for nothing: what fits it fits all, and no write has been made
            _sum(layers[largest], plan.pairs[largest].module.weight)
        _untie(model, plan)
    except torch.OutOfMemoryError as e:
        raise OutOfMemoryError("no room on the device to merge the adapter: merge on the CPU, then move") from e
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, tensor in plan.whole.items():
        parameters[name].copy_(tensor)
    for name, layer in layers.items():
        weight = plan.pairs[name].module.weight
        weight.copy_(_sum(layer, weight))


def _sum(layer: Any, weight: Tensor) -> Tensor:
    return layer.get_delta_weight(NAME).float().add_(weight)


def _check_range(model: Any, plan: Plan) -> None:
    """A bound on every merged value, so that none can leave its dtype's range (float16 ends at 65504)."""
    whole = {n: float(t.abs().max()) for n, t in plan.whole.items()}
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, pair in plan.pairs.items():
        rank = pair.down.shape[0]
        delta = abs(pair.alpha) * rank * float(pair.down.abs().max()) * float(pair.up.abs().max())
        delta /= math.sqrt(rank) if plan.settings.rslora else rank
        target = f"{name}.weight"
        base = whole.get(target, max(abs(float(b)) for b in pair.module.weight.aminmax()))
        whole[target] = base + delta
    for name, bound in whole.items():
        dtype = parameters[name].dtype
        if not bound <= torch.finfo(dtype).max:
            raise AdapterError(f"merged, {name} could leave the range of {dtype}: load the model in a wider dtype")


class _Tree(nn.Module):
    """Layers under their dotted names, without the host around them."""

    def __init__(self, pairs: dict[str, Pair]):
        super().__init__()
        for name, pair in pairs.items():
            node: nn.Module = self
            *path, leaf = name.split(".")
            for step in path:
                if step not in node._modules:
                    node.add_module(step, _Tree({}))
                node = node.get_submodule(step)
            node.add_module(leaf, pair.module)


def _peft_layers(plan: Plan) -> dict[str, Any]:
    """PEFT's layer for each pair, holding its factors in float32 on the device of the host's layer."""
    if not plan.pairs:
        return {}
    peft = require_peft()
    tree = _Tree(dict(plan.pairs))
    trained = [p for p in tree.parameters() if p.requires_grad]
    wrapped = peft.PeftModel(tree, _lora_config(peft, plan), adapter_name=NAME)
    for p in trained:  # PEFT freezes what it wraps, and these are the host's own
        p.requires_grad_(True)
    weights: dict[str, Tensor] = {}
    for name, pair in plan.pairs.items():
        down, up = pair.parts
        weights |= {f"{PREFIX}{name}.{down}": pair.down.float(), f"{PREFIX}{name}.{up}": pair.up.float()}
    outcome = peft.set_peft_model_state_dict(wrapped, weights, adapter_name=NAME)
    layers = {n: m for n, m in wrapped.base_model.model.named_modules() if hasattr(m, "get_delta_weight")}
    lost = [k for k in outcome.missing_keys if "lora_" in k] + list(outcome.unexpected_keys)
    if lost or set(layers) != set(plan.pairs):
        raise AdapterError(f"PEFT {peft.__version__} did not take the adapter's weights: {', '.join(lost[:3])}")
    return layers


def _lora_config(peft: Any, plan: Plan) -> Any:
    s = plan.settings
    return peft.LoraConfig(
        r=s.r,
        lora_alpha=s.alpha,
        use_rslora=s.rslora,
        target_modules=list(plan.pairs),
        rank_pattern={re.escape(n): p.down.shape[0] for n, p in plan.pairs.items() if p.down.shape[0] != s.r},
        alpha_pattern={re.escape(n): p.alpha for n, p in plan.pairs.items() if p.alpha != s.alpha},
    )


def _untie(model: Any, plan: Plan) -> None:
    """Give lm_head a weight of its own where it shares the embedding's and the adapter changes either."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or head.weight is not embedding.weight:
        return
    touched = [p.module for p in plan.pairs.values()]
    shared = {n for n, p in model.named_parameters(remove_duplicate=False) if p is head.weight}
    if not any(m is head or m is embedding for m in touched) and not shared & set(plan.whole):
        return
    head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=False)
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = False
