"""Training files and their videos, written on the spot."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "video"))

from made_clips import make_clip, make_sound, number, on_screen, own_times, steady

__all__ = ["chat", "llava", "make_clip", "make_sound", "number", "on_screen", "own_times", "steady", "write_lines"]

TURNS = (("What happens, ünd why?", "It rains."), ("And then?", "It stops: 5 < 6 {x}."))


def chat(video: str, turns: Sequence[tuple[str, str]] = TURNS, **beside: Any) -> list[dict[str, Any]]:
    """A sample as chat messages."""
    messages: list[dict[str, Any]] = []
    for question, answer in turns:
        content: list[Any] = [{"type": "text", "text": question}]
        if not messages:
            content.insert(0, {"type": "video", "video": video, **beside})
        messages.append({"role": "user", "content": content})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return messages


def llava(
    video: str, turns: Sequence[tuple[str, str]] = TURNS, mark: str = "<image>\n", **beside: Any
) -> dict[str, Any]:
    """A sample as LLaVA writes it."""
    said: list[dict[str, str]] = []
    for question, answer in turns:
        said.append({"from": "human", "value": question if said else mark + question})
        said.append({"from": "gpt", "value": answer})
    return {"id": "7", "video": video, "conversations": said, **beside}


def write_lines(path: Path, samples: Sequence[Any]) -> Path:
    """Chat messages, a sample a line."""
    path.write_text("".join(json.dumps(s, ensure_ascii=False) + "\n" for s in samples), encoding="utf-8")
    return path
