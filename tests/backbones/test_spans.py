"""Towers of Qwen: pictures and windows of one length attend in one call, and see what they saw one by one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from tiny import engine, shown
from weavetime.backbones import spans

pytestmark = pytest.mark.exact
FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


def tower(family: str, implementation: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Features of four pictures, and the shape of the queries of each call of attention."""
    backbone = engine(family, time_prompts=False).backbone
    backbone.vision.config._attn_implementation = implementation
    attend, calls = functional.scaled_dot_product_attention, []

    def counted(q: torch.Tensor, *more: Any, **named: Any) -> torch.Tensor:
        calls.append(tuple(q.shape))
        return attend(q, *more, **named)

    pictures = torch.stack([f.pixels.permute(2, 0, 1) for f in shown(family, 4, size=size)]).float()
    grid = backbone.grid(*size)
    pictures = functional.interpolate(pictures, (grid.height, grid.width))
    monkeypatch.setattr(functional, "scaled_dot_product_attention", counted)
    with torch.inference_mode():
        found = backbone.features(pictures, grid)
    monkeypatch.undo()
    return found, calls


@pytest.mark.parametrize("size", [(24, 40), (40, 56), (56, 24), (64, 104)])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_seen_is_what_is_seen_one_by_one(
    family: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    want, one_by_one = tower(family, "sdpa", size, monkeypatch)
    found, together = tower(family, spans.NAME, size, monkeypatch)
    torch.testing.assert_close(found, want, atol=1e-5, rtol=1e-5)
    assert float(want.std()) > 0.01
    assert len(together) < len(one_by_one)


def test_windows_of_one_length_are_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    _, one_by_one = tower("qwen2_5_vl", "sdpa", (40, 56), monkeypatch)
    _, together = tower("qwen2_5_vl", spans.NAME, (40, 56), monkeypatch)
    lengths = {q[2] for q in one_by_one}
    assert len(lengths) > 2
    layers = len(engine("qwen2_5_vl", time_prompts=False).backbone.vision.blocks)
    assert len(together) <= layers * len(lengths)


def test_towers_use_it() -> None:
    for family in FAMILIES:
        assert engine(family, time_prompts=False).backbone.vision.config._attn_implementation == spans.NAME
