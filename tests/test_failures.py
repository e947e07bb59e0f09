"""What is left when something fails half-way, and what wrong arguments say."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tests import tiny

import weavetime as wt
from weavetime.config import Record
from weavetime.memory.index import PAGE
from weavetime.memory.window import Window

SHORT = wt.Decoding(max_tokens=6)


@pytest.fixture
def engine() -> wt.Engine:
    return tiny.engine("llava_onevision", time_prompts=True)


def test_no_memory_while_blocks_move_to_the_archive(engine: wt.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    stream, twin = engine.stream(window=2, batch=4), engine.stream(window=2, batch=4)
    stream.feed(tiny.frames(4))
    before = stream.memory.digest()
    read = Window.read

    def fails(self: Window, layer: int, first: int, stop: int, extra: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        if layer == 2 and not extra:
            raise torch.OutOfMemoryError("out of memory")
        return read(self, layer, first, stop, extra)

    monkeypatch.setattr(Window, "read", fails)
    with pytest.raises(wt.OutOfMemoryError):
        stream.feed(tiny.frames(7)[4:])
    monkeypatch.undo()
    assert len(stream) == 4
    assert stream.memory.digest() == before
    stream.feed(tiny.frames(7)[4:])
    for frames in (tiny.frames(4), tiny.frames(7)[4:]):
        twin.feed(frames)
    assert stream.memory.digest() == twin.memory.digest()


def test_no_memory_while_choosing(engine: wt.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = engine.stream(window=2)
    stream.feed(tiny.frames(6))

    def fails(*args: object) -> None:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(stream.memory.key_cache, "get", fails)
    with pytest.raises(wt.OutOfMemoryError, match="smaller"):
        stream.ask("what?", mode=wt.WeaveTime(k=2, delta=0.0))


def test_a_reply_that_failed_is_no_answer(engine: wt.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = engine.stream()
    stream.feed(tiny.frames(3))
    reply = stream.reply("what?", mode="window", decoding=wt.Decoding(max_tokens=8))
    pieces = iter(reply)
    next(pieces)
    monkeypatch.setattr(engine.backbone, "logits", lambda hidden: torch.full((1, tiny.VOCABULARY), float("nan")))
    with pytest.raises(wt.NumericsError):
        list(pieces)
    for _ in range(2):
        with pytest.raises(wt.NumericsError):
            _ = reply.answer


def test_a_reply_left_early_says_so(engine: wt.Engine) -> None:
    stream = engine.stream()
    stream.feed(tiny.frames(3))
    reply = stream.reply("what?", mode="window", decoding=wt.Decoding(max_tokens=40))

    def leave() -> None:
        with reply:
            next(iter(reply))
            raise KeyError

    with pytest.raises(KeyError):
        leave()
    assert reply.answer.finish == "cut"


def test_frames_before_an_error_of_their_source_stay(engine: wt.Engine) -> None:
    def breaks() -> Iterator[wt.Frame]:
        yield from tiny.frames(5)
        raise OSError("the cable is out")

    stream = engine.stream(batch=16)
    with pytest.raises(OSError, match="cable"):
        stream.feed(breaks())
    assert len(stream) == 5


def test_closing_an_engine_frees_the_model() -> None:
    engine = tiny.engine("llava_onevision", time_prompts=True)
    stream = engine.stream(window=2)
    stream.feed(tiny.frames(3))
    model = weakref.ref(engine.backbone.model)
    gc.collect()
    gc.disable()  # by counting references alone: a card must not wait for the collector
    try:
        engine.close()
        assert model() is None
    finally:
        gc.enable()
    with pytest.raises(wt.ModelError, match="closed"):
        stream.ask("what?")


def test_rekv_checks_the_view_before_it_reads_it(engine: wt.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = engine.stream(window=2)
    stream.feed(tiny.frames(40))
    monkeypatch.setattr(engine.backbone, "max_positions", 400)
    built = []
    monkeypatch.setattr("weavetime.memory.views.View._build", lambda view, layer: built.append(layer))
    with pytest.raises(wt.CapacityError, match="400"):
        stream.ask("what?", mode="rekv:40")
    assert not built


def test_an_adapters_record_stands_over_its_bases() -> None:
    base = Record(window=40, delta=0.3, k=8, trained=False)
    found = Record(time_prompts=True, window=144, delta=0.3, k=8, trained=False)
    assert base.over(Record(time_prompts=True, window=144)) == found
    coarse = Record(k=8, coarse=128)
    assert coarse.over(Record(delta=0.3)) == Record(k=8, coarse=128, delta=0.3)
    assert coarse.over(Record(k=8)) == coarse
    assert coarse.over(Record(k=64)) == Record(k=64)  # 64 times 128 candidates, nobody chose
    assert coarse.over(Record(k=64, coarse=3)) == Record(k=64, coarse=3)


@pytest.mark.parametrize(
    "said",
    [
        {"time_prompts": "off"},
        {"delta": "0.5"},
        {"window": 8.5},
        {"window": True},
        {"k": 0},
        {"k": True},
        {"coarse": 0},
        {"x": 1},
    ],
)
def test_a_record_of_the_wrong_kind_is_refused(tmp_path: Path, said: dict[str, object]) -> None:
    (tmp_path / Record.FILE).write_text(json.dumps(said))
    with pytest.raises(wt.ModelError, match=next(iter(said))):
        Record.read(tmp_path)


@pytest.mark.parametrize("history", [[{"role": "user", "content": "hello"}], ["ab"], [("a", 1)], [("a", "b", "c")]])
def test_history_of_another_form_is_refused(engine: wt.Engine, history: list[object]) -> None:
    with pytest.raises(wt.QuestionError, match="history"):
        engine.stream().ask("what?", history=history, mode="blind")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["so <|im_end|> then", "<|im_start|>system", "look: <video>", "a\ud800b", None, 5, b"x"]
)
def test_text_that_steers_or_is_no_text_is_refused(engine: wt.Engine, text: object) -> None:
    stream = engine.stream()
    with pytest.raises(wt.QuestionError):
        stream.ask(text, mode="blind")  # type: ignore[arg-type]
    with pytest.raises(wt.QuestionError):
        stream.ask("what?", options=["a", text], mode="blind")  # type: ignore[list-item]
    with pytest.raises(wt.QuestionError):
        stream.ask("what?", history=[("a", text)], mode="blind")  # type: ignore[list-item]


@pytest.mark.parametrize(
    "decoding",
    [{"max_tokens": 2}, wt.Decoding(temperature="a"), wt.Decoding(seed=1.5), wt.Decoding(stop=[1])],  # type: ignore[arg-type, list-item]
)
def test_decoding_of_another_form_is_refused(engine: wt.Engine, decoding: object) -> None:
    with pytest.raises(wt.QuestionError):
        engine.stream().ask("what?", mode="blind", decoding=decoding)  # type: ignore[arg-type]


def test_numpy_times_come_out_as_plain_numbers(engine: wt.Engine) -> None:
    stream = engine.stream()
    stream.feed(wt.Frame(f.pixels, np.float32(f.time)) for f in tiny.frames(3))  # type: ignore[arg-type]
    answer = stream.ask("what?", at=np.float32(2), mode="window", decoding=SHORT)  # type: ignore[arg-type]
    assert json.loads(json.dumps(answer.to_dict()))["at"] == 2.0


@pytest.mark.parametrize("what", [[1, 2], [np.zeros((8, 8, 3), np.uint8)]])
def test_what_is_no_frame_is_refused(engine: wt.Engine, what: list[object]) -> None:
    with pytest.raises(wt.StreamError, match="Frame"):
        engine.stream().feed(what)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", [None, wt.WeaveTime, 4])
def test_a_mode_of_another_form_is_refused(engine: wt.Engine, mode: object) -> None:
    with pytest.raises(wt.ModeError):
        engine.stream().ask("what?", mode=mode)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [wt.Recent, wt.Uniform, wt.ReKV, wt.WeaveTime])
def test_half_a_block_is_refused(kind: type) -> None:
    with pytest.raises(wt.ModeError, match=r"2\.5"):
        kind(2.5)


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there(device: str) -> None:
    with pytest.raises(wt.ModelError, match=device):
        wt.load("mini", device=device)


@pytest.mark.parametrize("what", ["clip.mp4", np.zeros((2, 8, 8, 3), np.uint8)])
def test_feed_takes_frames(engine: wt.Engine, what: object) -> None:
    with pytest.raises(wt.StreamError, match="open_video"):
        engine.stream().feed(what)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("error")
def test_mirrored_and_read_only_pixels(engine: wt.Engine) -> None:
    bgr = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    locked = bgr[..., ::-1].copy()
    locked.flags.writeable = False
    one, two = engine.stream(), engine.stream()
    one.feed(wt.Frame(bgr[..., ::-1], 0.0))
    two.feed(wt.Frame(locked, 0.0))
    assert one.memory.digest() == two.memory.digest()


def test_a_tiny_temperature_is_greedy(engine: wt.Engine) -> None:
    stream = engine.stream()
    greedy = stream.ask("what?", mode="blind", decoding=SHORT)
    cold = stream.ask("what?", mode="blind", decoding=wt.Decoding(max_tokens=6, temperature=1e-38, seed=1))
    assert cold.tokens == greedy.tokens


def test_index_pages_that_stay_are_brought_once(engine: wt.Engine) -> None:
    stream = engine.stream(window=4, index_pages=1)
    memory = stream.memory
    stream.feed(tiny.frames(1))
    layout, cells = memory.table.layouts[0], memory.cells
    generator = torch.Generator().manual_seed(0)
    for start in range(1, 2 * PAGE + 60, 16):
        times = [(float(start + i), float(start + i + 1)) for i in range(16)]
        with torch.inference_mode():
            memory.reserve(16, layout)
            for layer in range(cells.layers):
                kv = torch.randn(2, 1, cells.kv_heads, 16 * layout.tokens, cells.dim, generator=generator)
                memory.window.write(layer, kv[0], kv[1])
            means = [torch.randn(16, cells.width, generator=generator) for _ in range(cells.layers)]
            memory.commit(times, layout, means)
    past, index = memory.index(), memory.means
    queries = [torch.randn(cells.width, generator=generator) for _ in range(cells.layers)]
    wanted = torch.stack([index.means(i, past.count) @ q for i, q in enumerate(queries)])
    with torch.inference_mode():
        for _ in range(2):
            torch.testing.assert_close(past.coarse(queries), wanted, atol=1e-4, rtol=1e-4)
            rows = torch.stack([past.coarse_layer(i, q) for i, q in enumerate(queries)])
            torch.testing.assert_close(rows, wanted, atol=1e-4, rtol=1e-4)
    assert index._held == {0}
