"""Data sets whose labels are taken as the truth: well-known ones by name, and any source."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.model_selection import train_test_split
from torchvision import datasets as torchvision_datasets

from labelaudit.benchmark.demo import digits
from labelaudit.checksums import add_rows
from labelaudit.errors import OptionError, SourceError
from labelaudit.features.cache import default_cache_dir
from labelaudit.files import suffix_of
from labelaudit.images.decode import decode_source
from labelaudit.images.plan import plan_images
from labelaudit.methods.system import InputKind
from labelaudit.progress import Reporter
from labelaudit.sources.classes import text_array
from labelaudit.sources.feature_files import FEATURE_COLUMNS
from labelaudit.sources.feature_tables import FeatureSource, TableSource
from labelaudit.sources.manifest import UNLABELED, Source
from labelaudit.sources.samples import read_samples
from labelaudit.sources.texts import TextSource
from labelaudit.sources.wording import count, some

# Shares of red, green and blue in gray, ITU-R BT.601.
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
DIGIT_NAMES = tuple("0123456789")
CIFAR10_NAMES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip

# The digits come without a test set. This split is fixed, so that no benchmark seed changes it.
DIGITS_TEST_SIZE, DIGITS_SPLIT_SEED = 297, 0


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples and their true labels, before any noise.

    Attributes
    ----------
    name
        Name of the data set.
    inputs
        Pixels ``(N, C, H, W)`` uint8, or features ``(N, D, 1, 1)`` float32.
    clean_labels
        ``(N,)`` int64, indices into `class_names`.
    class_names
        Names of the classes.
    sample_ids
        ``(N,)`` object of str, unique.
    test_inputs, test_labels
        The test set, ``(M, ...)`` as `inputs` and ``(M,)`` int64. Both are None if there is none.
    noise_name
        Key of `labelaudit.benchmark.corruptions.CLASS_MAPS`, or any other text without a map.
    extra_labels
        Other labels of the same samples by name, ``(N,)`` int64 each, -1 where there is none.
    """

    name: str
    inputs: np.ndarray
    clean_labels: np.ndarray
    class_names: tuple[str, ...]
    sample_ids: np.ndarray
    test_inputs: np.ndarray | None = None
    test_labels: np.ndarray | None = None
    noise_name: str = ""
    extra_labels: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def kind(self) -> InputKind:
        """The kind of the inputs."""
        return "pixels" if self.inputs.dtype == np.uint8 else "features"

    def digest(self) -> str:
        """Return a checksum of samples, labels, classes, ids and test set, without `extra_labels`."""
        found = hashlib.sha256()
        for array in (self.inputs, self.clean_labels, self.test_inputs, self.test_labels):
            if array is None:
                found.update(b"none")
                continue
            found.update(repr((array.dtype.str, array.shape)).encode())
            add_rows(found, array)
        names = "\0".join([*self.class_names, *map(str, self.sample_ids)])
        found.update(names.encode("utf-8", "surrogatepass"))
        return found.hexdigest()[:16]


# --- known by name -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Split:
    """The training or the test split of a data set of torchvision."""

    pixels: np.ndarray  # (N, C, H, W) uint8
    labels: np.ndarray  # (N,)
    class_names: tuple[str, ...]


def _mnist(root: Path, train: bool, download: bool) -> _Split:
    data = torchvision_datasets.MNIST(root, train=train, download=download)
    return _Split(data.data.numpy()[:, None], data.targets.numpy(), DIGIT_NAMES)


def _fashion_mnist(root: Path, train: bool, download: bool) -> _Split:
    data = torchvision_datasets.FashionMNIST(root, train=train, download=download)
    return _Split(data.data.numpy()[:, None], data.targets.numpy(), tuple(data.classes))


def _svhn(root: Path, train: bool, download: bool) -> _Split:
    split = "train" if train else "test"
    data = torchvision_datasets.SVHN(root, split=split, download=download)
    return _Split(np.ascontiguousarray(data.data), data.labels, DIGIT_NAMES)


def _cifar10(root: Path, train: bool, download: bool) -> _Split:
    return _cifar(torchvision_datasets.CIFAR10(root, train=train, download=download))


def _cifar100(root: Path, train: bool, download: bool) -> _Split:
    return _cifar(torchvision_datasets.CIFAR100(root, train=train, download=download))


def _cifar(data: Any) -> _Split:
    pixels = np.ascontiguousarray(data.data.transpose(0, 3, 1, 2))  # from (N, H, W, 3)
    return _Split(pixels, np.asarray(data.targets), tuple(data.classes))


@dataclass(frozen=True)
class _Known:
    """The reader of a data set of torchvision, and the place of its files below the root folder."""

    read: Callable[[Path, bool, bool], _Split]
    folder: str
    noise_name: str


_KNOWN = {
    "mnist": _Known(_mnist, "MNIST/raw", "mnist"),
    "fashion-mnist": _Known(_fashion_mnist, "FashionMNIST/raw", "fashion-mnist"),
    "svhn": _Known(_svhn, "", "mnist"),
    "cifar10": _Known(_cifar10, "cifar-10-batches-py", "cifar10"),
    "cifar100": _Known(_cifar100, "cifar-100-python", "cifar100"),
}
DATASET_NAMES = ("digits", *_KNOWN)


def load_dataset(name: str, data_dir: str | Path | None = None, download: bool = False) -> Dataset:
    """Load a data set by name. Files that exist are used without a network connection.

    Parameters
    ----------
    name
        One of `DATASET_NAMES`. "digits" comes with scikit-learn. 297 of its 1,797 images are the
        test set, independent of any seed.
    data_dir
        torchvision's root folder, which contains ``MNIST/raw`` and similar folders; by default
        `labelaudit.features.cache.default_cache_dir`.
    download
        Download files that do not exist.

    Raises
    ------
    OptionError
        If the name is unknown, or if the files do not exist and cannot be downloaded.
    """
    if name == "digits":
        return _load_digits()
    if name not in _KNOWN:
        raise OptionError(f"unknown data set {name!r}: choose one of {', '.join(DATASET_NAMES)}")
    known = _KNOWN[name]
    root = default_cache_dir() if data_dir is None else Path(data_dir)
    place = (root / known.folder).absolute()
    try:
        train = known.read(root, True, download)
        test = known.read(root, False, download)
    # torchvision raises RuntimeError for files that are missing or whose checksum is wrong. MNIST's
    # files have no checksum, so that damaged ones raise other errors. URLError is an OSError.
    except (RuntimeError, OSError, ValueError, TypeError, AssertionError) as error:
        if download:
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise OptionError(f"{name} could not be downloaded into {place}: {reason}") from error
        raise OptionError(
            f"the files of {name} are missing or damaged in {place}; pass `download=True` to download"
            " them, or `data_dir` with the folder that contains them"
        ) from error
    return Dataset(
        name=name,
        inputs=train.pixels,
        clean_labels=train.labels.astype(np.int64),
        class_names=train.class_names,
        sample_ids=_numbered(len(train.labels)),
        test_inputs=test.pixels,
        test_labels=test.labels.astype(np.int64),
        noise_name=known.noise_name,
    )


def _load_digits() -> Dataset:
    images, labels = digits()
    pixels = images[:, None]
    train, test = train_test_split(
        np.arange(len(labels)),
        test_size=DIGITS_TEST_SIZE,
        stratify=labels,
        random_state=DIGITS_SPLIT_SEED,
    )
    train, test = np.sort(train), np.sort(test)
    return Dataset(
        name="digits",
        inputs=pixels[train],
        clean_labels=labels[train],
        class_names=DIGIT_NAMES,
        sample_ids=text_array([str(row) for row in train]),
        test_inputs=pixels[test],
        test_labels=labels[test],
        noise_name="mnist",
    )


def _numbered(total: int) -> np.ndarray:
    return text_array([str(row) for row in range(total)])


# --- any source --------------------------------------------------------------------------------


Samples = str | Path | np.ndarray | Source | FeatureSource


def dataset_from_source(
    source: Samples,
    test: Samples | None = None,
    *,
    labels: str | Path | np.ndarray | Sequence[Any] | None = None,
    features: str | Path | np.ndarray | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    split: str | None = None,
    test_split: str | None = None,
    extra_columns: Sequence[str] = (),
    size: tuple[int, int] | None = None,
    reporter: Reporter | None = None,
) -> Dataset:
    """Read samples whose labels are taken as correct, and a test set if there is one.

    Unlabeled samples and unreadable images are left out, with a warning.

    Parameters
    ----------
    source
        Anything that `labelaudit.scan` reads: images, features ``(N, D)``, or the path of either. A
        parquet table that has features and no images is read as features.
    test
        The test set, of the same kind. All of its classes must be classes of `source`.
    labels
        The labels of `source`: an array for arrays, the path of a table for images on disk.
    features
        Features of the samples, as in `labelaudit.scan`.
    image_column, label_column
        Columns of both tables, see `labelaudit.read_source`.
    split
        Which split of `source` to read; by default "train" where `test_split` is given.
    test_split
        Split of `test` that is the test set, or of `source` if `test` is None.
    extra_columns
        Columns of the source's table with other labels: class names or class numbers.
    size
        (height, width) in pixels at which images are decoded; by default the median.
    reporter
        Shows progress and warnings.

    Raises
    ------
    SourceError, OptionError
        If a source cannot be read, or if the two do not fit together.
    """
    reporter = reporter or Reporter()
    if test_split is not None and test is None:
        split = split or "train"

    def read(where: Samples, which: str | None, column: str | None) -> Source | FeatureSource:
        found = read_samples(
            where,
            labels if where is source else None,
            features=_feature_column(where) if features is None else features,
            image_column=image_column,
            label_column=column,
            split=which,
        )
        assert not isinstance(found, TableSource)  # only where predictions come along
        if isinstance(found, TextSource):
            raise OptionError("texts are evaluated on features; write them with `labelaudit embed`")
        return found

    train = read(source, split, label_column)
    inputs, rows = _labeled_inputs(train, size, reporter)
    manifest = source_of(train).manifest
    class_names = manifest.class_names
    extra = {}
    for column in extra_columns:
        other = source_of(read(source, split, column)).manifest
        if other.sample_ids.tolist() != manifest.sample_ids.tolist():
            raise SourceError(
                f'{manifest.name}: the column "{column}" and the labels are not about the same samples;'
                " leave the column out"
            )
        texts = np.array([*other.class_names, ""], dtype=object)[other.noisy_labels]
        where = f'{manifest.name}, column "{column}"'
        extra[column] = _class_numbers(texts, class_names, where)[rows]
    test_inputs = test_labels = None
    if test is not None or test_split is not None:
        held_out = read(source if test is None else test, test_split, label_column)
        height, width = inputs.shape[2:]
        test_inputs, test_rows = _labeled_inputs(held_out, (height, width), reporter)
        held_out_manifest = source_of(held_out).manifest
        names = np.asarray(held_out_manifest.class_names, dtype=object)
        given = names[held_out_manifest.noisy_labels[test_rows]]
        test_labels = _class_numbers(given, class_names, f"the test set {held_out_manifest.name}")
        inputs, test_inputs = _same_channels(inputs, test_inputs)
    return Dataset(
        name=manifest.name,
        inputs=inputs,
        clean_labels=manifest.noisy_labels[rows],
        class_names=class_names,
        sample_ids=manifest.sample_ids[rows],
        test_inputs=test_inputs,
        test_labels=test_labels,
        noise_name=_noise_name(class_names),
        extra_labels=extra,
    )


def source_of(found: Source | FeatureSource) -> Source:
    """Return the samples and labels, without features that came with them."""
    return found.source if isinstance(found, FeatureSource) else found


def _feature_column(where: Samples) -> str | None:
    """Return the column of features in a parquet table that holds no images, or None."""
    if not isinstance(where, str | Path) or suffix_of(str(where)) != "parquet":
        return None
    try:
        names = pq.read_schema(where).names
    except (OSError, pa.ArrowInvalid):
        return None  # the reader of tables says what is wrong with it
    known = {name.strip().lower(): name for name in names}
    if "image" in known:
        return None
    return next((known[name] for name in FEATURE_COLUMNS if name in known), None)


def _labeled_inputs(
    found: Source | FeatureSource, size: tuple[int, int] | None, reporter: Reporter
) -> tuple[np.ndarray, np.ndarray]:
    """Return the inputs of the labeled samples, and their rows in the manifest."""
    source = source_of(found)
    manifest = source.manifest
    for warning in source.warnings:
        reporter.warn(warning)
    rows = np.flatnonzero(manifest.labeled)
    if unlabeled := manifest.num_samples - len(rows):
        reporter.warn(
            f"{manifest.name}: {unlabeled:,} of {manifest.num_samples:,} samples have no label and"
            " are left out, because a benchmark needs the truth"
        )
    if isinstance(found, FeatureSource):
        values = found.features[rows] if unlabeled else found.features
        return np.asarray(values)[:, :, None, None], rows
    images = manifest.images.subset(rows)
    with reporter.bar("reading images", total=len(rows)) as bar:
        decoded = decode_source(images, plan_images(images), size, on_progress=bar.reach)
    if not decoded.unreadable:
        return decoded.pixels, rows
    broken = list(decoded.unreadable)
    names = some([str(name) for name in manifest.sample_ids[rows[broken]]])
    reporter.warn(f"{count(broken, 'image', 'images')} could not be read and left out: {names}")
    return np.delete(decoded.pixels, broken, axis=0), np.delete(rows, broken)


def _class_numbers(texts: Iterable[str], class_names: tuple[str, ...], where: str) -> np.ndarray:
    """Return the class number of each text, -1 where it is empty.

    The texts are class names. If they are not, they are read as class numbers, unless a class is
    named by a number.
    """
    listed = list(texts)
    numbers = {name: number for number, name in enumerate(class_names)}
    unknown = sorted(set(listed) - {"", *numbers})
    if unknown and not any(name.isdecimal() for name in class_names):
        numbers = {str(number): number for number in range(len(class_names))}
        if set(listed) <= {"", *numbers}:
            unknown = []
    if unknown:
        raise SourceError(f"{where} has labels that are no class of the source: {some(unknown)}")
    numbers[""] = UNLABELED
    return np.array([numbers[text] for text in listed], dtype=np.int64)


def _same_channels(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both with the channels of the first; refuse features of another size.

    A system that has seen gray images only cannot use the color of others.
    """
    if one.shape[1] == other.shape[1]:
        return one, other
    if one.dtype != np.uint8 or other.dtype != np.uint8:
        raise SourceError(
            f"the data set has {one.shape[1]:,} features per sample and the test set"
            f" {other.shape[1]:,}; give both from the same encoder"
        )
    if one.shape[1] == 1:
        gray = other.astype(np.float32).transpose(0, 2, 3, 1) @ LUMA
        return one, np.rint(gray).astype(np.uint8)[:, None]
    return one, np.repeat(other, 3, axis=1)


def _noise_name(class_names: tuple[str, ...]) -> str:
    """Recognize CIFAR-10 and the ten digits by their class names; return "" for others."""
    return {CIFAR10_NAMES: "cifar10", DIGIT_NAMES: "mnist"}.get(class_names, "")
