"""Which blocks a question reads: the gate, the choice, and every mode, against the method's own words."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

import weavetime as wt
from reference import CLIP, Reference, best, own_steps
from tiny import LAYOUT_NAMES, LAYOUTS, each_layout, features, host, look, per_step, shared, shown, times, tokenizer
from weavetime.focus import entropy_gate

pytestmark = pytest.mark.exact

QUESTION = "Where was the cup?"
COUNT, WINDOW = 10, 3
SHORT = wt.Decoding(max_tokens=6)


@cache
def streamed(family: str, segments: bool, window: int | None = WINDOW) -> wt.Stream:
    """One stream for all questions here: a question changes nothing."""
    stream = shared(family, segments).stream(window=window, batch=4)
    stream.feed(shown(family, COUNT))
    return stream


@cache
def slow(family: str, segments: bool) -> Reference:
    reference = Reference(host(family), tokenizer(), family, segments=segments, window=WINDOW)
    reference.feed(features(family, shown(family, COUNT)), times(shown(family, COUNT)))
    return reference


@cache
def present(family: str, segments: bool, at: int = COUNT - 1) -> Any:
    """The reference's first prefill as of a frame's time: over the window."""
    reference = slow(family, segments)
    recent = range(max(0, at + 1 - WINDOW), at + 1)
    return reference.read(reference.prompt_ids(QUESTION), reference.same(recent))


def blocks(stream: wt.Stream, mode: Any, text: str = QUESTION, **how: Any) -> list[list[int]]:
    return [list(b) for b in look(stream, text, mode=mode, **how).draft.view.choice.blocks]


# The gate


def test_gate_is_the_entropy_of_the_ten_largest() -> None:
    logits = torch.randn(2, 50, generator=torch.Generator().manual_seed(0)) * 3
    for row, found in zip(logits, entropy_gate(logits), strict=True):
        top = sorted(row.tolist(), reverse=True)[:10]
        weights = [math.exp(x) for x in top]
        p = [w / sum(weights) for w in weights]
        assert float(found) == pytest.approx(-sum(x * math.log(x) for x in p) / math.log(10), abs=1e-6)
    assert float(entropy_gate(torch.zeros(99))) == pytest.approx(1.0, abs=1e-6)
    assert float(entropy_gate(torch.tensor([50.0] + [0.0] * 98))) == pytest.approx(0.0, abs=1e-6)


@each_layout
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_gate_of_a_question_is_that_of_the_last_layers(family: str, segments: bool, layers: int) -> None:
    found = streamed(family, segments).ask(QUESTION, mode=wt.WeaveTime(gate_layers=layers, delta=2), decoding=SHORT)
    assert found.gate == pytest.approx(present(family, segments).gate(layers), abs=1e-5)
    again = streamed(family, segments).ask(QUESTION, mode=wt.WeaveTime(gate_layers=layers, delta=0), decoding=SHORT)
    assert again.gate == found.gate, "after recall the gate is still that of the first prefill"


@each_layout
def test_gate_of_more_layers_than_there_are_takes_all(family: str, segments: bool) -> None:
    modes = [wt.WeaveTime(gate_layers=n, delta=2) for n in (3, 4, 9)]
    found = [streamed(family, segments).ask(QUESTION, mode=mode, decoding=SHORT).gate for mode in modes]
    assert found[0] == found[1] == found[2]


@each_layout
def test_gate_decides(family: str, segments: bool) -> None:
    """Just above the gate: the window's answer, token for token. At the gate and below: recall."""
    stream = streamed(family, segments)
    window = stream.ask(QUESTION, mode="window", decoding=SHORT)
    assert window.gate is None
    gate = stream.ask(QUESTION, mode=wt.WeaveTime(k=4, delta=2), decoding=SHORT).gate
    assert gate is not None
    assert 0 < gate < 1
    for delta in (2.0, math.nextafter(gate, 2), gate + 1e-6):
        sure = stream.ask(QUESTION, mode=wt.WeaveTime(k=4, delta=delta), decoding=SHORT)
        assert not sure.recalled
        assert (sure.tokens, sure.text, sure.evidence.blocks) == (window.tokens, window.text, window.evidence.blocks)
        assert sure.evidence.scores is None
    for delta in (gate, math.nextafter(gate, 0), 0.0):
        unsure = stream.ask(QUESTION, mode=wt.WeaveTime(k=4, delta=delta), decoding=SHORT)
        assert unsure.recalled
        assert unsure.evidence.scores is not None


@each_layout
def test_threshold_is_the_records_else_the_papers(family: str, segments: bool) -> None:
    engine = shared(family, segments)
    assert wt.WeaveTime().of(engine.record) == wt.WeaveTime(k=64, delta=0.6, coarse=3)
    gate = streamed(family, segments).ask(QUESTION, decoding=SHORT).gate
    assert gate is not None
    for delta in (gate - 1e-3, gate + 1e-3):
        other = wt.Engine(engine.backbone, wt.Record(delta=delta))
        stream = other.stream(window=WINDOW)
        stream.feed(shown(family, COUNT))
        assert stream.ask(QUESTION, decoding=SHORT).recalled == (gate >= delta)


def test_blocks_recalled_are_those_of_the_question_else_the_records() -> None:
    engine = wt.Engine(shared("qwen2_vl", True).backbone, wt.Record(k=3, coarse=1, delta=0.0))
    stream = engine.stream(window=WINDOW)
    stream.feed(shown("qwen2_vl", COUNT))
    own, three, five = (
        stream.ask(QUESTION, mode=mode, decoding=SHORT)
        for mode in ("weavetime", wt.WeaveTime(k=3, coarse=1, delta=0), wt.WeaveTime(k=5))
    )
    assert own.recalled
    assert own.evidence == three.evidence
    assert {len(layer) for layer in own.evidence.blocks} == {3}
    assert {len(layer) for layer in five.evidence.blocks} == {5}
    record = wt.Record(k=8, coarse=128, delta=0.1)
    assert wt.WeaveTime().of(record) == wt.WeaveTime(k=8, coarse=128, delta=0.1)
    assert wt.WeaveTime(k=16).of(record) == wt.WeaveTime(k=16, coarse=3, delta=0.1)  # candidates went with the other k
    with pytest.raises(wt.ModeError, match="k = 8"):
        wt.WeaveTime(newest=9).of(record)


@each_layout
def test_recalls_only_where_there_is_a_past(family: str, segments: bool) -> None:
    always = wt.WeaveTime(k=4, delta=0)
    stream = streamed(family, segments)
    for t in range(COUNT):
        assert look(stream, QUESTION, mode=always, at=float(t)).recalled == (t + 1 > WINDOW)
    assert not look(streamed(family, segments, None), QUESTION, mode=always).recalled


# Coarse to fine


@each_layout
@pytest.mark.parametrize(("k", "factor"), [(1, 3), (2, 1), (2, 3), (3, 3), (4, 3), (50, 1)])
def test_coarse_to_fine_equals_the_slow_reference(family: str, segments: bool, k: int, factor: int) -> None:
    reference, stream = slow(family, segments), streamed(family, segments)
    for at in (COUNT - 1, 6):
        queries = present(family, segments, at).queries
        expected = reference.coarse_to_fine(queries, at + 1, k, factor)
        row = look(stream, QUESTION, mode=wt.WeaveTime(k=k, coarse=factor, delta=0), at=at + 0.5)
        choice = row.draft.view.choice
        assert [list(b) for b in choice.blocks] == expected
        for layer, (chosen, scores) in enumerate(zip(choice.blocks, choice.scores, strict=True)):
            fine = reference.fine(layer, queries[layer], at + 1)
            assert list(scores) == pytest.approx([fine[b] for b in chosen], rel=1e-5, abs=1e-4)


@each_layout
@pytest.mark.parametrize("k", [4, 7])
def test_all_candidates_make_it_exhaustive(family: str, segments: bool, k: int) -> None:
    """With 3k >= all blocks, coarse to fine is MaxSim over every key of every block."""
    reference = slow(family, segments)
    expected = [best(reference.fine(n, q, COUNT), k) for n, q in enumerate(present(family, segments).queries)]
    assert blocks(streamed(family, segments), wt.WeaveTime(k=k, delta=0)) == expected


@each_layout
def test_k_of_all_reads_all(family: str, segments: bool) -> None:
    stream = streamed(family, segments)
    every = [list(range(COUNT))] * 3
    for k in (COUNT, COUNT + 1, 500):
        assert blocks(stream, wt.WeaveTime(k=k, delta=0)) == every
        assert blocks(stream, wt.ReKV(k=k)) == every
        assert blocks(stream, wt.Uniform(k)) == every
        assert blocks(stream, wt.Recent(k)) == every
    logits = [look(stream, QUESTION, mode=m).draft.logits for m in (wt.WeaveTime(k=99, delta=0), wt.Uniform(99))]
    torch.testing.assert_close(logits[0], logits[1], atol=0, rtol=0)


@each_layout
def test_ties_go_to_the_more_recent(family: str, segments: bool) -> None:
    """A still picture: with a window of one block, blocks from the third on are copies."""
    stream = shared(family, segments).stream(window=1, batch=2, cache=0)
    picture, count = shown(family, 1)[0], per_step(family)
    stream.feed([wt.Frame(picture.pixels, i / count) for i in range(8 * count)])
    archive = stream.memory.archive
    assert archive.stop == 7
    with torch.inference_mode():
        for layer in range(3):
            for part in range(2):
                for block in range(1, 7):  # exact copies, so that scores are equal to the last bit
                    archive.part(layer, block, part).copy_(archive.part(layer, 1, part))
            page = stream.memory.means._pages[0]
            page[layer, 1:8] = page[layer, 1].clone()
    for factor in (1, 2, 3):  # ties among mean keys, and among the candidates that these leave
        for layer, chosen in enumerate(blocks(stream, wt.WeaveTime(k=3, coarse=factor, delta=0))):
            among = [b for b in chosen if 0 < b < 7]
            assert among == list(range(7 - len(among), 7)), f"layer {layer}: {chosen}"
    for chosen in blocks(stream, wt.ReKV(k=3)):
        among = [b for b in chosen if b > 0]
        assert among == list(range(8 - len(among), 8))


@each_layout
@torch.inference_mode()
def test_time_prompt_tokens_count_unless_set_otherwise(family: str, segments: bool) -> None:
    reference = slow(family, segments)
    stream = shared(family, segments).stream(window=WINDOW, batch=4, visual_only=True)
    stream.feed(shown(family, COUNT))
    queries = present(family, segments).queries
    before = reference.blocks[0].before
    visual = slice(before, before + reference.blocks[0].rows * reference.blocks[0].columns)
    row = look(stream, QUESTION, mode=wt.WeaveTime(k=4, delta=0))
    for layer, q in enumerate(queries):
        words = reference.vectors(q)
        fine, coarse = [], []
        for b in reference.blocks:
            keys = b.keys[layer][:, visual].transpose(0, 1).flatten(1)
            fine.append(float((words @ keys.T).max(1).values.mean()))
            coarse.append(float(words.mean(0) @ keys.mean(0)))
        assert list(row.draft.view.choice.blocks[layer]) == best(fine, 4)
        mean = stream.memory.index().coarse_layer(layer, words.mean(0).float())
        torch.testing.assert_close(mean.double(), torch.tensor(coarse, dtype=torch.float64), rtol=1e-4, atol=1e-3)


@each_layout
def test_cosine_compares_directions(family: str, segments: bool) -> None:
    reference, k = slow(family, segments), 2

    def unit(x: Tensor) -> Tensor:
        return x / x.norm(dim=-1, keepdim=True)

    row = look(streamed(family, segments), QUESTION, mode=wt.WeaveTime(k=k, delta=0, cosine=True))
    for layer, q in enumerate(present(family, segments).queries):
        words = reference.vectors(q)
        keys = [b.keys[layer].transpose(0, 1).flatten(1) for b in reference.blocks]
        coarse = [float(unit(words.mean(0)) @ unit(x.mean(0))) for x in keys]
        fine = [float((unit(words) @ unit(x).T).max(1).values.mean()) for x in keys]
        candidates = best(coarse, 3 * k)
        assert list(row.draft.view.choice.blocks[layer]) == sorted(sorted(candidates, key=lambda b: (-fine[b], -b))[:k])


# The other settings of the choice


@each_layout
def test_newest_are_always_among_the_k(family: str, segments: bool) -> None:
    reference = slow(family, segments)
    for newest in (1, 2, 4):
        found = blocks(streamed(family, segments), wt.WeaveTime(k=4, delta=0, newest=newest))
        always = list(range(COUNT - newest, COUNT))
        for layer, q in enumerate(present(family, segments).queries):
            fine = reference.fine(layer, q, COUNT)
            rest = sorted((b for b in range(COUNT - newest)), key=lambda b: (-fine[b], -b))
            assert found[layer] == sorted([*always, *rest[: 4 - newest]])


@each_layout
def test_vote_makes_one_selection(family: str, segments: bool) -> None:
    stream = streamed(family, segments)
    alone = blocks(stream, wt.WeaveTime(k=4, delta=0))
    voted = blocks(stream, wt.WeaveTime(k=4, delta=0, vote=True))
    votes = {b: sum(b in chosen for chosen in alone) for b in range(COUNT)}
    assert voted == [sorted(sorted(range(COUNT), key=lambda b: (-votes[b], -b))[:4])] * 3


@each_layout
def test_chunk_takes_neighbours_together(family: str, segments: bool) -> None:
    reference = slow(family, segments)
    found = blocks(streamed(family, segments), wt.WeaveTime(k=4, delta=0, chunk=2))
    for layer, q in enumerate(present(family, segments).queries):
        fine = reference.fine(layer, q, COUNT)
        mean = [(fine[2 * g] + fine[2 * g + 1]) / 2 for g in range(COUNT // 2)]
        groups = best(mean, 2)
        assert found[layer] == [b for g in groups for b in (2 * g, 2 * g + 1)]


# ReKV


@each_layout
@pytest.mark.parametrize("k", [1, 3, 5])
def test_rekv_equals_the_slow_reference(family: str, segments: bool, k: int) -> None:
    reference, stream = slow(family, segments), streamed(family, segments)
    for at in (COUNT - 1, 4):
        expected = reference.rekv(QUESTION, at + 1, k)
        row = look(stream, QUESTION, mode=wt.ReKV(k=k), at=at + 0.5)
        assert [list(b) for b in row.draft.view.choice.blocks] == expected
        logits = reference.read(reference.prompt_ids(QUESTION), expected).logits[-1]
        torch.testing.assert_close(row.draft.logits[0].double(), logits, atol=1e-5, rtol=0)


@each_layout
def test_rekv_picks_by_the_questions_text_alone(family: str, segments: bool) -> None:
    stream = streamed(family, segments)
    plain = blocks(stream, wt.ReKV(k=3))
    more = {"options": ("a", "b"), "history": (("earlier", "answer"),), "prefix": "So"}
    row = look(stream, QUESTION, mode=wt.ReKV(k=3), **more)
    assert [list(b) for b in row.draft.view.choice.blocks] == plain
    found = stream.ask(QUESTION, mode=wt.ReKV(k=3), decoding=SHORT)
    assert found.gate is None
    assert found.recalled
    assert found.evidence.scores is not None


# Plain modes


@each_layout
def test_plain_modes_read_what_the_method_says(family: str, segments: bool) -> None:
    stream, free = streamed(family, segments), streamed(family, segments, None)

    def same(*numbers: int) -> list[list[int]]:
        return [list(numbers)] * 3

    assert blocks(stream, "window") == same(7, 8, 9)
    assert blocks(stream, "window", at=5.5) == same(3, 4, 5)
    assert blocks(stream, "window", at=1.0) == same(0, 1)
    assert blocks(free, "window") == same(*range(10))
    assert blocks(stream, "recent:2") == same(8, 9)
    assert blocks(stream, "recent:1", at=0.0) == same(0)
    assert blocks(stream, "recent:99", at=4.0) == same(0, 1, 2, 3, 4)
    # round() to even: linspace(0, 9, 3) is 0, 4.5, 9; linspace(0, 7, 3) is 0, 3.5, 7; linspace(0, 9, 7) steps by 1.5
    assert blocks(stream, "uniform:3") == same(0, 4, 9)
    assert blocks(stream, "uniform:3", at=7.0) == same(0, 4, 7)
    assert blocks(stream, "uniform:7") == same(0, 2, 3, 4, 6, 8, 9)
    assert blocks(stream, "uniform:1") == same(0)
    assert blocks(stream, "uniform:2", at=0.0) == same(0)
    assert blocks(free, "full") == same(*range(10))
    assert blocks(free, "full", at=3.9) == same(0, 1, 2, 3)
    with pytest.raises(wt.ModeError, match="window=None"):
        blocks(stream, "full")
    assert blocks(stream, "frames:2,7.9,2.5") == same(2, 7)
    assert blocks(stream, wt.Chosen([9.5, 0])) == same(0, 9)
    assert blocks(stream, "blind") == same()
    bare = look(stream, QUESTION, mode="blind").draft
    text = len(slow(family, segments).prompt_ids(QUESTION, bare=True))
    assert bare.lengths == (text,)
    assert bare.view.tokens == slow(family, segments).sink_text == bare.view.layer(0).keys.shape[2]


@each_layout
def test_only_weavetime_has_a_gate_and_only_it_and_rekv_recall(family: str, segments: bool) -> None:
    stream = streamed(family, segments)
    for mode in ("window", "recent:2", "uniform:4", "frames:1", "blind"):
        found = stream.ask(QUESTION, mode=mode, decoding=wt.Decoding(max_tokens=1))
        assert (found.gate, found.recalled, found.evidence.scores, found.mode) == (
            None,
            False,
            None,
            mode.split(":")[0],
        )
    found = streamed(family, segments, None).ask(QUESTION, mode="full", decoding=wt.Decoding(max_tokens=1))
    assert (found.gate, found.recalled, found.mode) == (None, False, "full")


@each_layout
def test_evidence_is_what_the_last_view_read(family: str, segments: bool) -> None:
    found = streamed(family, segments).ask(QUESTION, mode=wt.WeaveTime(k=2, delta=0), decoding=SHORT)
    union = sorted(set().union(*found.evidence.blocks))
    assert found.evidence.times == tuple(float(b) for b in union)
    assert found.evidence.scores is not None
    assert [len(s) for s in found.evidence.scores] == [len(b) for b in found.evidence.blocks] == [2, 2, 2]


# The prompt


@pytest.fixture(params=LAYOUTS, ids=LAYOUT_NAMES)
def layout(request: pytest.FixtureRequest) -> tuple[str, bool]:
    found: tuple[str, bool] = request.param
    return found


# What stands before the user's text, and after it.
ROLES = {
    **dict.fromkeys(("llava_onevision", "qwen2_vl"), ("\n", "<|im_end|><|im_start|>assistant\n")),
    **dict.fromkeys(("qwen2_5_vl", "qwen3_vl"), ("", "<|im_end|>\n<|im_start|>assistant\n")),
    "longva": ("\n", "<|im_end|>\n<|im_start|>assistant\n"),
    "video_llava": ("\n", " ASSISTANT:"),
    "flash_vstream": ("\n", "ASSISTANT:"),
}


def test_prompt_is_the_published_one(layout: tuple[str, bool]) -> None:
    family, segments = layout
    reference, backbone = slow(family, segments), shared(family, segments).backbone

    def put(question: wt.Question, prefix: str = "") -> str:
        prompt = backbone.prompt(question, wt.Decoding(prefix=prefix))
        wraps = own_steps(family, segments)
        assert prompt.head == (0 if wraps or family in CLIP else 1)
        head = prompt.ids[: prompt.head].tolist()
        assert head == ([] if wraps or family in CLIP else [-1] if family == "llava_onevision" else [260])
        assert prompt.text.tolist() == reference.ids(question.text)
        return str(tokenizer().decode(prompt.ids[prompt.head :]))

    first, ends = ROLES[family]
    asked = f"{first}How {{many}}?{ends}"
    assert put(wt.Question("How {many}?")) == asked
    assert put(wt.Question("How {many}?"), "At least") == asked + "At least"
    options = f"{first}Question: Which?\nOptions:\n(A) {{x}}\n(B) two\nOnly give the best option.{ends}"
    assert put(wt.Question("Which?", ("{x}", "two"))) == f"{options}{' ' * (family == 'video_llava')}Best option: ("
    assert put(wt.Question("Which?", ("{x}", "two")), "I say (") == options + "I say ("
    told = put(wt.Question("And now?", (), (("Who?", "Me."), ("When?", "Then."))))
    assert told.endswith(f"{first}And now?{ends}")
    assert [told.index(x) for x in ("Who?", "Me.", "When?", "Then.", "And now?")] == sorted(
        told.index(x) for x in ("Who?", "Me.", "When?", "Then.", "And now?")
    )


@each_layout
def test_all_tokens_after_the_blocks_choose(family: str, segments: bool) -> None:
    """Options, history and prefix are part of the question that looks for blocks."""
    stream, reference = streamed(family, segments), slow(family, segments)
    row = look(stream, QUESTION, options=("a cup", "a plate"), mode=wt.WeaveTime(k=3, delta=0))
    ids = reference.prompt_ids(QUESTION, ("a cup", "a plate"))
    first = reference.read(ids, reference.same([7, 8, 9]))
    expected = reference.coarse_to_fine(first.queries, COUNT, 3)
    assert [list(b) for b in row.draft.view.choice.blocks] == expected
    torch.testing.assert_close(
        row.draft.logits[0].double(), reference.read(ids, expected).logits[-1], atol=1e-5, rtol=0
    )
    answer = row.run() or row.answers()[0]
    letters = [float(reference.read(ids, expected).logits[-1][reference.ids(x)[0]]) for x in "AB"]
    assert answer.logits == pytest.approx(letters, abs=1e-5)
    assert answer.choice == letters.index(max(letters))


# Names


def test_a_name_is_short_for_a_value() -> None:
    for name, value in (
        ("weavetime", wt.WeaveTime()),
        ("weavetime:8", wt.WeaveTime(k=8)),
        ("weavetime:k=8,coarse=128", wt.WeaveTime(k=8, coarse=128)),
        ("weavetime: vote=true, cosine = True, delta=0, k=none", wt.WeaveTime(vote=True, cosine=True, delta=0)),
        ("rekv:cosine=true", wt.ReKV(cosine=True)),
        ("frames(times=(12.0, 40.0))", wt.Chosen((12.0, 40.0))),
        ("frames:times=(12,40)", wt.Chosen((12.0, 40.0))),
        ("weavetime(40)", wt.WeaveTime(k=40)),
        ("weavetime:delta=inf", wt.WeaveTime(delta=float("inf"))),
        ("rekv", wt.ReKV()),
        ("rekv:32", wt.ReKV(k=32)),
        ("window", wt.Window()),
        ("recent:4", wt.Recent(4)),
        ("uniform:64", wt.Uniform(64)),
        ("full", wt.Full()),
        ("frames:12,40", wt.Chosen((12.0, 40.0))),
        ("blind", wt.Blind()),
    ):
        assert wt.parse_mode(name) == value
    assert wt.WeaveTime() == wt.WeaveTime(k=None, delta=None, coarse=None, gate_layers=1)
    assert wt.ReKV().k == 64
