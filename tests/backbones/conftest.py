"""Tiny models of both families on disk, adapters made with PEFT itself, and a stand-in hub server on loopback."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)

FAMILIES = ("llava_onevision", "qwen2_vl")
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 96,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def tiny(family: str, *, tied: bool = False, seed: int = 0) -> Any:
    """A small host model in fp32 with a config of its own, in eval mode."""
    torch.manual_seed(seed)
    if family == "llava_onevision":
        vision = {
            "model_type": "siglip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
            "vision_use_head": False,
        }
        text = {"model_type": "qwen2", **TEXT, "tie_word_embeddings": tied}
        config = LlavaOnevisionConfig(
            vision_config=vision, text_config=text, tie_word_embeddings=tied, image_token_index=90, video_token_index=91
        )
        return LlavaOnevisionForConditionalGeneration(config).eval()
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
    config = Qwen2VLConfig(
        text_config={**TEXT, "rope_parameters": rope},
        vision_config={"depth": 2, "embed_dim": 32, "num_heads": 2, "hidden_size": 32, "mlp_ratio": 2},
        tie_word_embeddings=tied,
        image_token_id=90,
        video_token_id=91,
        vision_start_token_id=92,
        vision_end_token_id=93,
    )
    return Qwen2VLForConditionalGeneration(config).eval()


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    ids = torch.tensor([[5, 17, 3, 88, 41, 9, 60, 23]])
    return model(input_ids=ids).logits.float()


def digest(model: Any) -> str:
    """A hash over every weight, its name and dtype, and whether the head is tied."""
    h = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        h.update(f"{name} {tensor.dtype}".encode() + tensor.contiguous().view(torch.uint8).numpy().tobytes())
    h.update(str(model.lm_head.weight is model.model.language_model.embed_tokens.weight).encode())
    return h.hexdigest()


@dataclass
class Made:
    """An adapter on disk, and the logits that PEFT itself computes with it, unmerged."""

    folder: Path
    logits: torch.Tensor
    peft: Any

    def edit(self, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor] | None]) -> None:
        path = self.folder / "adapter_model.safetensors"
        weights = load_file(path)
        save_file(change(weights) or weights, path)

    def configure(self, **values: Any) -> None:
        path = self.folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


DECODER = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


def make_adapter(folder: Path, model: Any, *, record: bool = True, **settings: Any) -> Made:
    """Wrap `model` (which it uses up) with PEFT, give every trained weight a value that shows, and save."""
    import peft

    torch.manual_seed(7)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": DECODER, **settings}
    wrapped = peft.get_peft_model(model, peft.LoraConfig(**settings)).eval()
    for name, p in wrapped.named_parameters():
        if "lora_" in name or ".modules_to_save." in name:
            p.data = torch.randn_like(p) * 0.15
    wrapped.save_pretrained(folder)
    if record:
        (folder / "weavetime.json").write_text('{"time_prompts": true, "window": 144}')
    return Made(folder, logits(wrapped), wrapped)


def to_older_layout(key: str, family: str) -> str:
    """A key as PEFT wrote it on the transformers before 4.52."""
    start = "base_model.model."
    name = key.removeprefix(start)
    if family == "qwen2_vl":
        moves = {"model.language_model.": "model.", "model.visual.": "visual."}
    else:
        moves = {
            "model.language_model.": "language_model.model.",
            "lm_head": "language_model.lm_head",
            "model.vision_tower.": "vision_tower.vision_model.",
            "model.multi_modal_projector.": "multi_modal_projector.",
        }
    new = next((old + name.removeprefix(now) for now, old in moves.items() if name.startswith(now)), name)
    return start + new


@dataclass
class Stand:
    """A stand-in for a hub. `files` is what is listed; `sent` overrides what is sent; `gets` counts requests."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    sent: dict[str, bytes] = field(default_factory=dict)
    sha: dict[str, str] = field(default_factory=dict)
    listing: Any = None
    cut: bool = False  # announce the whole file, send half, hang up
    gets: list[str] = field(default_factory=list)

    def add(self, folder: Path, prefix: str = "") -> None:
        for path in folder.rglob("*"):
            if path.is_file():
                self.files[prefix + path.relative_to(folder).as_posix()] = path.read_bytes()

    def entries(self) -> list[dict[str, Any]]:
        return [
            {
                "Path": name,
                "Name": name.split("/")[-1],
                "Type": "blob",
                "Size": len(data),
                "Sha256": self.sha.get(name, hashlib.sha256(data).hexdigest()),
            }
            for name, data in self.files.items()
        ] + [{"Path": "sub", "Name": "sub", "Type": "tree", "Size": 0, "Sha256": ""}]


class _Handler(BaseHTTPRequestHandler):
    stand: Stand
    model_id = "someone/adapter"
    commit = "0123456789abcdef0123456789abcdef01234567"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        stand, url = self.stand, urlsplit(self.path)
        stand.gets.append(self.path)
        query = parse_qs(url.query)
        scope = f"/api/v1/models/{self.model_id}/repo"
        if url.path == f"{scope}/files":
            listing = {"Code": 200, "Success": True, "Data": {"Files": stand.entries()}}
            self._json(stand.listing if stand.listing is not None else listing)
        elif url.path == scope and query["FilePath"][0] in stand.files:
            self._file(query["FilePath"][0])
        elif url.path.startswith(f"/api/models/{self.model_id}/revision/"):
            self._json({"id": self.model_id, "sha": self.commit, "siblings": [{"rfilename": f} for f in stand.files]})
        elif url.path.startswith(f"/api/models/{self.model_id}/tree/"):
            self._json([{"type": "file", "path": f, "size": len(d), "oid": _oid(d)} for f, d in stand.files.items()])
        elif url.path.startswith(f"/{self.model_id}/resolve/"):
            self._file(url.path.split("/", 5)[5])
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _json(self, content: Any) -> None:
        self._send(content if isinstance(content, bytes) else json.dumps(content).encode(), {})

    def _file(self, name: str) -> None:
        data = self.stand.files[name]
        headers = {"ETag": f'"{_oid(data)}"', "X-Repo-Commit": self.commit}
        self._send(self.stand.sent.get(name, data), headers, cut=self.stand.cut)

    def _send(self, data: bytes, headers: dict[str, str], cut: bool = False) -> None:
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data[: len(data) // 2] if cut else data)


def _oid(data: bytes) -> str:
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


@pytest.fixture
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    """The server, with the ModelScope endpoint and our cache pointed at it."""
    stand = Stand()
    handler = type("Handler", (_Handler,), {"stand": stand})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    stand.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.delenv("MODELSCOPE_ENDPOINT", raising=False)
    monkeypatch.setenv("MODELSCOPE_DOMAIN", stand.url)
    monkeypatch.setenv("WEAVETIME_CACHE", str(tmp_path / "cache"))
    yield stand
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def kit() -> SimpleNamespace:
    """The makers above, for tests that cannot import this file by name."""
    return SimpleNamespace(
        tiny=tiny, logits=logits, digest=digest, make_adapter=make_adapter, to_older_layout=to_older_layout
    )
