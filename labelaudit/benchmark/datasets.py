"""Data sets whose labels are taken as the truth: those known by name, and any source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split
from torchvision import datasets as torchvision_datasets

from labelaudit.benchmark.demo import digits
from labelaudit.errors import OptionError, SourceError
from labelaudit.images.decode import decode_source, plan_images
from labelaudit.methods.system import InputKind
from labelaudit.progress import Reporter
from labelaudit.sources.folders import read_source, source_name
from labelaudit.sources.manifest import UNLABELED, Source, count, some, text_array

DIGIT_NAMES = tuple("0123456789")
CIFAR10_NAMES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip

# The digits have no test set of their own. One split for all: no seed of a benchmark moves it.
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
        """What the inputs are."""
        return "pixels" if self.inputs.dtype == np.uint8 else "features"


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
    """How a data set of torchvision is read, and where its files lie below the root."""

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


def default_data_dir() -> Path:
    """Give the folder where data sets are looked for unless another is named."""
    return Path.home() / ".cache" / "labelaudit"


def load_dataset(name: str, data_dir: str | Path | None = None, download: bool = False) -> Dataset:
    """Load a data set by name; files that are there already are used without a network.

    Parameters
    ----------
    name
        One of `DATASET_NAMES`. "digits" comes with scikit-learn; 297 of its 1,797 images, the same
        whatever the seed, are the test set.
    data_dir
        torchvision's root folder, which holds ``MNIST/raw`` and the like; by default
        `default_data_dir`.
    download
        Fetch what is not there.

    Raises
    ------
    OptionError
        If the name is unknown, or the files are not there and cannot be fetched.
    """
    if name == "digits":
        return _load_digits()
    if name not in _KNOWN:
        raise OptionError(f"unknown data set {name!r}: choose one of {', '.join(DATASET_NAMES)}")
    known = _KNOWN[name]
    root = default_data_dir() if data_dir is None else Path(data_dir)
    place = (root / known.folder).absolute()
    try:
        train = known.read(root, True, download)
        test = known.read(root, False, download)
    # torchvision raises RuntimeError for files that are missing or have not their known checksum.
    # MNIST's have none: damaged, they fail in ways of their own. URLError is an OSError.
    except (RuntimeError, OSError, ValueError, TypeError, AssertionError) as error:
        if download:
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise OptionError(f"{name} could not be fetched into {place}: {reason}") from error
        raise OptionError(
            f"{name} was looked for in {place}, and its files are not there, or damaged; pass"
            " --download to fetch them, or --data-dir with the folder that has them"
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


def dataset_from_source(
    source: str | Path,
    test: str | Path | None = None,
    *,
    labels: str | Path | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    split: str | None = None,
    test_split: str | None = None,
    extra_columns: Sequence[str] = (),
    size: tuple[int, int] | None = None,
    reporter: Reporter | None = None,
) -> Dataset:
    """Decode a source whose labels are right, and perhaps another as the test set.

    Unlabeled and unreadable images are left out, with a warning.

    Parameters
    ----------
    source
        Whatever `labelaudit.sources.folders.read_source` reads.
    test
        Another source, the test set; it may have no class that `source` has not.
    labels, image_column, label_column
        How to read both, see `read_source`; the table `labels` goes with `source` alone.
    split
        Which split of `source` to read; by default "train" where a `test_split` is named.
    test_split
        Split of `test`, or of `source` if there is no `test`, that is the test set.
    extra_columns
        Columns of the source's table with other labels: names of classes, or their numbers.
    size
        (height, width) to decode to, in pixels; by default the median.
    reporter
        Told of progress and warnings.

    Raises
    ------
    SourceError
        If a source cannot be read, or the classes do not fit together.
    """
    reporter = reporter or Reporter()
    if test_split is not None and test is None:
        split = split or "train"

    def read(extra: str | None = None) -> Source:
        return read_source(
            source,
            labels,
            image_column=image_column,
            label_column=label_column,
            split=split,
            clean_label_column=extra,
        )

    train = read()
    class_names = train.manifest.class_names
    extra = {}
    for column in extra_columns:
        texts = read(column).clean_labels
        assert texts is not None
        extra[column] = _class_numbers(texts, class_names, f'{source}, column "{column}"')
    pixels, rows = _decode(train, size, reporter)
    test_inputs = test_labels = None
    if test is not None or test_split is not None:
        held_out = read_source(
            source if test is None else test,
            labels if test is None else None,
            image_column=image_column,
            label_column=label_column,
            split=test_split,
        )
        height, width = pixels.shape[2:]
        test_inputs, test_rows = _decode(held_out, (height, width), reporter)
        names = np.asarray(held_out.manifest.class_names, dtype=object)
        given = names[held_out.manifest.noisy_labels[test_rows]]
        test_labels = _class_numbers(given, class_names, f"the test set {test or source}")
        pixels, test_inputs = _same_channels(pixels, test_inputs)
    return Dataset(
        name=source_name(source),
        inputs=pixels,
        clean_labels=train.manifest.noisy_labels[rows],
        class_names=class_names,
        sample_ids=train.manifest.sample_ids[rows],
        test_inputs=test_inputs,
        test_labels=test_labels,
        noise_name=_noise_name(class_names),
        extra_labels={column: numbers[rows] for column, numbers in extra.items()},
    )


def _decode(
    source: Source, size: tuple[int, int] | None, reporter: Reporter
) -> tuple[np.ndarray, np.ndarray]:
    """Decode the labeled images; give their pixels, and their rows in the source's manifest."""
    manifest = source.manifest
    for warning in source.warnings:
        reporter.warn(warning)
    rows = np.flatnonzero(manifest.labeled)
    if unlabeled := manifest.num_samples - len(rows):
        reporter.warn(
            f"{manifest.name}: {unlabeled:,} of {manifest.num_samples:,} images have no label and"
            " are left out; a benchmark needs the truth"
        )
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
    """Give the class number of each text, -1 where it is empty.

    Texts are names; where they are not, and no class is named by a number, they are class numbers.
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
    """Give both ``(N, C, H, W)`` with three channels if either has color."""
    if one.shape[1] == other.shape[1]:
        return one, other
    first, second = (np.repeat(p, 3, axis=1) if p.shape[1] == 1 else p for p in (one, other))
    return first, second


def _noise_name(class_names: tuple[str, ...]) -> str:
    """Tell CIFAR-10 and the ten digits by the names of their classes; "" for others."""
    return {CIFAR10_NAMES: "cifar10", DIGIT_NAMES: "mnist"}.get(class_names, "")
