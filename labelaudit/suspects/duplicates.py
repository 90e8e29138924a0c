"""Pairs of samples that are the same, or almost, but have different labels: one label is wrong.

No model is needed to see this. If two copies of a photo have two labels, a person sees at a glance
which of them to correct.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b

import numpy as np
import pandas as pd
import torch

from labelaudit.suspects.nearest import BLOCK_VALUES, Axes, nearest
from labelaudit.suspects.summary import MAX_PAIRS

# A pair is almost the same if two conditions hold. Its distance is at most this share of the median
# distance between a sample and its nearest neighbor,
NEAR_SHARE = 0.5
# and it is an exception: in logarithms, it lies this many times as far below the median as the upper
# quartile lies above it. Of evenly spread samples one in 400 has such a near neighbor, whatever the
# number of dimensions, because the smallest of many distances follows a Weibull distribution; of
# clustered samples fewer have. The upper quartile depends least on the number of duplicates.
NEAR_SPREADS = 8.0
# Number of neighbors that are measured for each sample, and number of samples that show how far away
# nearest neighbors usually are.
NUM_NEIGHBORS = 8
NUM_PROBED = 4096

# Up to this number of samples, all are searched for near duplicates. Of more, only the most suspect
# ones are, as many as take no longer.
SEARCHED = 50_000

# With fewer features, a sample may have many others in its direction that are nearer to the origin or
# farther from it, so that neighbors by angle are not those by distance.
FEWEST_FEATURES = 64
READ_ROWS = 4096  # number of samples whose distances are measured at a time

# Places ``(B,)`` of samples among those searched, and ``(B, k)`` of their neighbors, in blocks.
Found = Iterator[tuple[np.ndarray, np.ndarray]]
# From the places ``(M,)`` of samples to their neighbors.
Search = Callable[[np.ndarray], Found]

COLUMNS = ("sample_id_a", "sample_id_b", "label_a", "label_b", "distance", "kind")


def duplicate_queries(
    most_suspect: np.ndarray, num_samples: int, *, share: float = 1.0
) -> np.ndarray | None:
    """Choose the samples whose near duplicates are searched.

    Parameters
    ----------
    most_suspect
        ``(L,)`` int64, labeled samples, the most suspect first.
    num_samples
        N.
    share
        The search may take this share of the time of a search among `SEARCHED` samples, in [0, 1].

    Returns
    -------
    np.ndarray or None
        The first ``(M,)`` of `most_suspect`; None for all samples.
    """
    if num_samples <= SEARCHED:
        return None
    return most_suspect[: int(share * SEARCHED**2) // num_samples]


def conflicting_duplicates(
    embeddings: np.ndarray,
    noisy_labels: np.ndarray,
    sample_ids: np.ndarray,
    class_names: Sequence[str],
    *,
    content_hashes: np.ndarray | None = None,
    queries: np.ndarray | None = None,
    neighbors: np.ndarray | None = None,
    device: torch.device | None = None,
    max_pairs: int = MAX_PAIRS,
) -> pd.DataFrame:
    """List pairs of labeled samples that are the same, or almost, and have different labels.

    If a sample has many copies, each copy with an uncommon label is listed once, with one that has the
    most common label.

    Parameters
    ----------
    embeddings
        ``(N, d)`` floats, maybe memory-mapped; distances are Euclidean.
    noisy_labels
        ``(N,)`` int64 in 0..C-1, -1 where unlabeled; unlabeled samples are left out.
    sample_ids
        ``(N,)`` names.
    class_names
        C names.
    content_hashes
        ``(N,)`` values that are equal for samples with the same content, such as hashes of files. By
        default samples with equal embeddings are the same.
    queries
        ``(M,)`` int64, rows whose near duplicates are searched; by default all. Time grows with M N,
        and memory with N: 50,000 times 50,000 samples with 1,280 features take seconds on two CPU
        cores.
    neighbors
        ``(L, k)`` int64 in 0..L-1, samples that are near each of the L labeled samples, nearest first.
        Near duplicates are looked for among them, without another search, if no sample has copies and
        there are at least `FEWEST_FEATURES` features.
    device
        Where to search; by default the CPU.
    max_pairs
        Largest number of pairs that are listed; the nearest ones are kept.

    Returns
    -------
    pd.DataFrame
        One row per pair: ``sample_id_a, sample_id_b, label_a, label_b, distance, kind``. Labels are
        class names, kind is "exact" or "near". Exact pairs come first, then by distance.
    """
    labeled = np.flatnonzero(noisy_labels >= 0)
    copies = _copies(embeddings, content_hashes, labeled)
    exact = _exact_pairs(copies, noisy_labels, labeled)
    # Of copies with the same label, one is enough to search for near duplicates.
    content_and_label = copies * len(class_names) + noisy_labels[labeled]
    _, first = np.unique(content_and_label, return_index=True)
    reference = labeled[np.sort(first)]
    asked = reference if queries is None else np.intersect1d(reference, queries)
    near: list[tuple[int, int, float]] = []
    if len(reference) >= 3 and len(asked):  # otherwise too few distances, or nothing to search
        wide = embeddings.shape[1] >= FEWEST_FEATURES
        if neighbors is not None and wide and len(reference) == len(labeled):
            search = _look_up(neighbors)
        else:
            search = _search_among(embeddings, reference, device or torch.device("cpu"))
        near = _near_pairs(embeddings, noisy_labels, reference, asked, search)
    content = np.full(len(noisy_labels), -1)
    content[labeled] = copies
    near = [(a, b, distance) for a, b, distance in near if content[a] != content[b]]
    rows = [(a, b, 0.0, "exact") for a, b in exact] + [(a, b, d, "near") for a, b, d in near]
    rows.sort(key=lambda row: (row[3] != "exact", row[2], row[0], row[1]))
    names = np.asarray(class_names, dtype=object)
    table = pd.DataFrame(
        [
            (sample_ids[a], sample_ids[b], *names[noisy_labels[[a, b]]], distance, kind)
            for a, b, distance, kind in rows[:max_pairs]
        ],
        columns=list(COLUMNS),
    )
    text = [name for name in COLUMNS if name != "distance"]
    return table.astype(dict.fromkeys(text, "str") | {"distance": "float64"})


def _copies(
    embeddings: np.ndarray, content_hashes: np.ndarray | None, rows: np.ndarray
) -> np.ndarray:
    """Assign a number to the content of each row: ``(M,)`` int64, equal for the same content."""
    if content_hashes is not None:
        return np.unique(content_hashes[rows], return_inverse=True)[1]
    keys = np.empty((len(rows), 2), dtype=np.uint64)
    for place, row in enumerate(rows):
        digest = blake2b(np.asarray(embeddings[row]).tobytes(), digest_size=keys[0].nbytes)
        keys[place] = np.frombuffer(digest.digest(), dtype=np.uint64)
    order = np.lexsort(keys.T)
    starts = np.diff(keys[order], axis=0, prepend=keys[order[:1]]).any(axis=1)
    numbers = np.empty(len(rows), dtype=np.int64)
    numbers[order] = np.cumsum(starts)
    return numbers


def _exact_pairs(
    copies: np.ndarray, noisy_labels: np.ndarray, rows: np.ndarray
) -> list[tuple[int, int]]:
    pairs = []
    order = np.argsort(copies, kind="stable")
    _, starts, counts = np.unique(copies[order], return_index=True, return_counts=True)
    for start, count in zip(starts[counts > 1], counts[counts > 1], strict=True):
        group = rows[order[start : start + count]]
        labels = noisy_labels[group].tolist()
        if len(set(labels)) > 1:
            common = Counter(labels).most_common(1)[0][0]
            example = int(group[labels.index(common)])
            others = [int(r) for r, label in zip(group, labels, strict=True) if label != common]
            pairs += [(min(example, other), max(example, other)) for other in others]
    return pairs


def _near_pairs(
    embeddings: np.ndarray,
    noisy_labels: np.ndarray,
    reference: np.ndarray,
    queries: np.ndarray,
    search: Search,
) -> list[tuple[int, int, float]]:
    """Return pairs ``(a, b, distance)``, a < b, with different labels."""
    spread = np.linspace(0, len(reference) - 1, min(NUM_PROBED, len(reference))).astype(np.int64)
    near_limit = _near_limit(
        distance.min(axis=1, where=distance > 0, initial=np.inf)
        for _, _, distance in _measure(embeddings, reference, search(spread))
    )
    asked = np.searchsorted(reference, queries)
    pairs: dict[tuple[int, int], float] = {}
    for rows, found, distance in _measure(embeddings, reference, search(asked), noisy_labels):
        for i, j in zip(*np.nonzero(distance <= near_limit), strict=True):
            a, b = sorted((int(rows[i]), int(found[i, j])))
            pairs[a, b] = float(distance[i, j])
    return [(a, b, distance) for (a, b), distance in pairs.items()]


def _near_limit(least: Iterable[np.ndarray]) -> float:
    """Return the distance up to which a pair is almost the same, from nearest neighbors' distances.

    Infinite distances, which stand for copies, are ignored.
    """
    distances = np.concatenate(list(least))
    distances = distances[np.isfinite(distances)]
    if not len(distances):
        return 0.0
    median, upper = np.quantile(distances, [0.5, 0.75])
    return float(median * min(NEAR_SHARE, (median / upper) ** NEAR_SPREADS))


def _search_among(embeddings: np.ndarray, reference: np.ndarray, device: torch.device) -> Search:
    """Search the neighbors along principal axes, of which not all distances are preserved."""
    points = Axes.of(embeddings, reference).project(embeddings, reference, device)  # (R, s)
    most = max(1, BLOCK_VALUES // embeddings.shape[1] // 8)
    count = min(NUM_NEIGHBORS, len(reference) - 1)

    def search(asked: np.ndarray) -> Found:
        for part, near in nearest(points[asked], points, asked, count, most=most):
            yield asked[part], near

    return search


def _look_up(neighbors: np.ndarray) -> Search:
    """Read the neighbors from ``(R, k)`` places."""

    def search(asked: np.ndarray) -> Found:
        for start in range(0, len(asked), READ_ROWS):
            here = asked[start : start + READ_ROWS]
            yield here, neighbors[here, :NUM_NEIGHBORS]

    return search


def _measure(
    embeddings: np.ndarray,
    rows: np.ndarray,
    found: Found,
    labels: np.ndarray | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Measure the distances of neighbors.

    Parameters
    ----------
    embeddings
        ``(N, d)``.
    rows
        ``(R,)`` int64, the samples that were searched.
    found
        Places ``(B,)`` in `rows`, and those of their neighbors ``(B, k)``.
    labels
        ``(N,)`` int64. With them, only neighbors with another label are measured; to the others the
        distance is infinite.

    Yields
    ------
    tuple
        Rows ``(B,)``, rows of their neighbors ``(B, k)``, and distances ``(B, k)`` float32.
    """
    for asked, near in found:
        here, neighbors = rows[asked], rows[near]
        own = torch.from_numpy(np.asarray(embeddings[here], dtype=np.float32))
        distance = np.full(neighbors.shape, np.inf, dtype=np.float32)
        for k in range(neighbors.shape[1]):  # all neighbors at once would take k times the memory
            measured = np.arange(len(here))
            if labels is not None:
                measured = np.flatnonzero(labels[neighbors[:, k]] != labels[here])
            other = embeddings[neighbors[measured, k]]
            difference = own[measured] - torch.from_numpy(np.asarray(other, dtype=np.float32))
            distance[measured, k] = difference.norm(dim=1).numpy()
        yield here, neighbors, distance
