"""A recipe: all that a training run is, as one YAML file. Each default is a field here or in the task's settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml

from ..config import StreamConfig
from ..errors import RecipeError
from .reading import build, nearest

DECODER_LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class Lora:
    """Low-rank adapters on the language model. targets: endings of module names, `lm_head` among them or not."""

    r: int = 128
    alpha: float = 256
    dropout: float = 0.05
    targets: tuple[str, ...] = DECODER_LINEARS


@dataclass(frozen=True, slots=True)
class Tuning:
    """What is trained: `lora`, or `full` for all of the language model and its head.

    projector: the vision-language projector in full besides. vision: the tower too, with `full` alone.
    """

    lora: Lora | None = None
    full: bool = False
    projector: bool = False
    vision: bool = False


WHOLE = "optimiser.kind muon needs whole matrices, which FSDP and DeepSpeed cut up: say adamw"


@dataclass(frozen=True, slots=True)
class Optimiser:
    """kind: AdamW, or Muon for the matrices of linear layers and AdamW for the rest.

    batch: samples a process and forward; accumulation: forwards a step. warmup: share of the steps. max_steps, where
    given, stands over epochs. max_grad_norm 0 clips nothing.
    """

    kind: Literal["adamw", "muon"] = "adamw"
    lr: float = 1e-5
    schedule: Literal["cosine", "linear", "constant", "constant_with_warmup"] = "cosine"
    warmup: float = 0.03
    weight_decay: float = 0.0
    beta2: float = 0.999
    max_grad_norm: float = 1.0
    batch: int = 1
    accumulation: int = 1
    epochs: float = 1.0
    max_steps: int | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """How the run goes; nothing here but bf16 and seed (of dropout and the order of samples) changes what is learnt.

    liger: its kernels in the language model, `auto` where the package and a CUDA card are there. workers: processes
    that read samples. evaluate_every, save_every, log_every: steps. keep: checkpoints kept. max_bad: samples that
    cannot be used before the run stops, over all processes. deepspeed: zero2, zero3 or a DeepSpeed JSON file.
    """

    bf16: bool = True
    gradient_checkpointing: bool = True
    liger: Literal["auto", "on", "off"] = "auto"
    seed: int = 0
    workers: int = 4
    log_every: int = 10
    save_every: int = 500
    keep: int = 3
    evaluate_every: int | None = None
    max_bad: int = 100
    report_to: Literal["auto", "tensorboard", "none"] = "auto"
    deepspeed: str | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """A training run. model: as in `weavetime.load`. output: its folder. window: recorded beside the weights.

    sections: what is left of the file, for the task's own settings.
    """

    name: str
    model: str
    output: str = ""
    task: str = "samples"
    time_prompts: bool = True
    window: int | None = StreamConfig().window
    tuning: Tuning = Tuning(lora=Lora())
    optimiser: Optimiser = Optimiser()
    run: Running = Running()
    sections: Mapping[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """As YAML: read again, the same recipe."""
        values = asdict(self)
        del values["name"]
        sections = values.pop("sections")
        lora = values["tuning"]["lora"]
        if lora is not None:
            lora["targets"] = list(lora["targets"])
        return {**values, **sections}


def shipped() -> dict[str, Path]:
    """The recipes of the package, by name."""
    folder = Path(str(files("weavetime"))) / "train" / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def launch_files() -> dict[str, Path]:
    """Launch settings of the package, by name: accelerate's (ddp, fsdp) and DeepSpeed's (zero2, zero3)."""
    folder = Path(str(files("weavetime"))) / "train" / "launch"
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix in (".yaml", ".json")}


def read_recipe(name: str | Path, changes: Iterable[str] = ()) -> Recipe:
    """A shipped recipe by name, or a YAML file; `changes` are KEY=VALUE, with dots inside sections.

    Raises RecipeError: no such recipe, an unknown key, a value of the wrong kind or out of range.
    """
    known = shipped()
    path = known.get(str(name)) or Path(name).expanduser()
    if not path.is_file():
        raise RecipeError(f"no recipe {str(name)!r}{nearest(str(name), known)}; or give a YAML file")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as e:
        raise RecipeError(f"{path} cannot be read as YAML: {' '.join(str(e).split())}") from e
    if not isinstance(values, dict):
        raise RecipeError(f"{path} holds no recipe: names and values are expected")
    for change in changes:
        _set(values, change)
    return _recipe(path.stem, values)


def _recipe(name: str, values: dict[str, Any]) -> Recipe:
    own = {f.name for f in fields(Recipe)} - {"name", "sections"}
    sections = {k: v for k, v in values.items() if k not in own}
    recipe = build(Recipe, {"name": name, **{k: v for k, v in values.items() if k in own}}, name)
    recipe = replace(recipe, sections=sections)
    _check(recipe)
    return recipe


def _set(values: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise RecipeError(f"--set takes KEY=VALUE, as in optimiser.lr=2e-5, got {change!r}")
    node = values
    for step in path[:-1]:
        if node.get(step) is None:
            node[step] = {}
        node = node[step]
        if not isinstance(node, dict):
            raise RecipeError(f"--set {change}: {step} is no section")
    try:
        node[path[-1]] = yaml.safe_load(text)
    except yaml.YAMLError as e:
        raise RecipeError(f"--set {change}: the value is not YAML ({' '.join(str(e).split())})") from e


def _check(recipe: Recipe) -> None:
    tuning, optimiser, run = recipe.tuning, recipe.optimiser, recipe.run
    if (tuning.lora is None) == (not tuning.full):
        raise RecipeError(f"{recipe.name}: tuning needs either lora or full: true")
    if tuning.vision and not tuning.full:
        raise RecipeError(f"{recipe.name}: tuning.vision goes with full: true alone")
    if optimiser.kind == "muon" and run.deepspeed is not None:
        raise RecipeError(f"{recipe.name}: {WHOLE}")
    rules = [
        ("window", recipe.window is None or recipe.window >= 1, "at least 1"),
        ("optimiser.lr", 0 < optimiser.lr < float("inf"), "more than 0"),
        ("optimiser.warmup", 0 <= optimiser.warmup < 1, "a share of the steps, from 0 and below 1"),
        ("optimiser.weight_decay", optimiser.weight_decay >= 0, "at least 0"),
        ("optimiser.max_grad_norm", optimiser.max_grad_norm >= 0, "at least 0"),
        ("optimiser.batch", optimiser.batch >= 1, "at least 1"),
        ("optimiser.accumulation", optimiser.accumulation >= 1, "at least 1"),
        ("optimiser.epochs", 0 < optimiser.epochs < float("inf"), "more than 0"),
        ("optimiser.max_steps", optimiser.max_steps is None or optimiser.max_steps >= 1, "at least 1"),
        ("run.workers", run.workers >= 0, "at least 0"),
        ("run.log_every", run.log_every >= 1, "at least 1"),
        ("run.save_every", run.save_every >= 1, "at least 1"),
        ("run.keep", run.keep >= 1, "at least 1"),
        ("run.evaluate_every", run.evaluate_every is None or run.evaluate_every >= 1, "at least 1"),
        ("run.max_bad", run.max_bad >= 0, "at least 0"),
    ]
    if tuning.lora is not None:
        lora = tuning.lora
        rules += [
            ("tuning.lora.r", lora.r >= 1, "at least 1"),
            ("tuning.lora.alpha", lora.alpha > 0, "more than 0"),
            ("tuning.lora.dropout", 0 <= lora.dropout < 1, "from 0 and below 1"),
            ("tuning.lora.targets", bool(lora.targets), "at least one module"),
        ]
    for key, fine, wanted in rules:
        if not fine:
            raise RecipeError(f"{recipe.name}: {key} must be {wanted}")
