"""embed(): turn a source of images or texts into a table of features."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from labelaudit.errors import OptionError, OutputError
from labelaudit.features.backbones import Backbone, open_backbone
from labelaudit.features.cache import Floats
from labelaudit.features.extraction import ExtractedFeatures, extract_features
from labelaudit.features.photo_networks import choose_photo_network
from labelaudit.features.text_encoders import (
    TextEncoder,
    is_text_encoder,
    open_text_encoder,
    refuse_image_options,
)
from labelaudit.features.texts import encode_texts
from labelaudit.files import atomic_write, check_room, is_utf8, remove_partial_files
from labelaudit.images.gray_range import describe_ranges
from labelaudit.images.store import make_store
from labelaudit.progress import Reporter
from labelaudit.sources.feature_files import BY_ROW
from labelaudit.sources.folders import read_source
from labelaudit.sources.manifest import Source, Texts
from labelaudit.sources.texts import TextSource, are_texts, read_texts, texts_of_list
from labelaudit.training.device import choose_device

ROW_GROUP = 4096
COLUMNS = ["sample_id", "features"]


def embed(
    source: str | Path | Source,
    labels: str | Path | None = None,
    *,
    encoder: str = "auto",
    weights: str | Path | None = None,
    offline: bool = False,
    image_size: int | None = None,
    out: str | Path | None = None,
    image_column: str | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    id_column: str | None = None,
    split: str | None = None,
    device: str = "auto",
    cache_dir: str | Path | None = None,
    reporter: Reporter | None = None,
) -> pd.DataFrame | Path:
    """Compute features of images, or of texts, with a pretrained network.

    Parameters
    ----------
    source, labels, image_column, label_column, split
        What `labelaudit.read_source` reads, or a `Source`. A folder that has only images needs no
        labels, and neither do texts.
    text_column, id_column
        The column of texts, and that of their ids, if the samples are texts; `source` is then what
        `labelaudit.scan` takes with `text_column`, or a list of texts without it.
    encoder
        For images a network of torchvision, "resnet50", or of timm, "timm:NAME". "auto" takes one
        whose weights are on this machine, or else downloads one. For texts "sentence-transformers:" and
        the name of a model or a folder, or "auto" for all-MiniLM-L6-v2.
    weights
        "DEFAULT" for the network's own weights, which are downloaded if they are missing; a file with
        a state dict; or None for its own weights if they are on this machine.
    offline
        Whether downloads are forbidden.
    image_size
        Side of the square that the network reads, in pixels. The default is the size for which its
        weights were made.
    out
        A parquet file to write. A file that an earlier `embed` wrote is replaced, any other file is
        refused. None returns the table.
    device
        "auto", "cpu", "cuda", "cuda:1" or "mps".
    cache_dir
        Folder that caches features for the next call. The default is the folder in the environment
        variable LABELAUDIT_CACHE, or the user's cache folder.
    reporter
        Shows progress; silent by default.

    Returns
    -------
    DataFrame or Path
        Columns ``sample_id`` and ``features``, ``(d,)`` float32 each, in the order of the source.
        Images that cannot be read are left out. If `out` is given, the path of the file with the same
        columns, which `labelaudit.scan(..., features=FILE)` reads.

    Raises
    ------
    SourceError, OptionError, OutputError
        If the images, an option or the output cannot be used.
    """
    reporter = reporter or Reporter()
    path = None if out is None else _writable(Path(out))
    chosen = choose_device(device)
    if text_column is not None or are_texts(source):
        refuse_image_options(weights=weights, image_size=image_size, image_column=image_column)
        how: dict[str, Any] = {"label_column": label_column, "id_column": id_column, "split": split}
        if text_column is None:
            texts = texts_of_list(source, None, require_labels=False)
        else:
            texts = read_texts(source, text_column, labels, **how, require_labels=False)
        text_encoder = open_text_encoder(encoder, chosen, reporter, offline=offline)
        return _embed_texts(texts, text_encoder, path, cache_dir, reporter)
    if id_column is not None:
        raise OptionError(
            "`id_column` names the column of ids of texts, but the ids of images are their paths; leave"
            " it out, or name the column of texts with `text_column`"
        )
    if is_text_encoder(encoder):
        raise OptionError(f"`encoder` {encoder} reads texts; name their column with `text_column`")
    if not isinstance(source, Source):
        source = read_source(
            source,
            labels,
            image_column=image_column,
            label_column=label_column,
            split=split,
            require_labels=False,
        )
    for warning in source.warnings:
        reporter.warn(warning)
    if encoder == "auto":
        encoder, weights = _choose(weights, offline)
    backbone = open_backbone(
        encoder, weights, chosen, image_size, offline=offline, reporter=reporter
    )
    beside = _with_room(path, source.manifest.num_samples * backbone.feature_size)
    allocate = partial(make_store, dtype=np.float32, scratch=beside)
    found = extract(source, backbone, reporter, cache_dir, allocate)
    manifest = source.manifest
    if found.unreadable:
        source = source.without_unreadable(found.unreadable)
        reporter.warn(source.warnings[-1])
    kept = np.setdiff1d(np.arange(manifest.num_samples), list(found.unreadable))
    return _returned(path, manifest.sample_ids, found.features, kept, backbone.settings())


def _embed_texts(
    found: TextSource,
    encoder: TextEncoder,
    path: Path | None,
    cache_dir: str | Path | None,
    reporter: Reporter,
) -> pd.DataFrame | Path:
    for warning in found.source.warnings:
        reporter.warn(warning)
    beside = _with_room(path, len(found.texts) * encoder.feature_size)
    made = encode_texts(
        found.texts.tolist(),
        encoder,
        reporter,
        cache_dir,
        partial(make_store, dtype=np.float32, scratch=beside),
    )
    every = np.arange(len(found.texts))
    about = encoder.settings() | {BY_ROW: found.by_row}
    return _returned(path, found.source.manifest.sample_ids, made.features, every, about)


def _with_room(path: Path | None, num_values: int) -> Path | None:
    """Return the folder of a file, if there is one; raise if it has no room for so many values."""
    if path is None:
        return None
    beside = path.absolute().parent
    check_room(beside, num_values * np.dtype(np.float32).itemsize)
    return beside


def _choose(weights: str | Path | None, offline: bool) -> tuple[str, str | None]:
    """Return the name and the weights of the network that `embed` takes by itself."""
    if weights is not None:
        raise OptionError(
            "`weights` are for a pretrained network, but `encoder` is auto; name the pretrained"
            " network with `encoder`"
        )
    network = choose_photo_network(
        offline,
        "images are read by a pretrained network",
        "name a file with `encoder` and `weights`",
    )
    return network.name, network.weights


def extract(
    source: Source,
    backbone: Backbone,
    reporter: Reporter,
    cache_dir: str | Path | None = None,
    allocate: Callable[[tuple[int, int]], Floats] | None = None,
) -> ExtractedFeatures:
    """Extract the features of a source's images and report progress; see `extract_features`."""
    images = source.manifest.images
    size = backbone.image_size
    reporter.say(
        f"Encoder {backbone.name} on {backbone.device.type}, weights {backbone.weights}, reading"
        f" {size}x{size} color: {backbone.feature_size:,} features for each of {len(images):,}"
        " images."
    )
    with reporter.bar("extracting features", total=len(images)) as bar:
        found = extract_features(
            images,
            backbone,
            cache_dir=cache_dir,
            allocate=allocate or partial(make_store, dtype=np.float32),
            on_progress=bar.reach,
        )
    for line in describe_ranges(found.gray_ranges):
        reporter.say(line)
    for path in found.damaged:
        reporter.warn(
            f"the file {path} of the cache of features is damaged, or an earlier version wrote it"
            " without a checksum. It was deleted, and its features were computed again"
        )
    if found.halved_to is not None:
        reporter.warn(
            "the GPU did not have enough memory for this batch size. Features were computed in batches"
            f" of {found.halved_to} images"
        )
    known = len(images) - len(found.unreadable) - found.num_computed
    if known:
        reporter.say(f"{known:,} of the images are in the cache; their features are reused.")
    return found


def _writable(path: Path) -> Path:
    """Return the path, or raise OutputError if it cannot be written, before the long computation."""
    if path.suffix.lower() != ".parquet":
        raise OutputError(f"cannot write {path}: features are written as parquet; name it .parquet")
    if not is_utf8(path):
        raise OutputError(f"cannot write {path}: its name is not UTF-8; choose another output file")
    folder = path.absolute().parent
    try:
        if path.is_dir() or not folder.is_dir():
            reason = "it is a folder" if path.is_dir() else "its folder does not exist"
            raise OutputError(f"cannot write {path}: {reason}; choose another output file")
        if path.exists() and not _holds_features(path):
            raise OutputError(
                f"{path} exists, and `labelaudit embed` did not write it; choose another output file"
            )
        remove_partial_files(folder)
        # Permissions alone do not show that a file system is read-only, so this tries to write.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror}; choose another output file"
        ) from error
    return path


def _holds_features(path: Path) -> bool:
    """Return whether a file is one that `embed` wrote."""
    try:
        schema = pq.read_schema(path)
    except (OSError, ValueError):
        return False
    return schema.names == COLUMNS and b"labelaudit" in (schema.metadata or {})


def _returned(
    path: Path | None,
    sample_ids: Texts,
    values: Floats,
    kept: np.ndarray,
    settings: dict[str, Any],
) -> pd.DataFrame | Path:
    """Return the features of some rows as a table, or write them and return the path."""
    if path is None:
        return pd.DataFrame({"sample_id": sample_ids[kept], "features": list(values[kept])})
    _write(path, sample_ids, values, kept, settings)
    return path


def _write(
    path: Path, sample_ids: Texts, values: Floats, kept: np.ndarray, encoder: dict[str, Any]
) -> None:
    kind = pa.list_(pa.float32(), values.shape[1])
    settings = json.dumps({"encoder": encoder})
    schema = pa.schema(
        zip(COLUMNS, (pa.string(), kind), strict=True), metadata={"labelaudit": settings}
    )
    with (
        atomic_write(path) as temporary,
        temporary.open("wb") as stream,  # Arrow takes only names in UTF-8
        pq.ParquetWriter(stream, schema) as writer,
    ):
        for start in range(0, len(kept), ROW_GROUP):
            rows = kept[start : start + ROW_GROUP]
            flat = pa.array(values[rows].reshape(-1))
            columns = [
                pa.array(sample_ids[rows].tolist(), pa.string()),
                pa.FixedSizeListArray.from_arrays(flat, type=kind),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
