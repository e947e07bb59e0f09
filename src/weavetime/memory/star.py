"""STAR, Flash-VStream's own memory, beside ours: a few hundred tokens that stand for all frames so far.

What is computed: docs/method.md §5, after arXiv 2406.08085 and its code for live streams (IVGSZ/Flash-VStream@8f6bde2,
Flash-VStream-LLaVA/flash_vstream/model/{vstream_arch,compress_functions}.py), which takes one frame at a time. So does
this, and how frames were fed changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import isqrt

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..config import StarSizes, StreamConfig
from ..errors import QuestionError
from ..ops import Rotary
from .blocks import Cells, Provisional, Sink
from .memory import Memory
from .past import Past

ITERATIONS, STILL = 10, 1e-4  # of k-means: the most there are, and the sum of moves below which nothing moved


@dataclass(frozen=True, slots=True)
class Star:
    """STAR of `frames` frames; a frame more makes another. Fixed size once there are as many frames as centroids.

    abstract: fp32 (rows, width). temporal: fp32 (rows, tokens x width). weights: fp32 (rows,), frames that each row of
    `temporal` stands for. held: frames that can be retrieved, (frames, tokens, width), seen at `times`, seconds.
    retrieved: which of those are. last: the newest frame (tokens, width).
    """

    frames: int
    abstract: Tensor
    temporal: Tensor
    weights: Tensor
    held: Tensor
    times: tuple[float, ...]
    retrieved: tuple[int, ...]
    last: Tensor

    @classmethod
    def empty(cls, like: Tensor, sizes: StarSizes) -> Star:
        """Before the first frame. like: features (tokens, width)."""
        tokens, width = like.shape
        rows = like.new_empty(0, width, dtype=torch.float32)
        wide = rows.new_empty(0, sizes.temporal_side**2 * width)
        return cls(0, rows, wide, rows.new_empty(0), like.new_empty(0, tokens, width), (), (), like.new_empty(0, width))

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(x.nbytes for f in fields(self) if isinstance(x := getattr(self, f.name), Tensor))

    def tokens(self) -> Tensor:
        """What a question reads, before the projector: abstract, temporal, retrieved, last; (tokens, width)."""
        width = self.last.shape[-1]
        parts = self.abstract, self.temporal, self.held[list(self.retrieved)], self.last
        return torch.cat([p.to(self.last.dtype).reshape(-1, width) for p in parts])

    def after(self, frame: Tensor, time: float, sizes: StarSizes, how: Clustering) -> Star:
        """With one frame more, features (tokens, width)."""
        rows = torch.cat((self.temporal, pool(frame[None], sizes.temporal_side).flatten(1)))
        weights = torch.cat((self.weights, self.weights.new_ones(1)))
        held, times = self.held, self.times
        if how.fixed or len(held) < sizes.temporal:
            held, times = torch.cat((held, frame[None])), (*times, time)
        if len(rows) > sizes.temporal:
            used = weights if how.fixed else torch.ones_like(weights)
            temporal, weights = kmeans(rows, used, sizes.temporal, np.random.default_rng([how.seed, self.frames]))
        else:
            temporal = rows
        heaviest = weights.argsort(descending=True, stable=True)[: sizes.retrieved]
        if how.fixed:
            kept = nearest(temporal, pool(held, sizes.temporal_side).flatten(1))
            held, times = held[kept], tuple(times[i] for i in kept.tolist())
            retrieved = heaviest
        else:
            # As published: the number of a cluster is taken for that of a row, and that for the number of a frame.
            retrieved = nearest(rows[heaviest], rows)
        chosen = tuple(retrieved.tolist()) if self.frames else ()  # the first frame alone retrieves nothing
        abstract = self._abstract(pool(frame[None], 1)[0], sizes)
        return Star(self.frames + 1, abstract, temporal, weights, held, times, chosen, frame)

    def _abstract(self, row: Tensor, sizes: StarSizes) -> Tensor:
        """Frames themselves while there is room, then every row moves to the new one by the same share.

        The published update weighs new rows by a softmax of queries and keys. Over one new row that is 1 whatever the
        checkpoint's projections say, so they are not needed.
        """
        if len(self.abstract) < sizes.abstract:
            return torch.cat((self.abstract, row))
        return self.abstract * (1 - sizes.ratio) + sizes.ratio * row


@dataclass(frozen=True, slots=True)
class Clustering:
    """How k-means goes. fixed: rows keep the weight of all frames they stand for, and retrieval finds frames by them;
    else as published. seed: of first centroids, and of those that lose all their rows."""

    fixed: bool
    seed: int


def pool(frames: Tensor, side: int) -> Tensor:
    """Means of neighbours, fp32: (frames, tokens, width) to (frames, side², width); tokens are a square."""
    own = isqrt(frames.shape[1])
    square = frames.float().unflatten(1, (own, own)).permute(0, 3, 1, 2)
    return functional.avg_pool2d(square, own // side).flatten(2).mT


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean, (rows of a, rows of b); of equal rows exactly 0."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def nearest(keys: Tensor, rows: Tensor) -> Tensor:
    """The row nearest to each key; of several, the first."""
    return distances(keys, rows).argmin(1)


def kmeans(rows: Tensor, weights: Tensor, count: int, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Weighted k-means of fp32 rows (n, width): centroids (count, width), and the weight of each one's rows (count,).

    Weights belong to the last assignment, which centroids that moved after it may no longer fit; as published.
    """
    centroids = rows[torch.from_numpy(draw.permutation(len(rows))[:count]).to(rows.device)]
    mass = weights
    for _ in range(ITERATIONS):
        member = functional.one_hot(nearest(rows, centroids), count).T * weights
        mass = member.sum(1)
        others = rows[torch.from_numpy(draw.integers(len(rows), size=count)).to(rows.device)]
        share = member / mass.clamp_min(torch.finfo(mass.dtype).tiny)[:, None]  # of one row alone exactly 1
        moved = torch.where(mass[:, None] > 0, share @ rows, others)
        if float((moved - centroids).norm(dim=1).sum()) < STILL:
            break
        centroids = moved
    return centroids, mass


class StarMemory(Memory):
    """A memory without blocks: what a question reads is STAR's tokens, encoded behind the sink when it is asked.

    seen: (time, end) of the newest frame, seconds. encoded: those tokens, until another frame comes.
    """

    def __init__(self, cells: Cells, sink: Sink, rotary: Rotary, config: StreamConfig, sizes: StarSizes) -> None:
        super().__init__(cells, sink, rotary, config)
        self.sizes = sizes
        self.how = Clustering(config.memory == "star-fixed", config.star_seed)
        self.star: Star | None = None
        self.seen: tuple[float, float] | None = None
        self.encoded: Provisional | None = None

    def add(self, features: Tensor, times: Sequence[tuple[float, float]]) -> None:
        """Frames (frames, tokens, width) and (time, end) of each; all of them or, on any error, none."""
        star = self.star or Star.empty(features[0], self.sizes)
        for frame, (time, _) in zip(features, times, strict=True):
            star = star.after(frame.clone(), time, self.sizes, self.how)  # a slice would keep the whole call's
        self.star, self.seen, self.encoded = star, times[-1], None

    @property
    def shown(self) -> tuple[float, ...]:
        """Times of the frames that are among the tokens whole, ascending, seconds: those retrieved and the last."""
        if self.star is None or self.seen is None:
            return ()
        return tuple(sorted({*(self.star.times[i] for i in self.star.retrieved), self.seen[0]}))

    @property
    def tiers(self) -> dict[str, int]:
        """Bytes held."""
        held = self.encoded  # once: a frame that comes meanwhile lets go of it
        encoded = () if held is None else (*held.keys, *held.values)
        star = 0 if self.star is None else self.star.nbytes
        return {**super().tiers, "star": star, "encoded": sum(t.nbytes for t in encoded)}

    @property
    def frames(self) -> int:
        """How many frames went in."""
        return 0 if self.star is None else self.star.frames

    @property
    def times(self) -> list[float]:
        """No moment can be read by its time."""
        return []

    @property
    def newest(self) -> float | None:
        """Time of the newest frame, seconds."""
        return None if self.seen is None else self.seen[0]

    @property
    def now(self) -> float:
        """The end of the newest frame, seconds; 0 before the first."""
        return 0.0 if self.seen is None else self.seen[1]

    def index(self, at: float | None = None) -> Past:
        """No block; the past is not kept. Raises QuestionError for a time before the newest frame."""
        if at is not None and self.seen is not None and at < self.seen[0]:
            raise QuestionError(
                f"at {at:g} s is in the past, and STAR is a memory of now ({self.now:g} s): ask without at, or open "
                "the stream with memory='blocks'"
            )
        return Past(self, 0, self.now if at is None else at)

    def digest(self) -> str:
        """A hash of the state."""
        h = hashlib.sha256(repr(self.seen).encode())
        for f in fields(Star) if self.star is not None else ():
            value = getattr(self.star, f.name)
            h.update(value.float().cpu().numpy().tobytes() if isinstance(value, Tensor) else repr(value).encode())
        return h.hexdigest()
