"""What of a host model is trained, and how that is written and read back: the part tasks on a backbone share."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..backbones import Backbone, build, families
from ..backbones.adapters import WEIGHTS
from ..backbones.checkpoints import load_model, load_tokenizer, open_checkpoint
from ..backbones.identity import fingerprint
from ..backbones.merging import require_peft
from ..config import Record
from ..errors import ModelError, RecipeError
from .folders import own_dtype, write_model
from .kernels import use_liger
from .recipe import Lora, Recipe, Tuning

TOWER = re.compile(r"model\.(vision|video)_tower\.(post_layernorm|encoder\.layers\.(?P<layer>\d+))\.")


class HostTask:
    """A loaded base made ready for training: `backbone`, `module`, and its saving. Tasks add data and losses."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        checkpoint = open_checkpoint(recipe.model, families())
        dtype = torch.bfloat16 if recipe.run.bf16 else torch.float32
        host = load_model(checkpoint, dtype=dtype, device="cpu")
        self.backbone: Backbone = build(host, load_tokenizer(checkpoint), checkpoint, time_prompts=recipe.time_prompts)
        if self.backbone.frames_per_step > 1:
            raise RecipeError(f"{recipe.name}: {checkpoint.family} cannot be trained here yet, it can only be run")
        base = fingerprint(host) if recipe.tuning.lora else None
        said = Record(
            time_prompts=recipe.time_prompts, window=recipe.window, recipe=recipe.name, trained=True, base=base
        )
        self.record = checkpoint.record.over(said)
        decoder = self.backbone.decoder
        self.kernels = use_liger(decoder, recipe.run.liger)
        self.blocks: Sequence[str] = (type(decoder.layers[0]).__name__,)
        self.module: nn.Module = tune(host, checkpoint.family, recipe)

    def save(self, folder: Path, state: Mapping[str, Tensor] | None, *, final: bool) -> None:
        """LoRA: a PEFT folder. Full: a model folder, at the end in the base's own dtype. `weavetime.json` in both."""
        if self.recipe.tuning.lora is None:
            checkpoint = self.backbone.checkpoint
            dtype = own_dtype(checkpoint) if final else None
            write_model(folder, self.module, checkpoint, self.record, state=state, dtype=dtype)
            return
        # Left to itself, PEFT copies the base's embeddings into the adapter where lm_head is a target.
        module: Any = self.module
        module.save_pretrained(folder, state_dict=state, save_embedding_layers=False)
        self.record.write(folder)

    def restore(self, folder: Path) -> None:
        """Trained weights from what `save` wrote, exactly."""
        if self.recipe.tuning.lora is None:
            saved = load_model(open_checkpoint(folder, families()), dtype=torch.float32, device="cpu")
            held = dict(saved.named_parameters(remove_duplicate=False))
            with torch.no_grad():
                for name, parameter in self.module.named_parameters():
                    if parameter.requires_grad:
                        parameter.copy_(held[name])
            return
        peft = require_peft()
        outcome = peft.set_peft_model_state_dict(self.module, load_file(folder / WEIGHTS))
        names = {n for n, p in self.module.named_parameters() if p.requires_grad}
        if outcome.unexpected_keys or names & set(outcome.missing_keys):
            raise ModelError(f"{folder} does not hold what this recipe trains: was it changed since?")


def tune(host: Any, family: str, recipe: Recipe) -> nn.Module:
    """Mark what `recipe.tuning` trains, in float32; wrap with PEFT for LoRA. Raises RecipeError.

    Where the recipe says so, the decoder's layers keep no activations: the backward pass makes them anew.
    """
    tuning = recipe.tuning
    host.requires_grad_(False)
    if tuning.lora is not None:
        projector = [families()[family].projector] if tuning.projector else None
        module = _with_lora(host, tuning.lora, projector, recipe)
    else:
        module = _in_full(host, family, tuning)
    for parameter in module.parameters():
        if parameter.requires_grad:  # steps of 1e-5 are lost in bfloat16
            parameter.data = parameter.data.float()
    if recipe.run.gradient_checkpointing:  # after PEFT, which of such a model wants gradients of what enters the tower
        decoder = host.model.language_model
        name = "activation_checkpointing_enable"  # older releases have the other name alone
        enable = getattr(decoder, name, None) or decoder.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    return module


def _with_lora(host: Any, lora: Lora, projector: list[str] | None, recipe: Recipe) -> Any:
    peft = require_peft()
    pattern = "|".join(re.escape(t) for t in lora.targets if t != "lm_head")
    regex = rf"model\.language_model\..*\.({pattern})" if pattern else r"lm_head"
    regex = rf"{regex}|lm_head" if pattern and "lm_head" in lora.targets else regex
    linear = [n for n, m in host.named_modules() if isinstance(m, nn.Linear) and re.fullmatch(regex, n)]
    if idle := [t for t in lora.targets if not any(f".{n}".endswith(f".{t}") for n in linear)]:
        raise RecipeError(f"{recipe.name}: tuning.lora.targets: {', '.join(idle)} matches nothing in {recipe.model}")
    settings = peft.LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=regex,
        modules_to_save=projector,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)  # PEFT asks by the older name
        wrapped = peft.get_peft_model(host, settings)
    settings.base_model_name_or_path = recipe.model  # PEFT puts the folder on this machine there
    return wrapped


def _in_full(host: Any, family: str, tuning: Tuning) -> Any:
    parts = [host.model.language_model, host.lm_head]
    parts += [host.get_submodule(families()[family].projector)] if tuning.projector else []
    for part in parts:
        part.requires_grad_(True)
    if tuning.vision:
        host.requires_grad_(True)
        for name, parameter in host.named_parameters():
            if _unused(host.config, name):
                parameter.requires_grad_(False).data = parameter.data.float()  # it runs beside what is trained
    return host


def _unused(config: Any, name: str) -> bool:
    """Whether a weight stands behind the tower's layer whose output is taken: a process group would wait for its
    gradient."""
    found, taken = TOWER.match(name), getattr(config, "vision_feature_layer", -1)
    if found is None or not isinstance(taken, int):
        return False
    layers: int = config.vision_config.num_hidden_layers
    return found["layer"] is None or int(found["layer"]) >= (taken if taken >= 0 else layers + 1 + taken)
