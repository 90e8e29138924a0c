"""Nearest neighbors, searched along principal axes for speed.

A projection only shortens distances, so that near samples stay near.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.utils.extmath import randomized_svd
from torch import Tensor

from labelaudit.memory import row_blocks

NUM_AXES = 128
AXES_SAMPLE = 10_000
# Up to this number of features, axes are exact. Their time grows with the cube of this number, so for
# more features they come from a randomized singular value decomposition of fewer samples. That many
# values are decomposed at most, but at least the last number of samples.
EXACT_FEATURES = 1536
WIDE_VALUES, WIDE_SAMPLE = 1 << 23, 1000
POWER_ITERATIONS = 2
# Largest number of samples that are searched; of more, as many are drawn with the seed.
MAX_REFERENCE = 50_000
MIN_NEIGHBORS = 5
# Number of values in memory at a time, 128 MiB of them.
BLOCK_VALUES = 1 << 25
MIN_NORM = 1e-12
# On a CPU, so many queries are compared with all points at a time: larger products do not fit into its
# cache. The points are searched in groups of the second size.
CPU_QUERIES, GROUP = 512, 64


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
        Whether samples are scaled to unit length first, so that near means a similar direction.
    """

    mean: Tensor
    basis: Tensor
    unit: bool

    @classmethod
    def of(cls, embeddings: np.ndarray, rows: np.ndarray, *, unit: bool = False) -> Axes:
        """Find the principal axes of some rows.

        Parameters
        ----------
        embeddings
            ``(N, d)`` floats, maybe memory-mapped.
        rows
            ``(R,)`` int64; of more than `AXES_SAMPLE` rows, evenly spaced ones are used, and fewer of
            more than `EXACT_FEATURES` features.
        unit
            See the class.
        """
        size = embeddings.shape[1]
        most = AXES_SAMPLE
        if size > EXACT_FEATURES:
            most = min(AXES_SAMPLE, max(WIDE_SAMPLE, WIDE_VALUES // size))
        sample = rows[:: math.ceil(len(rows) / most)]
        values = _read(embeddings, sample, unit)
        mean = values.mean(0)
        if size <= NUM_AXES:
            return cls(mean, torch.eye(size), unit)
        centered = values - mean
        if size > EXACT_FEATURES:
            # Double precision, because a single one fails to converge as below.
            _, _, found = randomized_svd(
                centered.double().numpy(),
                min(NUM_AXES, len(sample)),
                n_iter=POWER_ITERATIONS,
                random_state=0,
            )
            return cls(mean, torch.from_numpy(found.T.copy()).float(), unit)
        # Axes from the least variance to the most. Single precision fails to converge where many
        # features are constant.
        _, basis = torch.linalg.eigh((centered.T @ centered).double())
        return cls(mean, basis[:, -NUM_AXES:].float(), unit)

    def project(self, embeddings: np.ndarray, rows: np.ndarray, device: torch.device) -> Tensor:
        """Project some rows onto the axes: ``(R, s)`` float32 on the device."""
        mean, basis = self.mean.to(device), self.basis.to(device)
        points = torch.empty(len(rows), basis.shape[1], device=device)
        for part in row_blocks(len(rows), embeddings.shape[1], BLOCK_VALUES):
            block = _read(embeddings, rows[part], self.unit)
            points[part] = (block.to(device) - mean) @ basis
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
    """Find the nearest points of each query, a block of queries at a time.

    Parameters
    ----------
    queries, points
        ``(Q, s)`` and ``(R, s)`` on one device; distances are Euclidean.
    own
        ``(Q,)`` int64, for each query the point that it must not find, which is itself; -1 if there is
        none.
    num_neighbors
        k, less than R.
    most
        Largest number of queries in a block.

    Yields
    ------
    tuple
        The slice of queries, and ``(B, k)`` int64 in 0..R-1, nearest first.
    """
    table = _Table.of(points)
    step = max(1, min(most, BLOCK_VALUES // len(points)))
    if points.device.type == "cpu":
        step = min(step, CPU_QUERIES)
    # One buffer for all blocks: fresh memory would take as long as the products.
    buffer = points.new_empty(min(step, len(queries)), len(table.offsets))
    for start in range(0, len(queries), step):
        part = slice(start, start + step)
        found = table.search(queries[part], own[part], num_neighbors, buffer)
        yield part, found.cpu().numpy()


@dataclass(frozen=True)
class _Table:
    """Points in groups, so that the nearest ones are found without sorting all of them.

    Attributes
    ----------
    columns
        ``(s, G · W)``, the points, filled up with zeros to G groups of W.
    offsets
        ``(G · W,)``, minus their squared lengths; minus infinity where there is no point.
    """

    columns: Tensor
    offsets: Tensor

    @classmethod
    def of(cls, points: Tensor) -> _Table:
        size = len(points)
        padded = -(-size // GROUP) * GROUP
        columns = points.new_zeros(points.shape[1], padded)
        columns[:, :size] = points.T
        offsets = points.new_full((padded,), -torch.inf)
        offsets[:size] = -points.square().sum(1)
        return cls(columns, offsets)

    def search(
        self, queries: Tensor, own: np.ndarray, num_neighbors: int, buffer: Tensor
    ) -> Tensor:
        """Return ``(B, k)`` int64, nearest first; see `nearest`."""
        closeness = buffer[: len(queries)]  # (B, G · W), falls as the distance grows
        torch.addmm(self.offsets, queries, self.columns, alpha=2, out=closeness)
        mine = torch.from_numpy(own).to(queries.device)
        here = torch.nonzero(mine >= 0).squeeze(1)
        closeness[here, mine[here]] = -torch.inf
        groups = closeness.view(len(queries), -1, GROUP)
        if groups.shape[1] <= num_neighbors:
            return closeness.topk(num_neighbors, dim=1).indices
        # The k nearest points lie in the k groups whose nearest points are nearest.
        chosen = groups.amax(2).topk(num_neighbors, dim=1).indices  # (B, k)
        candidates = groups.gather(1, chosen[:, :, None].expand(-1, -1, GROUP)).flatten(1)
        place = candidates.topk(num_neighbors, dim=1).indices
        return chosen.gather(1, place // GROUP) * GROUP + place % GROUP


def draw(rows: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Draw at most `most` of ``(R,)`` rows with the seed, and keep their order."""
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def default_neighbors(num_reference: int, num_classes: int, most: int) -> int:
    """Return a third of the average number of samples per class, but at least 5 and at most `most`."""
    return min(most, max(MIN_NEIGHBORS, num_reference // (3 * num_classes)))
