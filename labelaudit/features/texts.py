"""Features of texts from a sentence encoder, cached on disk by the content of each text."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from labelaudit.features.cache import (
    HASH_BYTES,
    FeatureStore,
    Floats,
    Hashes,
    default_cache_dir,
)
from labelaudit.features.text_encoders import TextEncoder
from labelaudit.images.store import make_store
from labelaudit.progress import Reporter

# Texts are sorted by length within so many, so that a batch is padded little. They are not sorted as a
# whole, because the progress would then not show how much time is left.
WINDOW = 2048
# Characters of a batch, which bound its memory, and the most texts. Small batches suit a CPU, because
# they fit its cache.
CPU_BATCH_CHARACTERS = 1 << 12
DEVICE_BATCH_CHARACTERS = 1 << 18
LARGEST_BATCH = 256


@dataclass(frozen=True, eq=False)
class TextFeatures:
    """The features of all texts of a source.

    Attributes
    ----------
    features : array (N, d) float32
        In the order of the texts.
    content_hashes : array (N,) of 16 bytes each
        Equal for equal texts.
    num_computed : int
        Number of different texts whose features were computed; the others were in the cache.
    num_truncated : int
        Number of those that are longer than what the model reads.
    damaged : tuple of Path
        Files of the cache that have changed since they were written. They were deleted.
    """

    features: Floats
    content_hashes: Hashes
    num_computed: int
    num_truncated: int
    damaged: tuple[Path, ...] = ()


def extract_text_features(
    texts: Sequence[str],
    encoder: TextEncoder,
    *,
    cache_dir: str | Path | None = None,
    allocate: Callable[[tuple[int, int]], Floats] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> TextFeatures:
    """Return the features of each text, and compute only those that are not in the cache.

    After an interruption, the next call continues at the same point.

    Parameters
    ----------
    texts : sequence of str
        N texts. Equal texts are computed once.
    encoder : TextEncoder
        Gives d features per text.
    cache_dir : str or Path, optional
        Folder of the cache; by default `default_cache_dir`.
    allocate : callable, optional
        Makes the array (N, d) float32 of zeros for the result.
    on_progress : callable, optional
        Called with the number of texts done after each batch.

    Raises
    ------
    OptionError
        The encoder gives features that are not finite.
    OutputError
        The cache cannot be written.
    """
    root = default_cache_dir() if cache_dir is None else Path(cache_dir)
    store = FeatureStore(root / "features", encoder.identity, encoder.feature_size)
    keys = np.zeros(len(texts), f"V{HASH_BYTES}")
    new: dict[bytes, int] = {}  # the first row of each text that is computed
    truncated = 0
    with store:
        for row, text in enumerate(texts):
            key = text_key(text)
            keys[row] = key
            if key not in new and not store.holds(key):
                new[key] = row
        done = len(texts) - len(new)
        for rows in _batches(list(new.values()), texts, encoder):
            if on_progress is not None:
                on_progress(done)
            batch = [texts[row] for row in rows]
            store.add([bytes(keys[row]) for row in rows], encoder(batch))
            truncated += encoder.truncated(batch)
            done += len(rows)
    if on_progress is not None:
        on_progress(len(texts))
    shape = (len(texts), encoder.feature_size)
    features = make_store(shape, np.float32) if allocate is None else allocate(shape)
    store.fetch(keys, np.arange(len(texts)), features)
    return TextFeatures(features, keys, len(new), truncated, tuple(store.damaged))


def text_key(text: str) -> bytes:
    """Return 16 bytes that identify a text by its characters."""
    return hashlib.blake2b(b"text " + text.encode(), digest_size=HASH_BYTES).digest()


def encode_texts(
    texts: Sequence[str],
    encoder: TextEncoder,
    reporter: Reporter,
    cache_dir: str | Path | None = None,
    allocate: Callable[[tuple[int, int]], Floats] | None = None,
) -> TextFeatures:
    """Extract the features of texts and report progress; see `extract_text_features`."""
    limit = "all" if encoder.max_tokens is None else f"the first {encoder.max_tokens:,}"
    reporter.say(
        f"Encoder {encoder.name} on {encoder.device.type}, reading {limit} tokens:"
        f" {encoder.feature_size:,} features for each of {len(texts):,} texts."
    )
    with reporter.bar("extracting features", total=len(texts)) as bar:
        found = extract_text_features(
            texts, encoder, cache_dir=cache_dir, allocate=allocate, on_progress=bar.reach
        )
    for path in found.damaged:
        reporter.warn(
            f"the file {path} of the cache of features is damaged. It was deleted, and its features"
            " were computed again"
        )
    if found.num_truncated:
        reporter.warn(
            f"{found.num_truncated:,} of {found.num_computed:,} texts are longer than the"
            f" {encoder.max_tokens:,} tokens that the encoder reads; the rest of them does not count"
        )
    known = len(set(found.content_hashes.tolist())) - found.num_computed
    if known:
        reporter.say(f"{known:,} of the texts are in the cache; their features are reused.")
    return found


def _batches(
    rows: Sequence[int], texts: Sequence[str], encoder: TextEncoder
) -> Iterator[list[int]]:
    """Yield the rows of each batch: texts of about the same length, the longest of a window first."""
    on_cpu = encoder.device.type == "cpu"
    budget = CPU_BATCH_CHARACTERS if on_cpu else DEVICE_BATCH_CHARACTERS

    def length(row: int) -> int:
        return len(encoder.shortened(texts[row]))

    for start in range(0, len(rows), WINDOW):
        window = sorted(rows[start : start + WINDOW], key=length, reverse=True)
        while window:
            # A token has four characters or so. What the encoder does not read needs no memory.
            read = length(window[0])
            if encoder.max_tokens is not None:
                read = min(read, 4 * encoder.max_tokens)
            size = max(1, min(LARGEST_BATCH, budget // max(read, 1)))
            yield window[:size]
            window = window[size:]
