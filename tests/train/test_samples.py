"""Samples out of files: what cannot be used is named, orders change with epoch and sample, and nothing else does."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader
from written import chat, llava, make_clip, steady, write_lines

from tiny import TRAINED, engine, shared, tokenizer
from weavetime.errors import DataError
from weavetime.train.encode import RECONSTRUCTION, Encoded
from weavetime.train.samples import Bad, Batch, SampleDataset, SampleSettings, collate, inputs_embeds

SHORT = SampleSettings(frames=6, clips=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of 10 s, one shorter, and a training file of good samples."""
    path = tmp_path_factory.mktemp("samples")
    for name, seconds, first in (("a.mp4", 10, 0), ("b.mp4", 10, 1000), ("short.mp4", 3, 2000)):
        make_clip(path / name, steady(seconds, 5), rate=5, first=first)
    write_lines(path / "good.jsonl", [chat(n) for n in ("a.mp4", "b.mp4", "short.mp4", "a.mp4", "b.mp4")])
    return path


def data(folder: Path, family: str = "llava_onevision", settings: SampleSettings = SHORT, **how: Any) -> SampleDataset:
    return SampleDataset(
        [folder / "good.jsonl"], shared(family, how.pop("time_prompts", True)).backbone, settings, **how
    )


def good(sample: Encoded | Bad) -> Encoded:
    assert isinstance(sample, Encoded), sample
    return sample


def text(sample: Encoded, *, of: int) -> str:
    """What a part of the loss teaches."""
    return tokenizer().decode(sample.labels[sample.parts == of].tolist())


def equal(a: Encoded | Bad, b: Encoded | Bad) -> bool:
    if isinstance(a, Bad) or isinstance(b, Bad):
        return a == b
    pairs = [(getattr(a, f.name), getattr(b, f.name)) for f in fields(Encoded)]
    return all(torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in pairs)


@pytest.mark.parametrize("family", TRAINED)
def test_the_answer_says_where_each_picture_comes_from(folder: Path, family: str) -> None:
    """Every displayed picture is, in the sample as it was, the one at the time that the answer gives."""
    pairs = 2 if family == "qwen2_vl" else 1
    how = {"frames": 6, "clips": 3, "frames_per_step": pairs}
    shuffled, straight = (data(folder, family, SampleSettings(**how, prob=p)) for p in (1, 0))
    seen = set()
    for epoch in range(6):
        shuffled.set_epoch(epoch)
        told, plain = good(shuffled[0]), good(straight[0])
        shown = re.findall(r"Time=\d+\.\d-\d+\.\ds", tokenizer().decode(told.ids[told.ids >= 0].tolist()))
        count = len(told.pixels)
        answer = text(told, of=RECONSTRUCTION)
        assert answer.startswith("Correct timestamps (in displayed order): Time=")
        assert answer.endswith("s<|im_end|>")
        true = answer.removesuffix("<|im_end|>").split(": ")[1].split(" | ")
        assert shown[:count] == sorted(true)
        order = [shown.index(t) for t in true]
        assert torch.equal(told.pixels, plain.pixels[order])
        assert not torch.equal(told.pixels, plain.pixels) or order == sorted(order)
        seen.add(tuple(order))
        assert not (plain.parts == RECONSTRUCTION).any()
        tail = len(plain.ids) - int((plain.ids == -2).nonzero().max()) - 8
        assert told.ids[-tail:].tolist() == plain.ids[-tail:].tolist()
    assert len(seen) > 1


def test_orders_differ_by_sample_epoch_and_seed(folder: Path) -> None:
    dataset = data(folder, settings=SampleSettings(frames=None, clips=10))
    other = data(folder, settings=SampleSettings(frames=None, clips=10, seed=1))
    first = [good(dataset[i]) for i in (0, 3, 0)]
    assert equal(first[0], first[2])
    dataset.set_epoch(1)
    answers = [text(s, of=RECONSTRUCTION) for s in (first[0], first[1], good(dataset[0]), good(other[0]))]
    assert len(set(answers)) == 4
    dataset.set_epoch(0)
    assert equal(good(dataset[0]), first[0])


def test_prob_is_the_share_of_samples_and_degree_of_clips(folder: Path) -> None:
    path = write_lines(folder / "many.jsonl", [chat("short.mp4")] * 60)
    how = SampleSettings(frames=3, prob=0.5, degree=0.6)
    dataset = SampleDataset([path], shared("llava_onevision", True).backbone, how)
    told = [text(good(dataset[i]), of=RECONSTRUCTION) for i in range(60)]
    assert 18 <= sum(map(bool, told)) <= 42
    times = [f"Time={i:07.1f}-{i + 1:07.1f}s" for i in range(3)]
    for answer in filter(None, told):
        places = [times.index(t) for t in re.findall(r"Time=[^s]*s", answer)]
        assert sum(i != p for i, p in enumerate(places)) == 2


def test_a_sample_of_one_step_has_no_order(folder: Path) -> None:
    dataset = data(folder, settings=SampleSettings(frames=1))
    assert text(good(dataset[0]), of=RECONSTRUCTION) == ""


def test_pictures_of_longer_videos_are_smaller(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pictures keep their own size; down to a least size."""
    monkeypatch.setattr("weavetime.train.samples.LEAST_PIXELS", 24 * 24)
    sizes = {}
    for pixels in (None, 6 * 2048, 6 * 16):
        for frames in (3, 6):
            sample = good(data(folder, "qwen2_vl", SampleSettings(frames=frames, clips=3, pixels=pixels))[0])
            sizes[pixels, frames] = sample.grid.height * sample.grid.width
            assert sample.pixels.shape[-2:] == (sample.grid.height, sample.grid.width)
            assert int((sample.ids == -2).sum()) == frames * sample.grid.tokens
    assert sizes[None, 3] == sizes[None, 6] > 2048 >= sizes[6 * 2048, 6] > 576
    assert sizes[6 * 2048, 3] == sizes[None, 3]
    assert 200 < sizes[6 * 16, 6] == sizes[6 * 16, 3] <= 576
    square = [data(folder, settings=SampleSettings(frames=6, clips=3, pixels=p))[0] for p in (None, 96)]
    assert equal(*square)


def break_line(path: Path) -> None:
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, '{"messages": ']) + "\n")


BROKEN: list[tuple[Any, str]] = [
    (chat("gone.mp4"), "no such file"),
    (chat("text.mp4"), "not a video"),
    (chat("cut.mkv"), "damaged: .*readable up to"),
    ([], "the conversation is empty"),
    (chat("a.mp4", (("What?", " \n"),)), "an empty answer"),
    (chat("a.mp4", ((" ", "This."),)), "an empty question"),
    (chat("a.mp4", (("What?", "The <|im_end|>."),)), r"holds <\|im_end\|>"),
    (chat("a.mp4", (("<video> What?", "This."),)), "holds <video>"),
    (chat("a.mp4", (("half \ud83d", "This."),)), "not Unicode"),
    (chat("a.mp4", key_frame_idx=50), "key frame 50 is missing"),
    (chat("a.mp4", key_frame_idx=[0, 49], video_start=1), "key frame 0 at 0.00 s lies outside"),
    (chat("a.mp4", video_start=11), "beyond the video's end"),
    (chat("a.mp4", (("What?", "x" * 2000),)), "more than max_tokens 1500"),
]


def test_what_cannot_be_used_is_named(folder: Path) -> None:
    (folder / "text.mp4").write_text("no video")
    whole = make_clip(folder / "whole.mkv", steady(10, 5), rate=5).read_bytes()
    (folder / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    path = folder / "bad.jsonl"
    path.write_text("".join(json.dumps(value) + "\n" for value, _ in BROKEN))
    break_line(path)
    how = SampleSettings(frames=4, max_tokens=1500)
    dataset = SampleDataset([folder / "good.jsonl", path], shared("llava_onevision", True).backbone, how)
    for i, said in enumerate([*(said for _, said in BROKEN), "not JSON"]):
        bad = dataset[5 + i]
        assert isinstance(bad, Bad), said
        assert (bad.index, bad.where) == (5 + i, f"{path}:{i + 1}")
        assert re.search(said, bad.reason), bad.reason
        assert str(path) not in bad.reason
    batch = collate([dataset[i] for i in (5, 0, 6, 1)])
    assert [b.index for b in batch.bad] == [5, 6]
    assert equal_batches(batch, collate([dataset[i] for i in (0, 1)]), but="bad")


def equal_batches(a: Batch, b: Batch, but: str = "") -> bool:
    def same(x: Any, y: Any) -> bool:
        if isinstance(x, tuple):
            return len(x) == len(y) and all(same(i, j) for i, j in zip(x, y, strict=True))
        return torch.equal(x, y) if isinstance(x, torch.Tensor) else bool(x == y)

    return all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(Batch) if f.name != but)


@pytest.mark.parametrize("family", TRAINED)
def test_a_batch_of_nothing(family: str) -> None:
    bad = Bad(3, "f.jsonl:4", "no video")
    for items in ([], [bad, bad]):
        batch = collate(items)
        assert batch.bad == tuple(items)
        backbone = shared(family, True).backbone
        assert inputs_embeds(backbone, batch).shape == (0, 0, 64)
        assert batch.position_ids.shape[-2:] == (0, 0)


def test_llava_json_gives_the_same_samples(folder: Path) -> None:
    beside = {"video_start": 2, "video_end": 9.5, "nframes": 4, "key_frame_idx": [17]}
    videos = [("a.mp4", {}), ("b.mp4", beside)]
    lines = write_lines(folder / "same.jsonl", [chat(v, **k) for v, k in videos])
    whole = folder / "same.json"
    whole.write_text(json.dumps([llava(v, **k) for v, k in videos], indent=1))
    one, two = (SampleDataset([p], shared("llava_onevision", True).backbone, SHORT) for p in (lines, whole))
    assert all(equal(good(one[i]), good(two[i])) for i in range(2))


def test_files_follow_each_other(folder: Path, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "more.jsonl", [chat("a.mp4"), chat("short.mp4")])
    backbone = shared("llava_onevision", True).backbone
    both = SampleDataset([folder / "good.jsonl", path], backbone, SHORT, video_root=folder)
    assert len(both) == 7
    assert both.where(6) == f"{path}:2"
    assert len(good(both[6]).pixels) == 3
    for index in (7, -1):
        with pytest.raises(IndexError):
            both[index]


def loader(dataset: SampleDataset, **how: Any) -> list[Batch]:
    return list(DataLoader(dataset, batch_size=2, collate_fn=collate, **how))


def test_the_same_on_any_number_of_workers(folder: Path) -> None:
    """In forked workers, and in one that starts anew, with other hashes."""
    how = SampleSettings(frames=6, clips=3, beta=2.0)
    dataset = data(folder, "qwen2_vl", how)
    dataset.set_epoch(2)
    wanted = loader(dataset)
    for more in ({"num_workers": 2}, {"num_workers": 1, "multiprocessing_context": "spawn"}):
        found = loader(dataset, **more)
        assert len(found) == 3
        assert all(equal_batches(a, b) for a, b in zip(found, wanted, strict=True))


def test_workers_that_live_on_see_the_epoch(folder: Path) -> None:
    dataset = data(folder)
    batches = DataLoader(dataset, batch_size=2, collate_fn=collate, num_workers=1, persistent_workers=True)
    for epoch in range(2):
        dataset.set_epoch(epoch)
        assert all(equal_batches(a, b) for a, b in zip(batches, loader(dataset), strict=True))


def test_a_worker_is_sent_no_weights(folder: Path) -> None:
    assert len(pickle.dumps(data(folder))) < 100_000


def test_the_datasets_backbone_is_a_copy(folder: Path) -> None:
    backbone = engine("llava_onevision", time_prompts=True).backbone
    SampleDataset([folder / "good.jsonl"], backbone, SHORT)
    assert backbone.rotary is not None
    assert backbone.decoder is not None


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda f: SampleSettings(fps=0), "fps must be above 0"),
        (lambda f: SampleSettings(fps=float("nan")), "fps must be above 0"),
        (lambda f: SampleSettings(frames=0), "frames must be at least 1"),
        (lambda f: SampleSettings(beta=-1), "beta must be"),
        (lambda f: SampleSettings(degree=1.1), "degree must be a share"),
        (lambda f: SampleSettings(prob=-0.1), "prob must be a share"),
        (lambda f: SampleSettings(clips=0), "clips must be"),
        (lambda f: SampleSettings(frames_per_step=3), "frames_per_step must be"),
        (lambda f: SampleSettings(max_tokens=0), "max_tokens must be"),
        (lambda f: SampleSettings(pixels=0), "pixels must be"),
        (lambda f: data(f, settings=SampleSettings(frames_per_step=2)), "llava_onevision takes 1"),
        (lambda f: data(f, time_prompts=False), "turn time_prompts on"),
        (lambda f: SampleDataset([], shared("qwen2_vl", True).backbone), "no samples in no file"),
        (lambda f: SampleDataset([f / "none.jsonl"], shared("qwen2_vl", True).backbone), "no such file"),
    ],
)
def test_settings_that_cannot_be(folder: Path, make: Callable[[Path], Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        make(folder)


def test_without_time_prompts(folder: Path) -> None:
    sample = good(data(folder, "qwen2_vl", SampleSettings(prob=0), time_prompts=False)[0])
    assert "Time=" not in tokenizer().decode(sample.ids[sample.ids >= 0].tolist())
