"""The method, slowly: one query token at a time, positions as plain integers, every step on its own, in float64.

Nothing here comes from the package: strings are those of the published code, the decoder is written out from its
weights, rotary angles are computed here, and each step lays out its own view.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

QWEN = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
SINK = {
    "llava_onevision": "<|im_start|>system \nYou are a helpful assistant.<|im_end|><|im_start|>user ",
    "qwen2_vl": QWEN,
    "qwen2_5_vl": QWEN,
    "qwen3_vl": "<|im_start|>user\n",
    "longva": QWEN,
    "video_llava": "<s>USER: ",
    "flash_vstream": "<s>A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. USER: ",
}
CLIP = ("longva", "video_llava", "flash_vstream")  # nothing stands around their visual tokens
ONE_AXIS = ("llava_onevision", *CLIP)
OPENING = {family: "" if family in ONE_AXIS else "<|vision_start|>" for family in SINK}
CLOSING = {family: [] if family in CLIP else ["<|vision_end|>"] for family in SINK} | {"llava_onevision": ["newline"]}
# Rows and columns of visual tokens of 24 x 40 pixels.
VISUAL = {family: (3, 3) if family == "llava_onevision" else (3, 5) for family in SINK}
VISUAL |= {"longva": (2, 2), "video_llava": (1, 17), "flash_vstream": (2, 2)}
THETA = {"longva": 1e9}

Position = tuple[int, ...]
Choice = list[list[int]]  # per layer, blocks in time order


def clock(seconds: float) -> str:
    """Five digits, a point, one digit."""
    tenths = round(seconds * 10)
    return f"{tenths // 10:05d}.{tenths % 10}"


def time_prompt(family: str, start: float, end: float) -> str:
    head = "\n" if family in ONE_AXIS else ""
    return f"{head}Time={clock(start)}-{clock(end)}s{OPENING[family]}"


def own_steps(family: str, segments: bool) -> bool:
    """Whether each step has a text and a wrapper of its own."""
    return segments or family == "qwen3_vl"


def step_text(family: str, segments: bool, start: float, end: float) -> str:
    """What stands before a step's visual tokens.

    A pair's two frames are half a second apart, and the second ends half a second later; a frame that lacks its partner
    ends half a second after it came, and stands for both.
    """
    if segments:
        return time_prompt(family, start, end)
    mean = start + (0.25 if end - start == 1 else 0)
    return f"<{mean:.1f} seconds>{OPENING[family]}" if own_steps(family, segments) else ""


def question_text(family: str, text: str, options: Sequence[str] = ()) -> str:
    lines = "\n".join(f"({'ABCDEFGHIJ'[i]}) {option}" for i, option in enumerate(options))
    asked = f"Question: {text}\nOptions:\n{lines}\nOnly give the best option." if options else text
    prefix = "Best option: (" if options else ""
    if family == "video_llava":
        return f"\n{asked} ASSISTANT:" + (f" {prefix}" if prefix else "")
    if family == "flash_vstream":
        return f"\n{asked}ASSISTANT:{prefix}"
    if family == "longva":
        return f"\n{asked}<|im_end|>\n<|im_start|>assistant\n{prefix}"
    if family in ("llava_onevision", "qwen2_vl"):
        return f"\n{asked}<|im_end|><|im_start|>assistant\n{prefix}"
    return f"{asked}<|im_end|>\n<|im_start|>assistant\n{prefix}"


@dataclass
class Block:
    """One step: how many text tokens stand before and after its visual tokens, and what each layer remembers of it."""

    before: int
    rows: int
    columns: int
    after: int
    embeds: Tensor  # (tokens, hidden)
    time: float = 0.0
    deep: Sequence[Tensor] = ()  # per layer, what is added to visual tokens after it
    keys: list[Tensor] = field(default_factory=list)  # per layer (kv_heads, tokens, dim), un-rotated
    values: list[Tensor] = field(default_factory=list)


def ticks(times: Sequence[float], limit: int) -> list[int]:
    """Two positions a second from the first; where they pass the limit, by the widest gaps that do not, at least 1."""
    found = [math.floor(2 * t) - math.floor(2 * times[0]) for t in times]
    if not found or found[-1] <= limit:
        return found
    gaps = [b - a for a, b in pairwise(found)]
    fits = [c for c in range(1, max(gaps) + 1) if sum(min(g, c) for g in gaps) <= limit]
    return [sum(min(g, max(fits, default=1)) for g in gaps[:i]) for i in range(len(found))]


def positions(
    family: str, segments: bool, origin: int, blocks: Sequence[Block], limit: int = 2048
) -> tuple[list[list[Position]], int]:
    """Positions of each block's tokens in a view, and of the text token that follows them."""
    found: list[list[Position]] = []
    if family in ONE_AXIS:
        at = origin
        for b in blocks:
            count = b.before + b.rows * b.columns + b.after
            found.append([(at + i,) for i in range(count)])
            at += count
        return found, at
    if own_steps(family, segments):
        at = origin
        for b in blocks:
            own = [(at + i,) * 3 for i in range(b.before)]
            s = at + b.before
            own += [(s, s + y, s + x) for y in range(b.rows) for x in range(b.columns)]
            s += max(b.rows, b.columns)
            own += [(s + i,) * 3 for i in range(b.after)]
            at = s + b.after
            found.append(own)
        return found, at
    ranks = list(range(len(blocks)))
    if family == "qwen2_5_vl":
        ranks = ticks([b.time for b in blocks], limit)
    for rank, b in zip(ranks, blocks, strict=True):
        found.append([(origin + rank, origin + y, origin + x) for y in range(b.rows) for x in range(b.columns)])
    ends = [max(rank + 1, b.rows, b.columns) for rank, b in zip(ranks, blocks, strict=True)]
    return found, origin + max(ends, default=0)


class Reference:
    """A stream over one host model, encoded step by step and read token by token."""

    def __init__(self, host: Any, tokenizer: Any, family: str, *, segments: bool, window: int | None) -> None:
        self.family, self.segments, self.window, self.tokenizer = family, segments, window, tokenizer
        text = host.config.text_config
        self.limit = text.max_position_embeddings // 2
        self.heads, self.kv_heads = text.num_attention_heads, text.num_key_value_heads
        self.dim = getattr(text, "head_dim", None) or text.hidden_size // self.heads
        self.eps, self.theta = text.rms_norm_eps, THETA.get(family, 1e4)
        self.host = host
        self.table = host.model.language_model.embed_tokens.weight.double()
        self.head = host.lm_head.weight.double()
        self.final = host.model.language_model.norm.weight.double()
        self.layers = [
            {name: p.double() for name, p in layer.named_parameters()} for layer in host.model.language_model.layers
        ]
        # Which axis of a position turns each pair of a head's numbers.
        self.axis = [0] * 2 + [1] * 3 + [2] * 3
        if family in ONE_AXIS:
            self.axis = [0] * (self.dim // 2)
        if family == "qwen3_vl":
            self.axis = [0, 1, 2] * 3 + [0] * 3
        self.blocks: list[Block] = []
        self.sink_text = len(self.ids(SINK[family]))
        self.own_steps = own_steps(family, segments)
        opening = "" if self.own_steps else OPENING[family]
        self.sink = Block(0, 0, 0, 0, self.embed(self.ids(SINK[family] + opening)))
        self._forward(self.sink.embeds, [self._text(0, len(self.sink.embeds))] * len(self.layers), None, self.sink)

    # Tokens

    def ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def embed(self, ids: Sequence[int | str]) -> Tensor:
        rows = []
        for i in ids:
            if i == "newline":
                rows.append(self.host.model.image_newline.double())
            else:
                rows.append(self.table[self.tokenizer.convert_tokens_to_ids(i) if isinstance(i, str) else i])
        return torch.stack(rows) if rows else self.table.new_empty(0, self.table.shape[1])

    def _text(self, start: int, count: int) -> list[Position]:
        return [(start + i,) * (1 if self.family in ONE_AXIS else 3) for i in range(count)]

    def prompt_ids(self, text: str, options: Sequence[str] = (), *, bare: bool = False) -> list[int | str]:
        head: list[int | str] = [] if self.own_steps or bare else list(CLOSING[self.family])
        return head + self.ids(question_text(self.family, text, options))

    # The decoder

    def _rms(self, x: Tensor, weight: Tensor) -> Tensor:
        return weight * x / (x.pow(2).mean(-1, keepdim=True) + self.eps).sqrt()

    def rotate(self, x: Tensor, where: Sequence[Position]) -> Tensor:
        """x (heads, tokens, dim): each pair (i, i + dim / 2) turned by its own angle."""
        half = self.dim // 2
        out = torch.empty_like(x)
        for pair in range(half):
            speed = self.theta ** (-2 * pair / self.dim)
            angle = torch.tensor([p[self.axis[pair]] * speed for p in where], dtype=torch.float64)
            a, b = x[:, :, pair], x[:, :, pair + half]
            out[:, :, pair] = a * angle.cos() - b * angle.sin()
            out[:, :, pair + half] = b * angle.cos() + a * angle.sin()
        return out

    def _attend(self, q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """One query token: q (heads, dim), keys and values (kv_heads, tokens, dim)."""
        group = self.heads // self.kv_heads
        heads = []
        for h in range(self.heads):
            weights = torch.softmax(keys[h // group] @ q[h] / math.sqrt(self.dim), 0)
            heads.append(weights @ values[h // group])
        return torch.cat(heads)

    def _forward(
        self, x: Tensor, own: Sequence[list[Position]], views: Any, keep: Block | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Hidden states after each layer (the last one normed), and each layer's un-rotated queries.

        own: per layer, positions of the tokens. views: layer -> keys (rotated) and values of what comes before, or
        None; a callable may look at the layer's queries first and gives the tokens' positions too.
        """
        hidden, queries = [], []
        for n, w in enumerate(self.layers):
            h = self._rms(x, w["input_layernorm.weight"])
            q, k, v = (
                (h @ w[f"self_attn.{p}_proj.weight"].T + w.get(f"self_attn.{p}_proj.bias", 0))
                .view(len(x), -1, self.dim)
                .transpose(0, 1)
                for p in "qkv"
            )
            if "self_attn.q_norm.weight" in w:
                q, k = (self._rms(z, w[f"self_attn.{p}_norm.weight"]) for p, z in (("q", q), ("k", k)))
            queries.append(q)
            if keep is not None:
                keep.keys.append(k)
                keep.values.append(v)
            where = own[n] if own else None
            past_k, past_v = k[:, :0], v[:, :0]
            if views is not None:
                past_k, past_v, *asked = views(n, q)
                where = asked[0] if asked else where
            rq, rk = self.rotate(q, where), self.rotate(k, where)
            out = []
            for i in range(len(x)):
                keys = torch.cat((past_k, rk[:, : i + 1]), 1)
                values = torch.cat((past_v, v[:, : i + 1]), 1)
                out.append(self._attend(rq[:, i], keys, values))
            x = x + torch.stack(out) @ w["self_attn.o_proj.weight"].T
            h = self._rms(x, w["post_attention_layernorm.weight"])
            gate, up = h @ w["mlp.gate_proj.weight"].T, h @ w["mlp.up_proj.weight"].T
            x = x + (gate * torch.sigmoid(gate) * up) @ w["mlp.down_proj.weight"].T
            if keep is not None and n < len(keep.deep):
                x = x.clone()
                x[keep.before : keep.before + len(keep.deep[n])] += keep.deep[n]
            hidden.append(x)
        hidden[-1] = self._rms(x, self.final)
        return hidden, queries

    def _view(
        self, layer: int, blocks: Sequence[Block], *, bare: bool = False, then: Sequence[Block] = ()
    ) -> tuple[Tensor, Tensor, int]:
        """Rotated keys and values of `sink | blocks`, and where text goes on. then: a block that follows them."""
        count = self.sink_text if bare else len(self.sink.embeds)
        where, end = positions(self.family, self.segments, count, [*blocks, *then], self.limit)
        where = where[: len(blocks)]
        keys = [self.rotate(self.sink.keys[layer][:, :count], self._text(0, count))]
        keys += [self.rotate(b.keys[layer], p) for b, p in zip(blocks, where, strict=True)]
        values = [self.sink.values[layer][:, :count], *(b.values[layer] for b in blocks)]
        return torch.cat(keys, 1), torch.cat(values, 1), end

    # The stream

    def feed(self, features: Tensor, times: Sequence[tuple[float, float]]) -> None:
        """features: visual tokens of each step, (steps, tokens, hidden), and behind them what comes in deeper."""
        for visual, (start, end) in zip(features, times, strict=True):
            before = self.ids(step_text(self.family, self.segments, start, end))
            after = CLOSING[self.family] if self.own_steps else []
            tokens, *deep = visual.double().split(self.table.shape[1], -1)
            embeds = torch.cat((self.embed(before), tokens, self.embed(after)))
            rows, columns = VISUAL[self.family]
            block = Block(len(before), rows, columns, len(after), embeds, start, deep)
            seen = self.blocks if self.window is None else self.blocks[-self.window :]
            origin = len(self.sink.embeds)
            own = positions(self.family, self.segments, origin, [*seen, block], self.limit)[0][-1]

            def view(
                layer: int, q: Tensor, seen: Sequence[Block] = seen, block: Block = block
            ) -> tuple[Tensor, Tensor]:
                return self._view(layer, seen, then=[block])[:2]

            self._forward(embeds, [own] * len(self.layers), view, block)
            self.blocks.append(block)

    # Questions

    def read(self, ids: Sequence[int | str], choice: Choice, *, bare: bool = False) -> Reading:
        """Every token of a prompt over the blocks chosen for each layer."""

        def view(layer: int, q: Tensor) -> tuple[Tensor, Tensor, list[Position]]:
            keys, values, end = self._view(layer, [self.blocks[b] for b in choice[layer]], bare=bare)
            return keys, values, self._text(end, len(ids))

        hidden, queries = self._forward(self.embed(ids), [], view)
        return Reading(self, hidden, queries)

    def same(self, blocks: Sequence[int]) -> Choice:
        return [list(blocks)] * len(self.layers)

    def greedy(self, ids: Sequence[int | str], choice: Choice, count: int, *, bare: bool = False) -> list[int]:
        """`count` tokens, the whole prompt read again for each."""
        said: list[int] = []
        for _ in range(count):
            said.append(int(self.read([*ids, *said], choice, bare=bare).logits[-1].argmax()))
        return said

    # Focus

    def vectors(self, q: Tensor) -> Tensor:
        """Question tokens as vectors: query heads averaged per KV group, KV heads side by side."""
        group = self.heads // self.kv_heads
        rows = []
        for token in range(q.shape[1]):
            rows.append(torch.cat([q[h * group : (h + 1) * group, token].mean(0) for h in range(self.kv_heads)]))
        return torch.stack(rows)

    def _keys(self, layer: int, block: int) -> Tensor:
        """A block's keys, KV heads side by side: (tokens, width)."""
        k = self.blocks[block].keys[layer]
        return torch.cat([k[h] for h in range(self.kv_heads)], 1)

    def coarse(self, layer: int, q: Tensor, count: int) -> list[float]:
        question = self.vectors(q).mean(0)
        return [float(question @ self._keys(layer, b).mean(0)) for b in range(count)]

    def fine(self, layer: int, q: Tensor, count: int) -> list[float]:
        scores = []
        for b in range(count):
            keys = self._keys(layer, b)
            best = [max(float(word @ key) for key in keys) for word in self.vectors(q)]
            scores.append(sum(best) / len(best))
        return scores

    def coarse_to_fine(self, queries: Sequence[Tensor], count: int, k: int, factor: int = 3) -> Choice:
        """Steps 3 and 4 of docs/method.md §3 with default settings."""
        chosen = []
        for layer, q in enumerate(queries):
            coarse, fine = self.coarse(layer, q, count), self.fine(layer, q, count)
            candidates = best(coarse, factor * k)
            chosen.append(sorted(sorted(candidates, key=lambda b: (-fine[b], -b))[:k]))
        return chosen

    def rekv(self, text: str, count: int, k: int) -> Choice:
        """One pass over the question's text; each layer picks by its own queries and reads what it picked."""
        ids, picked = self.ids(text), []

        def view(layer: int, q: Tensor) -> tuple[Tensor, Tensor, list[Position]]:
            picked.append(best(self.coarse(layer, q, count), k))
            keys, values, end = self._view(layer, [self.blocks[b] for b in picked[-1]])
            return keys, values, self._text(end, len(ids))

        self._forward(self.embed(ids), [], view)
        return picked


def best(scores: Sequence[float], k: int) -> list[int]:
    """The k largest, ties to the more recent, in time order."""
    return sorted(sorted(range(len(scores)), key=lambda b: (-scores[b], -b))[:k])


@dataclass
class Reading:
    """What a prompt's tokens came to."""

    reference: Reference
    hidden: list[Tensor]  # per layer (tokens, hidden); the last is normed
    queries: list[Tensor]  # per layer (heads, tokens, dim), un-rotated

    @property
    def logits(self) -> Tensor:
        return self.hidden[-1] @ self.reference.head.T

    def gate(self, layers: int = 1) -> float:
        """Mean over the last layers of the entropy of the ten likeliest next tokens, over ln 10."""
        found = []
        for n, hidden in list(enumerate(self.hidden))[-layers:]:
            last = hidden[-1]
            if n + 1 < len(self.hidden):
                last = self.reference._rms(last, self.reference.final)
            top = sorted((last @ self.reference.head.T).tolist(), reverse=True)[:10]
            weights = [math.exp(t - top[0]) for t in top]
            p = [w / sum(weights) for w in weights]
            found.append(-sum(x * math.log(x) for x in p if x > 0) / math.log(10))
        return sum(found) / len(found)
