"""The whole path on a CUDA card: the same answers as on the CPU, a graph as eager, memory where it belongs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from tests import tiny

import weavetime as wt

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card"),
]
MODES = ("window", "weavetime", "rekv:3", "uniform:5", "frames:1,7", "blind")
LAYOUTS = [(family, prompts) for family in tiny.FAMILY_NAMES for prompts in (True, False)]


def answers(engine: wt.Engine, decoding: wt.Decoding) -> list[wt.Answer]:
    # Scored by visual tokens: time prompts are so alike that blocks tie within rounding.
    stream = engine.stream(window=3, batch=4, visual_only=True)
    stream.feed(tiny.frames(13))
    modes = [wt.WeaveTime(k=4, delta=0.0) if m == "weavetime" else m for m in MODES]
    return [stream.ask("what was it?", options=["x", "y"], mode=m, decoding=decoding) for m in modes]


@pytest.mark.parametrize(("family", "time_prompts"), LAYOUTS)
def test_cuda_equals_cpu(family: str, time_prompts: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    decoding = wt.Decoding(max_tokens=16)
    here = answers(tiny.engine(family, time_prompts=time_prompts), decoding)
    there = answers(tiny.engine(family, time_prompts=time_prompts, model=tiny.host(family).cuda()), decoding)
    for a, b in zip(here, there, strict=True):
        assert a.evidence.blocks == b.evidence.blocks, a.mode
        assert a.logits == pytest.approx(b.logits, abs=2e-4), a.mode
        assert a.tokens == b.tokens, a.mode


@pytest.mark.parametrize("family", tiny.FAMILY_NAMES)
def test_graph_equals_eager(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = tiny.engine(family, time_prompts=True, model=tiny.host(family).cuda())
    decoding = wt.Decoding(max_tokens=24)
    graph = answers(engine, decoding)
    assert engine.runner._slots.nbytes > 0
    monkeypatch.setattr(engine.runner._slots, "borrow", lambda draft, backbone: None)
    eager = answers(engine, decoding)
    assert [a.tokens for a in graph] == [a.tokens for a in eager]


def test_two_replies_at_once_do_not_share_a_slot() -> None:
    engine = tiny.engine("llava_onevision", time_prompts=True, model=tiny.host("llava_onevision").cuda())
    stream = engine.stream(window=3)
    stream.feed(tiny.frames(6))
    decoding = wt.Decoding(max_tokens=12)
    alone = [stream.ask(q, decoding=decoding, mode="window").tokens for q in ("what?", "when was it?")]
    one, two = (stream.reply(q, decoding=decoding, mode="window") for q in ("what?", "when was it?"))
    for _ in zip(one, two, strict=False):
        pass
    assert [one.answer.tokens, two.answer.tokens] == alone


def test_each_layers_memory_is_on_its_layers_device() -> None:
    decoding = wt.Decoding(max_tokens=8)
    here = answers(tiny.engine("llava_onevision", time_prompts=True), decoding)
    model = tiny.host("llava_onevision").cuda()
    layers = model.model.language_model.layers
    for layer in layers[1:]:
        layer.cpu()
        add_hook_to_module(layer, AlignDevicesHook(execution_device="cpu", io_same_device=True), append=True)
    engine = tiny.engine("llava_onevision", time_prompts=True, model=model)
    assert [d.type for d in engine.runner.cells.devices] == ["cuda", "cpu", "cpu"]
    there = answers(engine, decoding)
    assert [a.tokens for a in there] == [a.tokens for a in here]


def test_device_bytes_do_not_grow_with_the_stream() -> None:
    engine = tiny.engine("llava_onevision", time_prompts=True, model=tiny.host("llava_onevision").cuda())
    stream = engine.stream(window=4, cache=8, index_pages=1)
    mode = wt.WeaveTime(k=2, delta=0.0)
    sizes = []
    for start in range(0, 3000, 500):
        stream.feed(tiny.frames(500, start=float(start)))
        stream.ask("what?", mode=mode, decoding=wt.Decoding(max_tokens=2))
        torch.cuda.synchronize()
        sizes.append(torch.cuda.memory_allocated())
    assert max(sizes[1:]) <= sizes[1] * 1.02, sizes


def test_archive_equals_what_was_computed() -> None:
    engine = tiny.engine("llava_onevision", time_prompts=True, model=tiny.host("llava_onevision").cuda())
    wide, narrow = engine.stream(window=None), engine.stream(window=16, batch=5)
    for stream in (wide, narrow):
        stream.feed(tiny.frames(17))
    memory = narrow.memory
    assert memory.archive.stop == 1
    for layer in range(memory.cells.layers):
        for a, b in zip(memory.read(layer, range(17)), wide.memory.read(layer, range(17)), strict=True):
            assert a.is_cuda
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_a_device_map_with_half_the_layers_offloaded(tmp_path: Path) -> None:
    decoding = wt.Decoding(max_tokens=8)
    here = answers(tiny.engine("llava_onevision", time_prompts=True), decoding)
    tiny.host("llava_onevision").save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(tiny.SIGLIP))
    places = {"model.vision_tower": 0, "model.multi_modal_projector": 0, "model.image_newline": 0, "lm_head": "cpu"}
    decoder = "model.language_model."
    places |= {decoder + "embed_tokens": 0, decoder + "norm": 0, decoder + "rotary_emb": 0, decoder + "layers.0": 0}
    places |= {decoder + "layers.1": "cpu", decoder + "layers.2": "cpu"}
    engine = wt.load(tmp_path, device_map=places, dtype=torch.float32, time_prompts=True)
    assert [a.tokens for a in answers(engine, decoding)] == [a.tokens for a in here]
