"""What cannot be done stops with an error of the right type, in one line that says what is wrong and what to do."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

import weavetime as wt
from reference import CLOSING, VISUAL, Block, own_steps, positions, step_text
from tiny import each_layout, engine, frames, look, shared, shown, tokenizer

QUESTION = "Where was the cup?"
SHORT = wt.Decoding(max_tokens=2)
NAN, INF = float("nan"), float("inf")


@contextmanager
def refused(kind: type[wt.WeaveTimeError], *words: str) -> Iterator[None]:
    """The block raises exactly this type, with one line that holds these words."""
    with pytest.raises(wt.WeaveTimeError) as found:
        yield
    said = str(found.value)
    assert type(found.value) is kind, f"{type(found.value).__name__}: {said}"
    assert said
    assert "\n" not in said
    for word in words:
        assert word in said, said


def open_stream(family: str = "llava_onevision", *, count: int = 4, **settings: Any) -> wt.Stream:
    stream = shared(family, False).stream(**{"window": 2, **settings})
    if count:
        stream.feed(shown(family, count))
    return stream


def unchanged(stream: wt.Stream, act: Callable[[], Any]) -> None:
    before, count = stream.memory.digest(), len(stream)
    act()
    assert (stream.memory.digest(), len(stream)) == (before, count)


# Questions


@each_layout
def test_no_frame_yet(family: str, segments: bool) -> None:
    stream = shared(family, segments).stream()
    for mode in ("weavetime", "rekv", "window", "recent:2", "uniform:2", "frames:0"):
        with refused(wt.QuestionError, "no frame", "blind"):
            stream.ask(QUESTION, mode=mode)
    with refused(wt.QuestionError, "no frame"):
        shared(family, segments).stream(window=None).ask(QUESTION, mode="full")
    assert stream.ask(QUESTION, mode="blind", decoding=SHORT).evidence.times == ()
    stream.feed([wt.Frame(f.pixels, f.time + 3) for f in shown(family, 2)])
    with refused(wt.QuestionError, "no frame", "2.5"):
        stream.ask(QUESTION, at=2.5)
    assert stream.ask(QUESTION, at=2.5, mode="blind", decoding=SHORT).at == 2.5


@pytest.mark.parametrize("at", [-1.0, -1e-9, NAN, INF, -INF])
def test_a_time_that_is_none(at: float) -> None:
    stream = open_stream()
    with refused(wt.QuestionError, "seconds"):
        stream.ask(QUESTION, at=at)
    stream.close()
    with refused(wt.QuestionError, "seconds"):
        stream.ask(QUESTION, at=at, mode="blind")


def test_a_time_that_has_not_come() -> None:
    stream = open_stream()
    stream.ask(QUESTION, at=4.0, decoding=SHORT)
    for ask in (stream.ask, stream.reply):
        with refused(wt.QuestionError, "4.5", "now", "close()"):
            ask(QUESTION, at=4.5)
    stream.close()
    assert stream.ask(QUESTION, at=4.5, decoding=SHORT).at == 4.5


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_an_empty_question(text: str) -> None:
    with refused(wt.QuestionError, "empty"):
        open_stream().ask(text)


def test_options() -> None:
    stream = open_stream()
    assert stream.ask(QUESTION, options=[str(i) for i in range(26)], decoding=SHORT).choice is not None
    with refused(wt.QuestionError, "26", "27"):
        stream.ask(QUESTION, options=[str(i) for i in range(27)])
    with refused(wt.QuestionError, "list"):
        stream.ask(QUESTION, options="abc")
    with refused(wt.QuestionError, "no question"):
        stream.ask_all([])


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": NAN}, "temperature"),
        ({"temperature": INF}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_p": NAN}, "top_p"),
        ({"stop": ("",)}, "stop"),
        ({"stop": ("a", "")}, "stop"),
    ],
)
def test_decoding_settings(wrong: dict[str, Any], word: str) -> None:
    with refused(wt.QuestionError, word):
        open_stream().ask(QUESTION, decoding=wt.Decoding(**wrong))


# Modes


NAMES = """sliding WEAVETIME window:3 full:2 blind:1 recent:0 recent:-2 recent:x recent:1.5 uniform:0 rekv:0 rekv:many
    weavetime:0 frames: frames frames:a frames:nan frames:inf frames:1,-inf frames:1;2 weavetime) weavetime(k=8
    weavetime:k=x weavetime:k=8.5 weavetime:k=true weavetime:vote=3 weavetime:8,k=3 weavetime:k= weavetime:=3
    weavetime:k=0 weavetime:k=8,k=9 weavetime:**{}= weavetime:k=8)(3 weavetime:k=print() window:a=1
    weavetime(coarse=3)(k=9) weavetime:8)(k=9 weavetime:junk)(k=9 weavetime:coarse=3).x(k=9 weavetime:k=8is
    weavetime:k=8;delta=0 weavetime:k=8#,coarse=3 weavetime:k==8 weavetime:k=8,,coarse=3 weavetime:vote=yes
    weavetime:delta=nan"""


@pytest.mark.parametrize("name", ["", " window", *NAMES.split()])
def test_mode_names(name: str) -> None:
    with refused(wt.ModeError):
        wt.parse_mode(name)
    with refused(wt.ModeError):
        open_stream().ask(QUESTION, mode=name)


def test_an_unknown_mode_is_told_the_known_ones() -> None:
    with refused(wt.ModeError, "sliding", "weavetime", "rekv", "recent:N", "blind"):
        wt.parse_mode("sliding")


def test_a_setting_that_a_mode_has_not_is_told_what_it_has() -> None:
    with refused(wt.ModeError, "mode weavetime has no setting candidates", "k, delta, coarse"):
        wt.parse_mode("weavetime:k=8,candidates=128")
    with refused(wt.ModeError, "'8.5' is no value for k of mode weavetime"):
        wt.parse_mode("weavetime:k=8.5")
    with refused(wt.ModeError, "is no value for k"):
        wt.parse_mode(f"weavetime:k={'-' * 3000}1")


@pytest.mark.parametrize(
    ("mode", "wrong"),
    [
        (wt.WeaveTime, {"k": 0}),
        (wt.WeaveTime, {"coarse": 0}),
        (wt.WeaveTime, {"gate_layers": 0}),
        (wt.WeaveTime, {"chunk": 0}),
        (wt.WeaveTime, {"k": 2, "chunk": 3}),
        (wt.WeaveTime, {"k": 2, "newest": 3}),
        (wt.WeaveTime, {"newest": -1}),
        (wt.WeaveTime, {"delta": -0.1}),
        (wt.WeaveTime, {"delta": NAN}),
        (wt.ReKV, {"k": 0}),
        (wt.Recent, {"n": 0}),
        (wt.Uniform, {"n": 0}),
        (wt.Chosen, {"times": ()}),
        (wt.Chosen, {"times": (1.0, NAN)}),
    ],
)
def test_mode_settings(mode: Any, wrong: dict[str, Any]) -> None:
    with refused(wt.ModeError):
        mode(**wrong)


def test_full_needs_a_stream_that_evicts_nothing() -> None:
    with refused(wt.ModeError, "window=None"):
        open_stream().ask(QUESTION, mode="full")


@pytest.mark.parametrize("mode", ["frames:-1", "frames:0,9", "frames:4.5"])
def test_frames_that_were_not_seen(mode: str) -> None:
    with refused(wt.QuestionError, "frames"):
        open_stream().ask(QUESTION, mode=mode)


# Streams and models


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"window": 0}, "window"),
        ({"window": -3}, "window"),
        ({"fps": 0.0}, "fps"),
        ({"fps": NAN}, "fps"),
        ({"fps": INF}, "fps"),
        ({"batch": 0}, "batch"),
        ({"cache": -1}, "cache"),
        ({"index_pages": -1}, "index_pages"),
        ({"windows": 3}, "window"),
    ],
)
def test_stream_settings(wrong: dict[str, Any], word: str) -> None:
    with refused(wt.StreamError, word):
        shared("llava_onevision", False).stream(**wrong)


def test_an_unknown_model(tmp_path: Any) -> None:
    for name in ("nosuchmodel", str(tmp_path), str(tmp_path / "nothing")):
        with refused(wt.ModelError):
            wt.load(name)


def test_an_engine_that_is_closed() -> None:
    with engine("llava_onevision", time_prompts=False) as made:
        made.stream()
    with refused(wt.ModelError, "closed"):
        made.stream()


# Frames


def picture(**how: Any) -> np.ndarray:
    return np.zeros((35, 35, 3), **{"dtype": np.uint8, **how})


@pytest.mark.parametrize(
    "pixels",
    [
        picture(dtype=np.float32),
        picture(dtype=np.int64),
        torch.zeros(35, 35, 3),
        picture()[:, :, 0],
        picture()[:, :, :1],
        picture().transpose(2, 0, 1),
        np.zeros((35, 35, 4), np.uint8),
        np.zeros((0, 35, 3), np.uint8),
        np.zeros((2, 35, 35, 3), np.uint8),
        [[1, 2, 3]],
        None,
    ],
)
def test_pixels_that_are_none(pixels: Any) -> None:
    stream = open_stream()

    def feed() -> None:
        with refused(wt.VideoError, "uint8 (height, width, 3)", "9"):
            stream.feed([wt.Frame(picture(), 8.0), wt.Frame(pixels, 9.0)])

    unchanged(stream, feed)


def test_a_wrong_dtype_is_named() -> None:
    with refused(wt.VideoError, "float32"):
        open_stream().feed(wt.Frame(picture(dtype=np.float32), 9.0))


def test_a_frame_too_narrow_for_qwen2_vl() -> None:
    stream = shared("qwen2_vl", False).stream()
    with refused(wt.VideoError, "narrow"):
        stream.feed(wt.Frame(np.zeros((2, 900, 3), np.uint8), 0.0))
    assert stream.feed(shown("qwen2_vl", 1)) == 1, "the first frame that was kept fixes the size"
    assert stream._grid == stream.runner.backbone.grid(24, 40)


@pytest.mark.parametrize("times", [(3.0,), (2.0,), (5.0, 5.0), (6.0, 5.5), (-1.0,), (NAN,), (INF,), (5.0, NAN)])
def test_times_out_of_order(times: tuple[float, ...]) -> None:
    stream = open_stream()
    unchanged(stream, lambda: _refuse_frames(stream, [wt.Frame(picture(), t) for t in times]))


@pytest.mark.parametrize("until", [5.0, 4.0, NAN, INF, -INF])
def test_an_end_that_is_none(until: float) -> None:
    stream = open_stream()
    unchanged(stream, lambda: _refuse_frames(stream, [wt.Frame(picture(), 5.0, until)]))


def _refuse_frames(stream: wt.Stream, wrong: list[wt.Frame]) -> None:
    with refused(wt.StreamError):
        stream.feed(wrong)


def test_the_first_times_out_of_order() -> None:
    stream = open_stream(count=0)
    with refused(wt.StreamError, "seconds"):
        stream.feed(wt.Frame(picture(), -0.5))
    assert (len(stream), stream.now) == (0, 0.0)
    assert stream.feed(wt.Frame(picture(), 0.0)) == 1


def test_frames_after_the_close() -> None:
    stream = open_stream()
    stream.close()
    stream.close()

    def feed() -> None:
        with refused(wt.StreamError, "closed"):
            stream.feed(wt.Frame(picture(), 9.0))

    unchanged(stream, feed)
    assert stream.ask(QUESTION, decoding=SHORT).tokens


# Larger than the model


LONG_SINK = {"flash_vstream": 110}  # positions more: what opens its views is a long text


def limited(family: str, segments: bool, positions: int) -> wt.Engine:
    made = engine(family, time_prompts=segments)
    made.backbone.max_positions = positions
    return made


@each_layout
@pytest.mark.parametrize("most", [200, 260, 333])
def test_a_window_too_large_is_told_the_largest(family: str, segments: bool, most: int) -> None:
    most += LONG_SINK.get(family, 0)
    made = limited(family, segments, most)
    with refused(wt.CapacityError, str(most)):
        made.stream(window=5000).feed(shown(family, 1, start=100.0))
    with pytest.raises(wt.CapacityError) as found:
        made.stream(window=5000).feed(shown(family, 1, start=100.0))
    [fits] = map(int, re.findall(r"at most (\d+)", str(found.value)))
    rows, columns = VISUAL[family]
    before = len(tokenizer().encode(step_text(family, segments, 100, 101), add_special_tokens=False))
    block = Block(before, rows, columns, len(CLOSING[family]) * own_steps(family, segments), torch.empty(0))
    sink = len(made.backbone.sink[0])
    rule = "qwen2_vl" if family == "qwen2_5_vl" else family  # gaps in time are shortened, at most to one position
    largest = [max(map(max, positions(rule, segments, sink, [block] * (n + 1))[0][-1])) for n in (fits, fits + 1)]
    assert largest[0] <= most - 1 < largest[1]
    stream, many = made.stream(window=fits, batch=64), shown(family, fits + 2, start=100.0)
    assert stream.feed(many) == len(many)
    with refused(wt.CapacityError, f"at most {fits}"):
        made.stream(window=fits + 1).feed(shown(family, 1, start=100.0))


@each_layout
def test_a_stream_that_never_evicts_ends_where_the_model_does(family: str, segments: bool) -> None:
    made = limited(family, segments, 260)
    stream, small = made.stream(window=None, batch=1), shown(family, 1)[0].pixels
    with pytest.raises(wt.CapacityError) as found:
        stream.feed(wt.Frame(small, float(i)) for i in range(400))
    [fits] = map(int, re.findall(r"at most (\d+)", str(found.value)))
    assert len(stream) == fits
    before = stream.memory.digest()
    with refused(wt.CapacityError):
        stream.feed(wt.Frame(small, 500.0))
    assert stream.memory.digest() == before


@each_layout
def test_a_view_too_large_for_the_model(family: str, segments: bool) -> None:
    made, most = limited(family, segments, 600), 150 + LONG_SINK.get(family, 0)
    stream = made.stream(window=2, batch=8)
    stream.feed(shown(family, 60))
    made.backbone.max_positions = most
    expected = look(stream, "Why?", mode="recent:1").draft
    free = most - expected.view.end
    words = free - expected.lengths[0] - 1
    long = "Why?" + "x" * words
    found = stream.ask(long, mode="recent:1", decoding=wt.Decoding(max_tokens=9))
    assert len(found.tokens) <= 1, "one position is left"

    def ask() -> None:
        with refused(wt.CapacityError, str(most), "at most 0 blocks", "fewer blocks"):
            stream.ask(long + "xx", mode="recent:1")
        with refused(wt.CapacityError, str(most)):
            stream.ask("y" * 500, mode=wt.WeaveTime(k=50, delta=0))
        with refused(wt.CapacityError, str(most)):
            stream.ask("y" * 500, mode=wt.ReKV(k=50))
        with refused(wt.CapacityError, str(most)):
            stream.ask("y" * 500, mode="blind")

    unchanged(stream, ask)
    assert stream.ask("Why?", mode="recent:1", decoding=SHORT).evidence.times == (59.0,)


@each_layout
@pytest.mark.parametrize("mode", ["recent:50", wt.ReKV(k=50)], ids=str)
def test_a_view_too_large_is_told_how_many_blocks_fit(family: str, segments: bool, mode: Any) -> None:
    made = limited(family, segments, 600)
    stream = made.stream(window=2, batch=8)
    stream.feed(shown(family, 60))
    made.backbone.max_positions = 160 + LONG_SINK.get(family, 0)
    if family.startswith("qwen") and not own_steps(family, segments):
        return  # a video whose blocks stand on one another: fifty fit
    with pytest.raises(wt.CapacityError) as found:
        stream.ask("Why?", mode=mode)
    [fits] = map(int, re.findall(r"at most (\d+) blocks fit", str(found.value)))
    assert 1 <= fits < 50
    assert stream.ask("Why?", mode=f"recent:{fits}", decoding=SHORT).evidence.times[-1] > 58
    with refused(wt.CapacityError, f"at most {fits} blocks"):
        stream.ask("Why?", mode=f"recent:{fits + 1}")


# Numbers and memory that run out


@each_layout
def test_logits_that_are_not_finite(family: str, segments: bool) -> None:
    made = engine(family, time_prompts=segments)
    stream = made.stream(window=2)
    stream.feed(shown(family, 4))
    kept = made.backbone.model.lm_head.weight.clone()
    made.backbone.model.lm_head.weight[3].fill_(INF)

    def ask() -> None:
        for mode in ("weavetime", "window", "rekv", "blind"):
            with refused(wt.NumericsError, "finite", "dtype"):
                stream.ask(QUESTION, mode=mode)

    unchanged(stream, ask)
    made.backbone.model.lm_head.weight.copy_(kept)
    assert stream.ask(QUESTION, decoding=SHORT).at == 4.0


@each_layout
@pytest.mark.parametrize("where", ["layer", "vision"])
def test_weights_that_are_not_finite(family: str, segments: bool, where: str) -> None:
    made = engine(family, time_prompts=segments)
    stream = made.stream(window=2)
    part = made.backbone.decoder.layers[0].mlp.up_proj if where == "layer" else made.backbone.vision
    weights = [p for p in part.parameters() if p.dim() > 1][:1]
    kept = [p.clone() for p in weights]
    for p in weights:
        p.fill_(NAN)

    def feed() -> None:
        with refused(wt.NumericsError, "finite", "nothing was kept"):
            stream.feed(shown(family, 3))

    unchanged(stream, feed)
    for p, k in zip(weights, kept, strict=True):
        p.copy_(k)
    stream.feed(frames(3, size=(16, 48), seed=2))
    expected = shared(family, segments).stream(window=2)
    expected.feed(frames(3, size=(16, 48), seed=2))
    assert stream.memory.digest() == expected.memory.digest()


@each_layout
@pytest.mark.parametrize("error", ["device", "host"])
def test_out_of_memory(family: str, segments: bool, error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated in the vision tower, in the layers and in the head: a typed error, and the stream goes on."""
    made = engine(family, time_prompts=segments)
    stream = made.stream(window=2, batch=4)
    stream.feed(shown(family, 4))
    gone: list[Exception] = [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory"),
    ]

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise gone[error == "host"]

    backbone = made.backbone
    for module in (backbone.vision, backbone.decoder.layers[2].mlp, backbone.decoder.layers[1].self_attn.k_proj):
        with monkeypatch.context() as patch:
            patch.setattr(module, "forward", fail)

            def feed() -> None:
                with refused(wt.OutOfMemoryError, "memory"):
                    stream.feed(shown(family, 4, seed=1, start=4.0))

            unchanged(stream, feed)
    for module in (backbone.decoder.layers[2].mlp, backbone.model.lm_head):
        with monkeypatch.context() as patch:
            patch.setattr(module, "forward", fail)
            for mode in ("weavetime", wt.WeaveTime(k=3, delta=0), "rekv", "blind"):
                with refused(wt.OutOfMemoryError, "memory"):
                    stream.ask(QUESTION, mode=mode)
    with stream.reply(QUESTION, decoding=wt.Decoding(max_tokens=20)) as reply, monkeypatch.context() as patch:
        patch.setattr(backbone.decoder.layers[0].mlp, "forward", fail)
        with refused(wt.OutOfMemoryError, "memory"):
            list(reply)
    expected = shared(family, segments).stream(window=2, batch=4)
    expected.feed(shown(family, 4))
    for s in (stream, expected):
        s.feed(shown(family, 4, seed=2, start=4.0))
    assert stream.memory.digest() == expected.memory.digest()
    answers = [s.ask(QUESTION, mode=wt.WeaveTime(k=3, delta=0), decoding=SHORT) for s in (stream, expected)]
    assert answers[0].tokens == answers[1].tokens
    assert answers[0].evidence == answers[1].evidence


def test_other_errors_are_not_taken_for_these(monkeypatch: pytest.MonkeyPatch) -> None:
    made = engine("llava_onevision", time_prompts=False)
    stream = made.stream()
    rotary = made.backbone.decoder.rotary_emb

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(made.backbone.decoder.layers[0].mlp, "forward", fail)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        stream.feed(shown("llava_onevision", 1))
    assert made.backbone.decoder.rotary_emb is rotary
    assert len(stream) == 0


def test_every_error_is_one_of_ours() -> None:
    kinds = [getattr(wt, name) for name in wt.__all__ if name.endswith("Error")]
    assert len(kinds) == 10
    assert all(issubclass(kind, wt.WeaveTimeError) for kind in kinds)
    assert math.isnan(NAN)
