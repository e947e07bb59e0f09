"""What an adapter's weights are for: each key read, given its place in the host model, and checked. Touches nothing."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import AdapterError
from .registry import families

PREFIX = "base_model.model."
PART = re.compile(r"(?P<module>.+)\.(?P<part>lora_A\.weight|lora_B\.weight|lora_embedding_A|lora_embedding_B)")
WRAPPED = re.compile(r"\.(base_layer|modules_to_save)(?=\.)")
PARTS = {nn.Linear: ("lora_A.weight", "lora_B.weight"), nn.Embedding: ("lora_embedding_A", "lora_embedding_B")}


@dataclass(frozen=True)
class LoraSettings:
    """What the mathematics needs of adapter_config.json. Patterns match the names that the adapter was made with.

    targets: endings of the names of the modules that have a pair, where the config lists them all.
    """

    r: int
    alpha: float
    rslora: bool = False
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    targets: tuple[str, ...] = ()

    def rank(self, name: str) -> int:
        """The rank of the module of that name."""
        return int(_by_pattern(self.rank_pattern, name, self.r))

    def scale(self, name: str) -> float:
        """alpha of the module of that name."""
        return _by_pattern(self.alpha_pattern, name, self.alpha)


def _by_pattern(patterns: Mapping[str, float], name: str, default: float) -> float:
    return next((v for p, v in patterns.items() if re.match(rf"(.*\.)?({p})$", name)), default)


@dataclass(frozen=True)
class Pair:
    """The two factors for one module, down (r, in) and up (out, r), and their alpha."""

    module: nn.Linear | nn.Embedding
    down: Tensor
    up: Tensor
    alpha: float

    @property
    def parts(self) -> tuple[str, str]:
        """The names PEFT gives the two factors."""
        return PARTS[nn.Linear if isinstance(self.module, nn.Linear) else nn.Embedding]


@dataclass(frozen=True)
class Plan:
    """All that an adapter changes: low-rank pairs by module name, and whole weights by parameter name."""

    settings: LoraSettings
    pairs: Mapping[str, Pair]
    whole: Mapping[str, Tensor]


def place(model: Any, weights: Mapping[str, Tensor], settings: LoraSettings, family: str) -> Plan:
    """Give every weight of an adapter its place in `model`.

    Raises AdapterError: a key without a place, two for one place, half a pair, another shape, a value not finite.
    """
    rules = families()[family].older_layout
    modules = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Embedding)}
    parameters = dict(model.named_parameters(remove_duplicate=False))
    halves: dict[str, dict[str, Tensor]] = {}
    whole: dict[str, Tensor] = {}
    names: dict[str, str] = {}
    homeless = []
    for key, tensor in weights.items():
        name, part = _split(key)
        found = _find(name, modules.keys() if part else parameters.keys(), rules)
        if found is None:
            homeless.append(key)
            continue
        into, slot = (halves.setdefault(found, {}), part) if part else (whole, found)
        if slot in into:
            raise AdapterError(f"two of the adapter's keys mean {found}, one of them {key}")
        into[slot] = tensor
        names[found] = name
    if homeless:
        raise AdapterError(
            f"{len(homeless)} of the adapter's {len(weights)} keys find no place in this {family} model, the first: "
            f"{', '.join(homeless[:3])}; it was made for another family or has a part that is not supported"
        )
    pairs = {n: _pair(n, modules[n], two, names[n], settings) for n, two in halves.items()}
    _check_shapes((n, t, parameters[n].shape) for n, t in whole.items())
    _check_complete(pairs, modules, settings.targets)
    _check_finite(weights)
    _check_loaded({n: p.module.weight for n, p in pairs.items()} | {n: parameters[n] for n in whole})
    return Plan(settings, pairs, whole)


def _split(key: str) -> tuple[str, str]:
    """A key's module and part; for a whole weight the parameter, and no part. A key without the prefix has no name."""
    if not key.startswith(PREFIX):
        return "", ""
    name = key.removeprefix(PREFIX)
    match = PART.fullmatch(name)
    return (match["module"], match["part"]) if match else (WRAPPED.sub("", name), "")


def _find(name: str, known: Container[str], rules: Iterable[tuple[str, str]]) -> str | None:
    if name in known:
        return name
    renamed = (new + name.removeprefix(old) for old, new in rules if name.startswith(old))
    return next((n for n in renamed if n in known), None)


def _pair(
    name: str, module: nn.Linear | nn.Embedding, two: Mapping[str, Tensor], written: str, settings: LoraSettings
) -> Pair:
    embedding = isinstance(module, nn.Embedding)
    down, up = PARTS[nn.Embedding if embedding else nn.Linear]
    if set(two) != {down, up}:
        raise AdapterError(f"{name} needs {down} and {up}, the adapter has {', '.join(sorted(two))}")
    rank, (rows, columns) = settings.rank(written), module.weight.shape
    into, out = (rows, columns) if embedding else (columns, rows)
    shapes = ((f"{name}.{down}", two[down], (rank, into)), (f"{name}.{up}", two[up], (out, rank)))
    _check_shapes(shapes)
    return Pair(module, two[down], two[up], settings.scale(written))


def _check_shapes(entries: Iterable[tuple[str, Tensor, tuple[int, ...]]]) -> None:
    wrong = [f"{n} is {tuple(t.shape)}, not {tuple(s)}" for n, t, s in entries if tuple(t.shape) != tuple(s)]
    if wrong:
        raise AdapterError(
            f"{len(wrong)} shapes of the adapter do not fit, the first: {wrong[0]}; use its own base model"
        )


def _check_complete(pairs: Container[str], modules: Iterable[str], targets: tuple[str, ...]) -> None:
    """In the language model every listed target must have its pair: half a file must not load as the whole."""
    endings = tuple(f".{t}" for t in targets)
    decoder = (n for n in modules if n.startswith("model.language_model.") or n == "lm_head")
    listed = (n for n in decoder if f".{n}".endswith(endings))
    lacking = [n for n in listed if n not in pairs]
    if lacking:
        raise AdapterError(
            f"{len(lacking)} modules that the adapter's config lists have no weights, the first: {lacking[0]}"
        )


def _check_finite(weights: Mapping[str, Tensor]) -> None:
    for key, tensor in weights.items():
        if not tensor.is_floating_point():
            raise AdapterError(f"the adapter's {key} is {tensor.dtype}, not a floating point type")
        if not torch.isfinite(tensor).all():
            raise AdapterError(f"the adapter's {key} holds values that are not finite: its training went wrong")


def _check_loaded(targets: Mapping[str, Tensor]) -> None:
    for name, weight in targets.items():
        if weight.is_meta:
            raise AdapterError(f"{name} is offloaded, and cannot be merged into: load the model onto devices only")
        if not weight.is_floating_point():
            raise AdapterError(f"{name} is quantised ({weight.dtype}), and cannot be merged into: load a plain dtype")
