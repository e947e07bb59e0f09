"""Settings, as frozen dataclasses. Each default is written here once; command-line options come from these fields."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import ClassVar

from .errors import ModelError

BASELINES = ("blind", "last:4")
"""What an evaluation's scores stand beside: no picture at all, and a fresh stream of the newest four."""


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """How a stream is read and remembered (docs/method.md §1).

    window: blocks a step attends to, and that stay on the device; None evicts nothing. fps: frames sampled per second.
    batch: frames encoded per call. cache: recalled blocks kept on the device, per layer; None: CACHE of
    them, and none where the device is the host, which holds them anyway.
    index_pages: pages (256 blocks) of the coarse index kept on the device. visual_only: score a block by its visual
    tokens alone; off, as published, its time-prompt tokens count like the others.

    memory: `blocks`; or `star` or `star-fixed`, Flash-VStream's own memory (docs/method.md §5), to which only fps,
    batch and star_seed say anything. star_seed: of its k-means, a whole number from 0.
    """

    window: int | None = 80
    fps: float = 1.0
    batch: int = 16
    cache: int | None = None
    index_pages: int = 16
    visual_only: bool = False
    memory: str = "blocks"
    star_seed: int = 0

    MEMORIES: ClassVar[tuple[str, ...]] = ("blocks", "star", "star-fixed")
    CACHE: ClassVar[int] = 256


@dataclass(frozen=True, slots=True)
class StarSizes:
    """Flash-VStream's own memory, as its checkpoint says it.

    abstract: rows of one token. temporal: centroids of temporal_side² tokens. retrieved: whole frames beside the last
    one. ratio: how far abstract rows move to a new frame.
    """

    abstract: int = 25
    temporal: int = 25
    temporal_side: int = 4
    retrieved: int = 3
    ratio: float = 0.2


@dataclass(frozen=True, slots=True)
class Decoding:
    """How text is decoded. temperature 0 is greedy; top_p keeps the smallest set of tokens with that mass.

    prefix is forced: it stands at the end of the prompt, before the first decoded token.
    """

    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    prefix: str = ""
    stop: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """What a model or adapter says of itself in `weavetime.json` beside its weights; None where it says nothing.

    delta, k, coarse: of the mode `weavetime`, where a question's own says none. base: of an adapter, the fingerprint of
    the model it was trained on.
    """

    time_prompts: bool | None = None
    window: int | None = None
    delta: float | None = None
    k: int | None = None
    coarse: int | None = None
    recipe: str | None = None
    trained: bool | None = None
    base: str | None = None

    FILE: ClassVar[str] = "weavetime.json"
    KINDS: ClassVar[dict[str, tuple[type, ...]]] = {
        "time_prompts": (bool,),
        "window": (int,),
        "delta": (float, int),
        "k": (int,),
        "coarse": (int,),
        "recipe": (str,),
        "trained": (bool,),
        "base": (str,),
    }

    @classmethod
    def read(cls, folder: Path) -> Record:
        """The record in a folder, or an empty one where there is none."""
        path = folder / cls.FILE
        if not path.is_file():
            return cls()
        try:
            said = json.loads(path.read_text())
            record = cls(**said)
        except (TypeError, ValueError) as e:
            raise ModelError(f"{path} is not a weavetime record: {e}") from e
        for name, kinds in cls.KINDS.items():
            value = getattr(record, name)
            if value is not None and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
                raise ModelError(f"{path}: {name} is {value!r}, and must be {' or '.join(k.__name__ for k in kinds)}")
        for name in ("window", "k", "coarse"):
            value = getattr(record, name)
            if value is not None and value < 1:
                raise ModelError(f"{path}: {name} is {value}, and must be at least 1")
        if record.delta is not None and not 0 <= record.delta < math.inf:
            raise ModelError(f"{path}: delta is {record.delta}, and must be a number from 0")
        return record

    def over(self, other: Record) -> Record:
        """This record with all that another one says in its place: an adapter's over its base's.

        coarse goes with the k it was chosen for: another k without one takes it away.
        """
        mine = self if other.k in (None, self.k) else replace(self, coarse=None)
        return replace(mine, **{k: v for k, v in asdict(other).items() if v is not None})

    def write(self, folder: Path) -> None:
        """Write the record beside the weights in `folder`."""
        known = {k: v for k, v in asdict(self).items() if v is not None}
        (folder / self.FILE).write_text(json.dumps(known, indent=2) + "\n")
