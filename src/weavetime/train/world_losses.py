"""What a model is taught in StreamWorld: answers, true orders, the names of what it sees, and where to look."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..backbones import Backbone
from ..backbones.values import NEWLINE
from ..world import Atlas, Renderer, Script
from .kernels import without_cudnn_attention
from .streaming import Places, Shape, StreamPass, compiled, members
from .worlds import AHEAD, ANSWER, RECONSTRUCTION, WorldBatch, names

POSITIONS = 8192
LEAST = -1e4  # a score that never counts; an infinite one would make gradients of nothing
TERMS = ("answer", "reconstruction", "ahead", "names", "arrivals", "retrieval")
PARTS = {"answer": ANSWER, "reconstruction": RECONSTRUCTION, "ahead": AHEAD}


@dataclass(frozen=True)
class Seen:
    """One forward of a batch: hidden states by their place, and the pass that made them.

    steps: of picture tokens, ends: of the last token of each step, both half way through the layers, normed: what is
    known there the layers above can read, what is known at the end nothing reads. questions: last ones.
    """

    steps: Tensor
    ends: Tensor
    questions: Tensor
    features: Tensor
    plan: StreamPass


class WorldLosses:
    """Losses of a batch on a backbone's model, which is `switched` around the call. fused: compile what can be."""

    def __init__(self, backbone: Backbone, window: int, size: int, *, fused: bool = False) -> None:
        self.backbone, self.window, self.fused = backbone, window, fused
        device = next(backbone.model.parameters()).device
        self.sink = backbone.sink[0].to(device)
        self.angles = backbone.rotary.angles(torch.arange(POSITIONS)[None], torch.zeros(1, device=device))
        # A name is one token after a space and another at the start of an answer.
        forms = [[backbone.encode(lead + n)[-1] for lead in (" ", "")] for n in names()]
        self.forms = torch.tensor(forms, device=device)
        example = [Renderer(Script(i, 16, "train"), size).plan(s) for i in range(4) for s in range(16)]
        compose = Atlas(example, size, device).compose
        self.compose = compiled(compose) if fused else compose
        # A fixed rotation keeps the second of two names that one token holds apart from the first.
        width = backbone.decoder.embed_tokens.weight.shape[1]
        drawn = torch.randn(width, width, generator=torch.Generator().manual_seed(0))
        self.turn = torch.linalg.qr(drawn).Q.to(device)
        self.places: dict[Shape, Places] = {}
        if fused:
            self._fuse()

    def _fuse(self) -> None:
        # Compiled code is kept on disk by what it computes, whichever attention was allowed when it was compiled.
        torch.compiler.config.cache_key_tag = "weavetime, without cuDNN's attention"
        for layer in self.backbone.decoder.layers:
            for part in (layer.mlp, layer.input_layernorm, layer.post_attention_layernorm):
                part.compile(dynamic=False)
        for module in self.backbone.vision.modules():
            if type(module).__name__.endswith("EncoderLayer"):
                module.compile(dynamic=False)

    def seen(self, batch: WorldBatch) -> Seen:
        """Run the model."""
        backbone = self.backbone
        streams, steps = batch.canvas.shape[:2]
        pixels = self.compose(batch.backdrops, batch.canvas, batch.layers).flatten(0, 1).float()
        features = backbone.features(pixels, backbone.grid(*pixels.shape[-2:])).unflatten(0, (streams, steps))
        block, first = features, 0
        if backbone.time_prompts:
            newline = backbone.newline.to(features.dtype).expand(streams, steps, 1, -1)
            block = torch.cat([self._embed(batch.times, features), features, newline], 2)
            first = batch.times.shape[-1]
        sink = self._embed(self.sink, features).expand(streams, -1, -1)
        embeds = torch.cat([sink, block.flatten(1, 2), self._embed(batch.ids, features).flatten(1, 2)], 1)
        shape = Shape(streams, len(self.sink), steps, block.shape[2], *batch.ids.shape[1:])
        if shape not in self.places:
            fused = self.fused and shape.questions > 1  # of the few streams told in a wrong order it would save nothing
            self.places[shape] = Places.of(shape, self.window, self.angles, fused=fused)
        given = batch.views, batch.chooser, batch.before, batch.prompts
        plan = StreamPass(self.places[shape], *given, retrieval=shape.questions > 1)
        ranks = torch.arange(embeds.shape[1], device=embeds.device)[None]
        middle: list[Tensor] = []
        layers = backbone.decoder.layers
        hook = layers[len(layers) // 2].register_forward_pre_hook(lambda _, given: middle.append(given[0]))
        with hook:
            out = backbone.decoder(inputs_embeds=embeds, position_ids=ranks, use_cache=False, memory=plan)
        asked = out.last_hidden_state[:, shape.asked :].unflatten(1, batch.ids.shape[1:])
        half = backbone.decoder.norm(middle[0][:, shape.sink : shape.asked])
        blocks = half.unflatten(1, (steps, shape.tokens))
        return Seen(blocks[:, :, first : first + features.shape[2]], blocks[:, :, -1], asked, features, plan)

    def _embed(self, ids: Tensor, like: Tensor) -> Tensor:
        rows = self.backbone.decoder.embed_tokens(ids.clamp_min(0))
        return torch.where((ids == NEWLINE)[..., None], self.backbone.newline.to(rows.dtype), rows).to(like.dtype)

    def __call__(self, batch: WorldBatch) -> tuple[Tensor, Tensor]:
        """Sum and count of every one of TERMS, fp32 (terms, 2); which of `answers` were predicted, bool."""
        many = batch.views.shape[1] > 1  # streams told in a wrong order have one question, about all of them
        with without_cudnn_attention():
            seen = self.seen(batch)
        found, right = self._text(seen, batch)
        found["names"] = self._names(seen, batch)
        if many:
            found["arrivals"] = self._arrivals(seen, batch)
            found["retrieval"] = self._retrieval(seen, batch)
        nothing = torch.zeros(2, device=right.device)
        return torch.stack([found.get(term, nothing) for term in TERMS]), right

    def _text(self, seen: Seen, batch: WorldBatch) -> tuple[dict[str, Tensor], Tensor]:
        at, labels, parts = batch.answers.unbind(-1)
        hidden = seen.questions.flatten(0, 2).index_select(0, at)
        logits = self.backbone.model.lm_head(hidden).float()
        loss = functional.cross_entropy(logits, labels, reduction="none")
        chosen = {name: (parts == part).float() for name, part in PARTS.items()}
        found = {name: torch.stack([(loss * c).sum(), c.sum()]) for name, c in chosen.items()}
        return found, (logits.detach().argmax(-1) == labels) & (parts > 0)

    def _names(self, seen: Seen, batch: WorldBatch) -> Tensor:
        """Cross-entropy of picture tokens against the names they show, before the language model and half way."""
        rows = self.backbone.decoder.embed_tokens.weight.index_select(0, self.forms.flatten())
        labelled = batch.things >= 0
        share = labelled / labelled.sum(-1, keepdim=True).clamp_min(1)
        # Without time prompts a step's last token is a picture's, and is to hold what came last: no other name as well.
        half = share if self.backbone.time_prompts else functional.pad(share[:, :, :-1], (0, 0, 0, 1))
        total = torch.zeros((), device=rows.device)
        for hidden, counted in ((self.backbone.decoder.norm(seen.features.to(rows.dtype)), share), (seen.steps, half)):
            logits = (hidden @ rows.to(hidden.dtype).T).float()
            likely = logits.log_softmax(-1).unflatten(-1, (-1, 2)).mean(-1)  # both forms of a name alike
            total = total - (likely.gather(-1, batch.things.clamp_min(0)) * counted).sum()
        return torch.stack([total / 2, labelled.any(-1).float().sum()])

    def _arrivals(self, seen: Seen, batch: WorldBatch) -> Tensor:
        """Cross-entropy of each step's last token against the kind that came last, and turned, the one before it."""
        rows = self.backbone.decoder.embed_tokens.weight.index_select(0, self.forms.flatten())
        known = batch.arrivals >= 0
        both = torch.stack([seen.ends, seen.ends @ self.turn.to(seen.ends.dtype)], 2)
        likely = (both @ rows.to(both.dtype).T).float().log_softmax(-1).unflatten(-1, (-1, 2)).mean(-1)
        loss = -likely.gather(-1, batch.arrivals.clamp_min(0)[..., None])[..., 0]
        return torch.stack([(loss * known).sum(), known.float().sum()])

    def _retrieval(self, seen: Seen, batch: WorldBatch) -> Tensor:
        """For each part of the evidence: its blocks against all others that could be seen, in every layer."""
        wanted = batch.wanted
        hidden = torch.arange(wanted.shape[-1], device=wanted.device) >= batch.before[..., None]
        hidden = hidden | wanted.any(-2)
        spans = wanted.any(-1)
        total = torch.zeros((), device=wanted.device)
        for pair in seen.plan.similarities:
            for scores in pair:
                scaled = scores.float() * self.backbone.head_dim**-0.5
                rest = scaled.masked_fill(hidden, LEAST).logsumexp(-1)[..., None]
                here = scaled[..., None, :].masked_fill(~wanted, LEAST).logsumexp(-1)
                total = total + (functional.softplus(rest - here) * spans).sum()
        return torch.stack([total / (2 * len(seen.plan.similarities)), spans.float().sum()])


def first_tokens(batch: WorldBatch, right: Tensor) -> tuple[Tensor, Tensor]:
    """By question: whether the first token of its answer was predicted, and whether its view held the evidence.

    Both bool (streams, questions). Of views that layers choose it is taken that they do.
    """
    rows, at = batch.ids.shape[:2], batch.answers
    mine = at[:, 2] == ANSWER
    row = at[mine, 0] // batch.ids.shape[-1]
    first = torch.ones_like(row, dtype=torch.bool)
    first[1:] = row[1:] != row[:-1]
    hit = torch.zeros(rows.numel(), dtype=torch.bool, device=right.device)
    hit[row[first]] = right[mine][first]
    viewed = members(batch.views[:, :, 0], batch.wanted.shape[-1])  # what one layer lacks of the evidence, all lack
    held = (batch.wanted & viewed[..., None, :]).any(-1) | ~batch.wanted.any(-1)
    return hit.view(rows), held.all(-1) | (batch.chooser >= 0)
