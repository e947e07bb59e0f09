"""A family of forty lines joins from another package: docs/models.md shows this one."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlavaConfig, LlavaForConditionalGeneration

import weavetime as wt
from published import clip, text
from tiny import frames, look, sharpen, tokenizer
from weavetime.backbones import Backbone, Grid, Strings, registry

DOCS = Path(__file__).parents[2] / "docs" / "models.md"
FILE = {"image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28]}


class Llava(Backbone):
    """LLaVA 1.5: CLIP-L/14-336, projector, 576 tokens a frame; Vicuna."""

    family = "llava"
    host = "LlavaForConditionalGeneration"
    projector = "model.multi_modal_projector"
    # The prompt on llava-hf/llava-1.5-7b-hf's page.
    strings = Strings(
        start="<s>",
        sink="USER: ",
        question="\n{q} ASSISTANT:",
        turn="\n{q} ASSISTANT: {a}</s>USER: ",
        stop=("</s>",),
    )
    closing = ()

    @property
    def vision(self) -> Any:
        """CLIP."""
        return self.model.model.vision_tower

    def grid(self, height: int, width: int, most: float | None = None) -> Grid:
        """The tower's square, cut out of the middle."""
        config = self.model.config.vision_config
        rows = config.image_size // config.patch_size
        return Grid(config.image_size, config.image_size, rows, rows, crop=True)

    def features(self, pixels: Tensor, grid: Grid) -> Tensor:
        """The host's own path for images."""
        return torch.stack(list(self.model.model.get_image_features(self.normalise(pixels)).pooler_output))

    def visual_positions(self, grid: Grid) -> Tensor:
        """One after another."""
        return torch.arange(grid.tokens)[None]


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if a package with this family were installed."""
    entry = EntryPoint("llava", f"{__name__}:Llava", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry] if group == registry.GROUP else [])
    registry._foreign.cache_clear()
    yield
    registry._foreign.cache_clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = LlavaConfig(vision_config=clip(), text_config=text("llama", 1e4), image_token_index=262)
    sharpen(LlavaForConditionalGeneration(config).eval()).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(FILE))
    tokenizer().save_pretrained(tmp_path)
    return tmp_path


def test_the_page_shows_this_family() -> None:
    source = inspect.getsource(Llava)
    assert len(source.splitlines()) <= 40
    assert source in DOCS.read_text()


def test_it_is_unknown_before_it_joins(folder: Path) -> None:
    with pytest.raises(wt.ModelError, match="is a llava model, not one of the supported"):
        wt.load(folder)


@pytest.mark.usefixtures("joined")
def test_it_streams_as_the_untouched_host_reads(folder: Path) -> None:
    seen = frames(4, size=(28, 28))
    stream = wt.load(folder).stream(window=None, batch=3)
    stream.feed(seen)
    mean, std = (torch.tensor(FILE[name]) for name in ("image_mean", "image_std"))
    pictures = torch.stack([(f.pixels / 255 - mean) / std for f in seen]).permute(0, 3, 1, 2)
    ids = tokenizer().encode("<s>USER: " + "<image>" * 16 * 4 + "\nWhat is it? ASSISTANT:", add_special_tokens=False)
    host = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        expected = host(input_ids=torch.tensor([ids]), pixel_values=pictures).logits[0, -1]
    torch.testing.assert_close(look(stream, "What is it?").draft.logits[0], expected, atol=1e-5, rtol=0)
    assert stream.ask("What is it?", history=[("Who?", "Me.")]).tokens
