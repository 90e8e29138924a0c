"""Pairs of samples that are the same, or nearly, and labeled differently: one label is wrong.

This is evidence that needs no model: where two copies of a photo carry two labels, a person sees
at a glance which of them to mend.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from labelaudit.suspects.nearest import BLOCK_VALUES, Axes, nearest

MAX_PAIRS = 1000
# A pair is nearly the same if it is at most half as far apart as a sample and its nearest neighbor
# usually are,
NEAR_SHARE = 0.5
# and out of the ordinary: so many times as far below the median, in logarithms, as the upper
# quartile is above it. Where samples lie about evenly, one in 400 has a neighbor as near as that, in
# whatever number of dimensions, for the least of many distances follows Weibull's law; where they
# crowd in places, fewer. The upper quartile, for it feels least how many duplicates there are.
NEAR_SPREADS = 8.0
# Neighbors looked at of each sample, and samples that tell how far neighbors usually are.
NUM_NEIGHBORS = 8
NUM_PROBED = 4096

# Near duplicates are looked for among so many samples. Of more, only for the most suspect labels, as
# far as that takes no longer.
SEARCHED = 50_000

COLUMNS = ("sample_id_a", "sample_id_b", "label_a", "label_b", "distance", "kind")


def duplicate_queries(
    most_suspect: np.ndarray, num_samples: int, *, share: float = 1.0
) -> np.ndarray | None:
    """Give the samples whose near duplicates are looked for, None for all.

    Parameters
    ----------
    most_suspect
        ``(L,)`` int64, labeled samples, the most suspect first.
    num_samples
        N.
    share
        Of the time that a search among `SEARCHED` samples takes, in [0, 1].
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
    device: torch.device | None = None,
    max_pairs: int = MAX_PAIRS,
) -> pd.DataFrame:
    """List pairs of labeled samples that are the same, or nearly, and have different labels.

    Of many copies of one sample, those with an uncommon label are listed once each, beside one that
    has the most common label.

    Parameters
    ----------
    embeddings
        ``(N, d)`` floats, maybe memory-mapped; distances are Euclidean.
    noisy_labels
        ``(N,)`` int64, -1 where unlabeled; those samples are left out.
    sample_ids
        ``(N,)`` names.
    class_names
        C names.
    content_hashes
        ``(N,)`` of what identifies the content of a sample, such as the hash of its file. By default
        samples with equal embeddings are the same.
    queries
        ``(M,)`` int64, rows whose near duplicates are looked for; by default all. The search takes
        time in proportion to M N, and memory in proportion to N: for 50,000 times 50,000 samples of
        1,280 features half a minute on two CPU cores.
    device
        Where to search; by default the CPU.
    max_pairs
        At most so many are listed, the nearest ones.

    Returns
    -------
    pd.DataFrame
        Columns ``sample_id_a, sample_id_b, label_a, label_b, distance, kind``; labels are class
        names, kind is "exact" or "near". Exact ones first, then by distance.
    """
    labeled = np.flatnonzero(noisy_labels >= 0)
    copies = _copies(embeddings, content_hashes, labeled)
    exact = _exact_pairs(copies, noisy_labels, labeled)
    # Of copies with one label one is enough to be near to something.
    content_and_label = copies * len(class_names) + noisy_labels[labeled]
    _, first = np.unique(content_and_label, return_index=True)
    reference = labeled[np.sort(first)]
    near = _near_pairs(
        embeddings,
        noisy_labels,
        reference,
        reference if queries is None else np.intersect1d(reference, queries),
        device or torch.device("cpu"),
    )
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
    """Give each content among some rows a number: ``(M,)`` int64, equal where it is the same."""
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
    device: torch.device,
) -> list[tuple[int, int, float]]:
    """Return pairs ``(a, b, distance)``, a < b, with different labels."""
    if len(reference) < 3 or not len(queries):  # no distribution to speak of, or nothing asked
        return []
    # Neighbors are looked for along principal axes, and then measured in full.
    points = Axes.of(embeddings, reference).project(embeddings, reference, device)  # (R, s)
    spread = np.linspace(0, len(reference) - 1, min(NUM_PROBED, len(reference))).astype(np.int64)
    near_limit = _near_limit(
        distance.min(axis=1, where=distance > 0, initial=np.inf)
        for _, _, distance in _neighbors(embeddings, points, reference, spread)
    )
    asked = np.searchsorted(reference, queries)
    pairs: dict[tuple[int, int], float] = {}
    for rows, found, distance in _neighbors(embeddings, points, reference, asked):
        differs = noisy_labels[found] != noisy_labels[rows][:, None]
        for i, j in zip(*np.nonzero(differs & (distance <= near_limit)), strict=True):
            a, b = sorted((int(rows[i]), int(found[i, j])))
            pairs[a, b] = float(distance[i, j])
    return [(a, b, distance) for (a, b), distance in pairs.items()]


def _near_limit(least: Iterable[np.ndarray]) -> float:
    """Return the distance up to which a pair is nearly the same, from nearest neighbors' distances.

    Copies, at no distance, come as infinity and have no say.
    """
    distances = np.concatenate(list(least))
    distances = distances[np.isfinite(distances)]
    if not len(distances):
        return 0.0
    median, upper = np.quantile(distances, [0.5, 0.75])
    return float(median * min(NEAR_SHARE, (median / upper) ** NEAR_SPREADS))


def _neighbors(
    embeddings: np.ndarray, points: Tensor, rows: np.ndarray, asked: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Find the nearest other samples of some.

    Parameters
    ----------
    embeddings
        ``(N, d)``.
    points, rows
        ``(R, s)`` and ``(R,)``: the rows that are searched, along the axes.
    asked
        Which of those R to ask for, ``(M,)``.

    Yields
    ------
    tuple
        Rows ``(B,)``, their neighbors' rows ``(B, k)`` and distances ``(B, k)`` float32.
    """
    num_neighbors = min(NUM_NEIGHBORS, len(rows) - 1)
    most = max(1, BLOCK_VALUES // embeddings.shape[1] // 8)
    for part, near in nearest(points[asked], points, asked, num_neighbors, most=most):
        found = rows[near]  # (B, k)
        here = rows[asked[part]]
        own = torch.from_numpy(np.asarray(embeddings[here], dtype=np.float32))
        distance = np.empty(found.shape, dtype=np.float32)
        for k in range(
            num_neighbors
        ):  # one neighbor at a time: all of them take k times the memory
            other = torch.from_numpy(np.asarray(embeddings[found[:, k]], dtype=np.float32))
            distance[:, k] = (own - other).norm(dim=1).numpy()
        yield here, found, distance
