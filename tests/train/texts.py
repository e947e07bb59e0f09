"""Tiny models on disk, and a task of plain token sequences on one: all that a trainer needs, without videos."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny
from published import publish
from weavetime.train.losses import token_losses
from weavetime.train.recipe import Lora, Optimiser, Recipe, Running, Tuning
from weavetime.train.task import Size, Term
from weavetime.train.tuning import HostTask


def save_model(folder: Path, family: str, *, seed: int = 0) -> Path:
    """A tiny model with its tokenizer and preprocessor, as a folder that `weavetime.load` takes."""
    model = tiny.host(family)
    if seed:
        torch.manual_seed(seed)
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(1 + 0.1 * torch.randn_like(p))
    if family in tiny.CLIP:
        return publish(folder, family, model)
    model.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(tiny.preprocessor(family)))
    return folder


def recipe(model: Path, output: Path, **more: Any) -> Recipe:
    """A recipe for the CPU; `optimiser`, `run` and `tuning` are given as dicts or values."""
    how = {"lr": 1e-3, "max_steps": 6, "batch": 1, "accumulation": 1, "warmup": 0.0} | more.pop("optimiser", {})
    run = {"bf16": False, "workers": 0, "log_every": 1, "save_every": 2, "report_to": "none"} | more.pop("run", {})
    tuning = more.pop("tuning", Tuning(lora=Lora(r=4, alpha=8, dropout=0.1), projector=True))
    return Recipe(
        "tiny", str(model), str(output), optimiser=Optimiser(**how), run=Running(**run), tuning=tuning, **more
    )


@dataclass(frozen=True)
class Refusal:
    index: int
    where: str
    reason: str


@dataclass
class Texts(Dataset):
    """Random token sequences of several lengths, drawn anew each epoch; `bad` indices cannot be used."""

    count: int = 12
    bad: tuple[int, ...] = ()
    epoch: int = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> torch.Tensor | Refusal:
        if i in self.bad:
            return Refusal(i, f"texts:{i}", "made so")
        generator = torch.Generator().manual_seed(1000 * self.epoch + i)
        return torch.randint(0, 250, (6 + 3 * i,), generator=generator)


@dataclass
class TextBatch:
    ids: torch.Tensor
    labels: torch.Tensor
    bad: tuple[Refusal, ...] = ()


@dataclass(frozen=True)
class TextSettings:
    texts: int = 12
    bad: tuple[int, ...] = ()


class TextTask(HostTask):
    """Language modelling; the first half of a sequence is one term, the rest another. A frame of noise goes through
    the projector each time, as a video would."""

    Settings = TextSettings

    def __init__(self, recipe: Recipe, settings: TextSettings) -> None:
        super().__init__(recipe)
        self.dataset = Texts(settings.texts, settings.bad)
        self.held_out = Texts(5)
        self.shown = tiny.frames(1, size=(35, 35) if self.backbone.family == "llava_onevision" else (24, 40))
        self.seen: list[float] = []

    def collate(self, items: Sequence[Any]) -> TextBatch:
        bad = tuple(i for i in items if isinstance(i, Refusal))
        good = [i for i in items if not isinstance(i, Refusal)]
        length = max([len(i) for i in good], default=3)
        ids = torch.zeros(max(1, len(good)), length, dtype=torch.int64)
        labels = torch.full_like(ids, -100)
        for row, item in enumerate(good):
            ids[row, : len(item)] = labels[row, : len(item)] = item
        return TextBatch(ids, labels, bad)

    def size(self, batch: TextBatch) -> Size:
        return Size(int((batch.labels[:, 1:] != -100).sum()), batch.ids.numel(), len(batch.ids), batch.bad)

    def losses(self, batch: TextBatch) -> dict[str, Term]:
        backbone = self.backbone
        picture = backbone.embed(self.shown, backbone.grid(*self.shown[0].pixels.shape[:2]))
        embeds = backbone.embed_ids(batch.ids) + picture.mean(1)[:, None]
        hidden = backbone.decoder(inputs_embeds=embeds, use_cache=False).last_hidden_state
        found, where = token_losses(backbone.model.lm_head, hidden, batch.labels)
        early = where.nonzero()[:, 1] < 6
        terms = {"early": found[early], "late": found[~early]}
        self.seen.append(float(found.detach().sum()))
        return {name: Term(part.sum(), part.numel()) for name, part in terms.items()}

    def evaluate(self) -> dict[str, float]:
        return {"constant": 1.5}


def distributed_recipe(base: Path, output: Path, accumulation: int) -> Recipe:
    """Samples that are refused, an epoch's end, evaluation with an odd number of samples: the same for any number of
    processes that shares out `accumulation`."""
    return recipe(
        base,
        output,
        task="texts",
        sections={"bad": [1, 4]},
        tuning=Tuning(lora=Lora(r=4, alpha=8, dropout=0.0, targets=("q_proj", "down_proj", "lm_head")), projector=True),
        optimiser={"accumulation": accumulation, "max_steps": 5},
        run={"evaluate_every": 4},
    )
