"""Pickled weights to safetensors: every bit, beside the rest of the folder, or nothing at all."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import weavetime as wt
from published import publish
from tiny import untouched
from weavetime.backbones import convert as module
from weavetime.backbones.convert import convert
from weavetime.errors import ModelError

FAMILY = "flash_vstream"


@pytest.fixture
def pickled(tmp_path: Path) -> Callable[..., Path]:
    """A published folder whose weights are .bin files: in one, or in parts with or without an index."""

    def make(parts: int = 1, *, index: bool = True, change: Any = None) -> Path:
        folder = publish(tmp_path / "model", FAMILY, untouched(FAMILY))
        weights = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        weights = change(weights) if change else weights
        names = sorted(weights)
        files = {
            f"pytorch_model-{n + 1:05d}-of-{parts:05d}.bin" if parts > 1 else "pytorch_model.bin": names[n::parts]
            for n in range(parts)
        }
        for file, own in files.items():
            torch.save({name: weights[name] for name in own}, folder / file)
        if parts > 1 and index:
            places = {name: file for file, own in files.items() for name in own}
            (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
        return folder

    return make


def published_weights() -> dict[str, torch.Tensor]:
    from published import weights

    return {k: v for k, v in weights(FAMILY, untouched(FAMILY)).items() if "attention_model" not in k}


def check(out: Path) -> None:
    found: dict[str, torch.Tensor] = {}
    for path in out.glob("*.safetensors"):
        found |= load_file(path)
    for name, weight in published_weights().items():
        assert torch.equal(found[name], weight), name
    assert sum("attention_model" in name for name in found) == 10
    assert wt.load(out).backbone.family == FAMILY


@pytest.mark.parametrize(("parts", "index"), [(1, False), (3, True), (3, False)])
def test_every_weight_and_what_lies_beside(pickled: Any, tmp_path: Path, parts: int, index: bool) -> None:
    folder = pickled(parts, index=index)
    (folder / "LICENSE").write_text("terms")
    (folder / "training_args.bin").write_bytes(pickle.dumps(print))
    told: list[tuple[str, int, int]] = []
    count = convert(folder, tmp_path / "out", lambda *said: told.append(said))
    assert count == len(published_weights()) + 10
    check(tmp_path / "out")
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"config.json", "tokenizer.json", "tokenizer_config.json", "LICENSE", "model.safetensors"}
    assert told[-1][1] == told[-1][2] > 0
    assert (folder / "config.json").read_bytes() == (tmp_path / "out" / "config.json").read_bytes()


def test_many_files_and_their_index(pickled: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARD", 20_000)
    convert(pickled(2), tmp_path / "out")
    check(tmp_path / "out")
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    files = sorted(p.name for p in (tmp_path / "out").glob("*.safetensors"))
    assert sorted(set(index["weight_map"].values())) == files
    assert files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    held = sum(t.nbytes for f in files for t in load_file(tmp_path / "out" / f).values())
    assert index["metadata"]["total_size"] == held


def test_tensors_that_share_memory_or_are_views(pickled: Any, tmp_path: Path) -> None:
    def change(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        table = weights["model.embed_tokens.weight"]
        wide = torch.arange(12.0).view(3, 4)
        return {"a": table, "b": table, "c": wide.T, "d": wide[:, 1:3], "e": torch.tensor(3, dtype=torch.int64)}

    folder = pickled(change=change)
    convert(folder, tmp_path / "out")
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert torch.equal(found["a"], found["b"])
    assert found["c"].tolist() == torch.arange(12.0).view(3, 4).T.tolist()
    assert found["d"].tolist() == [[1, 2], [5, 6], [9, 10]]
    assert (found["e"].dtype, found["e"].shape, int(found["e"])) == (torch.int64, (), 3)


def test_dtypes_and_odd_values_keep_their_bits(pickled: Any, tmp_path: Path) -> None:
    odd = torch.tensor([float("nan"), float("inf"), -0.0, 1e-40])
    kinds = (torch.bfloat16, torch.float16, torch.float32)
    convert(pickled(change=lambda w: {str(k): odd.to(k) for k in kinds}), tmp_path / "out")
    for name, weight in load_file(tmp_path / "out" / "model.safetensors").items():
        kind = next(k for k in kinds if str(k) == name)
        assert weight.dtype == kind
        assert torch.equal(weight.view(torch.uint8), odd.to(kind).view(torch.uint8))


def test_the_older_way_to_save(pickled: Any, tmp_path: Path) -> None:
    folder = pickled()
    torch.save(torch.load(folder / "pytorch_model.bin"), folder / "new", _use_new_zipfile_serialization=False)
    (folder / "new").rename(folder / "pytorch_model.bin")
    convert(folder, tmp_path / "out")
    check(tmp_path / "out")


# What is refused


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def refused(folder: Path, out: Path, message: str) -> None:
    before = sorted(p.name for p in out.parent.iterdir())
    with pytest.raises(ModelError, match=message) as caught:
        convert(folder, out)
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in out.parent.iterdir()) == before


def test_anything_but_plain_weights_is_not_unpickled(pickled: Any, tmp_path: Path) -> None:
    folder, out = pickled(), tmp_path / "out"
    torch.save({"weight": torch.ones(2), "more": Evil(tmp_path / "ran")}, folder / "pytorch_model.bin")
    refused(folder, out, "more than plain weights and is not unpickled")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    refused(folder, out, "not unpickled|damaged")
    assert not (tmp_path / "ran").exists()
    for content, message in (
        ({"weight": torch.ones(2), "step": 3}, "'step' is a int"),
        ({"state_dict": {"weight": torch.ones(2)}}, "'state_dict' is a dict"),
        ([torch.ones(2)], "holds a list, not weights by name"),
        ({}, "hold no weights"),
        ({"w": torch.eye(3).to_sparse()}, "more than plain weights"),
    ):
        torch.save(content, folder / "pytorch_model.bin")
        refused(folder, out, message)


def test_files_that_are_not_whole(pickled: Any, tmp_path: Path) -> None:
    folder, out = pickled(3), tmp_path / "out"
    path = folder / "pytorch_model-00002-of-00003.bin"
    whole = path.read_bytes()
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9976578928\n"
    for content in (whole[: len(whole) // 2], b"", b"nonsense" * 9, pointer, b"<!DOCTYPE html>"):
        path.write_bytes(content)
        refused(folder, out, f"{path.name} is damaged")
    path.unlink()
    refused(folder, out, f"lacks {path.name}")
    path.write_bytes((folder / "pytorch_model-00001-of-00003.bin").read_bytes())
    refused(folder, out, "which another part holds too")
    torch.save({"other": torch.ones(1)}, path)
    refused(folder, out, "weights of its index are in no part")


def test_folders_that_are_not_for_it(pickled: Any, tmp_path: Path) -> None:
    folder, out = pickled(), tmp_path / "out"
    refused(tmp_path / "nothing", out, "is not a folder")
    out.mkdir()
    (out / "mine").write_text("")
    refused(folder, out, "already and not empty")
    (folder / "model.safetensors").write_bytes(b"")
    refused(folder, tmp_path / "other", "safetensors already")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").unlink()
    refused(folder, tmp_path / "other", "nothing to convert")


@pytest.mark.parametrize("there", [True, False])
def test_a_link_to_a_new_folder(pickled: Any, tmp_path: Path, there: bool) -> None:
    folder, out = pickled(), tmp_path / "disk" / "out"
    if there:
        out.mkdir(parents=True)
    (tmp_path / "link").symlink_to(out)
    convert(folder, tmp_path / "link")
    check(out)
    assert (tmp_path / "link").is_symlink()


def test_a_write_that_fails_leaves_nothing(pickled: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = pickled(), tmp_path / "out"
    save = module.save_file

    def wrong(weights: dict[str, torch.Tensor], path: Path, **more: Any) -> None:
        first = min(weights)
        save({**weights, first: weights[first] + 1}, path, **more)

    monkeypatch.setattr(module, "save_file", wrong)
    refused(folder, out, "reads back otherwise")
    monkeypatch.setattr(module, "save_file", lambda w, path, **more: save(dict(list(w.items())[1:]), path, **more))
    refused(folder, out, "not written whole")
