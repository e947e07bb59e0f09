"""STAR, slowly: in float64, every frame kept, rows and frames as lists, one at a time.

After the published code for live streams (IVGSZ/Flash-VStream@8f6bde2, embed_video_streaming and
weighted_kmeans_feature), with its random draws taken from a generator that is made anew for each frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

Array = np.ndarray
LONG, KEYS, RATIO, HEAD = 25, 3, 0.2, 32


def pooled(frame: Array, side: int) -> list[Array]:
    """Means of neighbours of a frame (8 x 8, width), row by row."""
    step, found = 8 // side, []
    for top in range(0, 8, step):
        for left in range(0, 8, step):
            own = [frame[8 * (top + y) + left + x] for y in range(step) for x in range(step)]
            found.append(np.mean(own, 0))
    return found


def flat(frame: Array) -> Array:
    return np.concatenate(pooled(frame, 4))


def first_least(values: Sequence[float]) -> int:
    return min(range(len(values)), key=lambda i: (values[i], i))


def heaviest(weights: Sequence[float]) -> list[int]:
    return sorted(range(len(weights)), key=lambda i: (-weights[i], i))[:KEYS]


def clusters(rows: list[Array], weights: list[float], draw: np.random.Generator) -> tuple[list[Array], list[float]]:
    centroids = [rows[i] for i in draw.permutation(len(rows))[:LONG]]
    for _ in range(10):
        labels = [first_least([float(np.linalg.norm(row - c)) for c in centroids]) for row in rows]
        spare = draw.integers(len(rows), size=LONG)
        sums, moved = [], []
        for j in range(LONG):
            own = [i for i, label in enumerate(labels) if label == j]
            sums.append(sum(weights[i] for i in own))
            total = sum((weights[i] * rows[i] for i in own), np.zeros_like(rows[0]))
            moved.append(total / sums[j] if sums[j] > 0 else rows[spare[j]])
        if sum(float(np.linalg.norm(a - b)) for a, b in zip(centroids, moved, strict=True)) < 1e-4:
            break
        centroids = moved
    return centroids, sums


@dataclass
class Reference:
    """fixed: with weights that stay, and frames found by centroids among those that are still held."""

    fixed: bool
    seed: int
    queries: Array
    keys: Array
    buffer: list[Array] = field(default_factory=list)
    abstract: list[Array] = field(default_factory=list)
    temporal: list[Array] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    held: list[int] = field(default_factory=list)
    retrieved: list[int] = field(default_factory=list)

    def add(self, frame: Array) -> None:
        number = len(self.buffer)
        self.buffer.append(frame)
        rows = [*self.temporal, flat(frame)]
        weights = [*self.weights, 1.0] if self.fixed else [1.0] * len(rows)
        self.temporal, self.weights = rows, weights
        if len(rows) > LONG:
            self.temporal, self.weights = clusters(rows, weights, np.random.default_rng([self.seed, number]))
        best = heaviest(self.weights)
        if self.fixed:
            known = [*self.held, number]
            small = [flat(self.buffer[i]) for i in known]
            self.held = [known[first_least([float(np.linalg.norm(c - s)) for s in small])] for c in self.temporal]
            self.retrieved = [self.held[i] for i in best]
        else:  # rows by the numbers of clusters, frames of the whole stream by the numbers of rows
            self.retrieved = [first_least([float(np.linalg.norm(row - rows[i])) for row in rows]) for i in best]
        if number == 0:
            self.retrieved = []
        self.attend(pooled(frame, 1)[0])

    def attend(self, new: Array) -> None:
        if len(self.abstract) < LONG:
            self.abstract.append(new)
            return
        for i, row in enumerate(self.abstract):
            scores = np.array([(self.queries @ row) @ (self.keys @ x) for x in [new]]) / np.sqrt(HEAD)
            share = RATIO * np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
            self.abstract[i] = (1 - share.sum()) * row + share[0] * new

    def tokens(self) -> Array:
        width = self.buffer[0].shape[1]
        whole = [token for i in [*self.retrieved, len(self.buffer) - 1] for token in self.buffer[i]]
        return np.stack([*self.abstract, *(t for row in self.temporal for t in row.reshape(-1, width)), *whole])
