"""`weavetime models` and `weavetime convert`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cli_process import Ran

from published import publish
from tiny import untouched
from weavetime.backbones import families
from weavetime.bench.shapes import make
from weavetime.errors import OutOfMemoryError

Call = Callable[..., Ran]

# Tokens a frame and layers x KV heads x dim of one token, written down from the published configs.
WRITTEN = {
    "lmms-lab/LongVA-7B": (144, 28 * 4 * 128),
    "LanguageBind/Video-LLaVA-7B-hf": (257, 32 * 32 * 128),
    "IVGSZ/Flash-VStream-7b": (64, 32 * 32 * 128),
    "llava-hf/llava-onevision-qwen2-7b-ov-hf": (196, 28 * 4 * 128),
    "llava-hf/llava-onevision-qwen2-0.5b-ov-hf": (196, 24 * 2 * 64),
    "Qwen/Qwen2-VL-7B-Instruct": (20 * 36, 28 * 4 * 128),
}


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, object]]:
    from dataclasses import asdict

    from weavetime.backbones.catalogue import catalogue

    return {entry.name: asdict(entry) for entry in catalogue()}


def test_figures_are_those_of_the_published_sizes(found: dict[str, dict[str, object]]) -> None:
    for name, (tokens, width) in WRITTEN.items():
        entry = found[name]
        assert entry["tokens"] == tokens
        assert entry["hour"] == 3600 * tokens * width * 2 * 2  # keys and values of 16 bits
    assert found["lmms-lab/LongVA-7B"]["positions"] == 224_000
    assert found["LanguageBind/Video-LLaVA-7B-hf"]["largest_window"] == 14  # (4096 - 10) // 257, less the step itself
    assert found["LanguageBind/Video-LLaVA-7B-hf"]["window"] == 12
    assert found["IVGSZ/Flash-VStream-7b"]["window"] == 54
    assert found["IVGSZ/Flash-VStream-7b"]["picture"] == (224, 224)
    sizes = {"lmms-lab/LongVA-7B": 7.9e9, "IVGSZ/Flash-VStream-7b": 7.1e9, "Qwen/Qwen2-VL-7B-Instruct": 8.3e9}
    for name, parameters in sizes.items():
        assert found[name]["parameters"] == pytest.approx(parameters, rel=0.01)


def test_every_family_is_told_with_its_licence_and_how_it_was_tested(
    call: Call, found: dict[str, dict[str, object]]
) -> None:
    assert {str(entry["family"]) for entry in found.values()} == set(families())
    for entry in found.values():
        assert entry["licence"]
        assert "tiny checkpoint" in str(entry["tested"])
    ran = call("models", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert [entry["name"] for entry in json.loads(ran.out)] == list(found)
    table = call("models")
    assert table.code == 0
    words = "".join(table.out.split())
    for entry in found.values():
        assert str(entry["family"]) in words
        assert f"{entry['largest_window']:,}" in words
    assert "485GB" in words


def test_a_model_of_few_positions_is_asked_about_fewer_blocks(call: Call, clip: Path, tmp_path: Path) -> None:
    """Its window and its k are smaller by default; what was said is done, or refused with what fits."""
    folder = publish(tmp_path / "model", "video_llava", untouched("video_llava"))
    said = json.loads((folder / "config.json").read_text())
    said["text_config"]["max_position_embeddings"] = 500
    (folder / "config.json").write_text(json.dumps(said))
    asked = ("ask", clip, "Why?", "--model", folder, "--fps", "10", "--delta", "0", "--max-tokens", "3", "--json")
    ran = call(*asked)
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert found["stream"]["window"] == 24  # seven eighths of 500, less the sink, at 17 tokens a block, less the step
    assert found["recalled"]
    assert len(found["evidence"]["blocks"][0]) == 24
    voted = json.loads(call(*asked, "--mode", "weavetime:vote=true").out)
    assert len(voted["evidence"]["blocks"][0]) == 24
    for name in (("--k", "40"), ("--mode", "weavetime:40"), ("--mode", "weavetime(vote=true,k = 40)")):
        wide = call(*asked, *name)
        assert (wide.code, wide.out) == (1, "")
        assert "at most 28 blocks fit" in wide.err
    wide = call(*asked, "--window", "40")
    assert wide.code == 1
    assert "at most 28 blocks do" in wide.err


def test_convert_warns_first_and_says_where(call: Call, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    torch.save({"weight": torch.ones(3)}, folder / "pytorch_model.bin")
    ran = call("convert", folder, tmp_path / "out")
    assert (ran.code, ran.out) == (0, f"{tmp_path / 'out'}\n")
    assert ran.err.startswith(f"weavetime: warning: {folder}'s .bin weights are pickles")
    assert "1 tensors written and checked" in ran.err
    again = call("convert", folder, tmp_path / "out")
    assert again.code == 1
    assert "already and not empty" in again.err


def test_a_shape_larger_than_the_machine_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weavetime.bench.shapes.os.sysconf", lambda name: 1)
    with pytest.raises(OutOfMemoryError, match="in float32, and there are 0 GB: use a CUDA card"):
        make("llava-onevision-0.5b", torch.device("cpu"), time_prompts=False)
