"""Towers of Qwen: pictures and windows of one length attend in one call, and see what they saw one by one."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch.nn import functional

from tiny import engine, shown
from weavetime.backbones import spans

pytestmark = pytest.mark.exact
FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


def tower(family: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch, *, apart: bool = False) -> Any:
    """Features of four pictures, and the shape of the queries of each call of attention. apart: as the host does it."""
    backbone = engine(family, time_prompts=False).backbone
    if apart:
        monkeypatch.setattr(spans, "together", nullcontext)
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
    want, one_by_one = tower(family, size, monkeypatch, apart=True)
    found, together = tower(family, size, monkeypatch)
    torch.testing.assert_close(found, want, atol=1e-5, rtol=1e-5)
    assert float(want.std()) > 0.01
    assert len(together) < len(one_by_one)


def test_windows_of_one_length_are_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    _, one_by_one = tower("qwen2_5_vl", (40, 56), monkeypatch, apart=True)
    _, together = tower("qwen2_5_vl", (40, 56), monkeypatch)
    lengths = {q[2] for q in one_by_one}
    assert len(lengths) > 2
    layers = len(engine("qwen2_5_vl", time_prompts=False).backbone.vision.blocks)
    assert len(together) <= layers * len(lengths)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tower_is_left_as_it_was(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = engine(family, time_prompts=False).backbone
    config, inside = backbone.vision.config, []
    before = config._attn_implementation
    backbone.vision.blocks[0].register_forward_hook(lambda *_: inside.append(config._attn_implementation))
    picture = torch.zeros(1, 3, 40, 56)
    with spans.together(config):
        backbone.features(picture, backbone.grid(40, 56))
        assert config._attn_implementation == spans.NAME  # another is still inside
    assert inside == [spans.NAME]
    assert config._attn_implementation == before
    type(backbone.model)(copy.deepcopy(backbone.model.config))
