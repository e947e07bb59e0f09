"""Streams as a user meets them: questions in any order, together and from many threads; text as it is written."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch

import weavetime as wt
from tiny import each_layout, engine, host, look, shared, shown, tokenizer, unstopped
from weavetime.backbones import attached

exact = pytest.mark.exact
QUESTION = "Where was the cup?"
ALWAYS = wt.WeaveTime(k=3, delta=0)
SHORT = wt.Decoding(max_tokens=8)
TEXTS = ("Why?", "What is on the table now, and what was there before it?", "Where was the cup?", "Who came in first?")
QUESTIONS = [wt.Question(t, ("a", "b") if i % 2 else ()) for i, t in enumerate(TEXTS)]


def content(answer: wt.Answer) -> wt.Answer:
    """All of an answer but its timings."""
    return replace(answer, timings={})


def alike(a: wt.Answer, b: wt.Answer) -> None:
    """Equal, numbers within fp32 noise."""
    assert (a.tokens, a.text, a.choice, a.recalled, a.at, a.mode, a.finish) == (
        b.tokens,
        b.text,
        b.choice,
        b.recalled,
        b.at,
        b.mode,
        b.finish,
    )
    assert (a.evidence.blocks, a.evidence.times) == (b.evidence.blocks, b.evidence.times)
    assert a.gate == pytest.approx(b.gate, abs=1e-5)
    assert a.logits == pytest.approx(b.logits, abs=1e-5)


@cache
def streamed(family: str, segments: bool) -> wt.Stream:
    stream = shared(family, segments).stream(window=3, batch=4)
    stream.feed(shown(family, 10))
    return stream


# Order, batches, threads


@exact
@each_layout
def test_order_of_questions_changes_no_answer(family: str, segments: bool) -> None:
    stream = shared(family, segments).stream(window=3, batch=4, cache=5)
    stream.feed(shown(family, 10))
    asked = [(text, at, mode) for text in TEXTS[:2] for at in (9.0, 5.0) for mode in (ALWAYS, wt.ReKV(k=3), "window")]

    def ask(order: list[Any]) -> dict[Any, wt.Answer]:
        return {a: content(stream.ask(a[0], at=a[1], mode=a[2], decoding=SHORT)) for a in order}

    assert ask(asked) == ask(asked[::-1]) == ask([*asked[5:], *asked[:5]])


@exact
@each_layout
def test_a_batch_is_one_by_one(family: str, segments: bool) -> None:
    stream = streamed(family, segments)
    sure = wt.WeaveTime(k=3, delta=2)
    gates = [stream.ask(q.text, options=q.options, decoding=SHORT, mode=sure).gate for q in QUESTIONS]
    middle = sum(sorted(gates)[1:3]) / 2
    mixed = wt.WeaveTime(k=3, delta=middle)
    for mode in (mixed, ALWAYS, sure, wt.ReKV(k=3), "window", "uniform:4", "blind"):
        together = stream.ask_all(QUESTIONS, mode=mode, decoding=SHORT, at=9.5)
        alone = [stream.ask(q.text, options=q.options, mode=mode, decoding=SHORT, at=9.5) for q in QUESTIONS]
        for a, b in zip(together, alone, strict=True):
            alike(a, b)
        if mode is mixed:
            assert sorted(a.recalled for a in together) == [False, False, True, True]


@exact
@each_layout
def test_prefill_and_decode_of_a_batch_equal_one_row(family: str, segments: bool) -> None:
    """Past the stop tokens, and in logits: padding is never looked at."""
    stream = streamed(family, segments)
    [rows] = stream._look(QUESTIONS, None, "window", wt.Decoding(max_tokens=20))
    said = list(rows.runner.decode(rows.draft, rows.asked.decoding))
    for i, q in enumerate(QUESTIONS):
        one = look(stream, q.text, options=q.options, mode="window", max_tokens=20)
        torch.testing.assert_close(rows.draft.logits[i], one.draft.logits[0], atol=1e-5, rtol=0)
        assert [ids[i] for ids in said] == unstopped(one)
        for a, b in zip(rows.draft.queries_of(i), one.draft.queries_of(0), strict=True):
            assert a.shape == b.shape
            torch.testing.assert_close(a, b, atol=1e-4, rtol=0)


@exact
@pytest.mark.parametrize(("family", "segments"), [("llava_onevision", True), ("qwen2_vl", False)])
def test_sixteen_threads_ask_while_frames_go_in(family: str, segments: bool) -> None:
    made = engine(family, time_prompts=segments)
    frames = shown(family, 24)
    serial = made.stream(window=3, batch=2, cache=4)
    serial.feed(frames)
    stream = made.stream(window=3, batch=2, cache=4)
    stream.feed(frames[:6])
    jobs = [(TEXTS[i % 4], float(i % 5), (ALWAYS, "weavetime", wt.ReKV(k=2), "window")[i // 4]) for i in range(16)]
    start = threading.Barrier(17)
    errors: list[BaseException] = []
    found: dict[int, list[wt.Answer]] = {}

    def ask(i: int) -> None:
        text, at, mode = jobs[i]
        try:
            start.wait()
            answers = [stream.ask(text, at=at, mode=mode, decoding=SHORT)]
            with stream.reply(text, at=at, mode=mode, decoding=SHORT) as reply:
                "".join(reply)
            found[i] = [*answers, reply.answer]
        except BaseException as e:  # noqa: BLE001  # shown below, in the thread that tests
            errors.append(e)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(16)]
    for t in threads:
        t.start()
    start.wait()
    for frame in frames[6:]:
        stream.feed(frame)
    for t in threads:
        t.join()
    assert not errors
    for i, (text, at, mode) in enumerate(jobs):
        expected = serial.ask(text, at=at, mode=mode, decoding=SHORT)
        for answer in found[i]:
            alike(answer, expected)
    one_by_one = made.stream(window=3, batch=1)
    one_by_one.feed(frames)
    assert len(stream) == 24
    for layer in range(3):
        for block in range(24):
            for a, b in zip(stream.memory.read(layer, [block]), one_by_one.memory.read(layer, [block]), strict=True):
                torch.testing.assert_close(a, b, atol=1e-4, rtol=0)


@exact
@each_layout
def test_two_streams_of_one_engine_do_not_mix(family: str, segments: bool) -> None:
    made = shared(family, segments)
    sizes = [made.backbone.grid(35, 35), made.backbone.grid(24, 40)]
    assert sizes[0] is not sizes[1]
    shows = [shown(family, 8), shown(family, 8, seed=1, start=3.0)]
    alone = []
    for show in shows:
        stream = made.stream(window=3, batch=1)
        stream.feed(show)
        alone.append(content(stream.ask(QUESTION, mode=ALWAYS, decoding=SHORT)))
    streams = [made.stream(window=3, batch=1) for _ in shows]
    for a, b in zip(*shows, strict=True):
        streams[0].feed(a)
        streams[1].feed(b)
        for s in streams:
            s.ask(QUESTION, mode=wt.WeaveTime(k=2, delta=0), decoding=wt.Decoding(max_tokens=1))
    assert [content(s.ask(QUESTION, mode=ALWAYS, decoding=SHORT)) for s in streams] == alone


@exact
@pytest.mark.parametrize("family", ["llava_onevision", "qwen2_vl"])
def test_the_host_is_as_it_was_after_all_have_left(family: str) -> None:
    model = host(family)
    made = engine(family, time_prompts=True, model=model)
    decoder = model.model.language_model
    before = decoder.rotary_emb, decoder.config._attn_implementation, type(decoder).forward
    ids = torch.tensor([tokenizer().encode("Nothing to see here.", add_special_tokens=False)])
    logits = model(input_ids=ids).logits
    stream = made.stream(window=2)
    stream.feed(shown(family, 4))
    inside, leave = threading.Barrier(9, timeout=30), threading.Event()

    def hold() -> None:
        with attached(decoder, 16):
            inside.wait()
            leave.wait()

    with ThreadPoolExecutor(8) as pool:
        held = [pool.submit(hold) for _ in range(8)]
        try:
            inside.wait()
            assert decoder.rotary_emb is not before[0]
            stream.ask(QUESTION, decoding=SHORT)  # comes and goes while others are inside
            assert decoder.rotary_emb is not before[0]
        finally:
            leave.set()
        for h in held:
            h.result()
    with pytest.raises(ZeroDivisionError), attached(decoder, 16):
        _ = 1 / 0
    assert (decoder.rotary_emb, decoder.config._attn_implementation, type(decoder).forward) == before
    assert torch.equal(model(input_ids=ids).logits, logits)
    with attached(decoder, 16), pytest.raises(RuntimeError, match="memory="):
        decoder(input_ids=ids, use_cache=False)


# Frames


def test_feeding_counts_and_times() -> None:
    stream = shared("llava_onevision", False).stream(window=2, fps=2.0, batch=2)
    assert (len(stream), stream.now) == (0, 0.0)
    moments = (0.5, 1.0, 1.6, 2.0, 7.0)
    frames = [wt.Frame(f.pixels, t) for f, t in zip(shown("llava_onevision", 5), moments, strict=True)]
    assert stream.feed(iter(frames[:3])) == 3
    assert stream.now == 2.1
    assert stream.feed(frames[3]) == 1
    assert stream.now == 2.5
    assert stream.feed([replace(frames[4], until=9.0)]) == 1
    assert (len(stream), stream.now) == (5, 9.0)
    assert stream.feed([]) == 0
    assert stream.ask(QUESTION, at=8.5, mode="window", decoding=SHORT).evidence.times == (2.0, 7.0)
    assert stream.ask(QUESTION, decoding=SHORT).at == 9.0


def test_time_prompts_say_the_frames_own_times() -> None:
    backbone = shared("llava_onevision", True).backbone
    [picture] = shown("llava_onevision", 1)
    frames = [wt.Frame(picture.pixels, 1.26), wt.Frame(picture.pixels, 3.0, until=10.04)]
    rows = torch.cat([s.embeds[0] for s in backbone.steps(frames, backbone.grid(35, 35), 2.0)])
    for i, text in enumerate(("\nTime=00001.3-00001.8s", "\nTime=00003.0-00010.0s")):
        ids = torch.tensor(tokenizer().encode(text))
        step = rows[i * (len(ids) + 10) :]
        assert torch.equal(step[: len(ids)], backbone.embed_ids(ids))
        assert torch.equal(step[len(ids) + 9], backbone.newline)


def test_numpy_and_torch_pixels_are_one() -> None:
    frames = shown("qwen2_vl", 3)
    streams = [shared("qwen2_vl", False).stream() for _ in range(2)]
    streams[0].feed(frames)
    streams[1].feed([wt.Frame(f.pixels.numpy(), f.time) for f in frames])
    assert streams[0].memory.digest() == streams[1].memory.digest()


def test_closing_says_that_any_time_may_be_asked_about() -> None:
    with shared("llava_onevision", False).stream(window=2) as stream:
        stream.feed(shown("llava_onevision", 4))
    late, last = (stream.ask(QUESTION, at=at, decoding=SHORT) for at in (1e6, 4.0))
    assert late.at == 1e6
    assert content(replace(late, at=4.0)) == content(last)


# Decoding


def host_greedy(family: str, text: str, count: int) -> list[int]:
    """The host's own `generate` on a prompt without pictures."""
    model = host(family)
    ids = torch.tensor([tokenizer().encode(text, add_special_tokens=False)])
    model.generation_config.eos_token_id = None
    out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False)
    return out[0, ids.shape[1] :].tolist()


@exact
@pytest.mark.parametrize("family", ["llava_onevision", "qwen2_vl"])
def test_greedy_is_the_hosts_own_generate(family: str) -> None:
    stream = shared(family, True).stream()
    row = look(stream, QUESTION, mode="blind", max_tokens=24)
    sink = tokenizer().decode(stream.runner.backbone.sink[0])
    said = host_greedy(family, f"{sink}\n{QUESTION}<|im_end|><|im_start|>assistant\n", 24)
    assert unstopped(row) == said
    prefixed = look(stream, QUESTION, mode="blind", max_tokens=24, prefix="In all, ")
    said = host_greedy(family, f"{sink}\n{QUESTION}<|im_end|><|im_start|>assistant\nIn all, ", 24)
    assert unstopped(prefixed) == said


def test_max_tokens_and_finish() -> None:
    stream = streamed("llava_onevision", True)
    whole = unstopped(look(stream, QUESTION, max_tokens=40))
    for count in (1, 2, 7):
        found = stream.ask(QUESTION, decoding=wt.Decoding(max_tokens=count))
        assert list(found.tokens) == whole[:count]
        assert found.finish == "length"
        assert found.text == tokenizer().decode(whole[:count], skip_special_tokens=True).strip()


def test_a_stop_token_ends_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = shared("llava_onevision", True).stream()
    stream.feed(shown("llava_onevision", 2))
    whole = unstopped(look(stream, QUESTION, max_tokens=10))
    first = next(i for i in range(2, 10) if whole[i] not in whole[:i])
    backbone = stream.runner.backbone
    assert backbone.stops >= {tokenizer().convert_tokens_to_ids(t) for t in ("<|im_end|>", "<|endoftext|>")}
    monkeypatch.setitem(backbone.__dict__, "stops", frozenset({whole[first]}))
    found = stream.ask(QUESTION, decoding=wt.Decoding(max_tokens=10))
    assert (list(found.tokens), found.finish) == (whole[:first], "stop")
    monkeypatch.setitem(backbone.__dict__, "stops", frozenset({whole[0]}))
    found = stream.ask(QUESTION, decoding=wt.Decoding(max_tokens=10))
    assert (found.tokens, found.text, found.finish) == ((), "", "stop")


class Script:
    """A runner's decode that says what it is told, one byte a token."""

    def __init__(self, text: bytes) -> None:
        vocabulary = tokenizer().get_vocab()
        self.ids = [vocabulary[BYTES[b]] for b in text]

    def __call__(self, draft: Any, decoding: wt.Decoding) -> Any:
        for i in self.ids:
            yield [i] * len(draft.lengths)
        while True:
            yield [tokenizer().eos_token_id] * len(draft.lengths)


def byte_letters() -> dict[int, str]:
    """The byte-level alphabet: printable bytes stand for themselves, the others are moved up."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(moved)}


BYTES = byte_letters()


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A stream whose model says given bytes."""

    def start(text: bytes) -> wt.Stream:
        made = engine("llava_onevision", time_prompts=False)
        stream = made.stream()
        stream.feed(shown("llava_onevision", 1))
        monkeypatch.setattr(stream.runner, "decode", Script(text))
        return stream

    return start


@pytest.mark.parametrize(
    "text",
    [b"plain", "naïve – 猫がいる 🐈‍⬛!".encode(), b" \n padded \n", b"broken \xe7\x8c then \xff on", b"cut \xf0\x9f"],
)
def test_pieces_joined_are_the_text(say: Callable[..., Any], text: bytes) -> None:
    stream = say(text)
    with stream.reply(QUESTION) as reply:
        pieces = list(reply)
    assert all(pieces)
    assert "".join(pieces) == text.decode(errors="replace")
    assert reply.answer.text == "".join(pieces).strip() == stream.ask(QUESTION).text
    assert not any("\N{REPLACEMENT CHARACTER}" in p for p in pieces) or b"\xff" in text or b"\xf0\x9f" in text[-2:]


@pytest.mark.parametrize(
    ("stop", "text", "pieces"),
    [
        (("END",), b"one two END three", "one two "),
        (("\n\n",), b"one\ntwo\n\nthree", "one\ntwo"),
        (("xyz", "wo"), b"one two xyz", "one t"),
        (("END",), b"ENEND", "EN"),
        (("never",), b"it is nev", "it is nev"),
        (("猫",), "a猫b".encode(), "a"),
        ((".",), b".", ""),
    ],
)
def test_stop_strings(say: Callable[..., Any], stop: tuple[str, ...], text: bytes, pieces: str) -> None:
    """What is said never shows the start of a stop string that is then found, and ends with it."""
    stream = say(text)
    with stream.reply(QUESTION, decoding=wt.Decoding(stop=stop)) as reply:
        assert "".join(reply) == pieces
    assert reply.answer.text == pieces.strip()
    assert stream.ask(QUESTION, decoding=wt.Decoding(stop=stop)).text == pieces.strip()
    assert reply.answer.finish == "stop"


def test_sampling_is_repeatable_by_its_seed() -> None:
    stream = streamed("qwen2_vl", True)

    def ask(**how: Any) -> tuple[int, ...]:
        return stream.ask(QUESTION, decoding=wt.Decoding(max_tokens=12, **how)).tokens

    assert ask(temperature=1.0, seed=1) == ask(temperature=1.0, seed=1)
    assert len({ask(temperature=1.0, seed=s) for s in range(4)}) == 4
    assert len({ask(temperature=1.0) for _ in range(4)}) == 4
    assert ask(temperature=1e-4, seed=3) == ask(temperature=0.0) == ask(temperature=1.0, top_p=1e-6, seed=5)
    together = stream.ask_all(QUESTIONS, decoding=wt.Decoding(max_tokens=6, temperature=1.0, seed=7))
    for answer, q in zip(together, QUESTIONS, strict=True):
        alone = stream.ask(q.text, options=q.options, decoding=wt.Decoding(max_tokens=6, temperature=1.0, seed=7))
        assert answer.tokens == alone.tokens


def test_top_p_keeps_the_smallest_set_with_that_mass() -> None:
    stream = streamed("qwen2_vl", True)
    row = look(stream, QUESTION)
    for temperature, top_p in ((1.0, 0.3), (2.0, 0.05), (0.5, 0.9)):
        p = torch.softmax(row.draft.logits[0].double() / temperature, -1)
        kept, mass = set(), 0.0
        for i in p.argsort(descending=True).tolist():
            if mass >= top_p:
                break
            kept.add(i)
            mass += float(p[i])
        first = set()
        for seed in range(150):
            how = wt.Decoding(max_tokens=1, temperature=temperature, top_p=top_p, seed=seed)
            first.add(next(iter(stream.runner.decode(row.draft, how)))[0])
        assert first <= kept
        assert len(first) > len(kept) // 4


def test_leaving_a_reply_early_leaves_everything_usable() -> None:
    stream = streamed("llava_onevision", True)
    expected = content(stream.ask(QUESTION, mode=ALWAYS, decoding=wt.Decoding(max_tokens=30)))
    decoder = stream.runner.backbone.decoder
    rotary = decoder.rotary_emb
    for _ in range(3):
        reply = stream.reply(QUESTION, mode=ALWAYS, decoding=wt.Decoding(max_tokens=30))
        with pytest.raises(KeyError), reply:
            raise KeyError(next(iter(reply)))
        assert expected.text.startswith(reply.answer.text)
        assert len(reply.answer.tokens) < 30
        with stream.reply(QUESTION, mode=ALWAYS, decoding=wt.Decoding(max_tokens=30)) as reply:
            for _piece in reply:
                break
    assert decoder.rotary_emb is rotary
    taken = threading.Thread(target=lambda: stream.runner.lock.acquire() and stream.runner.lock.release())
    taken.start()
    taken.join(5)
    assert not taken.is_alive(), "the lock is still held"
    assert content(stream.ask(QUESTION, mode=ALWAYS, decoding=wt.Decoding(max_tokens=30))) == expected


def test_frames_go_in_while_a_reply_is_written() -> None:
    stream = shared("qwen2_vl", True).stream(window=2)
    stream.feed(shown("qwen2_vl", 5))
    expected = stream.ask(QUESTION, mode=ALWAYS, decoding=SHORT)
    with stream.reply(QUESTION, mode=ALWAYS, decoding=SHORT) as reply:
        for i, _ in enumerate(reply):
            stream.feed(shown("qwen2_vl", 1, seed=i, start=5.0 + i))
    assert (reply.answer.tokens, reply.answer.at) == (expected.tokens, 5.0)
    assert reply.answer.evidence == expected.evidence


def test_an_answer_says_how_long_each_part_took() -> None:
    stream = streamed("llava_onevision", True)
    sure = stream.ask(QUESTION, mode="window", decoding=SHORT).timings
    assert set(sure) == {"prefill", "first_token", "decode", "total"}
    unsure = stream.ask(QUESTION, mode=ALWAYS, decoding=SHORT).timings
    assert set(unsure) == {"prefill", "choose", "recall", "first_token", "decode", "total"}
    for timings in (sure, unsure):
        assert all(t >= 0 for t in timings.values())
        parts = sum(t for name, t in timings.items() if name not in ("first_token", "total"))
        assert parts == pytest.approx(timings["total"], rel=0.05, abs=0.005)
        assert timings["first_token"] <= timings["total"]
