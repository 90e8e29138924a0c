"""Samples along their principal axes, where the nearest ones are found quickly.

A projection only brings samples nearer, so that what is near stays near.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

NUM_AXES = 128
AXES_SAMPLE = 10_000
# Neighbors are looked for among at most so many samples, drawn with the seed.
MAX_REFERENCE = 50_000
MIN_NEIGHBORS = 5
# Values in memory at a time, 128 MiB of them.
BLOCK_VALUES = 1 << 25
MIN_NORM = 1e-12


@dataclass(frozen=True)
class Axes:
    """Principal axes of embeddings.

    Attributes
    ----------
    mean
        ``(d,)`` float32.
    basis
        ``(d, s)`` float32, s at most `NUM_AXES`.
    unit
        Whether samples are scaled to unit length first: near is then what has a similar direction.
    """

    mean: Tensor
    basis: Tensor
    unit: bool

    @classmethod
    def of(cls, embeddings: np.ndarray, rows: np.ndarray, *, unit: bool = False) -> Axes:
        """Find the axes of some rows, of which evenly spaced ones are looked at.

        Parameters
        ----------
        embeddings
            ``(N, d)`` floats, maybe memory-mapped.
        rows
            ``(R,)`` int64.
        unit
            See the class.
        """
        sample = rows[:: math.ceil(len(rows) / AXES_SAMPLE)]
        values = _read(embeddings, sample, unit)
        mean = values.mean(0)
        size = values.shape[1]
        if size <= NUM_AXES:
            return cls(mean, torch.eye(size), unit)
        centered = values - mean
        # From the least variance to the most. In double precision: single fails to converge where
        # many features are constant.
        _, basis = torch.linalg.eigh((centered.T @ centered).double())
        return cls(mean, basis[:, -NUM_AXES:].float(), unit)

    def project(self, embeddings: np.ndarray, rows: np.ndarray, device: torch.device) -> Tensor:
        """Return some rows along the axes: ``(R, s)`` float32 on the device."""
        mean, basis = self.mean.to(device), self.basis.to(device)
        points = torch.empty(len(rows), basis.shape[1], device=device)
        step = max(1, BLOCK_VALUES // embeddings.shape[1])
        for start in range(0, len(rows), step):
            block = _read(embeddings, rows[start : start + step], self.unit)
            points[start : start + step] = (block.to(device) - mean) @ basis
        return points


def _read(embeddings: np.ndarray, rows: np.ndarray, unit: bool) -> Tensor:
    values = torch.from_numpy(np.asarray(embeddings[rows], dtype=np.float32))
    return values / values.norm(dim=1, keepdim=True).clamp_min(MIN_NORM) if unit else values


def nearest(
    queries: Tensor,
    points: Tensor,
    own: np.ndarray,
    num_neighbors: int,
    *,
    most: int = BLOCK_VALUES,
) -> Iterator[tuple[slice, np.ndarray]]:
    """Find the nearest points of each query but one, a block of queries at a time.

    Parameters
    ----------
    queries, points
        ``(Q, s)`` and ``(R, s)`` on one device; distances are Euclidean.
    own
        ``(Q,)`` int64, which point each query is and must not find, -1 where it is none of them.
    num_neighbors
        k, less than R.
    most
        Queries at a time.

    Yields
    ------
    tuple
        Which queries they are, and ``(B, k)`` int64, which of the points, nearest first.
    """
    squares = points.square().sum(1)  # (R,)
    step = max(1, min(most, BLOCK_VALUES // len(points)))
    for start in range(0, len(queries), step):
        part = slice(start, start + step)
        closeness = 2 * queries[part] @ points.T - squares  # (B, R), as good as minus the distance
        mine = torch.from_numpy(own[part]).to(points.device)
        here = torch.nonzero(mine >= 0).squeeze(1)
        closeness[here, mine[here]] = -torch.inf
        yield part, closeness.topk(num_neighbors, dim=1).indices.cpu().numpy()


def draw(rows: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Draw so many of ``(R,)`` rows at the most, in their order."""
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def default_neighbors(num_reference: int, num_classes: int, most: int) -> int:
    """Give `most`, and fewer in small data sets: a third of what a class has on average, at least 5."""
    return min(most, max(MIN_NEIGHBORS, num_reference // (3 * num_classes)))
