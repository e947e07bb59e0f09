"""Flash-VStream-Qwen loads as the Qwen2-VL that it is, its memory, which has no weights, left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import weavetime as wt
from tiny import QWEN_IDS, TEXT, look, preprocessor, qwen_config, shared, shown, tokenizer, untouched

# IVGSZ/Flash-VStream@6a82abf, Flash-VStream-Qwen/models: vstream_qwen2vl_model.py and flash_memory_constants.py.
MEMORY = {
    "flash_memory_temporal_length": 120,
    "flash_memory_temporal_method": "kmeans_ordered",
    "flash_memory_temporal_poolsize": 2,
    "flash_memory_temporal_pca_dim": 32,
    "flash_memory_spatial_length": 60,
    "flash_memory_spatial_method": "klarge_retrieve",
}


@pytest.mark.exact
@pytest.mark.parametrize("segments", [True, False])
def test_it_streams_as_qwen2_vl(tmp_path: Path, segments: bool) -> None:
    weights = {}
    for name, tensor in untouched("qwen2_vl").state_dict().items():
        old = name.removeprefix("model.") if name.startswith("model.visual.") else name.replace("language_model.", "")
        weights[old] = tensor.clone()
    assert {name.split(".")[0] for name in weights} == {"visual", "model", "lm_head"}
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    vision = {**qwen_config().vision_config.to_dict(), "flash_memory_config": MEMORY}
    vision["model_type"] = "flash_vstream_qwen2_vl"
    said = {
        "architectures": ["FlashVStreamQwen2VLModel"],
        "model_type": "flash_vstream_qwen2_vl",
        "rope_theta": 1e4,
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
        "vision_config": vision,
        **TEXT,
        **QWEN_IDS,
    }
    (tmp_path / "config.json").write_text(json.dumps(said))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(preprocessor("qwen2_vl")))
    tokenizer().save_pretrained(tmp_path)
    made = wt.load(tmp_path, time_prompts=segments)
    assert made.backbone.family == "qwen2_vl"
    found = []
    for engine in (made, shared("qwen2_vl", segments)):
        stream = engine.stream(window=2)
        stream.feed(shown("qwen2_vl", 5))
        found.append(look(stream, "What is it?", mode=wt.WeaveTime(k=3, delta=0)).draft.logits)
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=0)
